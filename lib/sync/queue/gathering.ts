/** What comes while the work for those before is under way is gathered, and done at once: a flood costs little more than one. */
import { HubferryError } from '../../errors.ts';

interface Waiting<Item, Result> {
  readonly item: Item;
  /** Milliseconds since the epoch. */
  readonly since: number;
  readonly outcome: PromiseWithResolvers<Result>;
}

export interface GatheringOptions<Item, Result> {
  /** One result for each item, in their order. Where it throws, it has failed for all of them. */
  readonly work: (items: readonly Item[]) => Promise<readonly Result[]>;
  /** The most items that are done at once. */
  readonly most: number;
  /** Who waited longer, in milliseconds, is sent away instead of being done. */
  readonly patienceMs: number;
}

export class Gathering<Item, Result> {
  readonly #options: GatheringOptions<Item, Result>;
  #waiting: Waiting<Item, Result>[] = [];
  #busy = false;

  constructor(options: GatheringOptions<Item, Result>) {
    this.#options = options;
  }

  /** @throws ERR_STORAGE where too much came before: nothing was done, and it may come again */
  add(item: Item): Promise<Result> {
    const outcome = Promise.withResolvers<Result>();
    this.#waiting.push({ item, since: Date.now(), outcome });
    if (!this.#busy) void this.#run();
    return outcome.promise;
  }

  async #run(): Promise<void> {
    this.#busy = true;
    while (this.#waiting.length > 0) await this.#doSome();
    this.#busy = false;
  }

  async #doSome(): Promise<void> {
    const taken = this.#waiting.splice(0, this.#options.most);
    const late = Date.now() - this.#options.patienceMs;
    for (const { outcome } of taken.filter(({ since }) => since < late)) outcome.reject(overloaded());
    const items = taken.filter(({ since }) => since >= late);
    if (items.length === 0) return;
    try {
      const results = await this.#options.work(items.map(({ item }) => item));
      for (const [index, result] of results.entries()) items[index]?.outcome.resolve(result);
    } catch (error) {
      for (const { outcome } of items) outcome.reject(error);
    }
  }
}

function overloaded(): HubferryError {
  return new HubferryError('ERR_STORAGE', 'More comes in than storage takes: come again', {
    retryable: true,
  });
}
