/**
 * Content for tests, the same for the same seed: blobs of any size (made when they are read, never held),
 * manifests, indexes, attestations and signatures.
 */
import { createCipheriv, createHash } from 'node:crypto';
import type { Descriptor, Digest, Platform } from '../../lib/oci/descriptor.ts';
import { blobInMemory, digestOf, type LocalRepository, type StoredBlob } from './store.ts';

export const mediaTypes = {
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  index: 'application/vnd.oci.image.index.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar+gzip',
  empty: 'application/vnd.oci.empty.v1+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerList: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
  dockerLayer: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
} as const;

export interface BlobContent extends StoredBlob {
  readonly descriptor: Descriptor;
}

/** A manifest or index with everything below it. */
export interface Content {
  readonly descriptor: Descriptor;
  readonly bytes: Uint8Array;
  readonly blobs: readonly BlobContent[];
  readonly children: readonly Content[];
}

/** A blob of exactly these bytes. */
export function buildBlob(bytes: Uint8Array, mediaType: string = mediaTypes.layer): BlobContent {
  const descriptor = { mediaType, digest: digestOf(bytes), size: bytes.byteLength };
  return { ...blobInMemory(bytes), descriptor };
}

/** A blob of `size` bytes that look random and depend on the seed alone. */
export function randomBlob(seed: string, size: number, mediaType: string = mediaTypes.layer): BlobContent {
  const hash = createHash('sha256');
  for (const piece of randomBytes(seed, 0, size)) hash.update(piece);
  return {
    descriptor: { mediaType, digest: `sha256:${hash.digest('hex')}`, size },
    size,
    async *open(start, end) {
      yield* randomBytes(seed, start, end);
    },
  };
}

const piece = Buffer.alloc(256 << 10);
const gzipMagic = Buffer.from([0x1f, 0x8b, 0x08]);

/**
 * AES in counter mode over zeros: quick, and any offset can be reached without what lies before it.
 * It begins as gzip does, so that tools which look there do not compress it again.
 */
function* randomBytes(seed: string, start: number, end: number): Generator<Buffer> {
  const key = createHash('sha256').update(seed).digest().subarray(0, 16);
  const counter = Buffer.alloc(16);
  counter.writeBigUInt64BE(BigInt(Math.floor(start / 16)), 8);
  const cipher = createCipheriv('aes-128-ctr', key, counter);
  cipher.update(piece.subarray(0, start % 16));
  for (let at = start; at < end; at += piece.byteLength) {
    const bytes = cipher.update(piece.subarray(0, Math.min(piece.byteLength, end - at)));
    if (at < gzipMagic.byteLength) gzipMagic.copy(bytes, 0, at);
    yield bytes;
  }
}

export interface ManifestOptions {
  /** Bytes, sizes of blobs made from the seed, or blobs. @default [1000] */
  readonly layers?: readonly (Uint8Array | number | BlobContent)[];
  /** @default the option `docker`, layers and seed written out */
  readonly config?: BlobContent | Uint8Array;
  /** @default 'seed' */
  readonly seed?: string;
  readonly subject?: Descriptor;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly artifactType?: string;
  /** Docker's media types instead of OCI's. @default false */
  readonly docker?: boolean;
  /** Indented as Docker's tools write it; a mirror must not change a byte. @default false */
  readonly pretty?: boolean;
  /** What the default config says. @default linux/amd64 */
  readonly platform?: Platform;
}

export function buildManifest(options: ManifestOptions = {}): Content {
  const { seed = 'seed', docker = false, subject, annotations, artifactType } = options;
  const layerType = docker ? mediaTypes.dockerLayer : mediaTypes.layer;
  const layers = (options.layers ?? [1000]).map((layer, index) => {
    if (typeof layer === 'number') return randomBlob(`${seed}/${index}`, layer, layerType);
    return layer instanceof Uint8Array ? buildBlob(layer, layerType) : layer;
  });
  const config = toConfig(options, layers);
  const mediaType = docker ? mediaTypes.dockerManifest : mediaTypes.manifest;
  const bytes = serialize(
    {
      schemaVersion: 2,
      mediaType,
      artifactType,
      config: config.descriptor,
      layers: layers.map(({ descriptor }) => descriptor),
      subject,
      annotations,
    },
    options.pretty,
  );
  return {
    descriptor: describe(mediaType, bytes, artifactType),
    bytes,
    blobs: [config, ...layers],
    children: [],
  };
}

function toConfig(options: ManifestOptions, layers: readonly BlobContent[]): BlobContent {
  const { config, docker, seed = 'seed', platform = { os: 'linux', architecture: 'amd64' } } = options;
  if (config !== undefined && !(config instanceof Uint8Array)) return config;
  const written = {
    ...platform,
    config: { Labels: { seed } },
    rootfs: { type: 'layers', diff_ids: layers.map(({ descriptor }) => descriptor.digest) },
  };
  const bytes = config ?? Buffer.from(JSON.stringify(written));
  return buildBlob(bytes, docker ? mediaTypes.dockerConfig : mediaTypes.config);
}

