/** What the reports say together: how each tag stands now, what is wrong and why, what waits until when. */
import { errorCodes } from '../errors.ts';
import type { Line, RunHeader } from '../sync/runs/report.ts';
import type { RunReport, RunSummary, StatusAnswer } from './answers.ts';
import { knownCode } from './api.ts';
import { minute } from './format.ts';

/** `aside`: left out on purpose. */
export type Kind = 'good' | 'waiting' | 'bad' | 'aside';

/** Of every outcome of every kind of run. */
export const kinds: Readonly<Record<string, Kind>> = {
  copied: 'good',
  unchanged: 'good',
  same: 'good',
  deleted: 'aside',
  skipped: 'aside',
  skip: 'aside',
  superseded: 'aside',
  extra: 'aside',
  deferred: 'waiting',
  copy: 'waiting',
  delete: 'waiting',
  locked: 'bad',
  moved: 'bad',
  missing: 'bad',
  incomplete: 'bad',
  failed: 'bad',
};

/** A locked tag is as good as any, as long as it does not differ; what was cancelled is left to the next run. */
export function kindOf(line: Line): Kind {
  if (line.outcome === 'skipped' && line.reason === 'cancelled') return 'waiting';
  if (line.outcome === 'locked' && line.targetDigest === undefined) return 'good';
  return kinds[line.outcome] ?? 'aside';
}

export interface TagLine extends Line {
  /** Where it was said last. */
  readonly run: string;
}

const plans: ReadonlySet<string> = new Set(['copy', 'delete', 'skip']);
/** These runs look at every tag of every rule, unless they are partial. */
const fullTriggers: ReadonlySet<string> = new Set(['schedule', 'verify']);

export function isFull({ trigger, finishedAt, interrupted, cancelled, partial }: RunHeader): boolean {
  return fullTriggers.has(trigger) && finishedAt !== undefined && !interrupted && !cancelled && !partial;
}

/** The last listed run that looked at every tag, and what ended after it began. */
export function runsToRead(runs: readonly RunSummary[]): readonly RunSummary[] {
  const full = runs.find(({ run }) => isFull(run));
  if (full === undefined) return runs;
  return runs.filter(({ run }) => compare(run.finishedAt ?? '', full.run.startedAt) >= 0);
}

const openAtMost = 20;

/** The open runs that are read and shown: a pause may leave hundreds open, and the app tells how some of them stand. */
export function openShown({ open, openRuns }: StatusAnswer): readonly string[] {
  return open?.map(({ run }) => run.id) ?? openRuns.slice(0, openAtMost);
}

const order: Readonly<Record<Kind, number>> = { bad: 0, waiting: 1, good: 2, aside: 3 };

/** What needs somebody's attention first. */
export function worstFirst(a: Line, b: Line): number {
  return order[kindOf(a)] - order[kindOf(b)];
}

/**
 * The last word on each target of each rule, from reports in any order; what needs somebody's attention first. What was
 * deleted has none. A run that began earlier may have the last word: it may have copied what a later one left to it.
 */
export function lastWords(reports: readonly RunReport[]): TagLine[] {
  const words = new Map<string, { line: TagLine; at: string }>();
  // What a dry run would do, it has not done.
  const done = reports.filter(({ run }) => run.dryRun !== true);
  for (const { run, tags } of done.toSorted((a, b) => compare(a.run.startedAt, b.run.startedAt))) {
    for (const line of tags) {
      if (line.outcome === 'superseded' || plans.has(line.outcome)) continue;
      const key = `${line.rule}\n${line.target}`;
      const at = line.startedAt ?? run.startedAt;
      if (compare(words.get(key)?.at ?? '', at) <= 0) words.set(key, { line: { ...line, run: run.id }, at });
    }
  }
  const isOver = overIn(done);
  return [...words.values()]
    .filter(({ line, at }) => line.outcome !== 'deleted' && !isOver(line, at))
    .sort((a, b) => compare(b.at, a.at))
    .map(({ line }) => line)
    .sort(worstFirst);
}

/**
 * What stops a rule as a whole has no tag, and no line says that it is over: it is when a later run tells of tags in each of its
 * repositories, or in one of its namespace. A push and a partial run look at single tags, and a cancelled run may have looked at none.
 */
