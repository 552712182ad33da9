/**
 * What a manifest names: the children of an index, the blobs of a manifest, its subject. It is only read from the
 * bytes, which stay as they are (image-spec v1.1 manifest.md and image-index.md, and their Docker twins).
 */
import * as z from 'zod';
import { HubferryError } from '../errors.ts';
import type { Descriptor, Digest, Manifest, Platform } from './descriptor.ts';
import { type DigestAlgorithm, digestOf, isDigest } from './digest.ts';
import { type JsonObject, parseJsonObject } from './json.ts';

export const mediaTypes = {
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  /** Of a release candidate of image-spec 1.1; registries still hold some. */
  ociArtifact: 'application/vnd.oci.artifact.manifest.v1+json',
  ociEmpty: 'application/vnd.oci.empty.v1+json',
  dockerList: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerSchema1: 'application/vnd.docker.distribution.manifest.v1+json',
  dockerSchema1Signed: 'application/vnd.docker.distribution.manifest.v1+prettyjws',
} as const;

const indexTypes: readonly string[] = [mediaTypes.ociIndex, mediaTypes.dockerList];
/** Manifests that must have a config; `blobs` is nothing but an unknown field in them. */
const configTypes: readonly string[] = [mediaTypes.ociManifest, mediaTypes.dockerManifest];
const schema1Types: readonly string[] = [mediaTypes.dockerSchema1, mediaTypes.dockerSchema1Signed];

/** What servers say that know nothing of manifests. */
const genericTypes: readonly string[] = ['', 'application/json', 'application/octet-stream', 'text/plain'];

/**
 * For `Accept`. The last member takes whatever a registry has: without it some convert, or answer 404 to, what is of
 * another type, and an artefact of an unknown type or a schema 1 manifest would look absent.
 */
export const manifestMediaTypes: readonly string[] = [
  ...indexTypes,
  ...configTypes,
  mediaTypes.ociArtifact,
  '*/*',
];

/** Up to this size registries should take a manifest (distribution-spec v1.1 "Pushing Manifests"). */
export const maxManifestBytes = 4 * 1024 * 1024;
/** Far above what builds make; each child costs a request or more. */
export const maxChildren = 4096;
/** Docker stops at 127, artefacts hold some hundreds; each blob costs a request or more. */
export const maxBlobs = 4096;
/** Indexes within indexes: two levels occur in practice; a longer chain is made to exhaust its reader. */
export const maxDepth = 8;

/** What a manifest names, in one shape for all types. */
export interface Content {
  readonly kind: 'index' | 'manifest';
  /** As the body and the type that it came with show it. */
  readonly mediaType: string;
  readonly artifactType?: string;
  readonly config?: Descriptor;
  /** The children of an index in their order, nested indexes too; one digest may stand there for several platforms. */
  readonly manifests: readonly Descriptor[];
  /** The config first, then what the manifest is made of; each digest once. */
  readonly blobs: readonly Descriptor[];
  readonly subject?: Descriptor;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** Whether it is the type of an index, OCI's or Docker's. */
export function isIndexType(mediaType: string): boolean {
  return indexTypes.includes(mediaType);
}

/** Whether it is a known type of a manifest that is no index. */
export function isManifestType(mediaType: string): boolean {
  return configTypes.includes(mediaType) || mediaType === mediaTypes.ociArtifact;
}

/** Whether it is Docker's schema 1, which `parseManifest` refuses. */
export function isSchema1Type(mediaType: string): boolean {
  return schema1Types.includes(mediaType);
}

/** Refuses schema 1 by the type that a HEAD tells, so that no pull is spent on it. @throws ERR_SCHEMA1 */
export function refuseSchema1({ mediaType, digest }: Descriptor): void {
  if (isSchema1Type(essence(mediaType))) throw ofManifest(digest, schema1());
}

/** Whether a registry may lack the blob, because it comes from its `urls` (layer.md "Non-Distributable Layers"). */
export function isForeign(descriptor: Descriptor): boolean {
  return (
    descriptor.mediaType === 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip' ||
    descriptor.mediaType.startsWith('application/vnd.oci.image.layer.nondistributable.v1.') ||
    (descriptor.urls !== undefined && descriptor.urls.length > 0)
  );
}

/** Whether an index entry is what BuildKit attests about another entry (BuildKit `attestation-storage.md`). */
export function isAttestation(descriptor: Descriptor): boolean {
  return descriptor.annotations?.['vnd.docker.reference.type'] === 'attestation-manifest';
}

/** The digest of the entry that an attestation is about. */
export function attestationSubject(descriptor: Descriptor): Digest | undefined {
  if (!isAttestation(descriptor)) return undefined;
  const digest = descriptor.annotations?.['vnd.docker.reference.digest'];
  return digest !== undefined && isDigest(digest) ? digest : undefined;
}

/** Describes bytes held in memory. */
export function descriptorOf(
  bytes: Uint8Array,
  mediaType: string,
  algorithm: DigestAlgorithm = 'sha256',
): Descriptor {
  return { mediaType, digest: digestOf(bytes, algorithm), size: bytes.byteLength };
}

/**
 * Reads what a manifest names. Its descriptor's media type (the `Content-Type` it came with) and its own must agree:
 * a manifest that can be read in two ways is refused (manifest.md, and the advisory behind it, CVE-2021-41190).
 * @throws ERR_MANIFEST_INVALID, ERR_SCHEMA1, ERR_TOO_LARGE
 */
export function parseManifest(manifest: Manifest): Content {
  return parseBody(manifest).content;
}

/** The type of a manifest, also where a server gave it that knows nothing of manifests; what cannot be read has the server's. */
export function typeOf(manifest: Manifest): string {
  const { mediaType } = manifest.descriptor;
  if (!genericTypes.includes(essence(mediaType))) return mediaType;
  try {
    return parseManifest(manifest).mediaType;
  } catch {
    return mediaType;
  }
}

/** The platform that a config's bytes name (config.md); what cannot be read names none. */
export function platformOfConfig(bytes: Uint8Array): Platform | undefined {
  const result = platformSchema.safeParse(jsonOrNothing(bytes));
  return result.success ? toPlatform(result.data) : undefined;
}

function jsonOrNothing(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return undefined;
  }
}

