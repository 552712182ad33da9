/**
 * The distribution API (distribution-spec v1.1) over a store, strictly: what a real registry may refuse, this one refuses.
 * Uploads are in uploads.ts.
 */
import type { OutgoingHttpHeaders } from 'node:http';
import type { Digest } from '../../lib/oci/descriptor.ts';
import { notAllowed, replyError } from './answers.ts';
import { type Behaviour, defaults, digestPattern } from './behaviour.ts';
import { type Answer, type Exchange, reply, replyJson } from './server.ts';
import {
  digestOf,
  type LocalRepository,
  type LocalStore,
  type ManifestFields,
  type StoredBlob,
} from './store.ts';
import { type Guard, repositoryScope } from './tokens.ts';
import { UploadApi } from './uploads.ts';

export interface Refusal {
  readonly refusal: Answer;
}

/** Where a stand-in for a service does more than a plain registry. */
export interface Hooks {
  /** Headers for the answer to a read of a manifest (found or not), or a refusal instead. */
  manifestHeaders?(exchange: Exchange, found: boolean): OutgoingHttpHeaders | Refusal;
  /** Where the blob is served instead; answered with 307. */
  blobLocation?(repository: string, digest: Digest): string | undefined;
  /** Whether the tag or digest may be overwritten or deleted; answered with 405 where not. */
  mayChange?(repository: LocalRepository, reference: string, change: 'write' | 'delete'): boolean;
}

const manifestLimit = 4 << 20;
const namePattern = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const tagPattern = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/;
const routePattern =
  /^\/v2\/(.+)\/(tags\/list|manifests\/[^/]+|blobs\/uploads\/[^/]*|blobs\/[^/]+|referrers\/[^/]+)$/;

/** The distribution API over a store. */
export class RegistryApi {
  readonly behaviour: Behaviour;
  readonly #store: LocalStore;
  readonly #guard: Guard;
  readonly #hooks: Hooks;
  readonly #uploads: UploadApi;

  constructor(store: LocalStore, guard: Guard, behaviour: Partial<Behaviour> = {}, hooks: Hooks = {}) {
    this.#store = store;
    this.#guard = guard;
    this.#hooks = hooks;
    this.behaviour = { ...defaults, ...behaviour };
    this.#uploads = new UploadApi(store, guard, this.behaviour);
  }

  async respond(exchange: Exchange): Promise<Answer | undefined> {
    if (exchange.path === '/v2/' || exchange.path === '/v2') {
      if (!this.#guard.allows(exchange)) return this.#guard.challenge(exchange);
      return replyJson(200, {}, { 'docker-distribution-api-version': 'registry/2.0' });
    }
    const [, name = '', route = ''] = routePattern.exec(exchange.path) ?? [];
    if (route === '') return replyError(404, 'NOT_FOUND', 'no such route');
    if (!namePattern.test(name)) return replyError(400, 'NAME_INVALID', 'invalid repository name');
    const repository = this.#store.repository(name);
    const [kind, last = ''] = split(route);
    switch (kind) {
      case 'tags':
        return this.#listTags(exchange, repository);
      case 'manifests':
        return this.#manifests(exchange, repository, last);
      case 'referrers':
        return this.#referrers(exchange, repository, last as Digest);
      case 'blobs':
        return this.#blobs(exchange, repository, last as Digest);
      default:
        return this.#upload(exchange, repository, last);
    }
  }

  /** The refusal, where the exchange may not do this. */
  #refusal(exchange: Exchange, repository: LocalRepository, ...actions: string[]): Answer | undefined {
    const scope = repositoryScope(repository.name, ...actions);
    return this.#guard.allows(exchange, scope) ? undefined : this.#guard.challenge(exchange, scope);
  }

