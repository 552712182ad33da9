/**
 * Docker Hub's pull allowance, shared by all instances: who may pull now, and until when nobody may.
 *
 * A HEAD tells what is left for nothing, so the question is answered before a pull is spent. "No pulls before T" is kept in
 * storage under the name that Docker Hub counts by (`docker-ratelimit-source`), else under that of the login, and is never
 * undercut.
 */
import { createHash } from 'node:crypto';
import { HubferryError, PullLimitError } from '../../errors.ts';
import type { Allowance, Observer } from '../../oci/roles.ts';
import type { DocumentStore } from '../../storage/ports.ts';
import { unlessAborted } from '../concurrency.ts';
import { postpone, readTime } from '../shared-time.ts';
import { isSoon, longestWaitMs, notAtOnce, sleepUntil } from '../waiting.ts';

/** How long what storage said is believed, in milliseconds. */
const believedMs = 5000;
/** A pull that was admitted longer ago, in milliseconds, tells nothing new. */
const recentMs = 30_000;
/** Answers that are no further apart, in milliseconds, may come in another order than they were counted in. */
const aboutOnceMs = 1000;
/** While nobody who goes first has been answered, another one does after so many milliseconds. */
const firstMs = 1000;
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

/** One pull that may go. Until it is disposed of it counts, whatever HEADs tell meanwhile. */
export interface Admission extends Disposable {
  /** The source has served it, or does not have it. */
  answered(): void;
  /**
   * The source has refused it: nobody pulls before the time that it names (milliseconds since the epoch), or before the window
   * has some room again.
   * @returns the error to throw, which names that time.
   */
  refused(retryAt: number | undefined): Promise<PullLimitError>;
}

/** A pull that was admitted, with what its puller knew then: its answer tells something newer. */
interface Admitted {
  readonly key: string;
  readonly puller: Puller;
  readonly knew: Allowance | undefined;
  /** Milliseconds since the epoch. */
  readonly at: number;
  /** Of its account. */
  readonly round: number;
  /** Whether it has come to its end. */
  isOver: boolean;
}

/** A time before which nobody pulled is over: one pull goes first, and its answer tells those who waited with it what is left. */
class Opening {
  /** That time, in milliseconds since the epoch. */
  readonly at: number;
  /** Who was answered. */
  told: Puller | undefined;
  /** The last one who has gone first, and how many of them are under way. */
  first: object = this;
  underWay = 0;
  #news = Promise.withResolvers<void>();

  constructor(at: number) {
    this.at = at;
  }

  ended(puller: Puller, isAnswered: boolean): void {
    this.underWay -= 1;
    if (isAnswered) this.told ??= puller;
    this.#news.resolve();
    this.#news = Promise.withResolvers();
  }