/** As `parseManifest`, with the JSON itself for whoever derives another manifest and keeps what it does not know. */
export function parseBody(manifest: Manifest): { content: Content; json: JsonObject } {
  try {
    return read(manifest);
  } catch (error) {
    throw error instanceof HubferryError ? ofManifest(manifest.descriptor.digest, error) : error;
  }
}

/** What others wrote is shown to people, so it is shown without control characters. */
function ofManifest(digest: Digest, cause: HubferryError): HubferryError {
  const what = cause.message.replace(/[^\x20-\x7e]/g, '?');
  return new HubferryError(cause.code, `The manifest ${digest} ${what}.`, { cause });
}

function read(manifest: Manifest): { content: Content; json: JsonObject } {
  if (manifest.bytes.byteLength > maxManifestBytes) throw tooLarge(`${maxManifestBytes} bytes`);
  const declared = essence(manifest.descriptor.mediaType);
  if (isSchema1Type(declared)) throw schema1();
  const json = parseJsonObject(manifest.bytes);
  if (json.schemaVersion === 1 || 'fsLayers' in json) throw schema1();
  refuseExcess(json);
  const body = check(json);
  const kind = kindOf(body, declared);
  const mediaType = mediaTypeOf(body, declared, kind);
  return { content: kind === 'index' ? readIndex(body, mediaType) : readSingle(body, mediaType), json };
}

/** Go writes `null` for what is empty, and reads it as absent; so do registries. */
function absent<T extends z.ZodType>(schema: T) {
  return schema.nullish().transform((value) => value ?? undefined);
}

const mediaTypeSchema = z.string().regex(/^[\x21-\x7e][\x20-\x7e]{0,254}$/, 'expected a media type');
const annotationsSchema = z.record(z.string(), z.string());
const platformWord = z.string().regex(/^[\x20-\x7e]{1,128}$/);

const platformSchema = z.object({
  os: platformWord,
  architecture: platformWord,
  variant: platformWord.optional().catch(undefined),
  'os.version': platformWord.optional().catch(undefined),
  'os.features': z.array(platformWord).optional().catch(undefined),
});

const descriptorSchema = z.object({
  mediaType: mediaTypeSchema,
  digest: z.custom<Digest>(
    (value) => typeof value === 'string' && isDigest(value),
    'expected a sha256 or sha512 digest',
  ),
  size: z.int().min(0),
  // Only filters ask for it: an index copied whole need not fail for it.
  platform: platformSchema.optional().catch(undefined),
  annotations: absent(annotationsSchema),
  artifactType: absent(z.string()),
  urls: absent(z.array(z.string())),
});

const descriptorList = z
  .array(descriptorSchema)
  .nullable()
  .transform((list) => list ?? [])
  .optional();

const bodySchema = z.object({
  schemaVersion: absent(z.literal(2)),
  mediaType: absent(mediaTypeSchema),
  artifactType: absent(z.string()),
  config: absent(descriptorSchema),
  manifests: descriptorList,
  layers: descriptorList,
  blobs: descriptorList,
  subject: absent(descriptorSchema),
  annotations: absent(annotationsSchema),
});
type Body = z.output<typeof bodySchema>;

function check(json: JsonObject): Body {
  const result = bodySchema.safeParse(json);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const path = issue?.path.join('.').slice(0, 200) ?? '';
  throw invalid(`is malformed at ${path}: ${issue?.message}`);
}

