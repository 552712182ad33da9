/**
 * Logs in at a registry the two ways that registries know: Basic, and Bearer with the tokens of a token service
 * (distribution's "Docker Registry v2 authentication via central service").
 */

import { keepSecret, keepToken } from '../errors/secrets.ts';
import { RegistryError, redactUrl } from '../errors.ts';
import type { Observer } from '../oci/roles.ts';
import type { AuthorizationRequest, Authorizer } from './authorization.ts';
import type { Challenge } from './challenge.ts';
import type { Clock } from './clock.ts';
import type { Endpoint } from './endpoint.ts';
import { failureOf, isRecord, parseJson, protocolFailure } from './failure.ts';
import { SharedFlights } from './flight.ts';
import { mergeScopes } from './scope.ts';
import type { Send, TransportRequest, TransportResponse } from './send.ts';

/** What a registry or its token service takes as a login. */
export type Credential =
  | { readonly username: string; readonly password: string }
  /** A refresh token of the token service, as `docker login` stores it. */
  | { readonly identityToken: string };

export interface CredentialRequest {
  /** What this source gave before, and the token service refused: give another one, or nothing. */
  readonly refused: Credential | undefined;
  /** What the registry's challenge calls itself; empty where it did not say. */
  readonly service: string;
  readonly signal: AbortSignal | undefined;
  readonly observer: Observer | undefined;
  /** Sends without authorization, with the registry's connections, retries and counting. */
  readonly send: Send;
}

/** Where the login comes from; `undefined` is anonymous. It keeps what it has: it is asked for every token. */
export type CredentialSource = (request: CredentialRequest) => Promise<Credential | undefined>;

/** A login that never changes. */
export function fixedCredential(credential: Credential | undefined): CredentialSource {
  return async ({ refused }) => (refused === undefined ? credential : undefined);
}

export interface RegistryAuthorizerOptions {
  readonly endpoint: Endpoint;
  readonly mayReach: (url: URL) => boolean;
  readonly credentials: CredentialSource;
  readonly clock: Clock;
}

export function createRegistryAuthorizer(options: RegistryAuthorizerOptions): Authorizer {
  return new RegistryAuthorizer(options);
}

const maxTokenAnswer = 128 * 1024;
/** No server takes a longer header. */
const longestToken = 16 * 1024;
/** Of a token that does not say how long it lives (distribution's "Token Authentication Specification"). */
const defaultLifetimeSeconds = 60;
const longestLifetimeSeconds = 24 * 3600;
/** The part of a token's life after which it is renewed, so that it does not end in the middle of a request. */
const usablePart = 0.8;

type Way =
  | { readonly scheme: 'basic' }
  | { readonly scheme: 'bearer'; readonly realm: URL; readonly service: string };

interface Token {
  readonly value: string;
  /** Milliseconds since the epoch. */
  readonly usableUntil: number;
}

class RegistryAuthorizer implements Authorizer {
  readonly #options: RegistryAuthorizerOptions;
  readonly #tokens = new Map<string, Token>();
  readonly #flights = new SharedFlights<Token>();
  /** As the registry's last challenge had it: later requests need none. */
  #way: Way | undefined;

  constructor(options: RegistryAuthorizerOptions) {
    this.#options = options;
  }

