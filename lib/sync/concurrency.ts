/** What keeps concurrent work within bounds: a budget that is shared, and a flight that is flown once. */
import { HubferryError } from '../errors.ts';

/** Work that ended because it was asked to stop (deadline, Ctrl-C, pause), with its state saved. */
export class StoppedError extends HubferryError {
  override readonly name = 'StoppedError';

  constructor(message: string) {
    super('ERR_INTERRUPTED', message, { retryable: true });
  }
}

/** Why something is stopped. */
export const late = 'The deadline is near';

interface Waiting {
  readonly amount: number;
  grant(): void;
}

/** A fixed amount (slots, bytes) handed out first come, first served. */
export class Budget {
  readonly total: number;
  #free: number;
  readonly #queue: Waiting[] = [];

  constructor(total: number) {
    this.total = total;
    this.#free = total;
  }

  /** Holders at this moment, counted in units of the budget. */
  get used(): number {
    return this.total - this.#free;
  }

  /** Waits for an amount, which is at most the total. */
  async take(amount: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (!this.tryTake(amount)) await this.#wait(amount, signal);
  }

  /** Takes an amount that is free at once; else nothing. */
  tryTake(amount: number): boolean {
    if (this.#queue.length > 0 || this.#free < amount) return false;
    this.#free -= amount;
    return true;
  }

  giveBack(amount: number): void {
    this.#free += amount;
    this.#grant();
  }

  #wait(amount: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const abort = () => {
        this.#queue.splice(this.#queue.indexOf(waiting), 1);
        this.#grant();
        reject(signal?.reason);
      };
      const waiting: Waiting = {
        amount,
        grant: () => {
          signal?.removeEventListener('abort', abort);
          resolve();
        },
      };
      signal?.addEventListener('abort', abort, { once: true });
      this.#queue.push(waiting);
    });
  }

  #grant(): void {
    for (let next = this.#queue[0]; next !== undefined && next.amount <= this.#free; next = this.#queue[0]) {
      this.#queue.shift();
      this.#free -= next.amount;
      next.grant();
    }
  }
}

/** What somebody holds of a budget. */
export class Share {
  readonly #budgets: readonly Budget[];
  #amount: number;

  /** @param budgets each of which it is a part of */
  constructor(budgets: readonly Budget[], amount: number) {
    this.#budgets = budgets;
    this.#amount = amount;
  }

  get amount(): number {
    return this.#amount;
  }

