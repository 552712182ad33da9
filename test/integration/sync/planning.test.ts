/** Plan requests of the function app, with state and queues on Azurite: fanned out once, whatever cuts them short. */
import { createHash, randomUUID } from 'node:crypto';
import { QueueServiceClient } from '@azure/storage-queue';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createCore } from '../../../lib/app.ts';
import { Clients } from '../../../lib/clients.ts';
import type { Rules } from '../../../lib/config/model.ts';
import { readRules } from '../../../lib/config/rules.ts';
import { HubferryError } from '../../../lib/errors.ts';
import type { Digest } from '../../../lib/oci/descriptor.ts';
import { createHostGate } from '../../../lib/registry/gate.ts';
import { openBlobStores } from '../../../lib/storage/blob.ts';
import type { RequestQueues, Stores } from '../../../lib/storage/ports.ts';
import { openQueues } from '../../../lib/storage/queue.ts';
import { StoppedError } from '../../../lib/sync/concurrency.ts';
import { defaultLimits } from '../../../lib/sync/copy/limits.ts';
import { tidyPlans } from '../../../lib/sync/plan/plan-progress.ts';
import { Planning } from '../../../lib/sync/plan/planning.ts';
import { Control } from '../../../lib/sync/queue/control.ts';
import { Outstanding } from '../../../lib/sync/queue/outstanding.ts';
import { createQueueEngine, type QueueEngine } from '../../../lib/sync/queue/queue-engine.ts';
import {
  type CopyRequest,
  copyRequestSchema,
  type PlanRequest,
  planRequestSchema,
} from '../../../lib/sync/request.ts';
import { RunBook } from '../../../lib/sync/runs/book.ts';
import { ParkingLot } from '../../../lib/sync/runs/parked.ts';
import { Tally } from '../../../lib/sync/runs/tally.ts';
import { type Azurite, startAzurite } from '../../local/azurite.ts';
import { buildManifest, put } from '../../local/content.ts';
import { type LocalDockerHub, startDockerHub } from '../../local/dockerhub.ts';
import { createProductStorage } from '../../local/product-storage.ts';
import { type LocalRegistry, startRegistry } from '../../local/registry.ts';

let azurite: Azurite;
let hub: LocalDockerHub;
let target: LocalRegistry;
let stores: Stores;
let queues: RequestQueues;
let service: QueueServiceClient;
let run: string;

beforeAll(async () => {
  azurite = await startAzurite();
  const { connectionString } = azurite;
  await createProductStorage(connectionString);
  [hub, target] = await Promise.all([startDockerHub(), startRegistry()]);
  stores = openBlobStores({ connectionString }, { create: true });
  queues = openQueues({ connectionString }, { create: true });
  service = QueueServiceClient.fromConnectionString(connectionString);
});
afterAll(() => Promise.all([azurite?.close(), hub?.close(), target?.close()]));

beforeEach(async () => {
  run = `run-${randomUUID()}`;
  hub.store.repositories.clear();
  target.store.repositories.clear();
  hub.api.intercept = undefined;
  hub.api.requests.length = 0;
  for (const name of ['plan-requests', 'copy-requests']) await service.getQueueClient(name).clearMessages();
});

/** No plan looks at manifests, so none is there. */
function fill(repository: string, tags: number): void {
  for (let tag = 0; tag < tags; tag += 1) {
    const digest: Digest = `sha256:${createHash('sha256').update(`${run} ${repository} ${tag}`).digest('hex')}`;
    hub.repository(repository).setTag(`v${String(tag).padStart(3, '0')}`, digest);
  }
}

function rulesOf(text: string): Rules {
  const registries = { 'docker.io': { endpoint: hub.url, hubApi: hub.apiUrl } };
  const rules = text.replaceAll('$target', target.host);
  return readRules(`registries: ${JSON.stringify(registries)}\nrules:\n${rules}`, {
    env: {},
    variables: 'all',
  });
}

