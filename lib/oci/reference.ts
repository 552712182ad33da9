/**
 * Names of repositories, tags and digests in the grammar of distribution/reference (`reference.go`), with Docker
 * Hub's short names made whole (`normalize.go`). Unlike there, no tag is added: what names no tag means every tag.
 */
import { HubferryError } from '../errors.ts';
import type { Digest } from './descriptor.ts';
import { algorithmOf, isDigest, parseDigest } from './digest.ts';

export interface Repository {
  /** Lower case, with the port where one is written; `docker.io` for all the names of Docker Hub. */
  readonly host: string;
  readonly path: string;
}

export interface Reference extends Repository {
  readonly tag?: string;
  readonly digest?: Digest;
}

const maxPathLength = 255;

const domainLabel = '[a-z0-9](?:[a-z0-9-]*[a-z0-9])?';
const hostShape = new RegExp(
  `^(?:${domainLabel}(?:\\.${domainLabel})*|\\[[0-9a-f:]+(?:\\.[0-9]+)*\\])(?::([0-9]{1,5}))?$`,
);
const pathShape = /^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*$/;
const tagShape = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
/** What Docker takes for the ID of something local, never for a name (`normalize.go`). */
const identifierShape = /^[0-9a-f]{64}$/;
const schemeShape = /^[A-Za-z][A-Za-z0-9+.-]*:\/\//;

const dockerHub = 'docker.io';
const dockerHubNames = new Set([
  dockerHub,
  'index.docker.io',
  'registry-1.docker.io',
  'registry.hub.docker.com',
]);

/** Reads `[host/]path[:tag][@digest]`. @throws ERR_REFERENCE */
export function parseReference(text: string): Reference {
  const scheme = schemeShape.exec(text)?.[0];
  if (scheme !== undefined) {
    // The text is not repeated: a URL may carry a password.
    throw referenceError(`A reference begins with the registry's host: leave out ${scheme}`);
  }
  const { rest, digest } = splitDigest(text);
  const { name, tag } = splitTag(rest);
  return {
    ...normalize(name),
    ...(tag !== undefined && { tag }),
    ...(digest !== undefined && { digest }),
  };
}

/** Reads the name of a repository. @throws ERR_REFERENCE also where a tag or digest follows. */
export function parseRepository(text: string): Repository {
  const { host, path, tag, digest } = parseReference(text);
  if (tag !== undefined || digest !== undefined) {
    throw referenceError(`${quote(text)} names a tag or digest where a repository is expected`);
  }
  return { host, path };
}

/** The canonical name, `docker.io/library/nginx`. */
export function formatRepository(repository: Repository): string {
  return `${repository.host}/${repository.path}`;
}

/** Whether this is the canonical name of a repository: one that leads nowhere else, as `docker.io/acme/../x` would. */
export function isRepositoryName(text: string): boolean {
  try {
    return formatRepository(parseRepository(text)) === text;
  } catch (error) {
    if (error instanceof HubferryError) return false;
    throw error;
  }
}

/** The canonical reference, `docker.io/library/nginx:1.27@sha256:…`. */
export function formatReference(reference: Reference): string {
  const tag = reference.tag === undefined ? '' : `:${reference.tag}`;
  const digest = reference.digest === undefined ? '' : `@${reference.digest}`;
  return formatRepository(reference) + tag + digest;
}

/** Whether a registry can have a tag of this name (distribution-spec v1.1 "Pulling manifests"). */
export function isTag(text: string): boolean {
  return tagShape.test(text);
}

function splitDigest(text: string): { rest: string; digest: Digest | undefined } {
  const at = text.lastIndexOf('@');
  if (at === -1) return { rest: text, digest: undefined };
  const rest = text.slice(0, at);
  const digest = text.slice(at + 1);
  // What stands before the sign is not repeated: it may be a user with a password.
  if (rest.includes('@') || !isDigest(digest)) {
    throw referenceError(`What follows "@" in a reference is one digest, not ${quote(digest)}`);
  }
  return { rest, digest: parseDigest(digest) };
}

