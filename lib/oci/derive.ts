/**
 * The index that holds only some platforms of another. Everybody who derives it from the same bytes with the same
 * patterns gets the same digest, so that the target can be compared with it.
 */
import { HubferryError } from '../errors.ts';
import type { Descriptor, Digest, Manifest } from './descriptor.ts';
import { algorithmOf } from './digest.ts';
import { canonicalJson, type Json, type JsonObject } from './json.ts';
import {
  attestationSubject,
  descriptorOf,
  isAttestation,
  isIndexType,
  maxDepth,
  parseBody,
  parseManifest,
} from './manifest.ts';
import { formatPlatform, formatPlatformPattern, matchesPlatform, type PlatformPattern } from './platform.ts';

/** Changes whenever the same index and patterns would give other bytes than before; part of every remembered result. */
export const rewriteVersion = 2;

export interface Derived {
  readonly manifest: Manifest;
  /** Indexes that were written, this one and nested ones, by their digests: no registry has them yet. */
  readonly written: ReadonlyMap<Digest, Manifest>;
}

/** Reads a nested index. */
export type OpenIndex = (child: Descriptor) => Promise<Manifest>;

/** Nested indexes below one index: far above what builds make, since each may cost a pull and all are held. */
const maxNested = { indexes: 100, bytes: 16 * 1024 * 1024 };

/**
 * Keeps the children of an index that the patterns take, and what is attested about them.
 *
 * An entry with a platform is kept or dropped as a whole. Of one without, nothing tells that it was asked for: it is
 * dropped, but for a nested index, which is derived in the same way and kept where something of it is. Annotations,
 * subject and fields unknown to hubferry stay. Where nothing is dropped, and for a manifest that is no index, the bytes
 * stay as they came; else they are written canonically (RFC 8785).
 *
 * @throws ERR_PLATFORM_MISSING where no child is left, ERR_TOO_LARGE where too much is nested.
 */
export async function deriveIndex(
  manifest: Manifest,
  patterns: readonly PlatformPattern[],
  open: OpenIndex,
): Promise<Derived> {
  const isWhole = patterns.length === 0 || parseManifest(manifest).manifests.length === 0;
  if (isWhole) return { manifest, written: new Map() };
  const derivation = new Derivation(patterns, open);
  const derived = await derivation.derive(manifest, 0);
  if (derived === undefined) throw nothingLeft(derivation.offered, patterns);
  return { manifest: derived, written: derivation.written };
}

class Derivation {
  readonly written = new Map<Digest, Manifest>();
  /** The platforms that there are. */
  readonly offered = new Set<string>();
  readonly #patterns: readonly PlatformPattern[];
  readonly #open: OpenIndex;
  /** What becomes of nested indexes, by the digest that they had. */
  readonly #derived = new Map<Digest, Manifest | undefined>();
  #bytes = 0;

  constructor(patterns: readonly PlatformPattern[], open: OpenIndex) {
    this.#patterns = patterns;
    this.#open = open;
  }

  /** The index of what is kept; `undefined`: nothing is. */
  async derive(manifest: Manifest, depth: number): Promise<Manifest | undefined> {
    const { content, json } = parseBody(manifest);
    const children = content.manifests;
    const kept = await this.#choose(children, depth);
    if (kept.every((child) => child === undefined)) return undefined;
    if (kept.every((child, i) => child === children[i])) return manifest;
    const entries = Array.isArray(json.manifests) ? json.manifests : [];
    const manifests = entries.flatMap((entry, i): Json[] => {
      const child = kept[i];
      if (child === undefined) return [];
      return [child === children[i] ? entry : entryOf(child, entry)];
    });
    const bytes = new TextEncoder().encode(canonicalJson({ ...json, manifests }));
    const descriptor = descriptorOf(bytes, content.mediaType, algorithmOf(manifest.descriptor.digest));
    const written = { descriptor, bytes };
    this.written.set(descriptor.digest, written);
    return written;
  }

  /** What becomes of each child. */
  async #choose(children: readonly Descriptor[], depth: number): Promise<(Descriptor | undefined)[]> {
    const taken: (Descriptor | undefined)[] = [];
    for (const child of children) taken.push(await this.#take(child, depth));
    // What is attested about an index is not true of the one that is derived from it.
    const subjects = new Set(children.filter((child, i) => taken[i] === child).map(({ digest }) => digest));
    return children.map((child, i) => {
      const subject = attestationSubject(child);
      return subject !== undefined && subjects.has(subject) ? child : taken[i];
    });
  }

  async #take(child: Descriptor, depth: number): Promise<Descriptor | undefined> {
    if (isAttestation(child)) return undefined;
    const { platform } = child;
    if (platform === undefined && isIndexType(child.mediaType)) return this.#takeNested(child, depth + 1);
    this.offered.add(platform ? formatPlatform(platform) : 'entries without a platform');
    return matchesPlatform(platform, this.#patterns) ? child : undefined;
  }

  async #takeNested(child: Descriptor, depth: number): Promise<Descriptor | undefined> {
    const { digest } = child;
    if (!this.#derived.has(digest)) this.#derived.set(digest, await this.#deriveNested(child, depth));
    const derived = this.#derived.get(digest);
    if (derived === undefined || derived.descriptor.digest === digest) return derived && child;
    return { ...child, digest: derived.descriptor.digest, size: derived.descriptor.size };
  }

  async #deriveNested(child: Descriptor, depth: number): Promise<Manifest | undefined> {
    if (depth >= maxDepth || this.#derived.size >= maxNested.indexes) throw tooMuchNested();
    const manifest = await this.#open(child);
    this.#bytes += manifest.bytes.byteLength;
    if (this.#bytes > maxNested.bytes) throw tooMuchNested();
    return this.derive(manifest, depth);
  }
}

/** An entry may hold a copy of what it names, or say where else it is: both are of the original. */
function entryOf({ digest, size }: Descriptor, entry: Json): JsonObject {
  const { data: _data, urls: _urls, ...rest } = entry as JsonObject;
  return { ...rest, digest, size };
}

function tooMuchNested(): HubferryError {
  return new HubferryError('ERR_TOO_LARGE', 'The index has too many indexes nested in it.');
}

function nothingLeft(offered: ReadonlySet<string>, patterns: readonly PlatformPattern[]): HubferryError {
  const wanted = patterns.map(formatPlatformPattern).join(', ');
  const named = [...offered].sort().slice(0, 50).join(', ') || 'attestations alone';
  return new HubferryError('ERR_PLATFORM_MISSING', `The index has nothing for ${wanted}; it has ${named}.`);
}
