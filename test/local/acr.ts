/**
 * An Azure Container Registry on one machine, over TLS: the Entra exchange, tokens by scope, `/acr/v1`, locks, and
 * the upload rules that a plain registry does not have.
 *
 * Facts: github.com/Azure/acr docs/AAD-OAuth.md; azure-rest-api-specs containerregistry 2021-07-01; goharbor/harbor#23016
 * (Content-Length, 413) and dotnet/sdk-container-builds#258 (Content-Range).
 */
import type { Digest } from '../../lib/oci/descriptor.ts';
import { notAllowed, replyError } from './answers.ts';
import type { Behaviour } from './behaviour.ts';
import { type Cdn, startCdn } from './cdn.ts';
import { pageOf, RegistryApi } from './distribution.ts';
import { type Answer, type Exchange, type LocalServer, reply, replyJson, startServer } from './server.ts';
import { type Attributes, type LocalRepository, LocalStore } from './store.ts';
import { type LoopbackCertificate, makeCertificate } from './tls.ts';
import {
  type Claims,
  parseScopes,
  readToken,
  repositoryScope,
  type Scope,
  signToken,
  TokenAuthority,
} from './tokens.ts';

export interface AcrOptions extends Partial<Behaviour> {
  /** @default one of its own, removed when the stand-in closes */
  readonly certificate?: LoopbackCertificate;
  /** The admin user; without it there is only the identity. */
  readonly admin?: { readonly username: string; readonly password: string };
  /** Entra audiences that are taken. @default ['https://containerregistry.azure.net'] */
  readonly audiences?: readonly string[];
  /** What the identity may do. @default pull, push, delete, metadata_read */
  readonly granted?: readonly string[];
  /** ABAC mode: the identity's rights hold for repositories below these prefixes only (`mirror/`), and there is no catalog. */
  readonly prefixes?: readonly string[];
  /** @default 4500 */
  readonly accessTokenLifetimeSeconds?: number;
  /** @default 10800, three hours */
  readonly refreshTokenLifetimeSeconds?: number;
  /** Milliseconds since the epoch, for all that expires. @default Date.now */
  readonly now?: () => number;
  readonly log?: boolean;
}

export interface LocalAcr extends LocalServer {
  /** `127.0.0.1:port`, as it stands in a reference. */
  readonly host: string;
  /** PEM file to trust. */
  readonly caFile: string;
  readonly behaviour: Behaviour;
  readonly store: LocalStore;
  /** Where blobs are served from (`*.blob.core.windows.net`). */
  readonly data: Cdn;
  /** What the identity may do. */
  granted: readonly string[];
  /** Answers 429 with this `Retry-After` to everything. */
  throttled: { readonly retryAfter: string } | undefined;
  repository(name: string): LocalRepository;
  /** Locks or unlocks a tag: `{ writeEnabled: false }`. */
  setTagAttributes(repository: string, tag: string, attributes: Partial<Attributes>): void;
  /** Refuses every access token given until now. */
  revokeAccessTokens(): void;
  /** Refuses every refresh token given until now: the exchange must be done again. */
  revokeRefreshTokens(): void;
  loseUploads(): void;
}

export async function startAcr(options: AcrOptions = {}): Promise<LocalAcr> {
  const { certificate, admin, audiences, granted, prefixes, now = Date.now, log, ...rest } = options;
  const { accessTokenLifetimeSeconds = 4500, refreshTokenLifetimeSeconds, ...behaviour } = rest;
  const tls = certificate ?? makeCertificate();
  const store = new LocalStore(now);
  const host = () => new URL(server.url).host;
  const grant = (account: string | undefined, scope: Scope) => {
    if (account === admin?.username) return scope.actions;
    if (scope.type !== 'repository') return prefixes === undefined ? scope.actions : [];
    const inside = prefixes === undefined || prefixes.some((prefix) => scope.name.startsWith(prefix));
    return inside ? scope.actions.filter((action) => acr.granted.includes(action)) : [];
  };
  const data = await startCdn(store, { tls, log });
  const server = await startServer((exchange) => respond(exchange), { tls, log });
  const authority = new TokenAuthority({
    service: host(),
    realm: () => `${server.url}/oauth2/token`,
    lifetimeSeconds: accessTokenLifetimeSeconds,
    now,
    grant,
  });
  const login = new Login({ authority, grant, admin, audiences, refreshTokenLifetimeSeconds, now });
  const registryApi = new RegistryApi(
    store,
    authority,
    {
      bodyLimit: 20_000_000,
      contentLengthRequired: true,
      relativeLocations: true,
      tagDelete: false,
      ...behaviour,
    },
    { blobLocation: (repository, digest) => data.sign(repository, digest), mayChange },
  );
  const acrApi = new AcrApi(store, authority, registryApi.behaviour);

  function respond(exchange: Exchange): Answer | undefined | Promise<Answer | undefined> {
    if (acr.throttled !== undefined) return throttle(acr.throttled.retryAfter);
    if (exchange.path === '/oauth2/exchange') return login.exchange(exchange);
    if (exchange.path === '/oauth2/token') return login.token(exchange);
    return exchange.path.startsWith('/acr/v1/') ? acrApi.respond(exchange) : registryApi.respond(exchange);
  }

  const closeServer = server.close;
  const acr: LocalAcr = Object.assign(server, {
    host: host(),
    caFile: tls.caFile,
    behaviour: registryApi.behaviour,
    store,
    data,
    granted: granted ?? ['pull', 'push', 'delete', 'metadata_read'],
    throttled: undefined,
    repository: (name: string) => store.repository(name),
    setTagAttributes(repository: string, tag: string, attributes: Partial<Attributes>) {
      Object.assign(store.repository(repository).tags.get(tag)?.attributes ?? {}, attributes);
    },
    revokeAccessTokens: () => authority.revoke(),
    revokeRefreshTokens: () => login.revoke(),
    loseUploads: () => store.uploads.clear(),
    async close() {
      await Promise.all([closeServer(), data.close()]);
      await store.close();
      if (certificate === undefined) tls.remove();
    },
  });
  return acr;
}

