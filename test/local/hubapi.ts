/**
 * hub.docker.com on one machine: tags with their push times, the repositories of a namespace, and the login for both.
 *
 * Facts: docs.docker.com "Docker HUB API"; `digest`, `media_type` and `content_type` of a tag are undocumented.
 */
import type { OutgoingHttpHeaders } from 'node:http';
import type { Descriptor } from '../../lib/oci/descriptor.ts';
import { notAllowed } from './answers.ts';
import { type Answer, type Exchange, replyJson } from './server.ts';
import { fieldsOf, type LocalRepository, type LocalStore, type ManifestFields } from './store.ts';
import { readToken, signToken } from './tokens.ts';

const service = 'hub.docker.com';

export interface HubSettings {
  /** Answers 429 to everything; `xRetryAfter` is a time in seconds since the epoch. */
  readonly apiAbuse: { readonly retryAfter?: string; readonly xRetryAfter?: string } | undefined;
  readonly tellsDigests: boolean;
  readonly apiTokenLifetimeSeconds: number;
}

export interface HubApiOptions {
  readonly store: LocalStore;
  /** Secrets by user name. */
  readonly users: Readonly<Record<string, string>>;
  readonly visible: (account: string | undefined, repository: string) => boolean;
  /** As they are now. */
  readonly settings: () => HubSettings;
}

export class HubApi {
  readonly #options: HubApiOptions;

  constructor(options: HubApiOptions) {
    this.#options = options;
  }

  async respond(exchange: Exchange): Promise<Answer> {
    const { store, visible, settings } = this.#options;
    const { apiAbuse } = settings();
    if (apiAbuse !== undefined) return tooMany(apiAbuse);
    const path = exchange.path.replace(/\/$/, '');
    if (path === '/v2/auth/token') return this.#login(exchange);
    if (exchange.method !== 'GET' && exchange.method !== 'HEAD') return notAllowed();
    const account = this.#account(exchange);
    if (account === undefined) return problem(401, 'incorrect authentication credentials');
    const [namespace, repository, tags, tag] = route(path);
    if (namespace === undefined) return problem(404, 'not found');
    if (repository === undefined) return this.#listRepositories(exchange, account, namespace);
    const found = store.repositories.get(`${namespace}/${repository}`);
    if (!found?.known || !visible(account || undefined, found.name) || tags !== 'tags') {
      return problem(404, 'object not found');
    }
    return tag === undefined ? this.#listTags(exchange, found) : this.#getTag(found, tag);
  }

  async #login(exchange: Exchange): Promise<Answer> {
    const { store, users, settings } = this.#options;
    if (exchange.method !== 'POST') return notAllowed();
    const body = (await exchange.bytes())?.toString() ?? '';
    const { identifier = '', secret } = JSON.parse(body) as { identifier?: string; secret?: string };
    if (secret === undefined || users[identifier] !== secret) {
      return problem(401, 'incorrect authentication credentials');
    }
    const exp = Math.floor(store.now() / 1000) + settings().apiTokenLifetimeSeconds;
    return replyJson(200, { access_token: signToken({ aud: service, exp, sub: identifier }) }, rateHeaders());
  }

  /** `''` without a login, `undefined` where the login is no good. */
  #account(exchange: Exchange): string | undefined {
    if (exchange.headers.authorization === undefined) return '';
    const claims = exchange.bearer === undefined ? undefined : readToken(exchange.bearer);
    const good = claims?.aud === service && claims.exp * 1000 > this.#options.store.now();
    return good ? (claims.sub as string) : undefined;
  }

  #listRepositories(exchange: Exchange, account: string, namespace: string): Answer {
    const { store, visible } = this.#options;
    const names = [...store.repositories.values()]
      .filter(({ name, known }) => known && name.startsWith(`${namespace}/`))
      .filter(({ name }) => visible(account || undefined, name))
      .map(({ name }) => name.slice(namespace.length + 1))
      .sort();
    if (names.length === 0) return problem(404, 'object not found');
    return replyPage(exchange, names, (name) => ({
      name,
      namespace,
      repository_type: 'image',
      status: 1,
      is_private: !visible(undefined, `${namespace}/${name}`),
    }));
  }

  #listTags(exchange: Exchange, repository: LocalRepository): Answer {
    const byName = exchange.query('ordering') === 'name';
    const names = byName ? repository.tagNames() : repository.newestTagNames();
    return replyPage(exchange, names, (tag) =>
      describeTag(repository, tag, this.#options.settings().tellsDigests),
    );
  }

  #getTag(repository: LocalRepository, tag: string): Answer {
    if (repository.digestOf(tag) === undefined) return problem(404, 'object not found');
    const { tellsDigests } = this.#options.settings();
    return replyJson(200, describeTag(repository, tag, tellsDigests), rateHeaders());
  }
}

