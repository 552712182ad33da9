import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { giveBack } from '../../../lib/oci/memory.ts';
import { lend, ReadBuffer, settle } from '../../../lib/registry/blocks.ts';

/** Reads `length` bytes as a socket would, all of them of a body. */
function read(buffer: ReadBuffer, length: number, value: number): Buffer {
  const piece = readHead(buffer, length, value);
  lend(piece);
  return piece;
}

/** Reads what no reader of a body gets. */
function readHead(buffer: ReadBuffer, length: number, value: number): Buffer {
  buffer.next().fill(value, 0, length);
  return buffer.filled(length);
}

const room = 1024 * 1024;

/** A socket that has begun to read much. */
function busy(): ReadBuffer {
  const buffer = new ReadBuffer();
  read(buffer, buffer.next().length, 0);
  return buffer;
}

describe('memory that sockets read into', () => {
  it('is used again once all of it was given back', () => {
    const buffer = busy();
    const first = read(buffer, room, 1);
    settle(first);
    giveBack(first);
    const second = read(buffer, room, 2);
    expect(second.buffer).toBe(first.buffer);
  });

  it('is used again in a long answer too, once a later piece of it is lent', () => {
    const buffer = busy();
    const first = read(buffer, room, 1);
    giveBack(first);
    const second = read(buffer, room, 2);
    expect(second.buffer).not.toBe(first.buffer);
    expect(read(buffer, room, 3).buffer).toBe(first.buffer);
  });

  it('is used again where whole blocks were read before anything of them was parsed', () => {
    const buffer = busy();
    const pieces = [1, 2, 3].map((value) => readHead(buffer, room, value));
    buffer.next();
    for (const piece of pieces) {
      lend(piece);
      giveBack(piece);
    }
    read(buffer, room, 4);
    const again = new Set(pieces.map((piece) => piece.buffer));
    const next = [5, 6, 7].map((value) => read(buffer, room, value).buffer);
    expect(next.filter((memory) => again.has(memory))).toHaveLength(3);
  });

  it('is used again although heads of answers were read into it', () => {
    const buffer = busy();
    readHead(buffer, 300, 1);
    const body = read(buffer, room - 300, 1);
    giveBack(body);
    settle(body);
    expect(read(buffer, room, 2).buffer).toBe(body.buffer);
  });

  it('is not used again while something that was read into it may not have been parsed', () => {
    const buffer = busy();
    const body = read(buffer, room / 2, 1);
    giveBack(body);
    settle(body);
    const unparsed = readHead(buffer, room / 2, 1);
    read(busy(), room, 2);
    buffer.next();
    read(busy(), room, 3);
    expect(unparsed.every((byte) => byte === 1)).toBe(true);
  });

  it('is not used again while a piece of it is held', () => {
    const buffer = busy();
    const held = read(buffer, room / 2, 1);
    giveBack(read(buffer, room / 2, 1));
    read(buffer, room, 2);
    read(busy(), room, 3);
    expect(held.every((byte) => byte === 1)).toBe(true);
  });

  it('is used again once, however often its end is noticed', () => {
    const buffer = busy();
    const first = read(buffer, room, 1);
    giveBack(first);
    buffer.next();
    settle(first);
    const held = read(busy(), room, 2);
    expect(held.buffer).toBe(first.buffer);
    read(buffer, 1000, 3);
    read(busy(), room, 4);
    expect(held.every((byte) => byte === 2)).toBe(true);
  });

  it('is not used again while its socket still reads into it', () => {
    const buffer = busy();
    const start = read(buffer, 1000, 1);
    giveBack(start);
    const other = read(busy(), 1000, 2);
    expect(other.buffer).not.toBe(start.buffer);
  });

  it('is little for a socket that reads but heads of answers, however many', () => {
    const buffer = new ReadBuffer();
    for (let index = 0; index < 1000; index += 1) {
      expect(buffer.next().length).toBeLessThanOrEqual(64 * 1024);
      read(buffer, 500, index % 256);
    }
  });

  it('takes back nothing that it did not give', () => {
    expect(() => giveBack(Buffer.from('abc'))).not.toThrow();
  });

  it('never changes a piece before it is given back, whoever reads and gives back in whatever order', () => {
    const step = fc.record({
      socket: fc.nat(2),
      length: fc.integer({ min: 1, max: 64 * 1024 }),
      keep: fc.nat(40),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const sockets = [busy(), busy(), busy()];
        const held: { piece: Buffer; value: number }[] = [];
        steps.forEach(({ socket, length, keep }, index) => {
          const buffer = sockets[socket] ?? busy();
          held.push({ piece: read(buffer, length, index % 256), value: index % 256 });
          if (keep % 2 === 0) settle(held.at(-1)?.piece ?? Buffer.of());
          while (held.length > keep) {
            const oldest = held.shift();
            if (oldest !== undefined) giveBack(oldest.piece);
          }
          for (const { piece, value } of held) {
            expect(piece[0] === value && piece[piece.length - 1] === value).toBe(true);
          }
        });
      }),
      { numRuns: 50 },
    );
  });
});
