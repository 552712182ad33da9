/** Repositories and documents in memory: the roles that sync/ knows, without a network or a disk. */
import type { Descriptor, Digest, Manifest } from '../../../lib/oci/descriptor.ts';
import { algorithmOf, digestOf } from '../../../lib/oci/digest.ts';
import { parseManifest } from '../../../lib/oci/manifest.ts';
import { isTag } from '../../../lib/oci/reference.ts';
import type {
  BlobStat,
  Observer,
  Referrers,
  TagEntry,
  TagListOptions,
  TagPage,
  Target,
  UploadSession,
} from '../../../lib/oci/roles.ts';
import type { DocumentStore, Lease, PutOptions, Stores } from '../../../lib/storage/ports.ts';
import type { Content } from '../../local/content.ts';

export interface MemoryTag {
  readonly digest: Digest;
  readonly pushedAt?: number | undefined;
  readonly locked?: boolean | undefined;
}

export class MemoryRepository implements Target {
  readonly name: string;
  readonly tags = new Map<string, MemoryTag>();
  readonly manifests = new Map<Digest, Manifest>();
  readonly blobs = new Map<Digest, Uint8Array>();
  readonly maxChunk = undefined;
  billed = false;
  tellsDigests = true;
  referrersApi = false;
  pageSize = 1000;
  /** In which the pages come. */
  order: (names: readonly string[]) => readonly string[] = (names) => [...names].sort();
  /** Every manifest pushed and tag deleted, as they came. */
  readonly changes: string[] = [];
  observer: Observer | undefined;

  constructor(name: string) {
    this.name = name;
  }

  /** Puts content with all below it, under a tag where one is given. */
  async put(content: Content, tag?: string, more: Partial<MemoryTag> = {}): Promise<void> {
    for (const child of content.children) await this.put(child);
    for (const blob of content.blobs) {
      const pieces: Uint8Array[] = [];
      for await (const piece of blob.open(0, blob.size)) pieces.push(Buffer.from(piece));
      this.blobs.set(blob.descriptor.digest, Buffer.concat(pieces));
    }
    const { descriptor, bytes } = content;
    this.manifests.set(descriptor.digest, { descriptor, bytes });
    if (tag !== undefined) this.tags.set(tag, { digest: descriptor.digest, ...more });
  }

  async resolve(reference: string): Promise<Descriptor | undefined> {
    this.observer?.onRequest?.();
    return this.#find(reference)?.descriptor;
  }

  async fetchManifest(reference: string): Promise<Manifest | undefined> {
    const found = this.#find(reference);
    if (found !== undefined) this.observer?.onPull?.();
    return found;
  }

  async listTags({ cursor }: TagListOptions = {}): Promise<TagPage | undefined> {
    this.observer?.onRequest?.();
    const names = this.order([...this.tags.keys()]);
    const from = Number(cursor ?? 0);
    const to = from + this.pageSize;
    const tags = names.slice(from, to).map((name) => this.#entry(name));
    return { tags, ...(to < names.length ? { next: String(to) } : {}) };
  }

  async describeTag(tag: string): Promise<TagEntry | undefined> {
    return this.tags.has(tag) ? this.#entry(tag) : undefined;
  }

  async openBlob({ digest }: Descriptor, offset: number): Promise<AsyncIterable<Uint8Array> | undefined> {
    const bytes = this.blobs.get(digest);
    return bytes && piecesOf(bytes.subarray(offset));
  }

  async statBlob(digest: Digest): Promise<BlobStat | undefined> {
    const blob = this.blobs.get(digest);
    return blob && { size: blob.length };
  }

  async startUpload(): Promise<UploadSession> {
    return new MemoryUpload(this.blobs);
  }

  async mountBlob(): Promise<false> {
    return false;
  }

  resumeUpload(): UploadSession {
    return new MemoryUpload(this.blobs, true);
  }

  /** As strict as a registry: everything below has to be there. */
  async pushManifest(manifest: Manifest, reference: string): Promise<{ subjectHandled: boolean }> {
    const { manifests, blobs, subject } = parseManifest(manifest);
    const missing =
      manifests.find(({ digest }) => !this.manifests.has(digest)) ??
      blobs.find(({ digest }) => !this.blobs.has(digest));
    if (missing !== undefined) throw new Error(`${reference} is pushed before ${missing.digest}`);
    const digest = digestOf(manifest.bytes, algorithmOf(manifest.descriptor.digest));
    this.manifests.set(digest, manifest);
    if (isTag(reference)) this.tags.set(reference, { ...this.tags.get(reference), digest });
    this.changes.push(`push ${reference}`);
    return { subjectHandled: this.referrersApi && subject !== undefined };
  }

  async listReferrers(digest: Digest): Promise<Referrers> {
    const all = this.referrersApi ? [...this.manifests.values()] : [];
    const about = all.filter((manifest) => parseManifest(manifest).subject?.digest === digest);
    return { api: this.referrersApi, descriptors: about.map(({ descriptor }) => descriptor) };
  }

  async deleteTag(tag: string): Promise<void> {
    this.tags.delete(tag);
    this.changes.push(`delete ${tag}`);
  }

  /** Tag to digest: what a mirror is judged by. */
  get state(): Record<string, Digest> {
    return Object.fromEntries([...this.tags].sort().map(([name, { digest }]) => [name, digest]));
  }

  #find(reference: string): Manifest | undefined {
    const digest = isTag(reference) ? this.tags.get(reference)?.digest : (reference as Digest);
    return digest === undefined ? undefined : this.manifests.get(digest);
  }

