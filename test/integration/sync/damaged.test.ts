/** State that nothing can be made of, and sessions that cannot be ended, hold up nothing else. */
import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { DocumentStore } from '../../../lib/storage/ports.ts';
import { checkpointKey } from '../../../lib/sync/copy/checkpoint.ts';
import { copyRequestSchema } from '../../../lib/sync/request.ts';
import { handOver, startApp } from '../../local/app.ts';
import { buildManifest, type Content } from '../../local/content.ts';

const week = 7 * 24 * 3600_000;

let app: Awaited<ReturnType<typeof startApp>>;
beforeEach(async () => {
  app = await startApp({ rules: '\n  - { name: app, source: docker.io/acme/app, target: $target/app }' });
});
afterEach(async () => {
  vi.useRealTimers();
  await app.close();
});

async function push(tag: string, size = 1000): Promise<Content> {
  const content = buildManifest({ seed: tag, layers: [size] });
  await app.hub.push('acme/app', tag, content);
  return content;
}

/** Leaves half of all documents whose names begin so, and says how many there are. */
async function damage(store: DocumentStore, prefix: string): Promise<number> {
  const names = await Array.fromAsync(store.list(prefix));
  for (const { key } of names) await store.put(key, Buffer.from('{"half":'));
  return names.length;
}

const logged = () => app.events.flatMap((event) => (event.type === 'log' ? [event] : []));

describe('a stale upload whose session cannot be ended', () => {
  it('is told of, and a release ends well', async () => {
    const target = `${app.target.host}/app`;
    const digest = `sha256:${'a'.repeat(64)}` as const;
    const location = `${app.target.url}/v2/app/blobs/uploads/${randomUUID()}`;
    const checkpoint = { target, digest, size: 9, location, offset: 4, savedAt: 0 };
    await app.stores.checkpoints.put(checkpointKey(target, digest), Buffer.from(JSON.stringify(checkpoint)));
    app.target.intercept = ({ method }) =>
      method === 'DELETE' ? { kind: 'answer', status: 403 } : undefined;
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + week + 1000 });
    await app.engine().releaser.release();
    expect(logged()).toMatchObject([{ message: 'upload not cancelled', fields: { target } }]);
    expect(await app.stores.checkpoints.get(checkpointKey(target, digest))).toBeUndefined();
  });
});

