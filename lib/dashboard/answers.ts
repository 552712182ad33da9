/**
 * What the page reads of the app's answers. A tab may be older than the app that answers it, or newer: whatever came
 * into the answers later is optional here.
 */
import type { ErrorSummary } from '../errors.ts';
import type {
  Line,
  PlanAction,
  RunHeader,
  SyncOutcome,
  TransferTotals,
  VerifyFinding,
} from '../sync/report.ts';

export type Outcome = SyncOutcome | PlanAction | VerifyFinding;

export type Totals = { readonly tags: number } & TransferTotals & Readonly<Partial<Record<Outcome, number>>>;

export interface RunSummary {
  readonly run: RunHeader;
  readonly totals: Totals;
  readonly failures: readonly Line[];
}

export interface RunReport {
  readonly run: RunHeader;
  readonly totals: Totals;
  readonly tags: readonly Line[];
}

export interface StatusAnswer {
  readonly paused: boolean;
  /** Why the newest rules are not in force. */
  readonly rulesError?: ErrorSummary | undefined;
  readonly openRuns: readonly string[];
  /** The newest first. */
  readonly runs: readonly RunSummary[];
  readonly copying?: readonly Copying[];
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
