/** What content is referred to by: `algorithm:hex`, for example `sha256:e3b0…`. */
export type Digest = `${string}:${string}`;

/** The platform of an index entry (image-spec v1.1 image-index.md). */
export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
  readonly 'os.version'?: string;
  readonly 'os.features'?: readonly string[];
}

/** What names content: media type, digest and size in bytes (image-spec v1.1 descriptor.md). */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
  readonly platform?: Platform;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly artifactType?: string;
  /** Where a foreign layer may be fetched from; carried, never followed. */
  readonly urls?: readonly string[];
}

/** A manifest is its raw bytes with their descriptor; it is never serialised again. */
export interface Manifest {
  readonly descriptor: Descriptor;
  readonly bytes: Uint8Array;
}
