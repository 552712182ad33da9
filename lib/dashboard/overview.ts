/** The top of the page: in step or not, and the four numbers that go with it. */
import type { RunSummary, StatusAnswer } from './answers.ts';
import { type Child, h, s } from './dom.ts';
import { bytes, count, duration, several } from './format.ts';
import { when } from './parts.ts';
import { type Count, isFull } from './standing.ts';
import { lastDay } from './traffic.ts';
import type { Tone, Verdict } from './verdict.ts';

export interface Overview {
  readonly verdict: Verdict;
  readonly count: Count;
  readonly status: StatusAnswer;
  readonly now: number;
}

export function overview({ verdict, count: counted, status, now }: Overview): Child[] {
  return [
    h(
      'div',
      { class: `verdict ${verdict.tone}` },
      ring(counted, verdict.tone),
      h('div', {}, h('h2', {}, verdict.title), h('p', {}, verdict.detail), notes(status, now)),
    ),
    h('dl', { class: 'tiles' }, ...tiles(counted, status, now)),
  ];
}

function notes({ paused, pausedSince, rulesError }: StatusAnswer, now: number): HTMLElement {
  return h(
    'div',
    { class: 'notes' },
    paused
      ? h(
          'p',
          {},
          h('strong', {}, 'Copying is paused.'),
          ' What is asked for waits until it goes on.',
          ...(pausedSince === undefined ? [] : [' It was paused ', when(pausedSince, now), '.']),
        )
      : undefined,
    rulesError === undefined
      ? undefined
      : h('p', {}, h('strong', {}, 'The newest rules are not in force: '), rulesError.message),
  );
}

const radius = 42;
const around = 2 * Math.PI * radius;
const leastPart = 4;

/** How the tags divide; the sign in the middle says what the colours say. */
function ring({ tags, good, waiting, bad }: Count, tone: Tone): SVGElement {
  const circle = { cx: 50, cy: 50, r: radius };
  let begin = 0;
  const parts = Object.entries({ good, waiting, bad }).map(([kind, value]) => {
    // A single tag among thousands must be seen too.
    const length = value === 0 ? 0 : Math.max((around * value) / tags, leastPart);
    begin += length;
    const dashes = { 'stroke-dasharray': `${length} ${around}`, 'stroke-dashoffset': length - begin };
    return s('circle', { ...circle, class: kind, ...dashes });
  });
  const sign = {
    good: 'M34 51l11 11 21-23',
    busy: 'M50 33v20l12 8',
    warn: 'M50 32v22M50 65v3',
    bad: 'M38 38l24 24M62 38L38 62',
  }[tone];
  return s(
    'svg',
    { class: 'ring', viewBox: '0 0 100 100', 'aria-hidden': 'true' },
    s('circle', { ...circle, class: 'track' }),
    ...parts,
    s('path', { d: sign }),
  );
}

function tiles({ tags, good }: Count, { runs, traffic = [] }: StatusAnswer, now: number): HTMLElement[] {
  const today = lastDay(traffic, now);
  const full = runs.find(({ run }) => isFull(run))?.run;
  return [
    tile('Tags in step', count(good), `of ${count(tags)}`),
    tile('Copied in 24 hours', bytes(today.bytes), several(today.copied, 'tag')),
    tile('Pulls in 24 hours', count(today.pulls), pullsLeft(runs) ?? several(today.runs, 'run')),
    full?.finishedAt === undefined
      ? tile('Last full run', 'none', 'yet')
      : tile(
          'Last full run',
          when(full.finishedAt, now),
          `took ${duration(Date.parse(full.finishedAt) - Date.parse(full.startedAt))}`,
        ),
  ];
}

/** As the newest run that asked Docker Hub has it. */
function pullsLeft(runs: readonly RunSummary[]): string | undefined {
  const left = runs.find((one) => one.pullsLeft !== undefined)?.pullsLeft;
  return left === undefined ? undefined : `${count(left)} left`;
}

function tile(label: string, value: Child, note: string): HTMLElement {
  return h('div', {}, h('dt', {}, label), h('dd', { class: 'value' }, value), h('dd', {}, note));
}
