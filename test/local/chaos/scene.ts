/**
 * Where the chaos happens: Docker Hub, ACR, the identity endpoint and Azure Storage, each behind a proxy that can spoil
 * every exchange, and instances of the published function app over one storage account.
 */
import { BlobServiceClient, type ContainerClient } from '@azure/storage-blob';
import { type LocalAcr, startAcr } from '../acr.ts';
import { type Azurite, startAzurite } from '../azurite.ts';
import { type LocalDockerHub, startDockerHub } from '../dockerhub.ts';
import type { FaultKind, StatusFault } from '../fault-kinds.ts';
import { type ChanceOptions, type FaultProxy, startFaultProxy } from '../faults.ts';
import { type FunctionsHost, startFunctionsHost } from '../functions-host.ts';
import { type LocalIdentity, startIdentity } from '../identity.ts';
import { createProductStorage } from '../product-storage.ts';
import { makeCertificate } from '../tls.ts';
import { denials, rivalIn } from './storage-faults.ts';

/** What any peer may do on a bad day. */
const anything: readonly FaultKind[] = [
  'reset',
  'drip',
  'truncate',
  'corrupt',
  'length',
  'status',
  'delay',
  'lose',
  'refuse',
];
/** Where nothing but TLS looks after the bytes, and TLS would not let a wrong one through. */
const allButCorrupt = anything.filter((kind) => kind !== 'corrupt');
/** Of a service whose client understands no half answers. */
const blunt: readonly FaultKind[] = ['reset', 'status', 'delay', 'lose', 'refuse'];
/** Of a service that is asked all the time, and refuses more often than it breaks. */
const strict: readonly FaultKind[] = ['status', 'status', 'overtaken', 'overtaken'];
/** Each of these costs one of our timeouts of a minute. */
const patient: readonly FaultKind[] = ['stall', 'silence'];

interface Peer {
  readonly name: string;
  readonly proxy: FaultProxy;
  readonly kinds: readonly FaultKind[];
  /** Its own, beside those that say: again, please. */
  readonly answers?: readonly StatusFault[];
}

export interface StormOptions {
  readonly seed: number;
  /** Share of requests that something happens to. */
  readonly rate: number;
  /** Whether some of it takes minutes. */
  readonly long: boolean;
}

/** Messages in work come back after so long when their instance was lost; ten minutes in Azure. */
const messageLeaseSeconds = 10;

export class Scene implements AsyncDisposable {
  readonly hub: LocalDockerHub;
  readonly acr: LocalAcr;
  readonly azurite: Azurite;
  readonly peers: readonly Peer[];
  readonly appRoot: string;
  readonly #identity: LocalIdentity;
  readonly #settings: Readonly<Record<string, string>>;
  readonly #workerSettings: Readonly<Record<string, string>>;
  readonly #close: () => Promise<void>;
  #hosts: FunctionsHost[] = [];
  /** Of instances that are gone. */
  readonly #oldLogs: FunctionsHost['logs'] = [];

  private constructor(parts: SceneParts) {
    this.hub = parts.hub;
    this.acr = parts.acr;
    this.azurite = parts.azurite;
    this.peers = parts.peers;
    this.appRoot = parts.appRoot;
    this.#identity = parts.identity;
    this.#settings = parts.settings;
    this.#workerSettings = parts.workerSettings;
    this.#close = parts.close;
  }

  static async start(appRoot: string, rules: (registries: string, acr: string) => string): Promise<Scene> {
    return new Scene(await build(appRoot, rules));
  }

  get hosts(): readonly FunctionsHost[] {
    return this.#hosts;
  }

