/**
 * `npm run chaos -- --seed N --minutes M`: the published function app, two instances of it, among peers that fail at random
 * and instances that are killed; then the promises of the product are checked. The same seed gives the same pushes and
 * faults, as far as time lets it.
 */

import { writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { type Arguments, readArguments, usage } from './chaos/arguments.ts';
import { Owner, rulesOf } from './chaos/owner.ts';
import { mirrorIsWhole, nothingIsLeft, promisesKept, readReports, Watch } from './chaos/promises.ts';
import { Scene } from './chaos/scene.ts';
import { buildApp } from './cloud.ts';
import { type Random, seeded } from './random.ts';

export interface ChaosOptions {
  readonly seed: number;
  /** How long faults go on. */
  readonly stormMs: number;
  /** Whether waits of a minute and more are part of it. @default false */
  readonly long?: boolean;
  readonly tell?: (text: string) => void;
}

export interface ChaosResult {
  /** Promises that were broken; none is the point of it all. */
  readonly violations: readonly string[];
  readonly figures: Readonly<Record<string, number>>;
  /** Every line that the instances logged. */
  readonly log: string;
}

const minuteMs = 60_000;
const dayMs = 24 * 60 * minuteMs;

/** Share of requests that something happens to. */
const faultRate = 0.08;
/** Clocks of two machines may differ by so much. */
const skewMs = 40_000;
/** A parked request waits no longer, but for a limit of pulls, which this Docker Hub has not. */
const longestParkMs = 10 * minuteMs;

export async function runChaos({
  seed,
  stormMs,
  long = false,
  tell = () => {},
}: ChaosOptions): Promise<ChaosResult> {
  const app = await buildApp();
  await using scene = await Scene.start(app.appRoot, rulesOf);
  await using _app = { [Symbol.asyncDispose]: async () => app.remove() };
  const random = seeded(seed);
  const owner = new Owner(scene, random);
  const watch = new Watch(scene, owner);
  const sampler = setInterval(() => watch.look(), 50);
  try {
    for (let count = 0; count < 12; count += 1) await owner.push(false);
    await scene.startHosts(0, skewMs);
    tell('The storm begins.');
    scene.storm({ seed, rate: faultRate, long });
    const storm = new Storm(scene, owner, random, tell);
    await storm.rage(stormMs);
    scene.calm();
    tell('Calm. What was taken has to arrive.');
    const violations = await judge(scene, owner, storm.kills, tell).catch((error: unknown) => [
      String(error),
    ]);
    violations.push(...watch.violations);
    return { violations, figures: await figuresOf(scene, storm.kills), log: logOf(scene) };
  } finally {
    clearInterval(sampler);
  }
}

/** Everything comes to its end in calm; then what did not hold. */
async function judge(
  scene: Scene,
  owner: Owner,
  kills: number,
  tell: (text: string) => void,
): Promise<string[]> {
  await settle(scene, tell);
  const broken = await promisesKept(scene, owner);
  tell('A last plan.');
  await scene.timer('schedule');
  await settle(scene, tell);
  if ((await hasAny(scene, 'checkpoints', '')) || (await hasAny(scene, 'state', 'outstanding/'))) {
    tell('A copy was given up, or a message lost; a week passes.');
    await scene.startHosts(8 * dayMs);
    await scene.timer('release');
  }
  return [
    ...broken,
    ...(await mirrorIsWhole(scene, owner)),
    ...(await nothingIsLeft(scene)),
    ...pullsAreBounded(scene, owner, kills),
    ...uploadsAreExplained(scene, kills),
  ];
}

/** What happens while faults rage. */
class Storm {
  kills = 0;
  readonly #scene: Scene;
  readonly #owner: Owner;
  readonly #random: Random;
  readonly #tell: (text: string) => void;

  constructor(scene: Scene, owner: Owner, random: Random, tell: (text: string) => void) {
    this.#scene = scene;
    this.#owner = owner;
    this.#random = random;
    this.#tell = tell;
  }

  async rage(ms: number): Promise<void> {
    const until = Date.now() + ms;
    await this.#timer('schedule');
    // One worker dies early, and near the end both machines are lost.
    let next = Date.now() + ms / 4;
    while (Date.now() < until) {
      await this.#act();
      await delay(this.#random.between(20, 300));
      if (Date.now() > next) {
        await this.#killWorker();
        next = Date.now() + this.#random.between(ms / 4, ms / 2);
      }
    }
    await this.#loseMachines();
  }

  async #act(): Promise<void> {
    const chance = this.#random.next();
    if (chance < 0.6) await this.#owner.push(this.#random.next() < 0.8);
    else if (chance < 0.65) this.#owner.delete();
    else if (chance < 0.75) await this.#timer('release');
    else if (chance < 0.8) await this.#timer('schedule');
    else if (chance < 0.84) await this.#byHand('sync', { force: this.#random.next() < 0.3 });
    else if (chance < 0.87) await this.#pauseForAMoment();
    else if (chance < 0.9) this.#scene.acr.loseUploads();
    else if (chance < 0.93) this.#scene.acr.revokeAccessTokens();
    else if (chance < 0.95) this.#scene.acr.revokeRefreshTokens();
    else if (chance < 0.97) this.#scene.hub.tokens.authority.revoke();
    else await this.#breakALease();
  }

  /** A timer may fail as anything else; its next time comes. */
  async #timer(name: string): Promise<void> {
    await this.#random
      .pick(this.#scene.hosts)
      .invokeTimer(name)
      .catch(() => undefined);
  }

  async #byHand(name: string, body: object): Promise<void> {
    const host = this.#random.pick(this.#scene.hosts);
    const headers = { 'x-functions-key': host.key() };
    const answer = await fetch(`${host.url}/api/${name}`, {
      method: 'POST',
      headers,
      body: JSON.stringify(body),
    });
    await answer.arrayBuffer();
  }

  async #pauseForAMoment(): Promise<void> {
    await this.#byHand('control', { action: 'pause' });
    await delay(200);
    await this.#byHand('control', { action: 'resume' });
  }

  /** Of an upload under way: its owner has to notice. */
  async #breakALease(): Promise<void> {
    const leases = await this.#scene.leases();
    const upload = leases.find((name) => name.startsWith('checkpoints/uploads/'));
    if (upload !== undefined) await this.#scene.breakLease(upload);
  }

  async #killWorker(): Promise<void> {
    const pid = await this.#random.pick(this.#scene.hosts).workerPid();
    if (pid === undefined) return;
    this.#tell(`kill -9 ${pid}`);
    this.kills += 1;
    process.kill(pid, 'SIGKILL');
  }

  /** Both at once, so that the leases that they held can be ended without waiting for them. */
  async #loseMachines(): Promise<void> {
    this.#tell('Both machines are lost.');
    this.kills += 2;
    await this.#scene.stopHosts();
    // What a minute of waiting would do.
    for (const lease of await this.#scene.leases()) await this.#scene.breakLease(lease);
    await this.#scene.startHosts(0, skewMs);
  }
}

