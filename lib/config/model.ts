/** The rules file once it is read: frozen values, every default filled in. */
import type { Digest, Platform } from '../oci/descriptor.ts';
import type { PlatformPattern } from '../oci/platform.ts';

export type RegistryKind = 'dockerhub' | 'acr' | 'oci';

/** One entry of `registries`, or the default that a host gets without one. */
export interface RegistrySettings {
  /** `host[:port]`, canonical: `docker.io`, lower case. */
  readonly host: string;
  readonly kind: RegistryKind;
  /** Base URL of the distribution API, without a trailing slash; for ACR also of `/oauth2` and `/acr/v1`. */
  readonly endpoint: string;
  /** Base URL of Docker Hub's web API; only kind `dockerhub`. */
  readonly hubApi?: string;
  readonly username?: string;
  readonly password?: string;
  /** Kind `acr`: log in with the Azure identity. */
  readonly identity: boolean;
  readonly audience: string;
  readonly skipTlsVerify: boolean;
  /** image-syncer's `insecure`: plain HTTP where the host speaks no TLS. */
  readonly allowHttpFallback: boolean;
  /** Path of a PEM file. */
  readonly ca?: string;
  /** Largest body of one upload request in bytes. */
  readonly chunkSize?: number;
}

/** Which tags a source names: all, some, a pattern over whole names (or image-syncer's unanchored one), or one digest. */
export type SourceSelector =
  | { readonly kind: 'all' }
  | { readonly kind: 'tags'; readonly tags: readonly string[] }
  | { readonly kind: 'pattern'; readonly pattern: TagPattern }
  | { readonly kind: 'digest'; readonly digest: Digest };

/** A glob, or RE2 syntax; `anchored: false` only for image-syncer's files. */
export interface TagPattern {
  readonly kind: 'glob' | 'regex';
  readonly text: string;
  readonly anchored: boolean;
}

export interface RepositoryName {
  /** Canonical: `docker.io`, `x.azurecr.io`, `localhost:5000`. */
  readonly host: string;
  /** `library/nginx`; for a namespace rule `myorg/*`. */
  readonly path: string;
}

export interface RuleSource extends RepositoryName {
  readonly selector: SourceSelector;
}

/** `tags`: names at the target, left to right, for a source of as many tags (or one digest). */
export interface RuleTarget extends RepositoryName {
  readonly tags?: readonly string[];
}

export interface TagFilter {
  readonly include: readonly TagPattern[];
  readonly exclude: readonly TagPattern[];
  readonly semver?: string;
  readonly prerelease: boolean;
  readonly newest?: number;
  /** Milliseconds. */
  readonly pushedWithin?: number;
  /** Milliseconds. */
  readonly minimumAge?: number;
}

export interface Rule {
  readonly name: string;
  readonly source: RuleSource;
  readonly targets: readonly RuleTarget[];
  readonly tags: TagFilter;
  /** Empty: all, and the index keeps its digest. */
  readonly platforms: readonly PlatformPattern[];
  readonly referrers: boolean;
  readonly prune: boolean;
  readonly overwrite: boolean;
}

/** Which side of a rule a repository is on: the command line may give each its own credentials. */
export type Side = 'source' | 'target';

export interface Rules {
  readonly rules: readonly Rule[];
  /**
   * Settings for a repository: the longest matching key of `registries`, else the host's defaults.
   * The same key (or host) and side give the same object each time.
   */
  registryFor(repository: RepositoryName, side: Side): RegistrySettings;
}

export type { Platform, PlatformPattern };
