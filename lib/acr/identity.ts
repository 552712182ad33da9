import type { AccessToken, TokenCredential } from '@azure/core-auth';
import { keepToken } from '../errors/secrets.ts';
import { HubferryError, redact } from '../errors.ts';
import type { Clock } from '../registry/clock.ts';
import { failureOf, isRecord, parseJson } from '../registry/failure.ts';
import { SharedFlights } from '../registry/flight.ts';
import type { TransportResponse } from '../registry/send.ts';
import {
  type CredentialRequest,
  type CredentialSource,
  givenToken,
  lifetimeOfJwt,
} from '../registry/token.ts';

export const exchangePath = '/oauth2/exchange';

const maxAnswer = 128 * 1024;
/** Of a refresh token that does not tell how long it lives; they live three hours. */
const defaultLifetimeSeconds = 3600;
/** The part of a token's life after which it is replaced. */
const usablePart = 0.8;

export interface IdentityLoginOptions {
  readonly identity: TokenCredential;
  /** Of Entra tokens: `https://containerregistry.azure.net`. */
  readonly audience: string;
  readonly clock: Clock;
}

interface RefreshToken {
  readonly identityToken: string;
  /** Milliseconds since the epoch. */
  readonly usableUntil: number;
}

/**
 * The login of an Azure identity: an Entra token, exchanged for a refresh token of the registry (Azure/acr "AAD-OAuth").
 * When the registry refuses that, it is done again from the start: a change of its permission mode ends all tokens.
 */
export function identityLogin({ identity, audience, clock }: IdentityLoginOptions): CredentialSource {
  const flights = new SharedFlights<RefreshToken>();
  let known: RefreshToken | undefined;

  async function exchange(request: CredentialRequest): Promise<RefreshToken> {
    const entra = await entraToken(identity, audience, request.signal);
    const sentAt = clock.now();
    const response = await request.send({
      method: 'POST',
      url: exchangePath,
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: Buffer.from(
        new URLSearchParams({
          grant_type: 'access_token',
          service: request.service,
          access_token: entra.token,
        }).toString(),
      ),
      limit: maxAnswer,
      idempotent: true,
      followRedirects: false,
      signal: request.signal,
      observer: request.observer,
    });
    if (response.status !== 200) throw exchangeFailure(response);
    const identityToken = await refreshTokenIn(response);
    const lifetime = lifetimeOfJwt(identityToken, sentAt) ?? defaultLifetimeSeconds;
    return { identityToken, usableUntil: sentAt + lifetime * usablePart * 1000 };
  }

  return async (request) => {
    if (known === request.refused || (known?.usableUntil ?? 0) <= clock.now()) known = undefined;
    known ??= await flights.join(request.service, request.signal, (signal) =>
      exchange({ ...request, signal }),
    );
    return known;
  };
}

async function entraToken(
  identity: TokenCredential,
  audience: string,
  signal: AbortSignal | undefined,
): Promise<AccessToken> {
  const token = await askIdentity(identity, `${audience}/.default`, signal);
  if (token === null) {
    throw new HubferryError('ERR_IDENTITY', `The Azure identity gave no token for ${audience}`);
  }
  keepToken(token.token);
  return token;
}

async function askIdentity(
  identity: TokenCredential,
  scope: string,
  signal: AbortSignal | undefined,
): Promise<AccessToken | null> {
  try {
    return await identity.getToken(scope, signal === undefined ? {} : { abortSignal: signal });
  } catch (cause) {
    signal?.throwIfAborted();
    if (cause instanceof HubferryError) throw cause;
    const reason = cause instanceof Error ? redact(cause.message).split('\n', 1)[0] : '';
    throw new HubferryError('ERR_IDENTITY', `The Azure identity gave no token: ${reason}`, { cause });
  }
}

function exchangeFailure(response: TransportResponse): HubferryError {
  const refused = response.status === 400 || response.status === 401;
  return failureOf(
    'The registry does not take the Azure identity',
    response,
    refused ? { code: 'ERR_UNAUTHORIZED' } : {},
  );
}

async function refreshTokenIn(response: TransportResponse): Promise<string> {
  const body = parseJson(await response.body.bytes(maxAnswer));
  return givenToken(isRecord(body) ? body.refresh_token : undefined, "The registry's exchange", response);
}
