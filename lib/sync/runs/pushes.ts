/**
 * What pushes said since the last run that looked at every tag: the last word on each tag, in one report of its own.
 *
 * Reports of single runs are dropped by their number, and a busy day has hundreds: a tag that failed is not to fall out of
 * sight with its run, and who looks is not to read hundreds of reports. Other runs are few, and are named here.
 */
import * as z from 'zod';
import type { DocumentStore } from '../../storage/ports.ts';
import {
  type AnyReport,
  buildReport,
  type Line,
  type Report,
  type RunHeader,
  type SyncOutcome,
  syncOutcomes,
} from './report.ts';
import type { RunSummary } from './runs.ts';
import { noTransfer } from './tally.ts';

/** With the report of `full` and those of `others` it tells of every tag. */
export interface PushesReport extends Report<SyncOutcome> {
  /** The last run that looked at every tag; absent before the first. */
  readonly full?: string;
  /** Runs that ended since it began and are not in here. */
  readonly others: readonly string[];
  /** Not so where more went wrong, or more of those runs ended, than is kept. */
  readonly complete: boolean;
}

/** The reports that there are. */
export interface Reports {
  readonly kept: () => Promise<readonly RunSummary[]>;
  readonly read: (run: string) => Promise<AnyReport | undefined>;
}

/** No run has this name: those of runs begin with their time. */
export const pushesId = 'pushes';
const key = `reports/${pushesId}.json`;
/** A run with more lines is told by its own report. */
const linesTaken = 100;
const wordsKept = 1000;
const othersKept = 30;
/** These words are given up first: without one nothing looks better than it is. */
const settled: ReadonlySet<string> = new Set(['copied', 'unchanged', 'deleted']);
/** These runs look at every tag of every rule, unless they are partial. */
const fullTriggers: ReadonlySet<string> = new Set(['schedule', 'verify']);

/** Takes a run in, once however often it is told; a run that looked at every tag begins anew. */
export async function notePushes(store: DocumentStore, report: AnyReport, reports: Reports): Promise<void> {
  for (;;) {
    const document = await store.get(key);
    const known = document && decode(document.bytes);
    const begins = isFull(report.run) && report.run.startedAt > (known?.run.startedAt ?? '');
    const next = known === undefined || begins ? await begin(known, reports) : withRun(known, report);
    if (next === known) return;
    const condition = document === undefined ? { ifAbsent: true } : { ifMatch: document.etag };
    if ((await store.put(key, Buffer.from(JSON.stringify(next)), condition)) !== undefined) return;
  }
}

/** As far as it is relied on here. */
const shape = z.object({
  run: z.object({ startedAt: z.string() }),
  tags: z.array(
    z.object({ rule: z.string(), target: z.string(), outcome: z.string(), startedAt: z.string() }),
  ),
  others: z.array(z.string()),
  complete: z.boolean(),
});

/** One that was damaged is made anew: it holds up no run. */
function decode(bytes: Uint8Array): PushesReport | undefined {
  try {
    const document: unknown = JSON.parse(Buffer.from(bytes).toString());
    return shape.safeParse(document).success ? (document as PushesReport) : undefined;
  } catch {
    return undefined;
  }
}

function isFull({ trigger, finishedAt, interrupted, cancelled, partial }: RunHeader): boolean {
  return fullTriggers.has(trigger) && finishedAt !== undefined && !interrupted && !cancelled && !partial;
}

/** With the words that are younger than the last full run, and those of runs that ended while it went on. */
async function begin(known: PushesReport | undefined, { kept, read }: Reports): Promise<PushesReport> {
  const runs = await kept();
  const full = runs.find(({ run }) => isFull(run))?.run;
  const startedAt = full?.startedAt ?? runs.at(-1)?.run.startedAt ?? new Date().toISOString();
  const young = known?.tags.filter((line) => (line.startedAt ?? '') >= startedAt) ?? [];
  let pushes: PushesReport = pushesOf({ startedAt, full: full?.id, others: [], complete: true }, young);
  const since = runs.filter(({ run }) => isSince(pushes, run));
  // Without words from before nobody knows what fell out of the list.
  if (known === undefined && since.length > othersKept) pushes = { ...pushes, complete: false };
  for (const { run } of since) {
    // One that cannot be read is missed by who looks.
    const report = run.trigger === 'webhook' ? await read(run.id).catch(() => undefined) : undefined;
    pushes = report === undefined ? withOther(pushes, run.id) : withRun(pushes, report);
  }
  return pushes;
}

function isSince({ full, run: { startedAt } }: PushesReport, run: RunHeader): boolean {
  // What a dry run would do, it has not done.
  if (run.dryRun || run.id === full) return false;
  return full === undefined || (run.finishedAt ?? run.startedAt) >= startedAt;
}

function withRun(pushes: PushesReport, report: AnyReport): PushesReport {
  if (!isSince(pushes, report.run)) return pushes;
  const { run, tags } = report;
  const isTaken = run.trigger === 'webhook' && tags.length <= linesTaken;
  return isTaken ? withWords(pushes, run, tags as readonly Line<SyncOutcome>[]) : withOther(pushes, run.id);
}

function withOther(pushes: PushesReport, run: string): PushesReport {
  if (pushes.others.includes(run)) return pushes;
  const others = [...pushes.others, run];
  const complete = pushes.complete && others.length <= othersKept;
  return { ...pushes, others: others.slice(-othersKept), complete };
}

function withWords(
  pushes: PushesReport,
  { startedAt: began }: RunHeader,
  lines: readonly Line<SyncOutcome>[],
): PushesReport {
  const words = new Map(pushes.tags.map((line) => [wordOf(line), line]));
  for (const line of lines) {
    const startedAt = line.startedAt ?? began;
    if (line.outcome === 'superseded' || (words.get(wordOf(line))?.startedAt ?? '') > startedAt) continue;
    words.set(wordOf(line), { ...line, startedAt });
  }
  const { run, full, others, complete } = pushes;
  return pushesOf({ startedAt: run.startedAt, full, others, complete }, [...words.values()]);
}

function wordOf({ rule, target }: Line): string {
  return `${rule}\n${target}`;
}

interface Facts {
  readonly startedAt: string;
  readonly full: string | undefined;
  readonly others: readonly string[];
  readonly complete: boolean;
}

function pushesOf({ startedAt, full, others, complete }: Facts, lines: readonly Line<SyncOutcome>[]) {
  const sorted = lines.toSorted(newestFirst);
  const open = sorted.filter(({ outcome }) => !settled.has(outcome));
  const well = sorted.filter(({ outcome }) => settled.has(outcome));
  const run = { id: pushesId, trigger: 'webhook', startedAt } as const;
  return {
    ...buildReport(run, syncOutcomes, [...open, ...well].slice(0, wordsKept), noTransfer()),
    ...(full === undefined ? {} : { full }),
    others,
    complete: complete && open.length <= wordsKept,
  };
}

function newestFirst({ startedAt: a = '' }: Line, { startedAt: b = '' }: Line): number {
  return a < b ? 1 : a > b ? -1 : 0;
}
