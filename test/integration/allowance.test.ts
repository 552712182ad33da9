/** More tags than a free account may pull in a day: they arrive in the end, and nothing is asked for twice meanwhile. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type AppOptions, handOver, startApp } from '../local/app.ts';
import {
  buildIndex,
  buildManifest,
  buildMultiPlatform,
  type Content,
  cosignSignature,
  cosignTag,
  put,
  referrerOf,
} from '../local/content.ts';

// Whoever waits moves the time on.
vi.mock('../../lib/sync/waiting.ts', async (load) => ({
  ...(await load<typeof import('../../lib/sync/waiting.ts')>()),
  sleepUntil: async (until: number) => void vi.setSystemTime(Math.max(until, Date.now())),
}));

const tags = 100;
/** So many in six hours. */
const pulls = 20;
/** Between two looks, of the many that `release` takes. */
const hoursApart = 2;

let app: Awaited<ReturnType<typeof startApp>>;
beforeEach(() => {
  // The clock alone is moved by hand; connections keep real time.
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() });
});
afterEach(async () => {
  vi.useRealTimers();
  await app.close();
});

async function start(options: Partial<AppOptions>): Promise<void> {
  app = await startApp({
    rules: '\n  - { name: app, source: docker.io/acme/app, target: $target/app }',
    ...options,
  });
}

async function parkedRequests(): Promise<number> {
  let count = 0;
  for await (const _ of app.parked.all()) count += 1;
  return count;
}

const child = buildManifest({ seed: 'shared', layers: [10] });
const indexFor = (architecture: string) =>
  buildIndex([{ manifest: child, platform: { os: 'linux', architecture } }]);

/** Holds up whoever asks the target for a manifest; `asked` is when the first one does. */
function holdUpAt({ descriptor }: Content): { readonly asked: Promise<void>; readonly goOn: () => void } {
  const [asked, free] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  app.target.intercept = async ({ method, url }) => {
    if (method !== 'GET' || !url.includes(descriptor.digest)) return undefined;
    asked.resolve();
    await free.promise;
    return undefined;
  };
  return { asked: asked.promise, goOn: () => free.resolve() };
}

describe('a first sync of five times the allowance', () => {
  it('runs for days without one failure, and later daily runs join what is parked', async () => {
    await start({ pulls });
    for (let index = 0; index < tags; index += 1)
      await app.hub.push('acme/app', `t${index}`, buildManifest({ seed: `${index}`, layers: [10] }));
    const mirrored = () => app.target.repository('app').tags.size;
    const arrived: number[] = [];
    for (let hours = 0; mirrored() < tags && hours < 72; hours += hoursApart) {
      if (hours % 24 === 0) {
        const outstanding = await parkedRequests();
        await app.schedule();
        await app.deliver();
        if (hours > 0) expect(await parkedRequests()).toBeLessThanOrEqual(outstanding);
      }
      arrived.push(mirrored());
      vi.advanceTimersByTime(hoursApart * 3600_000);
      await app.engine().releaser.release();
      await app.deliver();
    }
    expect(mirrored()).toBe(tags);
    expect(arrived[0]).toBe(pulls);
    expect(arrived.length * hoursApart).toBeGreaterThan(24);
    for (const { totals } of app.reports) expect(totals).toMatchObject({ failed: 0 });
  }, 120_000);

  it('tells what ends between two plans together: one partial run of the schedule for each hour, and none by hand', async () => {
    await start({ pulls });
    for (let index = 0; index < tags; index += 1)
      await app.hub.push('acme/app', `t${index}`, buildManifest({ seed: `${index}`, layers: [10] }));
    await app.schedule();
    await app.deliver();
    for (let minutes = 0; minutes < 72 * 60; minutes += 20) {
      vi.advanceTimersByTime(20 * 60_000);
      await app.engine().releaser.release();
      await app.deliver();
    }
    const late = app.reports.filter(({ run }) => run.partial);
    expect(new Set(app.reports.map(({ run }) => run.trigger))).toEqual(new Set(['schedule']));
    expect(app.reports.length - late.length).toBe(1);
    const hours = late.map(({ run }) => run.startedAt.slice(0, 13));
    expect(new Set(hours).size).toBe(hours.length);
    const copied = app.reports.flatMap(({ tags }) => tags.filter(({ outcome }) => outcome === 'copied'));
    expect(new Set(copied.map(({ target }) => target)).size).toBe(tags);
    expect(copied).toHaveLength(tags);
    const billed = app.reports.reduce((sum, { totals }) => sum + totals.pulls, 0);
    expect(billed).toBe(app.hub.pulls);
    expect(late.length).toBeLessThan(tags / 10);
    expect(await Array.fromAsync(app.stores.runs.list('parts/'))).toEqual([]);
    expect(await app.book.openRuns()).toEqual([]);
  }, 120_000);
});

