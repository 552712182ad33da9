/** Memory for chunks, taken from one budget. */
import { blockBytes, giveBack, isLent, returnBlock, takeBlock } from '../../oci/memory.ts';
import type { BodyOwner } from '../../oci/roles.ts';
import { type Share, SharedBudget } from '../concurrency.ts';
import { Allotment } from './allotment.ts';
import { type ChunkSizes, chunkSizesFor, keptForBeginners, type Limits } from './limits.ts';

/** Smaller ones are copied: what they held of blocks would be much beside what they are. */
const smallestHolder = 4 * blockBytes;

export type MemoryLimits = Pick<Limits, 'blobs' | 'chunkMemory' | 'keptForPushes'>;

/** Smaller pieces are copied: what each takes beside its bytes would be much. */
const smallestPiece = 4 * 1024;

/** What a target says about sizes, in bytes. */
export interface ChunkBounds {
  readonly maxChunk: number | undefined;
  readonly minChunk: number;
}

export class ChunkMemory {
  readonly #budget: SharedBudget;
  /** For transfers that hold some of it: who yields has not all of these either. */
  readonly #places: { readonly all: number; readonly yielding: number };
  #holders = 0;
  #yieldingHolders = 0;

  constructor({ blobs, chunkMemory, keptForPushes: kept }: MemoryLimits) {
    this.#budget = new SharedBudget(chunkMemory, kept.chunkMemory);
    this.#places = { all: blobs, yielding: Math.max(1, blobs - kept.blobs) };
  }

  /** Bytes that all chunks together may hold. */
  totalFor(yields: boolean): number {
    return this.#budget.totalFor(yields);
  }

  /** What the next chunk of one of so many transfers may use. */
  sizesFor(transfers: number, bounds: ChunkBounds, yields: boolean): ChunkSizes {
    const places = yields ? this.#places.yielding : this.#places.all;
    return chunkSizesFor(transfers, places, this.totalFor(yields), bounds);
  }

