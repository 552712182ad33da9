/**
 * What the page reads of the app's answers. A tab may be older than the app that answers it, or newer: whatever came
 * into the answers later is optional here.
 */
import type { ErrorSummary } from '../errors.ts';
import type {
  BlobTime,
  Line,
  PlanAction,
  RunHeader,
  SyncOutcome,
  TransferTotals,
  VerifyFinding,
} from '../sync/runs/report.ts';

export type Outcome = SyncOutcome | PlanAction | VerifyFinding;

export type Totals = { readonly tags: number } & TransferTotals & Readonly<Partial<Record<Outcome, number>>>;

export interface RunSummary {
  readonly run: RunHeader;
  readonly totals: Totals;
  /** Docker Hub's allowance at the end. */
  readonly pullsLeft?: number | undefined;
}

export interface RunReport extends RunSummary {
  readonly tags: readonly Line[];
  readonly longestBlobs?: readonly BlobTime[] | undefined;
}

/** What pushes said of tags since the last run that looked at every one. */
export interface PushesReport extends RunReport {
  readonly full?: string | undefined;
  /** Runs that ended since it began and are not in here. */
  readonly others: readonly string[];
  readonly complete: boolean;
}

export interface StatusAnswer {
  readonly paused: boolean;
  readonly pausedSince?: string | undefined;
  /** Why the newest rules are not in force. */
  readonly rulesError?: ErrorSummary | undefined;
  readonly openRuns: readonly string[];
  /** How these stand. */
  readonly open?: readonly OpenRun[];
  readonly copying?: readonly Copying[];
  readonly parked?: { readonly groups: readonly ParkedGroup[] };
  /** The newest first. */
  readonly runs: readonly RunSummary[];
  /** What all runs moved, the listed ones and others, by the hour. */
  readonly traffic?: readonly TrafficHour[];
}

export interface TrafficHour {
  readonly from: string;
  readonly runs: number;
  /** Tags. */
  readonly copied: number;
  readonly bytes: number;
  readonly pulls: number;
}

export interface OpenRun {
  readonly run: RunHeader;
  readonly state: 'working' | 'waiting' | 'paused' | 'stuck';
  /** When something was heard of it the last time. */
  readonly since: string;
  readonly why: string;
  /** Requests that are queued or under way, and that are parked. */
  readonly out: number;
  readonly parked: number;
}

/** Requests that come back by themselves. */
export interface ParkedGroup {
  readonly reason: string;
  readonly count: number;
  /** Absent where no time is known. */
  readonly until?: string | undefined;
  /** Some of their targets. */
  readonly examples: readonly string[];
}

/** A blob on its way, as its checkpoint tells. */
export interface Copying {
  /** The target repository. */
  readonly target: string;
  readonly digest: string;
  readonly size: number;
  /** Bytes that the target has confirmed. */
  readonly offset: number;
  /** When it did, in milliseconds since the epoch. */
  readonly savedAt: number;
}

export type ControlAction = 'pause' | 'resume' | 'cancel' | 'retry';

export interface ControlAnswer {
  /** Of `retry`: what is asked for again. */
  readonly requests?: number;
}
