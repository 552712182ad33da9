/** Settings by registry: what `registries` says of a host or of a namespace there, and what holds without it. */
import { X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { HubferryError } from '../errors.ts';
import { parseRepository } from '../oci/reference.ts';
import type { Path } from './document.ts';
import type { RegistryKind, RegistrySettings, RepositoryName } from './model.ts';
import { type Origin, readAt } from './origin.ts';

const mebibyte = 1024 * 1024;
/** ACR answers 413 to a body above some 20 MB, and names no exact limit. */
const largestAcrChunk = 16 * mebibyte;
const defaultAcrChunk = 8 * mebibyte;
/** The certificates that systems trust, all together, are some 250 KB. */
const maxCertificates = mebibyte;

/** What a file may say of a registry; variables are expanded. */
export interface RegistryEntry {
  readonly kind?: RegistryKind | undefined;
  readonly endpoint?: string | undefined;
  readonly hubApi?: string | undefined;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  readonly identity?: boolean | undefined;
  readonly audience?: string | undefined;
  readonly skipTlsVerify?: boolean | undefined;
  readonly allowHttpFallback?: boolean | undefined;
  readonly ca?: string | undefined;
  readonly chunkSize?: number | undefined;
}

/** A host, or a namespace there (which may be a whole repository). */
interface RegistryKey {
  readonly host: string;
  readonly namespace: string | undefined;
}

/** An entry with its place. */
export interface RegistryDraft {
  readonly key: string;
  readonly entry: RegistryEntry;
  readonly path: Path;
}

export type RegistryLookup = (repository: RepositoryName) => RegistrySettings;

interface KeyedSettings extends RegistryKey {
  readonly settings: RegistrySettings;
}

/**
 * The settings for a repository: those of the longest key that is its name or a part of its path, else the host's
 * defaults. The same key or host gives the same object.
 * @throws ConfigError
 */
export function readRegistries(drafts: readonly RegistryDraft[], origin: Origin): RegistryLookup {
  const keyed = drafts.map((draft) => readEntry(draft, origin));
  checkKeys(keyed, drafts, origin);
  const longestFirst = keyed.toSorted((a, b) => lengthOf(b) - lengthOf(a));
  const defaults = new Map<string, RegistrySettings>();
  return (repository) => {
    const { host } = repository;
    const found = longestFirst.find((key) => covers(key, repository))?.settings ?? defaults.get(host);
    if (found !== undefined) return found;
    const settings = defaultSettings(host);
    defaults.set(host, settings);
    return settings;
  };
}

function readEntry({ key, entry, path }: RegistryDraft, origin: Origin): KeyedSettings {
  const parsed = readAt(origin, path, () => parseRegistryKey(key));
  const kind = entry.kind ?? kindOf(parsed.host);
  const mistake = findMistake(kind, entry);
  if (mistake !== undefined) throw origin.mistake([...path, mistake.key], mistake.message);
  const { ca } = entry;
  if (ca !== undefined) readAt(origin, [...path, 'ca'], () => checkCertificates(ca));
  const settings = completeSettings(parsed.host, entry);
  if (settings.identity && !mayKnowIdentity(settings.endpoint)) {
    throw origin.mistake([...path, entry.endpoint === undefined ? 'kind' : 'endpoint'], strangerToIdentity);
  }
  return { ...parsed, settings };
}

/** Two keys may be two names of one registry, as `docker.io` and `index.docker.io`. */
function checkKeys(keyed: readonly KeyedSettings[], drafts: readonly RegistryDraft[], origin: Origin): void {
  const seen = new Map<string, string>();
  for (const [index, { key, path }] of drafts.entries()) {
    const { host = '', namespace = '' } = keyed[index] ?? {};
    const name = `${host}/${namespace}`;
    const other = seen.get(name);
    if (other !== undefined) throw origin.mistake(path, `${key} and ${other} name the same registry.`);
    seen.set(name, key);
  }
}

/** Reads `host[:port][/namespace]`. @throws ERR_CONFIG */
function parseRegistryKey(text: string): RegistryKey {
  const key = text.replace(/\/$/, '');
  const [first = ''] = key.split('/');
  const named = /[.:]/.test(first) || first.toLowerCase() === 'localhost' ? readKey(key) : undefined;
  if (named !== undefined) return named;
  const shown = JSON.stringify(text.slice(0, 100));
  throw new HubferryError(
    'ERR_CONFIG',
    `${shown} is no registry: write host[:port][/namespace], such as docker.io or docker.io/library.`,
  );
}

function readKey(key: string): RegistryKey | undefined {
  try {
    // Two more components keep the reader of names from putting `library` in front.
    const { host, path } = parseRepository(`${key}/x/x`);
    return { host, namespace: path === 'x/x' ? undefined : path.slice(0, -'/x/x'.length) };
  } catch {
    return undefined;
  }
}

/** What holds for a host without an entry. */
function defaultSettings(host: string): RegistrySettings {
  return completeSettings(host, {});
}

/** Fills in every default of a checked entry. */
function completeSettings(host: string, entry: RegistryEntry): RegistrySettings {
  const kind = entry.kind ?? kindOf(host);
  const { username, password, ca } = entry;
  const hubApi = kind === 'dockerhub' ? (entry.hubApi ?? 'https://hub.docker.com') : undefined;
  const identity = kind === 'acr' && (entry.identity ?? username === undefined);
  const chunkSize = entry.chunkSize ?? (kind === 'acr' ? defaultAcrChunk : undefined);
  return Object.freeze({
    host,
    kind,
    endpoint: entry.endpoint ?? defaultEndpoint(host),
    ...(hubApi !== undefined && { hubApi }),
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    identity,
    audience: entry.audience ?? 'https://containerregistry.azure.net',
    skipTlsVerify: entry.skipTlsVerify ?? false,
    // Whoever can break TLS to Azure must not get the identity's token instead.
    allowHttpFallback: !identity && (entry.allowHttpFallback ?? false),
    ...(ca !== undefined && { ca }),
    ...(chunkSize !== undefined && { chunkSize }),
  });
}

/** Whether a host is this machine: Docker speaks plain HTTP there (distribution's reference server listens so). */
function isLoopback(host: string): boolean {
  const name = host.replace(/:\d+$/, '');
  return name === 'localhost' || name === '[::1]' || /^127(?:\.\d{1,3}){3}$/.test(name);
}

const azureHost = /\.azurecr\.(?:io|cn|us)$/;

function kindOf(host: string): RegistryKind {
  if (host === 'docker.io') return 'dockerhub';
  return azureHost.test(host) ? 'acr' : 'oci';
}

const strangerToIdentity =
  'The Azure identity logs in at *.azurecr.io, *.azurecr.cn and *.azurecr.us over TLS, and on this machine: give a username and a password, or identity: false.';

/** Its tokens go to Azure alone: whoever writes rules must not be able to collect them. */
function mayKnowIdentity(endpoint: string): boolean {
  const { protocol, hostname } = new URL(endpoint);
  return isLoopback(hostname) || (protocol === 'https:' && azureHost.test(hostname));
}

function defaultEndpoint(host: string): string {
  if (host === 'docker.io') return 'https://registry-1.docker.io';
  return `${isLoopback(host) ? 'http' : 'https'}://${host}`;
}

interface EntryMistake {
  readonly key: keyof RegistryEntry;
  readonly message: string;
}

function findMistake(kind: RegistryKind, entry: RegistryEntry): EntryMistake | undefined {
  const { username, password } = entry;
  if (kind !== 'dockerhub' && entry.hubApi !== undefined) return foreign('hubApi', 'dockerhub');
  if (kind !== 'acr' && entry.identity === true) return foreign('identity', 'acr');
  if (kind !== 'acr' && entry.audience !== undefined) return foreign('audience', 'acr');
  if (username !== undefined && password === undefined) {
    return { key: 'username', message: 'The password is missing.' };
  }
  if (username === undefined && password !== undefined) {
    return { key: 'password', message: 'The username is missing.' };
  }
  if (entry.identity === true && username !== undefined) {
    return { key: 'identity', message: 'Log in with the Azure identity or with a username, not with both.' };
  }
  if (kind === 'acr' && (entry.chunkSize ?? 0) > largestAcrChunk) {
    return { key: 'chunkSize', message: 'A registry of kind acr takes at most 16MiB in one request.' };
  }
  return undefined;
}

/** @throws ERR_CONFIG for a file that is not there or holds no certificate */
function checkCertificates(file: string): void {
  try {
    const facts = statSync(file);
    // A device or a pipe may never end, and nor may what /proc shows as an empty file.
    const isFit = facts.isFile() && facts.size > 0 && facts.size <= maxCertificates;
    if (!isFit) throw new Error('No file of 1 byte to 1 MiB');
    new X509Certificate(readFileSync(file, 'utf8'));
  } catch (cause) {
    const message = `The file holds no certificate in PEM form, or cannot be read: ${file}`;
    throw new HubferryError('ERR_CONFIG', message, { cause });
  }
}

function foreign(key: keyof RegistryEntry, kind: RegistryKind): EntryMistake {
  return { key, message: `The key ${key} belongs to registries of kind ${kind}.` };
}

function lengthOf({ namespace = '' }: RegistryKey): number {
  return namespace.length;
}

function covers({ host, namespace }: RegistryKey, repository: RepositoryName): boolean {
  if (host !== repository.host) return false;
  return namespace === undefined || `${repository.path}/`.startsWith(`${namespace}/`);
}
