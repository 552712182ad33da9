/** Documents on Blob Storage: native conditions, native leases. */
import { createHash, randomUUID } from 'node:crypto';
import { BlobServiceClient, type BlockBlobClient, type ContainerClient } from '@azure/storage-blob';
import type { CallOptions } from '../oci/roles.ts';
import {
  attempt,
  type BlobIdentity,
  clientOptions,
  endpointOf,
  type OpenOptions,
  openClient,
  reasonOf,
  type StorageKey,
} from './azure.ts';
import { checkKey, checkLeaseSeconds, checkSize, isConditional, leaseLost, StorageError } from './failure.ts';
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

/** Opens the containers of an account. No request is made before the first call. */
export function openBlobStores(connection: StorageKey | BlobIdentity, options: OpenOptions = {}): Stores {
  const service = openClient(() =>
    'connectionString' in connection
      ? BlobServiceClient.fromConnectionString(connection.connectionString, clientOptions)
      : new BlobServiceClient(endpointOf(connection.blobServiceUri), connection.credential, clientOptions),
  );
  const open = (name: Container) =>
    new BlobDocuments(service.getContainerClient(name), options.create ?? false);
  return {
    config: open('config'),
    checkpoints: open('checkpoints'),
    state: open('state'),
    runs: open('runs'),
  };
}

class BlobDocuments implements DocumentStore {
  readonly #container: ContainerClient;
  readonly #create: boolean;

  constructor(container: ContainerClient, create: boolean) {
    this.#container = container;
    this.#create = create;
  }

  async get(key: string, options: CallOptions = {}): Promise<StoredDocument | undefined> {
    const blob = this.#blob(key);
    try {
      return await attempt(this.#what('get', key), options, (abortSignal) =>
        download(blob, key, abortSignal),
      );
    } catch (error) {
      if (this.#isAbsence(error)) return undefined;
      throw error;
    }
  }

  async put(key: string, bytes: Uint8Array, options: PutOptions = {}): Promise<string | undefined> {
    checkSize(key, bytes.byteLength);
    const blob = this.#blob(key);
    const writer = randomUUID();
    const request = {
      conditions: conditionsOf(options),
      metadata: { writer },
      transactionalContentMD5: md5(bytes),
    };
    let sent = 0;
    const send = () =>
      attempt(this.#what('put', key), options, async (abortSignal, nth) => {
        sent = nth;
        const answer = await blob.upload(bytes, bytes.byteLength, { ...request, abortSignal });
        return quoted(answer.etag);
      });
    try {
      return await this.#making(send, options);
    } catch (error) {
      if (!standsAgainst(error) || !isConditional(options)) throw error;
      // The answer to an earlier try may have been lost: then it is our own write that stands against this one.
      return sent > 1 ? this.#writtenBy(writer, key, options) : undefined;
    }
  }

