import { describe, expect, it } from 'vitest';
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

  it('of several slabs is what was put in, whatever the size of the pieces', async () => {
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

  it('counts what chunks hold, which is whole slabs of 1 MiB', async () => {
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
