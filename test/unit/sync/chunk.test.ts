import { describe, expect, it } from 'vitest';
import { blockBytes, lendFrom, takeBlock } from '../../../lib/oci/memory.ts';
import { ChunkMemory } from '../../../lib/sync/chunk.ts';
import { chunkSizeFor } from '../../../lib/sync/limits.ts';

const MiB = 1024 * 1024;
const signal = new AbortController().signal;

function numbered(length: number, start = 0): Buffer {
  return Buffer.from(Array.from({ length }, (_, index) => (start + index) % 251));
}

describe('a chunk', () => {
  it('takes as much as it has room for and holds it in order', async () => {
    const chunk = await new ChunkMemory(16 * MiB).take(1000, signal);
    expect(chunk.add(numbered(700))).toBe(700);
    expect(chunk.add(numbered(700, 700))).toBe(300);
    expect(chunk.add(numbered(1))).toBe(0);
    expect(Buffer.concat(chunk.pieces())).toEqual(numbered(1000));
    expect(chunk.length).toBe(1000);
  });

  it('of several blocks is what was put in, whatever the size of the pieces', async () => {
    const content = Buffer.alloc(9 * MiB + 5, numbered(251));
    const chunk = await new ChunkMemory(16 * MiB).take(content.length, signal);
    for (let at = 0; at < content.length; ) at += chunk.add(content.subarray(at, at + 999_983));
    expect(Buffer.concat(chunk.pieces()).equals(content)).toBe(true);
  });

  it('can be filled again after it was cleared', async () => {
    const chunk = await new ChunkMemory(16 * MiB).take(9 * MiB, signal);
    chunk.add(Buffer.alloc(9 * MiB, 1));
    chunk.clear();
    expect(chunk.pieces()).toEqual([]);
    chunk.add(Buffer.alloc(5 * MiB, 2));
    expect(Buffer.concat(chunk.pieces()).equals(Buffer.alloc(5 * MiB, 2))).toBe(true);
  });
});

/** A block of which pieces are lent, and how much of it has come back. */
function lentBlock(value: number): { readonly block: Buffer; readonly back: () => number } {
  const block = takeBlock().fill(value);
  let back = 0;
  const giveBack = (bytes: number) => {
    back += bytes;
  };
  lendFrom(block, { giveBack });
  return { block, back: () => back };
}