function splitTag(rest: string): { name: string; tag: string | undefined } {
  const colon = rest.indexOf(':', rest.lastIndexOf('/') + 1);
  if (colon === -1) return { name: rest, tag: undefined };
  const tag = rest.slice(colon + 1);
  if (!isTag(tag)) {
    throw referenceError(
      `${quote(tag)} in ${quote(rest)} is no tag: up to 128 letters, digits, "_", "." and "-", not beginning with "." or "-"`,
    );
  }
  return { name: rest.slice(0, colon), tag };
}

function normalize(name: string): Repository {
  const { host, path } = splitHost(name);
  if (!isHost(host)) throw referenceError(`${quote(host)} in ${quote(name)} is no host`);
  if (path.length > maxPathLength) {
    throw referenceError(`${quote(name)} is longer than ${maxPathLength} characters`);
  }
  if (!pathShape.test(path) || identifierShape.test(name)) throw referenceError(pathFault(name, path));
  if (!dockerHubNames.has(host)) return { host, path };
  return { host: dockerHub, path: path.includes('/') ? path : `library/${path}` };
}

/** The first component is a host only if it cannot be a namespace of Docker Hub. */
function splitHost(name: string): Repository {
  const slash = name.indexOf('/');
  const first = name.slice(0, Math.max(slash, 0)).toLowerCase();
  if (first !== 'localhost' && !/[.:]/.test(first)) return { host: dockerHub, path: name };
  return { host: first, path: name.slice(slash + 1) };
}

function isHost(host: string): boolean {
  const match = hostShape.exec(host);
  return match !== null && (match[1] === undefined || Number(match[1]) <= 65_535);
}

function pathFault(name: string, path: string): string {
  if (identifierShape.test(name)) return `${quote(name)} is 64 hexadecimal digits, which name no repository`;
  if (path === '') return `${quote(name)} names no repository`;
  if (path !== path.toLowerCase()) return `${quote(name)} is no repository: its path must be lower case`;
  return `${quote(name)} is no repository: components of letters and digits, joined by ".", "_", "__" or "-", are separated by "/"`;
}

function quote(text: string): string {
  return JSON.stringify(text.length > 300 ? `${text.slice(0, 300)}…` : text);
}

function referenceError(message: string): HubferryError {
  return new HubferryError('ERR_REFERENCE', `${message}.`);
}

/** Nothing for the index of the referrers tag schema, else what cosign appends. */
export type ReferrerSuffix = '' | '.sig' | '.att' | '.sbom';

const referrerTagShape =
  /^(?:sha256-[0-9a-f]{64}|sha512-(?:[0-9a-f]{64}|[0-9a-f]{128}))(\.sig|\.att|\.sbom)?$/;

/**
 * Whether a tag holds what is said about a digest, by its name. A sha512 digest appears with its first 64 digits,
 * since a whole one makes no valid tag.
 */
export function isReferrerTag(name: string): boolean {
  return referrerTagShape.test(name);
}

/** The digest that a referrer tag is about; `undefined` for other tags, and where the digest is cut short. */
export function referrerTagSubject(name: string): { digest: Digest; suffix: ReferrerSuffix } | undefined {
  const match = referrerTagShape.exec(name);
  if (match === null) return undefined;
  const suffix = (match[1] ?? '') as ReferrerSuffix;
  const digest = name.slice(0, name.length - suffix.length).replace('-', ':');
  return isDigest(digest) ? { digest, suffix } : undefined;
}

/** The tag under which a registry without the referrers API keeps them (distribution-spec v1.1 "Referrers Tag Schema"). */
export function referrerTag(digest: Digest, suffix: ReferrerSuffix = ''): string {
  const algorithm = algorithmOf(digest);
  const encoded = digest.slice(algorithm.length + 1);
  return `${algorithm.slice(0, 32)}-${encoded.slice(0, 64)}${suffix}`;
}
