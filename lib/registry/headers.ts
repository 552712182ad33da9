/**
 * Readers of header fields, for texts that anyone may have written: what is not understood is `undefined`, nothing throws,
 * and time is linear in the length.
 */

/** Field names in lower case; a field sent several times is a list. */
export type ResponseHeaders = Readonly<Record<string, string | string[] | undefined>>;

/** The first value of a field. */
export function headerOf(headers: ResponseHeaders, name: string): string | undefined {
  const value = Object.hasOwn(headers, name) ? headers[name] : undefined;
  return Array.isArray(value) ? value[0] : value;
}

/** Every value of a field, in order. */
export function headersOf(headers: ResponseHeaders, name: string): readonly string[] {
  const value = Object.hasOwn(headers, name) ? headers[name] : undefined;
  if (value === undefined) return [];
  return Array.isArray(value) ? value : [value];
}

/** A number of bytes or seconds: digits alone, within what a number holds exactly. */
export function parseDecimal(text: string | undefined): number | undefined {
  if (text === undefined || !/^\d{1,16}$/.test(text)) return undefined;
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : undefined;
}

export interface ByteRange {
  readonly first: number;
  /** Inclusive. */
  readonly last: number;
}

/** `0-1023`, as an upload's `Range` tells it (distribution-spec v1.1 "Pushing a blob in chunks"); `bytes=` may be in front. */
export function parseUploadRange(text: string | undefined): ByteRange | undefined {
  const match = /^(?:bytes=)?(\d{1,16})-(\d{1,16})$/.exec(text?.trim() ?? '');
  const first = parseDecimal(match?.[1]);
  const last = parseDecimal(match?.[2]);
  if (first === undefined || last === undefined || last < first) return undefined;
  return { first, last };
}

/** `bytes 500-999/1234` of a partial answer (RFC 9110 section 14.4). */
export function parseContentRange(text: string | undefined): ByteRange | undefined {
  const match = /^bytes[ \t]+(\d{1,16}-\d{1,16})\/(?:\*|\d{1,16})$/i.exec(text?.trim() ?? '');
  return parseUploadRange(match?.[1]);
}

/** Nobody means a time that is further away: milliseconds that were sent for seconds, or a joke. */
const longestWaitMs = 366 * 24 * 3600_000;

/**
 * When to come back, in milliseconds since the epoch: `Retry-After` as seconds or as a date (RFC 9110 section 10.2.3),
 * else `X-Retry-After` as a Unix time, as Docker Hub's web API sends it. The later one of both counts.
 */
export function parseRetryAfter(headers: ResponseHeaders, now: number): number | undefined {
  const times = [
    ...headersOf(headers, 'retry-after').map((text) => retryTime(text.trim(), now)),
    ...headersOf(headers, 'x-retry-after').map((text) => unixTime(text.trim())),
  ].filter((time) => time !== undefined && time - now <= longestWaitMs) as number[];
  return times.length === 0 ? undefined : Math.max(...times);
}

/** Seconds; proxies write parts of them, and join the values of two fields. */
const delaysShape = /^\d{1,16}(?:\.\d{1,9})?(?:\s*,\s*\d{1,16}(?:\.\d{1,9})?)*$/;

function retryTime(text: string, now: number): number | undefined {
  if (!delaysShape.test(text)) return httpDate(text);
  return now + Math.max(...text.split(',').map((seconds) => Math.ceil(Number(seconds) * 1000)));
}

/** A time in seconds since 2001, or a short delay: the field is no standard. */
function unixTime(text: string): number | undefined {
  const seconds = parseDecimal(text);
  return seconds === undefined ? undefined : seconds * 1000;
}

// The three forms of RFC 9110 section 5.6.7 begin with the name of a day; `Date.parse` alone takes far more than dates.
const httpDateShape = /^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? [\w :-]{10,40}$/;
const endsWithoutZone = /:\d\d(?: \d{4})?$/;

function httpDate(text: string): number | undefined {
  if (!httpDateShape.test(text)) return undefined;
  // The third form names no zone, and all are UTC.
  const time = Date.parse(endsWithoutZone.test(text) ? `${text} GMT` : text);
  return Number.isNaN(time) ? undefined : time;
}

/** The target of the first link with `rel="next"` (RFC 8288), as written. */
export function parseNextLink(values: readonly string[]): string | undefined {
  for (const value of values) {
    for (const link of links(value)) {
      if (link.relations.includes('next')) return link.target;
    }
  }
  return undefined;
}

interface Link {
  readonly target: string;
  readonly relations: readonly string[];
}

function* links(value: string): Generator<Link> {
  let at = 0;
  while (at < value.length) {
    const open = value.indexOf('<', at);
    const close = value.indexOf('>', open);
    if (open === -1 || close === -1) return;
    const end = endOfElement(value, close + 1);
    yield { target: value.slice(open + 1, close), relations: relationsIn(value.slice(close + 1, end)) };
    at = end + 1;
  }
}

/** The comma that ends a list element: the first one outside of quotes. */
function endOfElement(value: string, start: number): number {
  let quoted = false;
  for (let at = start; at < value.length; at++) {
    const char = value[at];
    if (char === '"') quoted = !quoted;
    else if (char === '\\' && quoted) at++;
    else if (char === ',' && !quoted) return at;
  }
  return value.length;
}

// One after the other from the start (sticky): a quoted title may look like a parameter.
const linkParameter = /[ \t]*;[ \t]*([^=;,"\s]+)(?:[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^;,"\s]*)))?/gsy;

function relationsIn(parameters: string): readonly string[] {
  for (const [, name = '', quoted, plain = ''] of parameters.matchAll(linkParameter)) {
    if (name.toLowerCase() === 'rel') return (quoted ?? plain).toLowerCase().split(/[ \t]+/);
  }
  return [];
}