function coreFor(rules: Rules) {
  const identity = () => {
    throw new Error('No identity is needed here');
  };
  const gate = createHostGate();
  const clients = new Clients({ env: {}, gate, retries: 0, maxWaitMs: 0, blobs: 4, identity });
  return createCore({ rules, stores, clients, limits: defaultLimits, repositoryPrefixes: [] });
}

function engineFor(rules: Rules): QueueEngine {
  return createQueueEngine({
    core: coreFor(rules),
    rules,
    queues,
    book: new RunBook(stores.runs),
    parked: new ParkingLot(stores.state),
    outstanding: new Outstanding(stores.state, new ParkingLot(stores.state)),
    control: new Control(stores.state),
    deadlineMs: 60_000,
    pruneLimit: 1,
    pullReserve: 0,
    checkpoints: stores.checkpoints,
    state: stores.state,
    onEvent: () => {},
    announce: async () => {},
  });
}

/** Takes all messages that are visible. */
async function take<T>(name: 'plan-requests' | 'copy-requests', read: (message: unknown) => T): Promise<T[]> {
  const client = service.getQueueClient(name);
  const taken: T[] = [];
  for (;;) {
    const { receivedMessageItems } = await client.receiveMessages({ numberOfMessages: 32 });
    if (receivedMessageItems.length === 0) return taken;
    for (const item of receivedMessageItems) {
      taken.push(read(JSON.parse(Buffer.from(item.messageText, 'base64').toString())));
      await client.deleteMessage(item.messageId, item.popReceipt);
    }
  }
}
const takePlans = () => take('plan-requests', (message) => planRequestSchema.parse(message));
const takeCopies = () => take('copy-requests', (message) => copyRequestSchema.parse(message));

const isUnique = (ids: readonly string[]) => new Set(ids).size === ids.length;
const idsOf = (requests: readonly { id: string }[]) => requests.map(({ id }) => id);
const pagesRead = () =>
  hub.api.requests.flatMap(({ url }) =>
    url.includes('/tags?') ? [/[?&]page=(\d+)/.exec(url)?.[1] ?? '1'] : [],
  );

async function keysOf(prefix: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of stores.state.list(prefix)) keys.push(key);
  return keys;
}

const one = '- { source: docker.io/acme/app, target: $target/app, name: app }';
const start = ({ dispatcher }: QueueEngine) =>
  dispatcher.start(run, 'schedule', { dryRun: false, force: false });

describe('a plan request', () => {
  it('of a namespace becomes one for each repository', async () => {
    for (const repository of ['acme/one', 'acme/two', 'acme/three']) fill(repository, 2);
    const engine = engineFor(rulesOf('- { source: docker.io/acme/*, target: $target/mirror/*, name: all }'));
    await start(engine);
    for (const request of await takePlans()) await engine.worker.plan(request);
    const requests = await takePlans();
    expect(requests.map(({ repository }) => repository).sort()).toEqual([
      'acme/one',
      'acme/three',
      'acme/two',
    ]);
    expect(isUnique(idsOf(requests))).toBe(true);
    for (const request of requests) await engine.worker.plan(request);
    const copies = await takeCopies();
    expect(copies.map(({ target, tags }) => `${target.split('/').at(-1)}:${tags[0]?.target}`).sort()).toEqual(
      ['one:v000', 'one:v001', 'three:v000', 'three:v001', 'two:v000', 'two:v001'],
    );
  });

  it('of a namespace that does not exist fails for its rule', async () => {
    const engine = engineFor(
      rulesOf('- { source: docker.io/nobody/*, target: $target/mirror/*, name: all }'),
    );
    await start(engine);
    for (const request of await takePlans()) await engine.worker.plan(request);
    const report = await new RunBook(stores.runs).report(run);
    expect(report?.tags).toMatchObject([{ outcome: 'failed', error: { code: 'ERR_NOT_FOUND' } }]);
  });

  it('that comes twice is fanned out once', async () => {
    fill('acme/app', 55);
    const engine = engineFor(rulesOf(one));
    await start(engine);
    const [request] = await takePlans();
    if (request === undefined) throw new Error('no plan was asked for');
    await engine.worker.plan(request);
    expect(await takeCopies()).toHaveLength(55);
    await engineFor(rulesOf(one)).worker.plan(request);
    expect(await takeCopies()).toEqual([]);
    expect(await keysOf(`plans/${run}/`)).toEqual([]);
  });

  it('that comes twice at the same time is fanned out once, and the other looks again later', async () => {
    fill('acme/app', 55);
    const rules = rulesOf(one);
    await start(engineFor(rules));
    const [request] = await takePlans();
    if (request === undefined) throw new Error('no plan was asked for');
    await Promise.all([engineFor(rules).worker.plan(request), engineFor(rules).worker.plan(request)]);
    const copies = idsOf(await takeCopies());
    expect(copies).toHaveLength(55);
    expect(isUnique(copies)).toBe(true);
  });

  it('lists what rules of one target claim once a run', async () => {
    for (const repository of ['acme/one', 'acme/two', 'acme/three']) fill(repository, 1);
    const rules = rulesOf(
      ['one', 'two', 'three']
        .map((name) => `- { source: docker.io/acme/${name}, target: $target/app, name: ${name} }`)
        .join('\n'),
    );
    const engine = engineFor(rules);
    await start(engine);
    for (const request of await takePlans()) await engineFor(rules).worker.plan(request);
    // Each for its own plan; two of them before that, as rivals of the first.
    expect(pagesRead()).toHaveLength(5);
    expect((await new RunBook(stores.runs).report(run))?.tags).toMatchObject(
      Array.from({ length: 3 }, () => ({ outcome: 'failed', error: { code: 'ERR_TARGET_CONFLICT' } })),
    );
  });
});