  async authorize(request: AuthorizationRequest): Promise<string | undefined> {
    const way = this.#way;
    if (way === undefined) return undefined;
    if (way.scheme === 'basic') return this.#basic(request);
    const scopes = mergeScopes(request.scopes);
    const key = [way.realm.href, way.service, ...scopes].join(' ');
    const known = this.#tokens.get(key);
    if (known !== undefined && known.usableUntil > this.#options.clock.now()) return bearerOf(known);
    const token = await this.#flights.join(key, request.signal, async (signal) => {
      const fresh = await this.#fetchToken(way, scopes, { ...request, signal });
      this.#keep(key, fresh);
      return fresh;
    });
    return bearerOf(token);
  }

  async challenged(
    challenges: readonly Challenge[],
    refused: string | undefined,
    request: AuthorizationRequest,
  ): Promise<boolean> {
    this.#forget(refused);
    const way = this.#wayOf(challenges);
    if (way === undefined) return false;
    this.#way = way;
    return way.scheme === 'bearer' || (refused === undefined && (await this.#basic(request)) !== undefined);
  }

  #wayOf(challenges: readonly Challenge[]): Way | undefined {
    const bearer = challenges.find(
      ({ scheme, parameters }) => scheme === 'bearer' && parameters.has('realm'),
    );
    if (bearer !== undefined) return this.#bearerWay(bearer.parameters);
    return challenges.some(({ scheme }) => scheme === 'basic') ? { scheme: 'basic' } : undefined;
  }

  /** Credentials go to a token service over TLS only, unless the registry itself is spoken to without. */
  #bearerWay(parameters: ReadonlyMap<string, string>): Way {
    const { endpoint, mayReach } = this.#options;
    const text = parameters.get('realm') ?? '';
    const realm = URL.canParse(text) ? new URL(text) : undefined;
    const isFit = realm?.protocol === 'https:' || (realm?.protocol === 'http:' && endpoint.isPlain);
    if (realm === undefined || !isFit || !mayReach(realm)) {
      const url = redactUrl(text);
      const message = `${endpoint.host} names a token service that gets no credentials: ${url}`;
      throw new RegistryError('ERR_REDIRECT', message, { method: 'GET', url });
    }
    return { scheme: 'bearer', realm, service: parameters.get('service') ?? '' };
  }

  async #basic(request: AuthorizationRequest): Promise<string | undefined> {
    const credential = await this.#credential(request, undefined);
    return credential !== undefined && 'password' in credential ? basicOf(credential) : undefined;
  }

  async #credential(
    request: AuthorizationRequest,
    refused: Credential | undefined,
  ): Promise<Credential | undefined> {
    const { signal, observer, send } = request;
    const service = this.#way?.scheme === 'bearer' ? this.#way.service : '';
    const credential = await this.#options.credentials({ refused, service, signal, observer, send });
    if (credential !== undefined) keepCredential(credential);
    return credential;
  }

  async #fetchToken(
    way: Way & { scheme: 'bearer' },
    scopes: readonly string[],
    request: AuthorizationRequest,
  ): Promise<Token> {
    const sentAt = this.#options.clock.now();
    let credential = await this.#credential(request, undefined);
    let response = await this.#ask(way, scopes, credential, request);
    if (isRefusal(response) && credential !== undefined) {
      const other = await this.#credential(request, credential);
      if (other !== undefined) {
        credential = other;
        response = await this.#ask(way, scopes, credential, request);
      }
    }
    if (response.status !== 200) throw tokenFailure(response, this.#options.endpoint.host);
    return tokenIn(await response.body.bytes(maxTokenAnswer), response, sentAt);
  }

  #ask(
    { realm, service }: Way & { scheme: 'bearer' },
    scopes: readonly string[],
    credential: Credential | undefined,
    { send, signal, observer }: AuthorizationRequest,
  ): Promise<TransportResponse> {
    const common = {
      signal,
      observer,
      limit: maxTokenAnswer,
      followRedirects: false,
      idempotent: true,
    } as const;
    const request: TransportRequest =
      credential !== undefined && 'identityToken' in credential
        ? { ...common, ...refreshRequest(realm, service, scopes, credential.identityToken) }
        : { ...common, ...tokenRequest(realm, service, scopes, credential) };
    return send(request);
  }

  #keep(key: string, token: Token): void {
    const now = this.#options.clock.now();
    for (const [other, { usableUntil }] of this.#tokens) if (usableUntil <= now) this.#tokens.delete(other);
    this.#tokens.set(key, token);
  }

  #forget(refused: string | undefined): void {
    for (const [key, { value }] of this.#tokens) if (refused === `Bearer ${value}`) this.#tokens.delete(key);
  }
}