function throttle(retryAfter: string): Answer {
  return replyError(429, 'TOOMANYREQUESTS', 'too many requests', { 'retry-after': retryAfter });
}

/** Tag locks and manifest locks are separate things. What cannot be written cannot be deleted either. */
function mayChange(repository: LocalRepository, reference: string, change: 'write' | 'delete'): boolean {
  const { attributes } =
    repository.tags.get(reference) ?? repository.manifests.get(reference as Digest) ?? {};
  if (attributes === undefined) return true;
  return attributes.writeEnabled && (change === 'write' || attributes.deleteEnabled);
}

interface LoginOptions {
  readonly authority: TokenAuthority;
  readonly grant: (account: string | undefined, scope: Scope) => readonly string[];
  readonly admin: AcrOptions['admin'];
  readonly audiences: readonly string[] | undefined;
  readonly refreshTokenLifetimeSeconds: number | undefined;
  readonly now: () => number;
}

/** The name under which a refresh token stands for a password. */
const refreshTokenUser = '00000000-0000-0000-0000-000000000000';
const identityAccount = 'identity';

/** `/oauth2/exchange` and `/oauth2/token`. */
class Login {
  readonly #options: LoginOptions;
  #generation = 0;

  constructor(options: LoginOptions) {
    this.#options = options;
  }

  revoke(): void {
    this.#generation += 1;
  }

  /** An Entra token for a refresh token. */
  async exchange(exchange: Exchange): Promise<Answer> {
    const { authority, audiences = ['https://containerregistry.azure.net'], now } = this.#options;
    if (exchange.method !== 'POST') return notAllowed();
    const form = await exchange.form();
    if (form.get('grant_type') !== 'access_token') return badRequest('grant_type must be access_token');
    if (form.get('service') !== authority.service) return badRequest('service is not this registry');
    const claims = readToken(form.get('access_token') ?? '');
    if (!this.#isFresh(claims) || !audiences.includes(claims.aud)) return unauthorized();
    const iat = Math.floor(now() / 1000);
    const refreshToken = signToken({
      aud: authority.service,
      sub: identityAccount,
      grant_type: 'refresh_token',
      iat,
      exp: iat + (this.#options.refreshTokenLifetimeSeconds ?? 10_800),
      generation: this.#generation,
    });
    return replyJson(200, { refresh_token: refreshToken });
  }

  /** An access token for scopes. */
  async token(exchange: Exchange): Promise<Answer> {
    const { authority, grant } = this.#options;
    const isForm = exchange.method === 'POST';
    if (!isForm && exchange.method !== 'GET') return notAllowed();
    const asked = isForm ? await exchange.form() : exchange.url.searchParams;
    if (asked.get('service') !== authority.service) return badRequest('service is not this registry');
    const account = isForm ? this.#accountOfForm(asked) : this.#accountOfBasic(exchange);
    if (account === undefined) return unauthorized();
    const scopes = parseScopes(asked.getAll('scope'));
    if (scopes.length === 0 || scopes.some((scope) => grant(account, scope).length === 0)) {
      return unauthorized();
    }
    return replyJson(200, { access_token: authority.issue(account, scopes) });
  }

  #accountOfForm(form: URLSearchParams): string | undefined {
    if (form.get('grant_type') === 'refresh_token')
      return this.#accountOfRefreshToken(form.get('refresh_token') ?? '');
    if (form.get('grant_type') !== 'password') return undefined;
    return this.#accountOfPassword(form.get('username') ?? '', form.get('password') ?? '');
  }

  #accountOfBasic({ basic }: Exchange): string | undefined {
    if (basic === undefined) return undefined;
    return basic.username === refreshTokenUser
      ? this.#accountOfRefreshToken(basic.password)
      : this.#accountOfPassword(basic.username, basic.password);
  }

