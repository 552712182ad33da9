/**
 * What sockets read into: blocks of the common memory (oci/memory.ts) where much is read, for Node takes fresh memory for
 * every read, and on a fast download the kernel then spends more time on handing out empty pages than on the bytes.
 * A block is used again once everything that was read into it has been parsed, and what of that was lent to the readers of
 * bodies has been given back.
 */
import { type Lender, lendFrom, returnBlock, takeBlock } from '../oci/memory.ts';

/** With less room than this a block is full: a short read costs more than the memory. */
const smallestRead = 16 * 1024;
/** What a socket begins with, and goes on with while it reads but heads of answers: dozens of these wait for their next request. */
const headSize = 64 * 1024;
/** A fast socket fills a block in one read, and goes on while that is parsed. */
const mostUnparsed = 8;

class Block implements Lender {
  readonly memory: Buffer<ArrayBuffer>;
  written = 0;
  lent = 0;
  /** Nothing in it is to be looked at any more but what was lent. */
  parsed = false;
  /** Where its socket read to before: parsed as soon as something of this one is lent, for bytes are parsed in order. */
  before: Block | undefined;
  /** The socket has gone on to another block. */
  full = false;
  #givenBack = 0;

  constructor(memory: Buffer<ArrayBuffer>) {
    this.memory = memory;
  }

  giveBack(bytes: number): void {
    this.#givenBack += bytes;
    this.reuse();
  }

  /** Leaves its memory to others as soon as nobody needs it. */
  reuse(): void {
    if (!this.full || !this.parsed || this.#givenBack !== this.lent) return;
    // Its memory may be another block's since.
    if (blocks.get(this.memory.buffer) !== this) return;
    blocks.delete(this.memory.buffer);
    returnBlock(this.memory);
  }
}

/** Those that are used again, by their memory. */
const blocks = new WeakMap<ArrayBufferLike, Block>();

/** Where one socket reads to. */
export class ReadBuffer {
  #block = headBlock();
  #lastRead = 0;

  /** Room for the next read. */
  next(): Buffer {
    const { memory, written } = this.#block;
    if (memory.length - written < smallestRead) {
      const before = this.#block;
      before.full = true;
      before.reuse();
      this.#block = this.#lastRead < smallestRead ? headBlock() : commonBlock();
      this.#block.before = before.parsed ? undefined : before;
      forgetBeyond(before, mostUnparsed);
    }
    return this.#block.memory.subarray(this.#block.written);
  }

  /** So many bytes were read into that room. */
  filled(length: number): Buffer {
    const start = this.#block.written;
    this.#block.written += length;
    this.#block.parsed = false;
    this.#lastRead = length;
    return this.#block.memory.subarray(start, start + length);
  }
}

/** Notes that a piece of a body goes to its reader. */
export function lend(piece: Uint8Array): void {
  const block = blocks.get(piece.buffer);
  if (block === undefined) return;
  block.lent += piece.length;
  for (let { before } = block; before !== undefined; ) {
    const earlier: Block | undefined = before.before;
    before.parsed = true;
    before.before = undefined;
    before.reuse();
    before = earlier;
  }
  block.before = undefined;
}

/** Of a socket that reads but heads of answers nothing is ever lent. */
function forgetBeyond(block: Block, most: number): void {
  let last: Block | undefined = block;
  for (let count = 1; count < most; count += 1) last = last?.before;
  if (last !== undefined) last.before = undefined;
}

/** An answer has ended with this piece: until the next request its socket has read nothing more. */
export function settle(piece: Uint8Array): void {
  const block = blocks.get(piece.buffer);
  if (block === undefined) return;
  block.parsed = true;
  block.reuse();
}

function commonBlock(): Block {
  const block = new Block(takeBlock());
  blocks.set(block.memory.buffer, block);
  lendFrom(block.memory, block);
  return block;
}

/** Too small to be worth keeping. */
function headBlock(): Block {
  return new Block(Buffer.allocUnsafeSlow(headSize));
}