  /** Holds so much from now on; more than before only where that is free at once. */
  resize(amount: number): void {
    const more = amount - this.#amount;
    if (more > 0 && !this.#tryTake(more)) return;
    this.#amount = amount;
    if (more < 0) for (const budget of this.#budgets) budget.giveBack(-more);
  }

  /** A second call does nothing. */
  release(): void {
    this.resize(0);
  }

  #tryTake(amount: number): boolean {
    const refusing = this.#budgets.findIndex((budget) => !budget.tryTake(amount));
    for (const budget of this.#budgets.slice(0, Math.max(0, refusing))) budget.giveBack(amount);
    return refusing === -1;
  }
}

/** A budget of which those who yield leave a part to all others. */
export class SharedBudget {
  readonly #all: Budget;
  readonly #yielding: Budget;

  /** @param kept what is left to those who do not yield; something is left to all */
  constructor(total: number, kept: number) {
    this.#all = new Budget(total);
    this.#yielding = new Budget(Math.max(1, total - kept));
  }

  /** Holders at this moment, counted in units of the budget. */
  get used(): number {
    return this.#all.used;
  }

  /** What is left of all, or of what those who yield may hold. */
  freeOf(yields: boolean): number {
    const { total, used } = yields ? this.#yielding : this.#all;
    return total - used;
  }

  /** All that may be held at once. */
  totalFor(yields: boolean): number {
    return yields ? this.#yielding.total : this.#all.total;
  }

  /** Waits for an amount: at most all that may be held at once. */
  async acquire(amount: number, yields: boolean, signal?: AbortSignal): Promise<Share> {
    const wanted = Math.min(amount, this.totalFor(yields));
    const budgets = yields ? [this.#yielding, this.#all] : [this.#all];
    const taken: Budget[] = [];
    try {
      for (const budget of budgets) {
        await budget.take(wanted, signal);
        taken.push(budget);
      }
    } catch (error) {
      for (const budget of taken) budget.giveBack(wanted);
      throw error;
    }
    return new Share(budgets, wanted);
  }
}

/** Callers that want the same key at the same time share one piece of work. */
export class SingleFlight<T> {
  readonly #flights = new Map<string, { readonly result: Promise<T>; readonly by: string }>();

  has(key: string): boolean {
    return this.#flights.has(key);
  }

  /**
   * Starts the work, or joins what is under way. Where somebody else's work ends because *they* were stopped, the
   * caller does it itself: one's stop is not the other's.
   * @param by on whose behalf: nor is the failure of one that of another
   */
  async run(key: string, signal: AbortSignal, start: () => Promise<T>, by = ''): Promise<T> {
    for (;;) {
      signal.throwIfAborted();
      const joined = this.#flights.get(key);
      if (joined === undefined) return this.#own(key, start, by);
      try {
        return await unlessAborted(joined.result, signal);
      } catch (error) {
        const isShared = joined.by === by && !(error instanceof StoppedError);
        if (signal.aborted || isShared) throw error;
      }
    }
  }

  #own(key: string, start: () => Promise<T>, by: string): Promise<T> {
    const result = start().finally(() => this.#flights.delete(key));
    this.#flights.set(key, { result, by });
    return result;
  }
}

/** Work that many ask for at once: who comes while it is done shares the next round, which sees all that they did before. */
export class Rounds<T> {
  readonly #rounds = new Map<string, { readonly now: Promise<T>; next?: Promise<T> }>();

  run(key: string, work: () => Promise<T>): Promise<T> {
    const round = this.#rounds.get(key);
    if (round === undefined) return this.#begin(key, work);
    const begin = () => this.#begin(key, work);
    round.next ??= round.now.then(begin, begin);
    return round.next;
  }

  #begin(key: string, work: () => Promise<T>): Promise<T> {
    const round: { readonly now: Promise<T>; next?: Promise<T> } = { now: work() };
    this.#rounds.set(key, round);
    const end = () => {
      if (round.next === undefined) this.#rounds.delete(key);
    };
    round.now.then(end, end);
    return round.now;
  }
}

/** The promise's outcome, or the signal's reason as soon as it is aborted; the work itself goes on. */
export function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) return abort();
    signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}

/** Stops work after so many milliseconds. */
export function deadline(afterMs: number): AbortSignal {
  const stop = new AbortController();
  setTimeout(() => stop.abort(new StoppedError(late)), afterMs).unref();
  return stop.signal;
}

/** Follows another signal so many milliseconds later, with its reason. */
export function after(signal: AbortSignal, ms: number): AbortSignal {
  const later = new AbortController();
  const begin = () => void setTimeout(() => later.abort(signal.reason), ms).unref();
  if (signal.aborted) begin();
  else signal.addEventListener('abort', begin, { once: true });
  return later.signal;
}

/** Applies a function to each item, at most `width` at a time; the first failure stops the rest and is thrown. */
export async function forEachOf<T>(
  items: Iterable<T> | AsyncIterable<T>,
  width: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const iterator = Symbol.asyncIterator in items ? items[Symbol.asyncIterator]() : items[Symbol.iterator]();
  let failed = false;
  const lane = async () => {
    while (!failed) {
      const next = await iterator.next();
      if (next.done) return;
      try {
        await work(next.value);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  const lanes = await Promise.allSettled(Array.from({ length: width }, lane));
  for (const result of lanes) if (result.status === 'rejected') throw result.reason;
}
