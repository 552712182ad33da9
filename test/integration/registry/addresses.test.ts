import type { LookupAddress } from 'node:dns';
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
      addresses.map((address) => ({ address, family: 4 })),
    );
  };
  return { ...dns, lookup };
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

/** The first is tried first: nobody asks for the second. */
const mixed = ['127.0.0.1', '203.0.113.7'];

describe('a registry whose name has addresses inside and outside', () => {
  async function start() {
    const server = await serve(() => reply(204, { connection: 'close' }));
    const { port } = new URL(server.url);
    const endpoint = `http://registry.test:${port}`;
    const connections = connectionsOf(endpoint);
    const connect = async (addresses: readonly string[]) => {
      names.set('registry.test', addresses);
      expect((await get(connections, endpoint)).status).toBe(204);
    };
    const mayGoInside = () => connections.mayReach(new URL('http://10.0.0.1/'));
    return { connect, mayGoInside, port, connections };
  }

  it('may not name neighbours, by address or by name', async () => {
    const { connect, mayGoInside, port, connections } = await start();
    await connect(mixed);
    expect(mayGoInside()).toBe(false);
    names.set('internal.test', ['127.0.0.1']);
    await expect(get(connections, `http://internal.test:${port}/`)).rejects.toMatchObject({
      code: 'ERR_REDIRECT',
    });
  });

  it('stays outside when its name answers with an address inside later', async () => {
    const { connect, mayGoInside } = await start();
    await connect(mixed);
    await connect(['127.0.0.1']);
    expect(mayGoInside()).toBe(false);
  });

  it('is no longer inside once its name answers with an address outside', async () => {
    const { connect, mayGoInside } = await start();
    await connect(['127.0.0.1']);
    expect(mayGoInside()).toBe(true);
    await connect(mixed);
    expect(mayGoInside()).toBe(false);
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
