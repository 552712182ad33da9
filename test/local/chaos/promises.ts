/** What has to hold, whatever happened (the product's promises), read from the stand-ins and from storage. */
import { createHash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { QueueServiceClient } from '@azure/storage-queue';
import type { Digest } from '../../../lib/oci/descriptor.ts';
import { isReferrerTag } from '../../../lib/oci/reference.ts';
import { queues } from '../../../lib/storage/ports.ts';
import type { Report } from '../../../lib/sync/runs/report.ts';
import { cosignTag } from '../content.ts';
import { fieldsOf, type LocalRepository } from '../store.ts';
import { type Mirror, mirrors, type Owner } from './owner.ts';
import type { Scene } from './scene.ts';

/** Looks at the target again and again while everything goes on. */
export class Watch {
  readonly violations = new Set<string>();
  readonly #scene: Scene;
  readonly #owner: Owner;
  /** Where in its history a target tag was seen last. */
  readonly #seen = new Map<string, number>();
  readonly #complete = new Set<string>();

  constructor(scene: Scene, owner: Owner) {
    this.#scene = scene;
    this.#owner = owner;
  }

  /** Every tag is old or new, never older than it was, and complete. */
  look(): void {
    for (const mirror of mirrors) {
      for (const target of mirror.targets) {
        const repository = this.#scene.acr.repository(target);
        for (const [tag, { digest }] of repository.tags) {
          if (!this.#isComplete(repository, digest)) this.#violated(`${target}:${tag} is not complete`);
          if (!isReferrerTag(tag)) this.#compare(mirror, target, tag, digest);
        }
      }
    }
  }

  #compare(mirror: Mirror, target: string, tag: string, digest: Digest): void {
    const history = this.#owner.history.get(`${mirror.source}:${tag}`) ?? [];
    const at = history.indexOf(digest);
    const name = `${target}:${tag}`;
    if (at < 0) this.#violated(`${name} is ${digest}, which its source never was`);
    else if (at < (this.#seen.get(name) ?? 0)) this.#violated(`${name} moved backwards, to ${digest}`);
    this.#seen.set(name, at);
  }

  #isComplete(repository: LocalRepository, digest: Digest): boolean {
    const key = `${repository.name}@${digest}`;
    if (this.#complete.has(key)) return true;
    const manifest = repository.manifests.get(digest);
    if (manifest === undefined) return false;
    const { config, layers = [], manifests = [] } = fieldsOf(manifest.bytes);
    const blobs = config === undefined ? layers : [config, ...layers];
    const whole =
      blobs.every((blob) => repository.blobs.get(blob.digest)?.size === blob.size) &&
      manifests.every((child) => this.#isComplete(repository, child.digest));
    if (whole) this.#complete.add(key);
    return whole;
  }

  #violated(what: string): void {
    this.violations.add(what);
  }
}

/** A push that was answered with 202 has arrived without a further plan, or its failure is in a report. */
export async function promisesKept(scene: Scene, owner: Owner): Promise<string[]> {
  const reports = await readReports(scene);
  const failed = new Set(
    reports.flatMap(({ tags }) =>
      tags.filter(({ outcome }) => outcome === 'failed').map(({ target }) => target),
    ),
  );
  const broken: string[] = [];
  for (const mirror of mirrors) {
    for (const target of mirror.targets) {
      for (const [tag] of scene.hub.repository(mirror.source).tags) {
        const name = `${scene.acr.host}/${target}:${tag}`;
        if (!owner.promised.has(`${mirror.source}:${tag}`) || failed.has(name)) continue;
        const is = scene.acr.repository(target).digestOf(tag);
        const expected = owner.expected(mirror, tag);
        if (is !== expected)
          broken.push(`${target}:${tag} was promised by a webhook, and is ${is} instead of ${expected}`);
      }
    }
  }
  return broken;
}

/** After a last plan in calm: all tags are there, byte for byte, and what should be gone is. */
export async function mirrorIsWhole(scene: Scene, owner: Owner): Promise<string[]> {
  const wrong: string[] = [];
  for (const mirror of mirrors) {
    const source = scene.hub.repository(mirror.source);
    for (const target of mirror.targets) {
      const repository = scene.acr.repository(target);
      for (const [tag, { digest }] of source.tags) {
        if (isReferrerTag(tag)) continue;
        const expected = owner.expected(mirror, tag);
        const is = repository.digestOf(tag);
        if (is !== expected) wrong.push(`${target}:${tag} is ${is} instead of ${expected}`);
        const signature = cosignTag(digest, 'sig');
        const signed = source.digestOf(signature);
        if (!mirror.narrow && signed !== repository.digestOf(signature))
          wrong.push(`${target}:${tag} lacks its signature`);
      }
      for (const tag of repository.tagNames()) {
        if (mirror.prune && !isReferrerTag(tag) && !source.tags.has(tag))
          wrong.push(`${target}:${tag} should be gone`);
      }
      wrong.push(...(await wrongBytes(repository)));
    }
  }
  return wrong;
}

async function wrongBytes(repository: LocalRepository): Promise<string[]> {
  const wrong: string[] = [];
  for (const [digest, { bytes }] of repository.manifests) {
    if (digest !== `sha256:${createHash('sha256').update(bytes).digest('hex')}`)
      wrong.push(`${repository.name}@${digest} has wrong bytes`);
  }
  for (const [digest, blob] of repository.blobs) {
    const hash = createHash('sha256');
    for await (const piece of blob.open(0, blob.size)) hash.update(piece);
    if (digest !== `sha256:${hash.digest('hex')}`)
      wrong.push(`${repository.name}: blob ${digest} has wrong bytes`);
  }
  return wrong;
}

/** Nothing waits, nobody holds anything, every run is closed, and closed once. */
export async function nothingIsLeft(scene: Scene): Promise<string[]> {
  const left: string[] = [];
  for (const [container, prefix, what] of [
    ['state', 'parked/', 'a parked request'],
    ['state', 'outstanding/', 'an outstanding mark'],
    ['checkpoints', 'uploads/', 'a checkpoint'],
    ['checkpoints', 'manifests/', 'a manifest that was kept for a restart'],
    ['runs', 'open/', 'an open run'],
  ] as const) {
    for await (const { name } of scene.container(container).listBlobsFlat({ prefix }))
      left.push(`${what}: ${name}`);
  }
  // What no open run waited for stands in a run of its own.
  for await (const { name } of scene.container('runs').listBlobsFlat({ prefix: 'parts/' }))
    if (/-late[^/]*\/end-/.test(name)) left.push(`an end that no run told: ${name}`);
  left.push(...(await leasesThatStay(scene)));
  const service = QueueServiceClient.fromConnectionString(scene.azurite.connectionString);
  for (const queue of queues.flatMap((name) => [name, `${name}-poison`])) {
    const { approximateMessagesCount = 0 } = await service.getQueueClient(queue).getProperties();
    if (approximateMessagesCount > 0) left.push(`${approximateMessagesCount} messages in ${queue}`);
  }
  return [...left, ...(await runsAreSound(scene))];
}

const longestLeaseMs = 60_000;

/** A lease whose taking was given up may be given all the same, and ends by itself; one that is kept up does not. */
async function leasesThatStay(scene: Scene): Promise<string[]> {
  const until = Date.now() + longestLeaseMs + 5000;
  for (;;) {
    const leases = await scene.leases();
    if (leases.length === 0 || Date.now() > until) return leases.map((name) => `a lease: ${name}`);
    await delay(1000);
  }
}

async function runsAreSound(scene: Scene): Promise<string[]> {
  const wrong: string[] = [];
  const closings = new Map<string, number>();
  for (const { message } of scene.logs) {
    const run = /"message":"run closed".*"run":"([^"]+)"/.exec(message)?.[1];
    if (run !== undefined) closings.set(run, (closings.get(run) ?? 0) + 1);
  }
  for (const [run, times] of closings) if (times > 1) wrong.push(`the run ${run} was closed ${times} times`);
  for (const { run, totals, tags } of await readReports(scene)) {
    const {
      copied = 0,
      unchanged = 0,
      deleted = 0,
      skipped = 0,
      superseded = 0,
      deferred = 0,
      locked = 0,
    } = totals;
    const sum =
      copied + unchanged + deleted + skipped + superseded + deferred + locked + (totals.failed ?? 0);
    if (run.trigger === 'verify') continue;
    if (sum !== totals.tags || tags.length !== totals.tags) {
      wrong.push(`the totals of ${run.id} do not add up: ${sum} of ${totals.tags}, ${tags.length} lines`);
    }
  }
  return wrong;
}

export async function readReports(scene: Scene): Promise<Report[]> {
  const reports: Report[] = [];
  const runs = scene.container('runs');
  for await (const { name } of runs.listBlobsFlat({ prefix: 'reports/' })) {
    reports.push(JSON.parse((await runs.getBlobClient(name).downloadToBuffer()).toString()) as Report);
  }
  return reports;
}
