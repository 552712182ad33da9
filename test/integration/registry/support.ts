/** What the tests of the registry room share: settings, and a clock that does not wait. */
import { afterEach } from 'vitest';
import type { RegistrySettings } from '../../../lib/config/model.ts';
import type { Observer } from '../../../lib/oci/roles.ts';
import type { Clock } from '../../../lib/registry/clock.ts';
import { createTransport, type Transport, type TransportOptions } from '../../../lib/registry/transport.ts';
import { type LocalServer, type Respond, type ServerOptions, startServer } from '../../local/server.ts';

const cleanups: (() => unknown)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** Runs when the test is over, the last first. */
export function afterTest(cleanup: () => unknown): void {
  cleanups.push(cleanup);
}

export async function serve(respond: Respond, options?: ServerOptions): Promise<LocalServer> {
  const server = await startServer(respond, options);
  afterTest(() => server.close());
  return server;
}

/** An address where nothing listens. */
export async function closedServer(): Promise<LocalServer> {
  const server = await startServer(() => undefined);
  await server.close();
  return server;
}

export function settingsFor(endpoint: string, more: Partial<RegistrySettings> = {}): RegistrySettings {
  return {
    host: new URL(endpoint).host,
    kind: 'oci',
    endpoint,
    identity: false,
    audience: '',
    skipTlsVerify: false,
    allowHttpFallback: false,
    ...more,
  };
}

export interface FakeClock extends Clock {
  /** Every sleep, in milliseconds. */
  readonly slept: number[];
  advance(ms: number): void;
}

/** A clock whose sleeps are over at once. */
export function fakeClock(start = Date.parse('2026-11-24T08:00:00Z')): FakeClock {
  let now = start;
  const slept: number[] = [];
  return {
    slept,
    now: () => now,
    advance: (ms) => {
      now += ms;
    },
    async sleep(ms, signal) {
      signal?.throwIfAborted();
      slept.push(ms);
      now += ms;
    },
  };
}

export function transportTo(
  endpoint: string,
  options: Partial<TransportOptions> & { readonly with?: Partial<RegistrySettings> } = {},
): Transport {
  const { with: more, ...rest } = options;
  const transport = createTransport({ settings: settingsFor(endpoint, more), clock: fakeClock(), ...rest });
  afterTest(() => transport.close());
  return transport;
}

/** Counts what it hears. */
export function countingObserver(): Observer & { requests: number; pulls: number } {
  const counts = {
    requests: 0,
    pulls: 0,
    onRequest: () => void counts.requests++,
    onPull: () => void counts.pulls++,
  };
  return counts;
}
