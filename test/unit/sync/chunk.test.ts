import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { lendFrom, takeBlock } from '../../../lib/oci/memory.ts';
import { type Chunk, ChunkMemory } from '../../../lib/sync/copy/chunk.ts';
import { chunkSizesFor } from '../../../lib/sync/copy/limits.ts';

const MiB = 1024 * 1024;
const bounds = { maxChunk: undefined, minChunk: 0 };
const signal = new AbortController().signal;
/** Memory for so many transfers, of which some is for pushes alone. */
const memoryOf = (chunkMemory: number, blobs = 1, keptForPushes = { blobs: 0, chunkMemory: 0 }) =>
  new ChunkMemory({ blobs, chunkMemory, keptForPushes });
/** A chunk of this size, with so much for the beginning of the next. */
const sizes = (chunk: number, beside = 2 * MiB) => ({ chunk, share: chunk + beside });
/** Until all that can go on has gone on. */
const turn = () => new Promise((resolve) => setImmediate(resolve));

/** What is settled once all that can go on has gone on. */
async function unlessStuck<T>(promise: Promise<T>): Promise<T> {
  return Promise.race([promise, turn().then(() => Promise.reject(new Error('It waits for nothing')))]);
}

function numbered(length: number, start = 0): Buffer {
  return Buffer.from(Array.from({ length }, (_, index) => (start + index) % 251));
}

describe('a chunk', () => {
  it('takes as much as it has room for and holds it in order', async () => {
    const chunk = await memoryOf(16 * MiB).takeWhole(1000, signal);
    expect(chunk.add(numbered(700))).toBe(700);
    expect(chunk.add(numbered(700, 700))).toBe(300);
    expect(chunk.add(numbered(1))).toBe(0);
    expect(Buffer.concat(chunk.pieces())).toEqual(numbered(1000));
    expect(chunk.length).toBe(1000);
  });

  it('of several blocks is what was put in, whatever the size of the pieces', async () => {
    const content = Buffer.alloc(9 * MiB + 5, numbered(251));
    const chunk = await memoryOf(16 * MiB).takeWhole(content.length, signal);
    for (let at = 0; at < content.length; ) at += chunk.add(content.subarray(at, at + 999_983));
    expect(Buffer.concat(chunk.pieces()).equals(content)).toBe(true);
  });

  it('can be filled again after it was cleared', async () => {
    const chunk = await memoryOf(16 * MiB).takeWhole(9 * MiB, signal);
    chunk.add(Buffer.alloc(9 * MiB, 1));
    chunk.clear();
    expect(chunk.pieces()).toEqual([]);
    chunk.add(Buffer.alloc(5 * MiB, 2));
    expect(Buffer.concat(chunk.pieces()).equals(Buffer.alloc(5 * MiB, 2))).toBe(true);
  });
});

/** How much of the bytes a chunk takes now, where nothing else happens. */
function taken(chunk: Chunk, bytes: Uint8Array): number {
  let at = 0;
  for (let more = chunk.add(bytes); more > 0; more = chunk.add(bytes.subarray(at))) at += more;
  return at;
}