describe('a chunk of lent memory', () => {
  it('holds it without a copy until it is released', async () => {
    const { block, back } = lentBlock(1);
    const chunk = await new ChunkMemory(16 * MiB).take(4 * MiB, signal);
    chunk.add(block.subarray(0, 1000));
    chunk.add(block.subarray(1000, 3000));
    chunk.add(block.subarray(5000, 6000));
    expect(chunk.pieces().map(({ byteOffset, length }) => [byteOffset, length])).toEqual([
      [0, 3000],
      [5000, 1000],
    ]);
    expect(chunk.pieces().every(({ buffer }) => buffer === block.buffer)).toBe(true);
    expect(back()).toBe(0);
    chunk.release();
    chunk.release();
    expect(back()).toBe(4000);
  });

  it('gives back only its own part of a piece that goes on in the next chunk', async () => {
    const { block, back } = lentBlock(1);
    const memory = new ChunkMemory(16 * MiB);
    const [first, second] = [await memory.take(MiB, signal), await memory.take(MiB, signal)];
    first.add(Buffer.alloc(MiB - 100));
    expect(first.add(block)).toBe(100);
    expect(second.add(block.subarray(100))).toBe(MiB - 100);
    first.release();
    expect(back()).toBe(100);
    second.release();
    expect(back()).toBe(MiB);
  });

  it('keeps the order where some is lent and some is not', async () => {
    const { block } = lentBlock(7);
    const chunk = await new ChunkMemory(16 * MiB).take(4 * MiB, signal);
    chunk.add(numbered(500));
    chunk.add(block.subarray(0, 300));
    chunk.add(numbered(700, 500));
    const expected = Buffer.concat([numbered(500), Buffer.alloc(300, 7), numbered(700, 500)]);
    expect(Buffer.concat(chunk.pieces())).toEqual(expected);
  });

  it('copies, and gives back at once, what would hold far more than the budget knows of', async () => {
    const chunk = await new ChunkMemory(16 * MiB).take(4 * MiB, signal);
    const lent = Array.from({ length: 40 }, (_, index) => lentBlock(index));
    for (const { block } of lent) chunk.add(block.subarray(0, 64 * 1024));
    const buffers = new Set(chunk.pieces().map(({ buffer }) => buffer));
    expect(buffers.size * blockBytes).toBeLessThanOrEqual(2 * 4 * MiB + 3 * MiB);
    expect(lent.filter(({ back }) => back() > 0).length).toBeGreaterThan(30);
    const expected = Buffer.concat(lent.map((_, index) => Buffer.alloc(64 * 1024, index)));
    expect(Buffer.concat(chunk.pieces()).equals(expected)).toBe(true);
  });

  it('is copied for a small blob, which holds no whole block', async () => {
    const { block, back } = lentBlock(3);
    const chunk = await new ChunkMemory(16 * MiB).take(1000, signal);
    chunk.add(block.subarray(0, 1000));
    expect(back()).toBe(1000);
    expect(Buffer.concat(chunk.pieces())).toEqual(Buffer.alloc(1000, 3));
  });

  it('is given back where the chunk is cleared', async () => {
    const { block, back } = lentBlock(3);
    const chunk = await new ChunkMemory(16 * MiB).take(2 * MiB, signal);
    chunk.add(block);
    chunk.clear();
    expect(back()).toBe(MiB);
  });
});

describe('the memory of chunks', () => {
  it('makes a chunk wait until another is released', async () => {
    const memory = new ChunkMemory(8 * MiB);
    const first = await memory.take(8 * MiB, signal);
    let taken = false;
    const second = memory.take(MiB, signal).then((chunk) => {
      taken = true;
      return chunk;
    });
    await Promise.resolve();
    expect(taken).toBe(false);
    first.release();
    expect((await second).capacity).toBe(MiB);
  });

  it('counts what chunks hold, which is whole blocks of 1 MiB', async () => {
    const memory = new ChunkMemory(3 * MiB);
    const first = await memory.take(1.25 * MiB, signal);
    let taken = false;
    const second = memory.take(1.25 * MiB, signal).then(() => {
      taken = true;
    });
    await Promise.resolve();
    expect(taken).toBe(false);
    first.release();
    await second;
    expect(taken).toBe(true);
  });

  it.each([
    [1, 20],
    [3, 14],
    [4, 11],
    [7, 6],
    [10, 4],
    [200, 1],
  ])('gives each of %d transfers two chunks of %d MiB', (transfers, size) => {
    const target = { maxChunk: undefined, minChunk: 0 };
    expect(chunkSizeFor(transfers, 88 * MiB, target)).toBe(size * MiB);
  });

  it('gives the same memory again', async () => {
    const memory = new ChunkMemory(8 * MiB);
    const first = await memory.take(8 * MiB, signal);
    first.add(Buffer.alloc(8 * MiB));
    const used = first.pieces().map((piece) => piece.buffer);
    first.release();
    const second = await memory.take(8 * MiB, signal);
    second.add(Buffer.alloc(8 * MiB));
    expect(new Set(second.pieces().map((piece) => piece.buffer))).toEqual(new Set(used));
  });

  it('does not wait any longer when it is told to stop', async () => {
    const memory = new ChunkMemory(MiB);
    await memory.take(MiB, signal);
    const stop = new AbortController();
    const waiting = memory.take(MiB, stop.signal);
    stop.abort(new Error('stopped'));
    await expect(waiting).rejects.toThrow('stopped');
  });
});
