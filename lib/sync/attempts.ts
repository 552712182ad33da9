/** How often, and how soon, a transfer that broke is tried again. */
import { HubferryError } from '../errors.ts';

export function isRetryable(error: unknown): boolean {
  return error instanceof HubferryError && error.retryable && error.retryAt === undefined;
}

/** Milliseconds before another attempt: doubling from a quarter second, up to eight, with jitter. */
export function backoff(attempt: number): number {
  return Math.min(250 * 2 ** attempt, 8000) * (0.5 + Math.random() / 2);
}