/** `[namespace, repository, 'tags', tag]`, as far as the path goes; the older form has no `namespaces`. */
function route(path: string): string[] {
  const [, current] = /^\/v2\/namespaces\/(.+)$/.exec(path) ?? [];
  if (current !== undefined) {
    const [namespace = '', repositories, ...rest] = current.split('/');
    return repositories === 'repositories' ? [namespace, ...rest] : [];
  }
  return /^\/v2\/repositories\/(.+)$/.exec(path)?.[1]?.split('/') ?? [];
}

function describeTag(repository: LocalRepository, name: string, tellsDigests: boolean) {
  const tag = repository.tags.get(name);
  const manifest = tag && repository.manifests.get(tag.digest);
  const fields = fieldsOf(manifest?.bytes ?? new Uint8Array());
  const pushed = new Date(tag?.pushedAt ?? 0).toISOString().replace('Z', '000Z');
  const single = { ...tag, size: sizeOf(fields), platform: { os: 'linux', architecture: 'amd64' } };
  const children: readonly Partial<Descriptor>[] = fields.manifests ?? [single];
  return {
    creator: 1,
    id: 1,
    images: children.map(({ digest, size, platform }) => ({
      architecture: platform?.architecture ?? '',
      features: '',
      variant: platform?.variant ?? null,
      digest: tellsDigests ? digest : null,
      os: platform?.os ?? '',
      os_features: '',
      os_version: null,
      size,
      status: 'active',
      last_pulled: null,
      last_pushed: pushed,
    })),
    last_updated: pushed,
    last_updater: 1,
    last_updater_username: 'owner',
    name,
    repository: 1,
    full_size: sizeOf(fields),
    v2: true,
    tag_status: 'active',
    tag_last_pulled: null,
    tag_last_pushed: pushed,
    media_type: manifest?.mediaType ?? null,
    content_type: 'image',
    digest: tellsDigests ? tag?.digest : null,
  };
}

function tooMany(abuse: NonNullable<HubSettings['apiAbuse']>): Answer {
  const headers = {
    ...rateHeaders(0),
    ...(abuse.retryAfter !== undefined && { 'retry-after': abuse.retryAfter }),
    ...(abuse.xRetryAfter !== undefined && { 'x-retry-after': abuse.xRetryAfter }),
  };
  return replyJson(429, { detail: 'Rate limit exceeded' }, headers);
}

function sizeOf(fields: ManifestFields): number {
  return (fields.layers ?? []).reduce((sum, { size }) => sum + size, 0);
}

/** Docker Hub pages by number: what was deleted meanwhile moves the rest up, and one entry is never seen. */
function replyPage(exchange: Exchange, names: readonly string[], describe: (name: string) => object): Answer {
  const number = Number(exchange.query('page') ?? 1);
  const size = Math.min(100, Number(exchange.query('page_size') ?? 10));
  if (!(number >= 1 && size >= 1)) return problem(404, 'invalid page');
  const begin = (number - 1) * size;
  if (begin >= names.length && number > 1) return problem(404, 'invalid page');
  const at = (other: number) => {
    const url = new URL(exchange.url);
    url.searchParams.set('page', String(other));
    url.searchParams.set('page_size', String(size));
    return url.href;
  };
  return replyJson(
    200,
    {
      count: names.length,
      next: begin + size < names.length ? at(number + 1) : null,
      previous: number > 1 ? at(number - 1) : null,
      results: names.slice(begin, begin + size).map(describe),
    },
    rateHeaders(),
  );
}

function rateHeaders(remaining = 179): OutgoingHttpHeaders {
  const reset = Math.ceil(Date.now() / 1000) + 60;
  return { 'x-ratelimit-limit': 180, 'x-ratelimit-remaining': remaining, 'x-ratelimit-reset': reset };
}

function problem(status: number, detail: string): Answer {
  return replyJson(status, { message: detail, errinfo: {}, detail }, rateHeaders());
}
