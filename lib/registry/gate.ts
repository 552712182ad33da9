import { HubferryError } from '../errors.ts';
import { type Clock, systemClock } from './clock.ts';

/** A pull limit holds up only what it counts; anything else goes on. */
export type Traffic = 'everything' | 'pulls';

export interface GateWait {
  readonly traffic: Traffic;
  /** The longest wait; anything longer is an error at once. */
  readonly maxWaitMs: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * What a host asked for by `Retry-After` is kept by everything that goes there, and one that refuses without a time is
 * asked ever more slowly. Share one gate between all registries of a process.
 */
export interface HostGate {
  /**
   * Resolves when a request may go to this host.
   * @throws ERR_RATE_LIMITED with `retryAt` when that is too far away, or the patience with a host that refuses everything is at its end.
   */
  wait(host: string, wait: GateWait): Promise<void>;
  /** Nothing of this traffic goes to the host before `until` (milliseconds since the epoch); never moved to an earlier time. */
  close(host: string, until: number, traffic?: Traffic): void;
  /**
   * The host refused and named no time (a bare 429): nothing goes there for seconds, and for longer where that did not help.
   * @param sentAt when it was asked, in milliseconds since the epoch
   * @returns until when, in milliseconds since the epoch
   */
  refuse(host: string, sentAt: number): number;
  /** The host did what it was asked, or had a reason of its own not to: its refusals are of some requests only. */
  served(host: string): void;
}

const firstRefusalMs = 2000;
const longestRefusalMs = 60_000;

/** How long a host that refuses is left alone. */
interface Refusal {
  readonly ms: number;
  /** Milliseconds since the epoch. */
  readonly until: number;
  /** When it began to refuse all that it is asked; `undefined` where it served something after that. */
  readonly since: number | undefined;
}

export interface HostGateOptions {
  readonly clock?: Clock;
  /** How long anybody waits for a host that refuses all that it is asked, in milliseconds. @default for ever */
  readonly patienceMs?: number;
  /** Told when requests to a host begin to wait, and until when. */
  readonly onWaiting?: (host: string, until: number) => void;
}

export function createHostGate(options: HostGateOptions = {}): HostGate {
  const { clock = systemClock, patienceMs = Number.POSITIVE_INFINITY } = options;
  const closed = new Map<string, number>();
  const refusals = new Map<string, Refusal>();
  const told = new Map<string, number>();

  const until = (host: string, traffic: Traffic): number => {
    const everything = closed.get(key(host, 'everything')) ?? 0;
    return traffic === 'everything' ? everything : Math.max(everything, closed.get(key(host, 'pulls')) ?? 0);
  };
  const tell = (host: string, time: number): void => {
    if (told.get(host) === time) return;
    told.set(host, time);
    options.onWaiting?.(host, time);
  };

  const close = (host: string, time: number, traffic: Traffic = 'everything'): void => {
    const at = key(host, traffic);
    closed.set(at, Math.max(closed.get(at) ?? 0, time));
  };
  /** Each of those who wait would be refused a minute after the other, and nothing be done. */
  const isHopeless = (host: string, time: number): boolean => {
    const { until, since } = refusals.get(host) ?? {};
    return until === time && since !== undefined && clock.now() - since >= patienceMs;
  };
  /** Those that were refused together do not come back together. */
  const spread = (host: string, time: number): number => {
    const refusal = refusals.get(host);
    return refusal?.until === time ? (Math.random() * refusal.ms) / 2 : 0;
  };

  return {
    async wait(host, { traffic, maxWaitMs, signal }) {
      // Closed again while it waited: wait again.
      for (let time = until(host, traffic); time > clock.now(); time = until(host, traffic)) {
        const waitMs = time - clock.now();
        if (waitMs > maxWaitMs) throw tooLong(host, time);
        if (isHopeless(host, time)) throw limited('refuses everything, and is left alone until', host, time);
        tell(host, time);
        await clock.sleep(waitMs + spread(host, time), signal);
      }
    },
    close,
    refuse(host, sentAt) {
      const now = clock.now();
      const before = refusals.get(host);
      if (before !== undefined && now < before.until) return before.until;
      const isNoBetter = before !== undefined && sentAt < before.until + 2 * before.ms;
      const ms = isNoBetter ? nextMs(before, sentAt) : firstRefusalMs;
      const until = Math.ceil(now + ms * (0.5 + Math.random() / 2));
      refusals.set(host, { ms, until, since: (isNoBetter ? before.since : undefined) ?? now });
      close(host, until);
      return until;
    },
    served(host) {
      const refusal = refusals.get(host);
      if (refusal?.since !== undefined) refusals.set(host, { ...refusal, since: undefined });
    },
  };
}

/** What was sent before the host was left alone tells nothing new. */
function nextMs({ ms, until }: Refusal, sentAt: number): number {
  return sentAt < until ? ms : Math.min(2 * ms, longestRefusalMs);
}

function key(host: string, traffic: Traffic): string {
  return `${traffic} ${host}`;
}

/** A host asks to come back later than anybody waits. */
export function tooLong(host: string, retryAt: number): HubferryError {
  return limited('asks for no request before', host, retryAt);
}

function limited(what: string, host: string, retryAt: number): HubferryError {
  const when = new Date(retryAt).toISOString();
  return new HubferryError('ERR_RATE_LIMITED', `${host} ${what} ${when}`, { retryable: true, retryAt });
}
