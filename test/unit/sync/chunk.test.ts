import { describe, expect, it } from 'vitest';
import { lendFrom, takeBlock } from '../../../lib/oci/memory.ts';
import { ChunkMemory } from '../../../lib/sync/chunk.ts';
import { chunkSizeFor } from '../../../lib/sync/limits.ts';

const MiB = 1024 * 1024;
const bounds = { maxChunk: undefined, minChunk: 0 };
const signal = new AbortController().signal;
/** Until all that can go on has gone on. */
const turn = () => new Promise((resolve) => setImmediate(resolve));

function numbered(length: number, start = 0): Buffer {
  return Buffer.from(Array.from({ length }, (_, index) => (start + index) % 251));
}

describe('a chunk', () => {
  it('takes as much as it has room for and holds it in order', async () => {
    const chunk = await new ChunkMemory(16 * MiB).takeWhole(1000, signal);
    expect(chunk.add(numbered(700))).toBe(700);
    expect(chunk.add(numbered(700, 700))).toBe(300);
    expect(chunk.add(numbered(1))).toBe(0);
    expect(Buffer.concat(chunk.pieces())).toEqual(numbered(1000));
    expect(chunk.length).toBe(1000);
  });

  it('of several blocks is what was put in, whatever the size of the pieces', async () => {
    const content = Buffer.alloc(9 * MiB + 5, numbered(251));
    const chunk = await new ChunkMemory(16 * MiB).takeWhole(content.length, signal);
    for (let at = 0; at < content.length; ) at += chunk.add(content.subarray(at, at + 999_983));
    expect(Buffer.concat(chunk.pieces()).equals(content)).toBe(true);
  });

  it('can be filled again after it was cleared', async () => {
    const chunk = await new ChunkMemory(16 * MiB).takeFirst(9 * MiB, 0, signal);
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
    const chunk = await new ChunkMemory(16 * MiB).takeFirst(4 * MiB, 0, signal);
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

  it('ends with a block, so that the next chunk copies nothing either', async () => {
    const memory = new ChunkMemory(16 * MiB);
    const blocks = Array.from({ length: 5 }, (_, index) => lentBlock(index));
    const parts = blocks.map(({ block }) => block.subarray(367, MiB - 15_000));
    const first = await memory.takeFirst(4 * MiB, 0, signal);
    expect(parts.map((part) => first.add(part))).toEqual([
      ...parts.slice(0, 4).map((part) => part.length),
      0,
    ]);
    expect(first.pieces().map(({ buffer }) => buffer)).toEqual(
      blocks.slice(0, 4).map(({ block }) => block.buffer),
    );
    expect(blocks.map(({ back }) => back())).toEqual([0, 0, 0, 0, 0]);
  });

  it('copies the rest where the target wants no smaller chunks', async () => {
    const blocks = Array.from({ length: 5 }, (_, index) => lentBlock(index));
    const chunk = await new ChunkMemory(16 * MiB).takeFirst(4 * MiB, 4 * MiB, signal);
    const parts = blocks.map(({ block }) => block.subarray(0, MiB - 10_000));
    expect(parts.reduce((sum, part) => sum + chunk.add(part), 0)).toBe(4 * MiB);
    expect(Buffer.concat(chunk.pieces()).equals(Buffer.concat(parts).subarray(0, 4 * MiB))).toBe(true);
    expect(blocks[4]?.back()).toBe(40_000);
  });

  it('gives back only its own part of a piece that goes on in the next chunk', async () => {
    const { block, back } = lentBlock(1);
    const memory = new ChunkMemory(16 * MiB);
    const first = await memory.takeFirst(4 * MiB, 0, signal);
    const second = await memory.takeFirst(4 * MiB, 0, signal);
    first.add(Buffer.alloc(4 * MiB - 100));
    expect(first.add(block)).toBe(100);
    expect(second.add(block.subarray(100))).toBe(MiB - 100);
    first.release();
    expect(back()).toBe(100);
    second.release();
    expect(back()).toBe(MiB);
  });

  it('keeps the order where some is lent and some is not', async () => {
    const { block } = lentBlock(7);
    const chunk = await new ChunkMemory(16 * MiB).takeFirst(4 * MiB, 0, signal);
    chunk.add(numbered(500));
    chunk.add(block.subarray(0, 300));
    chunk.add(numbered(700, 500));
    const expected = Buffer.concat([numbered(500), Buffer.alloc(300, 7), numbered(700, 500)]);
    expect(Buffer.concat(chunk.pieces())).toEqual(expected);
  });

  it('copies, and gives back at once, where so little was read into each block that far more would be held', async () => {
    const chunk = await new ChunkMemory(16 * MiB).takeFirst(4 * MiB, 0, signal);
    const lent = Array.from({ length: 40 }, (_, index) => lentBlock(index));
    for (const { block } of lent) expect(chunk.add(block.subarray(0, 64 * 1024))).toBe(64 * 1024);
    const buffers = new Set(chunk.pieces().map(({ buffer }) => buffer));
    expect(buffers.size).toBeLessThanOrEqual(4);
    expect(lent.filter(({ back }) => back() > 0).length).toBe(39);
    const expected = Buffer.concat(lent.map((_, index) => Buffer.alloc(64 * 1024, index)));
    expect(Buffer.concat(chunk.pieces()).equals(expected)).toBe(true);
  });

  it('is copied for a small blob, which holds no whole block', async () => {
    const { block, back } = lentBlock(3);
    const chunk = await new ChunkMemory(16 * MiB).takeWhole(1000, signal);
    chunk.add(block.subarray(0, 1000));
    expect(back()).toBe(1000);
    expect(Buffer.concat(chunk.pieces())).toEqual(Buffer.alloc(1000, 3));
  });

  it('is given back where the chunk is cleared', async () => {
    const { block, back } = lentBlock(3);
    const chunk = await new ChunkMemory(16 * MiB).takeFirst(2 * MiB, 0, signal);
    chunk.add(block);
    chunk.clear();
    expect(back()).toBe(MiB);
  });
});

describe('the memory of chunks', () => {
  it('makes a chunk wait until another is released', async () => {
    const memory = new ChunkMemory(8 * MiB);
    const first = await memory.takeFirst(8 * MiB, 0, signal);
    let taken = false;
    const second = memory.takeFirst(MiB, 0, signal).then((chunk) => {
      taken = true;
      return chunk;
    });
    await turn();
    expect(taken).toBe(false);
    first.release();
    expect((await second).add(Buffer.alloc(2 * MiB))).toBe(MiB);
  });

  it('counts the block that a chunk of a given size may need beside those that it holds', async () => {
    const memory = new ChunkMemory(9 * MiB);
    const size = 4 * MiB + 1;
    const first = await memory.takeWhole(size, signal);
    for (const length of [MiB, MiB, MiB, 1]) first.add(lentBlock(1).block.subarray(0, length));
    first.add(Buffer.alloc(2 * MiB));
    const held = new Set(first.pieces().map(({ buffer }) => buffer));
    expect([...held].reduce((sum, { byteLength }) => sum + byteLength, 0)).toBe(5 * MiB);
    let taken = false;
    const second = memory.takeWhole(size, signal).then(() => {
      taken = true;
    });
    await turn();
    expect(taken).toBe(false);
    first.release();
    await second;
  });

  it('counts what may be empty of all those blocks', async () => {
    const memory = new ChunkMemory(22.25 * MiB);
    const first = await memory.takeWhole(20 * MiB, signal);
    for (let index = 0; index < 19; index += 1) first.add(lentBlock(1).block.subarray(0, MiB - 65_000));
    for (let taken = 1; taken > 0; ) taken = first.add(lentBlock(1).block.subarray(0, 1000));
    const held = new Set(first.pieces().map(({ buffer }) => buffer));
    expect(first.length).toBe(20 * MiB);
    expect([...held].reduce((sum, { byteLength }) => sum + byteLength, 0)).toBeLessThanOrEqual(22.25 * MiB);
    let taken = false;
    const second = memory.takeWhole(1, signal).then(() => {
      taken = true;
    });
    await turn();
    expect(taken).toBe(false);
    first.release();
    await second;
  });

  it('leaves to a push a chunk that does not wait for what copies hold', async () => {
    const memory = new ChunkMemory(88 * MiB, 8 * MiB);
    expect(memory.sizeFor(2, bounds, false)).toBe(32 * MiB);
    for (let index = 0; index < 4; index += 1) await memory.takeFirst(18 * MiB, 0, signal, true);
    expect(memory.sizeFor(3, bounds, false)).toBe(4 * MiB);
    await memory.takeFirst(4 * MiB, 0, signal);
    expect(memory.sizeFor(3, bounds, false)).toBe(2 * MiB);
    expect(memory.sizeFor(3, { ...bounds, minChunk: 5 * MiB }, false)).toBe(5 * MiB);
  });

  it.each([
    [1, 32],
    [3, 27],
    [4, 20],
    [7, 10],
    [10, 6],
    [40, 1],
    [200, 1],
  ])(
    'gives each of %d transfers chunks of %d MiB, and some for the beginning of the next',
    (transfers, size) => {
      expect(chunkSizeFor(transfers, 88 * MiB, bounds)).toBe(size * MiB);
    },
  );

  it('gives the same memory again', async () => {
    const memory = new ChunkMemory(8 * MiB);
    const first = await memory.takeFirst(8 * MiB, 0, signal);
    first.add(Buffer.alloc(8 * MiB));
    const used = first.pieces().map((piece) => piece.buffer);
    first.release();
    const second = await memory.takeFirst(8 * MiB, 0, signal);
    second.add(Buffer.alloc(8 * MiB));
    expect(new Set(second.pieces().map((piece) => piece.buffer))).toEqual(new Set(used));
  });

  it('does not wait any longer when it is told to stop', async () => {
    const memory = new ChunkMemory(MiB);
    await memory.takeFirst(MiB, 0, signal);
    const stop = new AbortController();
    const waiting = memory.takeFirst(MiB, 0, stop.signal);
    stop.abort(new Error('stopped'));
    await expect(waiting).rejects.toThrow('stopped');
  });
});

/** A chunk of four blocks that are lent, full, and the one after it. */
async function twoChunks(memory: ChunkMemory, size = 4 * MiB) {
  const blocks = Array.from({ length: size / MiB }, (_, index) => lentBlock(index + 1));
  const first = await memory.takeFirst(size, 0, signal);
  for (const { block } of blocks) first.add(block);
  return { blocks, first, second: first.followedBy(size) };
}

describe('the chunk after one that is sent', () => {
  it('begins beside it, and grows into what has left of it', async () => {
    const { blocks, first, second } = await twoChunks(new ChunkMemory(6 * MiB));
    expect(second.add(Buffer.alloc(4 * MiB))).toBe(2 * MiB);
    expect(second.add(Buffer.alloc(MiB))).toBe(0);
    first.left();
    first.left();
    expect(second.add(Buffer.alloc(4 * MiB))).toBe(2 * MiB);
    expect(blocks.map(({ back }) => back())).toEqual([MiB, MiB, 0, 0]);
    expect(first.rewind()).toBe(false);
  });

  it('takes nothing that it does not need: the other can be sent again, and holds all of it then', async () => {
    const { blocks, first, second } = await twoChunks(new ChunkMemory(6 * MiB));
    for (const _ of blocks) first.left();
    expect(second.add(Buffer.alloc(2 * MiB))).toBe(2 * MiB);
    expect(first.rewind()).toBe(true);
    expect(second.add(Buffer.alloc(MiB))).toBe(0);
    expect(first.pieces().map((piece) => piece[0])).toEqual([1, 2, 3, 4]);
    expect(blocks.map(({ back }) => back())).toEqual([0, 0, 0, 0]);
  });

  it('waits for room until something has left, and until the other is released', async () => {
    const { first, second } = await twoChunks(new ChunkMemory(6 * MiB));
    let rest: Uint8Array | undefined;
    const filling = second.fill(Buffer.alloc(5 * MiB)).then((left) => {
      rest = left;
    });
    await turn();
    first.left();
    await turn();
    expect(second.length).toBe(3 * MiB);
    expect(rest).toBeUndefined();
    first.release();
    await filling;
    expect(rest).toHaveLength(MiB);
    expect(second.length).toBe(4 * MiB);
  });

  it('gets the copied bytes of the other back, too', async () => {
    const memory = new ChunkMemory(6 * MiB);
    const first = await memory.takeFirst(4 * MiB, 0, signal);
    first.add(Buffer.alloc(4 * MiB));
    const second = first.followedBy(4 * MiB);
    second.add(Buffer.alloc(2 * MiB));
    const buffers = first.pieces().map(({ buffer }) => buffer);
    first.left();
    expect(second.add(Buffer.alloc(MiB))).toBe(MiB);
    expect(second.pieces().at(-1)?.buffer).toBe(buffers[0]);
  });

  it('may be smaller: the rest is for other transfers as soon as it is free', async () => {
    const memory = new ChunkMemory(6 * MiB);
    const first = await memory.takeFirst(4 * MiB, 0, signal);
    first.add(Buffer.alloc(4 * MiB));
    const second = first.followedBy(MiB);
    let taken = false;
    const other = memory.takeFirst(2 * MiB, 0, signal).then((chunk) => {
      taken = true;
      return chunk;
    });
    await turn();
    expect(taken).toBe(false);
    first.release();
    expect((await other).add(Buffer.alloc(3 * MiB))).toBe(2 * MiB);
    expect(await second.fill(Buffer.alloc(2 * MiB))).toHaveLength(MiB);
  });

  it('is larger only where that is free', async () => {
    const memory = new ChunkMemory(12 * MiB);
    const first = await memory.takeFirst(4 * MiB, 0, signal);
    const other = await memory.takeFirst(4 * MiB, 0, signal);
    first.add(Buffer.alloc(4 * MiB));
    const second = first.followedBy(8 * MiB);
    first.release();
    expect(await second.fill(Buffer.alloc(8 * MiB))).toHaveLength(2 * MiB);
    other.release();
    const third = second.followedBy(8 * MiB);
    second.release();
    expect(await third.fill(Buffer.alloc(9 * MiB))).toHaveLength(MiB);
  });

  it('leaves all of the memory to others in the end', async () => {
    const memory = new ChunkMemory(6 * MiB);
    const { first, second } = await twoChunks(memory);
    first.left();
    await second.fill(Buffer.alloc(3 * MiB));
    second.release();
    first.release();
    first.release();
    expect((await memory.takeFirst(6 * MiB, 0, signal)).add(Buffer.alloc(7 * MiB))).toBe(6 * MiB);
  });
});
