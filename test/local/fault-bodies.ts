/** Bodies on their way through the proxy, never held as a whole. */
import type { Readable, Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import type { Fault, Side } from './fault-kinds.ts';

/** Thrown where the connection is to break. */
export class Break extends Error {
  override readonly name = 'Break';
}

/** A body as the fault leaves it. @param length as announced */
export async function* spoiled(
  body: Readable,
  side: Side,
  fault: Fault | undefined,
  length: number | undefined,
): AsyncGenerator<Buffer> {
  if (fault === undefined || ('side' in fault ? fault.side : 'response') !== side) {
    yield* body;
    return;
  }
  const place = (position: number) =>
    Math.min(position, Math.max(0, (length ?? Number.POSITIVE_INFINITY) - 1));
  switch (fault.kind) {
    case 'reset':
      yield* upTo(body, place(fault.after));
      throw new Break();
    case 'stall':
      yield* upTo(body, place(fault.after));
      await new Promise<never>(() => {});
      return;
    case 'truncate':
      yield* upTo(body, place(fault.after));
      return;
    case 'corrupt':
      yield* withOtherByte(body, place(fault.at));
      return;
    case 'drip':
      yield* dripping(body, fault.bytes, fault.everyMs);
      return;
    default:
      yield* body;
  }
}

async function* upTo(body: Readable, end: number): AsyncGenerator<Buffer> {
  if (end === 0) return;
  let passed = 0;
  // The stream stays open behind the loop: a stalled peer keeps its connection.
  for await (const chunk of body.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    yield chunk.subarray(0, end - passed);
    passed += chunk.byteLength;
    if (passed >= end) return;
  }
}

async function* withOtherByte(body: AsyncIterable<Buffer>, at: number): AsyncGenerator<Buffer> {
  let passed = 0;
  for await (const chunk of body) {
    const index = at - passed;
    if (index >= 0 && index < chunk.byteLength) chunk.writeUInt8(chunk.readUInt8(index) ^ 1, index);
    passed += chunk.byteLength;
    yield chunk;
  }
}

async function* dripping(
  body: AsyncIterable<Buffer>,
  bytes: number,
  everyMs: number,
): AsyncGenerator<Buffer> {
  for await (const chunk of body) {
    for (let at = 0; at < chunk.byteLength; at += bytes) {
      yield chunk.subarray(at, at + bytes);
      await delay(everyMs);
    }
  }
}

/** Writes a body as fast as it is taken, and ends it where it ends. Stops where nobody takes it any more. */
export async function passOn(
  body: AsyncIterable<Buffer>,
  to: Writable,
  onBytes: (bytes: number) => void,
): Promise<void> {
  for await (const chunk of body) {
    if (chunk.byteLength === 0) continue;
    await new Promise((written) => to.write(chunk, written));
    if (to.destroyed) return;
    onBytes(chunk.byteLength);
  }
  to.end();
}
