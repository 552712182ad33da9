/** What is going on now: open runs, and blobs on their way. */
import type { Copying, RunReport } from './answers.ts';
import { type Child, h } from './dom.ts';
import { bytes, duration, second, several } from './format.ts';
import { button, name, shares, shortDigest, when } from './parts.ts';
import type { Speeds } from './speeds.ts';

export interface Work {
  readonly openRuns: readonly string[];
  /** Of the open runs, as far as they are read. */
  readonly reports: ReadonlyMap<string, RunReport>;
  readonly copying: readonly Copying[];
  readonly speeds: Speeds;
  readonly now: number;
}

export function work({ openRuns, reports, copying, speeds, now }: Work): Child[] {
  return [
    h('h2', { id: 'work-title' }, 'Going on now'),
    h('ul', { class: 'open' }, ...openRuns.map((id) => openRun(id, reports.get(id), now))),
    copying.length === 0
      ? undefined
      : h(
          'ul',
          { class: 'copying', 'aria-label': 'Blobs on their way' },
          ...copying.map((one) => blob(one, speeds)),
        ),
  ];
}

function openRun(id: string, report: RunReport | undefined, now: number): HTMLElement {
  return h(
    'li',
    { 'data-key': id },
    h(
      'div',
      { class: 'row' },
      runLink(id),
      button('cancel', 'Cancel', { 'data-run': id, 'aria-label': `Cancel ${id}` }),
    ),
    report === undefined ? undefined : shares(report.totals),
    report === undefined ? undefined : h('p', {}, ...progressOf(report, now)),
  );
}

function progressOf({ run, totals }: RunReport, now: number): Child[] {
  const parts = [
    several(totals.tags, 'tag'),
    `${bytes(totals.bytesCopied)} copied`,
    several(totals.pulls, 'pull'),
  ];
  return [`${run.trigger}, began `, when(run.startedAt, now), ` · ${parts.join(' · ')}`];
}

export function runLink(id: string): HTMLElement {
  return h('a', { href: `#run=${encodeURIComponent(id)}`, class: 'name' }, id);
}

function blob({ target, digest, size, offset }: Copying, speeds: Speeds): HTMLElement {
  const speed = speeds.of(target, digest);
  const pace =
    speed === undefined || speed === 0
      ? ''
      : ` · ${bytes(speed)}/s · ${duration(((size - offset) / speed) * second)} left`;
  return h(
    'li',
    { 'data-key': `${target}@${digest}` },
    h('p', { class: 'row' }, name(target), shortDigest(digest)),
    h('progress', { max: size, value: offset, 'aria-label': `${target} ${digest.slice(0, 19)}` }),
    h('p', { class: 'note' }, `${bytes(offset)} of ${bytes(size)}${pace}`),
  );
}
