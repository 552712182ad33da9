/** What stops a rule as a whole: a limit is waited for, a failure is told once. */
import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { type App, startApp } from '../../local/app.ts';
import { buildManifest, put } from '../../local/content.ts';
import { told, World } from './support.ts';

const content = buildManifest({ seed: 'limited' });
const hour = 3600_000;
const limited = { kind: 'answer', status: 429, headers: { 'retry-after': '7200' } } as const;

describe('a plan in the function app whose source asks to come back later', () => {
  let app: Awaited<ReturnType<typeof startApp>>;

  beforeEach(async () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    app = await startApp({
      rules: '- { source: docker.io/acme/app, target: [$target/app, $target/twin], name: app }',
    });
    for (let tag = 0; tag < 150; tag += 1) app.hub.repository('acme/app').setTag(`v${tag}`, digest);
    await app.hub.push('acme/app', 'latest', content);
  });
  afterEach(async () => {
    vi.useRealTimers();
    await app.close();
  });

  const { digest } = content.descriptor;

  async function later(there: App, hours: number): Promise<void> {
    vi.setSystemTime(Date.now() + hours * hour);
    await there.engine().releaser.release();
    await there.deliver();
  }

  it('is parked until then, shows so, and goes on with the page that it asked for', async () => {
    app.hub.api.intercept = ({ url }) => (url.includes('page=2') ? limited : undefined);
    const run = await app.schedule();
    await app.deliver();
    expect((await app.book.report(run))?.tags).toMatchObject([
      { source: 'docker.io/acme/app', outcome: 'deferred', reason: 'rate limit', until: expect.any(String) },
    ]);
    app.hub.api.intercept = undefined;
    app.hub.api.requests.length = 0;
    await later(app, 1);
    expect(app.hub.api.requests).toEqual([]);
    await later(app, 1.1);
    expect(app.hub.api.requests.map(({ url }) => url).filter((url) => /page=1\b/.test(url))).toEqual([]);
    expect(app.reportOf(run)?.totals).toMatchObject({ tags: 302, copied: 302, deferred: 0 });
  }, 60_000);

  it('is asked for what it lists five times, and has failed then', async () => {
    app.hub.api.intercept = ({ url }) => (url.includes('/tags?') ? limited : undefined);
    const run = await app.schedule();
    await app.deliver();
    for (let time = 0; time < 4; time += 1) {
      expect(app.reportOf(run)).toBeUndefined();
      await later(app, 2.1);
    }
    expect(app.reportOf(run)?.tags).toMatchObject([
      { outcome: 'failed', error: { code: 'ERR_RATE_LIMITED' } },
    ]);
  });

  it('is parked for a minute where that names no time', async () => {
    const one = await startApp({ rules: '- { source: docker.io/acme/app, target: $target/app }' });
    await one.hub.push('acme/app', 'latest', content);
    one.target.intercept = () => ({ kind: 'answer', status: 429 });
    const run = await one.schedule();
    await one.deliver();
    expect((await one.book.report(run))?.tags).toMatchObject([{ outcome: 'deferred', reason: 'rate limit' }]);
    one.target.intercept = undefined;
    await later(one, 0.1);
    expect(one.reportOf(run)?.totals).toMatchObject({ copied: 1, failed: 0 });
    await one.close();
  });
});

