/** The vocabulary of reports, shared by command line, function app and dashboard. */
import type { ErrorSummary } from '../../errors.ts';

export const syncOutcomes = [
  'copied',
  'unchanged',
  'deleted',
  'skipped',
  'superseded',
  'deferred',
  'locked',
  'failed',
] as const;
export type SyncOutcome = (typeof syncOutcomes)[number];

export const planActions = ['copy', 'delete', 'unchanged', 'skip', 'locked', 'failed'] as const;
export type PlanAction = (typeof planActions)[number];

export const verifyFindings = ['same', 'moved', 'missing', 'incomplete', 'extra', 'failed'] as const;
export type VerifyFinding = (typeof verifyFindings)[number];

/** One source tag × one target, or one rule-wide failure without a tag. */
export interface Line<Outcome extends string = string> {
  readonly rule: string;
  /** Canonical: `docker.io/library/nginx:1`. */
  readonly source: string;
  readonly target: string;
  readonly digest?: string;
  /** Only where it differs from `digest`. */
  readonly targetDigest?: string;
  readonly outcome: Outcome;
  readonly reason?: string;
  readonly error?: ErrorSummary;
  /** `deferred`: ISO time. */
  readonly until?: string;
  /** `incomplete`: digests that the target lacks. */
  readonly missing?: readonly string[];
  /** Blob and manifest payload uploaded for this line. */
  readonly bytes?: number;
  readonly startedAt?: string;
  readonly durationMs?: number;
}

export interface TransferTotals {
  bytesCopied: number;
  blobsCopied: number;
  blobsMounted: number;
  blobsExisting: number;
  requests: { source: number; target: number };
  pulls: number;
}

export const triggers = ['cli', 'schedule', 'webhook', 'manual', 'verify'] as const;
export type Trigger = (typeof triggers)[number];

export interface RunHeader {
  readonly id: string;
  readonly trigger: Trigger;
  readonly startedAt: string;
  readonly finishedAt?: string;
  readonly interrupted?: boolean;
  readonly cancelled?: boolean;
  /** It said what it would do, and changed nothing. */
  readonly dryRun?: boolean;
  /** It looked at some tags of its rules alone. */
  readonly partial?: boolean;
}

/** How long a blob was on its way. */
export interface BlobTime {
  readonly target: string;
  readonly digest: string;
  readonly size: number;
  readonly durationMs: number;
}

export interface Report<Outcome extends string = string> {
  readonly run: RunHeader;
  readonly totals: { tags: number } & Record<Outcome, number> & TransferTotals;
  /** The source's allowance, as low as it got. */
  readonly pullsLeft?: number;
  readonly longestBlobs?: readonly BlobTime[];
  readonly tags: readonly Line<Outcome>[];
}

/** Counts the lines and sums up. */
export function buildReport<Outcome extends string>(
  run: RunHeader,
  outcomes: readonly Outcome[],
  lines: readonly Line<Outcome>[],
  transfer: TransferTotals,
): Report<Outcome> {
  const counts = Object.fromEntries(outcomes.map((outcome) => [outcome, 0])) as Record<Outcome, number>;
  for (const line of lines) counts[line.outcome] += 1;
  return { run, totals: { tags: lines.length, ...counts, ...transfer }, tags: lines };
}

export type AnyReport = Report<PlanAction> | Report<SyncOutcome> | Report<VerifyFinding>;
