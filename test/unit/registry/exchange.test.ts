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
});
