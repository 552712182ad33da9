/**
 * Reports of finished runs, one document each, and what the last ones came to: one small document for each trigger, so that
 * a look at the last runs is a handful of reads, however many tags they had, and pushes do not push the daily runs out.
 */
import * as z from 'zod';
import { type ErrorCode, errorCodes, HubferryError } from '../../errors.ts';
import type { DocumentStore } from '../../storage/ports.ts';
import { notePushes } from './pushes.ts';
import {
  type AnyReport,
  type BlobTime,
  type Line,
  type RunHeader,
  type Trigger,
  triggers,
} from './report.ts';
import { noteTraffic } from './traffic.ts';

/** What people look at first. */
export interface RunSummary {
  readonly run: RunHeader;
  readonly totals: AnyReport['totals'];
  /** The first of those that did not end well. */
  readonly failures: readonly Line[];
}

/** What a report comes to, however many tags it has. */
export interface RunOverview extends RunSummary {
  readonly pullsLeft?: number;
  /** While something was sent, over the tags that were copied. */
  readonly bytesPerSecond?: number;
  /** Those in which something was not as it was before. */
  readonly rules: readonly RuleTotals[];
  readonly causes: readonly Cause[];
  readonly longestBlobs: readonly BlobTime[];
}

export interface RuleTotals {
  readonly rule: string;
  readonly tags: number;
  readonly bytes: number;
  readonly outcomes: Readonly<Record<string, number>>;
}

/** Why tags failed, and what a person does about it. */
export interface Cause {
  readonly code: ErrorCode;
  /** The first of them. */
  readonly message: string;
  readonly remedy: string;
  readonly tags: number;
  /** Some of the targets. */
  readonly examples: readonly string[];
}

/** Of each trigger so many runs are kept, and so many are shown. */
const runsKept = 60;
const runsShown = 30;
const failuresShown = 20;
const causesShown = 20;
const examplesShown = 5;
const rulesShown = 50;
const troubles: ReadonlySet<string> = new Set(['failed', 'deferred', 'moved', 'missing', 'incomplete']);

export async function saveRun(store: DocumentStore, report: AnyReport): Promise<void> {
  await store.put(reportKey(report.run.id), encode(report));
  await noteRun(store, report);
}

/** @throws ERR_STORAGE for a document that is none of hubferry's */
export async function readRun(store: DocumentStore, id: string): Promise<AnyReport | undefined> {
  const document = await store.get(reportKey(id));
  if (document === undefined) return undefined;
  const report = decode(document.bytes);
  if (reportShape.safeParse(report).success) return report as AnyReport;
  throw new HubferryError('ERR_STORAGE', `${reportKey(id)} is no report: it was damaged, and may be deleted`);
}

/** Notes a report in all that is told of several runs, once however often it is called, and drops what is too old. */
export async function noteRun(store: DocumentStore, report: AnyReport): Promise<void> {
  await noteRecent(store, report);
  await noteTraffic(store, report);
  const kept = () => recentRuns(store, runsKept);
  await notePushes(store, report, { kept, read: (run) => readRun(store, run) });
}

/** The last runs of each trigger, the newest first. */
export function listRuns(store: DocumentStore): Promise<RunOverview[]> {
  return recentRuns(store, runsShown);
}

async function noteRecent(store: DocumentStore, report: AnyReport): Promise<void> {
  const key = recentKey(report.run.trigger);
  for (;;) {
    const document = await store.get(key);
    const known = recentIn(document);
    const others = known.filter(({ run }) => run.id !== report.run.id);
    const recent = [...others, overviewOf(report)].sort(newestFirst);
    const condition = document === undefined ? { ifAbsent: true } : { ifMatch: document.etag };
    if ((await store.put(key, encode(recent.slice(0, runsKept)), condition)) === undefined) continue;
    for (const { run } of recent.slice(runsKept)) await store.delete(reportKey(run.id));
    return;
  }
}

