/** What people and queries are told of runs while they go on. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readStatus } from '../../lib/sync/queue/standing.ts';
import { reportSchema, statusSchema } from '../../lib/sync/runs/status.ts';
import { handOver, startApp } from '../local/app.ts';
import { buildManifest } from '../local/content.ts';

let app: Awaited<ReturnType<typeof startApp>>;
beforeEach(async () => {
  app = await startApp({
    rules: '\n  - { name: app, source: docker.io/acme/app, target: $target/app }',
    pulls: 50,
  });
  for (const tag of ['1.0', '2.0']) await app.hub.push('acme/app', tag, buildManifest({ seed: tag }));
});
afterEach(() => app.close());

/** As the app tells it, some milliseconds from now. */
async function status(later = 0) {
  const { book, control, parked, stores } = app;
  const { runs, checkpoints } = stores;
  const told = await readStatus({ book, control, parked, runs, checkpoints }, Date.now() + later);
  return statusSchema.parse(JSON.parse(JSON.stringify(told)));
}

const asked = { dryRun: false, force: false };

async function planned(): Promise<string> {
  const run = await app.schedule();
  const [plan] = app.queues.messages.splice(0);
  if (plan !== undefined) await handOver(app.engine(), plan);
  return run;
}

/** Fields of the lines that were logged with this message. */
const logged = (message: string) =>
  app.events.flatMap((event) => (event.type === 'log' && event.message === message ? [event.fields] : []));

describe('an open run', () => {
  it('tells what is out, and that it works', async () => {
    const run = await planned();
    const { openRuns, open } = await status();
    expect(openRuns).toEqual([run]);
    expect(open).toMatchObject([{ run: { id: run }, state: 'working', out: 2, parked: 0 }]);
    expect(open[0]?.examples.sort()).toEqual([`${app.target.host}/app:1.0`, `${app.target.host}/app:2.0`]);
  });

  it('that cannot end is seen as such, with since when and why', async () => {
    await planned();
    app.queues.messages.length = 0;
    const { open } = await status(2 * 3600_000);
    expect(open).toMatchObject([{ state: 'stuck', out: 2, why: expect.stringContaining('of 2 requests') }]);
    expect(Date.parse(open[0]?.since ?? '')).toBeGreaterThan(Date.now() - 60_000);
  });

  it('that waits for one and has lost another is seen as such too', async () => {
    await planned();
    app.hub.abuse = { retryAfter: String(4 * 3600) };
    const [waits] = app.queues.messages.splice(0);
    if (waits !== undefined) await handOver(app.engine(), waits);
    expect((await status(3 * 3600_000)).open).toMatchObject([{ state: 'stuck', out: 1, parked: 1 }]);
  });

  it('is told with the oldest and the newest, for the oldest may be stuck', async () => {
    const all: string[] = [];
    for (let nth = 0; nth < 25; nth += 1) {
      const { run } = await app
        .engine()
        .dispatcher.start(`run-${String(nth).padStart(2, '0')}`, 'manual', asked);
      all.push(run);
    }
    const { openRuns, open } = await status();
    expect(openRuns).toEqual(all);
    expect(open.map(({ run }) => run.id)).toEqual([...all.slice(0, 5), ...all.slice(-15)]);
  });

  it('that cannot be read hides nothing else, nor does a parking', async () => {
    const run = await planned();
    const { runs, state } = app.stores;
    await runs.put('open/unreadable.json', Buffer.from('{'));
    const key = `parked/${new Date().toISOString()}/copy/unreadable/copy-1`;
    await state.put(key, Buffer.from('{'));
    const { openRuns, open, parked } = await status();
    expect(openRuns).toEqual([run, 'unreadable']);
    expect(open).toMatchObject([{ run: { id: run } }]);
    expect(parked.count).toBe(1);
  });

  it('tells what is parked, until when and why', async () => {
    await planned();
    app.hub.abuse = { retryAfter: '7200' };
    await app.deliver();
    const { open, parked } = await status();
    expect(open).toMatchObject([{ state: 'waiting', out: 0, parked: 2 }]);
    expect(parked).toMatchObject({ count: 2, groups: [{ reason: 'rate limit', count: 2 }] });
    expect(Date.parse(parked.next ?? '')).toBeGreaterThan(Date.now() + 3600_000);
    const reports = await app.book.report((await app.book.openRuns())[0] ?? '');
    expect(reportSchema.parse(JSON.parse(JSON.stringify(reports))).totals).toMatchObject({ deferred: 2 });
  });

  it('waits for what an earlier run has parked, also where it was written down without that run', async () => {
    await planned();
    app.hub.abuse = { retryAfter: '7200' };
    await app.deliver();
    const second = await app.schedule();
    await app.deliver();
    const { runs } = app.stores;
    for (const { key } of await Array.fromAsync(runs.list(`parts/${second}/`))) {
      const [id, state, ...earlier] = key.split('~');
      const part = await runs.get(key);
      if (earlier.length === 0 || part === undefined) continue;
      await runs.put(`${id}~${state}`, part.bytes);
      await runs.delete(key);
    }
    const waits = { state: 'waiting', out: 0, parked: 2 };
    expect((await status()).open).toMatchObject([waits, waits]);
  });

  it('names no time for what waits until people let it go on, or whose time has come', async () => {
    await planned();
    app.hub.abuse = { retryAfter: '7200' };
    await app.deliver();
    expect((await status(3 * 3600_000)).parked.groups).toEqual([
      { reason: 'rate limit', count: 2, examples: expect.any(Array) },
    ]);
    await app.control.pause();
    await app.schedule();
    await app.deliver();
    const { parked } = await status();
    expect(parked).not.toHaveProperty('next');
    expect(parked.groups.find(({ reason }) => reason === 'paused')).toEqual({
      reason: 'paused',
      count: 1,
      examples: ['app'],
    });
    await app.control.resume();
    expect(Date.parse((await status()).parked.next ?? '')).toBeGreaterThan(Date.now() + 3600_000);
  });

  it('is paused where all is', async () => {
    await planned();
    await app.control.pause();
    expect(await status()).toMatchObject({
      paused: true,
      pausedSince: expect.any(String),
      open: [{ state: 'paused' }],
    });
  });
});