/** Nothing is given before the chunk is released. */
async function expectToWaitFor(chunk: Chunk, next: Promise<Chunk>): Promise<void> {
  let isGiven = false;
  const given = next.then(() => {
    isGiven = true;
  });
  await turn();
  expect(isGiven).toBe(false);
  chunk.release();
  await given;
}

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
    const chunk = await memoryOf(16 * MiB).takeFirst(sizes(4 * MiB), 0, signal);
    chunk.add(block.subarray(0, 10_000));
    chunk.add(block.subarray(10_000, 30_000));
    chunk.add(block.subarray(50_000, 60_000));
    expect(chunk.pieces().map(({ byteOffset, length }) => [byteOffset, length])).toEqual([
      [0, 30_000],
      [50_000, 10_000],
    ]);
    expect(chunk.pieces().every(({ buffer }) => buffer === block.buffer)).toBe(true);
    expect(back()).toBe(0);
    chunk.release();
    chunk.release();
    expect(back()).toBe(40_000);
  });

  it('copies what comes in tiny pieces, each of which would be a thing of its own', async () => {
    const { block, back } = lentBlock(1);
    const chunk = await memoryOf(16 * MiB).takeFirst(sizes(4 * MiB), 0, signal);
    for (let at = 0; at < 100_000; at += 1010) chunk.add(block.subarray(at, at + 1000));
    expect(chunk.pieces()).toHaveLength(1);
    expect(back()).toBe(100_000);
  });

  it('ends with a block, so that the next chunk copies nothing either', async () => {
    const memory = memoryOf(16 * MiB);
    const blocks = Array.from({ length: 5 }, (_, index) => lentBlock(index));
    const parts = blocks.map(({ block }) => block.subarray(367, MiB - 15_000));
    const first = await memory.takeFirst(sizes(4 * MiB), 0, signal);
    expect(parts.map((part) => taken(first, part))).toEqual([
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
    const chunk = await memoryOf(16 * MiB).takeFirst(sizes(4 * MiB), 4 * MiB, signal);
    const parts = blocks.map(({ block }) => block.subarray(0, MiB - 10_000));
    expect(parts.reduce((sum, part) => sum + chunk.add(part), 0)).toBe(4 * MiB);
    expect(Buffer.concat(chunk.pieces()).equals(Buffer.concat(parts).subarray(0, 4 * MiB))).toBe(true);
    expect(blocks[4]?.back()).toBe(40_000);
  });

  it('gives back only its own part of a piece that goes on in the next chunk', async () => {
    const { block, back } = lentBlock(1);
    const memory = memoryOf(16 * MiB);
    const first = await memory.takeFirst(sizes(4 * MiB), 0, signal);
    const second = await memory.takeFirst(sizes(4 * MiB), 0, signal);
    taken(first, Buffer.alloc(4 * MiB - 100));
    expect(first.add(block)).toBe(100);
    expect(second.add(block.subarray(100))).toBe(MiB - 100);
    first.release();
    expect(back()).toBe(100);
    second.release();
    expect(back()).toBe(MiB);
  });

  it('keeps the order where some is lent and some is not', async () => {
    const { block } = lentBlock(7);
    const chunk = await memoryOf(16 * MiB).takeFirst(sizes(4 * MiB), 0, signal);
    chunk.add(numbered(500));
    chunk.add(block.subarray(0, 300));
    chunk.add(numbered(700, 500));
    const expected = Buffer.concat([numbered(500), Buffer.alloc(300, 7), numbered(700, 500)]);
    expect(Buffer.concat(chunk.pieces())).toEqual(expected);
  });

  it('copies, and gives back at once, where so little was read into each block that far more would be held', async () => {
    const chunk = await memoryOf(16 * MiB).takeFirst(sizes(4 * MiB), 0, signal);
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
    const chunk = await memoryOf(16 * MiB).takeWhole(1000, signal);
    chunk.add(block.subarray(0, 1000));
    expect(back()).toBe(1000);
    expect(Buffer.concat(chunk.pieces())).toEqual(Buffer.alloc(1000, 3));
  });

  it('is given back where the chunk is cleared', async () => {
    const { block, back } = lentBlock(3);
    const chunk = await memoryOf(16 * MiB).takeFirst(sizes(2 * MiB), 0, signal);
    chunk.add(block);
    chunk.clear();
    expect(back()).toBe(MiB);
  });
});

