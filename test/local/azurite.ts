/**
 * Blob and Queue Storage on loopback: Azurite in a child process, on ports of the system's choice.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Certificate } from './server.ts';

export interface AzuriteOptions {
  readonly account?: string;
  /**
   * Serve https with this certificate and accept bearer tokens too, as identity-based connections need it
   * (Azurite then checks a token's audience, issuer and times, but no signature).
   */
  readonly tls?: Certificate;
  /** Keep messages and blobs in files: where there are thousands, Azurite deletes one in two thirds of the time. */
  readonly inFiles?: boolean;
}

export interface Azurite extends AsyncDisposable {
  readonly connectionString: string;
  /** With the account in the path, as Azurite has it: `http://127.0.0.1:1234/account`. */
  readonly blobEndpoint: string;
  readonly queueEndpoint: string;
  readonly account: string;
  readonly accountKey: string;
  close(): Promise<void>;
}

const entryPoint = createRequire(import.meta.url).resolve('azurite/dist/src/azurite.js');
const withParent = fileURLToPath(new URL('./with-parent.ts', import.meta.url));
const removal = fileURLToPath(new URL('./azurite-removal.ts', import.meta.url));

/** Starts Azurite and resolves when both services listen. */
export async function startAzurite(options: AzuriteOptions = {}): Promise<Azurite> {
  const account = options.account ?? 'hubferrylocal';
  const accountKey = randomBytes(64).toString('base64');
  const folder = await mkdtemp(path.join(tmpdir(), 'hubferry-azurite-'));
  const keeping = options.inFiles ? ['--location', folder] : ['--inMemoryPersistence'];
  const child = fork(entryPoint, [...quietly, ...keeping, ...(await secureArguments(options.tls, folder))], {
    cwd: folder,
    env: { PATH: process.env.PATH, AZURITE_ACCOUNTS: `${account}:${accountKey}` },
    execArgv: ['--import', withParent, '--import', removal],
    // Outside the terminal's process group: Ctrl-C is the parent's to handle.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  const addresses = await listeningAddresses(child);
  const blobEndpoint = `${addresses.blob}/${account}`;
  const queueEndpoint = `${addresses.queue}/${account}`;
  const close = async () => {
    await end(child);
    await rm(folder, { recursive: true, force: true });
  };
  return {
    account,
    accountKey,
    blobEndpoint,
    queueEndpoint,
    connectionString: [
      `DefaultEndpointsProtocol=${options.tls ? 'https' : 'http'}`,
      `AccountName=${account}`,
      `AccountKey=${accountKey}`,
      `BlobEndpoint=${blobEndpoint}`,
      `QueueEndpoint=${queueEndpoint}`,
    ].join(';'),
    close,
    [Symbol.asyncDispose]: close,
  };
}

const quietly = [
  ...['blob', 'queue', 'table'].flatMap((service) => [`--${service}Port`, '0']),
  '--silent',
  '--disableTelemetry',
  '--skipApiVersionCheck',
];

/** Azurite reads certificate and key from files only. */
async function secureArguments(tls: Certificate | undefined, folder: string): Promise<string[]> {
  if (!tls) return [];
  const [cert, key] = [path.join(folder, 'cert.pem'), path.join(folder, 'key.pem')];
  await writeFile(cert, tls.cert);
  await writeFile(key, tls.key, { mode: 0o600 });
  return ['--cert', cert, '--key', key, '--oauth', 'basic'];
}

/** Reads the addresses from what Azurite prints once it listens; the child's output is drained from then on. */
async function listeningAddresses(child: ChildProcess): Promise<{ blob: string; queue: string }> {
  if (!child.stdout || !child.stderr) throw new Error('Azurite was started without pipes');
  const printed: string[] = [];
  createInterface({ input: child.stderr }).on('line', (line) => printed.push(line));
  const found = new Map<string, string>();
  const lines = createInterface({ input: child.stdout });
  for await (const line of lines) {
    printed.push(line);
    const [, service, address] = /^Azurite (\w+) service is successfully listening at (\S+)/.exec(line) ?? [];
    if (service && address) found.set(service, address);
    const [blob, queue] = [found.get('Blob'), found.get('Queue')];
    if (blob && queue) {
      child.stdout.resume();
      return { blob, queue };
    }
  }
  throw new Error(`Azurite did not start:\n${printed.join('\n')}`);
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}