function overIn(reports: readonly RunReport[]): (line: Line, at: string) => boolean {
  const looked = new Map<string, string>();
  for (const { run, tags } of reports) {
    if (run.trigger === 'webhook' || run.partial || run.cancelled) continue;
    for (const line of tags.filter(isTag)) {
      const repository = repositoryOf(line.target);
      for (const name of [repository, repository.replace(/[^/]*$/, '*')]) {
        const key = `${line.rule}\n${name}`;
        if (compare(looked.get(key) ?? '', run.startedAt) < 0) looked.set(key, run.startedAt);
      }
    }
  }
  return (line, at) =>
    !isTag(line) &&
    line.target.split(', ').every((name) => compare(looked.get(`${line.rule}\n${name}`) ?? '', at) > 0);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** What `retry` plans again. */
export function canRetry({ outcome }: Line): boolean {
  return outcome === 'failed' || outcome === 'missing' || outcome === 'moved' || outcome === 'incomplete';
}

/** Whether the line is about a tag or digest, not about a rule as a whole. */
export function isTag({ source }: Line): boolean {
  return repositoryOf(source) !== source;
}

/** The name without its tag or digest; the host's port is no tag. */
export function repositoryOf(name: string): string {
  return name.replace(/(\/[^:@]*)[:@].*$/, '$1');
}

export interface Count {
  readonly tags: number;
  readonly good: number;
  readonly waiting: number;
  readonly bad: number;
}

/** What is left out on purpose does not count. */
export function countOf(lines: readonly Line[]): Count {
  const counted = { good: 0, waiting: 0, bad: 0, aside: 0 };
  for (const line of lines) counted[kindOf(line)] += 1;
  const { good, waiting, bad } = counted;
  return { tags: good + waiting + bad, good, waiting, bad };
}

export interface Cause {
  readonly key: string;
  /** The error's code, or what `verify` found. */
  readonly code: string;
  readonly meaning: string;
  readonly remedy: string;
  /** As it was said of the first line. */
  readonly message: string;
  readonly lines: readonly TagLine[];
}

const findings: Readonly<Record<string, { meaning: string; remedy: string }>> = {
  moved: {
    meaning: 'The target has another digest than the source.',
    remedy: 'None: the next run copies it.',
  },
  missing: { meaning: 'The target does not have the tag.', remedy: 'None: the next run copies it.' },
  incomplete: {
    meaning: 'The target lacks content below the tag.',
    remedy: 'Start a run with `force`: it fills what is missing.',
  },
};

/** Lines that went wrong, those of one cause together, the widest cause first. */
export function causesOf(lines: readonly TagLine[]): Cause[] {
  const bad = lines.filter((line) => kindOf(line) === 'bad');
  return [...Map.groupBy(bad, (line) => `${codeOf(line)} ${shapeOf(line)}`)]
    .map(([key, members]) => ({ key, ...explain(members), lines: members }))
    .sort((a, b) => b.lines.length - a.lines.length);
}

function codeOf({ error, outcome }: Line): string {
  return error?.code ?? outcome;
}

/** What messages of one cause have in common: all but names, digests and numbers. */
function shapeOf({ error, source, target }: Line): string {
  return (error?.message ?? '')
    .replaceAll(source, '…')
    .replaceAll(target, '…')
    .replace(/\b[a-z0-9]+:[a-f0-9]{32,}/g, '…')
    .replace(/\S*\/\S*/g, '…')
    .replace(/\d+/g, '…');
}

function explain([first]: readonly TagLine[]): Pick<Cause, 'code' | 'meaning' | 'remedy' | 'message'> {
  const code = first === undefined ? '' : codeOf(first);
  const known = knownCode(code);
  const { meaning = '', remedy = '' } = known === undefined ? (findings[code] ?? {}) : errorCodes[known];
  return { code, meaning, remedy, message: first?.error?.message ?? first?.reason ?? '' };
}

export interface Parked {
  /** Milliseconds since the epoch; 0 where no time is known. */
  readonly until: number;
  readonly reason: string;
  readonly count: number;
  readonly targets: readonly string[];
}

function minuteOf(until: string | undefined): number {
  return until === undefined ? 0 : Math.ceil(Date.parse(until) / minute) * minute;
}

/** What waits for a later time, the next first: as the app tells it, or else by the lines, minute for minute. */
export function parkedOf(
  lines: readonly TagLine[],
  { parked }: Pick<StatusAnswer, 'parked'>,
  now: number,
): Parked[] {
  const all = parked?.groups.map(({ until, examples, ...group }) => {
    return { ...group, until: minuteOf(until), targets: examples };
  });
  return (all ?? parkedLines(lines, now)).toSorted((a, b) => a.until - b.until);
}

function parkedLines(lines: readonly TagLine[], now: number): Parked[] {
  const waiting = lines.filter((line) => kindOf(line) === 'waiting' || Date.parse(line.until ?? '') > now);
  const groups = Map.groupBy(waiting, ({ until, reason }) => `${minuteOf(until)} ${reason ?? ''}`);
  return [...groups.values()].map((members) => ({
    until: minuteOf(members[0]?.until),
    reason: members[0]?.reason ?? 'waits',
    count: members.length,
    targets: members.map(({ target }) => target),
  }));
}

export interface RuleStanding extends Count {
  readonly rule: string;
  /** Repositories, without their tags. */
  readonly source: string;
  readonly target: string;
}

export function rulesOf(lines: readonly TagLine[]): RuleStanding[] {
  const groups = Map.groupBy(lines, ({ rule }) => rule);
  return [...groups]
    .map(([rule, members]) => ({ rule, ...countOf(members), ...ends(members) }))
    .sort((a, b) => b.bad - a.bad || b.waiting - a.waiting || compare(a.rule, b.rule));
}

function ends(lines: readonly TagLine[]): { source: string; target: string } {
  const all = (names: readonly string[]) => {
    const [first = '', ...others] = new Set(names.map(repositoryOf));
    return others.length === 0 ? first : `${first} and ${others.length} more`;
  };
  return { source: all(lines.map(({ source }) => source)), target: all(lines.map(({ target }) => target)) };
}
