/**
 * Copies a manifest graph: everything below a manifest is at the target before the manifest is.
 *
 * Order for each node: claim, obtain (from the target where it is there: that costs no pull), blobs and children, self. The
 * root is left to the caller, who moves the tag last.
 */
import { codeOf, HubferryError, PullLimitError } from '../../errors.ts';
import type { Descriptor, Digest, Manifest } from '../../oci/descriptor.ts';
import { type Content, isForeign, maxDepth, parseManifest } from '../../oci/manifest.ts';
import type { Source, Target } from '../../oci/roles.ts';
import { backoff } from '../attempts.ts';
import { forEachOf, SingleFlight } from '../concurrency.ts';
import { isSoon, pause, sleepUntil } from '../waiting.ts';
import type { BlobCopier } from './blob.ts';
import type { Limits } from './limits.ts';
import type { PulledManifests } from './pulled.ts';
import { countSent, pulling, unstopped, type Work } from './work.ts';

/** From where to where one graph is copied, and what is believed of the target. */
export interface Passage {
  readonly source: Source;
  readonly target: Target;
  readonly work: Work;
  /** Digests and sizes that the target tag's present manifest names: there without asking. Empty when everything is to be checked. */
  readonly known: ReadonlyMap<Digest, number>;
  /** Manifests that are done: what many indexes name is walked once, however many paths lead there. */
  readonly walked: Set<Digest>;
  /** Manifests of the source's that are not at the target yet. */
  readonly open: Set<Digest>;
  /** Indexes that a rule's platforms made of the source's: no registry has them yet. */
  readonly derived: ReadonlyMap<Digest, Manifest>;
  /** Push manifests also where the target has them, and believe nothing that was seen before. */
  readonly thorough: boolean;
}

/** A passage that begins. */
export function passageOf(sides: Pick<Passage, 'source' | 'target'>, work: Work, thorough = false): Passage {
  const nothing = {
    known: new Map(),
    walked: new Set<Digest>(),
    open: new Set<Digest>(),
    derived: nothingDerived,
  };
  return { ...sides, ...nothing, work, thorough };
}

export const nothingDerived: Passage['derived'] = new Map();

export interface Obtained {
  readonly manifest: Manifest;
  readonly atTarget: boolean;
}

/** Manifests below one tag: far above what builds make, and an end to indexes of indexes made to exhaust their reader. */
const maxManifests = 10_000;

/** Blobs of together fewer bytes are copied so soon that the manifest is not worth saving before. */
const worthSaving = 8 * 1024 * 1024;

export class GraphCopier {
  readonly #blobs: BlobCopier;
  readonly #pulled: PulledManifests;
  readonly #limits: Limits;
  readonly #flights = new SingleFlight<void>();
  readonly #pulls = new SingleFlight<Manifest>();

  constructor(blobs: BlobCopier, pulled: PulledManifests, limits: Limits) {
    this.#blobs = blobs;
    this.#pulled = pulled;
    this.#limits = limits;
  }

  /** A manifest by descriptor, wherever it costs least. @throws ERR_BLOB_MISSING when the source does not have it. */
  async obtain(descriptor: Descriptor, passage: Passage): Promise<Obtained> {
    const { source, target, work } = passage;
    const { digest } = descriptor;
    const there = await target.fetchManifest(digest, { signal: work.stop });
    if (there !== undefined) return { manifest: there, atTarget: true };
    const derived = passage.derived.get(digest);
    if (derived !== undefined) return { manifest: derived, atTarget: false };
    const manifest =
      this.#pulled.recall(digest) ??
      (await this.#pulled.load(descriptor)) ??
      (await this.#pull(source, digest, work));
    this.#pulled.remember(manifest);
    passage.open.add(digest);
    return { manifest, atTarget: false };
  }

  /** The passage has ended: what it has pulled is kept for whoever goes on with it, or for nobody. */
  async leave({ open }: Passage, goesOn: boolean): Promise<void> {
    await forEachOf(open, this.#limits.children, async (digest) => {
      const manifest = goesOn ? this.#pulled.recall(digest) : undefined;
      const kept = goesOn ? manifest && this.#pulled.save(manifest) : this.#pulled.discard(digest);
      // What fails here costs another pull at most.
      await kept?.catch(() => {});
    });
  }

  /** What a pull limit refuses for no longer than anybody waits is pulled again. */
  async #pull(source: Source, digest: Digest, work: Work): Promise<Manifest> {
    for (let refusals = 0; ; refusals += 1) {
      try {
        return await this.#pullOnce(source, digest, work);
      } catch (error) {
        const until = error instanceof PullLimitError ? error.retryAt : undefined;
        if (until === undefined || !isSoon(until) || refusals >= this.#limits.retries) throw error;
        work.onEvent({ type: 'waiting', host: hostOf(source), until });
        await sleepUntil(until, work.stop);
      }
    }
  }

  /** Several tags, targets or rules may want it at once: one is admitted for all who would be with it. */
  async #pullOnce(source: Source, digest: Digest, work: Work): Promise<Manifest> {
    const once = async () => {
      const known = this.#pulled.recall(digest);
      if (known !== undefined) return known;
      const manifest = await pull(source, digest, work);
      this.#pulled.remember(manifest);
      return manifest;
    };
    return await this.#pulls.run(digest, work.stop, once, `${source.name} ${work.reserve}`);
  }

