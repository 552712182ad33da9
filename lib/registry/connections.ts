import { lookup as systemLookup } from 'node:dns';
import { readFileSync } from 'node:fs';
import type { LookupFunction, OnReadOpts, Socket } from 'node:net';
import { createSecureContext, getCACertificates, type SecureContext } from 'node:tls';
import { Agent, buildConnector, type Dispatcher, EnvHttpProxyAgent } from 'undici';
import type { RegistrySettings } from '../config/model.ts';
import { HubferryError } from '../errors.ts';
import { AddressRefusedError, isInsideAddress, isInsideHost, isLoopbackHost } from './addresses.ts';
import { ReadBuffer } from './blocks.ts';

export interface Timeouts {
  /** Name resolution, connection and TLS handshake. */
  readonly connectMs: number;
  /** From the request, or the last byte of its body that could be sent, to the head of the answer. */
  readonly headersMs: number;
  /** The same where the registry has work to do first: closing an upload, taking a manifest. */
  readonly commitMs: number;
  /** Between two reads of a body. */
  readonly bodyMs: number;
  /** For all of a body that is read into memory: one that drips never stalls. How slow a blob may come is for its reader to say. */
  readonly wholeMs: number;
}

export const defaultTimeouts: Timeouts = {
  connectMs: 15_000,
  headersMs: 60_000,
  commitMs: 300_000,
  bodyMs: 60_000,
  wholeMs: 120_000,
};

/**
 * Connections to one host. A download holds one while its upload needs another: where both sides are the same registry
 * there have to be two for each blob in flight.
 */
export const defaultSocketsPerHost = 32;

/** Registries answer with signed Locations of some kilobytes; what is beyond this is no answer. */
const maxHeaderSize = 64 * 1024;

export interface ConnectionOptions {
  readonly timeouts: Timeouts;
  readonly socketsPerHost: number;
}

/** The connections of one registry, with its trust: to its own host and to where it sends its clients. */
export interface Connections {
  /** Where a request to this URL goes through: directly, or through the proxy of the environment. */
  dispatcherFor(url: URL): Dispatcher;
  /** Whether the registry may send its clients to this address: one out on the internet may not send them inside. */
  mayReach(url: URL): boolean;
  close(): Promise<void>;
}

export function createConnections(settings: RegistrySettings, options: ConnectionOptions): Connections {
  const guard = new AddressGuard(new URL(settings.endpoint).hostname);
  const trust = trustOf(settings);
  const agentOptions = {
    allowH2: false,
    connections: options.socketsPerHost,
    headersTimeout: options.timeouts.headersMs,
    bodyTimeout: options.timeouts.bodyMs,
    connectTimeout: options.timeouts.connectMs,
    maxHeaderSize,
    connect: createConnector({ ...trust, lookup: guard.lookup, timeout: options.timeouts.connectMs }),
  };
  const direct = new Agent(agentOptions);
  const byEnvironment = new EnvHttpProxyAgent({ ...agentOptions, requestTls: trust, proxyTls: trust });
  return {
    // As curl and Docker have it: what is on this machine is never asked for through a proxy.
    dispatcherFor: (url) => (isLoopbackHost(url.hostname) ? direct : byEnvironment),
    mayReach: (url) => guard.mayReach(url.hostname),
    async close() {
      await Promise.all([direct.destroy(), byEnvironment.destroy()]);
    },
  };
}

/** So many bytes of an upload may wait in a socket; for more undici waits until the system has taken all of them. */
export const writeAhead = 64 * 1024;

/** Opens connections that read into memory of ours. */
function createConnector(options: Partial<buildConnector.BuildOptions>): buildConnector.connector {
  return (request, callback) => {
    const memory = new ReadBuffer();
    const onread: OnReadOpts = {
      buffer: () => memory.next(),
      callback: (length) => socket.push(memory.filled(length)),
    };
    const connect = buildConnector({
      ...options,
      allowH2: false,
      onread,
      // undici's own mark goes for both directions.
      ...{ highWaterMark: undefined, writableHighWaterMark: writeAhead },
    }) as (...args: Parameters<buildConnector.connector>) => Socket;
    const socket = connect(request, callback);
  };
}

/**
 * Keeps a registry out on the internet from sending its clients to addresses inside: by a redirect, an upload Location or
 * a token service, or by what its own name answers later. The addresses are checked as the connection uses them, so that no
 * second lookup can differ.
 */
class AddressGuard {
  readonly #hostname: string;
  /** A registry that is inside itself may name its neighbours. `undefined` until its name has been looked up. */
  #registryIsInside: boolean | undefined;

  constructor(hostname: string) {
    this.#hostname = hostname;
    this.#registryIsInside = isInsideHost(hostname) || undefined;
  }

  mayReach(hostname: string): boolean {
    return this.#registryIsInside === true || !isInsideHost(hostname);
  }

  readonly lookup: LookupFunction = (hostname, options, callback) => {
    systemLookup(hostname, { ...options, all: true }, (error, addresses) => {
      if (error !== null) return callback(error, []);
      const outside = addresses.filter(({ address }) => !isInsideAddress(address));
      if (hostname === this.#hostname) this.#locate(outside.length === 0);
      const reachable = this.#registryIsInside === true ? addresses : outside;
      const [first] = reachable;
      if (first === undefined)
        return callback(new AddressRefusedError(`${hostname} is an address inside this network`), []);
      if (options.all) return callback(null, reachable);
      callback(null, first.address, first.family);
    });
  };

  /** Whoever owns a name outside may have it answer with any address: once outside, the registry is never inside. */
  #locate(inside: boolean): void {
    this.#registryIsInside = inside && this.#registryIsInside !== false;
  }
}

interface Trust {
  readonly secureContext?: SecureContext;
  readonly rejectUnauthorized?: false;
}

/** The registry's own certificate authority is trusted beside those that this process trusts anyway. */
function trustOf(settings: RegistrySettings): Trust {
  return {
    // Built once: reading all the certificates takes milliseconds, too long for each connection.
    ...(settings.ca === undefined ? {} : { secureContext: contextWith(settings.ca, settings.host) }),
    ...(settings.skipTlsVerify ? { rejectUnauthorized: false } : {}),
  };
}

function contextWith(file: string, host: string): SecureContext {
  try {
    return createSecureContext({ ca: [...getCACertificates('default'), readFileSync(file, 'utf8')] });
  } catch (cause) {
    throw new HubferryError('ERR_TLS', `The file \`ca\` of ${host} holds no certificates: ${file}`, {
      cause,
    });
  }
}
