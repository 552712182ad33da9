/** Pause, resume, cancel and retry; and requests that several runs wait for. */
import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { PulledManifests } from '../../lib/sync/copy/pulled.ts';
import { repairsOf } from '../../lib/sync/queue/repairs.ts';
import { copyRequestSchema, planRequestSchema } from '../../lib/sync/request.ts';
import type { AnyReport, Line } from '../../lib/sync/runs/report.ts';
import { noTransfer } from '../../lib/sync/runs/tally.ts';
import { handOver, type Message, startApp } from '../local/app.ts';
import { buildManifest, type Content, randomBlob } from '../local/content.ts';

const MiB = 1024 * 1024;

let app: Awaited<ReturnType<typeof startApp>>;
beforeEach(async () => {
  app = await startApp({ rules: '\n  - { name: app, source: docker.io/acme/app, target: $target/app }' });
});
afterEach(async () => {
  vi.useRealTimers();
  await app.close();
});

async function push(tag: string, seed = tag, size = 1000): Promise<Content> {
  const content = buildManifest({ seed, layers: [size] });
  await app.hub.push('acme/app', tag, content);
  return content;
}

const webhook = (tag: string) =>
  app
    .engine()
    .dispatcher.push(`hook-${randomUUID()}`, { repository: 'docker.io/acme/app', tag, pushedAt: Date.now() });

/** What a run said of each tag when it closed. */
function told(run: string): string[] | undefined {
  return toldIn(app.reportOf(run));
}

/** What a run says of each tag now. */
async function tells(run: string): Promise<string[] | undefined> {
  return toldIn(await app.book.report(run));
}

function toldIn(report: AnyReport | undefined): string[] | undefined {
  const lines = report?.tags as readonly Line[] | undefined;
  return lines?.map(({ source, outcome, reason }) => {
    const tag = source.slice(source.lastIndexOf(':') + 1);
    return [tag, outcome, outcome === 'copied' ? undefined : reason].filter(Boolean).join(' ');
  });
}

const isChunk = ({ method }: { method: string }) => method === 'PATCH';

async function parked(): Promise<string[]> {
  const lanes: string[] = [];
  for await (const { lane } of app.parked.all()) lanes.push(lane);
  return lanes;
}

async function marks(): Promise<number> {
  let count = 0;
  for await (const _ of app.stores.state.list('outstanding/')) count += 1;
  return count;
}

describe('pausing', () => {
  it('holds plans, pushes and copies, and loses none of them', async () => {
    await push('1.0');
    const run = await app.schedule();
    await app.control.pause();
    await push('2.0');
    const hook = await webhook('2.0');
    await app.deliver();
    expect(await parked()).toEqual(expect.arrayContaining(['plan', 'push']));
    await app.engine().releaser.release();
    expect(app.queues.messages).toEqual([]);
    expect(app.target.requests).toEqual([]);
    await app.control.resume();
    await app.engine().releaser.release();
    await app.deliver();
    expect(await tells(hook.run)).toEqual(['2.0 copied']);
    expect(told(run)?.sort()).toEqual(['1.0 copied', '2.0 unchanged']);
    expect(await parked()).toEqual([]);
  });

  it('for days keeps runs open, and what they waited for ends in them', async () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    await push('1.0');
    await app.control.pause();
    const run = `run-${randomUUID()}`;
    await app.engine().dispatcher.start(run, 'manual', { dryRun: false, force: false });
    const hook = await webhook('1.0');
    await app.deliver();
    expect(await tells(run)).toEqual(['docker.io/acme/app deferred paused']);
    for (let day = 0; day < 3; day += 1) {
      vi.setSystemTime(Date.now() + 25 * 3600_000);
      await app.engine().releaser.release();
    }
    expect(app.reports).toEqual([]);
    await app.control.resume();
    await app.engine().releaser.release();
    await app.deliver();
    await app.engine().releaser.release();
    expect(app.reports).toHaveLength(2);
    expect([told(run), told(hook.run)].flat().sort()).toEqual(['1.0 copied', '1.0 unchanged']);
  });

  it('stops a copy under way, which goes on later without sending again what has arrived', async () => {
    const content = await push('1.0', 'large', 6 << 20);
    const run = await app.schedule();
    const stopped = () => app.events.some((event) => event.type === 'log' && event.message === 'stopped');
    app.target.intercept = async ({ method }) => {
      if (method !== 'PATCH' || app.target.requests.filter(isChunk).length < 2) return undefined;
      await app.control.pause();
      await expect.poll(stopped).toBe(true);
      return undefined;
    };
    await app.deliver();
    expect(app.digestAt('1.0')).toBeUndefined();
    expect(await parked()).toEqual(['copy']);
    app.target.intercept = undefined;
    await app.control.resume();
    await app.engine().releaser.release();
    await app.deliver();
    expect(app.digestAt('1.0')).toBe(content.descriptor.digest);
    expect(told(run)).toEqual(['1.0 copied']);
    const sizes = content.blobs.reduce((sum, { size }) => sum + size, 0);
    const uploads = app.target.requests.filter(({ url }) => url.includes('/blobs/uploads/'));
    expect(uploads.reduce((sum, { received }) => sum + received, 0)).toBe(sizes);
    const whole = sizes + content.descriptor.size;
    expect(app.reportOf(run)).toMatchObject({ totals: { bytesCopied: whole }, tags: [{ bytes: whole }] });
  });
});

