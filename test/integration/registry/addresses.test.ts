import type { LookupAddress } from 'node:dns';
import { isIP } from 'node:net';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { createConnections, defaultTimeouts } from '../../../lib/registry/connections.ts';
import { exchange } from '../../../lib/registry/exchange.ts';
import { reply } from '../../local/server.ts';
import { afterTest, serve, settingsFor } from './support.ts';

/** What the name server answers for names of these tests. */
const names = vi.hoisted(() => new Map<string, readonly string[]>());

vi.mock('node:dns', async (importOriginal) => {
  const dns = await importOriginal<typeof import('node:dns')>();
  const lookup = (
    name: string,
    options: { readonly all: true },
    callback: (error: Error | null, addresses: LookupAddress[]) => void,
  ) => {
    const addresses = names.get(name);
    if (addresses === undefined) return dns.lookup(name, options, callback);
    callback(
      null,
      addresses.map((address) => ({ address, family: isIP(address) })),
    );
  };
  return { ...dns, lookup };
});

/** Nothing listens there; it stands for an address out on the internet. */
const outside = vi.hoisted(() => '::1');

vi.mock('../../../lib/registry/addresses.ts', async (importOriginal) => {
  const addresses = await importOriginal<typeof import('../../../lib/registry/addresses.ts')>();
  const isInsideAddress = (address: string) => address !== outside && addresses.isInsideAddress(address);
  return { ...addresses, isInsideAddress };
});

beforeEach(() => names.clear());

function connectionsOf(endpoint: string) {
  const connections = createConnections(settingsFor(endpoint), {
    timeouts: defaultTimeouts,
    socketsPerHost: 2,
  });
  afterTest(() => connections.close());
  return connections;
}

const get = (connections: ReturnType<typeof connectionsOf>, address: string) => {
  const url = new URL(address);
  return exchange(connections.dispatcherFor(url), {
    method: 'GET',
    url,
    headers: {},
    body: [],
    signal: undefined,
    headersTimeoutMs: 5000,
    onSent() {},
  });
};

describe('a registry out on the internet', () => {
  it('may not send its clients to addresses inside', () => {
    const connections = connectionsOf('https://registry.example');
    for (const url of [
      'http://10.0.0.1/',
      'http://169.254.169.254/',
      'https://[fd00::1]/',
      'https://localhost/',
    ]) {
      expect(connections.mayReach(new URL(url))).toBe(false);
    }
    expect(connections.mayReach(new URL('https://cdn.example/'))).toBe(true);
  });

  it('may not do it by a name either: what counts is the address that is connected to', async () => {
    const server = await serve(() => reply(200));
    const { port } = new URL(server.url);
    // `localhost` stands for any name that resolves to an address inside; it is asked for past the check of names.
    const send = get(connectionsOf('https://registry.example'), `http://localhost:${port}/`);
    await expect(send).rejects.toMatchObject({ code: 'ERR_REDIRECT', retryable: false });
    expect(server.requests).toHaveLength(0);
  });
});

describe('a registry by a name', () => {
  const inside = '127.0.0.1';

  async function start() {
    const server = await serve(() => reply(204, { connection: 'close' }));
    const { port } = new URL(server.url);
    const connections = connectionsOf(`http://registry.test:${port}`);
    return {
      /** What comes of a request while the name has these addresses. */
      async send(addresses: readonly string[], name = 'registry.test'): Promise<unknown> {
        names.set(name, addresses);
        const answer = get(connections, `http://${name}:${port}/`);
        return answer.then(({ status }) => status).catch(({ code }: { code: string }) => code);
      },
      mayGoInside: () => connections.mayReach(new URL('http://10.0.0.1/')),
      /** How many requests have come to the address inside. */
      received: () => server.requests.length,
    };
  }

  it.each([
    ['inside and outside', [inside, outside]],
    ['outside and inside', [outside, inside]],
  ])('that has addresses %s is asked outside alone', async (_, mixed) => {
    const { send, received } = await start();
    expect(await send(mixed)).toBe('ERR_CONNECTION');
    expect(received()).toBe(0);
  });

  it('that has an address outside may not name neighbours, by address or by name', async () => {
    const { send, mayGoInside, received } = await start();
    await send([inside, outside]);
    expect(mayGoInside()).toBe(false);
    expect(await send([inside], 'internal.test')).toBe('ERR_REDIRECT');
    expect(await send([inside, outside], 'internal.test')).toBe('ERR_CONNECTION');
    expect(received()).toBe(0);
  });

  it('that has been outside is never reached inside, whatever the name answers later', async () => {
    const { send, mayGoInside, received } = await start();
    await send([outside]);
    expect(await send([inside])).toBe('ERR_REDIRECT');
    expect(await send([inside, outside])).toBe('ERR_CONNECTION');
    expect(mayGoInside()).toBe(false);
    expect(received()).toBe(0);
  });

  it('that is inside is no longer so once the name answers with an address outside', async () => {
    const { send, mayGoInside, received } = await start();
    expect(await send([inside])).toBe(204);
    expect(mayGoInside()).toBe(true);
    expect(await send([inside, outside])).toBe('ERR_CONNECTION');
    expect(mayGoInside()).toBe(false);
    expect(await send([inside])).toBe('ERR_REDIRECT');
    expect(received()).toBe(1);
  });
});

describe('a registry inside', () => {
  it('may name its neighbours', async () => {
    const server = await serve(() => reply(204));
    const { port } = new URL(server.url);
    const connections = connectionsOf('http://127.0.0.1:1');
    expect(connections.mayReach(new URL('http://10.0.0.1/'))).toBe(true);
    expect((await get(connections, `http://localhost:${port}/`)).status).toBe(204);
  });

  it('is known by its address where its name does not say so', async () => {
    const server = await serve(() => reply(204));
    const { port } = new URL(server.url);
    const connections = connectionsOf(`http://localhost:${port}`);
    expect((await get(connections, `http://localhost:${port}/`)).status).toBe(204);
    expect(connections.mayReach(new URL('http://10.0.0.1/'))).toBe(true);
  });
});
