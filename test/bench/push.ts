/** From the post of a web hook to the tag at the target, on the host with host.json's own polling. */
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { QueueServiceClient } from '@azure/storage-queue';
import { type Cloud, startCloud } from '../local/cloud.ts';
import { buildManifest, put, randomBlob } from '../local/content.ts';
import { webhookBody } from '../local/dockerhub.ts';
import type { Bench, Benchmark } from './benchmark.ts';
import { MiB } from './copying.ts';
import type { Figure } from './figure.ts';

const rules = `rules:
  - name: app
    source: docker.io/acme/app
    target: $ACR/mirror/app
  - name: backlog
    source: docker.io/acme/backlog
    target: $ACR/mirror/backlog
`;
const waiting = 1000;
/** More than are carried out in a round: as many are there in the last one too. */
const doneInARound = 100;
/** After so long without a message the host asks no more seldom (`maxPollingInterval`). */
const quietMs = 10_000;
const idleMs = 300_000;

interface Push {
  /** From the post to the tag. */
  readonly seconds: number;
  /** Answering the web hook and carrying out its message, without the host's wait in between. */
  readonly ownSeconds: number;
}

export const push: Benchmark = {
  name: 'push',
  about: 'seconds from web hook to tag, idle and with 1,000 copy requests waiting',
  async run(bench) {
    const rested = await afterIdleMinutes(bench);
    const cloud = await start(bench);
    try {
      const quiet: Push[] = [];
      for (let round = 1; round <= bench.rounds; round++) {
        bench.say(`idle, round ${round} of ${bench.rounds}`);
        quiet.push(await pushed(cloud, quietMs + Math.random() * 2000));
      }
      return [
        ...figuresOf('idle', quiet),
        ...figuresOf('after five idle minutes', rested),
        ...figuresOf('1,000 copies or more waiting', await behindBacklog(bench, cloud)),
      ];
    } finally {
      await cloud.close();
    }
  },
};

/** A cloud in which one push has arrived. */
async function start({ app }: Bench): Promise<Cloud> {
  const hub = { anonymousPulls: undefined };
  const cloud = await startCloud({ appRoot: app, rules, hub, azurite: { inFiles: true } });
  try {
    await pushed(cloud, 0);
    return cloud;
  } catch (error) {
    await cloud.close();
    throw error;
  }
}

/** One push to each of as many clouds as there are rounds: they rest together, and nobody waits for hours. */
async function afterIdleMinutes(bench: Bench): Promise<Push[]> {
  const clouds: Cloud[] = [];
  try {
    while (clouds.length < bench.rounds) clouds.push(await start(bench));
    bench.say(`${clouds.length} function apps rest for five minutes`);
    await delay(idleMs);
    const pushes: Push[] = [];
    for (const cloud of clouds) pushes.push(await pushed(cloud, 0));
    return pushes;
  } finally {
    await Promise.all(clouds.map((cloud) => cloud.close()));
  }
}

function figuresOf(when: string, pushes: readonly Push[]): Figure[] {
  return [
    {
      what: `web hook to tag, ${when}`,
      unit: 's',
      values: pushes.map(({ seconds }) => seconds),
      bar: { of: 'median', atMost: 3 },
    },
    {
      what: `hubferry's own part, ${when}`,
      unit: 's',
      values: pushes.map(({ ownSeconds }) => ownSeconds),
      bar: { of: 'median', atMost: 0.3 },
    },
  ];
}

/** Pushes 1 MiB that is new after a pause, and waits for it at the target. */
async function pushed({ hub, acr, host }: Cloud, pauseMs: number): Promise<Push> {
  await delay(pauseMs);
  const content = buildManifest({ layers: [randomBlob(randomUUID(), MiB), randomBlob('shared', MiB)] });
  await hub.push('acme/app', 'latest', content);
  const logged = host.logs.length;
  const posted = performance.now();
  const answer = await fetch(`${host.url}/api/webhook`, {
    method: 'POST',
    headers: { 'x-functions-key': host.key() },
    body: JSON.stringify(webhookBody('acme/app', 'latest')),
  });
  const answered = performance.now();
  if (answer.status !== 202) throw new Error(`the web hook was answered with ${answer.status}`);
  const isExecuting = () => host.logs.slice(logged).some(({ message }) => message === "Executing 'push'");
  const executing = await momentOf(isExecuting);
  const { digest } = content.descriptor;
  const mirrored = await momentOf(() => acr.repository('mirror/app').digestOf('latest') === digest);
  return {
    seconds: (mirrored - posted) / 1000,
    ownSeconds: (answered - posted + mirrored - executing) / 1000,
  };
}

/** To some milliseconds. */
async function momentOf(isSo: () => boolean): Promise<number> {
  const until = performance.now() + 60_000;
  while (!isSo()) {
    if (performance.now() > until) throw new Error('waited for a minute in vain');
    await delay(3);
  }
  return performance.now();
}

/** Copies that take their time (each blob a second to begin with), eight at once, while pushes come in. */
async function behindBacklog(bench: Bench, cloud: Cloud): Promise<Push[]> {
  const { hub, host, azurite } = cloud;
  const least = waiting + doneInARound * bench.rounds;
  // Some are carried out while others are still put into the queue.
  for (let tag = 1; tag <= 1.2 * least; tag++) {
    put(hub, 'acme/backlog', `1.${tag}`, buildManifest({ seed: `backlog ${tag}`, layers: [100_000] }));
  }
  hub.cdn.intercept = async ({ url }) => {
    if (url.startsWith('/acme/backlog/')) await delay(1000);
    return undefined;
  };
  const service = QueueServiceClient.fromConnectionString(azurite.connectionString);
  const copies = service.getQueueClient('copy-requests');
  await host.invokeTimer('schedule');
  const pushes: Push[] = [];
  const filled = performance.now() + 120_000;
  while (((await copies.getProperties()).approximateMessagesCount ?? 0) < least) {
    if (performance.now() > filled) throw new Error('the queue does not fill');
    await delay(100);
  }
  for (let round = 1; round <= bench.rounds; round++) {
    pushes.push(await pushed(cloud, quietMs / 2 + Math.random() * 2000));
    const { approximateMessagesCount: left = 0 } = await copies.getProperties();
    if (left < waiting) throw new Error(`only ${left} copies are still waiting`);
    bench.say(`${left} copies waiting, round ${round} of ${bench.rounds}`);
  }
  return pushes;
}
