/** Memory for chunks, taken from one budget. */
import { blockBytes, giveBack, isLent, returnBlock, takeBlock } from '../oci/memory.ts';
import type { BodyOwner } from '../oci/roles.ts';
import { Allotment } from './allotment.ts';
import { type Share, SharedBudget } from './concurrency.ts';
import { type ChunkSizes, chunkSizesFor, keptForBeginners, type Limits } from './limits.ts';

/** Smaller ones are copied: what they held of blocks would be much beside what they are. */
const smallestHolder = 4 * blockBytes;

export type MemoryLimits = Pick<Limits, 'blobs' | 'chunkMemory' | 'keptForPushes'>;

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
    return size + spareFor(size, size) <= Math.max(blockBytes, this.#growable(yields, 1));
  }

  /** An empty chunk for all of a blob of so many bytes (at most the total), as soon as there is room for it. */
  async takeWhole(size: number, signal: AbortSignal, yields = false): Promise<Chunk> {
    const share = await this.#budget.acquire(size + spareFor(size, size), yields, signal);
    const capacity = Math.min(size, share.amount);
    return new Chunk(capacity, size, this.#allot(share, share.amount, yields));
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
    const least = Math.max(blockBytes, atLeast + spareFor(chunk, atLeast));
    const share = await this.#budget.acquire(least, yields, signal);
    const capacity = Math.min(chunk, this.totalFor(yields));
    return new Chunk(capacity, atLeast, this.#allot(share, most, yields));
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
function spareFor(capacity: number, atLeast: number): number {
  return capacity >= smallestHolder && atLeast > 0 ? mostEmpty(capacity) + blockBytes : 0;
}

/** How much of the blocks of a chunk may be empty when it takes another one. */
function mostEmpty(capacity: number): number {
  return Math.floor(capacity / 16);
}

/** Memory of a chunk's own, and how much of it is in use. */
interface OwnBlock {
  readonly memory: Buffer<ArrayBuffer>;
  used: number;
}

/** Bytes that are sent in one request. Where the next chunk needs their memory, it takes that of those that have left. */
export class Chunk implements BodyOwner {
  readonly #capacity: number;
  readonly #atLeast: number;
  readonly #allotment: Allotment;
  /** The one that was sent before, whose memory this one may take. */
  #before: Chunk | undefined;
  /** Of a registry that has not taken a chunk yet nobody knows whether it will: its first one can be sent again. */
  readonly #isFirst: boolean;
  readonly #pieces: Uint8Array[] = [];
  #length = 0;
  /** Where pieces are copied to, and how far the last one is filled. */
  readonly #own: OwnBlock[] = [];
  #filled = 0;
  /** How many blocks it has, of its own and of others, and may have; and the last one of others. */
  #blocks = 0;
  readonly #mostBlocks: number;
  #last: ArrayBufferLike | undefined;
  /** How much of the allotment it uses. */
  #used = 0;
  /** How many of its pieces have left, and whether some of those are gone. */
  #left = 0;
  #isSpent = false;
  #isReleased = false;

  constructor(capacity: number, atLeast: number, allotment: Allotment, before?: Chunk) {
    this.#capacity = capacity;
    this.#atLeast = atLeast;
    this.#allotment = allotment;
    this.#before = before;
    this.#isFirst = before === undefined;
    this.#mostBlocks = capacity < smallestHolder ? 0 : Math.floor(capacity / blockBytes);
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
    while (rest.length > 0 && this.#length < this.#capacity) {
      if (this.#free() > 0) {
        const taken = this.add(rest);
        if (taken === 0) break;
        rest = rest.subarray(taken);
      } else if (this.#before === undefined || this.#before.#isReleased) break;
      else await this.#allotment.nextChange();
    }
    return rest;
  }

  /**
   * Takes as much of the bytes as there is room for now, and tells how many those were. Lent memory is held as it is until it
   * is gone or released; what is copied of it is given back at once.
   */
  add(bytes: Uint8Array): number {
    const wanted = bytes.subarray(0, this.#capacity - this.#length);
    // Only for what is wanted memory is asked for.
    const piece = wanted.length === 0 ? wanted : wanted.subarray(0, this.#free());
    if (piece.length === 0) return 0;
    if (!this.#mayHold(piece)) return this.#copy(piece);
    this.#append(piece);
    return piece.length;
  }

  /** The empty chunk after this one, which is full and will be sent. */
  followedBy({ chunk, share }: ChunkSizes): Chunk {
    this.#before = undefined;
    // Blocks are held whole.
    if (this.#mostBlocks > 0) this.#use(Math.max(0, this.#blocks * blockBytes - this.#length));
    this.#allotment.resize(share);
    return new Chunk(chunk, this.#atLeast, this.#allotment, this);
  }

  #free(): number {
    const allotment = this.#allotment;
    if (allotment.free === 0) allotment.grow();
    const before = this.#before;
    if (allotment.free === 0 && before !== undefined) before.#reclaim();
    return allotment.free;
  }

  #use(bytes: number): void {
    this.#used += bytes;
    this.#allotment.use(bytes);
  }

  #giveBack(bytes: number): void {
    this.#used -= bytes;
    this.#allotment.giveBack(bytes);
  }

  /** Blocks are held whole, however little of each was read: where that is too little in all, no more of them are. */
  #mayHold(piece: Uint8Array): boolean {
    if (this.#mostBlocks === 0 || !isLent(piece)) return false;
    if (piece.buffer === this.#last) return true;
    const empty = this.#blocks * blockBytes - this.#length;
    if (this.#blocks >= this.#mostBlocks || empty > mostEmpty(this.#capacity)) return false;
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
    this.#use(piece.length);
  }

  #copy(piece: Uint8Array): number {
    let at = 0;
    while (at < piece.length) {
      const own = this.#room();
      if (own === undefined) break;
      const room = own.memory.subarray(this.#filled);
      const length = Math.min(piece.length - at, room.length);
      room.set(piece.subarray(at, at + length));
      this.#append(room.subarray(0, length));
      own.used += length;
      this.#filled += length;
      at += length;
    }
    giveBack(piece.subarray(0, at));
    return at;
  }

  /** Memory of its own with room in it; `undefined` where the chunk is full. */
  #room(): OwnBlock | undefined {
    const last = this.#own.at(-1);
    if (last !== undefined && this.#filled < last.memory.length) return last;
    const hasAll = this.#mostBlocks > 0 && this.#blocks >= this.#mostBlocks;
    const left = this.#capacity - this.#length;
    if (left === 0 || (hasAll && this.#length >= this.#atLeast)) return undefined;
    const memory = left < blockBytes ? Buffer.allocUnsafeSlow(left) : takeBlock();
    this.#blocks += 1;
    const own = { memory, used: 0 };
    this.#own.push(own);
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
    this.#filled = 0;
    this.#blocks = 0;
    this.#last = undefined;
  }

  /** Drops so many of the first pieces. */
  #drop(count: number): void {
    for (const piece of this.#pieces.splice(0, count)) {
      if (!this.#dropOwn(piece)) giveBack(piece);
      this.#giveBack(piece.length);
    }
  }

  #dropOwn(piece: Uint8Array): boolean {
    const index = this.#own.findIndex(({ memory }) => memory.buffer === piece.buffer);
    const own = this.#own[index];
    if (own === undefined) return false;
    own.used -= piece.length;
    if (own.used > 0) return true;
    this.#own.splice(index, 1);
    if (own.memory.length === blockBytes) returnBlock(own.memory);
    return true;
  }

  /** Gives the memory back, with what is in it; a second call does nothing. */
  release(): void {
    if (this.#isReleased) return;
    this.#isReleased = true;
    this.clear();
    this.#giveBack(this.#used);
    this.#allotment.leave();
  }
}
