/** In step or not, in one sentence. */
import type { StatusAnswer } from './answers.ts';
import { count as counted, day, distance, hour, several } from './format.ts';
import { type Count, isFull } from './standing.ts';

export type Tone = 'good' | 'busy' | 'warn' | 'bad';

export interface Verdict {
  readonly tone: Tone;
  readonly title: string;
  readonly detail: string;
}

export interface Facts {
  readonly status: StatusAnswer;
  readonly count: Count;
  /** Rules that failed as a whole. */
  readonly failedRules: number;
  /** Rules that wait as a whole. */
  readonly waitingRules: number;
  /** Tags may stand otherwise than the page knows. */
  readonly untold: boolean;
  readonly now: number;
}

export function verdictOf({ status, count, failedRules, waitingRules, untold, now }: Facts): Verdict {
  const { paused, runs, openRuns, open } = status;
  const others = count.bad > 0 && count.waiting > 0 ? `${counted(count.waiting)} more waiting. ` : '';
  const detail = others + lastFull(status, now);
  const working = openRuns.length > 0;
  if (failedRules > 0) return { tone: 'bad', title: `${several(failedRules, 'rule')} failed`, detail };
  if (count.bad > 0) return { tone: 'bad', title: `${several(count.bad, 'tag')} not in step`, detail };
  if (paused) return { tone: 'warn', title: 'Copying is paused', detail };
  if (runs.length === 0 && count.tags === 0) {
    return working
      ? { tone: 'busy', title: 'The first run is under way', detail: 'Tags appear here as they are copied.' }
      : {
          tone: 'warn',
          title: 'No run yet',
          detail: 'The schedule or a push to Docker Hub starts the first one.',
        };
  }
  if (open?.some(({ state }) => state === 'stuck')) return { tone: 'warn', title: 'A run is stuck', detail };
  if (count.waiting > 0 && !working)
    return { tone: 'warn', title: `${several(count.waiting, 'tag')} waiting`, detail };
  if (waitingRules > 0 && !working)
    return { tone: 'warn', title: `${several(waitingRules, 'rule')} waiting`, detail };
  if (isLate(status, now)) return { tone: 'warn', title: 'The schedule is late', detail };
  if (untold) return { tone: 'warn', title: 'Not all is known', detail: notKnown };
  if (working) return { tone: 'busy', title: 'Catching up', detail };
  if (count.tags === 0) return { tone: 'warn', title: 'No tag is mirrored', detail };
  return { tone: 'good', title: 'Everything is in step', detail };
}

const notKnown =
  'Some of what happened since the last full run could not be read, or was more than is kept: the next one tells how every tag stands.';

function lastFull({ runs }: StatusAnswer, now: number): string {
  const last = runs.find(({ run }) => isFull(run))?.run;
  if (last?.finishedAt === undefined) return 'No run has looked at every tag yet.';
  return `Every tag was looked at ${distance(Date.parse(last.finishedAt), now)}.`;
}

/** A schedule keeps its own pace: it is late when it has begun nothing for twice its longest gap. */
export function isLate({ runs, open = [] }: StatusAnswer, now: number): boolean {
  const times = [...open, ...runs]
    .filter(({ run }) => run.trigger === 'schedule' && !run.partial)
    .map(({ run }) => Date.parse(run.startedAt))
    .sort((a, b) => b - a);
  const [last, before] = times;
  if (last === undefined || before === undefined) return last !== undefined && now - last > 8 * day;
  const gaps = times.slice(1).map((time, index) => (times[index] ?? time) - time);
  return now - last > 2 * Math.max(...gaps) + hour;
}
