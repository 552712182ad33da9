/**
 * Docker Hub on one machine: the registry (read only for clients), its token service, the CDN that serves the
 * blobs and the web API, each an origin of its own, with the pull limit that real clients meet.
 *
 * Facts: docs.docker.com "Docker Hub usage and limits", "Registry token authentication", "Docker HUB API".
 */
import type { OutgoingHttpHeaders } from 'node:http';
import { notAllowed, replyError } from './answers.ts';
import { type Cdn, startCdn } from './cdn.ts';
import { type Content, put } from './content.ts';
import { type Refusal, RegistryApi } from './distribution.ts';
import { HubApi, type HubSettings } from './hubapi.ts';
import { giveToken } from './registry.ts';
import {
  type Answer,
  type Certificate,
  type Exchange,
  type LocalServer,
  reply,
  startServer,
} from './server.ts';
import { type LocalRepository, LocalStore } from './store.ts';
import { TokenAuthority } from './tokens.ts';

export interface Account {
  /** Password or access token. */
  readonly secret: string;
  /** Pulls in one window; `undefined` is unlimited, and then no header tells of it. */
  readonly pulls?: number;
}

export interface DockerHubOptions {
  readonly accounts?: Readonly<Record<string, Account>>;
  /** Pulls of everybody without a login in one window; `undefined` is unlimited. @default 100 */
  readonly anonymousPulls?: number | undefined;
  /** @default 21600, six hours */
  readonly windowSeconds?: number;
  /** @default 300 */
  readonly tokenLifetimeSeconds?: number;
  /** How long the URL of a blob is good. @default 600 */
  readonly urlLifetimeSeconds?: number;
  /** Repositories that only accounts see. */
  readonly privateRepositories?: readonly string[];
  /** TLS for all four origins. */
  readonly tls?: Certificate;
  /** Milliseconds since the epoch, for all that expires. @default Date.now */
  readonly now?: () => number;
  readonly log?: boolean;
}

export interface PushOptions {
  /** Where the web hook of this push goes. */
  readonly webhook?: string;
  /** Milliseconds since the epoch. */
  readonly pushedAt?: number;
}

export interface LocalDockerHub {
  /** The distribution API: `endpoint`. */
  readonly url: string;
  /** The web API: `hubApi`. */
  readonly apiUrl: string;
  readonly registry: LocalServer;
  readonly tokens: LocalServer & { readonly authority: TokenAuthority };
  readonly cdn: Cdn;
  readonly api: LocalServer;
  readonly store: LocalStore;
  readonly behaviour: RegistryApi['behaviour'];
  /** Manifests that were billed, over all accounts. */
  readonly pulls: number;
  /** What the registry answers to everything when it sees abuse: a bare 429 with this `Retry-After`. */
  abuse: { readonly retryAfter?: string } | undefined;
  /** As `abuse`, for the web API. */
  apiAbuse: HubSettings['apiAbuse'];
  /** Whether the web API tells digests; else they are null. */
  tellsDigests: boolean;
  apiTokenLifetimeSeconds: number;
  repository(name: string): LocalRepository;
  /** Pushes content as its owner would, and posts the web hook where one is given: its status. */
  push(repository: string, tag: string, content: Content, options?: PushOptions): Promise<number | undefined>;
  /** Pulls left to an account (`undefined`: everybody without a login) in its window. */
  pullsLeft(account?: string): number | undefined;
  /** Begins everyone's window anew. */
  resetWindow(): void;
  close(): Promise<void>;
}

export async function startDockerHub(options: DockerHubOptions = {}): Promise<LocalDockerHub> {
  const { accounts = {}, tls, log, now = Date.now, privateRepositories = [] } = options;
  const store = new LocalStore(now);
  const users = Object.fromEntries(Object.entries(accounts).map(([name, { secret }]) => [name, secret]));
  const visible = (account: string | undefined, repository: string) =>
    store.repositories.get(repository)?.known === true &&
    (account !== undefined || !privateRepositories.includes(repository));
  const authority = new TokenAuthority({
    service: 'registry.docker.io',
    realm: () => `${tokens.url}/token`,
    lifetimeSeconds: options.tokenLifetimeSeconds ?? 300,
    now,
    // Clients only read here: `push` is asked for in vain.
    grant: (account, { name, actions }) =>
      visible(account, name) ? actions.filter((action) => action === 'pull') : [],
  });
  const meter = new PullMeter(accounts, options, now);
  const cdn = await startCdn(store, { tls, log, urlLifetimeSeconds: options.urlLifetimeSeconds });
  const registryApi = new RegistryApi(
    store,
    authority,
    { referrersApi: false },
    {
      blobLocation: (repository, digest) => cdn.sign(repository, digest),
      manifestHeaders: (exchange, found) =>
        meter.measure(exchange, authority.accountOf(exchange) ?? '', found),
    },
  );
  const respondRegistry = (exchange: Exchange) =>
    hub.abuse === undefined ? registryApi.respond(exchange) : tooMany(hub.abuse);
  const respondTokens = (exchange: Exchange) =>
    exchange.path === '/token' ? giveToken(exchange, authority, users) : notAllowed();
  const hubApi = new HubApi({ store, users, visible, settings: () => hub });
  const registry = await startServer(respondRegistry, { tls, log });
  const tokens = await startServer(respondTokens, { tls, log });
  const api = await startServer((exchange) => hubApi.respond(exchange), { tls, log });

  const hub: LocalDockerHub = {
    url: registry.url,
    apiUrl: api.url,
    registry,
    tokens: Object.assign(tokens, { authority }),
    cdn,
    api,
    store,
    behaviour: registryApi.behaviour,
    get pulls() {
      return meter.pulls;
    },
    abuse: undefined,
    apiAbuse: undefined,
    tellsDigests: true,
    apiTokenLifetimeSeconds: 600,
    repository: (name) => store.repository(name),
    async push(repository, tag, content, { webhook, pushedAt = now() } = {}) {
      put(store, repository, undefined, content);
      store.repository(repository).setTag(tag, content.descriptor.digest, pushedAt);
      if (webhook === undefined) return undefined;
      const answer = await fetch(webhook, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(webhookBody(repository, tag, pushedAt)),
      });
      return answer.status;
    },
    pullsLeft: (account) => meter.left(account ?? ''),
    resetWindow: () => meter.reset(),
    async close() {
      await Promise.all([registry, tokens, cdn, api].map((server) => server.close()));
      await store.close();
    },
  };
  return hub;
}

