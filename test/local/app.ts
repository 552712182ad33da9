/**
 * The function app's engine in this process, between two registries, with queues that a test
 * delivers from as it likes: out of order, twice, or not at all.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createCore } from '../../lib/app.ts';
import { Clients } from '../../lib/clients.ts';
import type { Rules } from '../../lib/config/model.ts';
import { readRules } from '../../lib/config/rules.ts';
import { createHostGate } from '../../lib/registry/gate.ts';
import { openFolderStores } from '../../lib/storage/folder.ts';
import type { Queue, RequestQueues, Stores } from '../../lib/storage/ports.ts';
import { defaultLimits } from '../../lib/sync/copy/limits.ts';
import { Control } from '../../lib/sync/queue/control.ts';
import { Outstanding } from '../../lib/sync/queue/outstanding.ts';
import { createQueueEngine, type QueueEngine } from '../../lib/sync/queue/queue-engine.ts';
import { copyRequestSchema, planRequestSchema, pushRequestSchema } from '../../lib/sync/request.ts';
import { newRunId } from '../../lib/sync/run-id.ts';
import { RunBook } from '../../lib/sync/runs/book.ts';
import type { SyncEvent } from '../../lib/sync/runs/events.ts';
import { ParkingLot } from '../../lib/sync/runs/parked.ts';
import type { AnyReport } from '../../lib/sync/runs/report.ts';
import { type LocalDockerHub, startDockerHub } from './dockerhub.ts';
import { type LocalRegistry, startRegistry } from './registry.ts';

export interface Message {
  readonly queue: Queue;
  /** As it went over the wire. */
  readonly text: string;
}

/** Holds messages until they are taken. */
export class HeldQueues implements RequestQueues {
  readonly messages: Message[] = [];

  async send(queue: Queue, message: unknown): Promise<void> {
    this.messages.push({ queue, text: JSON.stringify(message) });
  }
}

export interface AppOptions {
  /** Rules as flow or block YAML; `$target` stands for the registry's host. */
  readonly rules: string;
  /** Docker Hub's allowance for everybody. @default none */
  readonly pulls?: number;
  /** Namespaces of Docker Hub that are read with an account of their own, and its allowance. @default none */
  readonly accounts?: Readonly<Record<string, { readonly pulls?: number }>>;
  /** Pulls that are kept for pushes. @default 0 */
  readonly pullReserve?: number;
}

/** Docker Hub on one side, a registry on the other, the state in a folder. */
export async function startApp({ rules: text, pulls, pullReserve = 0, accounts = {} }: AppOptions) {
  const known = Object.entries(accounts).map(([name, { pulls }]) => [
    name,
    { secret: secretOf(name), pulls },
  ]);
  const [hub, target] = await Promise.all([
    startDockerHub({ anonymousPulls: pulls, accounts: Object.fromEntries(known) }),
    startRegistry(),
  ]);
  const folder = mkdtempSync(path.join(tmpdir(), 'hubferry-app-'));
  const app = new App(hub, target, text, openFolderStores(folder), pullReserve, Object.keys(accounts));
  return Object.assign(app, {
    async close(): Promise<void> {
      await Promise.all([hub.close(), target.close()]);
      rmSync(folder, { recursive: true, force: true });
    },
  });
}

function secretOf(account: string): string {
  return `secret-of-${account}`;
}

function rulesOf(
  text: string,
  hub: LocalDockerHub,
  { host }: LocalRegistry,
  accounts: readonly string[],
): Rules {
  const open = { endpoint: hub.url, hubApi: hub.apiUrl, kind: 'dockerhub' };
  const logins = accounts.map((username) => [
    `docker.io/${username}`,
    { ...open, username, password: secretOf(username) },
  ]);
  const registries = {
    'docker.io': open,
    ...Object.fromEntries(logins),
    [host]: { chunkSize: 1024 * 1024 },
  };
  const document = `registries: ${JSON.stringify(registries)}\nrules:\n${text.replaceAll('$target', host)}`;
  return readRules(document, { env: {}, variables: 'all' });
}