describe('what is kept for pushes', () => {
  it('is left alone by a backlog, however much of it is copied at once', async () => {
    const reserve = 3;
    await start({ pulls: 10, pullReserve: reserve });
    for (let index = 0; index < 12; index += 1)
      await app.hub.push('acme/app', `t${index}`, buildManifest({ seed: `${index}`, layers: [10] }));
    await app.schedule();
    const engine = app.engine();
    for (const plan of app.queues.messages.splice(0)) await handOver(engine, plan);
    const copies = app.queues.messages.splice(0);
    await Promise.all(copies.map((copy) => handOver(engine, copy)));
    expect(app.hub.pulls).toBe(10 - reserve);
    const pushed = buildManifest({ seed: 'pushed', layers: [10] });
    await app.hub.push('acme/app', 'pushed', pushed);
    await engine.dispatcher.push('pushed', {
      repository: 'docker.io/acme/app',
      tag: 'pushed',
      pushedAt: Date.now(),
    });
    await app.deliver(engine);
    expect(app.digestAt('pushed')).toBe(pushed.descriptor.digest);
    // What was told of the last window is forgotten as soon as a HEAD tells of the next one.
    app.hub.resetWindow();
    vi.advanceTimersByTime(5000);
    for (const copy of copies) await handOver(engine, copy);
    expect(app.target.repository('app').tags.size).toBe(13);
  });

  it('is spent on no index of what refers to a tag', async () => {
    await start({ pulls: 3, pullReserve: 2 });
    const sbom = referrerOf(child, 'application/spdx+json');
    await app.hub.push('acme/app', '1', child);
    put(app.hub, 'acme/app', undefined, sbom);
    const index = buildIndex([{ manifest: sbom }]);
    await app.hub.push('acme/app', child.descriptor.digest.replace(':', '-'), index);
    await app.schedule();
    await app.deliver();
    expect(app.hub.pulls).toBe(1);
    expect(await parkedRequests()).toBe(1);
    app.hub.resetWindow();
    app.pullReserve = 0;
    vi.advanceTimersByTime(7 * 3600_000);
    await app.engine().releaser.release();
    await app.deliver();
    expect(app.target.repository('app').manifests.has(sbom.descriptor.digest)).toBe(true);
  });

  it('is there for a push that wants what a copy without pulls is at', async () => {
    await start({ pulls: 11, pullReserve: 10 });
    const pushed = indexFor('arm64');
    await app.hub.push('acme/app', 'backlog', indexFor('amd64'));
    await app.schedule();
    const engine = app.engine();
    for (const plan of app.queues.messages.splice(0)) await handOver(engine, plan);
    const { asked, goOn } = holdUpAt(child);
    const copies = app.queues.messages.splice(0).map((copy) => handOver(engine, copy));
    await asked;
    await app.hub.push('acme/app', 'pushed', pushed);
    await engine.dispatcher.push('pushed', {
      repository: 'docker.io/acme/app',
      tag: 'pushed',
      pushedAt: Date.now(),
    });
    const pushes = app.queues.messages.splice(0).map((push) => handOver(engine, push));
    // It has its own index, and is at what both name.
    const saved = () => app.stores.checkpoints.get(`manifests/${pushed.descriptor.digest}`);
    await vi.waitFor(async () => expect(await saved()).toBeDefined());
    goOn();
    await Promise.all([...copies, ...pushes]);
    expect([app.digestAt('pushed'), app.digestAt('backlog')]).toEqual([pushed.descriptor.digest, undefined]);
  });
});

