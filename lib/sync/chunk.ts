/** Memory for chunks, taken from one budget. */
import { blockBytes, giveBack, isLent, returnBlock, takeBlock } from '../oci/memory.ts';
import { SharedBudget } from './concurrency.ts';
import { chunkSizeFor } from './limits.ts';

/** Smaller ones are copied: what they held of blocks would be much beside what they are. */
const smallestHolder = 4 * blockBytes;
/** What a push may take although copies have left little: so much, or half of what is free. */
const smallestShare = 2 * blockBytes;

/** What a target says about sizes, in bytes. */
export interface ChunkBounds {
  readonly maxChunk: number | undefined;
  readonly minChunk: number;
}

export class ChunkMemory {
  readonly #budget: SharedBudget;
  readonly #kept: number;

  /** @param kept what of it is left to those who do not yield */
  constructor(total: number, kept = 0) {
    this.#budget = new SharedBudget(total, kept);
    this.#kept = kept;
  }

  /** Bytes that all chunks together may hold. */
  totalFor(yields: boolean): number {
    return this.#budget.totalFor(yields);
  }

  /** The size of the next chunk of one of so many transfers, in bytes. */
  sizeFor(transfers: number, bounds: ChunkBounds, yields: boolean): number {
    const size = chunkSizeFor(transfers, this.totalFor(yields), bounds);
    if (yields || this.#kept === 0) return size;
    return Math.max(
      Math.min(size, Math.max(smallestShare, Math.floor(this.#budget.free / 2))),
      bounds.minChunk,
    );
  }

  /**
   * An empty chunk with room for so many bytes (at most the total), as soon as there is room for it.
   * @param atLeast it is not full before it has so many bytes
   */
  async take(size: number, atLeast: number, signal: AbortSignal, yields = false): Promise<Chunk> {
    const capacity = Math.min(size, this.totalFor(yields));
    // The last block that it holds may stay empty, and what is missing then is copied beside it.
    const spare = capacity >= smallestHolder && atLeast > 0 ? blockBytes : 0;
    return new Chunk(capacity, atLeast, await this.#budget.acquire(capacity + spare, yields, signal));
  }
}

/** Bytes that are sent in one request. */
export class Chunk {
  readonly #capacity: number;
  readonly #atLeast: number;
  readonly #pieces: Uint8Array[] = [];
  #length = 0;
  /** Where pieces are copied to, and how far the last one is filled. */
  readonly #own: Buffer<ArrayBuffer>[] = [];
  #filled = 0;
  /** How many blocks it has, of its own and of others, and may have; and the last one of others. */
  #blocks = 0;
  readonly #mostBlocks: number;
  #last: ArrayBufferLike | undefined;
  #release: (() => void) | undefined;

  constructor(capacity: number, atLeast: number, release: () => void) {
    this.#capacity = capacity;
    this.#atLeast = atLeast;
    this.#mostBlocks = capacity < smallestHolder ? 0 : Math.floor(capacity / blockBytes);
    this.#release = release;
  }

  get length(): number {
    return this.#length;
  }

  /**
   * Takes as much of the bytes as there is room for, and tells how many those were: none where it is full. Lent memory is
   * held as it is until the chunk is released; what is copied of it is given back at once.
   */
  add(bytes: Uint8Array): number {
    const piece = bytes.subarray(0, this.#capacity - this.#length);
    if (piece.length === 0) return 0;
    if (!this.#mayHold(piece)) return this.#copy(piece);
    this.#append(piece);
    return piece.length;
  }

  /** Blocks are held whole, however little of each was read: where that is too little in all, no more of them are. */
  #mayHold(piece: Uint8Array): boolean {
    if (this.#mostBlocks === 0 || !isLent(piece)) return false;
    if (piece.buffer === this.#last) return true;
    const empty = this.#blocks * blockBytes - this.#length;
    if (this.#blocks >= this.#mostBlocks || empty > this.#capacity / 16) return false;
    this.#blocks += 1;
    this.#last = piece.buffer;
    return true;
  }

  #append(piece: Uint8Array): void {
    const before = this.#pieces.at(-1);
    const follows = before?.buffer === piece.buffer && before.byteOffset + before.length === piece.byteOffset;
    if (!follows) this.#pieces.push(piece);
    else
      this.#pieces.splice(-1, 1, Buffer.from(piece.buffer, before.byteOffset, before.length + piece.length));
    this.#length += piece.length;
  }

  #copy(piece: Uint8Array): number {
    let at = 0;
    for (let room = this.#room(); at < piece.length && room !== undefined; room = this.#room()) {
      const length = Math.min(piece.length - at, room.length);
      room.set(piece.subarray(at, at + length));
      this.#append(room.subarray(0, length));
      this.#filled += length;
      at += length;
    }
    giveBack(piece.subarray(0, at));
    return at;
  }

  /** What is left of the chunk's own memory; `undefined` where it is full. */
  #room(): Buffer<ArrayBuffer> | undefined {
    const last = this.#own.at(-1);
    if (last !== undefined && this.#filled < last.length) return last.subarray(this.#filled);
    const hasAll = this.#mostBlocks > 0 && this.#blocks >= this.#mostBlocks;
    const left = this.#capacity - this.#length;
    if (left === 0 || (hasAll && this.#length >= this.#atLeast)) return undefined;
    const own = left < blockBytes ? Buffer.allocUnsafeSlow(left) : takeBlock();
    this.#blocks += 1;
    this.#own.push(own);
    this.#filled = 0;
    return own;
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
    this.#blocks = 0;
    this.#last = undefined;
  }

  /** Gives the memory back, with what is in it; a second call does nothing. */
  release(): void {
    this.#release?.();
    this.#release = undefined;
    this.clear();
  }
}