const idleMs = 240_000;

/** Lets everything end: messages, then what is parked, for which time passes faster than ours. */
async function settle(scene: Scene, tell: (text: string) => void): Promise<void> {
  await resume(scene);
  await scene.idle(idleMs);
  for (let jumps = 1; jumps <= 8; jumps += 1) {
    if (!(await hasAny(scene, 'state', 'parked/')) && !(await hasAny(scene, 'runs', 'open/'))) return;
    tell('What is parked waits; time passes.');
    await scene.startHosts(jumps * longestParkMs);
    await scene.timer('release');
    await scene.idle(idleMs);
    await scene.timer('release');
    await scene.idle(idleMs);
  }
}

/** The storm may have eaten the end of a pause. */
async function resume(scene: Scene): Promise<void> {
  const [host] = scene.hosts;
  const headers = { 'x-functions-key': host?.key() ?? '' };
  await fetch(`${host?.url}/api/control`, { method: 'POST', headers, body: '{"action":"resume"}' });
}

async function hasAny(scene: Scene, container: string, prefix: string): Promise<boolean> {
  for await (const _ of scene.container(container).listBlobsFlat({ prefix })) return true;
  return false;
}

/** A manifest is pulled once; a broken answer and a kill may cost another pull. */
function pullsAreBounded({ hub, peers }: Scene, owner: Owner, kills: number): string[] {
  const source = peers.find(({ name }) => name === 'source')?.proxy.log ?? [];
  const broken = source.filter(
    ({ method, url, fault }) => method === 'GET' && url.includes('/manifests/') && fault !== undefined,
  );
  const bound = owner.manifests.size + broken.length + 16 * kills;
  return hub.pulls <= bound
    ? []
    : [`${hub.pulls} pulls for ${owner.manifests.size} manifests, at most ${bound} are explained`];
}

