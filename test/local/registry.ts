/** A registry in memory, plain or behind a login. Docker Hub's and ACR's stand-ins are made of the same parts. */
import { replyError } from './answers.ts';
import type { Behaviour } from './behaviour.ts';
import { RegistryApi } from './distribution.ts';
import {
  type Answer,
  type Certificate,
  type Exchange,
  type LocalServer,
  replyJson,
  startServer,
} from './server.ts';
import { type LocalRepository, LocalStore } from './store.ts';
import { basicGuard, type Guard, open, parseScopes, TokenAuthority } from './tokens.ts';

export type RegistryAuth =
  | { readonly kind: 'basic'; readonly username: string; readonly password: string }
  | {
      /** A token service at `/token` of the same server. */
      readonly kind: 'token';
      /** Passwords by user name; every user may do everything. */
      readonly users: Readonly<Record<string, string>>;
      /** What a client without a login may do. @default [] */
      readonly anonymous?: readonly string[];
      /** @default 300 */
      readonly lifetimeSeconds?: number;
    };

export interface RegistryOptions extends Partial<Behaviour> {
  readonly auth?: RegistryAuth;
  readonly tls?: Certificate;
  /** Milliseconds since the epoch, for all that expires. @default Date.now */
  readonly now?: () => number;
  readonly log?: boolean;
}

export interface LocalRegistry extends LocalServer {
  /** `127.0.0.1:port`, as it stands in a reference. */
  readonly host: string;
  readonly behaviour: Behaviour;
  readonly store: LocalStore;
  /** Direct access for tests: read it, fill it (see `put` in content.ts), damage it. */
  repository(name: string): LocalRepository;
  /** Forgets all upload sessions. */
  loseUploads(): void;
  /** Refuses every token given until now; only with `auth: { kind: 'token' }`. */
  revokeTokens(): void;
}

export async function startRegistry(options: RegistryOptions = {}): Promise<LocalRegistry> {
  const { auth, tls, now = Date.now, log, ...behaviour } = options;
  const store = new LocalStore(now);
  const authority = new TokenAuthority({
    service: 'stand-in',
    realm: () => `${server.url}/token`,
    lifetimeSeconds: (auth?.kind === 'token' ? auth.lifetimeSeconds : undefined) ?? 300,
    now,
    grant: (account, scope) => {
      const all = account !== undefined || auth?.kind !== 'token';
      return scope.actions.filter((action) => all || auth.anonymous?.includes(action));
    },
  });
  const api = new RegistryApi(store, guardFor(auth, authority), behaviour);
  const respond = (exchange: Exchange) =>
    auth?.kind === 'token' && exchange.path === '/token'
      ? giveToken(exchange, authority, auth.users)
      : api.respond(exchange);
  const server = await startServer(respond, { tls, log });
  const closeServer = server.close;
  return Object.assign(server, {
    host: new URL(server.url).host,
    behaviour: api.behaviour,
    store,
    repository: (name: string) => store.repository(name),
    loseUploads: () => store.uploads.clear(),
    revokeTokens: () => authority.revoke(),
    async close() {
      await closeServer();
      await store.close();
    },
  });
}

function guardFor(auth: RegistryAuth | undefined, authority: TokenAuthority): Guard {
  if (auth === undefined) return open;
  return auth.kind === 'basic' ? basicGuard(auth.username, auth.password) : authority;
}

/** The token service of distribution ("Token Authentication Specification"): GET, Basic where there is a user. */
export function giveToken(
  exchange: Exchange,
  authority: TokenAuthority,
  users: Readonly<Record<string, string>>,
): Answer {
  const { basic } = exchange;
  if (exchange.method !== 'GET') return replyError(405, 'UNSUPPORTED', 'use GET');
  if (exchange.query('service') !== authority.service) {
    return replyError(400, 'UNSUPPORTED', 'unknown service');
  }
  const refused = basic !== undefined && users[basic.username] !== basic.password;
  if (refused || (basic === undefined && exchange.headers.authorization !== undefined)) {
    return replyError(401, 'UNAUTHORIZED', 'incorrect username or password');
  }
  const token = authority.issue(basic?.username, parseScopes(exchange.url.searchParams.getAll('scope')));
  return replyJson(200, { token, access_token: token, expires_in: authority.lifetimeSeconds });
}
