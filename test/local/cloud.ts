/** All that stands in for the cloud, started together: Docker Hub, ACR, the identity endpoint, Azurite, and the app on a host. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { BlobServiceClient } from '@azure/storage-blob';
import { type AcrOptions, startAcr } from './acr.ts';
import { type AzuriteOptions, startAzurite } from './azurite.ts';
import { type DockerHubOptions, startDockerHub } from './dockerhub.ts';
import { type FunctionsHostOptions, startFunctionsHost } from './functions-host.ts';
import { startIdentity } from './identity.ts';
import { createProductStorage } from './product-storage.ts';

const root = path.resolve(import.meta.dirname, '../..');

/** Builds the app as it is published, into a folder of its own. */
export async function buildApp(): Promise<{ appRoot: string; remove(): void }> {
  const out = mkdtempSync(path.join(tmpdir(), 'hubferry-app-'));
  await promisify(execFile)(process.execPath, ['esbuild.config.ts', '--package', '--out', out], {
    cwd: root,
  });
  return { appRoot: path.join(out, 'app'), remove: () => rmSync(out, { recursive: true, force: true }) };
}

export interface CloudOptions {
  readonly appRoot: string;
  /** The rules; `$ACR` stands for the registry's host. */
  readonly rules: string;
  readonly settings?: Readonly<Record<string, string>>;
  readonly hub?: DockerHubOptions;
  readonly acr?: AcrOptions;
  /** Instances of the app over the same storage. @default 1 */
  readonly instances?: number;
  /** Whether timers fire on their own. @default false */
  readonly timers?: boolean;
  readonly azurite?: AzuriteOptions;
}

/** `registries` for the stand-ins, to put before the rules. */
export function registriesOf(
  hub: { url: string; apiUrl: string },
  acr: { host: string; url: string; caFile: string },
): string {
  return `version: 1
registries:
  docker.io: { endpoint: "${hub.url}", hubApi: "${hub.apiUrl}" }
  ${acr.host}: { kind: acr, endpoint: "${acr.url}", ca: "${acr.caFile}" }
`;
}

export async function startCloud(options: CloudOptions) {
  const [hub, acr, identity, azurite] = await Promise.all([
    startDockerHub(options.hub),
    startAcr(options.acr),
    startIdentity(),
    startAzurite(options.azurite),
  ]);
  const { connectionString } = azurite;
  await createProductStorage(connectionString);
  const config = BlobServiceClient.fromConnectionString(connectionString).getContainerClient('config');
  const writeRules = async (rules: string) => {
    const text = registriesOf(hub, acr) + rules.replaceAll('$ACR', acr.host);
    await config.getBlockBlobClient('sync.yaml').upload(text, Buffer.byteLength(text));
    return text;
  };
  const rulesText = await writeRules(options.rules);
  const hostOptions: FunctionsHostOptions = {
    appRoot: options.appRoot,
    timers: options.timers ?? false,
    settings: {
      FUNCTIONS_WORKER_RUNTIME: 'node',
      AzureWebJobsStorage: connectionString,
      HubferryStorage: connectionString,
      SYNC_SCHEDULE: '0 0 0 * * *',
      VERIFY_SCHEDULE: '0 0 6 * * 0',
      ...identity.env,
      ...options.settings,
    },
  };
  const host = await startFunctionsHost(hostOptions);
  const others = Array.from({ length: (options.instances ?? 1) - 1 }, () => startFunctionsHost(hostOptions));
  const hosts = [host, ...(await Promise.all(others))];
  /** One more instance over the same storage, with some settings of its own. */
  const addInstance = async (own: Readonly<Record<string, string>>) => {
    const added = await startFunctionsHost({
      ...hostOptions,
      settings: { ...hostOptions.settings, ...own },
    });
    hosts.push(added);
    return added;
  };
  return {
    hub,
    acr,
    identity,
    azurite,
    /** The first instance, and all of them. */
    host,
    hosts,
    addInstance,
    rulesText,
    writeRules,
    async close(): Promise<void> {
      await Promise.all(hosts.map((one) => one.close()));
      await Promise.all([hub.close(), acr.close(), identity.close(), azurite.close()]);
    },
  };
}

export type Cloud = Awaited<ReturnType<typeof startCloud>>;
