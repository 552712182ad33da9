/**
 * Memory for chunks, taken from one budget and used again and again: fresh memory for each gigabyte that passes costs more
 * time than the bytes themselves.
 */
import { Budget } from './concurrency.ts';
import { slabBytes } from './limits.ts';

export class ChunkMemory {
  readonly #budget: Budget;
  readonly #free: Buffer[] = [];

  constructor(total: number) {
    this.#budget = new Budget(total);
  }

  /** Bytes that all chunks together may hold. */
  get total(): number {
    return this.#budget.total;
  }

  /** An empty chunk with room for so many bytes (at most the total), as soon as there is room for it. */
  async take(size: number, signal: AbortSignal): Promise<Chunk> {
    const capacity = Math.min(size, this.total);
    // A small blob does not hold a slab of which it uses little.
    if (capacity < slabBytes) {
      const release = await this.#budget.acquire(capacity, signal);
      return new Chunk(capacity, () => Buffer.allocUnsafeSlow(capacity), release);
    }
    // The last slab is held whole, however little of it is filled.
    const held = Math.ceil(capacity / slabBytes) * slabBytes;
    const release = await this.#budget.acquire(held, signal);
    return new Chunk(
      capacity,
      () => this.#free.pop() ?? Buffer.allocUnsafeSlow(slabBytes),
      (slabs) => {
        this.#free.push(...slabs);
        release();
      },
    );
  }
}

/** So many bytes that are sent in one request. */
export class Chunk {
  readonly capacity: number;
  #length = 0;
  #slabs: Buffer[] = [];
  /** The slab that is being filled, and how far. */
  #at = 0;
  #filled = 0;
  readonly #slab: () => Buffer;
  #release: ((slabs: readonly Buffer[]) => void) | undefined;

  constructor(capacity: number, slab: () => Buffer, release: (slabs: readonly Buffer[]) => void) {
    this.capacity = capacity;
    this.#slab = slab;
    this.#release = release;
  }

  get length(): number {
    return this.#length;
  }

  /** Copies as much of the bytes as there is room for, and tells how many those were. */
  add(bytes: Uint8Array): number {
    const taken = Math.min(bytes.length, this.capacity - this.#length);
    for (let at = 0; at < taken; ) at += this.#addToSlab(bytes, at, taken);
    this.#length += taken;
    return taken;
  }

  #addToSlab(bytes: Uint8Array, from: number, to: number): number {
    if (this.#filled === this.#slabs[this.#at]?.length) {
      this.#at += 1;
      this.#filled = 0;
    }
    const slab = this.#slabs[this.#at] ?? this.#slab();
    this.#slabs[this.#at] = slab;
    const length = Math.min(to - from, slab.length - this.#filled);
    slab.set(bytes.subarray(from, from + length), this.#filled);
    this.#filled += length;
    return length;
  }

  /** The bytes, without a copy: valid until the chunk is released. */
  pieces(): readonly Uint8Array[] {
    if (this.#length === 0) return [];
    const last = this.#slabs[this.#at]?.subarray(0, this.#filled);
    return [...this.#slabs.slice(0, this.#at), ...(last === undefined ? [] : [last])];
  }

  /** Empties the chunk for another filling; its memory stays with it. */
  clear(): void {
    this.#length = 0;
    this.#at = 0;
    this.#filled = 0;
  }

  /** Gives the memory back, with what is in it; a second call does nothing. */
  release(): void {
    this.#release?.(this.#slabs);
    this.#release = undefined;
    this.#slabs = [];
    this.clear();
  }
}
