/** Memory for chunks, taken from one budget. */
import { blockBytes, giveBack, isLent, returnBlock, takeBlock } from '../oci/memory.ts';
import { SharedBudget } from './concurrency.ts';

export class ChunkMemory {
  readonly #budget: SharedBudget;

  /** @param kept what of it is left to those who do not yield */
  constructor(total: number, kept = 0) {
    this.#budget = new SharedBudget(total, kept);
  }

  /** Bytes that all chunks together may hold. */
  totalFor(yields: boolean): number {
    return this.#budget.totalFor(yields);
  }

  /** An empty chunk with room for so many bytes (at most the total), as soon as there is room for it. */
  async take(size: number, signal: AbortSignal, yields = false): Promise<Chunk> {
    const capacity = Math.min(size, this.totalFor(yields));
    // A small blob does not hold a block of which it uses little; of larger ones the last is held whole.
    const held = capacity < blockBytes ? capacity : Math.ceil(capacity / blockBytes) * blockBytes;
    return new Chunk(capacity, await this.#budget.acquire(held, yields, signal));
  }
}

/** So many bytes that are sent in one request. */
export class Chunk {
  readonly capacity: number;
  readonly #pieces: Uint8Array[] = [];
  #length = 0;
  /** Where pieces are copied to, and how far the last one is filled. */
  readonly #own: Buffer<ArrayBuffer>[] = [];
  #filled = 0;
  /** How many blocks of others are held, and the last of them. */
  #held = 0;
  #last: ArrayBufferLike | undefined;
  #release: (() => void) | undefined;

  constructor(capacity: number, release: () => void) {
    this.capacity = capacity;
    this.#release = release;
  }

  get length(): number {
    return this.#length;
  }

  /** Takes as much of the bytes as there is room for, and tells how many those were. What was lent is given back here. */
  add(bytes: Uint8Array): number {
    const piece = bytes.subarray(0, this.capacity - this.#length);
    this.#length += piece.length;
    if (this.#mayHold(piece)) this.#append(piece);
    else this.#copy(piece);
    return piece.length;
  }

  /**
   * Lent memory is held as it is, unless so little of each block came that far more would be held than the budget knows
   * of: up to a sixteenth of a block stays empty, and the first and the last may be shared with the chunks beside.
   */
  #mayHold(piece: Uint8Array): boolean {
    if (this.capacity < blockBytes || !isLent(piece)) return false;
    if (piece.buffer === this.#last) return true;
    if (this.#held > (this.capacity / blockBytes) * (17 / 16) + 1) return false;
    this.#held += 1;
    this.#last = piece.buffer;
    return true;
  }

  #append(piece: Uint8Array): void {
    const before = this.#pieces.at(-1);
    const follows = before?.buffer === piece.buffer && before.byteOffset + before.length === piece.byteOffset;
    if (!follows) this.#pieces.push(piece);
    else
      this.#pieces.splice(-1, 1, Buffer.from(piece.buffer, before.byteOffset, before.length + piece.length));
  }

  #copy(piece: Uint8Array): void {
    for (let at = 0; at < piece.length; ) {
      const room = this.#room();
      const length = Math.min(piece.length - at, room.length);
      room.set(piece.subarray(at, at + length));
      this.#append(room.subarray(0, length));
      this.#filled += length;
      at += length;
    }
    giveBack(piece);
  }

  /** What is left of the chunk's own memory. */
  #room(): Buffer<ArrayBuffer> {
    let own = this.#own.at(-1);
    if (own === undefined || this.#filled === own.length) {
      own = this.capacity < blockBytes ? Buffer.allocUnsafeSlow(this.capacity) : takeBlock();
      this.#own.push(own);
      this.#filled = 0;
    }
    return own.subarray(this.#filled);
  }

  /** The bytes, without a copy: valid until the chunk is released or cleared. */
  pieces(): readonly Uint8Array[] {
    return [...this.#pieces];
  }

  /** Empties the chunk for another filling. */
  clear(): void {
    for (const piece of this.#pieces.splice(0)) giveBack(piece);
    for (const own of this.#own.splice(0)) if (own.length === blockBytes) returnBlock(own);
    this.#length = 0;
    this.#filled = 0;
    this.#held = 0;
    this.#last = undefined;
  }

  /** Gives the memory back, with what is in it; a second call does nothing. */
  release(): void {
    this.#release?.();
    this.#release = undefined;
    this.clear();
  }
}