function refuseExcess(json: JsonObject): void {
  const count = (key: string) => (Array.isArray(json[key]) ? json[key].length : 0);
  if (count('manifests') > maxChildren) throw tooLarge(`${maxChildren} children`);
  if (count('layers') > maxBlobs || count('blobs') > maxBlobs) throw tooLarge(`${maxBlobs} blobs`);
}

function kindOf(body: Body, declared: string): Content['kind'] {
  const isIndex = body.manifests !== undefined;
  const isSingle = (body.config ?? body.layers ?? body.blobs) !== undefined;
  if (isIndex && isSingle) throw invalid('names both children and blobs');
  if (isIndex) return 'index';
  // An artifact manifest may consist of its subject alone.
  const isArtifact = (body.mediaType ?? declared) === mediaTypes.ociArtifact;
  if (isSingle || isArtifact) return 'manifest';
  throw invalid('names neither children nor blobs');
}

function mediaTypeOf(body: Body, declared: string, kind: Content['kind']): string {
  const fromOutside = genericTypes.includes(declared) ? undefined : declared;
  if (fromOutside !== undefined && body.mediaType !== undefined && fromOutside !== body.mediaType) {
    throw invalid(`is given as ${fromOutside} but says that it is ${body.mediaType}`);
  }
  const byShape = kind === 'index' ? mediaTypes.ociIndex : mediaTypes.ociManifest;
  const mediaType = fromOutside ?? body.mediaType ?? byShape;
  if (isSchema1Type(mediaType)) throw schema1();
  const contradicts = kind === 'index' ? isManifestType(mediaType) : isIndexType(mediaType);
  if (contradicts) throw invalid(`is no ${mediaType}`);
  return mediaType;
}

function readIndex(body: Body, mediaType: string): Content {
  const manifests = (body.manifests ?? []).map(toDescriptor);
  distinct(manifests);
  return { kind: 'index', mediaType, manifests, blobs: [], ...readCommon(body) };
}

function readSingle(body: Body, mediaType: string): Content {
  const needsConfig = configTypes.includes(mediaType);
  if (needsConfig && body.config === undefined) throw invalid('has no config');
  const config = body.config && toDescriptor(body.config);
  const parts = [...(body.layers ?? []), ...(needsConfig ? [] : (body.blobs ?? []))].map(toDescriptor);
  const blobs = distinct(config === undefined ? parts : [config, ...parts]);
  return {
    kind: 'manifest',
    mediaType,
    manifests: [],
    blobs,
    ...(config && { config }),
    ...readCommon(body),
  };
}

function readCommon(body: Body): Pick<Content, 'artifactType' | 'subject' | 'annotations'> {
  const { artifactType, subject, annotations } = body;
  return {
    ...(artifactType !== undefined && { artifactType }),
    ...(subject && { subject: toDescriptor(subject) }),
    ...(annotations && { annotations }),
  };
}

/** The first descriptor of each digest. @throws ERR_MANIFEST_INVALID where the same digest has two sizes. */
function distinct(descriptors: readonly Descriptor[]): readonly Descriptor[] {
  const seen = new Map<Digest, Descriptor>();
  for (const descriptor of descriptors) {
    const first = seen.get(descriptor.digest);
    if (first === undefined) seen.set(descriptor.digest, descriptor);
    else if (first.size !== descriptor.size) throw invalid(`gives ${descriptor.digest} two sizes`);
  }
  return [...seen.values()];
}

function toDescriptor(entry: z.output<typeof descriptorSchema>): Descriptor {
  const { mediaType, digest, size, platform, annotations, artifactType, urls } = entry;
  return {
    mediaType,
    digest,
    size,
    ...(platform && { platform: toPlatform(platform) }),
    ...(annotations && { annotations }),
    ...(artifactType !== undefined && { artifactType }),
    ...(urls && { urls }),
  };
}

function toPlatform(entry: z.output<typeof platformSchema>): Platform {
  const { os, architecture, variant } = entry;
  return {
    os,
    architecture,
    ...(variant !== undefined && { variant }),
    ...(entry['os.version'] !== undefined && { 'os.version': entry['os.version'] }),
    ...(entry['os.features'] && { 'os.features': entry['os.features'] }),
  };
}

/** A media type without parameters, which some servers add. */
function essence(mediaType: string): string {
  return mediaType.replace(/;.*$/s, '').trim();
}

// Messages are what is to be said of the manifest; `parseBody` says of which.

function invalid(what: string): HubferryError {
  return new HubferryError('ERR_MANIFEST_INVALID', what);
}

function tooLarge(limit: string): HubferryError {
  return new HubferryError('ERR_TOO_LARGE', `has more than ${limit}`);
}

function schema1(): HubferryError {
  return new HubferryError(
    'ERR_SCHEMA1',
    'is Docker schema 1, which registries no longer take: push it again with a current Docker',
  );
}
