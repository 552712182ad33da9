/** Memory for chunks, taken from one budget. */
import { blockBytes, giveBack, isLent, returnBlock, takeBlock } from '../oci/memory.ts';
import type { BodyOwner } from '../oci/roles.ts';
import { Allotment } from './allotment.ts';
import { SharedBudget } from './concurrency.ts';
import { besideChunk, chunkSizeFor } from './limits.ts';

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

  /** An empty chunk for all of a blob of so many bytes (at most the total), as soon as there is room for it. */
  async takeWhole(size: number, signal: AbortSignal, yields = false): Promise<Chunk> {
    return this.#take(size, spareFor(size, size), size, signal, yields);
  }

  /**
   * The empty first chunk of a blob with room for so many bytes (at most the total), as soon as there is room for it and the
   * beginning of the next.
   * @param atLeast no chunk is full before it has so many bytes
   */
  async takeFirst(size: number, atLeast: number, signal: AbortSignal, yields = false): Promise<Chunk> {
    return this.#take(size, besideChunk(size), atLeast, signal, yields);
  }

  async #take(
    size: number,
    beside: number,
    atLeast: number,
    signal: AbortSignal,
    yields: boolean,
  ): Promise<Chunk> {
    const capacity = Math.min(size, this.totalFor(yields));
    const share = await this.#budget.acquire(capacity + beside, yields, signal);
    return new Chunk(capacity, atLeast, new Allotment(share));
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
    this.#mostBlocks = capacity < smallestHolder ? 0 : Math.floor(capacity / blockBytes);
    allotment.enter();
  }

  get length(): number {
    return this.#length;
  }

  /** Takes all that it has room for, as that comes free, and returns what is left over: then it is full. */
  async fill(bytes: Uint8Array): Promise<Uint8Array> {
    for (let rest = bytes; ; ) {
      const taken = this.add(rest);
      rest = rest.subarray(taken);
      if (rest.length === 0 || this.#length === this.#capacity) return rest;
      if (taken > 0) continue;
      if (this.#free() > 0) return rest;
      await this.#allotment.nextChange();
    }
  }

  /**
   * Takes as much of the bytes as there is room for now, and tells how many those were. Lent memory is held as it is until it
   * is gone or released; what is copied of it is given back at once.
   */
  add(bytes: Uint8Array): number {
    const piece = bytes.subarray(0, Math.min(this.#capacity - this.#length, this.#free()));
    if (piece.length === 0) return 0;
    if (!this.#mayHold(piece)) return this.#copy(piece);
    this.#append(piece);
    return piece.length;
  }

  /** The empty chunk after this one, which is full and will be sent. */
  followedBy(size: number): Chunk {
    this.#before = undefined;
    // Of its blocks some may be emptier than they count.
    this.#use(this.#capacity + spareFor(this.#capacity, this.#atLeast) - this.#length);
    const most = this.#allotment.resize(size + besideChunk(size));
    return new Chunk(Math.min(size, most), this.#atLeast, this.#allotment, this);
  }

  #free(): number {
    const before = this.#before;
    if (this.#allotment.free === 0 && before !== undefined) before.#reclaim();
    return this.#allotment.free;
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
    if (this.#left > 0) this.#isSpent = true;
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