it('a copy that brings nothing before its deadline, time after time, has failed', async () => {
  await push('1.0');
  const run = await app.schedule();
  app.hub.registry.intercept = ({ url }) => (url.includes('/blobs/') ? new Promise(() => {}) : undefined);
  await app.deliver(app.engine(app.stores, 300));
  expect(app.reportOf(run)?.tags).toMatchObject([{ outcome: 'failed', error: { code: 'ERR_TIMEOUT' } }]);
  expect(app.queues.messages).toEqual([]);
});

describe('a copy that goes on in many deliveries', () => {
  it('has failed after five attempts that got no further, and not after five that did', async () => {
    const blob = randomBlob('far away', 7 * MiB);
    await app.hub.push('acme/app', '1.0', buildManifest({ layers: [blob] }));
    let asked = 0;
    app.hub.cdn.intercept = ({ url }) => {
      if (!url.includes(blob.descriptor.digest)) return undefined;
      asked += 1;
      // Each delivery gets a part, and nothing after that.
      return asked % 5 === 1 ? { kind: 'cut', after: 1.3 * MiB } : { kind: 'answer', status: 503 };
    };
    const run = await app.schedule();
    await app.deliver();
    expect(told(run)).toEqual(['1.0 copied']);
    expect(asked).toBeGreaterThan(5 * 5);
  }, 60_000);

  it('is not tried for longer because its target takes bytes that it loses again', async () => {
    await app.hub.push('acme/app', '1.0', buildManifest({ layers: [randomBlob('lost', 3 * MiB)] }));
    app.target.intercept = ({ method }) => (method === 'PUT' ? { kind: 'answer', status: 500 } : undefined);
    const run = await app.schedule();
    await app.deliver();
    expect(app.reportOf(run)?.tags).toMatchObject([{ outcome: 'failed' }]);
  }, 60_000);

  it('gets on also where many deadlines are too short for a small blob, and reads none of it again', async () => {
    const blob = randomBlob('slow', 900_000);
    await app.hub.push('acme/app', '1.0', buildManifest({ layers: [blob] }));
    app.hub.cdn.bytesPerSecond = 150_000;
    const run = await app.schedule();
    await app.deliver(app.engine(app.stores, 1500));
    expect(told(run)).toEqual(['1.0 copied']);
    expect(app.target.repository('app').blobs.has(blob.descriptor.digest)).toBe(true);
    const reads = app.hub.cdn.requests.filter(({ url }) => url.includes(blob.descriptor.digest));
    expect(reads.length).toBeGreaterThan(4);
    // Only the first attempt is in vain.
    expect(reads.filter(({ headers }) => headers.range === undefined)).toHaveLength(2);
  }, 60_000);

  it('waits for its place as long as it takes', async () => {
    for (const tag of ['1.0', '2.0', '3.0', '4.0']) {
      const layers = Array.from({ length: 10 }, (_, index) => randomBlob(`${tag} ${index}`, 3 * MiB));
      await app.hub.push('acme/app', tag, buildManifest({ layers }));
    }
    const run = await app.schedule();
    await handOver(app.engine(), app.queues.messages.shift() as Message);
    app.hub.cdn.bytesPerSecond = 1.2 * MiB;
    const engine = app.engine(app.stores, 1200);
    const lane = async () => {
      for (let message = app.queues.messages.shift(); message; message = app.queues.messages.shift())
        await handOver(engine, message);
    };
    while (app.reportOf(run) === undefined) await Promise.all([lane(), lane(), lane(), lane()]);
    expect(told(run)?.sort()).toEqual(['1.0 copied', '2.0 copied', '3.0 copied', '4.0 copied']);
  }, 60_000);
});

