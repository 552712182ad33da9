/** What a stand-in registry holds: repositories in memory, large blobs in files. Tests reach into it directly. */
import { createHash, type Hash, randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Descriptor, Digest } from '../../lib/oci/descriptor.ts';

export interface StoredBlob {
  readonly size: number;
  /** The bytes from `start` up to, not including, `end`. */
  open(start: number, end: number): AsyncIterable<Uint8Array>;
}

export function digestOf(bytes: Uint8Array, algorithm = 'sha256'): Digest {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`;
}

export function blobInMemory(bytes: Uint8Array): StoredBlob {
  return {
    size: bytes.byteLength,
    async *open(start, end) {
      if (end > start) yield bytes.subarray(start, end);
    },
  };
}

/** ACR's `changeableAttributes`: a lock is `writeEnabled: false` or `deleteEnabled: false`. */
export interface Attributes {
  deleteEnabled: boolean;
  writeEnabled: boolean;
  readEnabled: boolean;
  listEnabled: boolean;
}

function unlocked(): Attributes {
  return { deleteEnabled: true, writeEnabled: true, readEnabled: true, listEnabled: true };
}

export interface StoredTag {
  readonly digest: Digest;
  /** Milliseconds since the epoch. */
  readonly createdAt: number;
  readonly pushedAt: number;
  readonly attributes: Attributes;
}

export interface StoredManifest {
  readonly bytes: Uint8Array;
  readonly mediaType: string;
  readonly subject: Digest | undefined;
  readonly pushedAt: number;
  readonly attributes: Attributes;
}

/** The parts of a manifest that a registry looks at. */
export interface ManifestFields {
  readonly schemaVersion?: number;
  readonly mediaType?: string;
  readonly artifactType?: string;
  readonly config?: Descriptor;
  readonly layers?: readonly Descriptor[];
  readonly manifests?: readonly Descriptor[];
  readonly subject?: Descriptor;
  readonly annotations?: Record<string, string>;
}

export class LocalRepository {
  readonly name: string;
  readonly manifests = new Map<Digest, StoredManifest>();
  readonly blobs = new Map<Digest, StoredBlob>();
  readonly #tags = new Map<string, StoredTag>();
  readonly #now: () => number;
  readonly #views = new Map<string, readonly string[]>();

  constructor(name: string, now: () => number) {
    this.name = name;
    this.#now = now;
  }

  get tags(): ReadonlyMap<string, StoredTag> {
    return this.#tags;
  }

  /** Whether something was ever pushed here; an unknown repository answers 404. */
  known = false;

  putBlob(digest: Digest, blob: StoredBlob): void {
    this.blobs.set(digest, blob);
  }

  putManifest(mediaType: string, bytes: Uint8Array, digest: Digest = digestOf(bytes)): void {
    this.known = true;
    this.manifests.set(digest, {
      bytes,
      mediaType,
      subject: fieldsOf(bytes).subject?.digest,
      pushedAt: this.#now(),
      attributes: this.manifests.get(digest)?.attributes ?? unlocked(),
    });
  }

  /** Creates or moves a tag. The manifest need not be there: a registry can be damaged. */
  setTag(tag: string, digest: Digest, pushedAt = this.#now()): void {
    const before = this.#tags.get(tag);
    this.known = true;
    this.#views.clear();
    this.#tags.set(tag, {
      digest,
      createdAt: before?.createdAt ?? pushedAt,
      pushedAt,
      attributes: before?.attributes ?? unlocked(),
    });
  }

  digestOf(tag: string): Digest | undefined {
    return this.#tags.get(tag)?.digest;
  }

  /** The manifest behind a tag or digest. */
  manifest(reference: string): (StoredManifest & { readonly digest: Digest }) | undefined {
    const digest = reference.includes(':') ? (reference as Digest) : this.digestOf(reference);
    const manifest = digest === undefined ? undefined : this.manifests.get(digest);
    return digest === undefined || manifest === undefined ? undefined : { ...manifest, digest };
  }

  removeTag(tag: string): boolean {
    this.#views.clear();
    return this.#tags.delete(tag);
  }

  /** Removes a manifest with all its tags. */
  removeManifest(digest: Digest): boolean {
    for (const [tag, stored] of this.#tags) if (stored.digest === digest) this.removeTag(tag);
    return this.manifests.delete(digest);
  }

  removeBlob(digest: Digest): boolean {
    return this.blobs.delete(digest);
  }

  /** Tag names in lexical order. */
  tagNames(): readonly string[] {
    return this.#view('name', (a, b) => (a < b ? -1 : 1));
  }

  /** Tag names, the one pushed last first. */
  newestTagNames(): readonly string[] {
    const time = (tag: string) => this.#tags.get(tag)?.pushedAt ?? 0;
    return this.#view('pushed', (a, b) => time(b) - time(a) || (a < b ? -1 : 1));
  }

  /** Manifests whose subject is this digest. */
  referrersOf(subject: Digest): Digest[] {
    return [...this.manifests]
      .filter(([, manifest]) => manifest.subject === subject)
      .map(([digest]) => digest);
  }

  /** Sorting 100,000 names for every page would be what a test measures. */
  #view(name: string, compare: (a: string, b: string) => number): readonly string[] {
    const known = this.#views.get(name);
    if (known !== undefined) return known;
    const view = [...this.#tags.keys()].sort(compare);
    this.#views.set(name, view);
    return view;
  }
}

/** A manifest's fields; none for what is no manifest, since tests put that as well. */
export function fieldsOf(bytes: Uint8Array): ManifestFields {
  try {
    return (JSON.parse(Buffer.from(bytes).toString()) as ManifestFields | null) ?? {};
  } catch {
    return {};
  }
}

export class LocalStore {
  readonly repositories = new Map<string, LocalRepository>();
  readonly now: () => number;
  readonly uploads = new Map<string, Upload>();
  #folder: Promise<string> | undefined;

  constructor(now: () => number = Date.now) {
    this.now = now;
  }

  /** The repository of that name; one that nobody pushed to yet is made on the way, and stays unknown to clients. */
  repository(name: string): LocalRepository {
    let repository = this.repositories.get(name);
    if (repository === undefined) {
      repository = new LocalRepository(name, this.now);
      this.repositories.set(name, repository);
    }
    return repository;
  }

  startUpload(repository: LocalRepository): Upload {
    const upload = new Upload(repository, () => this.#path());
    this.uploads.set(upload.id, upload);
    return upload;
  }

  async close(): Promise<void> {
    this.uploads.clear();
    if (this.#folder !== undefined) await rm(await this.#folder, { recursive: true, force: true });
  }

  async #path(): Promise<string> {
    this.#folder ??= mkdtemp(join(tmpdir(), 'hubferry-blobs-'));
    return join(await this.#folder, randomUUID());
  }
}

/** Above this, the bytes of an upload go to a file, so many at once. */
const heldInMemory = 8 << 20;
const writtenAtOnce = 1 << 20;

/** One upload session: appended to in order, hashed on the way. */
export class Upload {
  readonly id = randomUUID();
  readonly repository: LocalRepository;
  offset = 0;
  /** Counts the requests that changed it; part of its opaque state. */
  generation = 0;
  /** Size of the last chunk that came by PATCH. */
  lastChunk: number | undefined;
  readonly #newPath: () => Promise<string>;
  readonly #hash: Hash = createHash('sha256');
  #chunks: Buffer[] = [];
  #waiting = 0;
  #file: { readonly path: string; readonly handle: FileHandle } | undefined;

  constructor(repository: LocalRepository, newPath: () => Promise<string>) {
    this.repository = repository;
    this.#newPath = newPath;
  }

  async append(chunk: Buffer): Promise<void> {
    this.#hash.update(chunk);
    this.offset += chunk.byteLength;
    this.#chunks.push(chunk);
    this.#waiting += chunk.byteLength;
    if (this.#waiting > (this.#file === undefined ? heldInMemory : writtenAtOnce)) await this.#spill();
  }

  /** Ends the session; the blob, where it has that digest. */
  async finish(digest: Digest): Promise<StoredBlob | undefined> {
    const blob = await this.#blob();
    const [algorithm = ''] = digest.split(':');
    const actual =
      algorithm === 'sha256' ? this.#hash.digest('hex') : await hashBlob(createHash(algorithm), blob);
    return digest === `${algorithm}:${actual}` ? blob : undefined;
  }

  async discard(): Promise<void> {
    await this.#file?.handle.close();
    if (this.#file !== undefined) await rm(this.#file.path, { force: true });
  }

  async #spill(): Promise<void> {
    if (this.#file === undefined) {
      const path = await this.#newPath();
      this.#file = { path, handle: await open(path, 'w') };
    }
    const chunks = this.#chunks;
    this.#chunks = [];
    this.#waiting = 0;
    if (chunks.length > 0) await this.#file.handle.writev(chunks);
  }

  async #blob(): Promise<StoredBlob> {
    if (this.#file === undefined) return blobInMemory(Buffer.concat(this.#chunks));
    await this.#spill();
    const { path, handle } = this.#file;
    await handle.close();
    return {
      size: this.offset,
      async *open(start, end) {
        if (end > start) yield* createReadStream(path, { start, end: end - 1, highWaterMark: 256 << 10 });
      },
    };
  }
}

async function hashBlob(hash: Hash, blob: StoredBlob): Promise<string> {
  for await (const chunk of blob.open(0, blob.size)) hash.update(chunk);
  return hash.digest('hex');
}