async function recentRuns(store: DocumentStore, ofEach: number): Promise<RunOverview[]> {
  const recent = await Promise.all(
    triggers.map(async (trigger) => {
      return recentIn(await store.get(recentKey(trigger))).slice(0, ofEach);
    }),
  );
  return recent.flat().sort(newestFirst);
}

export function overviewOf(report: AnyReport): RunOverview {
  const lines = report.tags as readonly Line[];
  const { run, totals, pullsLeft, longestBlobs = [] } = report;
  return {
    run,
    totals,
    ...(pullsLeft === undefined ? {} : { pullsLeft }),
    ...speedOf(lines),
    rules: rulesOf(lines),
    causes: causesOf(lines),
    longestBlobs,
    failures: lines.filter((line) => troubles.has(line.outcome)).slice(0, failuresShown),
  };
}

function speedOf(lines: readonly Line[]): { bytesPerSecond?: number } {
  const sent = lines.filter(({ bytes }) => bytes !== undefined && bytes > 0);
  const bytes = sent.reduce((sum, line) => sum + (line.bytes ?? 0), 0);
  const seconds = sent.reduce((sum, line) => sum + (line.durationMs ?? 0), 0) / 1000;
  return seconds > 0 ? { bytesPerSecond: Math.round(bytes / seconds) } : {};
}

function rulesOf(lines: readonly Line[]): RuleTotals[] {
  const groups = [...Map.groupBy(lines, ({ rule }) => rule)].map(([rule, of]) => {
    const outcomes: Record<string, number> = {};
    for (const { outcome } of of) outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    return { rule, tags: of.length, bytes: of.reduce((sum, line) => sum + (line.bytes ?? 0), 0), outcomes };
  });
  const isNews = ({ tags, outcomes }: RuleTotals) => (outcomes.unchanged ?? outcomes.same ?? 0) < tags;
  return groups.filter(isNews).slice(0, rulesShown);
}

function causesOf(lines: readonly Line[]): Cause[] {
  const failed = lines.flatMap((line) => (line.error === undefined ? [] : [{ line, error: line.error }]));
  const causes = [...Map.groupBy(failed, ({ error }) => error.code)].map(([code, of]) => ({
    code,
    message: of[0]?.error.message ?? '',
    remedy: errorCodes[code].remedy,
    tags: of.length,
    examples: of.slice(0, examplesShown).map(({ line }) => line.target),
  }));
  return causes.sort((a, b) => b.tags - a.tags).slice(0, causesShown);
}

function newestFirst(a: RunSummary, b: RunSummary): number {
  return a.run.startedAt < b.run.startedAt ? 1 : a.run.startedAt > b.run.startedAt ? -1 : 0;
}

export function reportKey(id: string): string {
  return `reports/${id}.json`;
}

function recentKey(trigger: Trigger): string {
  return `recent/${trigger}.json`;
}

function encode(value: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(value));
}

/** Nothing for what is no JSON. */
function decode(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString());
  } catch {
    return undefined;
  }
}

/** As far as all that reads them relies on it. */
const overviewShape = z.object({
  run: z.object({ id: z.string(), trigger: z.enum(triggers), startedAt: z.string() }),
  totals: z.object({}),
  failures: z.array(z.object({})),
  rules: z.array(z.object({})),
  causes: z.array(z.object({})),
  longestBlobs: z.array(z.object({})),
});
const reportShape = z.object({
  run: overviewShape.shape.run,
  totals: z.object({}),
  tags: z.array(z.object({ rule: z.string(), source: z.string(), target: z.string(), outcome: z.string() })),
});

/** A list that was damaged begins anew: it is made of reports, and holds up no run. */
function recentIn(document: { readonly bytes: Uint8Array } | undefined): RunOverview[] {
  const list = document === undefined ? [] : decode(document.bytes);
  return Array.isArray(list) ? list.filter((one) => overviewShape.safeParse(one).success) : [];
}
