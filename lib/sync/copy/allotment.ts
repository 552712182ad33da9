import type { Share } from '../concurrency.ts';

/** What all transfers hold together. */
export interface Lot {
  /** Bytes that they may hold more now. */
  growable(): number;
  /** One of them holds nothing any more. */
  ended(): void;
}

/**
 * What one transfer holds of the memory for chunks: the chunk that is being sent and the one that is being filled, which
 * grows into what the first one gives back. It grows with what is read, so that slow transfers leave the rest to others.
 */
export class Allotment {
  readonly #share: Share;
  readonly #least: number;
  readonly #lot: Lot;
  #most: number;
  #used = 0;
  #holders = 0;
  #change: PromiseWithResolvers<void> | undefined;

  /**
   * @param share what it has from beginning to end
   * @param most bytes that it may come to hold
   */
  constructor(share: Share, most: number, lot: Lot) {
    this.#share = share;
    this.#least = share.amount;
    this.#most = most;
    this.#lot = lot;
  }

  /** Bytes that may be used now. */
  get free(): number {
    return Math.max(0, Math.min(Math.max(this.#most, this.#least), this.#share.amount) - this.#used);
  }

  /** Bytes that may be used in all, with what others leave now. */
  get reach(): number {
    const had = this.#share.amount + Math.max(0, this.#lot.growable());
    return Math.min(Math.max(this.#most, this.#least), had);
  }

  use(bytes: number): void {
    this.#used += bytes;
  }

  giveBack(bytes: number): void {
    this.#used -= bytes;
    this.#shrinkTo(this.#most);
    this.changed();
  }

  /** May come to hold so much from now on; what it uses it keeps until that is given back. */
  resize(most: number): void {
    this.#most = most;
    this.#shrinkTo(most);
  }

  /** Takes so much more than is used, where that is free. */
  grow(bytes: number): void {
    const more = this.#used + bytes - this.#share.amount;
    if (more <= 0 || this.#used + bytes > this.#most) return;
    if (more <= this.#lot.growable()) this.#share.resize(this.#share.amount + more);
  }

  #shrinkTo(bytes: number): void {
    const least = Math.max(bytes, this.#used, this.#least);
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

  /** What is not used is left to others; when the last one has gone, all. Who waited for more of its memory knows now. */
  leave(): void {
    this.#holders -= 1;
    this.#shrinkTo(0);
    this.changed();
    if (this.#holders > 0) return;
    this.#share.release();
    this.#lot.ended();
  }
}