describe('a closed run', () => {
  it('tells its totals, pulls left, speed and longest blobs', async () => {
    await app.schedule();
    await app.deliver();
    const { runs, openRuns } = await status();
    expect(openRuns).toEqual([]);
    expect(runs).toMatchObject([
      { totals: { tags: 2, copied: 2, pulls: 2 }, pullsLeft: 48, rules: [{ rule: 'app', tags: 2 }] },
    ]);
    expect(runs[0]?.longestBlobs.length).toBeGreaterThan(0);
    reportSchema.parse(JSON.parse(JSON.stringify(app.reports[0])));
  });
});

describe('telemetry', () => {
  it('has one line for each plan, each decision and each change of the allowance, with the run and the operation', async () => {
    const run = await app.schedule();
    await app.deliver();
    const source = 'docker.io/acme/app';
    const target = `${app.target.host}/app`;
    expect(logged('plan finished')).toEqual([
      { run, operation: 'plan', rule: 'app', source, target, tags: 2, behind: 2 },
    ]);
    expect(logged('pulls left').at(-1)).toEqual({ run, host: 'docker.io', pullsLeft: 48 });
    const lines = app.events.filter((event) => event.type === 'line');
    expect(lines).toMatchObject([
      { line: { outcome: 'copied' }, fields: { run, operation: 'copy' } },
      { line: { outcome: 'copied' }, fields: { run, operation: 'copy' } },
    ]);
  });

  it('tells how long a push took to the mirror', async () => {
    const pushedAt = Date.now() - 5000;
    await app.engine().dispatcher.push('hook', { repository: 'docker.io/acme/app', tag: '1.0', pushedAt });
    await app.deliver();
    const [line] = app.events.filter((event) => event.type === 'line');
    expect(line?.fields).toMatchObject({
      run: 'hook',
      operation: 'push',
      pushToMirrorMs: expect.any(Number),
    });
    expect(line?.fields?.pushToMirrorMs).toBeGreaterThanOrEqual(5000);
  });

  it('tells of poison', async () => {
    const run = await app.schedule();
    const [plan] = app.queues.messages.splice(0);
    await app.engine().worker.poison(JSON.parse(plan?.text ?? ''), 'plan');
    expect(logged('poisoned')).toEqual([
      { run, rule: 'app', code: 'ERR_POISON', error: 'The request failed at every delivery' },
    ]);
    expect(app.reportOf(run)?.totals).toMatchObject({ failed: 1 });
  });
});
