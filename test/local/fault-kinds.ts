/** What can go wrong between a client and its peer, as data. */
import type { Random } from './random.ts';

/** Which body it happens to: what the client sends, or what the peer answers. */
export type Side = 'request' | 'response';

/** Positions count bytes of a body. One behind its announced end means its last byte. */
export type Fault =
  /** The connection breaks after so many bytes of the body. A reset overtakes what was sent, so fewer may arrive. */
  | { readonly kind: 'reset'; readonly side: Side; readonly after: number }
  /** After so many bytes nothing more comes, and the connection stays open. */
  | { readonly kind: 'stall'; readonly side: Side; readonly after: number }
  /** The body comes a few bytes at a time. */
  | { readonly kind: 'drip'; readonly side: Side; readonly bytes: number; readonly everyMs: number }
  /** The answer's body ends early, in good order as far as its framing lets it. */
  | { readonly kind: 'truncate'; readonly after: number }
  /** One byte of the body is another. */
  | { readonly kind: 'corrupt'; readonly side: Side; readonly at: number }
  /** The answer's Content-Length is wrong by so much; the connection closes after the true body. */
  | { readonly kind: 'length'; readonly by: number }
  | StatusFault
  /** The peer's answer comes so much later. */
  | { readonly kind: 'delay'; readonly ms: number }
  /** A half-open connection: the request is taken, nothing is ever answered, and the peer never hears of it. */
  | { readonly kind: 'silence' }
  /** The peer does what it was asked, and the connection breaks instead of the answer. */
  | { readonly kind: 'lose' }
  /** The connection breaks, and for so long no other is accepted. */
  | { readonly kind: 'refuse'; readonly ms: number }
  /** Somebody else is first with what is asked (`FaultProxyOptions.overtake`). */
  | { readonly kind: 'overtaken' };

/** This answer, and the peer never hears of the request. */
export interface StatusFault {
  readonly kind: 'status';
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

export type FaultKind = Fault['kind'];

/** The forms that a Retry-After takes in the wild (RFC 9110 section 10.2.3 allows the first two). */
export const retryAfterForms = [
  'seconds',
  'date',
  'past',
  'zero',
  'negative',
  'fraction',
  'text',
  'empty',
  'absent',
] as const;
export type RetryAfterForm = (typeof retryAfterForms)[number];

/** A refusal for now, with a Retry-After of this form that means about so many seconds where it means anything. */
export function busy(form: RetryAfterForm, seconds = 1, status = 429): Fault {
  const headers = retryAfter(form, seconds);
  return { kind: 'status', status, headers: headers === undefined ? {} : { 'retry-after': headers } };
}

function retryAfter(form: RetryAfterForm, seconds: number): string | undefined {
  switch (form) {
    case 'seconds':
      return String(seconds);
    case 'date':
      return new Date(Date.now() + seconds * 1000).toUTCString();
    case 'past':
      return new Date(Date.now() - 3_600_000).toUTCString();
    case 'zero':
      return '0';
    case 'negative':
      return String(-seconds);
    case 'fraction':
      return (seconds + 0.5).toFixed(1);
    case 'text':
      return 'soon';
    case 'empty':
      return '';
    case 'absent':
      return undefined;
  }
}

export interface FaultBounds {
  /** Longest time that a fault of its own accord takes. @default 50 */
  readonly maxMs?: number | undefined;
  /** Of `status` faults. @default those that mean: again, please */
  readonly statuses?: readonly number[] | undefined;
  /** Whole answers of `status` faults, beside those. */
  readonly answers?: readonly StatusFault[] | undefined;
}

const passingStatuses = [408, 429, 500, 502, 503, 504];
const sides = ['request', 'response'] as const;

/** Draws the particulars of a fault. */
export function drawFault(kind: FaultKind, random: Random, bounds: FaultBounds = {}): Fault {
  const maxMs = bounds.maxMs ?? 50;
  const side = random.pick(sides);
  // Small positions as likely as large ones: headers of a format, one chunk, many chunks.
  const position = Math.floor(2 ** (random.next() * 24)) - 1;
  switch (kind) {
    case 'reset':
    case 'stall':
      return { kind, side, after: position };
    case 'drip':
      return { kind, side, bytes: random.between(1, 64 * 1024), everyMs: random.between(0, maxMs + 1) };
    case 'truncate':
      return { kind, after: position };
    case 'corrupt':
      return { kind, side, at: position };
    case 'length':
      return { kind, by: random.pick([-1, 1]) * random.between(1, 100) };
    case 'status': {
      const status = random.pick([...(bounds.statuses ?? passingStatuses), ...(bounds.answers ?? [])]);
      if (typeof status === 'object') return status;
      return status === 429 || status === 503
        ? busy(random.pick(retryAfterForms), 1, status)
        : { kind, status };
    }
    case 'delay':
    case 'refuse':
      return { kind, ms: random.between(0, maxMs + 1) };
    case 'silence':
    case 'lose':
    case 'overtaken':
      return { kind };
  }
}