describe('a check or a dry run that a registry holds up past the next day', () => {
  const rules = '- { name: app, source: docker.io/acme/app, target: [$target/app, $target/twin] }';
  const refused = { outcome: 'failed', error: { code: 'ERR_RATE_LIMITED' } };
  let app: Awaited<ReturnType<typeof startApp>>;

  /** The tag has moved since it was mirrored; one target is not listed from now on. */
  beforeEach(async () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    app = await startApp({ rules });
    await app.hub.push('acme/app', '1', content);
    await app.schedule();
    await app.deliver();
    await app.hub.push('acme/app', '1', buildManifest({ seed: 'moved' }));
    app.reports.length = 0;
  });
  afterEach(async () => {
    vi.useRealTimers();
    await app.close();
  });

  function refuseTwin(hours: number): void {
    const headers = { 'retry-after': `${hours * 3600}` };
    app.target.intercept = ({ url }) =>
      url.includes('/v2/twin/tags/list') ? { kind: 'answer', status: 429, headers } : undefined;
  }

  async function pass(hours: number): Promise<void> {
    for (let hour = 0; hour < hours; hour += 1) {
      vi.setSystemTime(Date.now() + 3600_000);
      await app.engine().releaser.release();
      await app.deliver();
    }
  }

  it.each([6, 25])(
    'tells what it found, and what it could not: asked to come back in %i hours',
    async (hours) => {
      refuseTwin(hours);
      await app.engine().dispatcher.start('check', 'verify', { dryRun: false, force: false, verify: true });
      await app.deliver();
      await pass(30);
      expect(app.reportOf('check')?.tags).toMatchObject([
        { target: `${app.target.host}/app:1`, outcome: 'moved' },
        { target: `${app.target.host}/twin`, ...refused },
      ]);
    },
  );

  it('tells of all that it has asked for, also where that took requests of their own', async () => {
    for (let tag = 2; tag <= 310; tag += 1)
      app.hub.repository('acme/app').setTag(`v${tag}`, content.descriptor.digest);
    await app.schedule();
    await app.deliver();
    refuseTwin(25);
    await app.engine().dispatcher.start('check', 'verify', { dryRun: false, force: false, verify: true });
    await app.deliver();
    await pass(30);
    // Both are at one host, which asks everybody to come back later.
    expect(app.reportOf('check')?.tags).toMatchObject([
      { target: `${app.target.host}/app`, ...refused },
      { target: `${app.target.host}/twin`, ...refused },
    ]);
  }, 60_000);

  it('has found nothing of what it has not come to where it is cancelled meanwhile', async () => {
    refuseTwin(6);
    await app.engine().dispatcher.start('check', 'verify', { dryRun: false, force: false, verify: true });
    await app.deliver();
    await app.engine().releaser.cancel('check');
    await pass(8);
    expect(app.reportOf('check')).toMatchObject({
      run: { cancelled: true },
      totals: { moved: 1, failed: 0 },
    });
  });

  it('goes on where it may be told, and tells what it finds then', async () => {
    refuseTwin(6);
    await app.engine().dispatcher.start('check', 'verify', { dryRun: false, force: false, verify: true });
    await app.deliver();
    expect(app.reportOf('check')).toBeUndefined();
    app.target.intercept = undefined;
    await pass(8);
    expect(app.reportOf('check')?.totals).toMatchObject({ tags: 2, moved: 2, failed: 0 });
  });

  it.each([
    ['a check', { dryRun: false, force: false, verify: true }],
    ['a dry run', { dryRun: true, force: false }],
  ])('does nothing any more once its run is told: %s', async (_, request) => {
    refuseTwin(25);
    await app.engine().dispatcher.start('check', 'verify', request);
    await app.deliver();
    expect(app.reportOf('check')).toBeDefined();
    app.target.intercept = undefined;
    const before = app.target.requests.length;
    await pass(30);
    expect(app.target.requests).toHaveLength(before);
  });
});