describe('a damaged document', () => {
  it('of repositories to mount from fails no tag, and is made anew', async () => {
    const content = await push('big', 2 * 1024 * 1024);
    const [layer] = content.blobs.toSorted((a, b) => b.size - a.size);
    const key = `blobs/${app.target.host}/${layer?.descriptor.digest}`;
    for (const text of ['{"half":', '{}', 'null', '[{}]']) {
      app.target.store.repositories.clear();
      await app.stores.state.put(key, Buffer.from(text));
      const run = await app.schedule();
      await app.deliver();
      expect(app.reportOf(run)?.totals).toMatchObject({ copied: 1, failed: 0 });
      const note = await app.stores.state.get(key);
      expect(JSON.parse(Buffer.from(note?.bytes ?? []).toString())).toEqual(['app']);
    }
  });

  it('of something parked is removed and told of, and what is parked behind it goes on', async () => {
    await push('1.0');
    await app.control.pause();
    await app.schedule();
    await app.deliver();
    expect(await damage(app.stores.state, 'parked/')).toBe(1);
    const run = await app.schedule();
    await app.deliver();
    await app.control.resume();
    await app.engine().releaser.release();
    await app.deliver();
    expect(app.reportOf(run)?.totals).toMatchObject({ copied: 1 });
    expect(await app.parked.size()).toBe(0);
    expect(logged()).toContainEqual(
      expect.objectContaining({ level: 'error', message: 'parked request dropped' }),
    );
  });

  it('of something parked keeps no later plan from asking for its tags', async () => {
    await push('1.0');
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() });
    const first = await app.schedule();
    for (const plan of app.queues.messages.splice(0)) await handOver(app.engine(), plan);
    app.hub.abuse = { retryAfter: '3600' };
    await app.deliver();
    app.hub.abuse = undefined;
    expect(await damage(app.stores.state, 'parked/')).toBe(1);
    vi.advanceTimersByTime(2 * 3600_000);
    await app.engine().releaser.release();
    const second = await app.schedule();
    await app.deliver();
    for (const run of [first, second]) expect(app.reportOf(run)?.totals).toMatchObject({ copied: 1 });
  });

  it.each(['toString', 'constructor', 'other'])(
    'of something parked for the lane %s is no parking',
    async (lane) => {
      await app.stores.state.put(`parked/${new Date(0).toISOString()}/${lane}/run/id`, Buffer.from('{}'));
      expect(await app.parked.due(Date.now())).toEqual([]);
      await app.engine().releaser.release();
      expect(logged()).toEqual([]);
    },
  );

  it('of what people asked for counts as nothing, until they ask again', async () => {
    await push('1.0');
    await app.control.pause();
    await damage(app.stores.state, 'control.json');
    const run = await app.schedule();
    await app.deliver();
    await app.engine().releaser.release();
    expect(app.reportOf(run)?.totals).toMatchObject({ copied: 1 });
    await app.control.pause();
    expect(await app.control.wishes()).toMatchObject({ pausedSince: expect.any(String) });
  });

  it('of a request that is outstanding has it asked for again', async () => {
    await push('1.0');
    const runs = [await app.schedule()];
    for (const plan of app.queues.messages.splice(0)) await handOver(app.engine(), plan);
    expect(await damage(app.stores.state, 'outstanding/')).toBe(1);
    const [copy, ...none] = app.queues.messages.splice(0);
    expect(none).toEqual([]);
    runs.push(await app.schedule());
    await app.deliver();
    expect(app.reportOf(runs[1] ?? '')?.totals).toMatchObject({ copied: 1 });
    if (copy !== undefined) await handOver(app.engine(), copy);
    for (const run of runs) expect(app.reportOf(run)?.totals).toMatchObject({ tags: 1, failed: 0 });
    expect(await Array.fromAsync(app.stores.state.list('outstanding/'))).toEqual([]);
  });

  it('of an outstanding request does not fail the request itself', async () => {
    await push('1.0');
    const run = await app.schedule();
    for (const plan of app.queues.messages.splice(0)) await handOver(app.engine(), plan);
    await damage(app.stores.state, 'outstanding/');
    await app.deliver();
    expect(app.reportOf(run)?.totals).toMatchObject({ copied: 1 });
    expect(await Array.fromAsync(app.stores.state.list('outstanding/'))).toEqual([]);
  });
});

describe('a target that may not be opened', () => {
  it('fails what is parked for it, and holds up nothing that is parked behind', async () => {
    const closed = 'mirror.azurecr.io/app';
    app.rewrite(`- { name: app, source: docker.io/acme/app, target: [${closed}, $target/app] }`);
    const { digest } = (await push('1.0')).descriptor;
    for (const [nth, target] of [closed, `${app.target.host}/app`].entries()) {
      const tags = [{ source: '1.0', target: '1.0' }];
      const about = { rule: 'app', source: 'docker.io/acme/app', target, tags, digest, reason: 'new tag' };
      const request = copyRequestSchema.parse({ kind: 'copy', id: `copy-${nth}`, run: 'run', ...about });
      await app.parked.park(request, 'copy', Date.now(), 'rate limit');
    }
    await app.engine().releaser.release();
    await app.deliver();
    expect(app.digestAt('1.0')).toBe(digest);
    expect(await app.parked.size()).toBe(0);
    const lines = app.events.flatMap((event) => (event.type === 'line' ? [event.line] : []));
    expect(lines.map(({ target, outcome }) => [target, outcome])).toEqual([
      [`${closed}:1.0`, 'failed'],
      [`${app.target.host}/app:1.0`, 'copied'],
    ]);
  });
});
