/**
 * The managed-identity endpoint of App Service and Functions (`IDENTITY_ENDPOINT`, api-version 2019-08-01):
 * gives tokens that ACR's stand-in takes for containers and Azurite (`--oauth basic`) for storage.
 */
import { randomUUID } from 'node:crypto';
import { type Answer, type Exchange, type LocalServer, replyJson, startServer } from './server.ts';
import { signToken } from './tokens.ts';

export interface IdentityOptions {
  /** User-assigned identities that exist. @default any, also none (the system-assigned one) */
  readonly clientIds?: readonly string[];
  /** @default 86400 */
  readonly tokenLifetimeSeconds?: number;
  /** Milliseconds since the epoch. @default Date.now */
  readonly now?: () => number;
}

export interface LocalIdentity extends LocalServer {
  /** What App Service sets for the process. */
  readonly env: { readonly IDENTITY_ENDPOINT: string; readonly IDENTITY_HEADER: string };
  tokenLifetimeSeconds: number;
  /** A token as the endpoint would give it. */
  issue(resource: string): string;
}

export async function startIdentity(options: IdentityOptions = {}): Promise<LocalIdentity> {
  const { clientIds, now = Date.now } = options;
  const secret = randomUUID();
  const tenant = randomUUID();

  function issue(resource: string, clientId = 'system-assigned'): string {
    const iat = Math.floor(now() / 1000);
    return signToken({
      aud: resource,
      // Azurite wants an issuer of Entra's form, and a token that is in force.
      iss: `https://sts.windows.net/${tenant}/`,
      tid: tenant,
      oid: tenant,
      appid: clientId,
      iat,
      nbf: iat - 300,
      exp: iat + identity.tokenLifetimeSeconds,
    });
  }

  function respond(exchange: Exchange): Answer {
    const resource = exchange.query('resource');
    const clientId = exchange.query('client_id');
    if (exchange.method !== 'GET' || exchange.path !== '/msi/token') return problem(404, 'no such route');
    if (exchange.headers['x-identity-header'] !== secret) return problem(401, 'the header is wrong');
    if (exchange.query('api-version') !== '2019-08-01') return problem(400, 'unknown api-version');
    if (resource === undefined) return problem(400, 'resource is missing');
    if (clientIds !== undefined && !clientIds.includes(clientId ?? '')) {
      return problem(400, 'no such identity is assigned');
    }
    return replyJson(200, {
      access_token: issue(resource, clientId),
      expires_on: String(Math.floor(now() / 1000) + identity.tokenLifetimeSeconds),
      resource,
      token_type: 'Bearer',
      client_id: clientId,
    });
  }

  const server = await startServer(respond);
  const identity: LocalIdentity = Object.assign(server, {
    env: { IDENTITY_ENDPOINT: `${server.url}/msi/token`, IDENTITY_HEADER: secret },
    tokenLifetimeSeconds: options.tokenLifetimeSeconds ?? 86_400,
    issue: (resource: string) => issue(resource),
  });
  return identity;
}

function problem(statusCode: number, message: string): Answer {
  return replyJson(statusCode, { statusCode, message });
}
