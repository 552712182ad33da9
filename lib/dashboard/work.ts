/** What is going on now: open runs, and blobs on their way. */
import type { Copying, OpenRun, RunReport, StatusAnswer } from './answers.ts';
import { type Child, h } from './dom.ts';
import { bytes, count, duration, second, several } from './format.ts';
import { button, name, shares, shortDigest, when } from './parts.ts';
import type { Speeds } from './speeds.ts';
import { openShown } from './standing.ts';

export interface Work {
  readonly status: StatusAnswer;
  /** Of the open runs, as far as they are read. */
  readonly reports: ReadonlyMap<string, RunReport>;
  readonly speeds: Speeds;
  readonly now: number;
}

export function work({ status, reports, speeds, now }: Work): Child[] {
  const { openRuns, open = [], copying = [] } = status;
  const standing = new Map(open.map((one) => [one.run.id, one]));
  const shown = openShown(status);
  const rest = openRuns.length - shown.length;
  return [
    h('h2', { id: 'work-title' }, 'Going on now'),
    h(
      'ul',
      { class: 'open' },
      ...shown.map((id) => openRun(id, standing.get(id), reports.get(id), now)),
      rest > 0 ? h('li', { 'data-key': '' }, `and ${count(rest)} more`) : undefined,
    ),
    copying.length === 0
      ? undefined
      : h(
          'ul',
          { class: 'copying', 'aria-label': 'Blobs on their way' },
          ...copying.map((one) => blob(one, speeds)),
        ),
  ];
}

const stateKinds = { working: 'good', waiting: 'waiting', paused: 'waiting', stuck: 'bad' } as const;

function openRun(
  id: string,
  standing: OpenRun | undefined,
  report: RunReport | undefined,
  now: number,
): HTMLElement {
  const state = standing && h('span', { class: `pill ${stateKinds[standing.state]}` }, standing.state);
  return h(
    'li',
    { 'data-key': id },
    h(
      'div',
      { class: 'row' },
      h('p', {}, runLink(id), ' ', state),
      button('cancel', 'Cancel', { 'data-run': id, 'aria-label': `Cancel ${id}` }),
    ),
    report && shares(report.totals),
    report && h('p', {}, ...progressOf(report, now)),
    standing && h('p', { class: 'note' }, ...standingOf(standing, now)),
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

function standingOf({ since, why, out, parked }: OpenRun, now: number): Child[] {
  const waits = `${several(out, 'request')} out, ${count(parked)} parked, last heard `;
  return [h('bdi', {}, why), ` · ${waits}`, when(since, now)];
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
