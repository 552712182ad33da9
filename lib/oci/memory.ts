/**
 * Memory for the bytes of blobs, used again and again: fresh memory for each gigabyte that passes costs more time than the
 * bytes themselves.
 *
 * Whoever reads from a socket lends pieces of a block. A reader may hold them for as long as it likes, and gives them
 * back. What is not given back is left to the garbage collector, so that forgetting costs time but never safety.
 */

export const blockBytes = 1024 * 1024;
/** More than all chunks and all sockets hold at once: what is dropped is soon taken anew. */
const mostFree = 112;

/** Told of what was given back of its block, in bytes. */
export interface Lender {
  giveBack(bytes: number): void;
}

const lenders = new WeakMap<ArrayBufferLike, Lender>();
const free: Buffer<ArrayBuffer>[] = [];

/** A block with whatever was in it before. */
export function takeBlock(): Buffer<ArrayBuffer> {
  return free.pop() ?? Buffer.allocUnsafeSlow(blockBytes);
}

/** Leaves a block for its next use: nobody looks at any of it any more. */
export function returnBlock(block: Buffer<ArrayBuffer>): void {
  lenders.delete(block.buffer);
  if (free.length < mostFree) free.push(block);
}

/** Pieces of the block are lent from now on, until it is returned. */
export function lendFrom(block: Buffer<ArrayBuffer>, lender: Lender): void {
  lenders.set(block.buffer, lender);
}

/** Whether somebody waits for the piece to be given back. */
export function isLent(piece: Uint8Array): boolean {
  return lenders.has(piece.buffer);
}

/** Gives back a piece that nobody looks at any more, or a part of one; each byte once. */
export function giveBack(piece: Uint8Array): void {
  lenders.get(piece.buffer)?.giveBack(piece.length);
}
