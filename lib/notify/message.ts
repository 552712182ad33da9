/** What is said of a run, whatever the receiver. */
import { createHash } from 'node:crypto';
import type { Notification } from '../config/environment.ts';
import type { AnyReport, Line } from '../sync/runs/report.ts';
import { overviewOf, type RunOverview } from '../sync/runs/runs.ts';

export interface Message extends RunOverview {
  /** The same each time this is told. */
  readonly idempotencyKey: string;
  /** Why it is told. */
  readonly about: readonly Notification[];
  /** One sentence. */
  readonly title: string;
  /** Targets that had failed and are well again. */
  readonly recovered: readonly string[];
}

const dayMs = 24 * 3600_000;
const recoveredShown = 20;
const outcomesTold = [
  'failed',
  'missing',
  'moved',
  'incomplete',
  'extra',
  'deferred',
  'copied',
  'deleted',
] as const;
const findings = ['failed', 'missing', 'moved', 'incomplete'] as const;

/** Whether the rule of this name prunes. */
export type Prunes = (rule: string) => boolean;

/** `undefined` where nothing of it was asked for. */
export function messageOf(
  report: AnyReport,
  recovered: readonly string[],
  on: ReadonlySet<Notification>,
  prunes: Prunes,
): Message | undefined {
  const about = aboutOf(report, recovered, prunes).filter((one) => on.has(one));
  if (about.length === 0) return undefined;
  return {
    idempotencyKey: keyOf(report),
    about,
    title: titleOf(report, recovered),
    ...overviewOf(report),
    recovered: recovered.slice(0, recoveredShown),
  };
}

function aboutOf(report: AnyReport, recovered: readonly string[], prunes: Prunes): Notification[] {
  const { run } = report;
  const count = counterOf(report);
  // A limit may have been waited for again and again, each time for some hours.
  const past = Date.parse(run.startedAt) + dayMs;
  const isOld = Date.parse(run.finishedAt ?? run.startedAt) > past;
  const isLong = ({ outcome, until = '' }: Line) =>
    outcome === 'deferred' && (isOld || Date.parse(until) > past);
  const about: Notification[] = [];
  if (isTrouble(report, prunes)) about.push('failed');
  if ((report.tags as readonly Line[]).some(isLong)) about.push('parked');
  if (count('copied') + count('deleted') > 0) about.push('changed');
  if (recovered.length > 0) about.push('recovered');
  return about;
}

/** What is extra at the target is wrong where its rule prunes. */
function isTrouble(report: AnyReport, prunes: Prunes): boolean {
  const count = counterOf(report);
  if (findings.some((finding) => count(finding) > 0)) return true;
  return (report.tags as readonly Line[]).some(({ outcome, rule }) => outcome === 'extra' && prunes(rule));
}

function titleOf(report: AnyReport, recovered: readonly string[]): string {
  const count = counterOf(report);
  const counts = outcomesTold
    .filter((outcome) => count(outcome) > 0)
    .map((outcome) => `${count(outcome)} ${outcome}`);
  if (recovered.length > 0) counts.push(`${recovered.length} recovered`);
  return `hubferry, ${report.run.trigger}: ${counts.join(', ')}`;
}

function counterOf({ totals }: AnyReport): (outcome: string) => number {
  const counters: Readonly<Record<string, unknown>> = { ...totals };
  return (outcome) => Number(counters[outcome] ?? 0);
}

/** Runs of two installations may have the same name; what they say is not the same. */
function keyOf({ run, totals, tags }: AnyReport): string {
  const text = JSON.stringify([run, totals, tags[0]]);
  return `${run.id}-${createHash('sha256').update(text).digest('hex').slice(0, 16)}`;
}
