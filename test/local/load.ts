/**
 * `npm run load`: two instances of the published function app under load, on this machine.
 *
 *   copies     10,000 copy requests: throughput, latency, memory and open sockets over time, nothing lost
 *   webhooks   posts as fast as they are taken, beside what Azurite takes of the same messages: rate, latency, nothing lost
 *   hot        a blob of several chunks that 500 tags want at once: one transfer, and nobody else is held up
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { QueueServiceClient } from '@azure/storage-queue';
import type { Report } from '../../lib/sync/runs/report.ts';
import { buildApp, type Cloud, startCloud } from './cloud.ts';
import { buildBlob, buildManifest, randomBlob } from './content.ts';
import { webhookBody } from './dockerhub.ts';

const rules = `rules:
  - { name: app, source: docker.io/acme/app, target: $ACR/mirror/app }
`;
const repository = 'acme/app';
const MiB = 1024 * 1024;

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    tags: { type: 'string', default: '10000' },
    seconds: { type: 'string', default: '20' },
    hot: { type: 'string', default: '500' },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) {
  console.log(`npm run load -- [--only copies|webhooks|hot]    (all of them take about half an hour)

  copies    --tags N      copy requests (10,000): throughput, latency, memory and open sockets over time, nothing lost
  webhooks  --seconds N   posts as fast as they are taken (20 s), beside what Azurite takes: rate, latency, nothing lost
  hot       --hot N       tags (500) that want one blob at once: one transfer, and nobody else is held up`);
  process.exit();
}

const settings = { PULL_RESERVE: '0' };

const httpAlone = Object.fromEntries(
  ['plan', 'copy', 'push', 'planPoison', 'copyPoison', 'pushPoison'].map((name) => [
    `AzureWebJobs.${name}.Disabled`,
    'true',
  ]),
);

let wrong = 0;

function tell(text: string): void {
  console.log(text);
}

function expect(holds: boolean, what: string): void {
  tell(`   ${holds ? 'kept  ' : 'BROKEN'}  ${what}`);
  if (!holds) wrong += 1;
}

async function copies(cloud: Cloud): Promise<void> {
  const count = Number(values.tags);
  for (let index = 0; index < count; index += 1) {
    // One byte string for all: what is measured is the way of the requests.
    const content = buildManifest({ layers: [shared], annotations: { index: String(index) } });
    await cloud.hub.push(repository, `t${index}`, content);
  }
  const meter = await Meter.start(cloud);
  await cloud.host.invokeTimer('schedule');
  const target = cloud.acr.repository('mirror/app');
  while (target.tags.size < count) {
    await delay(5000);
    await meter.look(`${target.tags.size} tags`);
  }
  const seconds = meter.seconds();
  await idle(cloud);
  await meter.look('idle');
  const report = await lastReport(cloud, 'schedule');
  const durations = report.tags.map(({ durationMs = 0 }) => durationMs);
  tell(`   ${count} requests in ${seconds.toFixed(0)} s: ${(count / seconds).toFixed(0)} a second`);
  tell(`   a request: ${percentiles(durations)}`);
  expect(
    report.totals.copied === count && report.totals.tags === count,
    `all ${count} are copied and reported`,
  );
  expect(report.totals.pulls === count, `${report.totals.pulls} pulls for ${count} manifests`);
  expect(
    meter.rssGrowth() < 100 * MiB,
    `memory grew by ${(meter.rssGrowth() / MiB).toFixed(0)} MiB over the second half`,
  );
  expect(meter.sockets() < 200, `at most ${meter.sockets()} sockets`);
}

const shared = buildBlob(Buffer.from('one layer for all'));
const callers = 32;

async function webhooks(cloud: Cloud): Promise<void> {
  const ms = Number(values.seconds) * 1000;
  await cloud.hub.push(repository, 'latest', buildManifest({ layers: [shared] }));
  const queues = QueueServiceClient.fromConnectionString(cloud.azurite.connectionString);
  const probe = queues.getQueueClient('probe');
  await probe.create();
  const body = Buffer.from(JSON.stringify(webhookBody(repository, 'latest'))).toString('base64');
  const own = await hammer(ms / 2, async () => {
    await probe.sendMessage(body);
    return true;
  });
  // Azurite looks through the messages of all its queues for each that it hands out.
  await probe.delete();
  tell(`   Azurite takes ${own.rate.toFixed(0)} messages a second from ${callers} callers`);
  const statuses = new Map<number, number>();
  let sent = 0;
  const posted = await hammer(ms, async () => {
    sent += 1;
    const host = cloud.hosts[sent % cloud.hosts.length] ?? cloud.host;
    const answer = await fetch(`${host.url}/api/webhook`, {
      method: 'POST',
      headers: { 'x-functions-key': host.key() },
      body: JSON.stringify(webhookBody(repository, `t${sent}`)),
    });
    await answer.arrayBuffer();
    statuses.set(answer.status, (statuses.get(answer.status) ?? 0) + 1);
    return answer.status === 202;
  });
  const taken = statuses.get(202) ?? 0;
  tell(
    `   ${posted.rate.toFixed(0)} webhooks a second are taken, ${percentiles(posted.latencies)}; ${describe(statuses)}`,
  );
  expect(
    posted.rate >= 0.8 * own.rate,
    `${(posted.rate / own.rate).toFixed(2)} of Azurite's own rate, at least 0.8`,
  );
  expect(
    at(posted.latencies, 0.99) <= 1000,
    `99 of 100 are answered within ${at(posted.latencies, 0.99).toFixed(0)} ms, at most 1000`,
  );
  await cloud.addInstance({ 'AzureWebJobs.push.Disabled': 'false' });
  expect(
    [...statuses.keys()].every((status) => status === 202 || status === 503),
    'answers are 202 or 503',
  );
  await idle(cloud);
  const reports = await webhookReports(cloud);
  const lines = reports.reduce((sum, { tags }) => sum + tags.length, 0);
  expect(lines === taken, `${lines} requests are in the reports of ${taken} that were taken`);
}

async function hot(cloud: Cloud): Promise<void> {
  const count = Number(values.hot);
  const others = 50;
  const blob = randomBlob('hot', 40 * MiB);
  for (let index = 0; index < count; index += 1) {
    const content = buildManifest({ layers: [blob], annotations: { index: String(index) } });
    await cloud.hub.push(repository, `hot${index}`, content);
  }
  for (let index = 0; index < others; index += 1) {
    await cloud.hub.push(
      repository,
      `zother${index}`,
      buildManifest({ seed: `other ${index}`, layers: [1000] }),
    );
  }
  // Twenty seconds for the blob.
  cloud.hub.cdn.bytesPerSecond = 2 * MiB;
  await cloud.host.invokeTimer('schedule');
  const target = cloud.acr.repository('mirror/app');
  const started = performance.now();
  let othersDone = Number.POSITIVE_INFINITY;
  let hotDone = 0;
  while (target.tags.size < count + others) {
    await delay(200);
    const seconds = (performance.now() - started) / 1000;
    const there = target.tagNames().filter((tag) => tag.startsWith('zother')).length;
    if (there === others) othersDone = Math.min(othersDone, seconds);
    if (hotDone === 0 && target.blobs.has(blob.descriptor.digest)) hotDone = seconds;
    if (seconds > 600) break;
  }
  await idle(cloud);
  const bytes = cloud.acr.requests
    .filter(({ method, url }) => /PATCH|PUT/.test(method) && url.includes('/blobs/uploads/'))
    .reduce((sum, { received }) => sum + received, 0);
  tell(`   the hot blob is there after ${hotDone.toFixed(1)} s, the others after ${othersDone.toFixed(1)} s`);
  const report = await lastReport(cloud, 'schedule');
  expect(report.totals.copied === count + others, `all ${count + others} tags are copied`);
  expect(
    bytes < blob.descriptor.size + 2 * MiB,
    `${(bytes / MiB).toFixed(1)} MiB were uploaded for a blob of 40`,
  );
  expect(othersDone < hotDone, 'nobody else waited for it');
}

/** Memory and sockets of the workers over time, from /proc. */
class Meter {
  readonly #pids: readonly number[];
  readonly #started = performance.now();
  readonly #rss: number[] = [];
  #sockets = 0;