describe('the memory of chunks', () => {
  it('makes a blob wait until another is released', async () => {
    const memory = memoryOf(8 * MiB);
    const first = await memory.takeWhole(8 * MiB - 2 * MiB, signal);
    expect(memory.hasRoomFor(MiB + 1, false)).toBe(false);
    let isTaken = false;
    const second = memory.takeWhole(MiB, signal).then((chunk) => {
      isTaken = true;
      return chunk;
    });
    await turn();
    expect(isTaken).toBe(false);
    first.release();
    expect((await second).add(Buffer.alloc(2 * MiB))).toBe(MiB);
    expect(memory.hasRoomFor(5 * MiB, false)).toBe(true);
  });

  it('counts the block that a chunk of a given size may need beside those that it holds', async () => {
    const memory = memoryOf(9 * MiB);
    const size = 4 * MiB + 1;
    const first = await memory.takeWhole(size, signal);
    for (const length of [MiB, MiB, MiB, 5000]) first.add(lentBlock(1).block.subarray(0, length));
    taken(first, Buffer.alloc(2 * MiB));
    const held = new Set(first.pieces().map(({ buffer }) => buffer));
    expect(first.length).toBe(size);
    expect([...held].reduce((sum, { byteLength }) => sum + byteLength, 0)).toBeGreaterThan(4.9 * MiB);
    await expectToWaitFor(first, memory.takeWhole(size, signal));
  });

  it('counts what may be empty of all those blocks', async () => {
    const memory = memoryOf(22.25 * MiB);
    const first = await memory.takeWhole(20 * MiB, signal);
    for (let index = 0; index < 19; index += 1) first.add(lentBlock(1).block.subarray(0, MiB - 65_000));
    for (let more = 1; more > 0; ) more = first.add(lentBlock(1).block.subarray(0, 1000));
    const held = new Set(first.pieces().map(({ buffer }) => buffer));
    expect(first.length).toBe(20 * MiB);
    expect([...held].reduce((sum, { byteLength }) => sum + byteLength, 0)).toBeLessThanOrEqual(22.25 * MiB);
    await expectToWaitFor(first, memory.takeWhole(1, signal));
  });

  it('lets every transfer begin at once, and the others grow no further than that', async () => {
    const memory = memoryOf(88 * MiB, 10, { blobs: 2, chunkMemory: 8 * MiB });
    const large = await Promise.all([1, 2].map(() => memory.takeFirst(sizes(60 * MiB), 0, signal, true)));
    const held = large.map((chunk) => taken(chunk, Buffer.alloc(60 * MiB)));
    expect(held[0]).toBe(60 * MiB);
    expect(held[1]).toBe((80 - 60 - 6 * 2) * MiB);
    expect(memory.hasRoomFor(2 * MiB, true)).toBe(true);
    expect(memory.hasRoomFor(2 * MiB + 1, true)).toBe(false);
    for (let index = 3; index <= 8; index += 1) {
      const next = await memory.takeFirst(sizes(8 * MiB), 0, signal, true);
      expect(taken(next, Buffer.alloc(8 * MiB))).toBe(2 * MiB);
    }
    const push = await memory.takeFirst(sizes(8 * MiB), 0, signal);
    expect(taken(push, Buffer.alloc(8 * MiB))).toBe(6 * MiB);
    const another = await memory.takeFirst(sizes(8 * MiB), 0, signal);
    expect(taken(another, Buffer.alloc(8 * MiB))).toBe(2 * MiB);
  });

  it('is held by what was read alone, however large a chunk may be', async () => {
    const memory = memoryOf(20 * MiB, 2);
    const slow = await memory.takeFirst(sizes(16 * MiB), 0, signal);
    slow.add(Buffer.alloc(1000));
    const fast = await memory.takeFirst(sizes(16 * MiB), 0, signal);
    expect(taken(fast, Buffer.alloc(20 * MiB))).toBe(16 * MiB);
    const next = fast.followedBy(sizes(16 * MiB));
    fast.release();
    next.add(Buffer.alloc(1000));
    expect(taken(slow, Buffer.alloc(20 * MiB))).toBe(16 * MiB - 1000);
  });

  it.each([
    [1, 32, 40],
    [2, 32, 36],
    [3, 22, 24.7],
    [4, 17, 19],
    [7, 9, 11.7],
    [10, 6, 8.8],
    [40, 1, 2],
    [200, 1, 1],
  ])('gives each of %d transfers chunks of %d MiB, of %d in all', (transfers, chunk, share) => {
    const given = chunkSizesFor(transfers, 10, 88 * MiB, bounds);
    expect(given.chunk).toBe(chunk * MiB);
    expect(given.share / MiB).toBeCloseTo(share, 1);
    expect(Number.isInteger(given.share)).toBe(true);
  });

  it('has two whole chunks for each transfer where the target takes no large ones', () => {
    const small = { maxChunk: 8 * MiB, minChunk: 0 };
    expect(chunkSizesFor(4, 10, 88 * MiB, small)).toEqual({ chunk: 8 * MiB, share: 16 * MiB });
  });

  it('gives the same memory again', async () => {
    const memory = memoryOf(8 * MiB);
    const first = await memory.takeFirst(sizes(8 * MiB), 0, signal);
    taken(first, Buffer.alloc(8 * MiB));
    const used = first.pieces().map((piece) => piece.buffer);
    first.release();
    const second = await memory.takeFirst(sizes(8 * MiB), 0, signal);
    taken(second, Buffer.alloc(8 * MiB));
    expect(new Set(second.pieces().map((piece) => piece.buffer))).toEqual(new Set(used));
  });

  it('does not wait any longer when it is told to stop', async () => {
    const memory = memoryOf(MiB);
    await memory.takeFirst(sizes(MiB), 0, signal);
    const stop = new AbortController();
    const waiting = memory.takeFirst(sizes(MiB), 0, stop.signal);
    stop.abort(new Error('stopped'));
    await expect(waiting).rejects.toThrow('stopped');
  });
});

