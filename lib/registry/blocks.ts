/**
 * Memory that sockets read into, used again and again.
 *
 * Node takes fresh memory for every read; on a fast download the kernel then spends more time on handing out empty pages
 * than on the bytes. A block is used again once everything that was read into it has been parsed, and what of that was
 * lent to the readers of bodies has been given back. What is not given back is left to the garbage collector, so that
 * forgetting costs time but never safety.
 */

const blockSize = 1024 * 1024;
/** With less room than this a block is full: short reads cost more than the memory. */
const smallestRead = 64 * 1024;
/** What a socket begins with, and goes on with while it reads but heads of answers: dozens of these wait for their next request. */
const headSize = 64 * 1024;
const smallestHead = 16 * 1024;
/** A fast socket fills a block in one read, and goes on while that is parsed. */
const mostUnparsed = 8;
/** Blocks that wait for their next use: more than downloads hold at once, for what is dropped is soon taken anew. */
const maxFree = 64;

interface Block {
  readonly memory: Buffer<ArrayBuffer>;
  written: number;
  lent: number;
  givenBack: number;
  /** Nothing in it is to be looked at any more but what was lent. */
  parsed: boolean;
  /** Where its socket read to before: parsed as soon as something of this one is lent, for bytes are parsed in order. */
  before: Block | undefined;
  /** The socket has gone on to another block. */
  full: boolean;
}

/** Those that are used again, by their memory. */
const blocks = new WeakMap<ArrayBufferLike, Block>();
const free: Block[] = [];

/** Where one socket reads to. */
export class ReadBuffer {
  #block = headBlock();
  #lastRead = 0;

  /** Room for the next read. */
  next(): Buffer {
    const { memory, written } = this.#block;
    const least = memory.length === headSize ? smallestHead : smallestRead;
    if (memory.length - written < least) {
      const before = this.#block;
      before.full = true;
      reuse(before);
      this.#block = this.#lastRead < smallestHead ? headBlock() : takeBlock();
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
    reuse(before);
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
  reuse(block);
}

/** Gives back a piece of a body that nobody looks at any more; each piece once. */
export function giveBack(piece: Uint8Array): void {
  const block = blocks.get(piece.buffer);
  if (block === undefined) return;
  block.givenBack += piece.length;
  reuse(block);
}

function reuse(block: Block): void {
  if (!block.full || !block.parsed || block.givenBack !== block.lent || free.length === maxFree) return;
  if (!blocks.has(block.memory.buffer)) return;
  Object.assign(block, unused);
  free.push(block);
}

function takeBlock(): Block {
  const known = free.pop();
  if (known !== undefined) return known;
  const block = newBlock(blockSize);
  blocks.set(block.memory.buffer, block);
  return block;
}

/** Too small to be worth keeping. */
function headBlock(): Block {
  return newBlock(headSize);
}

const unused = { written: 0, lent: 0, givenBack: 0, parsed: false, before: undefined, full: false } as const;

function newBlock(size: number): Block {
  return { memory: Buffer.allocUnsafeSlow(size), ...unused };
}