/** A session whose opening answer was lost, or whose owner was killed before it could write it down, is known to nobody. */
function uploadsAreExplained({ acr, peers }: Scene, kills: number): string[] {
  const target = peers.find(({ name }) => name === 'target')?.proxy.log ?? [];
  const lost = target.filter(({ url, fault }) => url.includes('/blobs/uploads/') && fault !== undefined);
  const bound = lost.length + 10 * kills;
  const left = acr.store.uploads.size;
  return left <= bound ? [] : [`${left} upload sessions are left, at most ${bound} are explained`];
}

async function figuresOf(scene: Scene, kills: number): Promise<Record<string, number>> {
  const faults = scene.peers.flatMap(({ proxy }) => proxy.log).filter(({ fault }) => fault !== undefined);
  const reports = await readReports(scene);
  const total = (key: string) =>
    reports.reduce((sum, { totals }) => sum + Number(totals[key as 'tags'] ?? 0), 0);
  return {
    requests: scene.peers.reduce((sum, { proxy }) => sum + proxy.log.length, 0),
    faults: faults.length,
    refusals: refusalsOf(scene),
    kills,
    pulls: scene.hub.pulls,
    uploadsLeft: scene.acr.store.uploads.size,
    runs: reports.length,
    copied: total('copied'),
    unchanged: total('unchanged'),
    superseded: total('superseded'),
    failed: total('failed'),
  };
}

/** What storage refused: a denial, a condition that did not hold, a lease of somebody else. */
function refusalsOf({ peers }: Scene): number {
  const storage = peers.filter(({ name }) => name === 'blobs' || name === 'queues');
  return storage
    .flatMap(({ proxy }) => proxy.log)
    .filter(({ status, fault }) => fault !== undefined && [403, 409, 412].includes(status)).length;
}

function logOf(scene: Scene): string {
  return scene.logs
    .map(({ level, functionName = '', invocationId = '', message }) =>
      [level, functionName, invocationId, message].join(' '),
    )
    .join('\n');
}

/** The command that does the same again. */
export function replayOf({ seed, stormMs }: Pick<ChaosOptions, 'seed' | 'stormMs'>): string {
  return `npm run chaos -- --seed ${seed} --minutes ${stormMs / 60_000}`;
}

async function main(args: readonly string[]): Promise<void> {
  const options = asked(args);
  if (options === undefined) return;
  console.log(replayOf(options));
  const started = performance.now();
  const tell = (text: string) =>
    console.log(`${((performance.now() - started) / 1000).toFixed(0).padStart(5)} s  ${text}`);
  const { violations, figures, log } = await runChaos({
    ...options,
    long: options.stormMs >= minuteMs,
    tell,
  });
  if (options.log !== undefined) await writeFile(options.log, log);
  console.table(figures);
  for (const violation of violations) console.error(violation);
  console.log(violations.length === 0 ? 'Every promise was kept.' : `Replay: ${replayOf(options)}`);
  process.exitCode = violations.length === 0 ? 0 : 1;
}

/** `undefined` where only something is to be told. */
function asked(args: readonly string[]): Arguments | undefined {
  try {
    const options = readArguments(args);
    if (options === undefined) console.log(usage);
    return options;
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error} See npm run chaos -- --help.`);
    process.exitCode = 2;
  }
}

if (import.meta.main) await main(process.argv.slice(2));
