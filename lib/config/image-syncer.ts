/**
 * The files of image-syncer (AliyunContainerService/image-syncer, `pkg/client/config.go`, `pkg/utils/url.go`):
 * `images.yaml` maps sources to targets, `auth.yaml` registries to credentials, the older `config.json` holds both.
 * Read as they are, but for what is no form but a fault there: the longest match gives the credentials, short
 * names mean Docker Hub in every form, and an unset variable is an error instead of nothing.
 */
import type { ConfigError } from '../errors.ts';
import { assembleRules, defaultName, noFilter } from './assemble.ts';
import { type ConfigDocument, type ConfigText, type Path, readDocument } from './document.ts';
import type { RuleDraft, TargetDraft } from './draft.ts';
import { formatTarget, parseSource, parseTarget } from './forms.ts';
import type { PlatformPattern, Rule, RuleSource, Rules, RuleTarget } from './model.ts';
import { nearest } from './nearest.ts';
import { readAt } from './origin.ts';
import { type RegistryDraft, type RegistryLookup, readRegistries } from './registries.ts';
import { maxTargets } from './schema.ts';
import { unknownKeyOfLogin } from './unknown-key.ts';
import { expandVariables, type VariableScope } from './variables.ts';

export type ImageSyncerFiles =
  | { readonly images: ConfigText; readonly auth?: ConfigText | undefined }
  | { readonly config: ConfigText };

export interface ImageSyncerOptions extends VariableScope {
  /** image-syncer's `--os` and `--arch`. */
  readonly platforms?: readonly PlatformPattern[] | undefined;
}

/** One registry of `auth.yaml`, as it is written. */
export interface AuthEntry {
  readonly key: string;
  readonly path: Path;
  /** Absent where one of the two is missing or empty: then image-syncer does not log in. */
  readonly login: { readonly username: string; readonly password: string } | undefined;
  readonly insecure: boolean;
}

/** A part of a document: the whole of `images.yaml`, or `images` in `config.json`. */
interface Part {
  readonly document: ConfigDocument;
  readonly path: Path;
  readonly value: unknown;
}

interface Parts {
  readonly images: Part;
  readonly auth: Part | undefined;
  readonly expandsLogins: boolean;
}

/** Each of these makes a file a `sync.yaml`. */
const keysOfRules = ['$schema', 'version', 'registries', 'rules'];

/** As many rules as `sync.yaml` may have. */
const maxSources = 10_000;

/** Which of image-syncer's files a document is; `undefined` for a file of another kind. */
export function imageSyncerForm(value: unknown): 'images' | 'config' | undefined {
  if (!isRecord(value) || keysOfRules.some((key) => Object.hasOwn(value, key))) return undefined;
  if (isRecord(value.images) || isRecord(value.auth)) return 'config';
  return Object.values(value).some(isTargets) ? 'images' : undefined;
}

/** Tells whoever has another file of image-syncer's, or one without any target, more than that its keys are unknown. @throws ConfigError */
export function refuseImageSyncer(document: ConfigDocument): void {
  const { value } = document;
  if (!isRecord(value)) return;
  const [first] = Object.keys(value);
  if (first === undefined || nearest(first, keysOfRules) !== undefined) return;
  const values = Object.values(value);
  if (values.every(isLogin)) {
    throw document.mistake(
      [first],
      "There are no rules. This looks like image-syncer's auth.yaml, which --auth reads.",
    );
  }
  if (values.every(isNoTarget)) {
    const what = "This looks like image-syncer's images.yaml, which --images reads.";
    throw document.mistake([first], `Expected a target, or a list of targets. ${what}`);
  }
}

/** @throws ConfigError */
export function readImageSyncer(files: ImageSyncerFiles, options: ImageSyncerOptions): Rules {
  return rulesOf(partsOf(files), options);
}

/** The rules in a document that `imageSyncerForm` knows. @throws ConfigError */
export function rulesOfImageSyncer(
  form: 'images' | 'config',
  document: ConfigDocument,
  options: ImageSyncerOptions,
): Rules {
  return rulesOf(form === 'images' ? imagesParts(document) : configParts(document), options);
}

/** What the files say, with credentials as they are written. */
export interface ImageSyncerContents {
  readonly rules: readonly Rule[];
  readonly auth: readonly AuthEntry[];
  /** In `config.json` image-syncer leaves `$NAME` in credentials as it is. */
  readonly expandsLogins: boolean;
}

/** Reads the files for a conversion: no variable of a credential needs to be set. @throws ConfigError */
export function readImageSyncerContents(files: ImageSyncerFiles, scope: VariableScope): ImageSyncerContents {
  const { images, auth, expandsLogins } = partsOf(files);
  const entries = readAuth(auth);
  const registries = entries.map(({ key, path }) => ({ key: wholeKey(key), path, entry: {} }));
  const registryFor = readRegistries(registries, (auth ?? images).document);
  const { rules } = assembleRules(readImages(images, scope), { origin: images.document, registryFor });
  return { rules, auth: entries, expandsLogins };
}