export interface IndexEntry {
  readonly manifest: Content;
  readonly platform?: Platform;
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface IndexOptions {
  readonly annotations?: Readonly<Record<string, string>>;
  readonly subject?: Descriptor;
  readonly artifactType?: string;
  readonly docker?: boolean;
  readonly pretty?: boolean;
}

export function buildIndex(entries: readonly IndexEntry[], options: IndexOptions = {}): Content {
  const { docker = false, subject, annotations, artifactType } = options;
  const mediaType = docker ? mediaTypes.dockerList : mediaTypes.index;
  const manifests = entries.map(({ manifest, platform, annotations: own }) => ({
    ...manifest.descriptor,
    ...(platform && { platform }),
    ...(own && { annotations: own }),
  }));
  const bytes = serialize(
    { schemaVersion: 2, mediaType, artifactType, manifests, subject, annotations },
    options.pretty,
  );
  return {
    descriptor: describe(mediaType, bytes, artifactType),
    bytes,
    blobs: [],
    children: entries.map(({ manifest }) => manifest),
  };
}

/** An index of one manifest for each platform, as `docker buildx` makes it. */
export function buildMultiPlatform(seed: string, platforms: readonly Platform[], layers = [1000]): Content {
  return buildIndex(
    platforms.map((platform) => {
      const name = `${seed}/${platform.os}/${platform.architecture}/${platform.variant ?? ''}`;
      return { manifest: buildManifest({ seed: name, layers, platform }), platform };
    }),
  );
}

/** The index entry with BuildKit's attestation (provenance, SBOM) for a child of the same index. */
export function attestationOf(child: Content): IndexEntry {
  const statement = Buffer.from(JSON.stringify({ subject: child.descriptor.digest }));
  return {
    manifest: buildManifest({
      seed: `attestation of ${child.descriptor.digest}`,
      layers: [buildBlob(statement, 'application/vnd.in-toto+json')],
    }),
    platform: { os: 'unknown', architecture: 'unknown' },
    annotations: {
      'vnd.docker.reference.type': 'attestation-manifest',
      'vnd.docker.reference.digest': child.descriptor.digest,
    },
  };
}

/** What cosign attaches by tag; push it under `cosignTag(digest, 'sig')`. */
export function cosignSignature(subject: Digest, seed = 'cosign'): Content {
  const payload = Buffer.from(
    JSON.stringify({ critical: { 'docker-manifest-digest': subject }, optional: seed }),
  );
  return buildManifest({
    seed: `${seed} ${subject}`,
    layers: [buildBlob(payload, 'application/vnd.dev.cosign.simplesigning.v1+json')],
  });
}

export function cosignTag(digest: Digest, kind: 'sig' | 'att' | 'sbom'): string {
  return `${digest.replace(':', '-')}.${kind}`;
}

/** A manifest that says by `subject` what it is about (image-spec v1.1). */
export function referrerOf(
  subject: Content,
  artifactType: string,
  seed = artifactType,
  annotations: Readonly<Record<string, string>> = {},
): Content {
  return buildManifest({
    seed: `${seed} of ${subject.descriptor.digest}`,
    layers: [100],
    config: buildBlob(Buffer.from('{}'), mediaTypes.empty),
    artifactType,
    subject: bare(subject.descriptor),
    annotations: { 'org.opencontainers.image.created': '2026-01-01T00:00:00Z', ...annotations },
  });
}

/** Writes content with all below it into a repository of a stand-in, under a tag where one is given. */
export function put(
  store: { repository(name: string): LocalRepository },
  repository: string,
  tag: string | undefined,
  content: Content,
): void {
  const to = store.repository(repository);
  putTree(to, content);
  if (tag !== undefined) to.setTag(tag, content.descriptor.digest);
}

function putTree(repository: LocalRepository, content: Content): void {
  for (const child of content.children) putTree(repository, child);
  for (const blob of content.blobs) repository.putBlob(blob.descriptor.digest, blob);
  repository.putManifest(content.descriptor.mediaType, content.bytes, content.descriptor.digest);
}

/** Every blob below, each once. */
export function blobsOf(content: Content): BlobContent[] {
  const all = [...content.blobs, ...content.children.flatMap(blobsOf)];
  return [...new Map(all.map((blob) => [blob.descriptor.digest, blob])).values()];
}

function serialize(value: object, pretty = false): Buffer {
  return Buffer.from(JSON.stringify(value, undefined, pretty ? 3 : undefined));
}

function describe(mediaType: string, bytes: Uint8Array, artifactType: string | undefined): Descriptor {
  return {
    mediaType,
    digest: digestOf(bytes),
    size: bytes.byteLength,
    ...(artifactType && { artifactType }),
  };
}

function bare({ mediaType, digest, size }: Descriptor): Descriptor {
  return { mediaType, digest, size };
}
