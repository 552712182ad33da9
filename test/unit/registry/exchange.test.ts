import type { Dispatcher } from 'undici';
import { describe, expect, it } from 'vitest';
import { exchange } from '../../../lib/registry/exchange.ts';

describe('what is sent', () => {
  it('is in memory of its own where it may still wait in a socket when the answer has come', async () => {
    const large = Buffer.alloc(1 << 20, 1);
    const small = Buffer.alloc(5000, 2);
    let sent: Uint8Array[] = [];
    const dispatcher = {
      dispatch({ body }: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler) {
        sent = [...(body as unknown as Iterable<Uint8Array>)];
        handler.onResponseStart?.({} as Dispatcher.DispatchController, 202, {}, 'Accepted');
        return true;
      },
    } as unknown as Dispatcher;
    const { status } = await exchange(dispatcher, {
      method: 'PATCH',
      url: new URL('http://localhost/'),
      headers: {},
      body: [large, small],
      signal: undefined,
      headersTimeoutMs: 1000,
      onSent() {},
    });
    expect(status).toBe(202);
    expect(sent[0]).toBe(large);
    expect(sent[1]).toEqual(small);
    expect(sent[1]?.buffer).not.toBe(small.buffer);
  });

  it('is told to its owner piece by piece as it leaves, and not after the answer', async () => {
    const pieces = Array.from({ length: 4 }, (_, index) => Buffer.alloc(1 << 20, index));
    const told: number[] = [];
    let left = 0;
    const dispatcher = {
      dispatch({ body }: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler) {
        const sending = (body as unknown as Iterable<Uint8Array>)[Symbol.iterator]();
        for (let count = 0; count < 3; count += 1) {
          sending.next();
          told.push(left);
        }
        handler.onResponseStart?.({} as Dispatcher.DispatchController, 429, {}, 'Too Many Requests');
        sending.next();
        sending.next();
        told.push(left);
        return true;
      },
    } as unknown as Dispatcher;
    const request = {
      method: 'PATCH',
      url: new URL('http://localhost/'),
      headers: {},
      body: pieces,
      owner: {
        left() {
          left += 1;
        },
        rewind: () => false,
      },
      signal: undefined,
      headersTimeoutMs: 1000,
      onSent() {},
    } as const;
    expect((await exchange(dispatcher, request)).status).toBe(429);
    expect(told).toEqual([0, 1, 2, 2]);
  });
});