function keepCredential(credential: Credential): void {
  if ('password' in credential) keepSecret(credential.password);
  else keepToken(credential.identityToken);
}

function bearerOf({ value }: Token): string {
  keepToken(value);
  return `Bearer ${value}`;
}

function basicOf({ username, password }: { readonly username: string; readonly password: string }): string {
  const encoded = Buffer.from(`${username}:${password}`).toString('base64');
  keepSecret(encoded);
  return `Basic ${encoded}`;
}

/** `docker login`'s way with a user name and password, and everybody's without. */
function tokenRequest(
  realm: URL,
  service: string,
  scopes: readonly string[],
  credential: { readonly username: string; readonly password: string } | undefined,
): Pick<TransportRequest, 'method' | 'url' | 'headers'> {
  const url = new URL(realm);
  if (service !== '') url.searchParams.set('service', service);
  for (const scope of scopes) url.searchParams.append('scope', scope);
  if (credential === undefined) return { method: 'GET', url: url.href };
  url.searchParams.set('account', credential.username);
  return { method: 'GET', url: url.href, headers: { authorization: basicOf(credential) } };
}

/** OAuth2 with a refresh token (distribution's "Docker Registry v2 OAuth2 token"). */
function refreshRequest(
  realm: URL,
  service: string,
  scopes: readonly string[],
  identityToken: string,
): Pick<TransportRequest, 'method' | 'url' | 'headers' | 'body'> {
  const form = new URLSearchParams({
    grant_type: 'refresh_token',
    service,
    scope: scopes.join(' '),
    client_id: 'hubferry',
    refresh_token: identityToken,
  });
  return {
    method: 'POST',
    url: realm.href,
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: Buffer.from(form.toString()),
  };
}

function isRefusal({ status }: TransportResponse): boolean {
  return status === 400 || status === 401 || status === 403;
}

function tokenFailure(response: TransportResponse, host: string): RegistryError {
  // OAuth2 refuses a login with 400 (RFC 6749 section 5.2).
  return failureOf(
    `The login at ${host} failed`,
    response,
    response.status === 400 ? { code: 'ERR_UNAUTHORIZED' } : {},
  );
}

function tokenIn(bytes: Uint8Array, response: TransportResponse, sentAt: number): Token {
  const body = parseJson(bytes);
  const { token, access_token, expires_in } = isRecord(body) ? body : {};
  const value = givenToken(token || access_token, 'The token service', response);
  const lifetime = secondsIn(expires_in) ?? lifetimeOfJwt(value, sentAt) ?? defaultLifetimeSeconds;
  return { value, usableUntil: sentAt + Math.min(lifetime, longestLifetimeSeconds) * usablePart * 1000 };
}

/** What a service gave as a token, from now on taken out of what people see. @throws ERR_PROTOCOL for what is none */
export function givenToken(value: unknown, giver: string, response: TransportResponse): string {
  // It becomes a header's value: nothing but visible ASCII.
  if (typeof value !== 'string' || !/^[\x21-\x7e]+$/.test(value)) {
    throw protocolFailure(`${giver} gave no token`, response);
  }
  if (value.length > longestToken) {
    throw protocolFailure(`${giver} gave a token of ${value.length} characters`, response);
  }
  keepToken(value);
  return value;
}

function secondsIn(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isFinite(value) && value > 0 ? value : undefined;
}

/**
 * Seconds that a JSON Web Token (RFC 7519 section 4.1) has left, which is all that ACR tells: from issue to expiry, or
 * from now where that is less. ACR issues them as of some minutes ago; and the clock here may be wrong.
 */
export function lifetimeOfJwt(token: string, now: number): number | undefined {
  const claims = parseJson(Buffer.from(token.split('.')[1] ?? '', 'base64url'));
  if (!isRecord(claims) || typeof claims.exp !== 'number' || typeof claims.iat !== 'number') return undefined;
  const whole = secondsIn(claims.exp - claims.iat);
  const left = secondsIn(claims.exp - now / 1000);
  return whole === undefined ? undefined : Math.min(whole, left ?? whole);
}