/** What Docker Hub posts for a push. It has no digest, and `callback_url` is dead. */
export function webhookBody(repository: string, tag: string, pushedAt: number = Date.now()) {
  const [namespace = '', name = ''] = repository.split('/');
  return {
    callback_url: `https://registry.hub.docker.com/u/${repository}/hook/2141b5bi5i5b02bec211i4eeih0242eg11000a/`,
    push_data: { pushed_at: pushedAt / 1000, pusher: namespace, tag, images: [] },
    repository: {
      comment_count: 0,
      date_created: Math.floor(pushedAt / 1000) - 86_400,
      description: '',
      dockerfile: '',
      full_description: '',
      is_official: namespace === 'library',
      is_private: false,
      is_trusted: false,
      name,
      namespace,
      owner: namespace,
      repo_name: repository,
      repo_url: `https://registry.hub.docker.com/r/${repository}`,
      star_count: 0,
      status: 'Active',
    },
  };
}

/** Counts what is billed: successful GETs of manifests, for each account, in a window that begins with the first. */
class PullMeter {
  pulls = 0;
  readonly #accounts: Readonly<Record<string, Account>>;
  readonly #anonymous: number | undefined;
  readonly #window: number;
  readonly #now: () => number;
  readonly #used = new Map<string, { since: number; count: number }>();

  constructor(accounts: Readonly<Record<string, Account>>, options: DockerHubOptions, now: () => number) {
    this.#accounts = accounts;
    this.#anonymous = 'anonymousPulls' in options ? options.anonymousPulls : 100;
    this.#window = options.windowSeconds ?? 21_600;
    this.#now = now;
  }

  reset(): void {
    this.#used.clear();
  }

  left(account: string): number | undefined {
    const limit = this.#limit(account);
    return limit === undefined ? undefined : limit - this.#count(account);
  }

  /** Bills a GET and tells the allowance, or answers with 429 when it is used up. */
  measure(exchange: Exchange, account: string, found: boolean): OutgoingHttpHeaders | Refusal {
    const limit = this.#limit(account);
    const billed = found && exchange.method === 'GET';
    if (billed && limit !== undefined && this.#count(account) >= limit) {
      return { refusal: replyError(429, 'TOOMANYREQUESTS', usedUp, this.#headers(account, limit)) };
    }
    if (billed) this.#bill(account);
    return limit === undefined ? {} : this.#headers(account, limit);
  }

  #bill(account: string): void {
    this.pulls += 1;
    const count = this.#count(account) + 1;
    this.#used.set(account, { since: this.#used.get(account)?.since ?? this.#now(), count });
  }

  #count(account: string): number {
    const used = this.#used.get(account);
    if (used === undefined || used.since + this.#window * 1000 > this.#now()) return used?.count ?? 0;
    this.#used.delete(account);
    return 0;
  }

  #limit(account: string): number | undefined {
    return account === '' ? this.#anonymous : this.#accounts[account]?.pulls;
  }

  #headers(account: string, limit: number): OutgoingHttpHeaders {
    return {
      'ratelimit-limit': `${limit};w=${this.#window}`,
      'ratelimit-remaining': `${limit - this.#count(account)};w=${this.#window}`,
      'docker-ratelimit-source': account === '' ? '127.0.0.1' : account,
    };
  }
}

const usedUp =
  'The pull rate limit of this account is used up; logging in or another plan raises it: https://www.docker.com/increase-rate-limit';

function tooMany({ retryAfter }: { readonly retryAfter?: string }): Answer {
  const headers = retryAfter === undefined ? {} : { 'retry-after': retryAfter };
  return reply(429, { 'content-type': 'text/plain', ...headers }, 'Too Many Requests\n');
}