  #listTags(exchange: Exchange, repository: LocalRepository): Answer {
    if (exchange.method !== 'GET') return notAllowed();
    const refusal = this.#refusal(exchange, repository, 'pull');
    if (refusal !== undefined) return refusal;
    if (!repository.known) return replyError(404, 'NAME_UNKNOWN', 'repository name not known to registry');
    const page = pageOf(exchange, repository.tagNames(), this.behaviour.pageSize);
    if (page === undefined) return replyError(400, 'PAGINATION_NUMBER_INVALID', 'invalid n');
    return replyJson(200, { name: repository.name, tags: page.names }, page.headers);
  }

  async #manifests(
    exchange: Exchange,
    repository: LocalRepository,
    reference: string,
  ): Promise<Answer | undefined> {
    switch (exchange.method) {
      case 'GET':
      case 'HEAD':
        return this.#getManifest(exchange, repository, reference);
      case 'PUT':
        return this.#putManifest(exchange, repository, reference);
      case 'DELETE':
        return this.#deleteManifest(exchange, repository, reference);
      default:
        return notAllowed();
    }
  }

  #getManifest(exchange: Exchange, repository: LocalRepository, reference: string): Answer {
    const refusal = this.#refusal(exchange, repository, 'pull');
    if (refusal !== undefined) return refusal;
    const manifest = repository.manifest(reference);
    const accepted = manifest !== undefined && accepts(exchange, manifest.mediaType);
    const extra = this.#hooks.manifestHeaders?.(exchange, accepted) ?? {};
    if (isRefusal(extra)) return extra.refusal;
    if (!accepted) {
      const why =
        manifest === undefined ? 'manifest unknown' : 'found, but Accept does not name its media type';
      return replyError(404, 'MANIFEST_UNKNOWN', why, extra);
    }
    const tellsDigest = this.behaviour.digestHeader || exchange.method === 'GET';
    return reply(
      200,
      {
        'content-type': manifest.mediaType,
        ...(tellsDigest && { 'docker-content-digest': manifest.digest }),
        ...extra,
      },
      manifest.bytes,
    );
  }

  async #putManifest(
    exchange: Exchange,
    repository: LocalRepository,
    reference: string,
  ): Promise<Answer | undefined> {
    const refusal = this.#refusal(exchange, repository, 'pull', 'push');
    if (refusal !== undefined) return refusal;
    const bytes = await exchange.bytes(manifestLimit);
    if (bytes === undefined) return replyError(413, 'SIZE_INVALID', 'manifest too large');
    if (!digestPattern.test(reference) && !tagPattern.test(reference)) {
      return replyError(400, 'TAG_INVALID', 'invalid tag');
    }
    const byDigest = reference.includes(':');
    const digest = byDigest ? digestOf(bytes, reference.split(':')[0]) : digestOf(bytes);
    if (byDigest && digest !== reference) return replyError(400, 'DIGEST_INVALID', 'digest does not match');
    const mediaType = exchange.headers['content-type'] ?? '';
    const fields = parseManifest(bytes, mediaType);
    if (typeof fields === 'string') return replyError(400, 'MANIFEST_INVALID', fields);
    const missing = missingBelow(repository, fields);
    if (missing !== undefined) {
      return replyError(400, 'MANIFEST_BLOB_UNKNOWN', `unknown to registry: ${missing}`);
    }
    if (this.#hooks.mayChange?.(repository, reference, 'write') === false) return locked();
    repository.putManifest(mediaType, bytes, digest);
    if (!byDigest) repository.setTag(reference, digest);
    const subject = this.behaviour.referrersApi ? fields.subject?.digest : undefined;
    return reply(201, {
      location: `/v2/${repository.name}/manifests/${digest}`,
      'docker-content-digest': digest,
      ...(subject && { 'oci-subject': subject }),
    });
  }

  #deleteManifest(exchange: Exchange, repository: LocalRepository, reference: string): Answer {
    const refusal = this.#refusal(exchange, repository, 'delete');
    if (refusal !== undefined) return refusal;
    const byDigest = digestPattern.test(reference);
    if (!byDigest && !this.behaviour.tagDelete) {
      return replyError(400, 'UNSUPPORTED', 'the operation is unsupported');
    }
    if (this.#hooks.mayChange?.(repository, reference, 'delete') === false) return locked();
    const gone = byDigest ? repository.removeManifest(reference as Digest) : repository.removeTag(reference);
    if (!gone) return replyError(404, 'MANIFEST_UNKNOWN', 'manifest unknown');
    return reply(202);
  }

  #referrers(exchange: Exchange, repository: LocalRepository, subject: Digest): Answer {
    const refusal = this.#refusal(exchange, repository, 'pull');
    if (refusal !== undefined) return refusal;
    if (!this.behaviour.referrersApi) return replyError(404, 'NOT_FOUND', 'no such route');
    if (!digestPattern.test(subject)) return replyError(400, 'DIGEST_INVALID', 'invalid digest');
    const artifactType = exchange.query('artifactType');
    const all = new Map(
      repository.referrersOf(subject).flatMap((digest) => {
        const descriptor = describeReferrer(repository, digest);
        return artifactType === undefined || descriptor.artifactType === artifactType
          ? [[digest, descriptor]]
          : [];
      }),
    );
    const page = pageOf(exchange, [...all.keys()].sort(), this.behaviour.pageSize);
    if (page === undefined) return replyError(400, 'PAGINATION_NUMBER_INVALID', 'invalid n');
    const mediaType = 'application/vnd.oci.image.index.v1+json';
    const manifests = page.names.map((digest) => all.get(digest as Digest));
    return replyJson(
      200,
      { schemaVersion: 2, mediaType, manifests },
      {
        'content-type': mediaType,
        ...(artifactType !== undefined && { 'oci-filters-applied': 'artifactType' }),
        ...page.headers,
      },
    );
  }

  #blobs(exchange: Exchange, repository: LocalRepository, digest: Digest): Answer {
    if (exchange.method === 'DELETE') {
      const refusal = this.#refusal(exchange, repository, 'delete');
      if (refusal !== undefined) return refusal;
      return repository.removeBlob(digest) ? reply(202) : blobUnknown();
    }
    if (exchange.method !== 'GET' && exchange.method !== 'HEAD') return notAllowed();
    const refusal = this.#refusal(exchange, repository, 'pull');
    if (refusal !== undefined) return refusal;
    const blob = repository.blobs.get(digest);
    if (blob === undefined) return blobUnknown();
    const location =
      exchange.method === 'GET' ? this.#hooks.blobLocation?.(repository.name, digest) : undefined;
    if (location !== undefined) return reply(307, { location });
    const { ranges, bytesPerSecond } = this.behaviour;
    return serveBlob(exchange, digest, blob, { ranges, bytesPerSecond });
  }

  async #upload(exchange: Exchange, repository: LocalRepository, id: string): Promise<Answer | undefined> {
    const refusal = this.#refusal(exchange, repository, 'pull', 'push');
    if (refusal !== undefined) return refusal;
    if (id !== '') return this.#uploads.respond(exchange, repository, id);
    return exchange.method === 'POST' ? this.#uploads.start(exchange, repository) : notAllowed();
  }
}