/** Two full chunks of four blocks each, the first of which the registry has taken, and the one after them. */
async function chunksOf(memory: ChunkMemory) {
  const first = await memory.takeFirst(sizes(4 * MiB), 0, signal);
  taken(first, Buffer.alloc(4 * MiB));
  const second = first.followedBy(sizes(4 * MiB));
  first.release();
  const blocks = [1, 2, 3, 4].map(lentBlock);
  for (const { block } of blocks) taken(second, block);
  return { blocks, second, third: second.followedBy(sizes(4 * MiB)) };
}

describe('the chunk after one that is sent', () => {
  it('begins beside it, and grows into what has left of it', async () => {
    const { blocks, second, third } = await chunksOf(memoryOf(20 * MiB));
    expect(taken(third, Buffer.alloc(4 * MiB))).toBe(2 * MiB);
    second.left();
    second.left();
    expect(taken(third, Buffer.alloc(4 * MiB))).toBe(2 * MiB);
    expect(blocks.map(({ back }) => back())).toEqual([MiB, MiB, 0, 0]);
    expect(second.rewind()).toBe(false);
  });

  it('takes nothing that it does not need: the other can be sent again, and holds all of it then', async () => {
    const { blocks, second, third } = await chunksOf(memoryOf(20 * MiB));
    for (const _ of blocks) second.left();
    expect(taken(third, Buffer.alloc(2 * MiB))).toBe(2 * MiB);
    expect(second.rewind()).toBe(true);
    expect(third.add(Buffer.alloc(MiB))).toBe(0);
    expect(second.pieces().map((piece) => piece[0])).toEqual([1, 2, 3, 4]);
    expect(blocks.map(({ back }) => back())).toEqual([0, 0, 0, 0]);
  });

  it('takes nothing of the first one: whether the registry takes any is not known before', async () => {
    const first = await memoryOf(20 * MiB).takeFirst(sizes(4 * MiB), 0, signal);
    taken(first, Buffer.alloc(4 * MiB));
    const second = first.followedBy(sizes(4 * MiB));
    for (const _ of first.pieces()) first.left();
    expect(taken(second, Buffer.alloc(4 * MiB))).toBe(2 * MiB);
    expect(first.rewind()).toBe(true);
    first.release();
    expect(taken(second, Buffer.alloc(4 * MiB))).toBe(2 * MiB);
  });

  it('is not full before it has begun, where the other holds more blocks than it has bytes', async () => {
    const memory = memoryOf(40 * MiB);
    const first = await memory.takeFirst(sizes(4 * MiB, 4 * MiB), 0, signal);
    first.release();
    const blocks = [1, 2, 3, 4].map(lentBlock);
    const second = first.followedBy(sizes(4 * MiB, 4 * MiB));
    for (const { block } of blocks) taken(second, block.subarray(0, MiB - 60_000));
    const third = second.followedBy(sizes(4 * MiB, 4 * MiB));
    expect(await third.fill(Buffer.alloc(MiB))).toHaveLength(0);
  });

  it('waits for room until something has left, and until the other is released', async () => {
    const { second, third } = await chunksOf(memoryOf(20 * MiB));
    let rest: Uint8Array | undefined;
    const filling = third.fill(Buffer.alloc(5 * MiB)).then((left) => {
      rest = left;
    });
    await turn();
    second.left();
    await turn();
    expect(third.length).toBe(3 * MiB);
    expect(rest).toBeUndefined();
    second.release();
    await filling;
    expect(rest).toHaveLength(MiB);
    expect(third.length).toBe(4 * MiB);
  });

  it('gets the copied bytes of the other back, too', async () => {
    const { second, third } = await chunksOf(memoryOf(20 * MiB));
    second.release();
    taken(third, Buffer.alloc(4 * MiB));
    const fourth = third.followedBy(sizes(4 * MiB));
    taken(fourth, Buffer.alloc(2 * MiB));
    const [buffer] = third.pieces().map((piece) => piece.buffer);
    third.left();
    expect(fourth.add(Buffer.alloc(MiB))).toBe(MiB);
    expect(fourth.pieces().at(-1)?.buffer === buffer).toBe(true);
  });

  it('may be smaller: the rest is for other transfers as soon as it is free', async () => {
    const memory = memoryOf(7 * MiB, 2);
    const first = await memory.takeFirst(sizes(5 * MiB), 0, signal);
    expect(taken(first, Buffer.alloc(5 * MiB))).toBe(5 * MiB);
    const second = first.followedBy(sizes(MiB, 0));
    const other = await memory.takeFirst(sizes(4 * MiB), 0, signal);
    expect(taken(other, Buffer.alloc(5 * MiB))).toBe(2 * MiB);
    first.release();
    expect(taken(other, Buffer.alloc(5 * MiB))).toBe(2 * MiB);
    expect(await second.fill(Buffer.alloc(2 * MiB))).toHaveLength(MiB);
  });

  it('is as large where what is read comes in odd pieces, whatever its share', async () => {
    const even = { chunk: 6 * MiB, share: 9_227_468 };
    const first = await memoryOf(88 * MiB, 10).takeFirst(even, 0, signal);
    const read = Buffer.alloc(63_866);
    const lengths: number[] = [];
    for (let chunk = first; lengths.length < 4; ) {
      while ((await chunk.fill(read)).length === 0);
      lengths.push(chunk.length);
      const next = chunk.followedBy(even);
      chunk.release();
      chunk = next;
    }
    expect(lengths).toEqual(Array(4).fill(6 * MiB));
  });

  it('has the size that the target wants at least, however short memory is', async () => {
    const memory = memoryOf(24 * MiB, 3);
    const others = await Promise.all([1, 2].map(() => memory.takeFirst(sizes(10 * MiB), 0, signal)));
    for (const other of others) taken(other, Buffer.alloc(10 * MiB));
    const least = 5 * MiB + 1000;
    const taking = memory.takeFirst(sizes(8 * MiB), least, signal);
    others[0]?.release();
    const first = await taking;
    for (let left = Buffer.alloc(0) as Uint8Array; left.length === 0; ) {
      left = await first.fill(lentBlock(1).block.subarray(0, 400_000));
    }
    expect(first.length).toBeGreaterThanOrEqual(least);
  });

  it.each([
    ['little of each block was read', 400_000],
    ['all of each was', MiB],
  ])('is filled to the last byte where memory is short, whether %s', async (_what, size) => {
    const memory = memoryOf(12 * MiB, 2);
    const [other, first] = await Promise.all([1, 2].map(() => memory.takeFirst(sizes(10 * MiB), 0, signal)));
    taken(other as Chunk, Buffer.alloc(10 * MiB));
    let chunk = first as Chunk;
    for (let nth = 0; nth < 3; nth += 1) {
      let left: Uint8Array = Buffer.alloc(0);
      while (left.length === 0) left = await chunk.fill(lentBlock(1).block.subarray(0, size));
      expect(chunk.length % MiB).toBe(0);
      const next = chunk.followedBy(sizes(10 * MiB));
      chunk.release();
      chunk = next;
    }
  });

  it('is full before its time where memory is short, and the other is gone', async () => {
    const memory = memoryOf(12 * MiB, 2);
    const first = await memory.takeFirst(sizes(8 * MiB), 0, signal);
    const other = await memory.takeFirst(sizes(8 * MiB), 0, signal);
    expect(taken(first, Buffer.alloc(8 * MiB))).toBe(8 * MiB);
    expect(await other.fill(Buffer.alloc(8 * MiB))).toHaveLength(4 * MiB);
    const next = first.followedBy(sizes(8 * MiB));
    first.release();
    expect(await next.fill(Buffer.alloc(9 * MiB))).toHaveLength(MiB);
  });

  it('waits no longer than that where the other had no more to give', async () => {
    const memory = memoryOf(4 * MiB, 2);
    await memory.takeWhole(2 * MiB, signal);
    const first = await memory.takeFirst(sizes(3 * MiB, MiB), 0, signal);
    taken(first, Buffer.alloc(MiB));
    const second = first.followedBy(sizes(3 * MiB, MiB));
    first.release();
    taken(second, Buffer.alloc(MiB));
    const third = second.followedBy(sizes(3 * MiB, MiB));
    second.left();
    const filling = third.fill(Buffer.alloc(3 * MiB));
    await turn();
    second.release();
    expect(await unlessStuck(filling)).toHaveLength(MiB);
  });

  it('leaves all of the memory to others in the end', async () => {
    const memory = memoryOf(20 * MiB);
    const { second, third } = await chunksOf(memory);
    second.left();
    await third.fill(Buffer.alloc(3 * MiB));
    third.release();
    second.release();
    second.release();
    expect(memory.hasRoomFor(15 * MiB, false)).toBe(true);
    expect((await memory.takeWhole(15 * MiB, signal)).add(Buffer.alloc(16 * MiB))).toBe(15 * MiB);
  });
});