  /** Resolves when somebody who went first has come to an end, or after a while. */
  async news(signal: AbortSignal): Promise<void> {
    const { promise: late, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, firstMs);
    await unlessAborted(Promise.race([this.#news.promise, late]), signal).finally(() => clearTimeout(timer));
  }
}

/** What this process knows of whom a registry counts as one. */
class Account {
  /** Nobody pulls before then, in milliseconds since the epoch. */
  closedUntil = 0;
  /** When storage was asked for that. */
  readAt = 0;
  /** Refusals with no pull in between that was served; of those that were sent together one counts. */
  refusalsInARow = 0;
  /** The next one of them that is counted is of a pull that was admitted in this round. */
  round = 0;
  /** By the pulls that are left to others: nobody waits for one who leaves more. */
  readonly #openings = new Map<number, Opening>();

  openingFor(reserve: number, at: number): Opening {
    const known = this.#openings.get(reserve);
    const opening = known !== undefined && known.at >= at ? known : new Opening(at);
    this.#openings.set(reserve, opening);
    return opening;
  }

  countRefusal({ round }: Pick<Admitted, 'round'>): void {
    if (round !== this.round) return;
    this.round += 1;
    this.refusalsInARow += 1;
  }

  /** A look at storage that began earlier may end later: the later time stands. */
  believe(told: number): number {
    this.closedUntil = Math.max(told, this.closedUntil);
    this.readAt = Date.now();
    return this.closedUntil;
  }
}

export class AllowanceKeeper {
  readonly #store: DocumentStore;
  /** By this process, lately; what others have under way shows when it is answered. */
  #admitted: Admitted[] = [];
  readonly #accounts = new Map<string, Account>();

  constructor(store: DocumentStore) {
    this.#store = store;
  }

  /**
   * Lets one pull pass; it waits where that is at most a minute away.
   * @param reserve pulls to leave for others.
   * @throws ERR_RATE_LIMITED with the time from which on it may be tried again; the signal's reason where it is aborted.
   */
  async admit(puller: Puller, reserve: number, signal: AbortSignal): Promise<Admission> {
    for (let seen = {}; ; ) {
      const opened = await this.#opened(puller, signal);
      if (puller.allowance === undefined) return this.#uncounted(puller);
      if (puller.toldAt > opened) return this.#counted(puller, puller, reserve, opened);
      // Whoever named that time has pulls from then on, whatever was left before: how many, the first one is told.
      const opening = this.#accountOf(keyOf(puller)).openingFor(reserve, opened);
      if (opening.told !== undefined) return this.#counted(puller, opening.told, reserve, opened);
      if (opening.underWay === 0 || opening.first === seen) return this.#first(puller, opening);
      seen = opening.first;
      await opening.news(signal);
    }
  }

  /** @param told who was told last what is left; nothing is counted where that was long ago */
  #counted(puller: Puller, told: Puller, reserve: number, opened: number): Admission {
    const { allowance, toldAt } = told;
    if (allowance === undefined || toldAt <= opened) return this.#uncounted(puller);
    if (this.#left(told, allowance, opened) <= Math.min(reserve, allowance.limit - 1))
      throw limited(puller.host, nextTry(allowance.windowSeconds));
    const admitted = this.#note(puller);
    this.#admitted.push(admitted);
    return this.#admission(admitted);
  }

  #first(puller: Puller, opening: Opening): Admission {
    const admitted = this.#note(puller);
    opening.first = admitted;
    opening.underWay += 1;
    this.#admitted.push(admitted);
    return this.#admission(admitted, (isAnswered) => opening.ended(puller, isAnswered));
  }

  #uncounted(puller: Puller): Admission {
    return this.#admission(this.#note(puller));
  }

  #note(puller: Puller): Admitted {
    const key = keyOf(puller);
    const { round } = this.#accountOf(key);
    return { key, puller, knew: puller.allowance, at: Date.now(), round, isOver: false };
  }

  #admission(admitted: Admitted, ended: (isAnswered: boolean) => void = () => {}): Admission {
    let isAnswered = false;
    return {
      answered: () => {
        isAnswered = true;
        this.#accountOf(admitted.key).refusalsInARow = 0;
      },
      refused: (retryAt) => this.#refused(admitted, retryAt),
      [Symbol.dispose]: () => {
        admitted.isOver = true;
        ended(isAnswered);
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

  async #refused(admitted: Admitted, retryAt: number | undefined): Promise<PullLimitError> {
    const { puller } = admitted;
    // The refusal may have told, for the first time, who is counted.
    const key = keyOf(puller);
    const account = this.#accountOf(key);
    account.countRefusal(admitted);
    const windowSeconds = puller.allowance?.windowSeconds ?? usualWindowSeconds;
    const least = Date.now() + leastWaitMs(account.refusalsInARow, windowSeconds);
    const until = Math.max(notAtOnce(retryAt ?? nextTry(windowSeconds)), least);
    // This process keeps it also where storage fails.
    account.believe(until);
    const all = account.believe(await postpone(this.#store, key, until));
    return new PullLimitError(limited(puller.host, all));
  }

  async #closedUntil(key: string): Promise<number> {
    const account = this.#accountOf(key);
    const { closedUntil, readAt } = account;
    if (Date.now() - readAt < believedMs || closedUntil > Date.now()) return closedUntil;
    return account.believe(await readTime(this.#store, key));
  }

  #accountOf(key: string): Account {
    const account = this.#accounts.get(key) ?? new Account();
    this.#accounts.set(key, account);
    return account;
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
