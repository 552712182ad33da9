/**
 * Signatures, attestations and SBOMs travel with what they are about.
 *
 * Two conventions: OCI referrers (a manifest names its `subject`; listed by the referrers API, or by the tag schema's index
 * `sha256-<hex>` where a registry has no such API), and cosign's tags `sha256-<hex>.sig`, `.att`, `.sbom`. Either side may
 * have either; the tag schema's index is never copied but translated.
 */
import { HubferryError } from '../../errors.ts';
import type { Descriptor, Digest, Manifest } from '../../oci/descriptor.ts';
import {
  descriptorOf,
  isIndexType,
  maxManifestBytes,
  mediaTypes,
  parseManifest,
} from '../../oci/manifest.ts';
import { referrerTag } from '../../oci/reference.ts';
import type { Target } from '../../oci/roles.ts';
import { forEachOf } from '../concurrency.ts';
import type { GraphCopier, Passage } from './graph.ts';
import type { TagLocks } from './locks.ts';
import { pulling } from './work.ts';

/** Signatures of signatures of attestations: enough for all that is in use, and an end to a chain made up by somebody. */
export const maxReferrerDepth = 4;
/** Of one tag, over all its platforms and depths. */
export const maxReferrers = 1000;
export const cosignSuffixes = ['.sig', '.att', '.sbom'] as const;
const subjectsAtOnce = 4;

/** The reason of a request for a tag that is as it is to be, and lacks only what was said about it later. */
export const lateReferrers = 'new referrers';

/** Referrer tags that the source was seen to have. */
export interface SeenReferrers {
  readonly tags: ReadonlyMap<string, Digest | undefined>;
  /** Whether it has no others; else each digest is asked for. */
  readonly isAll: boolean;
}

export interface BroughtReferrers {
  /** Source tags that were dealt with, with the digest that they had. */
  readonly tags: ReadonlyMap<string, Digest>;
  /** Everything at the target now whose referrers were asked for. */
  readonly subjects: ReadonlySet<Digest>;
}

export class ReferrerCopier {
  readonly #graph: GraphCopier;
  readonly #locks: TagLocks;

  constructor(graph: GraphCopier, locks: TagLocks) {
    this.#graph = graph;
    this.#locks = locks;
  }

  /** Copies what refers to a manifest and to every manifest below it; the target has all of these. */
  async copyFor(manifest: Manifest, passage: Passage, seen: SeenReferrers): Promise<BroughtReferrers> {
    const walk = new ReferrerWalk(this.#graph, this.#locks, passage, seen);
    const { descriptor } = manifest;
    const children = parseManifest(manifest).manifests.map(({ digest }) => digest);
    // What lies deeper was walked, unless the target knew it before: then so it does its referrers.
    const subjects = new Set([descriptor.digest, ...children, ...passage.walked]);
    // The source has nothing to say about what was derived.
    for (const digest of passage.derived.keys()) subjects.delete(digest);
    await forEachOf(subjects, subjectsAtOnce, (subject) => walk.copyOf(subject, 0));
    return walk;
  }
}

/** The referrers of one tag under way. */
class ReferrerWalk implements BroughtReferrers {
  readonly tags = new Map<string, Digest>();
  readonly subjects = new Set<Digest>();
  readonly #graph: GraphCopier;
  readonly #locks: TagLocks;
  readonly #passage: Passage;
  readonly #known: SeenReferrers;
  #seen = 0;

  constructor(graph: GraphCopier, locks: TagLocks, passage: Passage, seen: SeenReferrers) {
    this.#graph = graph;
    this.#locks = locks;
    this.#passage = passage;
    this.#known = seen;
  }

  async copyOf(subject: Digest, depth: number): Promise<void> {
    if (depth >= maxReferrerDepth) return;
    this.subjects.add(subject);
    await this.#copyManifests(subject, depth);
    for (const suffix of cosignSuffixes) {
      const tag = referrerTag(subject, suffix);
      if (this.#mayHave(tag)) await this.#copyTag(tag, depth);
    }
  }

  #mayHave(tag: string): boolean {
    return !this.#known.isAll || this.#known.tags.has(tag);
  }

  async #copyManifests(subject: Digest, depth: number): Promise<void> {
    const { source, target, work } = this.#passage;
    const tag = referrerTag(subject);
    const tagged = this.#mayHave(tag);
    const { descriptors, index } = await source.listReferrers(subject, {
      signal: work.stop,
      tagged,
      pulling: (read) => pulling(source, work, read),
    });
    this.#count(descriptors.length, subject);
    if (descriptors.length > 0) {
      const there = await target.listReferrers(subject, { signal: work.stop });
      const digests = new Set(there.descriptors.map((descriptor) => descriptor.digest));
      for (const descriptor of descriptors) {
        await this.#copyReferrer(subject, descriptor, digests.has(descriptor.digest), depth);
      }
    }
    const digest = index ?? this.#known.tags.get(tag);
    if (digest !== undefined) this.tags.set(tag, digest);
  }

