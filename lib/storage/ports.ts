/**
 * What `sync/` needs of storage: documents with conditional writes and leases, and queues.
 * Filled by Blob Storage and Queue Storage in Azure, by a folder on the command line.
 */
import type { CallOptions } from '../oci/roles.ts';

/** The containers of the product's account, and the folders of the command line. */
export const containers = ['config', 'checkpoints', 'state', 'runs'] as const;
export type Container = (typeof containers)[number];

export const queues = ['plan-requests', 'push-requests', 'copy-requests'] as const;
export type Queue = (typeof queues)[number];

/** A larger document is refused with ERR_TOO_LARGE, in both directions. */
export const maxDocumentBytes = 64 * 1024 * 1024;

export interface StoredDocument {
  readonly bytes: Uint8Array;
  readonly etag: string;
}

export interface StoredName {
  readonly key: string;
  readonly etag: string;
  readonly size: number;
  /** Milliseconds since the epoch. */
  readonly modifiedAt: number;
}

export interface PutOptions extends CallOptions {
  /** Write only over this version. */
  readonly ifMatch?: string | undefined;
  /** Write only where nothing is. */
  readonly ifAbsent?: boolean | undefined;
  /** Needed for a document under a lease. */
  readonly lease?: Lease | undefined;
}

export interface DeleteOptions extends CallOptions {
  readonly ifMatch?: string | undefined;
  readonly lease?: Lease | undefined;
}

export interface ListOptions extends CallOptions {
  /** Only keys after this one. */
  readonly after?: string | undefined;
}

/** Documents by key (`/` allowed), listed in code unit order. Any failure but absence throws ERR_STORAGE. */
export interface DocumentStore {
  get(key: string, options?: CallOptions): Promise<StoredDocument | undefined>;
  /**
   * The new etag; `undefined` when a condition (or another's lease) stood against it. Without a condition and a lease of
   * its own it throws ERR_STORAGE then.
   */
  put(key: string, bytes: Uint8Array, options?: PutOptions): Promise<string | undefined>;
  /** False when a condition (or another's lease) stood against it; true when it is gone, also when it never was. */
  delete(key: string, options?: DeleteOptions): Promise<boolean>;
  list(prefix: string, options?: ListOptions): AsyncIterable<StoredName>;
  /**
   * Takes the lease on a key (the document is made empty where it is not there) for `seconds` (15 to 60);
   * `undefined` when another holds it. Readers are not held up by a lease.
   */
  lease(key: string, seconds: number, options?: CallOptions): Promise<Lease | undefined>;
}

export interface Lease {
  readonly key: string;
  readonly id: string;
  /** Milliseconds since the epoch after which another may take it. */
  readonly expiresAt: number;
  /** @throws ERR_LEASE_LOST when another has it. */
  renew(options?: CallOptions): Promise<void>;
  /** Silent when it is lost already. */
  release(): Promise<void>;
}

export type Stores = Readonly<Record<Container, DocumentStore>>;

export interface SendOptions extends CallOptions {
  /** Invisible for so long: at most minutes, since the scaler counts invisible messages too. */
  readonly delaySeconds?: number | undefined;
}

export interface RequestQueues {
  /** Sends one message (JSON, at most 48 KiB) that never expires. Where it fails and may be tried again, it may have been sent. */
  send(queue: Queue, message: unknown, options?: SendOptions): Promise<void>;
}
