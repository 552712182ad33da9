/** How registries differ from one another. */

/** What registries do differently. Can be changed while the stand-in runs. */
export interface Behaviour {
  /** Whether `/referrers/` is there and `subject` is handled. @default true */
  referrersApi: boolean;
  /** Most entries of one page of a listing. @default 1000 */
  pageSize: number;
  /** `OCI-Chunk-Min-Length`: all chunks but the last are at least so long. @default undefined */
  minChunk: number | undefined;
  /** Longest body of one upload request in bytes; a longer one is answered with 413. @default undefined */
  bodyLimit: number | undefined;
  /** Refuses `Transfer-Encoding: chunked` on uploads, as ACR does. @default false */
  contentLengthRequired: boolean;
  /** A Location without scheme and host. @default false */
  relativeLocations: boolean;
  /** Whether a Location carries the state of its upload: an older one is as good as none. @default true */
  signedLocations: boolean;
  /** Whether a HEAD of a manifest tells `Docker-Content-Digest`. @default true */
  digestHeader: boolean;
  /** Whether `Range` is obeyed on blobs. @default true */
  ranges: boolean;
  /** Whether a tag can be deleted through the distribution API; `docker-registry` cannot. @default true */
  tagDelete: boolean;
  /** Whether a mount is ever done. @default true */
  mounts: boolean;
  /** Speed of one blob download. @default undefined, as fast as it goes */
  bytesPerSecond: number | undefined;
}

export const defaults: Behaviour = {
  referrersApi: true,
  pageSize: 1000,
  minChunk: undefined,
  bodyLimit: undefined,
  contentLengthRequired: false,
  relativeLocations: false,
  signedLocations: true,
  digestHeader: true,
  ranges: true,
  tagDelete: true,
  mounts: true,
  bytesPerSecond: undefined,
};

export const digestPattern = /^(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$/;