  async #copyReferrer(subject: Digest, descriptor: Descriptor, there: boolean, depth: number): Promise<void> {
    const copied = (there && !this.#passage.thorough) || (await this.#copyManifest(subject, descriptor));
    if (copied) await this.copyOf(descriptor.digest, depth + 1);
  }

  /** False for what is about something else: a list may say anything, also such that it goes round in circles. */
  async #copyManifest(subject: Digest, descriptor: Descriptor): Promise<boolean> {
    const { manifest } = await this.#graph.obtain(descriptor, this.#passage);
    if (parseManifest(manifest).subject?.digest !== subject) return false;
    await this.#graph.ensureBelow(manifest, this.#passage);
    const { subjectHandled } = await this.#graph.push(manifest, descriptor.digest, this.#passage);
    if (!subjectHandled) await this.#mergeFallback(subject, manifest);
    return true;
  }

  async #copyTag(tag: string, depth: number): Promise<void> {
    const { source, target, work, thorough } = this.#passage;
    const from = await source.resolve(tag, { signal: work.stop });
    if (from === undefined) return;
    this.#count(1, tag);
    const to = await target.resolve(tag, { signal: work.stop });
    if (from.digest !== to?.digest || thorough) await this.#moveTag(tag, from);
    this.tags.set(tag, from.digest);
    await this.copyOf(from.digest, depth + 1);
  }

  async #moveTag(tag: string, from: Descriptor): Promise<void> {
    const { target, work } = this.#passage;
    const { manifest } = await this.#graph.obtain(from, this.#passage);
    await this.#graph.ensureBelow(manifest, this.#passage);
    await this.#locks.hold(`${target.name}:${tag}`, work.stop, () =>
      this.#graph.push(manifest, tag, this.#passage),
    );
  }

  #count(more: number, subject: string): void {
    this.#seen += more;
    if (this.#seen <= maxReferrers) return;
    const { source } = this.#passage;
    const what = `${source.name} has more than ${maxReferrers} referrers of one tag, up to those of ${subject}`;
    throw new HubferryError('ERR_TOO_LARGE', what);
  }

  /** The client keeps the tag schema's index where the registry does not (distribution-spec v1.1 "Pushing manifests with subject"). */
  async #mergeFallback(subject: Digest, referrer: Manifest): Promise<void> {
    const { target, work } = this.#passage;
    const tag = referrerTag(subject);
    await this.#locks.hold(`${target.name}:${tag}`, work.stop, async () => {
      const present = await fallbackEntries(target, tag, work.stop);
      if (present.some((entry) => entry.digest === referrer.descriptor.digest)) return;
      await this.#graph.push(fallbackIndex([...present, referrerEntry(referrer)]), tag, this.#passage);
    });
  }
}

async function fallbackEntries(
  target: Target,
  tag: string,
  signal: AbortSignal,
): Promise<readonly Descriptor[]> {
  const manifest = await target.fetchManifest(tag, { signal });
  if (manifest === undefined || !isIndexType(manifest.descriptor.mediaType)) return [];
  return parseManifest(manifest).manifests;
}

/** A referrer's entry carries its artifact type and annotations, so that a reader can choose without opening it. */
function referrerEntry(referrer: Manifest): Descriptor {
  const { mediaType, digest, size } = referrer.descriptor;
  const content = parseManifest(referrer);
  const artifactType = content.artifactType ?? content.config?.mediaType;
  return {
    mediaType,
    digest,
    size,
    ...(artifactType === undefined ? {} : { artifactType }),
    ...(content.annotations === undefined ? {} : { annotations: content.annotations }),
  };
}

/** The entries' annotations are there for convenience: where they are too much for a manifest, it does without them. */
function fallbackIndex(manifests: readonly Descriptor[]): Manifest {
  const index = indexOf(manifests);
  if (index.bytes.byteLength <= maxManifestBytes) return index;
  return indexOf(manifests.map(({ annotations: _, ...entry }) => entry));
}

function indexOf(manifests: readonly Descriptor[]): Manifest {
  const index = { schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests };
  const bytes = Buffer.from(JSON.stringify(index));
  return { descriptor: descriptorOf(bytes, mediaTypes.ociIndex), bytes };
}
