/** One repository of a registry, by the distribution API (distribution-spec v1.1). */
import type { RegistrySettings } from '../config/model.ts';
import { codeOf, HubferryError, type RegistryError } from '../errors.ts';
import type { Descriptor, Digest, Manifest } from '../oci/descriptor.ts';
import { algorithmOf, digestOf, isDigest } from '../oci/digest.ts';
import { isSchema1Type, manifestMediaTypes, maxManifestBytes, typeOf } from '../oci/manifest.ts';
import { giveBack } from '../oci/memory.ts';
import { isTag, referrerTag } from '../oci/reference.ts';
import type {
  BlobStat,
  CallOptions,
  Observer,
  PushedManifest,
  ReferrerListOptions,
  Referrers,
  SendOptions,
  TagListOptions,
  TagPage,
  Target,
  UploadSession,
} from '../oci/roles.ts';
import { failureOf, isRecord, parseJson, protocolFailure } from './failure.ts';
import { headerOf, parseContentRange, parseDecimal } from './headers.ts';
import { formatCursor, nextPage, parseCursor } from './paging.ts';
import { childrenIn, type ReferrersSupport, referrersByApi } from './referrers.ts';
import { isRetryable } from './retry.ts';
import { repositoryScope } from './scope.ts';
import type { TransportRequest, TransportResponse } from './send.ts';
import type { Transport } from './transport.ts';
import { knownSession, openedSession, type UploadContext } from './upload.ts';

/** What is asked for is one page of it; many registries give fewer. */
const tagsPerPage = 1000;
/** A registry that knows no pages answers with all its tags at once. */
const maxTagAnswer = 32 * 1024 * 1024;

const accept = manifestMediaTypes.join(', ');

export interface RepositoryOptions {
  readonly settings: RegistrySettings;
  readonly transport: Transport;
  readonly path: string;
  /** What tokens are asked for; a registry may refuse a login that asks for more than its rights. */
  readonly access: Access;
  readonly observer: Observer | undefined;
  readonly referrers: ReferrersSupport;
}

export type Access = 'read' | 'write';

export class Repository implements Target {
  readonly name: string;
  readonly maxChunk: number | undefined;
  readonly #options: RepositoryOptions;
  readonly #scopes: readonly string[];
  /** Repositories that the login may not mount from. */
  readonly #unmountable = new Set<string>();