function split(route: string): [string, string] {
  const at = route.lastIndexOf('/');
  return [route.slice(0, at), route.slice(at + 1)];
}

export interface ServeOptions {
  readonly ranges: boolean;
  readonly bytesPerSecond: number | undefined;
}

/** Answers with a blob, or the part of it that `Range` asks for (RFC 9110 section 14.2). */
export function serveBlob(
  exchange: Exchange,
  digest: Digest,
  blob: StoredBlob,
  { ranges, bytesPerSecond }: ServeOptions,
): Answer {
  const headers = {
    'content-type': 'application/octet-stream',
    'docker-content-digest': digest,
    etag: `"${digest}"`,
    ...(ranges && { 'accept-ranges': 'bytes' }),
  };
  const [, from, to] = /^bytes=([0-9]+)-([0-9]*)$/.exec((ranges && exchange.headers.range) || '') ?? [];
  if (from === undefined) {
    const all = { ...headers, 'content-length': blob.size };
    return { status: 200, headers: all, body: blob.open(0, blob.size), bytesPerSecond };
  }
  const start = Number(from);
  const end = Math.min(blob.size, to === '' ? blob.size : Number(to) + 1);
  if (start >= blob.size || start >= end) {
    return reply(416, { 'content-range': `bytes */${blob.size}` });
  }
  const part = { 'content-length': end - start, 'content-range': `bytes ${start}-${end - 1}/${blob.size}` };
  return { status: 206, headers: { ...headers, ...part }, body: blob.open(start, end), bytesPerSecond };
}

