/**
 * What only Docker Hub does: tags from its web API, the pull allowance in its headers, pulls that are billed. All else is
 * any registry's.
 */
import type { RegistrySettings } from './config/model.ts';
import { isPullLimit, rateLimitOf } from './dockerhub/allowance.ts';
import { WebApiLogin } from './dockerhub/login.ts';
import { WebApi, type WebApiListRequest, type WebApiRequest } from './dockerhub/web-api.ts';
import { type ErrorCode, HubferryError, PullLimitError } from './errors.ts';
import type {
  Allowance,
  CallOptions,
  Observer,
  Source,
  TagEntry,
  TagListOptions,
  TagPage,
} from './oci/roles.ts';
import { type Clock, systemClock } from './registry/clock.ts';
import { failureOf } from './registry/failure.ts';
import type { ReferrersSupport } from './registry/referrers.ts';
import type { RepositoryRequest } from './registry/registry.ts';
import { Repository, type RepositoryOptions } from './registry/repository.ts';
import type { Send } from './registry/send.ts';
import { fixedCredential } from './registry/token.ts';
import {
  createTransport,
  credentialIn,
  type Transport,
  type TransportOptions,
} from './registry/transport.ts';

export interface DockerHubOptions
  extends Omit<TransportOptions, 'authorizer' | 'countPulls' | 'isPullLimit' | 'onAnswer'> {
  /** Told when the web API did not serve a listing, so that the registry is asked for tags without times and digests. */
  readonly onFallback?: (error: HubferryError) => void;
}

export interface DockerHub {
  readonly settings: RegistrySettings;
  repository(path: string, request?: Omit<RepositoryRequest, 'access'>): Source;
  /**
   * Paths of the repositories of a namespace that the login may see, such as `myorg/app`, a page at a time.
   * @throws ERR_NOT_FOUND where there is no such namespace
   */
  listNamespace(namespace: string, request?: WebApiRequest): AsyncGenerator<string>;
  close(): Promise<void>;
}

const defaultHubApi = 'https://hub.docker.com';

export function createDockerHub(options: DockerHubOptions): DockerHub {
  const { settings, onFallback, ...shared } = options;
  const clock = options.clock ?? systemClock;
  const credentials = options.credentials ?? fixedCredential(credentialIn(settings));
  const isLimit: IsPullLimit = (answer) => isPullLimit(answer, clock.now());
  const inner = createTransport({
    ...shared,
    settings,
    countPulls: true,
    isPullLimit: isLimit,
    onAnswer: ({ headers }, observer) => tellAllowance(rateLimitOf(headers), observer),
  });
  const transport = { ...inner, send: sendTo(inner, isLimit) };
  const endpoint = settings.hubApi ?? defaultHubApi;
  const apiTransport = createTransport({
    ...shared,
    settings: { ...settings, host: new URL(endpoint).host, endpoint },
    authorizer: new WebApiLogin(credentials, clock),
  });
  const api = new WebApi(apiTransport);
  const webApi = new WebApiFirst(api, clock, onFallback);
  const referrers: ReferrersSupport = { api: 'unknown' };
  return {
    settings,
    repository: (path, { observer } = {}) =>
      new DockerHubRepository({ settings, transport, path, access: 'read', observer, referrers }, webApi),
    async *listNamespace(namespace, request) {
      for await (const name of api.listRepositories(namespace, request)) yield `${namespace}/${name}`;
    },
    async close() {
      await Promise.all([transport.close(), apiTransport.close()]);
    },
  };
}

type IsPullLimit = NonNullable<TransportOptions['isPullLimit']>;

/** Docker Hub answers 401 with a good token to what does not exist, so that nobody learns of private repositories. */
function sendTo({ send, endpoint }: Transport, isLimit: IsPullLimit): Send {
  return async (request) => {
    const response = await send(request);
    if (request.pull === true && response.status === 429 && isLimit(response))
      throw new PullLimitError(failureOf('No pulls are left', response));
    const isOwn = new URL(response.url).origin === new URL(endpoint()).origin;
    if (response.status !== 401 || !isOwn) return response;
    const what = 'The repository does not exist, or this login may not read it';
    throw failureOf(what, response, { code: 'ERR_FORBIDDEN' });
  };
}