  /** Makes sure of everything below a manifest. */
  async ensureBelow(manifest: Manifest, passage: Passage, depth = 0): Promise<void> {
    if (depth >= maxDepth) {
      throw new HubferryError(
        'ERR_TOO_LARGE',
        `An index at ${passage.source.name} nests deeper than ${maxDepth}`,
      );
    }
    const content = parseManifest(manifest);
    // A crash leaves no time for it.
    if (passage.open.has(manifest.descriptor.digest) && isLongWork(content))
      await this.#pulled.save(manifest);
    await forEachOf(content.manifests, this.#limits.children, (child) =>
      this.ensureManifest(child, passage, depth + 1),
    );
    await forEachOf(content.blobs, this.#limits.blobs, (blob) => this.#ensureBlob(blob, passage));
  }

  /** A manifest and everything below it, pushed by digest. */
  async ensureManifest(descriptor: Descriptor, passage: Passage, depth = 0): Promise<void> {
    const { known, walked } = passage;
    if (known.get(descriptor.digest) === descriptor.size || walked.has(descriptor.digest)) return;
    if (walked.size >= maxManifests) {
      throw new HubferryError(
        'ERR_TOO_LARGE',
        `${passage.source.name} names more than ${maxManifests} manifests`,
      );
    }
    await this.#bringOnce(descriptor, passage, depth);
    walked.add(descriptor.digest);
  }

  /** What another request is at may take as long as its blobs: after a moment who waits has a place to do so in, or comes again. */
  async #bringOnce(descriptor: Descriptor, passage: Passage, depth: number): Promise<void> {
    const { source, work } = passage;
    const flight = flightOf(descriptor, passage);
    using place = this.#flights.has(flight) ? this.#blobs.waitFor(descriptor, work) : undefined;
    const bring = () => {
      place?.[Symbol.dispose]();
      return this.#bring(descriptor, passage, depth);
    };
    await this.#flights.run(flight, place?.signal ?? work.stop, bring, source.name);
  }