describe('transfers that share the memory', () => {
  /** How a transfer goes: its size in quarters of a MiB, and how many turns its start, its pieces and its answers take. */
  const pace = fc.record({
    quarters: fc.integer({ min: 1, max: 60 }),
    startsAfter: fc.integer({ min: 0, max: 60 }),
    leavesAfter: fc.integer({ min: 0, max: 8 }),
    answersAfter: fc.integer({ min: 0, max: 200 }),
    isLent: fc.boolean(),
  });
  type Pace = typeof pace extends fc.Arbitrary<infer T> ? T : never;

  async function turns(count: number): Promise<void> {
    for (let nth = 0; nth < count; nth += 1) await turn();
  }

  async function send(chunk: Chunk, { leavesAfter, answersAfter }: Pace): Promise<void> {
    for (const _ of chunk.pieces()) {
      await turns(leavesAfter);
      chunk.left();
    }
    await turns(answersAfter);
    chunk.release();
  }

  /** Copies as fast as it may; it counts as one of those under way. */
  async function transfer(memory: ChunkMemory, underWay: Set<Pace>, pace: Pace): Promise<void> {
    await turns(pace.startsAfter);
    underWay.add(pace);
    const next = () => memory.sizesFor(underWay.size, bounds, false);
    let chunk = await memory.takeFirst(next(), 0, signal);
    let sending = Promise.resolve();
    for (let nth = 0; nth < pace.quarters; nth += 1) {
      const bytes = pace.isLent ? lentBlock(1).block.subarray(0, MiB / 4) : Buffer.alloc(MiB / 4);
      for (let rest = await chunk.fill(bytes); rest.length > 0; rest = await chunk.fill(rest)) {
        await sending;
        expect(chunk.length).toBeGreaterThan(0);
        sending = send(chunk, pace);
        chunk = chunk.followedBy(next());
      }
    }
    await sending;
    chunk.release();
    underWay.delete(pace);
  }

  it('all come to their end, however they begin and whatever holds them up, and leave all of it', async () => {
    const paces = fc.array(pace, { minLength: 1, maxLength: 5 });
    await fc.assert(
      fc.asyncProperty(paces, fc.integer({ min: 2, max: 9 }), async (paces, mebibytes) => {
        const memory = memoryOf(mebibytes * MiB, paces.length);
        const underWay = new Set<Pace>();
        const all = paces.map((pace) => transfer(memory, underWay, pace));
        const ended = Promise.all(all).then(() => true);
        expect(await Promise.race([ended, turns(20_000).then(() => false)])).toBe(true);
        await unlessStuck(memory.takeWhole(mebibytes * MiB, signal));
      }),
      { numRuns: 60 },
    );
  });
});
