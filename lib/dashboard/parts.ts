/** Small pieces that several sections show. */
import type { Line } from '../sync/runs/report.ts';
import type { Outcome, Totals } from './answers.ts';
import { h, s } from './dom.ts';
import { distance, moment } from './format.ts';
import { kindOf, kinds } from './standing.ts';

/** Relative for people, exact on hovering and for machines. */
export function when(iso: string | number, now: number): HTMLElement {
  const time = typeof iso === 'number' ? iso : Date.parse(iso);
  if (Number.isNaN(time)) return h('span', {}, 'unknown');
  return h('time', { datetime: new Date(time).toISOString(), title: moment(time) }, distance(time, now));
}

export function outcomePill(line: Line): HTMLElement {
  return h('span', { class: `pill ${kindOf(line)}` }, line.outcome);
}

/** Isolated, so that a name cannot turn the text around it. */
export function name(text: string): HTMLElement {
  return h('bdi', { class: 'name' }, text);
}

/** `sha256:0123456789ab`, in full on hovering. */
export function shortDigest(digest: string | undefined): HTMLElement | undefined {
  if (digest === undefined) return undefined;
  return h('code', { title: digest }, digest.slice(0, digest.indexOf(':') + 13));
}

export function button(
  action: string,
  text: string,
  more: Readonly<Record<string, string>> = {},
): HTMLElement {
  return h('button', { type: 'button', 'data-do': action, ...more }, text);
}

/** How a run's lines divide, as one bar. */
export function shares(totals: Totals): SVGElement {
  const sums = { good: 0, waiting: 0, bad: 0, aside: 0 };
  for (const [outcome, kind] of Object.entries(kinds)) {
    sums[kind] += totals[outcome as Outcome] ?? 0;
  }
  let x = 0;
  const pieces = Object.entries(sums).map(([kind, value]) => {
    const width = totals.tags === 0 ? 0 : (100 * value) / totals.tags;
    x += width;
    return s('rect', { class: kind, x: x - width, width, height: 6 });
  });
  const frame = { class: 'shares', viewBox: '0 0 100 6', preserveAspectRatio: 'none', 'aria-hidden': 'true' };
  return s('svg', frame, ...pieces);
}
