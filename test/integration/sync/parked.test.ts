/** What waits for a time: later runs find it, however often it is put off, and people are told until when. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { QueueEngine } from '../../../lib/sync/queue/queue-engine.ts';
import { readStatus } from '../../../lib/sync/queue/standing.ts';
import type { Line } from '../../../lib/sync/runs/report.ts';
import { statusSchema } from '../../../lib/sync/runs/status.ts';
import { handOver, startApp } from '../../local/app.ts';
import { buildManifest, randomBlob } from '../../local/content.ts';

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;
const tags = ['1.0', '1.1', '1.2'];

let app: Awaited<ReturnType<typeof startApp>>;
beforeEach(async () => {
  // The clock alone is moved by hand; connections keep real time.
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() });
  app = await startApp({
    rules: '\n  - { name: app, source: docker.io/acme/app, target: $target/app }',
    pulls: 10,
    // All that there are: the backlog starves.
    pullReserve: 10,
  });
});
afterEach(async () => {
  vi.useRealTimers();
  await app.close();
});

/** Another instance, which remembers nothing. */
const another = () => app.engine({ ...app.stores });

async function justBeforeTheyComeBack(): Promise<void> {
  vi.setSystemTime(Math.min(...(await parked())) - 1000);
}

/** The run of a timer, as far as it comes. */
async function planned(engine: QueueEngine = app.engine()): Promise<string> {
  const run = await app.schedule();
  await app.deliver(engine);
  return run;
}

const push = (tag: string) => app.hub.push('acme/app', tag, buildManifest({ seed: tag, layers: [10] }));

/** A run all of whose tags wait for the allowance. What is left of it is known from the first tag on. */
async function starved(): Promise<string> {
  const engine = app.engine();
  await push('first');
  await planned(engine);
  for (const tag of tags) await push(tag);
  const run = await planned(engine);
  expect(await tells(run)).toEqual(deferred);
  return run;
}

async function parked(): Promise<number[]> {
  const times: number[] = [];
  for await (const { until } of app.parked.all()) times.push(until);
  return times;
}

/** The time of all that is parked has come, and is past by so much; there are no pulls, and it is put off. */
async function putOff(engine: QueueEngine = app.engine(), byMs = 1000): Promise<void> {
  vi.setSystemTime(Math.max(...(await parked())) + byMs);
  await engine.releaser.release();
  await app.deliver(engine);
  expect(Math.min(...(await parked()))).toBeGreaterThan(Date.now());
}

async function lines(run: string): Promise<Line[]> {
  const all = ((await app.book.report(run))?.tags ?? []) as Line[];
  return all.filter(({ source }) => !source.endsWith(':first'));
}

/** As the app tells it now. */
async function status() {
  const { book, control, parked, stores } = app;
  const { runs, checkpoints } = stores;
  const told = await readStatus({ book, control, parked, runs, checkpoints }, Date.now());
  return statusSchema.parse(JSON.parse(JSON.stringify(told)));
}

async function tells(run: string): Promise<string[]> {
  return (await lines(run)).map(({ source, outcome }) => `${source.split(':').at(-1)} ${outcome}`);
}

const deferred = tags.map((tag) => `${tag} deferred`);
const copied = tags.map((tag) => `${tag} copied`);