  async delete(key: string, options: DeleteOptions = {}): Promise<boolean> {
    const blob = this.#blob(key);
    const conditions = conditionsOf(options);
    try {
      await attempt(this.#what('delete', key), options, (abortSignal) =>
        blob.delete({ conditions, abortSignal }),
      );
      return true;
    } catch (error) {
      if (this.#isAbsence(error)) return true;
      if (!standsAgainst(error)) throw error;
    }
    // No ETag matches where nothing is (RFC 9110 section 13.1.1), and what is gone is deleted.
    return (await this.#properties(key, options)) === undefined;
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncGenerator<StoredName> {
    const { after } = options;
    const query = {
      prefix: blobPrefix(prefix),
      ...(after?.startsWith(prefix) && { startFrom: blobName(after) }),
    };
    let continuationToken: string | undefined;
    do {
      const page = await this.#page(query, continuationToken, options);
      for (const { name, properties } of page.segment.blobItems) {
        const key = keyOf(name);
        if (!key.startsWith(prefix) || (after !== undefined && key <= after)) continue;
        yield {
          key,
          etag: quoted(properties.etag),
          size: properties.contentLength ?? 0,
          modifiedAt: properties.lastModified.getTime(),
        };
      }
      continuationToken = page.continuationToken || undefined;
    } while (continuationToken !== undefined);
  }

  async lease(key: string, seconds: number, options: CallOptions = {}): Promise<Lease | undefined> {
    checkLeaseSeconds(seconds);
    const lease = new BlobLease(this.#blob(key), key, seconds);
    for (let rounds = 1; ; rounds++) {
      try {
        return (await lease.acquire(options)) ? lease : undefined;
      } catch (error) {
        // Between making it and taking it, somebody may delete it.
        if (!this.#isAbsence(error) || rounds === 3) {
          // It may have been granted all the same. Nobody waits for this.
          void lease.release().catch(() => {});
          throw error;
        }
      }
      await this.put(key, new Uint8Array(0), { signal: options.signal, ifAbsent: true });
    }
  }

  #blob(key: string): BlockBlobClient {
    checkKey(key);
    return this.#container.getBlockBlobClient(blobName(key));
  }

  #what(verb: string, key: string): string {
    return `${verb} ${this.#container.containerName}/${key}`;
  }

  /** Where only the document is missing. Without its container nothing can be said, unless we may make it. */
  #isAbsence(error: unknown): boolean {
    const reason = reasonOf(error);
    return reason === 'BlobNotFound' || (this.#create && reason === 'ContainerNotFound');
  }

  async #making<T>(send: () => Promise<T>, options: CallOptions): Promise<T> {
    try {
      return await send();
    } catch (error) {
      if (!this.#create || reasonOf(error) !== 'ContainerNotFound') throw error;
    }
    const container = this.#container;
    await attempt(`create ${container.containerName}`, options, (abortSignal) =>
      container.createIfNotExists({ abortSignal }),
    );
    return send();
  }

  async #writtenBy(writer: string, key: string, options: CallOptions): Promise<string | undefined> {
    const properties = await this.#properties(key, options);
    return properties?.metadata?.writer === writer ? quoted(properties.etag) : undefined;
  }

  async #properties(key: string, options: CallOptions) {
    const blob = this.#blob(key);
    try {
      return await attempt(this.#what('head', key), options, (abortSignal) =>
        blob.getProperties({ abortSignal }),
      );
    } catch (error) {
      if (this.#isAbsence(error)) return undefined;
      throw error;
    }
  }

  /** One page, asked for again as a whole where it fails. */
  async #page(query: { prefix: string }, continuationToken: string | undefined, options: CallOptions) {
    try {
      return await attempt(this.#what('list', query.prefix), options, async (abortSignal) => {
        const pages = this.#container.listBlobsFlat({ ...query, abortSignal });
        const settings = { maxPageSize: 5000, ...(continuationToken !== undefined && { continuationToken }) };
        for await (const page of pages.byPage(settings)) return page;
        return noPage;
      });
    } catch (error) {
      if (this.#isAbsence(error)) return noPage;
      throw error;
    }
  }
}

const noPage = { segment: { blobItems: [] }, continuationToken: undefined };

/** A renewal that hangs would eat up the lease. */
const leasePatienceMs = 5_000;

class BlobLease implements Lease {
  readonly key: string;
  readonly id = randomUUID();
  readonly #blob: BlockBlobClient;
  readonly #seconds: number;
  #expiresAt = 0;

  constructor(blob: BlockBlobClient, key: string, seconds: number) {
    this.#blob = blob;
    this.key = key;
    this.#seconds = seconds;
  }

  get expiresAt(): number {
    return this.#expiresAt;
  }