describe('cancelling a run', () => {
  it('whose plan waits tells so for its rule', async () => {
    await push('1.0');
    await app.control.pause();
    const run = await app.schedule();
    await app.deliver();
    await app.engine().releaser.cancel(run);
    expect(told(run)).toEqual(['docker.io/acme/app skipped cancelled']);
  });

  it('ends it at once, and what was queued or parked does nothing afterwards', async () => {
    await push('1.0');
    await push('2.0', 'other');
    const run = await app.schedule();
    const [plan] = app.queues.messages.splice(0);
    if (plan !== undefined) app.queues.messages.push(plan);
    await app.engine().worker.plan(JSON.parse(app.queues.messages.shift()?.text ?? ''));
    await app.control.pause();
    const first = app.queues.messages.shift();
    await app.engine().worker.copy(JSON.parse(first?.text ?? ''), 'copy');
    await app.control.resume();
    await app.engine().releaser.cancel(run);
    expect(told(run)?.sort()).toEqual(['1.0 skipped cancelled', '2.0 skipped cancelled']);
    expect(app.reportOf(run)?.run.cancelled).toBe(true);
    await app.deliver();
    expect(app.target.requests.filter(({ method }) => method !== 'GET' && method !== 'HEAD')).toEqual([]);
    expect([await parked(), await marks()]).toEqual([[], 0]);
    expect(app.reports).toHaveLength(1);
  });

  it('leaves alone what another run waits for too', async () => {
    const content = await push('1.0');
    const first = await app.schedule();
    await app.engine().worker.plan(JSON.parse(app.queues.messages.shift()?.text ?? ''));
    const second = await app.schedule();
    await app.engine().worker.plan(JSON.parse(app.queues.messages.pop()?.text ?? ''));
    await app.engine().releaser.cancel(first);
    await app.deliver();
    expect(told(first)).toEqual(['1.0 skipped cancelled']);
    expect(told(second)).toEqual(['1.0 copied']);
    expect(app.reportOf(second)?.totals.bytesCopied).toBeGreaterThan(0);
    expect(app.digestAt('1.0')).toBe(content.descriptor.digest);
  });

  it('concerns no run that is named as every object has a key', async () => {
    await push('1.0');
    const asked = { dryRun: false, force: false };
    await app.engine().dispatcher.start('constructor', 'manual', asked);
    await app.deliver();
    expect(told('constructor')).toEqual(['1.0 copied']);
  });

  it('is refused for a run that is closed, and for one that never was', async () => {
    await push('1.0');
    const run = await app.schedule();
    await app.deliver();
    await expect(app.engine().releaser.cancel(run)).rejects.toMatchObject({ code: 'ERR_REQUEST_INVALID' });
    await expect(app.engine().releaser.cancel('nobody')).rejects.toMatchObject({ code: 'ERR_RUN_UNKNOWN' });
  });
});

