import type { Allowance } from '../oci/roles.ts';
import { headerOf, parseDecimal, type ResponseHeaders } from '../registry/headers.ts';

/** The window of Docker Hub's limit since there is one, for a header that does not name it. */
const usualWindowSeconds = 6 * 3600;
/** Whatever is longer is no window. */
const longestWindowSeconds = 366 * 24 * 3600;

/**
 * The pull allowance in an answer's headers (docs.docker.com "Docker Hub usage and limits"): `ratelimit-limit` and
 * `ratelimit-remaining`, both as `100;w=21600`. `undefined` where there is none: the account is not limited.
 */
export function rateLimitOf(headers: ResponseHeaders): Allowance | undefined {
  const limit = parseQuota(headerOf(headers, 'ratelimit-limit'));
  const remaining = parseQuota(headerOf(headers, 'ratelimit-remaining'));
  if (limit === undefined || remaining === undefined) return undefined;
  return {
    limit: limit.pulls,
    remaining: remaining.pulls,
    windowSeconds: limit.windowSeconds ?? remaining.windowSeconds ?? usualWindowSeconds,
    source: (headerOf(headers, 'docker-ratelimit-source') ?? '').slice(0, 200),
  };
}

function parseQuota(
  text: string | undefined,
): { pulls: number; windowSeconds: number | undefined } | undefined {
  const [, number, window] = /^(\d{1,16})(?:;w=(\d{1,16}))?$/.exec(text?.trim() ?? '') ?? [];
  const pulls = parseDecimal(number);
  const seconds = parseDecimal(window) ?? 0;
  const windowSeconds = seconds > 0 && seconds <= longestWindowSeconds ? seconds : undefined;
  return pulls === undefined ? undefined : { pulls, windowSeconds };
}