  /** Whether all of a blob of so many bytes has room without waiting for others. */
  hasRoomFor(size: number, yields: boolean): boolean {
    return size + spareFor(size) <= Math.max(blockBytes, this.#growable(yields, 1));
  }

  /** An empty chunk for all of a blob of so many bytes (at most the total), as soon as there is room for it. */
  async takeWhole(size: number, signal: AbortSignal, yields = false): Promise<Chunk> {
    const share = await this.#budget.acquire(size + spareFor(size), yields, signal);
    const capacity = Math.min(size, share.amount);
    return new Chunk(capacity, 'holding all', this.#allot(share, share.amount, yields));
  }

  /**
   * The empty first chunk of a blob, as soon as there is a block for it; it grows as it is filled.
   * @param atLeast no chunk is full before it has so many bytes: there is room for these from the beginning
   */
  async takeFirst(
    { chunk, share: most }: ChunkSizes,
    atLeast: number,
    signal: AbortSignal,
    yields = false,
  ): Promise<Chunk> {
    const least = Math.max(1, Math.ceil(atLeast / blockBytes)) * blockBytes;
    const share = await this.#budget.acquire(least, yields, signal);
    const capacity = Math.min(chunk, this.totalFor(yields));
    return new Chunk(capacity, atLeast > 0 ? 'copying' : 'holding', this.#allot(share, most, yields));
  }

  #allot(share: Share, most: number, yields: boolean): Allotment {
    const count = (more: number) => {
      this.#holders += more;
      if (yields) this.#yieldingHolders += more;
    };
    count(1);
    return new Allotment(share, most, { growable: () => this.#growable(yields), ended: () => count(-1) });
  }

  /** What those who hold some, and so many who begin now, may hold more. */
  #growable(yields: boolean, beginners = 0): number {
    const { all, yielding } = this.#places;
    const left = all - this.#holders - beginners;
    const most = this.#budget.freeOf(false) - keptForBeginners(left, this.totalFor(false));
    if (!yields) return most;
    const yieldingLeft = yielding - this.#yieldingHolders - beginners;
    return Math.min(most, this.#budget.freeOf(true) - keptForBeginners(yieldingLeft, this.totalFor(true)));
  }
}

/** Of all that a chunk holds so much may be empty, and the last block: what is missing then is copied beside it. */
function spareFor(capacity: number): number {
  return capacity < smallestHolder ? 0 : mostEmpty(capacity) + blockBytes;
}

/** How much of the blocks of a chunk may be empty when it takes another one. */
function mostEmpty(capacity: number): number {
  return Math.floor(capacity / 16);
}

/**
 * How a chunk keeps what is read: in the blocks that it was read into, so that it ends with one of them; in those, and what
 * is missing then beside them; or copied, so that it has each size to the byte.
 */
type Keeping = 'holding' | 'holding all' | 'copying';

/** Memory that pieces are in. */
interface Held {
  /** What it counts. */
  readonly bytes: number;
  pieces: number;
  /** Where it is the chunk's own. */
  readonly own: Buffer<ArrayBuffer> | undefined;
}

/** Bytes that are sent in one request. Where the next chunk needs their memory, it takes that of those that have left. */
export class Chunk implements BodyOwner {
  readonly #capacity: number;
  readonly #keeping: Keeping;
  readonly #allotment: Allotment;
  /** The one that was sent before, whose memory this one may take. */
  #before: Chunk | undefined;
  /** Of a registry that has not taken a chunk yet nobody knows whether it will: its first one can be sent again. */
  readonly #isFirst: boolean;
  readonly #pieces: Uint8Array[] = [];
  #length = 0;
  readonly #held = new Map<ArrayBufferLike, Held>();
  /** How many blocks it may hold. */
  readonly #mostBlocks: number;
  /** The last block of others; the last memory of its own, and how far that is filled. */
  #lent: ArrayBufferLike | undefined;
  #own: Buffer<ArrayBuffer> | undefined;
  #filled = 0;
  /** Whether memory was wanting when it took nothing more. */
  #isShort = false;
  /** How many of its pieces have left, and whether some of those are gone. */
  #left = 0;
  #isSpent = false;
  #isReleased = false;

  constructor(capacity: number, keeping: Keeping, allotment: Allotment, before?: Chunk) {
    this.#capacity = capacity;
    this.#keeping = keeping;
    this.#allotment = allotment;
    this.#before = before;
    this.#isFirst = before === undefined;
    const copies = keeping === 'copying' || capacity < smallestHolder;
    this.#mostBlocks = copies ? 0 : Math.floor(capacity / blockBytes);
    allotment.enter();
  }

  get length(): number {
    return this.#length;
  }

  /**
   * Takes all that it has room for, as that comes free, and returns what is left over: then it is full. Where memory is short
   * it is full before it has the size that it may have.
   */
  async fill(bytes: Uint8Array): Promise<Uint8Array> {
    let rest = bytes;
    while (rest.length > 0) {
      const taken = this.add(rest);
      rest = rest.subarray(taken);
      if (taken > 0) continue;
      if (!this.#isShort || this.#before === undefined || this.#before.#isReleased) break;
      await this.#allotment.nextChange();
    }
    return rest;
  }

  /**
   * Takes as much of the bytes as there is room for now, and tells how many those were. Lent memory is held as it is until it
   * is gone or released; what is copied of it is given back at once.
   */
  add(bytes: Uint8Array): number {
    this.#isShort = false;
    const piece = bytes.subarray(0, this.#capacity - this.#length);
    if (piece.length === 0) return 0;
    if (!this.#mayHold(piece)) return this.#copy(piece);
    if (!this.#held.has(piece.buffer)) {
      if (!this.#hasFree(blockBytes)) return this.#copy(piece);
      this.#hold(piece.buffer, blockBytes);
    }
    this.#lent = piece.buffer;
    this.#append(piece);
    return piece.length;
  }

  /** The empty chunk after this one, which is full and will be sent. */
  followedBy({ chunk, share }: ChunkSizes): Chunk {
    this.#before = undefined;
    this.#allotment.resize(share);
    return new Chunk(chunk, this.#keeping, this.#allotment, this);
  }

  /** Blocks are held whole, however little of each was read: where that is too little in all, no more of them are. */
  #mayHold(piece: Uint8Array): boolean {
    if (this.#mostBlocks === 0 || piece.length < smallestPiece || !isLent(piece)) return false;
    if (piece.buffer === this.#lent) return true;
    // Where memory is short it is as if that were all that it has room for.
    const capacity = Math.min(this.#capacity, this.#allotment.reach);
    if (capacity < smallestHolder) return false;
    const blocks = this.#held.size;
    return blocks < this.#mostBlocks && blocks * blockBytes - this.#length <= mostEmpty(capacity);
  }

  #hold(memory: ArrayBufferLike, bytes: number, own?: Buffer<ArrayBuffer>): void {
    this.#allotment.use(bytes);
    this.#held.set(memory, { bytes, pieces: 0, own });
  }

  /** Whether there is memory for so many bytes now, be it that of the chunk before. */
  #hasFree(bytes: number): boolean {
    const allotment = this.#allotment;
    if (allotment.free < bytes) allotment.grow(bytes);
    const before = this.#before;
    if (allotment.free < bytes && before !== undefined) before.#reclaim();
    this.#isShort = allotment.free < bytes;
    return !this.#isShort;
  }

  #append(piece: Uint8Array): void {
    this.#length += piece.length;
    const before = this.#pieces.at(-1);
    if (before?.buffer === piece.buffer && before.byteOffset + before.length === piece.byteOffset) {
      this.#pieces.splice(-1, 1, Buffer.from(piece.buffer, before.byteOffset, before.length + piece.length));
      return;
    }
    this.#pieces.push(piece);
    const held = this.#held.get(piece.buffer);
    if (held !== undefined) held.pieces += 1;
  }

  #copy(piece: Uint8Array): number {
    let at = 0;
    while (at < piece.length) {
      const room = this.#room();
      if (room === undefined) break;
      const length = Math.min(piece.length - at, room.length);
      room.set(piece.subarray(at, at + length));
      this.#append(room.subarray(0, length));
      this.#filled += length;
      at += length;
    }
    giveBack(piece.subarray(0, at));
    return at;
  }

  /** What is left of memory of its own; `undefined` where the chunk is full, or memory is short. */
  #room(): Buffer<ArrayBuffer> | undefined {
    if (this.#own !== undefined && this.#filled < this.#own.length) return this.#own.subarray(this.#filled);
    const hasAll = this.#mostBlocks > 0 && this.#held.size >= this.#mostBlocks;
    const size = Math.min(this.#capacity - this.#length, blockBytes);
    if (size === 0 || (hasAll && this.#keeping === 'holding') || !this.#hasFree(size)) return undefined;
    const own = size === blockBytes ? takeBlock() : Buffer.allocUnsafeSlow(size);
    this.#hold(own.buffer, size, own);
    this.#own = own;
    this.#filled = 0;
    return own;
  }

  /** The bytes, without a copy: valid until the chunk is released or cleared, or what has left of it is gone. */
  pieces(): readonly Uint8Array[] {
    return [...this.#pieces];
  }

  left(): void {
    this.#left += 1;
    this.#allotment.changed();
  }

  rewind(): boolean {
    this.#left = 0;
    return !this.#isSpent;
  }

  /** Leaves the memory of what has left to the next chunk. */
  #reclaim(): void {
    if (this.#isFirst || this.#left === 0) return;
    this.#isSpent = true;
    this.#drop(this.#left);
    this.#left = 0;
  }

  /** Empties the chunk for another filling. */
  clear(): void {
    this.#drop(this.#pieces.length);
    this.#length = 0;
    this.#lent = undefined;
    this.#own = undefined;
  }

  /** Drops so many of the first pieces. */
  #drop(count: number): void {
    for (const piece of this.#pieces.splice(0, count)) {
      const held = this.#held.get(piece.buffer);
      if (held?.own === undefined) giveBack(piece);
      if (held === undefined || --held.pieces > 0) continue;
      this.#held.delete(piece.buffer);
      if (held.own?.length === blockBytes) returnBlock(held.own);
      this.#allotment.giveBack(held.bytes);
    }
  }

  /** Gives the memory back, with what is in it; a second call does nothing. */
  release(): void {
    if (this.#isReleased) return;
    this.#isReleased = true;
    this.clear();
    this.#allotment.leave();
  }
}
