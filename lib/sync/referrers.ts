/**
 * Signatures, attestations and SBOMs travel with what they are about.
 *
 * Two conventions: OCI referrers (a manifest names its `subject`; listed by the referrers API, or by the tag schema's index
 * `sha256-<hex>` where a registry has no such API), and cosign's tags `sha256-<hex>.sig`, `.att`, `.sbom`. Either side may
 * have either; the tag schema's index is never copied but translated.
 */
import { HubferryError } from '../errors.ts';
import type { Descriptor, Digest, Manifest } from '../oci/descriptor.ts';
import { descriptorOf, isIndexType, mediaTypes, parseManifest } from '../oci/manifest.ts';
import { referrerTag, referrerTagSubject } from '../oci/reference.ts';
import type { Target } from '../oci/roles.ts';
import { forEachOf } from './concurrency.ts';
import type { GraphCopier, Passage } from './graph.ts';
import type { TagLocks } from './locks.ts';

/** Signatures of signatures of attestations: enough for all that is in use, and an end to a chain made up by somebody. */
const maxReferrerDepth = 4;
const maxReferrers = 1000;
const cosignSuffixes = ['.sig', '.att', '.sbom'] as const;

/** What the source's listing told of referrer tags; `undefined`: it was not read, each digest is asked for. */
export type ListedReferrers = ReadonlySet<string> | undefined;

export class ReferrerCopier {
  readonly #graph: GraphCopier;
  readonly #locks: TagLocks;

  constructor(graph: GraphCopier, locks: TagLocks) {
    this.#graph = graph;
    this.#locks = locks;
  }

  /** Copies what refers to a manifest and to every manifest below it. */
  async copyFor(manifest: Manifest, passage: Passage, listed: ListedReferrers): Promise<void> {
    if (listed?.size === 0) return;
    await this.#copyOf(manifest.descriptor.digest, passage, listed, 0);
    await forEachOf(parseManifest(manifest).manifests, 4, (child) =>
      this.#copyOf(child.digest, passage, listed, 0),
    );
  }

  async #copyOf(subject: Digest, passage: Passage, listed: ListedReferrers, depth: number): Promise<void> {
    if (depth >= maxReferrerDepth) return;
    await this.#copyManifests(subject, passage, listed, depth);
    for (const suffix of cosignSuffixes) {
      const tag = referrerTag(subject, suffix);
      if (listed === undefined || listed.has(tag)) await this.#copyTag(tag, passage);
    }
  }

  async #copyManifests(
    subject: Digest,
    passage: Passage,
    listed: ListedReferrers,
    depth: number,
  ): Promise<void> {
    const { source, target, work } = passage;
    if (listed !== undefined && !listed.has(referrerTag(subject))) return;
    const { descriptors } = await source.listReferrers(subject, { signal: work.stop });
    if (descriptors.length > maxReferrers) {
      throw new HubferryError(
        'ERR_TOO_LARGE',
        `${source.name} lists ${descriptors.length} referrers of ${subject}`,
      );
    }
    const there = new Set(
      (await target.listReferrers(subject, { signal: work.stop })).descriptors.map((d) => d.digest),
    );
    for (const descriptor of descriptors) {
      if (there.has(descriptor.digest) && !passage.thorough) continue;
      const isAbout = await this.#copyReferrer(subject, descriptor, passage);
      if (isAbout) await this.#copyOf(descriptor.digest, passage, listed, depth + 1);
    }
  }

  /** False for what is about something else: a list may say anything, also such that it goes round in circles. */
  async #copyReferrer(subject: Digest, descriptor: Descriptor, passage: Passage): Promise<boolean> {
    const { manifest } = await this.#graph.obtain(descriptor, passage);
    if (parseManifest(manifest).subject?.digest !== subject) return false;
    await this.#graph.ensureBelow(manifest, passage);
    const { subjectHandled } = await this.#graph.push(manifest, descriptor.digest, passage);
    if (!subjectHandled) await this.#mergeFallback(subject, manifest, passage);
    return true;
  }

  async #copyTag(tag: string, passage: Passage): Promise<void> {
    const { source, target, work } = passage;
    const [from, to] = await Promise.all([
      source.resolve(tag, { signal: work.stop }),
      target.resolve(tag, { signal: work.stop }),
    ]);
    if (from === undefined || from.digest === to?.digest) return;
    const { manifest } = await this.#graph.obtain(from, passage);
    await this.#graph.ensureBelow(manifest, passage);
    await this.#locks.hold(`${target.name}:${tag}`, work.stop, () =>
      this.#graph.push(manifest, tag, passage),
    );
  }

  /** The client keeps the tag schema's index where the registry does not (distribution-spec v1.1 "Pushing manifests with subject"). */
  async #mergeFallback(subject: Digest, referrer: Manifest, passage: Passage): Promise<void> {
    const { target, work } = passage;
    const tag = referrerTag(subject);
    await this.#locks.hold(`${target.name}:${tag}`, work.stop, async () => {
      const present = await fallbackEntries(target, tag, work.stop);
      if (present.some((entry) => entry.digest === referrer.descriptor.digest)) return;
      const index = fallbackIndex([...present, referrerEntry(referrer)]);
      await this.#graph.push(index, tag, passage);
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

function fallbackIndex(manifests: readonly Descriptor[]): Manifest {
  const index = { schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests };
  const bytes = Buffer.from(JSON.stringify(index));
  return { descriptor: descriptorOf(bytes, mediaTypes.ociIndex), bytes };
}

/** The referrer tags of a listing that may concern a digest: its own, and those of anything that is no tag's digest. */
export function referrerTagsFor(
  digest: Digest,
  listing: Iterable<string>,
  tagged: ReadonlySet<string>,
): string[] {
  const concerned: string[] = [];
  for (const tag of listing) {
    const subject = referrerTagSubject(tag)?.digest;
    if (subject === digest || (subject !== undefined && !tagged.has(subject))) concerned.push(tag);
  }
  return concerned;
}