describe('trying again', () => {
  it('plans what failed in a run, and nothing else, in a run of its own', async () => {
    const broken = await push('1.0', 'broken');
    await push('2.0', 'whole');
    const { blobs } = app.hub.repository('acme/app');
    const [lost] = broken.blobs.slice(-1);
    if (lost === undefined) throw new Error('The content has no blobs');
    blobs.delete(lost.descriptor.digest);
    const run = await app.schedule();
    await app.deliver();
    expect(told(run)?.sort()).toEqual(['1.0 failed', '2.0 copied']);
    blobs.set(lost.descriptor.digest, lost);
    const again = await app.engine().dispatcher.retry('again', run);
    expect(again).toEqual({ run: 'again', requests: 1 });
    await app.deliver();
    expect(told('again')).toEqual(['1.0 copied']);
    expect(app.reportOf('again')?.run.trigger).toBe('manual');
  });

  it('asks for the repository of a namespace rule, and for the whole rule where no tag is named', () => {
    const rule = app.rules.rules[0];
    if (rule === undefined) throw new Error('There is no rule');
    const space = { ...rule, name: 'space', source: { ...rule.source, path: 'acme/*' } };
    const line = (rule: string, source: string, outcome = 'failed') => ({
      rule,
      source,
      target: 't',
      outcome,
    });
    const report = {
      run: { id: 'r', trigger: 'verify', startedAt: '' },
      tags: [
        line('space', 'docker.io/acme/a:1', 'missing'),
        line('space', 'docker.io/acme/a:2', 'incomplete'),
        line('space', 'docker.io/acme/b:3', 'same'),
        line('app', 'docker.io/acme/app'),
        line('app', 'docker.io/acme/app:1'),
        line('gone', 'docker.io/acme/c:1'),
      ],
    } as unknown as AnyReport;
    expect(repairsOf(report, [rule, space])).toEqual([
      { rule, repository: undefined, tags: undefined, dryRun: false, force: true },
      { rule: space, repository: 'acme/a', tags: ['1', '2'], dryRun: false, force: true },
    ]);
  });

  it('has nothing to do for a run in which nothing failed, and is refused for one that never was', async () => {
    await push('1.0');
    const run = await app.schedule();
    await app.deliver();
    expect(await app.engine().dispatcher.retry('again', run)).toEqual({ run, requests: 0 });
    await expect(app.engine().dispatcher.retry('again', 'nobody')).rejects.toMatchObject({
      code: 'ERR_RUN_UNKNOWN',
    });
  });

  it('is bounded by the size of a message, however many tags failed', async () => {
    const tags = Array.from({ length: 650 }, (_, index) => `${'t'.repeat(120)}${index}`);
    const begun = await app
      .engine()
      .dispatcher.start('many', 'manual', { tags, dryRun: false, force: false });
    expect(begun.requests).toBe(3);
    for (const { text } of app.queues.messages) expect(text.length).toBeLessThan(48 * 1024);
  });
});

describe('a release', () => {
  it('whose time is too short for all that is parked leaves the rest parked, and looks after runs and checkpoints', async () => {
    await push('1.0');
    await push('1.1');
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() });
    app.target.intercept = ({ method }) =>
      method === 'POST' ? { kind: 'answer', status: 429, headers: { 'retry-after': '90000' } } : undefined;
    await app.schedule();
    await app.deliver();
    await new PulledManifests(app.stores.checkpoints).save(await push('1.2'));
    vi.advanceTimersByTime(8 * 24 * 3600_000);
    const run = await app.schedule();
    app.queues.messages.length = 0;
    vi.advanceTimersByTime(3600_000);
    app.hub.registry.intercept = () => new Promise(() => {});
    await app.engine(app.stores, 1000).releaser.release();
    expect(await parked()).toHaveLength(1);
    const sent = app.queues.messages.map(({ queue, text }) => [queue, JSON.parse(text).run === run]);
    expect(sent).toContainEqual(['plan-requests', true]);
    expect(await Array.fromAsync(app.stores.checkpoints.list('manifests/'))).toEqual([]);
  });
});