describe('a check of a rule with platforms, whose indexes have to be pulled', () => {
  const platforms = ['amd64', 'arm64'].map((architecture) => ({ os: 'linux', architecture }));
  const tags = Array.from({ length: 8 }, (_, index) => `t${index}`);
  const check = { dryRun: false, force: false, verify: true };

  async function pushAll(version: string): Promise<void> {
    for (const tag of tags)
      await app.hub.push('acme/app', tag, buildMultiPlatform(`${version} ${tag}`, platforms, [10]));
  }

  /** All tags are at the target, and something else at the source by now. */
  async function startMoved(): Promise<void> {
    app = await startApp({
      rules: `
  - { name: app, source: docker.io/acme/app, target: $target/app, platforms: [linux/amd64] }`,
      pulls: 40,
    });
    await pushAll('old');
    await app.schedule();
    await app.deliver();
    await pushAll('new');
    app.hub.resetWindow();
  }

  /** How often each outcome, with its error, is in the report of a run. */
  function found(run: string): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const { outcome, error } of app.reports.find((report) => report.run.id === run)?.tags ?? []) {
      const what = [outcome, error?.code].filter(Boolean).join(' ');
      counts[what] = (counts[what] ?? 0) + 1;
    }
    return counts;
  }

  it.each([
    ['verify', 'moved', check],
    ['dry run', 'skipped', { dryRun: true, force: false }],
  ])(
    'leaves to pushes what is kept for them, and tells what it has seen: a %s',
    async (_, outcome, request) => {
      await startMoved();
      app.pullReserve = 38;
      const before = app.hub.pulls;
      await app.engine().dispatcher.start('check', 'verify', request);
      await app.deliver();
      expect(app.hub.pulls - before).toBe(2);
      expect(found('check')).toEqual({ [outcome]: 2, 'failed ERR_RATE_LIMITED': 6 });
    },
  );

  it('pulls nothing before the time that a refused pull was told, and tells of such a time itself', async () => {
    await startMoved();
    const gets = () =>
      app.hub.registry.requests.filter(({ method, url }) => method === 'GET' && url.includes('/manifests/'));
    app.hub.registry.intercept = ({ method, url }) => {
      if (method !== 'GET' || !url.includes('/manifests/')) return undefined;
      const headers = { 'retry-after': '7200', 'ratelimit-remaining': '0;w=21600' };
      return { kind: 'answer', status: 429, headers };
    };
    await app.engine().dispatcher.start('check', 'verify', check);
    await app.deliver();
    const refused = gets().length;
    await app.engine().dispatcher.start('another', 'verify', check);
    await app.schedule();
    await app.deliver();
    expect(gets()).toHaveLength(refused);
    for (const run of ['check', 'another'])
      expect(found(run)).toEqual({ 'failed ERR_RATE_LIMITED': tags.length });
  });
});