export class App {
  readonly hub: LocalDockerHub;
  readonly target: LocalRegistry;
  rules: Rules;
  readonly stores: Stores;
  pullReserve: number;
  readonly accounts: readonly string[];
  readonly queues = new HeldQueues();
  readonly control: Control;
  readonly parked: ParkingLot;
  readonly outstanding: Outstanding;
  readonly book: RunBook;
  /** Reports that were announced, in order. */
  readonly reports: AnyReport[] = [];
  readonly events: SyncEvent[] = [];

  constructor(
    hub: LocalDockerHub,
    target: LocalRegistry,
    text: string,
    stores: Stores,
    pullReserve: number,
    accounts: readonly string[] = [],
  ) {
    this.hub = hub;
    this.target = target;
    this.accounts = accounts;
    this.rules = rulesOf(text, hub, target, accounts);
    this.stores = stores;
    this.pullReserve = pullReserve;
    this.control = new Control(stores.state);
    this.parked = new ParkingLot(stores.state);
    this.outstanding = new Outstanding(stores.state, this.parked);
    this.book = new RunBook(stores.runs, this.parked);
  }

  /** Other rules are in force from now on. */
  rewrite(text: string): void {
    this.rules = rulesOf(text, this.hub, this.target, this.accounts);
  }

  /** Another instance; `stores` may be broken. */
  engine(stores: Stores = this.stores, deadlineMs = 60_000): QueueEngine {
    const identity = () => {
      throw new Error('No identity is needed here');
    };
    const gate = createHostGate();
    const clients = new Clients({ env: {}, gate, retries: 0, maxWaitMs: 1000, blobs: 4, identity });
    const own = stores === this.stores;
    const parked = own ? this.parked : new ParkingLot(stores.state);
    return createQueueEngine({
      core: createCore({ rules: this.rules, stores, clients, limits: defaultLimits, repositoryPrefixes: [] }),
      rules: this.rules,
      queues: this.queues,
      book: own ? this.book : new RunBook(stores.runs, parked),
      parked,
      outstanding: own ? this.outstanding : new Outstanding(stores.state, parked),
      control: own ? this.control : new Control(stores.state),
      deadlineMs,
      watchMs: 5,
      pruneLimit: 1,
      pullReserve: this.pullReserve,
      checkpoints: stores.checkpoints,
      state: stores.state,
      onEvent: (event) => this.events.push(event),
      announce: async (report) => {
        this.reports.push(report);
      },
    });
  }

  /** Opens a run as the timer does. */
  async schedule(): Promise<string> {
    const asked = { dryRun: false, force: false };
    return (await this.engine().dispatcher.start(newRunId(new Date(), 'schedule'), 'schedule', asked)).run;
  }

  /** Delivers what is queued, and what that brings, until nothing is left. */
  async deliver(engine: QueueEngine = this.engine()): Promise<void> {
    for (let next = this.queues.messages.shift(); next !== undefined; next = this.queues.messages.shift())
      await handOver(engine, next);
  }

  reportOf(run: string): AnyReport | undefined {
    return this.reports.find((report) => report.run.id === run);
  }

  digestAt(tag: string, repository = 'app'): string | undefined {
    return this.target.repository(repository).tags.get(tag)?.digest;
  }
}

/** As the functions do it. */
export async function handOver(engine: QueueEngine, { queue, text }: Message): Promise<void> {
  const message: unknown = JSON.parse(text);
  if (queue === 'plan-requests') return engine.worker.plan(planRequestSchema.parse(message));
  if (queue === 'copy-requests') return engine.worker.copy(copyRequestSchema.parse(message), 'copy');
  const request = pushRequestSchema.parse(message);
  return request.kind === 'fan-out' ? engine.dispatcher.fanOut(request) : engine.worker.copy(request, 'push');
}