/** A plan whose time a test ends, and what it sends. */
class Delivery {
  readonly sent: string[] = [];
  readonly later: PlanRequest[] = [];
  readonly lines: unknown[] = [];
  ended = false;
  readonly #rules: Rules;
  readonly #onAsk: (nth: number) => void;
  readonly stop = new AbortController();

  constructor(rules: Rules, onAsk: (nth: number) => void = () => {}) {
    this.#rules = rules;
    this.#onAsk = onAsk;
  }

  endTime(): void {
    this.stop.abort(new StoppedError('The deadline is near'));
  }

  async carryOut(request: PlanRequest): Promise<void> {
    const planning = new Planning(request, {
      core: coreFor(this.#rules),
      rules: this.#rules,
      state: stores.state,
      pruneLimit: 1,
      pullReserve: 0,
      tally: new Tally(),
      stop: this.stop.signal,
      onEvent: () => {},
      ask: async (copy) => this.#ask(copy),
      rests: async () => [],
      send: async (plan) => void this.later.push(plan),
      park: async (plan) => void this.later.push(plan),
    });
    await planning.carryOut(async () => {
      this.ended = true;
      expect(isUnique(idsOf(planning.opened))).toBe(true);
      this.lines.push(...planning.lines, ...planning.opened);
    });
  }

  #ask(copy: CopyRequest) {
    this.#onAsk(this.sent.length + 1);
    this.sent.push(copy.id);
    const { id, rule, source, target, tags } = copy;
    return [{ id, rule, source, target, tags }];
  }
}

