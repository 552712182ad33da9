/**
 * Blob and Queue Storage on loopback: Azurite in a child process, in memory, on ports of the system's choice.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export interface AzuriteOptions {
  readonly account?: string;
  /**
   * Serve https with this certificate and accept bearer tokens too, as identity-based connections need it
   * (Azurite then checks a token's audience, issuer and times, but no signature).
   */
  readonly tls?: { readonly certPath: string; readonly keyPath: string };
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

/** Starts Azurite and resolves when both services listen. */
export async function startAzurite(options: AzuriteOptions = {}): Promise<Azurite> {
  const account = options.account ?? 'hubferrylocal';
  const accountKey = randomBytes(64).toString('base64');
  const child = fork(entryPoint, azuriteArguments(options), {
    cwd: tmpdir(),
    env: { PATH: process.env.PATH, AZURITE_ACCOUNTS: `${account}:${accountKey}` },
    execArgv: ['--import', withParent],
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  const addresses = await listeningAddresses(child);
  const blobEndpoint = `${addresses.blob}/${account}`;
  const queueEndpoint = `${addresses.queue}/${account}`;
  const close = () => end(child);
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

function azuriteArguments({ tls }: AzuriteOptions): string[] {
  const ports = ['blob', 'queue', 'table'].flatMap((service) => [`--${service}Port`, '0']);
  const secure = tls ? ['--cert', tls.certPath, '--key', tls.keyPath, '--oauth', 'basic'] : [];
  return [
    ...ports,
    ...secure,
    '--inMemoryPersistence',
    '--silent',
    '--disableTelemetry',
    '--skipApiVersionCheck',
  ];
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