  private constructor(pids: readonly number[]) {
    this.#pids = pids;
  }

  static async start({ hosts }: Cloud): Promise<Meter> {
    const pids = await Promise.all(hosts.map((host) => host.workerPid()));
    return new Meter(pids.filter((pid) => pid !== undefined));
  }

  seconds(): number {
    return (performance.now() - this.#started) / 1000;
  }

  async look(what: string): Promise<void> {
    const rss = Math.max(...this.#pids.map(rssOf));
    const sockets = Math.max(...this.#pids.map(socketsOf));
    this.#rss.push(rss);
    this.#sockets = Math.max(this.#sockets, sockets);
    tell(
      `   ${this.seconds().toFixed(0).padStart(4)} s  ${what}, ${(rss / MiB).toFixed(0)} MiB, ${sockets} sockets`,
    );
  }

  rssGrowth(): number {
    const middle = this.#rss[Math.floor(this.#rss.length / 2)] ?? 0;
    return (this.#rss.at(-1) ?? 0) - middle;
  }

  sockets(): number {
    return this.#sockets;
  }
}

function rssOf(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024;
}

function socketsOf(pid: number): number {
  const open = readdirSync(`/proc/${pid}/fd`);
  return open.filter((fd) => isSocket(`/proc/${pid}/fd/${fd}`)).length;
}

function isSocket(fd: string): boolean {
  try {
    return readlinkSync(fd).startsWith('socket:');
  } catch {
    // It was closed meanwhile.
    return false;
  }
}

/** Calls again and again, many at once, for so long; the rate counts what was taken. */
async function hammer(
  ms: number,
  call: () => Promise<boolean>,
): Promise<{ rate: number; latencies: number[] }> {
  const latencies: number[] = [];
  const started = performance.now();
  let taken = 0;
  await Promise.all(
    Array.from({ length: callers }, async () => {
      while (performance.now() - started < ms) {
        const begun = performance.now();
        if (await call()) taken += 1;
        latencies.push(performance.now() - begun);
      }
    }),
  );
  return { rate: taken / ((performance.now() - started) / 1000), latencies };
}

function percentiles(latencies: readonly number[]): string {
  const [half, most, all] = [at(latencies, 0.5), at(latencies, 0.99), at(latencies, 1)];
  return `p50 ${half.toFixed(0)} ms, p99 ${most.toFixed(0)} ms, longest ${all.toFixed(0)} ms`;
}

function at(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}

function describe(statuses: ReadonlyMap<number, number>): string {
  return [...statuses].map(([status, count]) => `${count} × ${status}`).join(', ');
}

async function idle({ hosts }: Cloud): Promise<void> {
  for (let looks = 0; looks < 2; looks += 1) await Promise.all(hosts.map((host) => host.idle(600_000)));
}

async function read<T>({ host }: Cloud, path: string): Promise<T> {
  const answer = await fetch(`${host.url}/api/${path}`, { headers: { 'x-functions-key': host.key() } });
  return (await answer.json()) as T;
}

interface RunsOfStatus {
  readonly runs: readonly { readonly run: { readonly id: string; readonly trigger: string } }[];
  readonly openRuns: readonly string[];
}

async function lastReport(cloud: Cloud, trigger: string): Promise<Report> {
  // As each minute: it closes a run of which no instance saw for certain that nothing was out any more.
  await cloud.host.invokeTimer('release');
  const { runs } = await read<RunsOfStatus>(cloud, 'status');
  const last = runs.find(({ run }) => run.trigger === trigger);
  return read(cloud, `status/${last?.run.id}`);
}

/** Of open runs too: what is parked is in them. */
async function webhookReports(cloud: Cloud): Promise<Report[]> {
  const { runs, openRuns } = await read<RunsOfStatus>(cloud, 'status');
  const ids = new Set([
    ...runs.map(({ run }) => run.id),
    ...openRuns.map((run) => (typeof run === 'string' ? run : '')),
  ]);
  const reports = await Promise.all([...ids].map((id) => read<Report>(cloud, `status/${id}`)));
  return reports.filter((report) => report.run?.trigger === 'webhook');
}

const app = await buildApp();
try {
  for (const [name, run] of Object.entries({ copies, webhooks, hot })) {
    if (values.only !== undefined && values.only !== name) continue;
    const cloud = await startCloud({
      appRoot: app.appRoot,
      rules,
      instances: 2,
      // As in Flex Consumption, what takes webhooks does not copy: HTTP functions scale apart from each queue's.
      settings: name === 'webhooks' ? { ...settings, ...httpAlone } : settings,
      hub: { anonymousPulls: undefined, log: false },
      azurite: { inFiles: true },
    });
    try {
      tell(`\n${name}`);
      await run(cloud);
    } finally {
      await cloud.close();
    }
  }
} finally {
  app.remove();
}
process.exitCode = wrong === 0 ? 0 : 1;
