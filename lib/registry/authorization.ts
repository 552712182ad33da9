import type { Observer } from '../oci/roles.ts';
import { type Challenge, parseChallenges } from './challenge.ts';
import type { Endpoint } from './endpoint.ts';
import { headersOf } from './headers.ts';
import { mergeScopes, splitScopes } from './scope.ts';
import { canRepeat, type Outgoing, type Send, type SendOutgoing, type TransportResponse } from './send.ts';

/** The request that has to be let in. */
export interface AuthorizationRequest {
  readonly scopes: readonly string[];
  readonly signal: AbortSignal | undefined;
  readonly observer: Observer | undefined;
  /** Sends without authorization: for token services and logins. It retries by itself and never follows a redirect. */
  readonly send: Send;
}

/** Knows how to be let in by one registry. */
export interface Authorizer {
  /** The value of `authorization`; `undefined` where nothing is known yet, or nothing is needed. */
  authorize(request: AuthorizationRequest): Promise<string | undefined>;
  /**
   * The registry answered 401, to `refused` if something was sent: whether there is something else to try.
   * @throws ERR_UNAUTHORIZED and others where the login itself fails.
   */
  challenged(
    challenges: readonly Challenge[],
    refused: string | undefined,
    request: AuthorizationRequest,
  ): Promise<boolean>;
}

export interface AuthorizationOptions {
  readonly authorizer: Authorizer;
  readonly endpoint: Endpoint;
  readonly send: Send;
}

/**
 * Lets requests in at the registry's own origin, and answers its challenges. Whoever it redirects to, and an upload
 * Location elsewhere, get no credentials and no answer to their challenges.
 */
export function withAuthorization(next: SendOutgoing, options: AuthorizationOptions): SendOutgoing {
  const { authorizer, endpoint, send } = options;
  return async (request) => {
    if (request.url.origin !== endpoint.origin) return next(request);
    let { scopes = [] } = request;
    let bare = 0;
    let refusals = 0;
    for (;;) {
      const asking = { scopes, signal: request.signal, observer: request.observer, send };
      const authorization = await authorizer.authorize(asking);
      const response = await next(authorization === undefined ? request : withHeader(request, authorization));
      if (!isOwn401(response, endpoint)) return response;
      // What was made a moment ago may be refused once: a token that the registry has just forgotten. Not twice.
      if (authorization === undefined ? bare++ > 0 : refusals++ > 0) return response;
      const challenges = parseChallenges(headersOf(response.headers, 'www-authenticate'));
      scopes = mergeScopes([
        ...scopes,
        ...challenges.flatMap(({ parameters }) => splitScopes(parameters.get('scope'))),
      ]);
      if (!(await authorizer.challenged(challenges, authorization, { ...asking, scopes }))) return response;
      if (!canRepeat(request)) return response;
    }
  };
}

function withHeader(request: Outgoing, authorization: string): Outgoing {
  return { ...request, headers: { ...request.headers, authorization } };
}

function isOwn401(response: TransportResponse, endpoint: Endpoint): boolean {
  return response.status === 401 && new URL(response.url).origin === endpoint.origin;
}