  #entry(name: string): TagEntry {
    const { digest, pushedAt, locked } = this.tags.get(name) ?? {};
    return { name, pushedAt, locked, digest: this.tellsDigests ? digest : undefined };
  }
}

async function* piecesOf(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  if (bytes.length > 0) yield bytes;
}

class MemoryUpload implements UploadSession {
  readonly location = 'memory:upload';
  readonly minChunk = 0;
  readonly #blobs: Map<Digest, Uint8Array>;
  readonly #lost: boolean;
  readonly #chunks: Uint8Array[] = [];

  constructor(blobs: Map<Digest, Uint8Array>, lost = false) {
    this.#blobs = blobs;
    this.#lost = lost;
  }

  get offset(): number {
    return this.#chunks.reduce((sum, { length }) => sum + length, 0);
  }

  async append(chunk: readonly Uint8Array[]): Promise<void> {
    for (const piece of chunk) this.#chunks.push(Buffer.from(piece));
  }

  async refresh(): Promise<boolean> {
    return !this.#lost;
  }

  async commit(digest: Digest, last: readonly Uint8Array[]): Promise<void> {
    await this.append(last);
    this.#blobs.set(digest, Buffer.concat(this.#chunks));
  }

  async cancel(): Promise<void> {}
}

/** Documents in memory; a lease lasts until it is released. */
class MemoryDocuments implements DocumentStore {
  readonly #documents = new Map<string, { bytes: Uint8Array; etag: string }>();
  readonly #leases = new Map<string, string>();
  #count = 0;

  async get(key: string) {
    return this.#documents.get(key);
  }

  async put(key: string, bytes: Uint8Array, options: PutOptions = {}): Promise<string | undefined> {
    const there = this.#documents.get(key);
    const isFree = this.#leases.get(key) === undefined || this.#leases.get(key) === options.lease?.id;
    const fits = options.ifMatch === undefined || options.ifMatch === there?.etag;
    if (!isFree || !fits || (options.ifAbsent === true && there !== undefined)) return undefined;
    const etag = String(++this.#count);
    this.#documents.set(key, { bytes: Uint8Array.from(bytes), etag });
    return etag;
  }

  async delete(key: string): Promise<boolean> {
    this.#documents.delete(key);
    return true;
  }

  async *list(prefix: string) {
    for (const [key, { bytes, etag }] of [...this.#documents].sort(([a], [b]) => (a < b ? -1 : 1))) {
      if (key.startsWith(prefix)) yield { key, etag, size: bytes.length, modifiedAt: 0 };
    }
  }

  async lease(key: string): Promise<Lease | undefined> {
    if (this.#leases.has(key)) return undefined;
    const id = String(++this.#count);
    this.#leases.set(key, id);
    if (!this.#documents.has(key)) this.#documents.set(key, { bytes: new Uint8Array(), etag: id });
    const release = async () => void this.#leases.delete(key);
    return { key, id, expiresAt: Date.now() + 60_000, renew: async () => {}, release };
  }
}

export function memoryStores(): Stores {
  const open = () => new MemoryDocuments();
  return { config: open(), checkpoints: open(), state: open(), runs: open() };
}

/** The same documents, for a store that does one thing otherwise. */
export function boundTo(documents: DocumentStore): DocumentStore {
  return {
    get: (...args) => documents.get(...args),
    put: (...args) => documents.put(...args),
    delete: (...args) => documents.delete(...args),
    list: (...args) => documents.list(...args),
    lease: (...args) => documents.lease(...args),
  };
}
