/** Which repository of the target registry a blob can be mounted from. */
import * as z from 'zod';
import type { Descriptor } from '../../oci/descriptor.ts';
import type { DocumentStore } from '../../storage/ports.ts';
import { parseStored } from '../stored.ts';

/** Paths of repositories. */
const noteSchema = z.array(z.string());

/** Below this size in bytes a mount saves nothing worth remembering between processes. */
const worthRemembering = 1024 * 1024;
const repositoriesKept = 8;
const memoryKept = 50_000;
/** A mount that is declined costs two requests: of a small blob the upload is as cheap. */
const mostTries = 3;

interface Known {
  readonly paths: readonly string[];
  /** Of what storage says. */
  readonly etag?: string | undefined;
}

/** Remembers which repositories this product has filled with which blobs: large ones in storage, small ones in memory. */
export class MountCandidates {
  readonly #store: DocumentStore;
  readonly #memory = new Map<string, readonly string[]>();

  constructor(store: DocumentStore) {
    this.#store = store;
  }

  /**
   * Repositories (their paths) of the target's registry that have the blob, to be tried in this order: the source, if it is
   * one of that registry, then those that are known, the nearest name first.
   */
  async nearest(target: string, blob: Descriptor, source: string): Promise<readonly string[]> {
    if (blob.size === 0) return [];
    const self = pathOf(target);
    const known = await this.#read(keyOf(target, blob), blob);
    const byName = known.paths.toSorted((a, b) => sharedPrefix(b, self) - sharedPrefix(a, self));
    const first = hostOf(source) === hostOf(target) ? [pathOf(source)] : [];
    const paths = [...new Set([...first, ...byName])].filter((path) => path !== self);
    return paths.slice(0, isRemembered(blob) ? mostTries : 1);
  }

  /** Notes that a repository has the blob now, and that others refused to give it. */
  async note(target: string, blob: Descriptor, refused: readonly string[] = []): Promise<void> {
    const key = keyOf(target, blob);
    const path = pathOf(target);
    for (;;) {
      const { paths, etag } = await this.#read(key, blob);
      if (paths.includes(path) && !paths.some((one) => refused.includes(one))) return;
      const others = paths.filter((one) => one !== path && !refused.includes(one));
      if (await this.#write(key, blob, [...others, path].slice(-repositoriesKept), etag)) return;
    }
  }

  async #read(key: string, blob: Descriptor): Promise<Known> {
    if (!isRemembered(blob)) return { paths: this.#memory.get(key) ?? [] };
    const document = await this.#store.get(key);
    const paths = (document && parseStored(document.bytes, noteSchema)) ?? [];
    return { paths, etag: document?.etag };
  }

  /** False where another instance has written since. */
  async #write(key: string, blob: Descriptor, paths: readonly string[], etag?: string): Promise<boolean> {
    if (isRemembered(blob)) {
      const condition = etag === undefined ? { ifAbsent: true } : { ifMatch: etag };
      return (await this.#store.put(key, Buffer.from(JSON.stringify(paths)), condition)) !== undefined;
    }
    if (this.#memory.size >= memoryKept) this.#memory.clear();
    this.#memory.set(key, paths);
    return true;
  }
}

function isRemembered({ size }: Descriptor): boolean {
  return size >= worthRemembering;
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