  #accountOfPassword(username: string, password: string): string | undefined {
    const { admin } = this.#options;
    const good = admin !== undefined && username === admin.username && password === admin.password;
    return good ? username : undefined;
  }

  #accountOfRefreshToken(token: string): string | undefined {
    const claims = readToken(token);
    if (!this.#isFresh(claims) || claims.aud !== this.#options.authority.service) return undefined;
    const good = claims.grant_type === 'refresh_token' && claims.generation === this.#generation;
    return good ? identityAccount : undefined;
  }

  #isFresh(claims: Claims | undefined): claims is Claims {
    return claims !== undefined && claims.exp * 1000 > this.#options.now();
  }
}

/** `/acr/v1`: tags and manifests with what only ACR knows of them. */
class AcrApi {
  readonly #store: LocalStore;
  readonly #authority: TokenAuthority;
  readonly #behaviour: Behaviour;

  constructor(store: LocalStore, authority: TokenAuthority, behaviour: Behaviour) {
    this.#store = store;
    this.#authority = authority;
    this.#behaviour = behaviour;
  }

  respond(exchange: Exchange): Answer {
    if (exchange.path === '/acr/v1/_catalog') return this.#listRepositories(exchange);
    const [, name = '', collection, item] =
      /^\/acr\/v1\/(.+)\/(_tags|_manifests)(?:\/([^/]+))?$/.exec(exchange.path) ?? [];
    if (collection === undefined) return replyError(404, 'NOT_FOUND', 'no such route');
    const deletes = exchange.method === 'DELETE';
    const scope = repositoryScope(name, deletes ? 'delete' : 'metadata_read');
    if (!this.#authority.allows(exchange, scope)) return this.#authority.challenge(exchange, scope);
    const repository = this.#store.repositories.get(name);
    if (!repository?.known) return replyError(404, 'NAME_UNKNOWN', 'repository name not known to registry');
    if (deletes && collection === '_tags' && item !== undefined) return deleteTag(repository, item);
    if (exchange.method !== 'GET' || item !== undefined) return notAllowed();
    return collection === '_tags'
      ? this.#listTags(exchange, repository)
      : this.#listManifests(exchange, repository);
  }

  #listRepositories(exchange: Exchange): Answer {
    const scope = { type: 'registry', name: 'catalog', actions: ['*'] };
    if (!this.#authority.allows(exchange, scope)) return this.#authority.challenge(exchange, scope);
    const names = [...this.#store.repositories.values()].filter(({ known }) => known).map(({ name }) => name);
    return this.#replyPage(exchange, names.sort(), (repositories) => ({ repositories }));
  }

  #listTags(exchange: Exchange, repository: LocalRepository): Answer {
    const listed = repository.tagNames().filter((name) => repository.tags.get(name)?.attributes.listEnabled);
    return this.#replyPage(exchange, listed, (names) => ({
      registry: this.#authority.service,
      imageName: repository.name,
      tags: names.map((name) => describeTag(repository, name)),
    }));
  }

  #listManifests(exchange: Exchange, repository: LocalRepository): Answer {
    return this.#replyPage(exchange, [...repository.manifests.keys()].sort(), (digests) => ({
      registry: this.#authority.service,
      imageName: repository.name,
      manifests: digests.map((digest) => describeManifest(repository, digest as Digest)),
    }));
  }

  #replyPage(
    exchange: Exchange,
    names: readonly string[],
    body: (names: readonly string[]) => object,
  ): Answer {
    const page = pageOf(exchange, names, this.#behaviour.pageSize);
    if (page === undefined || exchange.query('orderby') !== undefined) {
      return badRequest('n must be a number, and only the order by name is there');
    }
    return replyJson(200, body(page.names), page.headers);
  }
}

function describeTag(repository: LocalRepository, name: string) {
  const { digest, createdAt = 0, pushedAt = 0, attributes } = repository.tags.get(name) ?? {};
  return {
    name,
    digest,
    createdTime: new Date(createdAt).toISOString(),
    lastUpdateTime: new Date(pushedAt).toISOString(),
    signed: false,
    changeableAttributes: attributes,
  };
}

function describeManifest(repository: LocalRepository, digest: Digest) {
  const { bytes, mediaType, pushedAt = 0, attributes } = repository.manifests.get(digest) ?? {};
  return {
    digest,
    imageSize: bytes?.byteLength ?? 0,
    createdTime: new Date(pushedAt).toISOString(),
    lastUpdateTime: new Date(pushedAt).toISOString(),
    mediaType,
    tags: repository.tagNames().filter((tag) => repository.digestOf(tag) === digest),
    changeableAttributes: attributes,
  };
}

function deleteTag(repository: LocalRepository, tag: string): Answer {
  if (!repository.tags.has(tag)) return replyError(404, 'TAG_UNKNOWN', 'the specified tag does not exist');
  if (!mayChange(repository, tag, 'delete')) {
    return replyError(405, 'REGISTRY_DISALLOWED_OPERATION', 'the tag is locked');
  }
  repository.removeTag(tag);
  return reply(202);
}

function unauthorized(): Answer {
  return replyError(401, 'UNAUTHORIZED', 'authentication required');
}

function badRequest(message: string): Answer {
  return replyError(400, 'BAD_REQUEST', message);
}
