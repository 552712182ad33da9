import type { Share } from './concurrency.ts';

/**
 * What one transfer may hold of the memory for chunks: the chunk that is being sent and the one that is being filled, which
 * grows into what the first one gives back.
 */
export class Allotment {
  readonly #share: Share;
  #size: number;
  #used = 0;
  #holders = 0;
  #change: PromiseWithResolvers<void> | undefined;

  constructor(share: Share) {
    this.#share = share;
    this.#size = share.amount;
  }

  /** Bytes that may be used now. */
  get free(): number {
    return Math.max(0, Math.min(this.#size, this.#share.amount) - this.#used);
  }

  use(bytes: number): void {
    this.#used += bytes;
  }

  giveBack(bytes: number): void {
    this.#used -= bytes;
    this.#shrink();
    this.changed();
  }

  /**
   * May hold so much from now on, as soon as no more is used; more than before only where that is free at once.
   * @returns how much
   */
  resize(bytes: number): number {
    this.#size = bytes;
    if (bytes > this.#share.amount) this.#share.resize(bytes);
    this.#shrink();
    return Math.min(bytes, this.#share.amount);
  }

  #shrink(): void {
    const least = Math.max(this.#size, this.#used);
    if (least < this.#share.amount) this.#share.resize(least);
  }

  /** Something was given back, or can be had for the asking. */
  changed(): void {
    this.#change?.resolve();
    this.#change = undefined;
  }

  /** Waits for the next change. */
  nextChange(): Promise<void> {
    this.#change ??= Promise.withResolvers();
    return this.#change.promise;
  }

  enter(): void {
    this.#holders += 1;
  }

  /** All is left to others when the last one has gone. */
  leave(): void {
    this.#holders -= 1;
    if (this.#holders === 0) this.#share.release();
  }
}