  async #bring(descriptor: Descriptor, passage: Passage, depth: number): Promise<void> {
    const { manifest, atTarget } = await this.obtain(descriptor, passage);
    checkSize(manifest, descriptor);
    await this.ensureBelow(manifest, passage, depth);
    if (!atTarget || passage.thorough) await this.push(manifest, descriptor.digest, passage);
  }

  /**
   * Pushes a manifest whose content is there; where the target says that something is missing, checks all of it, once. What is
   * there by then may be unknown to another replica for a moment.
   */
  async push(manifest: Manifest, reference: string, passage: Passage): Promise<{ subjectHandled: boolean }> {
    const { stop } = passage.work;
    for (let refusals = 0; ; refusals += 1) {
      stop.throwIfAborted();
      try {
        return await this.#pushCounted(manifest, reference, passage);
      } catch (error) {
        if (codeOf(error) !== 'ERR_BLOB_UNKNOWN' || refusals > this.#limits.retries) throw error;
        if (refusals === 0) await this.#checkBelow(manifest, passage);
        else await pause(backoff(refusals), stop);
      }
    }
  }

  async #checkBelow(manifest: Manifest, passage: Passage): Promise<void> {
    const all: Passage = { ...passage, known: new Map(), walked: new Set(), thorough: true };
    this.#forgetBelow(manifest, passage.target);
    await this.ensureBelow(manifest, all);
  }

  async #pushCounted(manifest: Manifest, reference: string, { target, work, open }: Passage) {
    const pushed = await target.pushManifest(manifest, reference, unstopped(work));
    countSent(work, manifest.bytes.length);
    const { digest } = manifest.descriptor;
    if (open.delete(digest)) await this.#pulled.discard(digest);
    return pushed;
  }

  #forgetBelow(manifest: Manifest, target: Target): void {
    for (const blob of parseManifest(manifest).blobs) this.#blobs.forget(target, blob.digest);
  }

  async #ensureBlob(blob: Descriptor, passage: Passage): Promise<void> {
    const { source, target, work, known, thorough } = passage;
    if (thorough) this.#blobs.forget(target, blob.digest);
    else this.#noteKnown(blob.digest, known, target);
    try {
      await this.#blobs.ensure(blob, source, target, work);
    } catch (error) {
      // A foreign layer that the source does not serve itself stays with its urls, which are never fetched.
      const missing = error instanceof HubferryError && error.code === 'ERR_BLOB_MISSING';
      if (!missing || !isForeign(blob)) throw error;
    }
  }

  #noteKnown(digest: Digest, known: Passage['known'], target: Target): void {
    const size = known.get(digest);
    if (size !== undefined) this.#blobs.notePresent(target, { digest, size });
  }
}

/** Whether a crash in the middle of it is likely enough to save the manifest before, so that no second pull is needed. */
function isLongWork({ manifests, blobs }: Content): boolean {
  return manifests.length > 0 || blobs.reduce((sum, { size }) => sum + size, 0) >= worthSaving;
}

/** No push joins a copy, which may wait for places, and has fewer pulls left to it. */
function flightOf({ digest }: Descriptor, { target, work }: Passage): string {
  const lane = work.yields ? 'yields' : 'comes first';
  return `${target.name}@${digest} ${lane}`;
}

function hostOf({ name }: Source): string {
  return name.slice(0, name.indexOf('/'));
}

/** @throws ERR_SIZE_MISMATCH */
function checkSize({ bytes }: Manifest, { digest, size }: Descriptor): void {
  if (bytes.length === size) return;
  const what = `The manifest ${digest} has ${bytes.length} bytes, but the index that names it says ${size}`;
  throw new HubferryError('ERR_SIZE_MISMATCH', what);
}

async function pull(source: Source, digest: Digest, work: Work): Promise<Manifest> {
  const manifest = await pulling(source, work, () => source.fetchManifest(digest, { signal: work.stop }));
  if (manifest === undefined) {
    throw new HubferryError('ERR_BLOB_MISSING', `${source.name} does not have the manifest ${digest}`);
  }
  return manifest;
}

/**
 * What the target tag's present manifest names, read from the target: blobs that a new manifest shares with it need no
 * asking. Of an index only the children that the new one no longer has are opened.
 */
export async function knownFromPresent(
  present: Digest,
  next: Manifest,
  target: Target,
  signal: AbortSignal,
): Promise<Map<Digest, number>> {
  const known = new Map<Digest, number>();
  const wanted = parseManifest(next);
  const content = await readable(target, present, signal);
  if (content === undefined) return known;
  for (const { digest, size } of [...content.manifests, ...content.blobs]) known.set(digest, size);
  const changed = wanted.manifests.some((child) => !known.has(child.digest));
  if (!changed) return known;
  const still = new Set(wanted.manifests.map((child) => child.digest));
  await forEachOf(
    content.manifests.filter((child) => !still.has(child.digest)),
    4,
    async (child) => {
      const old = await readable(target, child.digest, signal);
      for (const { digest, size } of old?.blobs ?? []) known.set(digest, size);
    },
  );
  return known;
}

/** What a manifest at the target names. One that nobody could push today spares no request, but is no reason to fail. */
async function readable(target: Target, digest: Digest, signal: AbortSignal): Promise<Content | undefined> {
  const manifest = await target.fetchManifest(digest, { signal });
  try {
    return manifest === undefined ? undefined : parseManifest(manifest);
  } catch {
    return undefined;
  }
}
