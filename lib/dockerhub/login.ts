import { keepSecret, keepToken } from '../errors/secrets.ts';
import { HubferryError } from '../errors.ts';
import type { AuthorizationRequest, Authorizer } from '../registry/authorization.ts';
import type { Challenge } from '../registry/challenge.ts';
import type { Clock } from '../registry/clock.ts';
import { failureOf, isRecord, parseJson } from '../registry/failure.ts';
import { SharedFlights } from '../registry/flight.ts';
import type { TransportResponse } from '../registry/send.ts';
import { type CredentialSource, givenToken, lifetimeOfJwt } from '../registry/token.ts';

const maxAnswer = 64 * 1024;
/** Of a token that does not tell how long it lives. */
const defaultLifetimeSeconds = 300;
/** The part of a token's life after which it is renewed. */
const usablePart = 0.8;

interface Token {
  readonly value: string;
  /** Milliseconds since the epoch. */
  readonly usableUntil: number;
}

/**
 * Logs in to Docker Hub's web API (docs.docker.com "Docker HUB API", `POST /v2/auth/token`). Without a user name it reads
 * as everybody does.
 */
export class WebApiLogin implements Authorizer {
  readonly #credentials: CredentialSource;
  readonly #clock: Clock;
  readonly #flights = new SharedFlights<Token>();
  #token: Token | undefined;

  constructor(credentials: CredentialSource, clock: Clock) {
    this.#credentials = credentials;
    this.#clock = clock;
  }

  async authorize(request: AuthorizationRequest): Promise<string | undefined> {
    if (this.#token !== undefined && this.#token.usableUntil > this.#clock.now()) {
      return bearerOf(this.#token);
    }
    const { signal, observer, send } = request;
    const credential = await this.#credentials({ refused: undefined, service: '', signal, observer, send });
    if (credential === undefined) return undefined;
    if (!('password' in credential)) {
      throw new HubferryError('ERR_UNAUTHORIZED', "An identity token is no login for Docker Hub's web API");
    }
    const { username: identifier, password: secret } = credential;
    keepSecret(secret);
    this.#token = await this.#flights.join(identifier, signal, (shared) =>
      this.#logIn({ identifier, secret }, { ...request, signal: shared }),
    );
    return bearerOf(this.#token);
  }

  /** A token that ended early is replaced; a refusal without one is final. */
  async challenged(_: readonly Challenge[], refused: string | undefined): Promise<boolean> {
    if (refused === undefined) return false;
    if (refused === `Bearer ${this.#token?.value}`) this.#token = undefined;
    return true;
  }

  async #logIn(
    body: { readonly identifier: string; readonly secret: string },
    { send, signal, observer }: AuthorizationRequest,
  ): Promise<Token> {
    const sentAt = this.#clock.now();
    const response = await send({
      method: 'POST',
      url: '/v2/auth/token',
      headers: { 'content-type': 'application/json' },
      body: Buffer.from(JSON.stringify(body)),
      idempotent: true,
      followRedirects: false,
      limit: maxAnswer,
      signal,
      observer,
    });
    if (response.status !== 200) throw failureOf("The login at Docker Hub's web API failed", response);
    const value = await tokenIn(response);
    const lifetime = lifetimeOfJwt(value, sentAt) ?? defaultLifetimeSeconds;
    return { value, usableUntil: sentAt + lifetime * usablePart * 1000 };
  }
}

function bearerOf({ value }: Token): string {
  keepToken(value);
  return `Bearer ${value}`;
}

async function tokenIn(response: TransportResponse): Promise<string> {
  const body = parseJson(await response.body.bytes(maxAnswer));
  return givenToken(isRecord(body) ? body.access_token : undefined, "Docker Hub's web API", response);
}
