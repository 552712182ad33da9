/**
 * Docker Hub's pull allowance, shared by all instances: who may pull now, and until when nobody may.
 *
 * A HEAD tells what is left for nothing, so the question is answered before a pull is spent. "No pulls before T" is kept in
 * storage under the name that Docker Hub counts by (`docker-ratelimit-source`), else under that of the login, and is never
 * undercut.
 */
import { createHash } from 'node:crypto';
import { HubferryError, PullLimitError } from '../errors.ts';
import type { Allowance, Observer } from '../oci/roles.ts';
import type { DocumentStore } from '../storage/ports.ts';
import { unlessAborted } from './concurrency.ts';
import { postpone, readTime } from './shared-time.ts';
import { isSoon, longestWaitMs, notAtOnce, sleepUntil } from './waiting.ts';

/** How long what storage said is believed, in milliseconds. */
const believedMs = 5000;
/** A pull that was admitted longer ago, in milliseconds, tells nothing new. */
const recentMs = 30_000;
/** Answers that are no further apart, in milliseconds, may come in another order than they were counted in. */
const aboutOnceMs = 1000;
/** Refusals in a row that name a time close by: from then on it is believed no more, and one wait no longer follows the other. */
const mostInARow = 3;
/** Where no header tells the window: Docker Hub's has been six hours since there is one. */
const usualWindowSeconds = 6 * 3600;

/** Somebody who pulls, with the allowance as the registry told it to them last. */
export class Puller {
  readonly host: string;
  /** The user name; empty for everybody without one. */
  readonly login: string;
  allowance: Allowance | undefined;
  /** When it was told, in milliseconds since the epoch. */
  toldAt = 0;

  constructor(host: string, login: string) {
    this.host = host;
    this.login = login;
  }

  /** Tells the observer, and hears of the allowance too. */
  besides(observer: Observer): Observer {
    return {
      ...observer,
      onAllowance: (allowance) => {
        // A refusal may not say whom it counts: it is still the one that other answers name.
        this.allowance = { ...allowance, source: allowance.source || (this.allowance?.source ?? '') };
        this.toldAt = Date.now();
        observer.onAllowance?.(allowance);
      },
    };
  }
}

/** A pull that was admitted, with what its puller knew then: its answer tells something newer. */
interface Admitted {
  readonly key: string;
  readonly puller: Puller;
  readonly knew: Allowance | undefined;
  /** Milliseconds since the epoch. */
  readonly at: number;
  /** Whether it has come to its end. */
  isOver: boolean;
}

/** The pull that goes first after a time before which nobody pulled: its answer tells those who waited with it what is left. */
interface First {
  /** That time, in milliseconds since the epoch. */
  readonly opened: number;
  readonly puller: Puller;
  readonly over: Promise<void>;
  isOver: boolean;
}

/** Refusals with no pull in between that was none. */
interface Refusals {
  readonly count: number;
  /** Of the last one, in milliseconds since the epoch. */
  readonly at: number;
}

export class AllowanceKeeper {
  readonly #store: DocumentStore;
  /** By this process, lately; what others have under way shows when it is answered. */
  #admitted: Admitted[] = [];
  readonly #firsts = new Map<string, First>();
  readonly #refusals = new Map<string, Refusals>();
  readonly #closed = new Map<string, { until: number; readAt: number }>();

  constructor(store: DocumentStore) {
    this.#store = store;
  }

  /**
   * Lets one pull pass; it waits where that is at most a minute away.
   * @param reserve pulls to leave for others.
   * @returns to be disposed of when the pull is over: until then it counts, whatever HEADs tell meanwhile
   * @throws ERR_RATE_LIMITED with the time from which on it may be tried again; the signal's reason where it is aborted.
   */
  async admit(puller: Puller, reserve: number, signal: AbortSignal): Promise<Disposable> {
    for (;;) {
      const opened = await this.#opened(puller, signal);
      if (puller.allowance === undefined) return this.#pass(puller);
      if (puller.toldAt > opened) return this.#count(puller, puller, reserve, opened);
      // Whoever named that time has pulls from then on, whatever was left before: how many, the first one is told.
      const first = this.#firsts.get(keyOf(puller));
      if (first === undefined || first.opened < opened) return this.#goFirst(puller, opened);
      if (first.isOver && first.puller.toldAt <= opened) return this.#pass(puller);
      if (first.isOver) return this.#count(puller, first.puller, reserve, opened);
      await unlessAborted(first.over, signal);
    }
  }

  /** @param told who knows what is left */
  #count(puller: Puller, told: Puller, reserve: number, opened: number): Disposable {
    const { allowance } = told;
    if (allowance === undefined) return this.#pass(puller);
    if (this.#left(told, allowance, opened) <= Math.min(reserve, allowance.limit - 1))
      throw limited(puller.host, nextTry(allowance.windowSeconds));
    return this.#admit(puller);
  }

