/**
 * What the product needs of a repository, as small roles: a copy asks only for those that it uses.
 * `registry/`, `dockerhub.ts` and `acr.ts` fill them; `sync/` knows nothing else.
 *
 * Absence is `undefined`; failure throws a `HubferryError`.
 */
import type { Descriptor, Digest, Manifest, Platform } from './descriptor.ts';

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
}

export interface SendOptions extends CallOptions {
  /** Ends the wait of a request that the host holds up: what is on its way goes on. */
  readonly whileUnsent?: AbortSignal | undefined;
  /** Whose the memory of the body is, where that wants it back before there is an answer. */
  readonly owner?: BodyOwner | undefined;
}

/** May take back the pieces of a body that have left this process: then it cannot be sent again. */
export interface BodyOwner {
  /** One more piece has left, in their order. */
  left(): void;
  /** It is to be sent again from its first piece on: false where some are gone, else none is taken before it has left again. */
  rewind(): boolean;
}

/** Docker Hub's pull allowance as its headers tell it (`ratelimit-limit`, `ratelimit-remaining`, `docker-ratelimit-source`). */
export interface Allowance {
  /** Pulls in one window. */
  readonly limit: number;
  /** Pulls left in this window. */
  readonly remaining: number;
  readonly windowSeconds: number;
  /** Whom the registry counts: an address or an account. */
  readonly source: string;
}

/** Hears of every exchange made for one side of a piece of work. */
export interface Observer {
  /** One HTTP request was sent: token service, web API and CDN hops count too. */
  onRequest?(): void;
  /** One successful GET of a manifest (what Docker Hub bills as a pull). */
  onPull?(): void;
  onAllowance?(allowance: Allowance): void;
}

export interface Resolver {
  /** The descriptor that a tag or digest stands for now, by HEAD; no pull is billed. */
  resolve(reference: string, options?: CallOptions): Promise<Descriptor | undefined>;
}

export interface TagEntry {
  readonly name: string;
  /** A hint where the listing tells it, to be confirmed by `resolve` before anything is moved. */
  readonly digest?: Digest | undefined;
  /** Time of the last push in milliseconds since the epoch, where the listing tells it. */
  readonly pushedAt?: number | undefined;
  /** Whether the registry refuses to overwrite or delete it. */
  readonly locked?: boolean | undefined;
  /** What an index offers, where the listing tells it. */
  readonly platforms?: readonly Platform[] | undefined;
}

export interface TagPage {
  readonly tags: readonly TagEntry[];
  /** Where the next page starts: opaque, survives a restart. Absent on the last page. */
  readonly next?: string | undefined;
}

export interface TagListOptions extends CallOptions {
  /** `next` of an earlier page. */
  readonly cursor?: string | undefined;
}

export interface TagLister {
  /** One page of tags; an unknown repository is `undefined`. */
  listTags(options?: TagListOptions): Promise<TagPage | undefined>;
}

export interface Fetcher {
  /** The raw bytes behind a tag or digest, verified against the digest; `undefined` on 404. */
  fetchManifest(reference: string, options?: CallOptions): Promise<Manifest | undefined>;
  /**
   * Opens a blob at an offset in bytes. The stream starts exactly there, also where the server ignores `Range`.
   * It is not verified: whoever writes it does that. Its pieces are lent (memory.ts): a reader gives them back once it
   * is done with them, so that their memory is read into again. `undefined` on 404.
   */
  openBlob(
    blob: Descriptor,
    offset: number,
    options?: CallOptions,
  ): Promise<AsyncIterable<Uint8Array> | undefined>;
}

/**
 * An upload session (distribution-spec v1.1 "Pushing blobs"). `location` and `offset` change with each chunk;
 * both together are what a checkpoint keeps.
 */