describe('a manifest that two rules want from different sources', () => {
  const first = indexFor('amd64');
  const second = indexFor('arm64');

  /** Copies both; the second comes to what both name while the first is at it. */
  async function copyBoth(limited: { readonly pulls?: number }): Promise<void> {
    app = await startApp({
      rules: `
  - { name: limited, source: docker.io/limited/app, target: $target/app, tags: { include: [first] } }
  - { name: paid, source: docker.io/paid/app, target: $target/app, tags: { include: [second] } }`,
      accounts: { limited, paid: {} },
    });
    await app.hub.push('limited/app', 'first', first);
    await app.hub.push('paid/app', 'second', second);
    await app.schedule();
    const engine = app.engine();
    for (const plan of app.queues.messages.splice(0)) await handOver(engine, plan);
    const { asked, goOn } = holdUpAt(child);
    const [copies = [], others = []] = ['limited', 'paid'].map((rule) =>
      app.queues.messages.filter(({ text }) => text.includes(`"rule":"${rule}"`)),
    );
    app.queues.messages.length = 0;
    const copying = copies.map((copy) => handOver(engine, copy));
    await asked;
    copying.push(...others.map((copy) => handOver(engine, copy)));
    const saved = () => app.stores.checkpoints.get(`manifests/${second.descriptor.digest}`);
    await vi.waitFor(async () => expect(await saved()).toBeDefined());
    goOn();
    await Promise.all(copying);
  }

  it('is pulled once', async () => {
    await copyBoth({});
    expect(app.hub.pulls).toBe(3);
    expect([app.digestAt('first'), app.digestAt('second')]).toEqual([
      first.descriptor.digest,
      second.descriptor.digest,
    ]);
  });

  it('is pulled by the one whose account has pulls left where the other came first', async () => {
    await copyBoth({ pulls: 1 });
    expect([app.digestAt('first'), app.digestAt('second')]).toEqual([undefined, second.descriptor.digest]);
  });
});

describe('a manifest whose copy is put off', () => {
  /** As other instances do. */
  async function goOnElsewhere(): Promise<void> {
    vi.advanceTimersByTime(7 * 3600_000);
    app.hub.resetWindow();
    await app.engine().releaser.release();
    await app.deliver(app.engine());
  }

  it('until its signature may be pulled is not pulled again', async () => {
    await start({ pulls: 1 });
    const { digest } = child.descriptor;
    await app.hub.push('acme/app', '1', child);
    await app.hub.push('acme/app', cosignTag(digest, 'sig'), cosignSignature(digest));
    await app.schedule();
    await app.deliver();
    expect([app.hub.pulls, app.digestAt('1')]).toEqual([1, undefined]);
    await goOnElsewhere();
    expect([app.hub.pulls, app.digestAt('1')]).toEqual([2, digest]);
    expect(await Array.fromAsync(app.stores.checkpoints.list('manifests/'))).toEqual([]);
  });

  it('since a blob failed for now is not pulled again', async () => {
    await start({ pulls: 9 });
    await app.hub.push('acme/app', '1', child);
    await app.schedule();
    app.hub.cdn.intercept = () => ({ kind: 'answer', status: 503 });
    for (let message = 0; message < 4; message += 1) {
      const next = app.queues.messages.shift();
      if (next !== undefined) await handOver(app.engine(), next);
    }
    app.hub.cdn.intercept = undefined;
    await app.deliver(app.engine());
    expect([app.hub.pulls, app.digestAt('1')]).toEqual([1, child.descriptor.digest]);
  });
});