function partsOf(files: ImageSyncerFiles): Parts {
  if ('config' in files) return configParts(readDocument(files.config));
  const images = readDocument(files.images);
  if (files.auth !== undefined) return { ...imagesParts(images), auth: wholeOf(readDocument(files.auth)) };
  return imageSyncerForm(images.value) === 'config' ? configParts(images) : imagesParts(images);
}

function imagesParts(document: ConfigDocument): Parts {
  return { images: wholeOf(document), auth: undefined, expandsLogins: true };
}

function configParts(document: ConfigDocument): Parts {
  const top = mapOf(wholeOf(document), 'the keys auth and images');
  checkKeys(document, [], top, ['auth', 'images']);
  const part = (key: string): Part => ({ document, path: [key], value: top[key] });
  return { images: part('images'), auth: part('auth'), expandsLogins: false };
}

function wholeOf(document: ConfigDocument): Part {
  return { document, path: [], value: document.value };
}

/** The credentials alone. @throws ConfigError */
export function registriesOfImageSyncer(
  form: 'images' | 'config',
  document: ConfigDocument,
  scope: VariableScope,
): RegistryLookup {
  return registriesOf(form === 'images' ? imagesParts(document) : configParts(document), scope);
}

function rulesOf(parts: Parts, options: ImageSyncerOptions): Rules {
  const { document } = parts.images;
  const drafts = readImages(parts.images, options);
  const registryFor = registriesOf(parts, options);
  return assembleRules(drafts, { origin: document, registryFor, platforms: options.platforms });
}

function registriesOf({ auth, images, expandsLogins }: Parts, scope: VariableScope): RegistryLookup {
  const { document } = auth ?? images;
  const drafts = readAuth(auth).map((entry) => registryOf(entry, document, expandsLogins, scope));
  return readRegistries(drafts, document);
}

function readImages(part: Part, scope: VariableScope): readonly RuleDraft[] {
  const which = part.path.length === 0 ? 'images.yaml, which --images' : 'config.json, which --config';
  const images = mapOf(part, `a map from sources to targets. This looks like image-syncer's ${which} reads`);
  const entries = Object.entries(images);
  if (entries.length > maxSources) throw part.document.mistake(part.path, `More than ${maxSources} sources.`);
  const drafts = entries.map(([source, targets]) => draftOf(part, source, targets, scope));
  // Two spellings of one entry, as `nginx` and `docker.io/library/nginx`.
  const byName = new Map(drafts.toReversed().map((draft) => [draftName(draft), draft]));
  return drafts.filter((draft) => byName.get(draftName(draft)) === draft);
}

function draftName({ source, targets }: RuleDraft): string {
  return defaultName(
    source,
    targets.map(({ target }) => target),
  );
}

function draftOf(
  { document, path: parent }: Part,
  text: string,
  value: unknown,
  scope: VariableScope,
): RuleDraft {
  const path = [...parent, text];
  const source = unanchored(readAt(document, path, () => parseSource(text)));
  return {
    path,
    source,
    sourcePath: path,
    targets: readTargets(document, path, value, source, scope),
    tags: noFilter,
    tagsPath: path,
    platforms: [],
    referrers: true,
    prune: false,
    overwrite: true,
  };
}

/** image-syncer's expressions may match anywhere in a tag. */
function unanchored(source: RuleSource): RuleSource {
  const { selector } = source;
  if (selector.kind !== 'pattern' || selector.pattern.kind !== 'regex') return source;
  return { ...source, selector: { kind: 'pattern', pattern: { ...selector.pattern, anchored: false } } };
}

function readTargets(
  document: ConfigDocument,
  path: Path,
  value: unknown,
  source: RuleSource,
  scope: VariableScope,
): readonly TargetDraft[] {
  if (!isTargets(value)) throw noTargets(document, path, value);
  if (value.length > maxTargets && typeof value !== 'string')
    throw document.mistake(path, `More than ${maxTargets} targets.`);
  const texts =
    typeof value === 'string'
      ? [{ text: value, path }]
      : value.map((text, index) => ({ text, path: [...path, index] }));
  const byName = new Map<string, TargetDraft>();
  for (const { text, path: at } of texts) {
    const target = readAt(document, at, () => parseTarget(expandVariables(text, scope), source));
    // A target may say the tags that it has anyway.
    const name = formatTarget(sameTags(source, target) ? { host: target.host, path: target.path } : target);
    if (!byName.has(name)) byName.set(name, { target, path: at });
  }
  return [...byName.values()];
}

