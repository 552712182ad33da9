/** Which repository of the target registry a blob can be mounted from. */
import * as z from 'zod';
import type { Descriptor } from '../oci/descriptor.ts';
import type { DocumentStore } from '../storage/ports.ts';
import { parseStored } from './stored.ts';

/** Paths of repositories. */
const noteSchema = z.array(z.string());

/** Below this size in bytes a mount saves nothing worth remembering between processes. */
const worthRemembering = 1024 * 1024;
const repositoriesKept = 8;
const memoryKept = 50_000;

/** Remembers which repositories this product has filled with which blobs. */
export class MountCandidates {
  readonly #store: DocumentStore;
  readonly #memory = new Map<string, Set<string>>();

  constructor(store: DocumentStore) {
    this.#store = store;
  }

  /**
   * The repository (its path) of the target's registry that has the blob: the source, if it is one of that registry, else
   * the known one with the nearest name.
   */
  async nearest(target: string, blob: Descriptor, source: string): Promise<string | undefined> {
    if (blob.size === 0) return undefined;
    if (hostOf(source) === hostOf(target) && source !== target) return pathOf(source);
    const known = this.#memory.get(keyOf(target, blob)) ?? new Set(await this.#load(target, blob));
    const self = pathOf(target);
    let best: string | undefined;
    let bestShared = -1;
    for (const path of known) {
      const shared = path === self ? -1 : sharedPrefix(path, self);
      if (shared > bestShared) [best, bestShared] = [path, shared];
    }
    return best;
  }

  /** Notes that a repository has the blob now. */
  async note(target: string, blob: Descriptor): Promise<void> {
    const key = keyOf(target, blob);
    const known = this.#memory.get(key) ?? new Set(await this.#load(target, blob));
    if (this.#memory.size >= memoryKept) this.#memory.clear();
    this.#memory.set(key, known);
    if (known.has(pathOf(target))) return;
    known.add(pathOf(target));
    if (blob.size < worthRemembering) return;
    const kept = [...known].slice(-repositoriesKept);
    await this.#store.put(key, Buffer.from(JSON.stringify(kept)));
  }

  async #load(target: string, blob: Descriptor): Promise<string[]> {
    if (blob.size < worthRemembering) return [];
    const document = await this.#store.get(keyOf(target, blob));
    return (document && parseStored(document.bytes, noteSchema)) ?? [];
  }
}

function keyOf(target: string, blob: Descriptor): string {
  return `blobs/${hostOf(target)}/${blob.digest}`;
}

function hostOf(repository: string): string {
  return repository.slice(0, repository.indexOf('/'));
}

function pathOf(repository: string): string {
  return repository.slice(repository.indexOf('/') + 1);
}

function sharedPrefix(a: string, b: string): number {
  const [left, right] = [a.split('/'), b.split('/')];
  let shared = 0;
  while (shared < left.length && left[shared] === right[shared]) shared += 1;
  return shared;
}
