/**
 * A file that always holds a fresh token of GitHub's for Entra ID. Such a token lives for minutes, an Entra login for an
 * hour: a long sync logs in again and again, each time with the token that it finds here.
 */
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

/** What GitHub gives to a workflow that has the permission `id-token: write`. */
export interface TokenEndpoint {
  readonly url: string;
  readonly bearer: string;
}

export interface TokenFileOptions {
  /** Where the file's own folder is made. */
  readonly folder: string;
  /** Told when a token could not be had; the one before stays, and the next minute may bring another. */
  readonly onFailure: (message: string) => void;
  /** @default a minute, well below the five that the Azure SDK may keep what it has read */
  readonly intervalMs?: number;
}

const audience = 'api://AzureADTokenExchange';
const patienceMs = 30_000;

export class TokenFile implements AsyncDisposable {
  readonly path: string;
  readonly #folder: string;
  readonly #stop = new AbortController();
  readonly #renewing: Promise<void>;

  private constructor(endpoint: TokenEndpoint, folder: string, options: TokenFileOptions) {
    this.#folder = folder;
    this.path = join(folder, 'token');
    this.#renewing = this.#renew(endpoint, options);
  }

  /** Opens the file with a first token in it. @throws where GitHub gives none */
  static async open(endpoint: TokenEndpoint, options: TokenFileOptions): Promise<TokenFile> {
    const folder = await mkdtemp(join(options.folder, 'hubferry-identity-'));
    try {
      await writeToken(endpoint, join(folder, 'token'));
    } catch (error) {
      await rm(folder, { recursive: true });
      throw error;
    }
    return new TokenFile(endpoint, folder, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#renewing;
    await rm(this.#folder, { recursive: true });
  }

  async #renew(endpoint: TokenEndpoint, { intervalMs = 60_000, onFailure }: TokenFileOptions): Promise<void> {
    const { signal } = this.#stop;
    while (await delay(intervalMs, true, { signal }).catch(() => false)) {
      await writeToken(endpoint, this.path).catch((error: unknown) => onFailure(messageOf(error)));
    }
  }
}

/** A reader finds the old token or the new one, never a half of it. */
async function writeToken(endpoint: TokenEndpoint, path: string): Promise<void> {
  await writeFile(`${path}.new`, await requestToken(endpoint), { mode: 0o600 });
  await rename(`${path}.new`, path);
}

async function requestToken({ url, bearer }: TokenEndpoint): Promise<string> {
  const address = new URL(url);
  address.searchParams.set('audience', audience);
  const response = await fetch(address, {
    headers: { authorization: `Bearer ${bearer}`, accept: 'application/json' },
    redirect: 'error',
    signal: AbortSignal.timeout(patienceMs),
  });
  if (!response.ok) throw new Error(`GitHub gave no identity token: status ${response.status}`);
  const body: unknown = await response.json();
  if (typeof body === 'object' && body !== null && 'value' in body && typeof body.value === 'string') {
    return body.value;
  }
  throw new Error('GitHub gave no identity token: its answer holds none');
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
