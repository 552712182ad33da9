/** How a request ended, tag by tag. */
import { HubferryError, summarize } from '../../errors.ts';
import type { CopyRequest } from '../request.ts';
import type { Line, SyncOutcome } from '../runs/report.ts';
import { limitedUntil } from '../runs/rule-lines.ts';

export interface CopyResult {
  readonly lines: readonly Line<SyncOutcome>[];
  /** The tag moved meanwhile: the request for what it is now. */
  readonly followUp?: CopyRequest;
  /** The first failure that another attempt may mend. */
  readonly retry?: unknown;
}

export type TagPair = CopyRequest['tags'][number];

export const lockedReason = 'the target refuses changes';

/** The outcome that a failure stands for: a limit defers, a lock is a lock, all else has failed. */
export function outcomeOf(error: unknown): [SyncOutcome, Pick<Line, 'reason' | 'error' | 'until'>] {
  const summary = summarize(error);
  const until = limitedUntil(error);
  if (until !== undefined)
    return ['deferred', { reason: 'rate limit', until: new Date(until).toISOString(), error: summary }];
  if (error instanceof HubferryError && error.code === 'ERR_LOCKED') {
    return ['locked', { reason: lockedReason, error: summary }];
  }
  return ['failed', { error: summary }];
}

/** What our own storage refuses says nothing about the tag; rights that have just changed are known everywhere in minutes. */
export function isRetryable(error: unknown): boolean {
  return error instanceof HubferryError && (error.retryable || error.code === 'ERR_STORAGE');
}
