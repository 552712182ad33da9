/**
 * What only Azure Container Registry does: the login of an Azure identity, tags with digests and locks, deletes by tag, and
 * a limit to what one request may carry. All else is any registry's.
 */
import type { TokenCredential } from '@azure/core-auth';
import { exchangePath, identityLogin } from './acr/identity.ts';
import type { TagService } from './acr/tags.ts';
import type { RegistrySettings } from './config/model.ts';
import { codeOf, HubferryError, RegistryError } from './errors.ts';
import { isTag } from './oci/reference.ts';
import type { CallOptions, TagListOptions, TagPage, Target } from './oci/roles.ts';
import { systemClock } from './registry/clock.ts';
import { failureOf } from './registry/failure.ts';
import type { ReferrersSupport } from './registry/referrers.ts';
import type { RepositoryRequest } from './registry/registry.ts';
import { Repository, type RepositoryOptions } from './registry/repository.ts';
import { canRepeat, type Send } from './registry/send.ts';
import { createTransport, type Transport, type TransportOptions } from './registry/transport.ts';

export interface AcrOptions extends Omit<TransportOptions, 'authorizer' | 'countPulls' | 'onAnswer'> {
  /** For settings with `identity`: where Entra tokens come from. */
  readonly identity?: TokenCredential;
}

export interface Acr {
  readonly settings: RegistrySettings;
  repository(path: string, request?: RepositoryRequest): Target;
  close(): Promise<void>;
}

/** ACR answers 413 to a body above some 20 MB (goharbor/harbor issue 23015). */
const largestChunk = 16 * 1024 * 1024;
const defaultChunk = 8 * 1024 * 1024;

/** By which Azure tells its clients apart: `<cloud>/<service>/<name>` (Azure/acr "http-headers"). */
const sourceClient = { 'x-meta-source-client': 'azure/functions/hubferry' };

export function createAcr(options: AcrOptions): Acr {
  const { identity, ...shared } = options;
  const chunkSize = Math.min(options.settings.chunkSize ?? defaultChunk, largestChunk);
  const settings: RegistrySettings = { ...options.settings, chunkSize };
  const clock = options.clock ?? systemClock;
  const login = settings.identity
    ? identityLogin({ identity: required(identity), audience: settings.audience, clock })
    : undefined;
  const inner = createTransport({ ...shared, settings, ...(login && { credentials: login }) });
  const transport: Transport = { ...inner, send: sendTo(inner, login !== undefined) };
  const referrers: ReferrersSupport = { api: 'unknown' };
  return {
    settings,
    repository: (path, { access = 'write', observer } = {}) =>
      new AcrRepository({ settings, transport, path, access, observer, referrers }),
    close: () => transport.close(),
  };
}

function required(identity: TokenCredential | undefined): TokenCredential {
  if (identity !== undefined) return identity;
  throw new HubferryError(
    'ERR_IDENTITY',
    'The registry is to be logged in to with an Azure identity; there is none',
  );
}

/**
 * An identity that the registry has let in and that may not do something is answered with 401, by the token service or by
 * the registry itself: what is missing is a right, the login is good.
 */
function sendTo({ send, endpoint }: Transport, byIdentity: boolean): Send {
  return async (request) => {
    const named = { ...request, headers: { ...request.headers, ...sourceClient } };
    if (!byIdentity) return send(named);
    const response = await send(named).catch((error: unknown) => {
      throw isRefusedScope(error) ? forbidden(error) : error;
    });
    const isOwn = new URL(response.url).origin === new URL(endpoint()).origin;
    // A chunk whose memory is given away was sent with one token alone: read again, it is sent with another.
    if (response.status !== 401 || !isOwn || !canRepeat(request)) return response;
    throw failureOf('The identity lacks a right at the registry', response, { code: 'ERR_FORBIDDEN' });
  };
}

function isRefusedScope(error: unknown): error is RegistryError {
  return (
    error instanceof RegistryError && error.code === 'ERR_UNAUTHORIZED' && !error.url.endsWith(exchangePath)
  );
}

function forbidden(error: RegistryError): RegistryError {
  return new RegistryError('ERR_FORBIDDEN', `The login lacks a right: ${error.message}`, error, {
    cause: error,
  });
}

class AcrRepository extends Repository {
  readonly #options: RepositoryOptions;
  #tags: Promise<TagService> | undefined;

  constructor(options: RepositoryOptions) {
    super(options);
    this.#options = options;
  }

  /** The SDK is loaded when tags are listed or deleted: a copy needs none of it, and a start waits for it otherwise. */
  #tagService(): Promise<TagService> {
    this.#tags ??= import('./acr/tags.ts').then(({ TagService }) => new TagService(this.#options));
    return this.#tags;
  }

  /** @throws ERR_FORBIDDEN where the login may not list: single tags may still be asked for */
  override async listTags(options: TagListOptions = {}): Promise<TagPage | undefined> {
    try {
      return await (await this.#tagService()).list(options.cursor, options);
    } catch (error) {
      if (codeOf(error) === 'ERR_NOT_FOUND') return undefined;
      // A token of the registry's own may be good for some actions only, and a login for one of them.
      throw isRefusedScope(error) ? forbidden(error) : error;
    }
  }

  override async deleteTag(tag: string, options: CallOptions = {}): Promise<void> {
    if (!isTag(tag)) throw new HubferryError('ERR_REFERENCE', `Not a tag: ${JSON.stringify(tag)}`);
    await (await this.#tagService()).delete(tag, options);
  }
}
