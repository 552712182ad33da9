/**
 * Documents in a folder, for the command line. Several processes may use one folder at the same time.
 *
 * A document is a file, its ETag comes from the file's own marks, and a write is a new file renamed over the old one:
 * readers need no lock and never see half of it. Whoever writes or leases holds the folder's lock for the few calls from
 * looking to writing.
 *
 *     .hubferry/checkpoints/uploads+/1f0c…           the document `uploads/1f0c…`
 *     .hubferry/checkpoints/uploads+/1f0c…@lease     which process has the lease on it, and until when
 *     .hubferry/.drafts/                             what is being written
 *     .hubferry/.lock                                there while a process looks and writes
 */
import { randomInt, randomUUID } from 'node:crypto';
import { rmdirSync, rmSync, statSync, utimesSync } from 'node:fs';
import { readdir, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { HubferryError } from '../errors.ts';
import type { CallOptions } from '../oci/roles.ts';
import { makeDirectory } from './directory.ts';
import { checkKey, checkLeaseSeconds, checkSize, isConditional, leaseLost, StorageError } from './failure.ts';
import {
  Drafts,
  etagOf,
  ifThere,
  marksOf,
  nameOf,
  readDocument,
  readLease,
  removeLease,
  writeLease,
} from './folder-files.ts';
import { FolderLock } from './folder-lock.ts';
import { decodeNames, encodeKey, encodePrefix } from './folder-names.ts';
import { isGone, thisProcess } from './folder-owner.ts';
import type {
  Container,
  DeleteOptions,
  DocumentStore,
  Lease,
  ListOptions,
  PutOptions,
  StoredDocument,
  StoredName,
  Stores,
} from './ports.ts';

export interface FolderOptions {
  /** Milliseconds since the epoch. @default Date.now */
  readonly now?: () => number;
}

/** Opens the stores of a folder. Nothing is made or read before the first call. */
export function openFolderStores(folder: string, options: FolderOptions = {}): Stores {
  const place: Place = {
    folder,
    now: options.now ?? Date.now,
    lock: new FolderLock(join(folder, '.lock')),
    drafts: new Drafts(join(folder, '.drafts')),
  };
  const open = (name: Container) => new FolderDocuments(place, name);
  return {
    config: open('config'),
    checkpoints: open('checkpoints'),
    state: open('state'),
    runs: open('runs'),
  };
}

const nothing = new Uint8Array(0);
/** Files looked at together by a listing. */
const atOnce = 64;
/** Failures of the system that may be gone the next time. */
const passing = new Set(['EAGAIN', 'EBUSY', 'EINTR', 'EIO', 'EMFILE', 'ENFILE', 'ETIMEDOUT']);

interface DocumentFile {
  readonly key: string;
  readonly path: string;
}

interface Place {
  readonly folder: string;
  readonly now: () => number;
  readonly lock: FolderLock;
  readonly drafts: Drafts;
}

class FolderDocuments implements DocumentStore {
  readonly #place: Place;
  readonly #name: Container;
  readonly #root: string;
  /**
   * What is not on the disk when the power fails is lost. A checkpoint is only a hint and often written: a lost one
   * costs one blob sent again, and its reader bears with a damaged one.
   */
  readonly #durable: boolean;

  constructor(place: Place, name: Container) {
    this.#place = place;
    this.#name = name;
    this.#root = join(place.folder, name);
    this.#durable = name !== 'checkpoints';
  }

  async get(key: string, options: CallOptions = {}): Promise<StoredDocument | undefined> {
    const path = this.#path(key);
    return this.#telling('get', key, options, () => ifThere(() => readDocument(path, key)));
  }

  async put(key: string, bytes: Uint8Array, options: PutOptions = {}): Promise<string | undefined> {
    const path = this.#path(key);
    checkSize(key, bytes.byteLength);
    return this.#telling('put', key, options, () =>
      this.#place.drafts.with(bytes, this.#durable, (draft) =>
        this.#alone(options, async () => {
          if (this.#standsAgainst(path, options)) {
            if (isConditional(options)) return undefined;
            throw new StorageError(`put ${this.#name}/${key}: another process has the lease.`, {
              retryable: true,
            });
          }
          if (options.lease === undefined) removeLease(path);
          return this.#commit(draft, path);
        }),
      ),
    );
  }

  async delete(key: string, options: DeleteOptions = {}): Promise<boolean> {
    const path = this.#path(key);
    return this.#telling('delete', key, options, () =>
      this.#alone(options, () => {
        if (marksOf(path) === undefined) return true;
        if (this.#standsAgainst(path, options)) return false;
        // In this order a kill between the two leaves no lease on what comes after.
        removeLease(path);
        rmSync(path);
        this.#prune(dirname(path));
        return true;
      }),
    );
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncGenerator<StoredName> {
    const { after } = options;
    const all: DocumentFile[] = [];
    await this.#telling('list', prefix, options, () => this.#walk(encodePrefix(prefix), all, options));
    const found = all
      .filter(({ key }) => key.startsWith(prefix) && (after === undefined || key > after))
      .sort((a, b) => (a.key < b.key ? -1 : 1));
    for (let at = 0; at < found.length; at += atOnce) {
      const names = await this.#telling('list', prefix, options, () =>
        Promise.all(found.slice(at, at + atOnce).map(({ key, path }) => ifThere(() => nameOf(key, path)))),
      );
      for (const name of names) if (name !== undefined) yield name;
    }
  }

  async lease(key: string, seconds: number, options: CallOptions = {}): Promise<Lease | undefined> {
    checkLeaseSeconds(seconds);
    const path = this.#path(key);
    return this.#telling('lease', key, options, () =>
      this.#place.drafts.with(nothing, this.#durable, (draft) =>
        this.#alone(options, async () => {
          if (this.#holderOf(path) !== undefined) return undefined;
          if (marksOf(path) === undefined) await this.#commit(draft, path);
          const id = randomUUID();
          const expiresAt = this.#hold(path, id, seconds);
          return new FolderLease(key, id, expiresAt, {
            renew: (call) => this.#renew(key, id, seconds, call),
            release: () => this.#release(key, id),
          });
        }),
      ),
    );
  }

  /** Also after its time, as long as nobody else took it or wrote: so does Blob Storage. */
  #renew(key: string, id: string, seconds: number, options: CallOptions): Promise<number> {
    const path = this.#path(key);
    return this.#telling('renew', key, options, () =>
      this.#alone(options, () => {
        if (readLease(path)?.id !== id || marksOf(path) === undefined) throw leaseLost(key);
        return this.#hold(path, id, seconds);
      }),
    );
  }

  #release(key: string, id: string): Promise<void> {
    const path = this.#path(key);
    return this.#telling('release', key, {}, () =>
      this.#alone({}, () => {
        if (readLease(path)?.id === id) removeLease(path);
      }),
    );
  }

  #path(key: string): string {
    checkKey(key);
    return join(this.#root, encodeKey(key));
  }

  #alone<T>(options: CallOptions, work: () => T | Promise<T>): Promise<T> {
    return this.#place.lock.run(work, options.signal);
  }

  #standsAgainst(path: string, { ifMatch, ifAbsent, lease }: PutOptions): boolean {
    const marks = marksOf(path);
    if (ifAbsent && marks !== undefined) return true;
    if (ifMatch !== undefined && (marks === undefined || etagOf(marks) !== ifMatch)) return true;
    return this.#holderOf(path) !== lease?.id;
  }

  #holderOf(path: string): string | undefined {
    const lease = marksOf(path) && readLease(path);
    if (lease === undefined || lease.until <= this.#place.now()) return undefined;
    return lease.owner !== undefined && isGone(lease.owner) ? undefined : lease.id;
  }

  #hold(path: string, id: string, seconds: number): number {
    const until = this.#place.now() + seconds * 1000;
    writeLease(path, { id, until, owner: thisProcess() });
    return until;
  }

  /**
   * Makes a draft the document. An inode is soon used again and a clock stands still for milliseconds, so the time of
   * the file is set: later than the version before, and with digits of its own where there is none. On a busy disk the
   * renaming takes milliseconds, in which nothing else is to stand still.
   */
  async #commit(draft: string, path: string): Promise<string> {
    const before = marksOf(path);
    const later = before === undefined ? 0 : Number(before.mtimeNs / 1000n) + 10;
    const micros = Math.max(later, Math.floor(this.#place.now()) * 1000 + randomInt(1000));
    utimesSync(draft, micros / 1e6, micros / 1e6);
    if (before === undefined) makeDirectory(dirname(path));
    await rename(draft, path);
    return etagOf(statSync(path, { bigint: true }));
  }

  /** Removes directories that hold nothing any more. */
  #prune(directory: string): void {
    for (let empty = directory; empty !== this.#root; empty = dirname(empty)) {
      try {
        rmdirSync(empty);
      } catch {
        return;
      }
    }
  }

  /** Finds all documents below a directory, unordered. */
  async #walk(names: readonly string[], found: DocumentFile[], options: CallOptions): Promise<void> {
    options.signal?.throwIfAborted();
    const directory = join(this.#root, ...names);
    const entries = await ifThere(() => readdir(directory, { withFileTypes: true }));
    for (const entry of entries ?? []) {
      const below = [...names, entry.name];
      if (entry.isDirectory()) await this.#walk(below, found, options);
      else if (!entry.name.includes('@')) {
        const key = decodeNames(below);
        if (key !== undefined) found.push({ key, path: join(directory, entry.name) });
      }
    }
  }

  /** Gives what the file system throws the shape of every other failure of storage. */
  async #telling<T>(verb: string, key: string, { signal }: CallOptions, work: () => Promise<T>): Promise<T> {
    signal?.throwIfAborted();
    try {
      return await work();
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof HubferryError) throw error;
      const reason = (error as NodeJS.ErrnoException).code;
      throw new StorageError(
        `${verb} ${this.#name}/${key} in ${this.#place.folder}: ${reason ?? String(error)}.`,
        {
          reason,
          retryable: passing.has(reason ?? ''),
          cause: error,
        },
      );
    }
  }
}

interface Grip {
  /** The new time until which it is held. */
  renew(options: CallOptions): Promise<number>;
  release(): Promise<void>;
}

class FolderLease implements Lease {
  readonly key: string;
  readonly id: string;
  readonly #grip: Grip;
  #expiresAt: number;

  constructor(key: string, id: string, expiresAt: number, grip: Grip) {
    this.key = key;
    this.id = id;
    this.#expiresAt = expiresAt;
    this.#grip = grip;
  }

  get expiresAt(): number {
    return this.#expiresAt;
  }

  async renew(options: CallOptions = {}): Promise<void> {
    this.#expiresAt = await this.#grip.renew(options);
  }

  release(): Promise<void> {
    return this.#grip.release();
  }
}
