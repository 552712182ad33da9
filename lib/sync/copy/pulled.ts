/**
 * Manifests by digest, so that none is pulled twice: content never changes under its digest.
 *
 * In memory for this process; in storage while a copy that may be interrupted is under way.
 */
import type { Descriptor, Digest, Manifest } from '../../oci/descriptor.ts';
import { algorithmOf, digestOf } from '../../oci/digest.ts';
import type { DocumentStore } from '../../storage/ports.ts';

const memoryBytes = 16 * 1024 * 1024;

export class PulledManifests {
  readonly #store: DocumentStore;
  readonly #memory = new Map<Digest, Manifest>();
  /** Those that are in storage, as far as this process knows. */
  readonly #stored = new Set<Digest>();
  #held = 0;

  constructor(store: DocumentStore) {
    this.#store = store;
  }

  recall(digest: Digest): Manifest | undefined {
    return this.#memory.get(digest);
  }

  remember(manifest: Manifest): void {
    const { digest } = manifest.descriptor;
    if (this.#memory.has(digest)) return;
    this.#memory.set(digest, manifest);
    this.#held += manifest.bytes.length;
    for (const [oldest, old] of this.#memory) {
      if (this.#held <= memoryBytes) return;
      this.#memory.delete(oldest);
      this.#held -= old.bytes.length;
    }
  }

  /** What an interrupted copy pulled before. */
  async load(descriptor: Descriptor): Promise<Manifest | undefined> {
    const document = await this.#store.get(keyOf(descriptor.digest));
    if (document === undefined) return undefined;
    const { digest } = descriptor;
    if (digestOf(document.bytes, algorithmOf(digest)) !== digest) return undefined;
    this.#stored.add(digest);
    return { descriptor: { ...descriptor, size: document.bytes.length }, bytes: document.bytes };
  }

  /** Keeps what was pulled for whoever goes on. */
  async save({ descriptor: { digest }, bytes }: Manifest): Promise<void> {
    await this.#store.put(keyOf(digest), bytes);
    this.#stored.add(digest);
  }

  /** Its copy has ended: nothing is kept of it. */
  async discard(digest: Digest): Promise<void> {
    if (this.#stored.delete(digest)) await this.#store.delete(keyOf(digest));
  }
}

function keyOf(digest: Digest): string {
  return `manifests/${digest}`;
}
