/**
 * Sends requests to one registry, and wherever it sends its clients: a chain of interceptors around one exchange.
 *
 *   authorization -> retry -> redirects -> one hop (gate, counting, exchange, error body)
 *
 * Retry is inside of authorization, so that a token is renewed once and not once an attempt; it is outside of redirects,
 * so that a signed address that failed is asked for again.
 */
import type { RegistrySettings } from '../config/model.ts';
import { type Authorizer, withAuthorization } from './authorization.ts';
import { type Clock, systemClock } from './clock.ts';
import { createConnections, defaultSocketsPerHost, defaultTimeouts, type Timeouts } from './connections.ts';
import { Endpoint } from './endpoint.ts';
import type { Answered } from './failure.ts';
import { createHostGate, type HostGate } from './gate.ts';
import { createHop } from './hop.ts';
import { withRedirects } from './redirect.ts';
import { withRetry } from './retry.ts';
import type { OnAnswer, Outgoing, Send, TransportRequest } from './send.ts';
import {
  type Credential,
  type CredentialSource,
  createRegistryAuthorizer,
  fixedCredential,
} from './token.ts';

export interface Transport {
  readonly send: Send;
  /** The base URL in use, without a trailing slash. */
  endpoint(): string;
  /** Closes all connections; what is under way fails. */
  close(): Promise<void>;
}

export interface TransportOptions {
  readonly settings: RegistrySettings;
  /**
   * Where the login comes from, for a registry that speaks Basic or Bearer.
   * @default user name and password of the settings, else anonymous
   */
  readonly credentials?: CredentialSource;
  /** In place of the registry's own ways of logging in. */
  readonly authorizer?: Authorizer;
  /** Shared by all registries of the process. */
  readonly gate?: HostGate;
  /** Attempts after the first. @default 3 */
  readonly retries?: number;
  /** The longest `Retry-After` that is waited for. @default 60 s */
  readonly maxWaitMs?: number;
  /** Whether successful manifest GETs are told as pulls. @default false */
  readonly countPulls?: boolean;
  /** Whether an answer with 429 to a pull is about the pulls of one login; the host is open to all else. @default one that asks for a long wait */
  readonly isPullLimit?: (answer: Answered) => boolean;
  /** For what a registry tells in the headers of any answer, such as an allowance. */
  readonly onAnswer?: OnAnswer;
  /** Two for each blob in flight, and some for the rest. @default 32 */
  readonly socketsPerHost?: number;
  readonly timeouts?: Partial<Timeouts>;
  readonly clock?: Clock;
}

export const defaultRetries = 3;
export const defaultMaxWaitMs = 60_000;

export function createTransport(options: TransportOptions): Transport {
  const clock = options.clock ?? systemClock;
  const gate = options.gate ?? createHostGate({ clock });
  const maxWaitMs = options.maxWaitMs ?? defaultMaxWaitMs;
  const timeouts = { ...defaultTimeouts, ...options.timeouts };
  const connections = createConnections(options.settings, {
    timeouts,
    socketsPerHost: options.socketsPerHost ?? defaultSocketsPerHost,
  });
  const endpoint = new Endpoint(options.settings);

  const hop = createHop({
    endpoint,
    connections,
    gate,
    maxWaitMs,
    timeouts,
    countPulls: options.countPulls ?? false,
    onAnswer: options.onAnswer,
  });
  const resent = withRetry(withRedirects(hop), {
    gate,
    clock,
    maxWaitMs,
    retries: options.retries ?? defaultRetries,
    isPullLimit: options.isPullLimit,
  });
  const bare: Send = (request) => resent(outgoing(request, endpoint));
  const authorizer =
    options.authorizer ??
    createRegistryAuthorizer({
      endpoint,
      mayReach: connections.mayReach,
      clock,
      credentials: options.credentials ?? fixedCredential(credentialIn(options.settings)),
    });
  const authorized = withAuthorization(resent, { authorizer, endpoint, send: bare });
  return {
    send: (request) => authorized(outgoing(request, endpoint)),
    endpoint: () => endpoint.base,
    close: () => connections.close(),
  };
}

function outgoing(request: TransportRequest, endpoint: Endpoint): Outgoing {
  const { body = [] } = request;
  return {
    ...request,
    url: endpoint.resolve(request.url),
    headers: request.headers ?? {},
    body: body instanceof Uint8Array ? [body] : body,
  };
}

/** The login in the settings. */
export function credentialIn({ username, password }: RegistrySettings): Credential | undefined {
  return username === undefined || password === undefined ? undefined : { username, password };
}