describe('a plan whose time ends', () => {
  const request = () => planRequestSchema.parse({ kind: 'plan', id: 'plan-app', run, rule: 'app' });

  it('in the middle of a listing goes on with the next page', async () => {
    fill('acme/app', 250);
    const first = new Delivery(rulesOf(one));
    hub.api.intercept = ({ url }) => {
      if (url.includes('page=2')) first.endTime();
      return undefined;
    };
    await first.carryOut(request());
    expect([first.ended, first.sent]).toEqual([false, []]);
    expect(pagesRead()).toEqual(['1', '2']);
    expect(first.later).toEqual([{ ...request(), cursor: `plans/${run}/plan-app` }]);

    hub.api.intercept = undefined;
    hub.api.requests.length = 0;
    const second = new Delivery(rulesOf(one));
    await second.carryOut(first.later[0] ?? request());
    expect(pagesRead()).toEqual(['2', '3']);
    expect([second.ended, second.sent.length]).toEqual([true, 250]);
    expect(await keysOf(`plans/${run}/`)).toEqual([]);
  });

  it('in the middle of the fan-out sends the rest, and counts all', async () => {
    fill('acme/app', 60);
    const first = new Delivery(rulesOf(one), (nth) => {
      if (nth === 55) first.endTime();
    });
    await first.carryOut(request());
    expect(first.ended).toBe(false);
    hub.api.requests.length = 0;
    const second = new Delivery(rulesOf(one));
    await second.carryOut(first.later[0] ?? request());
    const sent = [...first.sent, ...second.sent];
    expect([second.ended, sent.length, isUnique(sent)]).toEqual([true, 60, true]);
    expect(second.lines).toHaveLength(60);
    expect(pagesRead()).toEqual([]);
  });

  it('while it asks tag by tag keeps the digests that it was told', async () => {
    for (let tag = 10; tag < 50; tag += 1) {
      put(hub.store, 'acme/app', `v${tag}`, buildManifest({ seed: `${run} ${tag}`, layers: [10] }));
    }
    hub.tellsDigests = false;
    const first = new Delivery(rulesOf(one));
    hub.registry.intercept = ({ url }) => {
      if (url.endsWith('/v40')) first.endTime();
      return undefined;
    };
    await first.carryOut(request());
    hub.registry.intercept = undefined;
    hub.registry.requests.length = 0;
    const second = new Delivery(rulesOf(one));
    await second.carryOut(first.later[0] ?? request());
    hub.tellsDigests = true;
    expect(second.sent).toHaveLength(40);
    // Some sixteen were on their way.
    expect(new Set(hub.registry.requests.map(({ url }) => url)).size).toBeLessThan(30);
  });

  it('before it has come any further, again and again, fails', async () => {
    fill('acme/app', 3);
    let next: PlanRequest | undefined = request();
    let delivery = new Delivery(rulesOf(one));
    for (let nth = 0; nth <= 5 && !delivery.ended && next !== undefined; nth += 1) {
      delivery = new Delivery(rulesOf(one));
      if (nth < 5) delivery.endTime();
      await delivery.carryOut(next);
      next = delivery.later[0];
    }
    expect(delivery.lines).toMatchObject([{ outcome: 'failed', error: { code: 'ERR_TIMEOUT' } }]);
  });
});

describe('a plan that breaks off', () => {
  it('in the middle of the fan-out sends the rest when its message comes again', async () => {
    fill('acme/app', 60);
    const request = planRequestSchema.parse({ kind: 'plan', id: 'plan-app', run, rule: 'app' });
    const first = new Delivery(rulesOf(one), (nth) => {
      if (nth === 55) throw new HubferryError('ERR_STORAGE', 'The queue takes nothing');
    });
    await expect(first.carryOut(request)).rejects.toMatchObject({ code: 'ERR_STORAGE' });
    const second = new Delivery(rulesOf(one));
    await second.carryOut(request);
    const sent = [...first.sent, ...second.sent];
    expect([second.ended, sent.length, isUnique(sent)]).toEqual([true, 60, true]);
  });

  it('for good leaves nothing behind in the end', async () => {
    fill('acme/app', 60);
    const request = planRequestSchema.parse({ kind: 'plan', id: 'plan-app', run, rule: 'app' });
    const first = new Delivery(rulesOf(one), (nth) => {
      if (nth === 55) throw new HubferryError('ERR_STORAGE', 'The queue takes nothing');
    });
    await expect(first.carryOut(request)).rejects.toMatchObject({ code: 'ERR_STORAGE' });
    expect(await keysOf(`plans/${run}/`)).not.toEqual([]);
    await tidyPlans(stores.state, 3600_000);
    expect(await keysOf(`plans/${run}/`)).not.toEqual([]);
    await tidyPlans(stores.state, -3600_000);
    expect(await keysOf(`plans/${run}/`)).toEqual([]);
  });
});