  get logs(): FunctionsHost['logs'] {
    return [...this.#oldLogs, ...this.#hosts.flatMap((host) => host.logs)];
  }

  /** From here on chance decides, by the seed, what happens to which request. */
  storm({ seed, rate, long }: StormOptions): void {
    for (const { name, proxy, kinds, answers } of this.peers) {
      const chosen: ChanceOptions = {
        seed: `${seed} ${name}`,
        rate,
        kinds: long ? [...kinds, ...patient] : kinds,
        answers,
        maxMs: 200,
      };
      proxy.random(chosen);
    }
  }

  calm(): void {
    for (const { proxy } of this.peers) proxy.calm();
  }

  /** Starts two instances in place of those that run; the second one's clock is off by `skewMs`, beside what has passed. */
  async startHosts(passedMs = 0, skewMs = 0): Promise<void> {
    await this.stopHosts();
    this.#hosts = await Promise.all([this.#startHost(passedMs), this.#startHost(passedMs + skewMs)]);
  }

  /** Ends all instances as the loss of their machines does. */
  async stopHosts(): Promise<void> {
    const hosts = this.#hosts;
    this.#hosts = [];
    await Promise.all(hosts.map((host) => host.kill()));
    for (const host of hosts) {
      this.#oldLogs.push(...host.logs);
      await host.close();
    }
  }

  /** Resolves when no message is left and nothing runs. */
  async idle(timeoutMs: number): Promise<void> {
    await Promise.all(this.#hosts.map((host) => host.idle(timeoutMs)));
    // One may have sent while the other was looked at.
    await Promise.all(this.#hosts.map((host) => host.idle(timeoutMs)));
  }

  /** Any instance does for a timer. */
  timer(name: string): Promise<void> {
    const [host] = this.#hosts;
    if (host === undefined) throw new Error('no instance runs');
    return host.invokeTimer(name);
  }

  container(name: string): ContainerClient {
    return BlobServiceClient.fromConnectionString(this.azurite.connectionString).getContainerClient(name);
  }

  /** Documents under a lease, as `container/key`. */
  async leases(): Promise<string[]> {
    const leased: string[] = [];
    for (const container of ['state', 'checkpoints', 'runs']) {
      for await (const { name, properties } of this.container(container).listBlobsFlat()) {
        if (properties.leaseState === 'leased') leased.push(`${container}/${name}`);
      }
    }
    return leased;
  }

  /** Ends a lease as an administrator can. */
  async breakLease(leased: string): Promise<void> {
    const [container = '', ...name] = leased.split('/');
    const blob = this.container(container).getBlobClient(name.join('/'));
    // It may have ended meanwhile.
    await blob
      .getBlobLeaseClient()
      .breakLease(0)
      .catch(() => undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopHosts();
    await this.#close();
  }

  #startHost(skewMs: number): Promise<FunctionsHost> {
    return startFunctionsHost({
      appRoot: this.appRoot,
      timers: false,
      leaseSeconds: messageLeaseSeconds,
      settings: { ...this.#settings, ...this.#identity.env },
      workerSettings: {
        ...this.#workerSettings,
        NODE_OPTIONS: `--import ${new URL('../skewed-clock.ts', import.meta.url).href}`,
        CLOCK_SKEW_MS: String(skewMs),
      },
    });
  }
}

interface SceneParts {
  readonly hub: LocalDockerHub;
  readonly acr: LocalAcr;
  readonly azurite: Azurite;
  readonly identity: LocalIdentity;
  readonly peers: readonly Peer[];
  readonly appRoot: string;
  readonly settings: Readonly<Record<string, string>>;
  readonly workerSettings: Readonly<Record<string, string>>;
  readonly close: () => Promise<void>;
}

/** Short, so that tokens and signed addresses end in the middle of things. */
const lifetimes = { tokens: 8, addresses: 4 };

async function build(
  appRoot: string,
  rules: (registries: string, acr: string) => string,
): Promise<SceneParts> {
  const certificate = makeCertificate();
  const [hub, acr, identity, azurite] = await Promise.all([
    startDockerHub({
      anonymousPulls: undefined,
      tokenLifetimeSeconds: lifetimes.tokens,
      urlLifetimeSeconds: lifetimes.addresses,
    }),
    startAcr({
      certificate,
      accessTokenLifetimeSeconds: lifetimes.tokens,
      refreshTokenLifetimeSeconds: 2 * lifetimes.tokens,
    }),
    startIdentity(),
    startAzurite(),
  ]);
  await createProductStorage(azurite.connectionString);

  const secure = { tls: certificate, ca: certificate.cert };
  const tokens = await startFaultProxy(hub.tokens.url);
  const cdn = await startFaultProxy(hub.cdn.url);
  const data = await startFaultProxy(acr.data.url, secure);
  const source = await startFaultProxy(hub.url, {
    origins: { [hub.tokens.url]: tokens.url, [hub.cdn.url]: cdn.url },
  });
  const api = await startFaultProxy(hub.apiUrl);
  const target = await startFaultProxy(acr.url, { ...secure, origins: { [acr.data.url]: data.url } });
  const entra = await startFaultProxy(identity.url);
  const blobs = await startFaultProxy(new URL(azurite.blobEndpoint).origin, {
    overtake: rivalIn(azurite.connectionString),
  });
  const messages = await startFaultProxy(new URL(azurite.queueEndpoint).origin);
  const peers: Peer[] = [
    { name: 'source', proxy: source, kinds: anything },
    { name: 'tokens', proxy: tokens, kinds: allButCorrupt },
    { name: 'cdn', proxy: cdn, kinds: anything },
    { name: 'api', proxy: api, kinds: anything },
    { name: 'target', proxy: target, kinds: allButCorrupt },
    { name: 'data', proxy: data, kinds: anything },
    { name: 'identity', proxy: entra, kinds: blunt },
    { name: 'blobs', proxy: blobs, kinds: [...allButCorrupt, ...strict], answers: denials },
    { name: 'queues', proxy: messages, kinds: blunt, answers: denials },
  ];

  const registries = `version: 1
registries:
  docker.io: { endpoint: "${source.url}", hubApi: "${api.url}" }
  ${acr.host}: { kind: acr, endpoint: "${target.url}", ca: "${certificate.caFile}" }
`;
  const text = rules(registries, acr.host);
  const config = BlobServiceClient.fromConnectionString(azurite.connectionString).getContainerClient(
    'config',
  );
  await config.getBlockBlobClient('sync.yaml').upload(text, Buffer.byteLength(text));

  const throughProxies = azurite.connectionString
    .replaceAll(new URL(azurite.blobEndpoint).origin, blobs.url)
    .replaceAll(new URL(azurite.queueEndpoint).origin, messages.url);
  return {
    hub,
    acr,
    azurite,
    identity,
    peers,
    appRoot,
    settings: {
      FUNCTIONS_WORKER_RUNTIME: 'node',
      AzureWebJobsStorage: azurite.connectionString,
      HubferryStorage: azurite.connectionString,
      SYNC_SCHEDULE: '0 0 0 * * *',
      VERIFY_SCHEDULE: '0 0 6 * * 0',
      PRUNE_LIMIT: '100%',
      COPY_DEADLINE: '30s',
      AzureFunctionsJobHost__extensions__queues__visibilityTimeout: '00:00:01',
      AzureFunctionsJobHost__extensions__queues__maxPollingInterval: '00:00:00.200',
    },
    workerSettings: {
      HubferryStorage: throughProxies,
      IDENTITY_ENDPOINT: identity.env.IDENTITY_ENDPOINT.replace(identity.url, entra.url),
    },
    async close() {
      await Promise.all(peers.map(({ proxy }) => proxy.close()));
      await Promise.all([hub.close(), acr.close(), identity.close(), azurite.close()]);
      certificate.remove();
    },
  };
}