  constructor(options: RepositoryOptions) {
    const { settings, path, access } = options;
    this.name = `${settings.host}/${path}`;
    this.maxChunk = settings.chunkSize;
    this.#options = options;
    this.#scopes = [
      access === 'write' ? repositoryScope(path, 'pull', 'push') : repositoryScope(path, 'pull'),
    ];
  }

  async resolve(reference: string, options?: CallOptions): Promise<Descriptor | undefined> {
    const response = await this.#head(reference, options);
    if (response === undefined) return undefined;
    const size = parseDecimal(headerOf(response.headers, 'content-length'));
    const digest = this.#digestOf(reference, response);
    if (digest === undefined || size === undefined) {
      return (await this.fetchManifest(reference, options))?.descriptor;
    }
    return { mediaType: mediaTypeOf(response), digest, size };
  }

  async #head(reference: string, options: CallOptions | undefined): Promise<TransportResponse | undefined> {
    const url = this.#manifest(reference);
    const response = await this.#send({ method: 'HEAD', url, headers: { accept } }, options);
    if (response.status === 404) return undefined;
    if (response.status === 200) return response;
    throw failureOf(`${this.name} does not tell what ${reference} is`, response);
  }

  /** The digest that a tag stands for, where the answer tells it; a digest stands for itself. */
  #digestOf(reference: string, response: TransportResponse): Digest | undefined {
    const told = headerOf(response.headers, 'docker-content-digest') ?? '';
    if (!isDigest(reference)) return isDigest(told) ? told : undefined;
    // `docker-registry` may tell the digest of another algorithm than the one it was asked by.
    if (isDigest(told) && algorithmOf(told) === algorithmOf(reference) && told !== reference) {
      throw failureOf(`${this.name} answers with ${told} to ${reference}`, response, {
        code: 'ERR_DIGEST_MISMATCH',
      });
    }
    return reference;
  }

  async fetchManifest(reference: string, options?: CallOptions): Promise<Manifest | undefined> {
    const response = await this.#send(
      {
        method: 'GET',
        url: this.#manifest(reference),
        headers: { accept },
        limit: maxManifestBytes,
        pull: true,
      },
      options,
    );
    if (response.status === 404) return undefined;
    if (response.status !== 200) throw failureOf(`${this.name} does not give ${reference}`, response);
    refuseEncoding(response);
    const mediaType = mediaTypeOf(response);
    // Its digest is not that of its bytes: say what it is instead of calling it damaged.
    if (isSchema1Type(mediaType)) {
      throw new HubferryError('ERR_SCHEMA1', `${this.name} has ${reference} as Docker schema 1`);
    }
    const bytes = await response.body.bytes(maxManifestBytes);
    const digest = verifiedDigest(bytes, this.#digestOf(reference, response), response);
    const descriptor = { mediaType, digest, size: bytes.length };
    // It is pushed as what it is.
    return { descriptor: { ...descriptor, mediaType: typeOf({ descriptor, bytes }) }, bytes };
  }

  async openBlob(
    blob: Descriptor,
    offset: number,
    options?: CallOptions,
  ): Promise<AsyncIterable<Uint8Array> | undefined> {
    const headers = offset === 0 ? {} : { range: `bytes=${offset}-` };
    const response = await this.#send({ method: 'GET', url: this.#blob(blob.digest), headers }, options);
    const { status, body } = response;
    if (status === 404) return undefined;
    if (status === 416 && offset >= blob.size) return nothing();
    if (status === 416 && tellsEndBy(response, offset)) throw this.#endsBefore(blob, offset);
    if (offset > 0 && refusesRange(status)) {
      void body.return();
      return this.#openWhole(blob, offset, options);
    }
    const range = status === 206 ? parseContentRange(headerOf(response.headers, 'content-range')) : undefined;
    // Some answer with a range that nobody asked for.
    const isWhole = range?.first === 0 && range.last === blob.size - 1;
    if (status !== 200 && !(status === 206 && offset > 0) && !isWhole) {
      throw failureOf(`${this.name} does not give the blob ${blob.digest}`, response);
    }
    refuseEncoding(response);
    const start = status === 200 ? 0 : range?.first;
    if (start === undefined || start > offset) {
      void body.return();
      return this.#openWhole(blob, offset, options);
    }
    return start === offset ? body : skip(body, offset - start);
  }

  /** Whoever refuses ranges, or answers them wrongly, may be right without one. */
  async #openWhole(
    blob: Descriptor,
    offset: number,
    options: CallOptions | undefined,
  ): Promise<AsyncIterable<Uint8Array> | undefined> {
    const whole = await this.openBlob(blob, 0, options);
    return whole && skip(whole, offset, () => this.#endsBefore(blob, offset));
  }

  #endsBefore({ digest, size }: Descriptor, offset: number): HubferryError {
    const message = `${this.name} ends ${digest} before ${offset + 1} of ${size} bytes`;
    return new HubferryError('ERR_SIZE_MISMATCH', message);
  }

  async statBlob(digest: Digest, options?: CallOptions): Promise<BlobStat | undefined> {
    const response = await this.#send({ method: 'HEAD', url: this.#blob(digest) }, options);
    if (response.status === 404) return undefined;
    if (response.status !== 200)
      throw failureOf(`${this.name} does not tell of the blob ${digest}`, response);
    return { size: parseDecimal(headerOf(response.headers, 'content-length')) };
  }

  async listTags(options?: TagListOptions): Promise<TagPage | undefined> {
    const { path, transport } = this.#options;
    const first = `${transport.endpoint()}/v2/${path}/tags/list?n=${tagsPerPage}`;
    const page =
      options?.cursor === undefined
        ? { url: first, pages: 0, mark: first }
        : parseCursor(options.cursor, new URL(first).origin);
    const response = await this.#send({ method: 'GET', url: page.url, limit: maxTagAnswer }, options);
    if (response.status === 404) return undefined;
    if (response.status !== 200) throw failureOf(`${this.name} does not list its tags`, response);
    const names = tagsIn(await response.body.bytes(maxTagAnswer));
    if (names === undefined) throw protocolFailure(`${this.name} gives no list of tags`, response);
    const next = nextPage(page, response);
    return {
      tags: names.map((name) => ({ name })),
      ...(next === undefined ? {} : { next: formatCursor(next) }),
    };
  }

  async startUpload(options?: CallOptions): Promise<UploadSession> {
    const response = await this.#send(
      // A session whose answer was lost stays empty, and the registry drops it by itself.
      { method: 'POST', url: this.#uploads(), idempotent: true },
      options,
    );
    response.body.dump();
    if (response.status !== 202) throw failureOf(`${this.name} does not take uploads`, response);
    return openedSession(response, this.#upload());
  }

  resumeUpload(location: string, offset: number, minChunk = 0): UploadSession {
    return knownSession(location, offset, minChunk, this.#upload());
  }

  async mountBlob(
    digest: Digest,
    from: string,
    options?: CallOptions,
  ): Promise<true | UploadSession | false> {
    if (this.#unmountable.has(from)) return false;
    const response = await this.#mount(digest, from, options).catch((error: unknown) => {
      options?.signal?.throwIfAborted();
      // A mount saves an upload; it is no reason to fail where an upload may go through.
      if (!isRetryable(error) && !isRefused(error)) throw error;
    });
    if (response === undefined) return false;
    response.body.dump();
    if (response.status === 201) return true;
    if (response.status === 202) return openedSession(response, this.#upload());
    if (response.status === 401 || response.status === 403) this.#unmountable.add(from);
    if (response.status === 429) throw failureOf(`${this.name} does not mount`, response);
    return false;
  }

  /** One try with a token that also reads the other repository; where the login may not have it, with the own one. */
  async #mount(digest: Digest, from: string, options: CallOptions | undefined): Promise<TransportResponse> {
    const url = `${this.#uploads()}?mount=${encodeURIComponent(digest)}&from=${encodeURIComponent(from)}`;
    const request = { method: 'POST', url, idempotent: true } as const;
    try {
      return await this.#send(
        { ...request, scopes: [...this.#scopes, repositoryScope(from, 'pull')] },
        options,
      );
    } catch (error) {
      if (!isRefused(error)) throw error;
      this.#unmountable.add(from);
      return this.#send(request, options);
    }
  }

  async pushManifest(manifest: Manifest, reference: string, options?: SendOptions): Promise<PushedManifest> {
    const { descriptor, bytes } = manifest;
    const response = await this.#send(
      {
        method: 'PUT',
        url: this.#manifest(reference),
        headers: { 'content-type': descriptor.mediaType },
        body: bytes,
        idempotent: true,
        slow: true,
      },
      options,
    );
    response.body.dump();
    if (response.status < 200 || response.status >= 300) throw this.#pushFailure(reference, response);
    const given = headerOf(response.headers, 'docker-content-digest') ?? '';
    if (
      isDigest(given) &&
      algorithmOf(given) === algorithmOf(descriptor.digest) &&
      given !== descriptor.digest
    ) {
      throw failureOf(`${this.name} stored ${given} instead of ${descriptor.digest}`, response, {
        code: 'ERR_DIGEST_MISMATCH',
      });
    }
    const subjectHandled = headerOf(response.headers, 'oci-subject') !== undefined;
    if (subjectHandled) this.#options.referrers.api = 'present';
    return { subjectHandled };
  }

  #pushFailure(reference: string, response: TransportResponse): RegistryError {
    const what = `${this.name} does not take the manifest ${reference}`;
    if (isLocked(response)) return failureOf(what, response, { code: 'ERR_LOCKED' });
    const lacks = response.faults.some(({ code }) => missingCodes.has(code));
    return failureOf(what, response, lacks ? { code: 'ERR_BLOB_UNKNOWN' } : {});
  }

  async deleteTag(tag: string, options?: CallOptions): Promise<void> {
    const what = `${this.name} does not delete the tag ${tag}`;
    if (!isTag(tag)) throw new HubferryError('ERR_REFERENCE', `Not a tag: ${JSON.stringify(tag)}`);
    const scopes = [repositoryScope(this.#options.path, 'delete')];
    const response = await this.#send(
      { method: 'DELETE', url: this.#manifest(tag), scopes, idempotent: true },
      options,
    );
    response.body.dump();
    if (response.status === 404 || (response.status >= 200 && response.status < 300)) return;
    if (isLocked(response)) throw failureOf(what, response, { code: 'ERR_LOCKED' });
    // Registries that delete by digest only answer 400 or 405; by digest every tag of the manifest would go.
    const unsupported = response.status === 400 || response.status === 405;
    throw failureOf(what, response, unsupported ? { code: 'ERR_UNSUPPORTED' } : {});
  }

  async listReferrers(digest: Digest, options?: ReferrerListOptions): Promise<Referrers> {
    const { path, transport, observer, referrers } = this.#options;
    if (referrers.api !== 'absent') {
      const request = { scopes: this.#scopes, observer, signal: options?.signal };
      const found = await referrersByApi(path, digest, transport.send, request);
      // What has answered once is there, whatever one answer is.
      if (referrers.api !== 'present') referrers.api = typeof found === 'string' ? found : 'present';
      if (typeof found !== 'string') return { api: true, descriptors: found };
    }
    if (options?.tagged === false) return { api: false, descriptors: [] };
    return { api: false, ...(await this.#referrersByTag(digest, options)) };
  }

  /** Looks by HEAD first: most digests have none, and a GET may be billed. */
  async #referrersByTag(digest: Digest, options: ReferrerListOptions = {}): Promise<Omit<Referrers, 'api'>> {
    const tag = referrerTag(digest);
    if ((await this.#head(tag, options)) === undefined) return { descriptors: [] };
    const read = () => this.fetchManifest(tag, options);
    const manifest = await (options.pulling?.(read) ?? read());
    if (manifest === undefined) return { descriptors: [] };
    return { descriptors: childrenIn(manifest) ?? [], index: manifest.descriptor.digest };
  }

  #manifest(reference: string): string {
    if (!isTag(reference) && !isDigest(reference)) {
      throw new HubferryError('ERR_REFERENCE', `Neither a tag nor a digest: ${JSON.stringify(reference)}`);
    }
    return `/v2/${this.#options.path}/manifests/${reference}`;
  }

  #blob(digest: Digest): string {
    return `/v2/${this.#options.path}/blobs/${digest}`;
  }

  #uploads(): string {
    return `/v2/${this.#options.path}/blobs/uploads/`;
  }

  #upload(): UploadContext {
    const { transport, observer } = this.#options;
    return { transport, observer, scopes: this.#scopes, maxChunk: this.maxChunk };
  }

  #send(request: TransportRequest, options: SendOptions | undefined): Promise<TransportResponse> {
    const { transport, observer } = this.#options;
    const { signal, whileUnsent } = options ?? {};
    return transport.send({ scopes: this.#scopes, ...request, observer, signal, whileUnsent });
  }
}

/** What registries call a blob or a child manifest that a pushed manifest names and they lack. */
const missingCodes: ReadonlySet<string> = new Set([
  'MANIFEST_BLOB_UNKNOWN',
  'BLOB_UNKNOWN',
  'MANIFEST_UNKNOWN',
]);

/** ACR's word for a locked tag or manifest; elsewhere an immutable tag is a conflict, at Harbor a precondition that failed. */
function isLocked({ status, faults }: TransportResponse): boolean {
  return (
    status === 409 || status === 412 || faults.some(({ code }) => code === 'REGISTRY_DISALLOWED_OPERATION')
  );
}

/** Whether the login, or the token service for it, was refused. */
function isRefused(error: unknown): boolean {
  return codeOf(error) === 'ERR_UNAUTHORIZED' || codeOf(error) === 'ERR_FORBIDDEN';
}

function mediaTypeOf(response: TransportResponse): string {
  return (headerOf(response.headers, 'content-type') ?? '').replace(/;.*$/s, '').trim();
}

/** The digest of the bytes; compared with what it has to be. */
function verifiedDigest(bytes: Uint8Array, wanted: Digest | undefined, response: TransportResponse): Digest {
  const digest = digestOf(bytes, wanted === undefined ? 'sha256' : algorithmOf(wanted));
  if (wanted === undefined || digest === wanted) return digest;
  throw failureOf(`The content of ${wanted} has the digest ${digest}`, response, {
    code: 'ERR_DIGEST_MISMATCH',
  });
}

/** Nothing but `identity` was asked for: decoding could make gigabytes of little, and digests are of what is stored. */
function refuseEncoding(response: TransportResponse): void {
  const encoding = headerOf(response.headers, 'content-encoding') ?? 'identity';
  if (encoding === 'identity') return;
  void response.body.return();
  throw protocolFailure('The answer is compressed though nobody asked for it', response);
}

function tagsIn(bytes: Uint8Array): readonly string[] | undefined {
  const body = parseJson(bytes);
  if (!isRecord(body)) return undefined;
  // Go writes an empty list as null.
  const tags = body.tags ?? [];
  return Array.isArray(tags) ? tags.filter((tag) => typeof tag === 'string' && isTag(tag)) : undefined;
}

async function* nothing(): AsyncGenerator<Uint8Array> {}

/** Whether a 416 says that the blob is no longer than that; some who know no ranges answer 416 too. */
function tellsEndBy({ headers }: TransportResponse, offset: number): boolean {
  const match = /^bytes[ \t]+\*\/(\d{1,16})$/i.exec(headerOf(headers, 'content-range')?.trim() ?? '');
  return match !== null && Number(match[1]) <= offset;
}

/** Statuses that say the same with and without a range: they are about the login, the blob, or the time. */
const notAboutRanges: ReadonlySet<number> = new Set([401, 403, 404, 408, 410, 425, 429]);

/** Whether the request may be fine but for its range. */
function refusesRange(status: number): boolean {
  return status === 501 || (status >= 400 && status < 500 && !notAboutRanges.has(status));
}

/**
 * Drops what comes before an offset, for servers that do not know ranges, or not well.
 * @param short the error where nothing comes after it
 */
async function* skip(
  pieces: AsyncIterable<Uint8Array>,
  bytes: number,
  short?: () => Error,
): AsyncGenerator<Uint8Array> {
  let past = -bytes;
  for await (const piece of pieces) {
    const before = Math.min(piece.length, Math.max(0, -past));
    past += piece.length;
    giveBack(piece.subarray(0, before));
    if (past > 0) yield piece.subarray(before);
  }
  if (past <= 0 && short !== undefined) throw short();
}