/** One page after `last`, with the Link to the next; `undefined` for an `n` that is no number. */
export function pageOf(
  exchange: Exchange,
  names: readonly string[],
  pageSize: number,
): { names: readonly string[]; headers: OutgoingHttpHeaders } | undefined {
  const n = exchange.query('n');
  if (n !== undefined && !/^[0-9]+$/.test(n)) return undefined;
  const count = Math.min(pageSize, n === undefined ? pageSize : Number(n));
  const last = exchange.query('last');
  const begin = last === undefined ? 0 : firstAfter(names, last);
  const page = names.slice(begin, begin + count);
  const final = page.at(-1);
  if (final === undefined || begin + count >= names.length) return { names: page, headers: {} };
  const next = new URLSearchParams(exchange.url.searchParams);
  next.set('last', final);
  next.set('n', String(count));
  return { names: page, headers: { link: `<${exchange.url.pathname}?${next}>; rel="next"` } };
}

/** Names are sorted; those after `last` begin here, also where `last` itself is gone by now. */
function firstAfter(names: readonly string[], last: string): number {
  let low = 0;
  let high = names.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((names[middle] ?? '') <= last) low = middle + 1;
    else high = middle;
  }
  return low;
}

function accepts(exchange: Exchange, mediaType: string): boolean {
  const accept = exchange.headers.accept ?? 'application/vnd.docker.distribution.manifest.v2+json';
  return accept.split(',').some((item) => {
    const type = item.split(';')[0]?.trim();
    return type === '*/*' || type === mediaType;
  });
}

const manifestTypes = new Set([
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
]);

/** The manifest's fields, or why it is none. */
function parseManifest(bytes: Uint8Array, mediaType: string): ManifestFields | string {
  if (!manifestTypes.has(mediaType)) return `media type ${mediaType} is not taken`;
  let fields: ManifestFields;
  try {
    fields = JSON.parse(Buffer.from(bytes).toString()) as ManifestFields;
  } catch {
    return 'not JSON';
  }
  if (fields.schemaVersion !== 2) return 'schemaVersion must be 2';
  if (fields.mediaType !== undefined && fields.mediaType !== mediaType)
    return 'mediaType differs from Content-Type';
  return fields;
}

/** The first thing below that the repository does not have, or has in another size. Foreign layers need not be there. */
function missingBelow(repository: LocalRepository, fields: ManifestFields): Digest | undefined {
  const blobs = [...(fields.config ? [fields.config] : []), ...(fields.layers ?? [])];
  const blob = blobs.find(
    ({ digest, size, urls }) => urls === undefined && repository.blobs.get(digest)?.size !== size,
  );
  const child = fields.manifests?.find(
    ({ digest, size }) => repository.manifests.get(digest)?.bytes.byteLength !== size,
  );
  return blob?.digest ?? child?.digest;
}

/** distribution-spec "Listing Referrers": the artifact type of a manifest without one is its config's media type. */
function describeReferrer(repository: LocalRepository, digest: Digest) {
  const { bytes = new Uint8Array(), mediaType } = repository.manifests.get(digest) ?? {};
  const fields = JSON.parse(Buffer.from(bytes).toString()) as ManifestFields;
  const artifactType = fields.artifactType ?? fields.config?.mediaType;
  return { mediaType, digest, size: bytes.byteLength, artifactType, annotations: fields.annotations };
}

function isRefusal(value: OutgoingHttpHeaders | Refusal): value is Refusal {
  return 'refusal' in value;
}

function locked(): Answer {
  return replyError(405, 'REGISTRY_DISALLOWED_OPERATION', 'the operation is disallowed by a lock');
}

function blobUnknown(): Answer {
  return replyError(404, 'BLOB_UNKNOWN', 'blob unknown to registry');
}
