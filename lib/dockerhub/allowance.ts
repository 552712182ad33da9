import type { Allowance } from '../oci/roles.ts';
import type { Answered } from '../registry/failure.ts';
import { headerOf, parseDecimal, parseRetryAfter, type ResponseHeaders } from '../registry/headers.ts';

/** The window of Docker Hub's limit since there is one, for a header that does not name it. */
const usualWindowSeconds = 6 * 3600;
/** Whatever is longer is no window. */
const longestWindowSeconds = 366 * 24 * 3600;

/** Of those who are not logged in, for an answer that tells what is left alone. */
const usualLimit = 100;

/**
 * The pull allowance in an answer's headers (docs.docker.com "Docker Hub usage and limits"): `ratelimit-limit` and
 * `ratelimit-remaining`, both as `100;w=21600`. `undefined` where nothing tells what is left: the account is not limited.
 */
export function rateLimitOf(headers: ResponseHeaders): Allowance | undefined {
  const limit = parseQuota(headerOf(headers, 'ratelimit-limit'));
  const remaining = parseQuota(headerOf(headers, 'ratelimit-remaining'));
  if (remaining === undefined) return undefined;
  return {
    limit: limit?.pulls ?? Math.max(usualLimit, remaining.pulls),
    remaining: remaining.pulls,
    windowSeconds: limit?.windowSeconds ?? remaining.windowSeconds ?? usualWindowSeconds,
    source: (headerOf(headers, 'docker-ratelimit-source') ?? '').slice(0, 200),
  };
}

/** The abuse limit was seen to ask for a minute, in milliseconds, and for nothing longer (hub-feedback issue 1907). */
const longestAbuseWaitMs = 60_000;

/**
 * Whether a 429 to a pull is the pull limit, which is of one account. The abuse limit is of all that goes there, and says
 * "Too Many Requests" alone (docs.docker.com "Docker Hub usage and limits").
 */
export function isPullLimit({ headers, faults }: Pick<Answered, 'headers' | 'faults'>, now: number): boolean {
  const left = rateLimitOf(headers)?.remaining;
  if (left === 0 || faults.some(({ message }) => pullLimitWords.test(message))) return true;
  // Only where nothing says so does the time count: the pull limit may be over in seconds, too.
  const waitMs = (parseRetryAfter(headers, now) ?? now) - now;
  return left === undefined && waitMs > longestAbuseWaitMs;
}

const pullLimitWords = /pull rate limit|increase-rate-limit/i;

interface Quota {
  readonly pulls: number;
  readonly windowSeconds: number | undefined;
}

/** A number first, less than nothing being nothing; then parameters, of which `w` counts. */
function parseQuota(text = ''): Quota | undefined {
  const [, minus, number] = /^\s*(-?)(\d{1,16})\s*(?:[;,]|$)/.exec(text) ?? [];
  const pulls = parseDecimal(number);
  if (pulls === undefined) return undefined;
  const seconds = parseDecimal(/;\s*w\s*=\s*(\d{1,16})/i.exec(text)?.[1]) ?? 0;
  const windowSeconds = seconds > 0 && seconds <= longestWindowSeconds ? seconds : undefined;
  return { pulls: minus === '-' ? 0 : pulls, windowSeconds };
}