/** The web API's marks in a cursor; the registry's cursors have none. */
const cursorPrefix = 'hub ';

class DockerHubRepository extends Repository {
  /** Docker Hub bills each manifest as a pull. */
  readonly billed = true;
  readonly #webApi: WebApiFirst;
  readonly #path: string;
  readonly #observer: Observer | undefined;

  constructor(options: RepositoryOptions, webApi: WebApiFirst) {
    super(options);
    this.#webApi = webApi;
    this.#path = options.path;
    this.#observer = options.observer;
  }

  override async listTags(options: TagListOptions = {}): Promise<TagPage | undefined> {
    const { cursor, signal } = options;
    if (cursor?.startsWith(cursorPrefix)) {
      // Begun at the web API: the registry has its tags in another order.
      return marked(await this.#webApi.api.listTags(this.#path, this.#request(signal, cursor)));
    }
    if (cursor !== undefined || !this.#isListed) return super.listTags(options);
    return this.#webApi.ask(
      async (api) => marked(await api.listTags(this.#path, this.#request(signal))),
      () => super.listTags(options),
    );
  }

  describeTag(tag: string, options: CallOptions = {}): Promise<TagEntry | undefined> {
    const resolved = async (): Promise<TagEntry | undefined> => {
      const found = await this.resolve(tag, options);
      return found && { name: tag, digest: found.digest };
    };
    if (!this.#isListed) return resolved();
    return this.#webApi.ask(
      (api) => api.describeTag(this.#path, tag, this.#request(options.signal)),
      resolved,
    );
  }

  /** The web API knows names of two components. */
  get #isListed(): boolean {
    return this.#path.split('/').length === 2;
  }

  #request(signal: AbortSignal | undefined, cursor?: string): WebApiListRequest {
    return { signal, observer: this.#observer, cursor: cursor?.slice(cursorPrefix.length) };
  }
}

function marked(page: TagPage | undefined): TagPage | undefined {
  return page?.next === undefined ? page : { ...page, next: cursorPrefix + page.next };
}

/** Failures after which the registry itself is asked; a host that asks to wait is not among them. */
const unanswered: ReadonlySet<ErrorCode> = new Set([
  'ERR_CONNECTION',
  'ERR_TLS',
  'ERR_TIMEOUT',
  'ERR_SERVER',
  'ERR_UNAUTHORIZED',
  'ERR_FORBIDDEN',
  'ERR_PROTOCOL',
  'ERR_REDIRECT',
  'ERR_REJECTED',
  'ERR_TOO_LARGE',
  'ERR_UNSUPPORTED',
]);
/** Failures that the next question would meet as well; wrong logins in a row lock the account (hub-feedback issue 2201). */
const lasting: ReadonlySet<ErrorCode> = new Set([
  'ERR_CONNECTION',
  'ERR_TLS',
  'ERR_TIMEOUT',
  'ERR_UNAUTHORIZED',
]);
const avoidedMs = 10 * 60_000;

/** Asks the web API as long as it answers, else whoever can tell less. */
class WebApiFirst {
  readonly api: WebApi;
  readonly #clock: Clock;
  readonly #onFallback: ((error: HubferryError) => void) | undefined;
  #avoidedUntil = 0;

  constructor(api: WebApi, clock: Clock, onFallback: ((error: HubferryError) => void) | undefined) {
    this.api = api;
    this.#clock = clock;
    this.#onFallback = onFallback;
  }

  async ask<Answer>(
    question: (api: WebApi) => Promise<Answer>,
    instead: () => Promise<Answer>,
  ): Promise<Answer> {
    if (this.#avoidedUntil > this.#clock.now()) return instead();
    try {
      return await question(this.api);
    } catch (error) {
      if (!(error instanceof HubferryError) || !unanswered.has(error.code)) throw error;
      if (lasting.has(error.code)) this.#avoidedUntil = this.#clock.now() + avoidedMs;
      this.#onFallback?.(error);
      return instead();
    }
  }
}

function tellAllowance(allowance: Allowance | undefined, observer: Observer | undefined): void {
  if (allowance !== undefined) observer?.onAllowance?.(allowance);
}