describe('a manifest that goes to two targets', () => {
  const rules = `
  - { name: first, source: docker.io/acme/app, target: [$target/app, $target/twin] }
  - { name: second, source: docker.io/acme/other, target: $target/other }`;
  const two = ['1', '2'];

  async function startWith(pulls: number, names: readonly string[]): Promise<void> {
    await start({ pulls, rules });
    for (const name of names) {
      await app.hub.push('acme/app', name, buildManifest({ seed: `app ${name}`, layers: [10] }));
      await app.hub.push('acme/other', name, buildManifest({ seed: `other ${name}`, layers: [10] }));
    }
  }

  it('takes the one pull that is left', async () => {
    await startWith(1, []);
    await app.hub.push('acme/app', '1', buildManifest({ seed: 'one', layers: [10] }));
    const run = await app.schedule();
    await app.deliver();
    expect(app.reportOf(run)?.totals).toMatchObject({ copied: 2, deferred: 0, pulls: 1 });
  });

  it('takes one pull of those that others may have', async () => {
    await startWith(4, two);
    await app.schedule();
    const engine = app.engine();
    for (const plan of app.queues.messages.splice(0)) await handOver(engine, plan);
    const isOther = ({ text }: { text: string }) => text.includes('"rule":"second"');
    const [others, firsts] = [
      app.queues.messages.filter(isOther),
      app.queues.messages.filter((one) => !isOther(one)),
    ];
    app.queues.messages.length = 0;
    const free = Promise.withResolvers<void>();
    app.hub.cdn.intercept = async () => {
      await free.promise;
      return undefined;
    };
    const under = firsts.map((message) => handOver(engine, message));
    await vi.waitFor(() => expect(app.hub.cdn.requests.length).toBeGreaterThanOrEqual(firsts.length));
    const after = others.map((message) => handOver(engine, message));
    await vi.waitFor(() => expect(app.hub.pullsLeft()).toBe(0));
    free.resolve();
    await Promise.all([...under, ...after]);
    expect(app.target.repository('other').tagNames()).toEqual(two);
  });
});

it('a pull limit that asks for seconds parks nothing: it is waited for', async () => {
  await start({});
  const content = buildManifest({ seed: 'soon', layers: [10] });
  await app.hub.push('acme/app', 'soon', content);
  const until = Date.now() + 8000;
  const headers = { 'ratelimit-remaining': '0;w=21600', 'retry-after': '8' };
  app.hub.registry.intercept = ({ method, url }) =>
    method === 'GET' && url.includes('/manifests/') && Date.now() < until
      ? { kind: 'answer', status: 429, headers }
      : undefined;
  const run = await app.schedule();
  await app.deliver();
  expect(app.digestAt('soon')).toBe(content.descriptor.digest);
  expect(app.reportOf(run)?.totals).toMatchObject({ copied: 1, deferred: 0 });
});

describe('the allowance of one of two accounts', () => {
  const both = `
  - { name: limited, source: docker.io/limited/app, target: $target/limited }
  - { name: paid, source: docker.io/paid/app, target: $target/paid }`;
  const mirrored = (repository: string) => app.target.repository(repository).tags.size;

  async function startBoth(pulls: number): Promise<void> {
    app = await startApp({ rules: both, accounts: { limited: { pulls }, paid: {} } });
    for (const account of ['limited', 'paid']) {
      for (const tag of ['1', '2', '3'])
        await app.hub.push(`${account}/app`, tag, buildManifest({ seed: `${account} ${tag}`, layers: [10] }));
    }
  }

  it('holds up what that one reads alone, also where both are released together', async () => {
    await startBoth(1);
    await app.schedule();
    const engine = app.engine();
    for (const plan of app.queues.messages.splice(0)) await handOver(engine, plan);
    await app.control.pause();
    await app.deliver(engine);
    await app.control.resume();
    const [first] = app.queues.messages;
    expect([first, await parkedRequests()]).toEqual([undefined, 6]);
    await app.engine().releaser.release();
    await app.deliver();
    expect([mirrored('limited'), mirrored('paid')]).toEqual([1, 3]);
    await app.engine().releaser.release();
    await app.deliver();
    expect(await parkedRequests()).toBe(2);
  });

  it('holds up what that one reads alone where it is refused for hours', async () => {
    await startBoth(100);
    app.hub.registry.intercept = ({ method, url }) =>
      method === 'GET' && url.includes('/limited/app/manifests/')
        ? { kind: 'answer', status: 429, headers: { 'retry-after': '7200' } }
        : undefined;
    await app.schedule();
    await app.deliver();
    expect([mirrored('limited'), mirrored('paid')]).toEqual([0, 3]);
    for await (const { until } of app.parked.all())
      expect(until).toBeGreaterThanOrEqual(Date.now() + 7000_000);
  });
});