describe('a request that is put off', () => {
  it('is told of by a run that another instance plans minutes before its time', async () => {
    await starved();
    await putOff(another());
    await justBeforeTheyComeBack();
    expect(await tells(await planned(another()))).toEqual(deferred);
  });

  it('is told of by a run that is planned just after', async () => {
    await starved();
    await planned();
    await putOff();
    expect(await tells(await planned())).toEqual(deferred);
  });

  it('is told with the time that it waits for now, in the report and the status of each run that waits', async () => {
    const runs = [await starved(), await planned()];
    await putOff();
    const until = (await parked()).map((time) => new Date(time).toISOString());
    for (const run of runs) expect((await lines(run)).map((line) => line.until).toSorted()).toEqual(until);
    const open = runs.toSorted().map((id) => ({
      run: { id },
      state: 'waiting',
      why: `3 requests are parked, the last until ${until.at(-1)}`,
      out: 0,
      parked: 3,
    }));
    expect((await status()).open).toMatchObject(open);
    vi.setSystemTime(Date.parse(until.at(-1) ?? '') + 1000);
    expect((await status()).open.map(({ state }) => state)).toEqual(['waiting', 'waiting']);
  });

  it('is told with that time by the report of a run that closes meanwhile', async () => {
    const run = await starved();
    await putOff(app.engine(), 25 * hourMs);
    const until = (await parked()).map((time) => new Date(time).toISOString());
    expect((await app.reportOf(run))?.run.finishedAt).toBeDefined();
    expect((await lines(run)).map((line) => line.until).toSorted()).toEqual(until);
  });

  it('is queued or under way, and waits no more, when it was sent again', async () => {
    const run = await starved();
    await putOff();
    app.pullReserve = 0;
    vi.setSystemTime(Math.max(...(await parked())) + 1000);
    await app.engine().releaser.release();
    expect((await status()).open).toMatchObject([
      { run: { id: run }, state: 'working', why: '3 requests are queued or under way', out: 3, parked: 0 },
    ]);
  });

  it('for days, while others use the allowance up, fails in no run, and arrives in the end', async () => {
    const runs = [await starved()];
    for (let day = 1; day < 5; day += 1) {
      for (let times = 0; times < 3; times += 1) await putOff(another(), 8 * hourMs);
      await justBeforeTheyComeBack();
      runs.push(await planned(another()));
      expect(await tells(runs.at(-1) ?? '')).toEqual(deferred);
    }
    app.pullReserve = 0;
    while (app.target.repository('app').tags.size <= tags.length) {
      vi.setSystemTime(Date.now() + hourMs);
      await another().releaser.release();
      await app.deliver(another());
    }
    expect(await tells(runs.pop() ?? '')).toEqual(copied);
    for (const run of runs) expect(await tells(run)).toEqual(deferred);
    for (const { totals } of app.reports) expect(totals).toMatchObject({ failed: 0 });
  });
});

describe('a request that waited for a pause to end', () => {
  it('waits for the allowance then, until a time, in each run that waits for it', async () => {
    const engine = app.engine();
    await push('first');
    await planned(engine);
    for (const tag of tags) await push(tag);
    const runs = [await app.schedule(), await app.schedule()];
    for (const plan of app.queues.messages.splice(0)) await handOver(engine, plan);
    await app.control.pause();
    await app.deliver(engine);
    for (const run of runs) for (const line of await lines(run)) expect(line.reason).toBe('paused');
    vi.setSystemTime(Date.now() + 3 * 24 * hourMs);
    await app.control.resume();
    expect((await status()).open.map(({ state }) => state)).toEqual(['waiting', 'waiting']);
    await app.engine().releaser.release();
    const times = await parked();
    const told = times.map((until) => ['rate limit', new Date(until).toISOString()]);
    for (const run of runs) {
      const now = (await lines(run)).map(({ reason, until }) => [reason, until]);
      expect(now.toSorted()).toEqual(told.toSorted());
    }
    expect((await status()).parked).toMatchObject({
      next: new Date(Math.min(...times)).toISOString(),
      groups: [
        { reason: 'rate limit', count: tags.length, until: new Date(Math.max(...times)).toISOString() },
      ],
    });
  });
});

describe('a request that goes on in another delivery', () => {
  /** Copies a part of a large tag, and half of its time is over. */
  async function begun(): Promise<string> {
    await app.hub.push('acme/app', 'large', buildManifest({ layers: [randomBlob('large', 5_000_000)] }));
    const run = await app.schedule();
    for (const plan of app.queues.messages.splice(0)) await handOver(app.engine(), plan);
    app.hub.cdn.bytesPerSecond = 1_500_000;
    for (const copy of app.queues.messages.splice(0)) await handOver(app.engine(app.stores, 1500), copy);
    app.hub.cdn.bytesPerSecond = undefined;
    expect((await app.book.report(run))?.totals.bytesCopied).toBeGreaterThan(0);
    return run;
  }

  it('is out, and keeps its run open past the next plan', async () => {
    const run = await begun();
    expect((await status()).open).toMatchObject([{ state: 'working', out: 1, parked: 0 }]);
    vi.setSystemTime(Date.now() + 25 * hourMs);
    await app.engine().releaser.release();
    expect(app.reports).toEqual([]);
    await app.deliver();
    expect(await tells(run)).toEqual(['large copied']);
    expect(app.reportOf(run)?.totals.bytesCopied).toBeGreaterThan(5_000_000);
  });

  it('is told as skipped where its run is cancelled', async () => {
    const run = await begun();
    await app.engine().releaser.cancel(run);
    expect(await tells(run)).toEqual(['large skipped']);
  });

  it('is told as failed where it was lost', async () => {
    const run = await begun();
    app.queues.messages.length = 0;
    vi.setSystemTime(Date.now() + 49 * hourMs);
    await app.engine().releaser.release();
    expect(await lines(run)).toMatchObject([{ outcome: 'failed', error: { code: 'ERR_LOST' } }]);
  });
});
