/** Logins of the user's Docker configuration (docker/cli "docker login", docker/docker-credential-helpers). */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { ConfigError, HubferryError } from '../errors.ts';
import { isRecord, parseJson } from './failure.ts';
import type { Credential } from './token.ts';

type Environment = Readonly<Record<string, string | undefined>>;

const maxConfigBytes = 1024 * 1024;
const maxHelperAnswer = 128 * 1024;
const helperTimeoutMs = 30_000;

/** Docker's name for Docker Hub, from before there was a `docker.io`. */
const dockerHubServer = 'https://index.docker.io/v1/';
const dockerHubNames = ['docker.io', 'index.docker.io', 'registry-1.docker.io'];

/** Finds out before any request whether the user's Docker configuration can be read. @throws ERR_CONFIG */
export async function checkDockerConfig(env: Environment): Promise<void> {
  await readConfig(fileOf(env));
}

/** Whose login is whose in the user's Docker configuration. */
export class DockerEntries {
  readonly #names: readonly string[];

  /** What is wrong with the file shows when a login is read from it. */
  constructor(env: Environment) {
    this.#names = Object.keys(record(readQuietly(fileOf(env))?.auths));
  }

  /** The entry that has a repository's login, if one has. */
  nameFor(host: string, path: string): string | undefined {
    return bestName(this.#names, host, path);
  }
}

function fileOf(env: Environment): string {
  return join(env.DOCKER_CONFIG || join(homedir(), '.docker'), 'config.json');
}

function readQuietly(file: string): Readonly<Record<string, unknown>> | undefined {
  try {
    return record(parseJson(readFileSync(file)));
  } catch {
    return undefined;
  }
}

/**
 * The login for a repository that `docker login`, or a credential helper, has; of several entries the longest that
 * matches host and path.
 * @throws ERR_CONFIG for a malformed file, ERR_UNAUTHORIZED for a helper that fails
 */
export async function readDockerCredential(
  host: string,
  path: string,
  env: Environment,
): Promise<Credential | undefined> {
  const config = await readConfig(fileOf(env));
  if (config === undefined) return undefined;
  const helper = helperFor(config, host);
  const fromHelper = helper === undefined ? undefined : await askHelper(helper, host, env);
  const auths = record(config.auths);
  return fromHelper ?? credentialIn(auths[bestName(Object.keys(auths), host, path) ?? '']);
}

async function readConfig(file: string): Promise<Readonly<Record<string, unknown>> | undefined> {
  const bytes = await readBounded(file);
  // Some tools leave an empty file; Docker takes it for none.
  if (bytes === undefined || bytes.length === 0) return undefined;
  const config = parseJson(bytes);
  if (isRecord(config)) return config;
  throw new ConfigError('ERR_CONFIG', `The Docker configuration is no JSON object: ${file}`, { file });
}

/** The file's bytes; `undefined` where there is none. */
async function readBounded(file: string): Promise<Uint8Array | undefined> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(file);
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(maxConfigBytes), 0, maxConfigBytes, 0);
    return buffer.subarray(0, bytesRead);
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new ConfigError(
      'ERR_CONFIG',
      `The Docker configuration cannot be read: ${file}`,
      { file },
      { cause },
    );
  } finally {
    await handle?.close();
  }
}

function record(value: unknown): Readonly<Record<string, unknown>> {
  return isRecord(value) ? value : {};
}

function helperFor(config: Readonly<Record<string, unknown>>, host: string): string | undefined {
  const helpers = record(config.credHelpers);
  const names = host === 'docker.io' ? [dockerHubServer, ...dockerHubNames] : [host];
  const name = names.map((key) => helpers[key]).find((value) => value !== undefined) ?? config.credsStore;
  if (typeof name !== 'string' || name === '') return undefined;
  // It becomes the name of a program.
  if (/^[\w.-]{1,100}$/.test(name)) return name;
  throw new ConfigError('ERR_CONFIG', `Not the name of a credential helper: ${JSON.stringify(name)}`);
}

async function askHelper(helper: string, host: string, env: Environment): Promise<Credential | undefined> {
  const program = `docker-credential-${helper}`;
  const server = host === 'docker.io' ? dockerHubServer : host;
  const { promise, resolve, reject } = Promise.withResolvers<string | undefined>();
  const options = {
    env: { ...env },
    timeout: helperTimeoutMs,
    maxBuffer: maxHelperAnswer,
    windowsHide: true,
  };
  const child = execFile(program, ['get'], options, (error, stdout) => {
    if (error === null) resolve(stdout);
    // The only way in which helpers say that there is nothing.
    else if (stdout.includes('credentials not found')) resolve(undefined);
    // Without the error as its cause: it quotes what the program wrote, and that may be a secret.
    else
      reject(
        new HubferryError('ERR_UNAUTHORIZED', `${program} gave no login for ${host}: ${failureOf(error)}`),
      );
  });
  // A helper that ends without reading is judged by its exit alone.
  child.stdin?.on('error', () => {});
  child.stdin?.end(server);
  const stdout = await promise;
  return stdout === undefined ? undefined : answerOf(stdout);
}

function failureOf({ code, killed }: { code?: unknown; killed?: boolean }): string {
  if (code === 'ENOENT') return 'it is not installed';
  return killed === true ? 'it took too long' : 'it failed';
}

function answerOf(stdout: string): Credential | undefined {
  const { Username: username, Secret: secret } = record(parseJson(Buffer.from(stdout)));
  if (typeof username !== 'string' || typeof secret !== 'string' || secret === '') return undefined;
  return username === '<token>' ? { identityToken: secret } : { username, password: secret };
}

/** The entry whose name is the longest prefix of the repository at a slash. */
function bestName(names: readonly string[], host: string, path: string): string | undefined {
  const repository = `${host}/${path}`;
  let best: { readonly length: number; readonly name: string } | undefined;
  for (const name of names) {
    const place = placeOf(name);
    const matches = repository === place || repository.startsWith(`${place}/`);
    if (matches && place.length > (best?.length ?? 0)) best = { length: place.length, name };
  }
  return best?.name;
}

/** `registry.example.com[:port][/namespace]` of a key, which may be a URL of one of the API's versions. */
function placeOf(key: string): string {
  const place = key.replace(/^https?:\/\//, '').replace(/(?:\/v[12])?\/?$/, '');
  const [host = '', ...rest] = place.split('/');
  return [dockerHubNames.includes(host) ? 'docker.io' : host, ...rest].join('/');
}

function credentialIn(entry: unknown): Credential | undefined {
  const { identitytoken, auth, username, password } = record(entry);
  if (typeof identitytoken === 'string' && identitytoken !== '') return { identityToken: identitytoken };
  if (typeof username === 'string' && typeof password === 'string' && username !== '')
    return { username, password };
  if (typeof auth !== 'string') return undefined;
  const [name = '', ...secret] = Buffer.from(auth, 'base64').toString().replace(/\0+$/, '').split(':');
  return name === '' || secret.length === 0 ? undefined : { username: name, password: secret.join(':') };
}
