import { HubferryError } from '../errors.ts';
import type { Clock } from './clock.ts';
import { type Answered, failureOf, isTransient } from './failure.ts';
import type { HostGate } from './gate.ts';
import { parseRetryAfter } from './headers.ts';
import { waitingSignal } from './hop.ts';
import { canRepeat, type Outgoing, type SendOutgoing, type TransportResponse } from './send.ts';

export interface RetryOptions {
  readonly gate: HostGate;
  readonly clock: Clock;
  readonly maxWaitMs: number;
  /** Attempts after the first. */
  readonly retries: number;
  /** Whether an answer with 429 to a pull is about the pulls of one login; `undefined` where nothing tells. */
  readonly isPullLimit?: ((answer: Answered) => boolean) | undefined;
}

const firstBackoffMs = 500;
const longestBackoffMs = 15_000;

/** Sends again what may succeed later, as far as sending it twice does no harm. */
export function withRetry(next: SendOutgoing, options: RetryOptions): SendOutgoing {
  const { clock, retries } = options;
  const backOff = (attempt: number, request: Outgoing): Promise<void> =>
    clock.sleep(backoffMs(attempt), waitingSignal(request));

  return async (request) => {
    for (let attempt = 0; ; attempt++) {
      const last = attempt >= retries;
      let sentAt: number | undefined;
      const onSent = (): void => {
        sentAt = clock.now();
        request.onSent?.();
      };
      try {
        const response = await next({ ...request, onSent });
        // Asking again brings no pulls, and whoever counts them keeps their time.
        if (isPullRefused(request, response, options)) return response;
        const again = mayRepeat(request, response);
        const waits =
          isTransient(response) &&
          (keepRetryAfter(request, response, options) || slowsDown(response, sentAt, options));
        if (last || !again || !canRepeat(request)) return response;
        response.body.dump();
        // The gate of the host holds the next attempt up where the host is to be left alone.
        if (!waits) await backOff(attempt, request);
      } catch (error) {
        request.signal?.throwIfAborted();
        if (sentAt === undefined) request.whileUnsent?.throwIfAborted();
        const harmless = sentAt === undefined || isIdempotent(request);
        if (last || !harmless || !isRetryable(error) || !canRepeat(request)) throw error;
        await backOff(attempt, request);
      }
    }
  };
}

/** Whether no pulls are left to the login. */
function isPullRefused(
  { pull }: Outgoing,
  response: TransportResponse,
  { isPullLimit }: RetryOptions,
): boolean {
  return pull === true && response.status === 429 && isPullLimit?.(response) === true;
}

/** A request that was refused with 429 was not executed; any other that failed may have been. */
function mayRepeat(request: Outgoing, response: TransportResponse): boolean {
  return isTransient(response) && (response.status === 429 || isIdempotent(request));
}

function isIdempotent({ method, idempotent }: Outgoing): boolean {
  return idempotent ?? (method === 'GET' || method === 'HEAD');
}

/** An error with a time is the gate's: waiting longer is for others to decide. */
export function isRetryable(error: unknown): boolean {
  return error instanceof HubferryError && error.retryable && error.retryAt === undefined;
}

/**
 * Closes the host until the time that it named; false where it named none that is to come.
 * @throws ERR_RATE_LIMITED where that is later than anybody waits.
 */
function keepRetryAfter(
  request: Outgoing,
  response: TransportResponse,
  { gate, clock, maxWaitMs, isPullLimit }: RetryOptions,
): boolean {
  const now = clock.now();
  const until = parseRetryAfter(response.headers, now);
  if (until === undefined || until <= now) return false;
  const long = until - now > maxWaitMs;
  // Where nothing tells pull limits, a long wait for a pull is one: the rest of the host goes on. Any other wait is kept by everything.
  const isForPulls = long && request.pull === true && isPullLimit === undefined;
  gate.close(new URL(response.url).host, until, isForPulls ? 'pulls' : 'everything');
  if (long) throw failureOf('Asked to come back later', response, { code: 'ERR_RATE_LIMITED', now });
  return true;
}

/** A bare 429 is for everything that goes to the host. */
function slowsDown(
  { status, url }: TransportResponse,
  sentAt: number | undefined,
  { gate, clock }: RetryOptions,
): boolean {
  if (status !== 429) return false;
  gate.refuse(new URL(url).host, sentAt ?? clock.now());
  return true;
}

/** Exponential with full jitter: clients that failed together do not come back together. */
function backoffMs(attempt: number): number {
  return Math.random() * Math.min(longestBackoffMs, firstBackoffMs * 2 ** attempt);
}