describe('a request that is outstanding', () => {
  /** Plans, with nothing carried out. */
  async function planned(): Promise<string> {
    const run = await app.schedule();
    const at = app.queues.messages.findIndex(({ queue }) => queue === 'plan-requests');
    const [plan] = app.queues.messages.splice(at, 1);
    if (plan !== undefined) await handOver(app.engine(), plan);
    return run;
  }

  /** The clock is moved by hand, and the target asks to wait for longer than a run goes on. */
  function parkForADay(): void {
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() });
    app.target.intercept = ({ method }) =>
      method === 'POST' ? { kind: 'answer', status: 429, headers: { 'retry-after': '90000' } } : undefined;
  }

  /** Late ends of one hour share a run. */
  async function endTheHour(): Promise<void> {
    vi.advanceTimersByTime(2 * 3600_000);
    await app.engine().releaser.release();
  }

  /** A plan of the next day joins what is parked, and then its time comes. */
  async function joinTheNextDay(meanwhile: () => void): Promise<string> {
    vi.advanceTimersByTime(24 * 3600_000);
    const run = await app.schedule();
    await app.deliver();
    meanwhile();
    vi.advanceTimersByTime(2 * 3600_000);
    await app.engine().releaser.release();
    await app.deliver();
    await app.engine().releaser.release();
    vi.useRealTimers();
    return run;
  }

  it('is joined by later plans: one message, and the real end in the report of each', async () => {
    await push('1.0');
    const runs = [await planned(), await planned(), await planned()];
    expect(app.queues.messages).toHaveLength(1);
    await app.deliver();
    expect(runs.map(told)).toEqual([['1.0 copied'], ['1.0 copied'], ['1.0 copied']]);
    const bytes = runs.map((run) => app.reportOf(run)?.totals.bytesCopied);
    expect(bytes).toEqual([expect.any(Number), 0, 0]);
    expect(await marks()).toBe(0);
  });

  it('is not taken for parked where the clock of who sent it is ahead', async () => {
    await push('1.0');
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 120_000 });
    await planned();
    vi.useRealTimers();
    const second = await planned();
    expect(await tells(second)).toEqual([]);
    await app.deliver();
    expect(told(second)).toEqual(['1.0 copied']);
  });

  it('is joined while it is parked, also past the next plan', async () => {
    await push('1.0');
    const first = await planned();
    const [message] = app.queues.messages.splice(0);
    const request = copyRequestSchema.parse(JSON.parse(message?.text ?? ''));
    const until = Date.now() + 30 * 3600_000;
    await app.outstanding.park(request, until, async () => undefined);
    const second = await planned();
    expect(app.queues.messages).toEqual([]);
    expect(told(second)).toEqual(['1.0 deferred an earlier run parked it']);
    expect(app.reportOf(first)).toBeUndefined();
  });

  it('comes back neither too early nor together with all that a registry sent away', async () => {
    for (const tag of ['1.0', '1.1', '1.2', '1.3', '1.4']) await push(tag);
    parkForADay();
    const until = Date.now() + 90_000_000;
    await app.schedule();
    await app.deliver();
    const times = new Set<number>();
    for await (const parking of app.parked.all()) times.add(parking.until);
    vi.useRealTimers();
    expect(times.size).toBe(5);
    expect(Math.min(...times)).toBeGreaterThanOrEqual(until);
    expect(Math.max(...times)).toBeLessThanOrEqual(until + 300_000);
  });

  it('costs the next run what it costs, where it was parked past its own', async () => {
    await push('1.0');
    parkForADay();
    const first = await app.schedule();
    await app.deliver();
    expect(told(first)).toEqual(['1.0 deferred rate limit']);
    const second = await joinTheNextDay(() => {
      app.target.intercept = undefined;
    });
    expect(told(second)).toEqual(['1.0 copied']);
    expect(app.reportOf(second)?.totals.bytesCopied).toBeGreaterThan(0);
    expect(app.reportOf(second)?.tags.map(({ bytes }) => bytes)).toEqual([expect.any(Number)]);
    const pulls = app.reports.map(({ totals }) => totals.pulls);
    expect(pulls.reduce((sum, one) => sum + one, 0)).toBe(app.hub.pulls);
  });

  it('costs the next run what an attempt that failed cost, where its own has closed', async () => {
    await push('1.0', 'large', 3_000_000);
    parkForADay();
    await app.schedule();
    await app.deliver();
    let failed = false;
    const second = await joinTheNextDay(() => {
      app.target.intercept = ({ method, url }) => {
        if (failed || method !== 'PUT' || !url.includes('/manifests/')) return undefined;
        failed = true;
        return { kind: 'answer', status: 503 };
      };
    });
    expect(failed).toBe(true);
    expect(told(second)).toEqual(['1.0 copied']);
    expect(app.reportOf(second)?.totals.bytesCopied).toBeGreaterThan(3_000_000);
  });

  it('is told by a run of its own where every run that waited has closed, when the hour is over', async () => {
    await push('1.0');
    parkForADay();
    const first = await app.schedule();
    await app.deliver();
    expect(told(first)).toEqual(['1.0 deferred rate limit']);
    app.target.intercept = undefined;
    vi.advanceTimersByTime(26 * 3600_000);
    await app.engine().releaser.release();
    await app.deliver();
    await app.engine().releaser.release();
    expect(app.reports).toHaveLength(1);
    const [open = ''] = await app.book.openRuns();
    expect(await tells(open)).toEqual(['1.0 copied']);
    await endTheHour();
    vi.useRealTimers();
    expect(app.reports).toHaveLength(2);
    const late = app.reports.at(-1);
    expect(toldIn(late)).toEqual(['1.0 copied']);
    expect(late?.run).toMatchObject({ trigger: 'schedule', partial: true });
    expect(late?.totals.bytesCopied).toBeGreaterThan(0);
    const pulls = app.reports.map(({ totals }) => totals.pulls);
    expect(pulls.reduce((sum, one) => sum + one, 0)).toBe(app.hub.pulls);
  });

  it('is told as failed by a run of its own where it is poisoned after its run closed as deferred', async () => {
    await push('1.0');
    await planned();
    const [message] = app.queues.messages.splice(0);
    const request = copyRequestSchema.parse(JSON.parse(message?.text ?? ''));
    const { run, id, rule } = request;
    const line = {
      rule,
      source: 'docker.io/acme/app:1.0',
      target: `${request.target}:1.0`,
      outcome: 'deferred',
    };
    const part = {
      id,
      opened: [],
      lines: [line],
      transfer: noTransfer(),
      parkedUntil: Date.now() + 48 * 3600_000,
    };
    await app.book.write(run, part, async (report) => void app.reports.push(report));
    expect(told(run)).toEqual(['1.0 deferred']);
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() });
    // The message may come twice.
    for (let times = 0; times < 2; times += 1) await app.engine().worker.poison(request, 'copy');
    await endTheHour();
    expect(app.reports).toHaveLength(2);
    expect(toldIn(app.reports.at(-1))).toEqual(['1.0 failed']);
  });

  it('is held up by nothing that is parked for thousands of years', async () => {
    await push('1.0');
    await planned();
    const [message] = app.queues.messages.splice(0);
    const request = copyRequestSchema.parse(JSON.parse(message?.text ?? ''));
    for (const [id, until] of [
      ['late', Date.UTC(57_936, 8)],
      ['soon', Date.now() - 1000],
    ] as const)
      await app.parked.park({ ...request, id }, 'copy', until, 'rate limit');
    expect((await app.parked.due(Date.now())).map(({ id }) => id)).toEqual(['soon']);
  });

  it('is joined for the tags that it is about; other tags of the digest are asked for beside it', async () => {
    await push('1.0', 'same');
    const first = await planned();
    await push('latest', 'same');
    const second = await planned();
    expect(app.queues.messages).toHaveLength(2);
    await app.deliver();
    expect(told(first)).toEqual(['1.0 copied']);
    expect(told(second)).toEqual(['1.0 copied', 'latest copied']);
    expect(await marks()).toBe(0);
  });

  it('is taken over by a push, and has nothing left to do', async () => {
    await push('1.0');
    const run = await planned();
    const [held] = app.queues.messages.splice(0);
    const hook = await webhook('1.0');
    await app.deliver();
    expect(told(run)).toEqual(['1.0 copied']);
    expect(await tells(hook.run)).toEqual(['1.0 copied']);
    app.target.requests.length = 0;
    if (held !== undefined) app.queues.messages.push(held);
    await app.deliver();
    expect(app.target.requests.filter(({ method }) => method !== 'HEAD' && method !== 'GET')).toEqual([]);
    expect(app.reports).toHaveLength(1);
  });

  it('is asked for again where its message was lost, and then ends in every run that waited', async () => {
    await push('1.0');
    const first = await planned();
    app.queues.messages.length = 0;
    for await (const { key } of app.stores.state.list('outstanding/')) await age(key);
    const second = await planned();
    expect(app.queues.messages).toHaveLength(1);
    await app.deliver();
    expect([first, second].map(told)).toEqual([['1.0 copied'], ['1.0 copied']]);
  });

  async function age(key: string): Promise<void> {
    const document = await app.stores.state.get(key);
    const mark: { at: number } = JSON.parse(Buffer.from(document?.bytes ?? []).toString());
    const old = { ...mark, at: mark.at - 13 * 3600_000 };
    await app.stores.state.put(key, Buffer.from(JSON.stringify(old)));
  }

  it('says copied of what its first delivery copied, whatever its second one finds', async () => {
    await push('1.0', 'same');
    await push('2.0', 'same');
    const run = await planned();
    let moves = 0;
    app.target.intercept = ({ method, url }) => {
      if (method !== 'PUT' || !/manifests\/[12]\.0$/.test(url)) return undefined;
      moves += 1;
      return moves === 2 ? { kind: 'answer', status: 503 } : undefined;
    };
    await app.deliver();
    expect(told(run)).toEqual(['1.0 copied', '2.0 copied']);
  });

  it('tells of each repository of a namespace whose plan was poisoned', async () => {
    app.rewrite('\n  - { name: all, source: docker.io/acme/*, target: $target/m/* }');
    await push('1.0');
    await app.hub.push('acme/web', '1.0', buildManifest({ seed: 'web' }));
    const run = await planned();
    const plans = app.queues.messages.splice(0).map(({ text }) => planRequestSchema.parse(JSON.parse(text)));
    for (const plan of plans) await app.engine().worker.poison(plan, 'plan');
    expect(app.reportOf(run)?.tags.map(({ source, outcome }) => `${source} ${outcome}`)).toEqual([
      'docker.io/acme/app failed',
      'docker.io/acme/web failed',
    ]);
    await app.engine().dispatcher.retry('again', run);
    const asked = app.queues.messages.map(({ text }) => planRequestSchema.parse(JSON.parse(text)).repository);
    expect(asked.sort()).toEqual(['acme/app', 'acme/web']);
  });

  it('ends as failed where it was poisoned, and can be tried again', async () => {
    await push('1.0');
    const run = await planned();
    const [message] = app.queues.messages.splice(0);
    await app.engine().worker.poison(copyRequestSchema.parse(JSON.parse(message?.text ?? '')), 'copy');
    expect(told(run)).toEqual(['1.0 failed']);
    expect(await app.engine().dispatcher.retry('again', run)).toMatchObject({ requests: 1 });
    await app.deliver();
    expect(told('again')).toEqual(['1.0 copied']);
  });
});