  #goFirst(puller: Puller, opened: number): Disposable {
    const { promise: over, resolve } = Promise.withResolvers<void>();
    const first: First = { opened, puller, over, isOver: false };
    this.#firsts.set(keyOf(puller), first);
    return this.#admit(puller, () => {
      first.isOver = true;
      resolve();
    });
  }

  #admit(puller: Puller, over = () => {}): Disposable {
    const admitted: Admitted = {
      key: keyOf(puller),
      puller,
      knew: puller.allowance,
      at: Date.now(),
      isOver: false,
    };
    this.#admitted.push(admitted);
    return this.#pass(puller, () => {
      admitted.isOver = true;
      over();
    });
  }

  #pass(puller: Puller, over = () => {}): Disposable {
    const key = keyOf(puller);
    const at = Date.now();
    return {
      [Symbol.dispose]: () => {
        if ((this.#refusals.get(key)?.at ?? at) < at) this.#refusals.delete(key);
        over();
      },
    };
  }

  /** @returns the last time before which nobody pulled, in milliseconds since the epoch */
  async #opened(puller: Puller, signal: AbortSignal): Promise<number> {
    for (;;) {
      const until = await this.#closedUntil(keyOf(puller));
      if (until <= Date.now()) return until;
      if (!isSoon(until)) throw limited(puller.host, until);
      await sleepUntil(until, signal);
    }
  }

  /** What a puller knows may be older than the pulls of others: those that are under way count too, and what they were told. */
  #left(told: Puller, { remaining }: Allowance, opened: number): number {
    const key = keyOf(told);
    const after = Date.now() - recentMs;
    this.#admitted = this.#admitted.filter(({ at, isOver }) => !isOver || at > after);
    let least = remaining;
    let underWay = 0;
    for (const { puller, knew, isOver } of this.#admitted.filter((pull) => pull.key === key)) {
      if (!isOver || puller.allowance === knew) underWay += 1;
      else if (puller.toldAt > Math.max(told.toldAt - aboutOnceMs, opened))
        least = Math.min(least, puller.allowance?.remaining ?? least);
    }
    return least - underWay;
  }

  /**
   * A pull was refused: nobody pulls before the time that the registry names, or before the window has some room again.
   * @returns the error to throw, which names that time.
   */
  async refused(puller: Puller, retryAt: number | undefined): Promise<PullLimitError> {
    return new PullLimitError(limited(puller.host, await this.#close(puller, retryAt)));
  }

  async #close(puller: Puller, retryAt: number | undefined): Promise<number> {
    const key = keyOf(puller);
    const windowSeconds = puller.allowance?.windowSeconds ?? usualWindowSeconds;
    const least = leastWaitMs(this.#countRefusal(key), windowSeconds);
    const until = Math.max(notAtOnce(retryAt ?? nextTry(windowSeconds)), Date.now() + least);
    // This process keeps it also where storage fails.
    this.#believe(key, until);
    return this.#believe(key, await postpone(this.#store, key, until));
  }

  /** @returns how many there are in a row; those that come while nobody pulls were sent with one that is counted */
  #countRefusal(key: string): number {
    const now = Date.now();
    const { count } = this.#refusals.get(key) ?? { count: 0 };
    const isOpen = (this.#closed.get(key)?.until ?? 0) <= now;
    const next = isOpen ? count + 1 : count;
    this.#refusals.set(key, { count: next, at: now });
    return next;
  }

  async #closedUntil(key: string): Promise<number> {
    const known = this.#closed.get(key);
    if (known !== undefined && (Date.now() - known.readAt < believedMs || known.until > Date.now()))
      return known.until;
    return this.#believe(key, await readTime(this.#store, key));
  }

  /** A look at storage that began earlier may end later: the later time stands. */
  #believe(key: string, told: number): number {
    const until = Math.max(told, this.#closed.get(key)?.until ?? 0);
    this.#closed.set(key, { until, readAt: Date.now() });
    return until;
  }
}

function keyOf({ host, login, allowance }: Puller): string {
  const account = createHash('sha256')
    .update(allowance?.source || login)
    .digest('hex')
    .slice(0, 16);
  return `allowance/${host}/${account}`;
}

/** Who asks again and again to come back soon is left alone for longer than anybody waits, and for longer and longer. */
function leastWaitMs(inARow: number, windowSeconds: number): number {
  if (inARow <= mostInARow) return 0;
  return Math.min(longestWaitMs * 2 ** (inARow - mostInARow), windowSeconds * (1000 / 6));
}

/** The window's reset is told by no header: a sixth of it later there is some room, and a HEAD then tells for nothing. */
function nextTry(windowSeconds: number): number {
  const wait = Math.max(windowSeconds / 6, 60) * 1000;
  return Date.now() + wait * (1 + Math.random() / 10);
}

function limited(host: string, until: number): HubferryError {
  const when = new Date(until).toISOString();
  return new HubferryError(
    'ERR_RATE_LIMITED',
    `The pull allowance at ${host} is used up until about ${when}`,
    {
      retryable: true,
      retryAt: until,
    },
  );
}