describe('what people ask for by hand', () => {
  it('never waits behind the backlog, nor does what they have repaired', async () => {
    const app = await startApp({ rules: '- { source: docker.io/acme/app, target: $target/app, name: app }' });
    try {
      await app.hub.push('acme/app', '1', content);
      app.target.intercept = ({ method, url }) =>
        method === 'PUT' && url.endsWith('/manifests/1') ? { kind: 'answer', status: 400 } : undefined;
      const run = `run-${randomUUID()}`;
      await app.engine().dispatcher.start(run, 'manual', { dryRun: false, force: false });
      expect(await queuesPassed(app)).toEqual(['plan-requests', 'push-requests']);
      expect(app.reportOf(run)?.totals).toMatchObject({ failed: 1 });
      app.target.intercept = undefined;
      await app.engine().dispatcher.retry(`run-${randomUUID()}`, run);
      expect(await queuesPassed(app)).toEqual(['plan-requests', 'push-requests']);
      expect(app.digestAt('1')).toBe(content.descriptor.digest);
    } finally {
      await app.close();
    }
  });

  it('ends for each tag that they name, also where nobody has it or no rule takes it', async () => {
    const app = await startApp({
      rules: '- { source: docker.io/acme/app, target: $target/app, name: app, tags: { exclude: [rc] } }',
    });
    try {
      for (const tag of ['1', 'rc']) await app.hub.push('acme/app', tag, content);
      const run = `run-${randomUUID()}`;
      await app
        .engine()
        .dispatcher.start(run, 'manual', { tags: ['1', '9.9', 'rc'], dryRun: false, force: false });
      await app.deliver();
      const lines = app
        .reportOf(run)
        ?.tags.map(({ target, outcome, reason }) => [target.split(':').at(-1), outcome, reason]);
      expect(lines).toEqual([
        ['1', 'copied', 'new tag'],
        ['9.9', 'skipped', 'gone at source'],
        ['rc', 'skipped', 'not selected by the rule'],
      ]);
    } finally {
      await app.close();
    }
  });

  /** Delivers all there is. */
  async function queuesPassed(app: App): Promise<string[]> {
    const sent = vi.spyOn(app.queues, 'send');
    const passed = app.queues.messages.map(({ queue }) => queue);
    await app.deliver();
    for (const [queue] of sent.mock.calls) passed.push(queue);
    sent.mockRestore();
    return passed;
  }
});

describe('on the command line', () => {
  let world: World;
  beforeAll(async () => {
    world = await World.start();
  });
  afterAll(() => world?.close());
  beforeEach(() => world.reset());

  const twoTargets = '- { source: $plain/acme/app, target: [$acr/app, $other/app] }';

  it('a listing that is asked to come back later is deferred until then', async () => {
    put(world.plain, 'acme/app', '1', content);
    world.plain.intercept = ({ url }) => (url.includes('/tags/list') ? limited : undefined);
    const { tags, totals } = await world.sync(twoTargets);
    expect(tags).toMatchObject([
      { outcome: 'deferred', reason: 'rate limit', error: { code: 'ERR_RATE_LIMITED' } },
    ]);
    expect(Date.parse(tags[0]?.until ?? '')).toBeGreaterThan(Date.now() + hour);
    expect(totals).toMatchObject({ tags: 1, deferred: 1, failed: 0 });
  });

  it('a listing that is refused without a time is deferred for a minute, as a tag is', async () => {
    put(world.plain, 'acme/app', '1', content);
    world.plain.intercept = ({ url }) =>
      url.includes('/tags/list') ? { kind: 'answer', status: 429 } : undefined;
    const { tags } = await world.sync(twoTargets);
    expect(tags).toMatchObject([
      { outcome: 'deferred', reason: 'rate limit', error: { code: 'ERR_RATE_LIMITED' } },
    ]);
    expect(Date.parse(tags[0]?.until ?? '')).toBeLessThan(Date.now() + 120_000);
  });

  it('a source that fails is one line for all targets of the rule', async () => {
    world.plain.intercept = () => ({ kind: 'answer', status: 500 });
    for (const report of [
      await world.sync(twoTargets),
      await world.plan(twoTargets),
      await world.verify(twoTargets),
    ]) {
      expect(told(report)).toEqual(['* failed (ERR_SERVER)']);
      expect(report.tags[0]?.target.split(', ')).toEqual(
        [`${world.acr.host}/app`, `${world.other.host}/app`].sort(),
      );
    }
  });

  it('targets of which none is reached are one line that tells of each', async () => {
    put(world.plain, 'acme/app', '1', content);
    for (const side of [world.acr, world.other]) side.intercept = () => ({ kind: 'answer', status: 500 });
    const { tags } = await world.sync(twoTargets);
    expect(tags).toHaveLength(1);
    for (const { host } of [world.acr, world.other]) expect(tags[0]?.error?.message).toContain(host);
  });

  it('targets that fail for reasons of their own are a line each', async () => {
    put(world.plain, 'acme/app', '1', content);
    world.acr.intercept = () => ({ kind: 'answer', status: 403 });
    world.other.intercept = () => ({ kind: 'answer', status: 500 });
    const report = await world.sync(twoTargets);
    expect(told(report)).toEqual(['* failed (ERR_FORBIDDEN)', '* failed (ERR_SERVER)']);
  });
});