  /**
   * Proposing our own id makes this safe to repeat: whoever holds the lease may acquire it again.
   * @returns false when another holds it.
   */
  async acquire(options: CallOptions): Promise<boolean> {
    try {
      await this.#extend('lease', options, (abortSignal) =>
        this.#client.acquireLease(this.#seconds, { abortSignal }),
      );
      return true;
    } catch (error) {
      if (reasonOf(error).startsWith('Lease')) return false;
      throw error;
    }
  }

  async renew(options: CallOptions = {}): Promise<void> {
    try {
      await this.#extend('renew', options, (abortSignal) => this.#client.renewLease({ abortSignal }));
    } catch (error) {
      throw isLost(error) ? leaseLost(this.key) : error;
    }
  }

  async release(): Promise<void> {
    try {
      await attempt(`release ${this.key}`, { patienceMs: leasePatienceMs }, (abortSignal) =>
        this.#client.releaseLease({ abortSignal }),
      );
    } catch (error) {
      if (!isLost(error)) throw error;
    }
  }

  get #client() {
    return this.#blob.getBlobLeaseClient(this.id);
  }

  /** Counts from before the request was sent: the service's own count begins later, so the holder stops first. */
  async #extend(
    verb: string,
    options: CallOptions,
    send: (signal: AbortSignal) => Promise<unknown>,
  ): Promise<void> {
    await attempt(`${verb} ${this.key}`, { ...options, patienceMs: leasePatienceMs }, async (abortSignal) => {
      const start = Date.now();
      await send(abortSignal);
      this.#expiresAt = start + this.#seconds * 1000;
    });
  }
}

function isLost(error: unknown): boolean {
  const reason = reasonOf(error);
  return reason.startsWith('Lease') || reason === 'BlobNotFound' || reason === 'ContainerNotFound';
}

/** Whether a condition or a lease was in the way (412; 409 for what exists already or is leased to another). */
function standsAgainst(error: unknown): boolean {
  const reason = reasonOf(error);
  return reason === 'ConditionNotMet' || reason === 'BlobAlreadyExists' || reason.startsWith('Lease');
}

function conditionsOf({ ifMatch, ifAbsent, lease }: PutOptions) {
  // A lease is on something: without this, Azurite would write where the document is gone.
  const match = ifMatch ?? (lease && '*');
  return {
    ...(match !== undefined && { ifMatch: match }),
    ...(ifAbsent && { ifNoneMatch: '*' }),
    ...(lease && { leaseId: lease.id }),
  };
}

async function download(
  blob: BlockBlobClient,
  key: string,
  abortSignal: AbortSignal,
): Promise<StoredDocument> {
  const answer = await blob.download(0, undefined, { abortSignal, maxRetryRequests: 0 });
  const body = answer.readableStreamBody;
  const size = answer.contentLength ?? 0;
  if (body === undefined)
    throw new StorageError(`get ${key}: an answer without a body.`, { retryable: true });
  const chunks: Uint8Array[] = [];
  // Leaving the loop by an exception closes the connection.
  for await (const chunk of body as AsyncIterable<Buffer>) {
    checkSize(key, size);
    chunks.push(chunk);
  }
  const bytes = Buffer.concat(chunks, size);
  if (answer.contentMD5 !== undefined && !md5(bytes).equals(answer.contentMD5)) {
    throw new StorageError(`get ${key}: the bytes were damaged on the way.`, { retryable: true });
  }
  return { bytes, etag: quoted(answer.etag) };
}

/** Blob Storage keeps an MD5 of what it is sent, and refuses what does not match it. No secret hangs on it. */
function md5(bytes: Uint8Array): Buffer {
  return createHash('md5').update(bytes).digest();
}

/** Listings and some answers give the ETag without its quotes; conditions want them. */
function quoted(etag: string | undefined): string {
  if (etag === undefined) return '';
  return /^(W\/)?"/.test(etag) ? etag : `"${etag}"`;
}

/**
 * Blob Storage drops a dot at the end of a name, and advises against one at the end of any segment. A tag may end in one
 * (`v1.`): it gets a `!`, which sorts before what a longer tag goes on with.
 */
function blobName(key: string): string {
  return key.replace(/(\.!*)(?=\/|$)/g, '$1!');
}

/** The last segment of a prefix may go on. */
function blobPrefix(prefix: string): string {
  return prefix.replace(/(\.!*)(?=\/)/g, '$1!');
}

function keyOf(name: string): string {
  return name.replace(/(\.!*)!(?=\/|$)/g, '$1');
}