export interface UploadSession {
  /** The newest session URL, absolute. It may carry a signed state: it is stored, but never shown. */
  readonly location: string;
  /** Bytes that the registry has confirmed. */
  readonly offset: number;
  /** The smallest chunk the registry takes (`OCI-Chunk-Min-Length`), all but the last. */
  readonly minChunk: number;
  /**
   * Sends one chunk (PATCH with Content-Range and Content-Length); repeats it only where it was refused whole.
   * @throws ERR_UPLOAD_LOST when the session is gone or its fate is unknown, or what was refused cannot be sent again.
   */
  append(chunk: readonly Uint8Array[], options?: SendOptions): Promise<void>;
  /** Asks where the registry stands and takes over its Location and offset; false when the session is gone. */
  refresh(options?: CallOptions): Promise<boolean>;
  /** Closes the session, with the last bytes if there are any (PUT ?digest=). */
  commit(digest: Digest, last: readonly Uint8Array[], options?: SendOptions): Promise<void>;
  /** Ends the session without a blob; silent when it is gone already. */
  cancel(options?: CallOptions): Promise<void>;
}

export interface BlobStat {
  /** In bytes, where the registry tells it. */
  readonly size: number | undefined;
}

export interface Pusher {
  /** Largest body of one upload request in bytes, where the registry has one. */
  readonly maxChunk: number | undefined;
  /** What is known of the blob there; `undefined` when it is not. */
  statBlob(digest: Digest, options?: CallOptions): Promise<BlobStat | undefined>;
  startUpload(options?: CallOptions): Promise<UploadSession>;
  /**
   * Mounts the blob from a sibling repository: true, or the session that the registry opened instead,
   * or false when it did neither.
   */
  mountBlob(digest: Digest, from: string, options?: CallOptions): Promise<true | UploadSession | false>;
  /** Takes up a session known by its Location, offset and smallest chunk. No request is made: call `refresh`. */
  resumeUpload(location: string, offset: number, minChunk?: number): UploadSession;
  /**
   * Pushes the raw bytes under a tag or under their digest.
   * @returns whether the registry handles the manifest's subject (`OCI-Subject`), and the digest that it gives to the content.
   * @throws ERR_BLOB_UNKNOWN when something below is missing, ERR_LOCKED, ERR_REJECTED.
   */
  pushManifest(manifest: Manifest, reference: string, options?: SendOptions): Promise<PushedManifest>;
}

export interface PushedManifest {
  readonly subjectHandled: boolean;
}

export interface ReferrerListOptions extends CallOptions {
  /** False where a listing shows that there is no index of the tag schema: then nobody is asked for it. */
  readonly tagged?: boolean | undefined;
  /** Has that index read, which may be billed as a pull. */
  readonly pulling?: (<T>(read: () => Promise<T>) => Promise<T>) | undefined;
}

export interface ReferrerLister {
  /**
   * What says that it is about this digest: by the referrers API, else by the tag schema's index.
   * `api` tells which of the two answered.
   */
  listReferrers(digest: Digest, options?: ReferrerListOptions): Promise<Referrers>;
}

export interface Referrers {
  readonly api: boolean;
  readonly descriptors: readonly Descriptor[];
  /** The digest of the tag schema's index, where that answered. */
  readonly index?: Digest;
}

export interface TagDeleter {
  /** Deletes the tag only, never the manifest by digest. @throws ERR_UNSUPPORTED, ERR_LOCKED. */
  deleteTag(tag: string, options?: CallOptions): Promise<void>;
}

/** A repository read from. */
export interface Source extends Resolver, TagLister, Fetcher, ReferrerLister {
  /** Canonical name, `docker.io/library/nginx`. */
  readonly name: string;
  /** Whether each manifest read here is billed as a pull. */
  readonly billed?: boolean;
  /** One tag as a listing would show it, where asking for it is cheaper than listing; its push time is why. */
  describeTag?(tag: string, options?: CallOptions): Promise<TagEntry | undefined>;
}

/** A repository written to. */
export interface Target extends Source, Pusher, TagDeleter {}