function noTargets(document: ConfigDocument, path: Path, value: unknown): ConfigError {
  if (isLogin(value)) {
    return document.mistake(
      path,
      "Expected a target. This looks like image-syncer's auth.yaml, which --auth reads.",
    );
  }
  const wrong = Array.isArray(value) ? value.findIndex((item) => !isTarget(item)) : -1;
  return wrong === -1
    ? document.mistake(path, 'Expected a target, or a list of targets.')
    : document.mistake([...path, wrong], 'Expected a target.');
}

function sameTags({ selector }: RuleSource, { tags }: RuleTarget): boolean {
  return selector.kind === 'tags' && selector.tags.join() === tags?.join();
}

function readAuth(part: Part | undefined): readonly AuthEntry[] {
  if (part === undefined || part.value === undefined || part.value === null) return [];
  const { document, path } = part;
  return Object.entries(mapOf(part, 'a map from registries to credentials')).map(([key, value]) =>
    // A key without a value is an entry that says nothing.
    readAuthEntry(key, { document, path: [...path, key], value: value ?? {} }),
  );
}

function readAuthEntry(key: string, part: Part): AuthEntry {
  const { document, path } = part;
  const entry = mapOf(part, 'username, password and insecure');
  checkKeys(document, path, entry, ['username', 'password', 'insecure']);
  const username = readText(document, [...path, 'username'], entry.username);
  const password = readText(document, [...path, 'password'], entry.password);
  if (username === '_oauth2_' && /(?:^|\.)gcr\.io\b/.test(key)) {
    throw document.mistake(
      [...path, 'username'],
      'Login with _oauth2_ is not supported: use the username _json_key with the JSON of the key as password.',
    );
  }
  return {
    key,
    path,
    login: username === '' || password === '' ? undefined : { username, password },
    insecure: readFlag(document, [...path, 'insecure'], entry.insecure),
  };
}

function registryOf(
  { key, path, login, insecure }: AuthEntry,
  document: ConfigDocument,
  expands: boolean,
  scope: VariableScope,
): RegistryDraft {
  const expand = (part: 'username' | 'password') => {
    const text = login?.[part];
    if (text === undefined || !expands) return text;
    return readAt(document, [...path, part], () => expandVariables(text, scope));
  };
  return {
    key: wholeKey(key),
    path,
    entry: {
      username: expand('username'),
      password: expand('password'),
      skipTlsVerify: insecure,
      allowHttpFallback: insecure,
    },
  };
}

/** The key as `registries` has it: one without a host is a namespace of Docker Hub, as the short names of sources are. */
export function wholeKey(key: string): string {
  const [first = ''] = key.split('/');
  const whole = /[.:]/.test(first) || first === 'localhost' ? key : `docker.io/${key}`;
  return whole.replace(/\/$/, '');
}

/** image-syncer ignores keys that it does not know; one that looks misspelt is an error here. */
function checkKeys(
  document: ConfigDocument,
  path: Path,
  entry: Readonly<Record<string, unknown>>,
  known: readonly string[],
): void {
  for (const key of Object.keys(entry)) {
    if (!known.includes(key) && nearest(key, known) !== undefined)
      throw document.mistake([...path, key], unknownKeyOfLogin(key, known));
  }
}

function mapOf({ document, path, value }: Part, expected: string): Readonly<Record<string, unknown>> {
  if (isRecord(value)) return value;
  throw document.mistake(path, `Expected ${expected}.`);
}

/** As Go's YAML reader: a scalar for a text is taken as it is written. */
function readText(document: ConfigDocument, path: Path, value: unknown): string {
  if (typeof value === 'string') return value;
  if (value === undefined || value === null) return '';
  const text = document.spelling(path);
  if (text === undefined) throw document.mistake(path, 'Expected text.');
  return text;
}

/** As Go's YAML reader, which knows the words of YAML 1.1. */
function readFlag(document: ConfigDocument, path: Path, value: unknown): boolean {
  if (value === undefined || value === null) return false;
  const word = String(value).toLowerCase();
  if (['true', 'yes', 'on', 'y'].includes(word)) return true;
  if (['false', 'no', 'off', 'n'].includes(word)) return false;
  throw document.mistake(path, 'Expected true or false.');
}

function isTargets(value: unknown): value is string | readonly string[] {
  return isTarget(value) || (Array.isArray(value) && value.length > 0 && value.every(isTarget));
}

function isTarget(value: unknown): value is string {
  return typeof value === 'string' && value !== '';
}

function isNoTarget(value: unknown): boolean {
  return Array.isArray(value) ? !value.some(isRecord) : !isRecord(value);
}

function isLogin(value: unknown): boolean {
  return isRecord(value) && ['username', 'password'].some((key) => Object.hasOwn(value, key));
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
