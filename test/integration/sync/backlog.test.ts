/** What is asked for while a copy of the same waits in the backlog. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { StorageError } from '../../../lib/storage/failure.ts';
import { planRequestSchema } from '../../../lib/sync/request.ts';
import { handOver, type Message, startApp } from '../../local/app.ts';
import { buildManifest, cosignSignature, cosignTag } from '../../local/content.ts';

const content = buildManifest();
const other = buildManifest({ seed: 'other' });
const { digest } = content.descriptor;
const asked = { tags: ['1.0'], dryRun: false, force: false };
const refused = ({ method }: { method: string }) =>
  method === 'PUT' ? ({ kind: 'answer', status: 400 } as const) : undefined;

let app: Awaited<ReturnType<typeof startApp>>;
afterEach(async () => {
  vi.useRealTimers();
  vi.restoreAllMocks();
  await app.close();
});

const taken = () => app.queues.messages.splice(0);
const queues = () => app.queues.messages.map(({ queue }) => queue);

async function carryOut(messages: readonly Message[]): Promise<void> {
  for (const message of messages) await handOver(app.engine(), message);
}

/** Plans alone. */
async function planned(): Promise<void> {
  const messages = taken();
  const isPlan = ({ queue }: Message) => queue === 'plan-requests';
  app.queues.messages.push(...messages.filter((message) => !isPlan(message)));
  await carryOut(messages.filter(isPlan));
}

/** A run of the timer, and its one copy. */
async function backlog(): Promise<{ run: string; copy: Message }> {
  const run = await app.schedule();
  await carryOut(taken());
  const [copy] = taken();
  if (copy === undefined) throw new Error('nothing waits');
  return { run, copy };
}

function push(run: string, pushedAt = Date.now()) {
  return app.engine().dispatcher.push(run, { repository: 'docker.io/acme/app', tag: '1.0', pushedAt });
}

describe('beside a copy of the same', () => {
  beforeEach(async () => {
    // Needs the whole list: also a push is planned.
    app = await startApp({
      rules: '- { source: docker.io/acme/app, target: $target/app, name: app, tags: { newest: 2 } }',
    });
    await app.hub.push('acme/app', '1.0', content);
  });

  it('what people ask for by hand goes first, and ends the copy where it ends well', async () => {
    const { run, copy } = await backlog();
    await app.engine().dispatcher.start('by-hand', 'manual', asked);
    await carryOut(taken());
    expect(queues()).toEqual(['push-requests']);
    await app.deliver();
    expect(app.reportOf('by-hand')?.totals).toMatchObject({ copied: 1 });
    expect(app.reportOf(run)?.totals).toMatchObject({ copied: 1 });
    await carryOut([copy]);
    expect(await Array.fromAsync(app.stores.state.list('outstanding/'))).toEqual([]);
  });

  it('what is tried again goes first after a push that failed', async () => {
    await backlog();
    await push('a-minute');
    app.target.intercept = refused;
    await app.deliver();
    app.target.intercept = undefined;
    await app.engine().dispatcher.retry('again', 'a-minute');
    await app.deliver();
    expect(app.digestAt('1.0')).toBe(digest);
  });

  it('a push goes first also after one whose plan never came to send it', async () => {
    await backlog();
    await push('a-minute');
    const [plan] = taken();
    const away = new StorageError('send: no answer in time.', { reason: 'TIMEOUT', retryable: true });
    const send = vi.spyOn(app.queues, 'send').mockRejectedValue(away);
    await expect(carryOut(plan === undefined ? [] : [plan])).rejects.toThrow('no answer');
    send.mockRestore();
    await app.engine().worker.poison(planRequestSchema.parse(JSON.parse(plan?.text ?? '')), 'plan');
    await push('another-minute', Date.now() + 60_000);
    await carryOut(taken());
    expect(queues()).toEqual(['push-requests']);
  });

  it('a push that joined one that fails is told so, and waits for no copy', async () => {
    await backlog();
    for (const run of ['a-minute', 'another-minute']) {
      await push(run, Date.now() + run.length);
      await planned();
    }
    expect(queues()).toEqual(['push-requests']);
    app.target.intercept = refused;
    await app.deliver();
    expect(app.reportOf('a-minute')?.totals ?? (await app.book.report('a-minute'))?.totals).toMatchObject({
      failed: 1,
    });
    expect((await app.book.standing('another-minute'))?.missing).toEqual([]);
  });

  it('what follows something that goes first goes first, and is joined by the next push', async () => {
    await app.engine().dispatcher.start('by-hand', 'manual', asked);
    await planned();
    const before = taken();
    await app.hub.push('acme/app', '1.0', other);
    await app.schedule();
    await planned();
    expect(taken().map(({ queue }) => queue)).toEqual(['copy-requests']);
    await carryOut(before);
    expect(queues()).toEqual(['push-requests']);
    await push('a-minute');
    await planned();
    expect(queues()).toEqual(['push-requests']);
    await app.deliver();
    expect(app.digestAt('1.0')).toBe(other.descriptor.digest);
    expect(app.reportOf('by-hand')?.totals).toMatchObject({ copied: 1 });
  });

  it('another tag of the same digest goes first by itself, and is joined by a later plan', async () => {
    await backlog();
    await app.hub.push('acme/app', '1.1', content);
    for (const tag of ['1.0', '1.1']) {
      await app.engine().dispatcher.start(`by-hand-${tag}`, 'manual', { ...asked, tags: [tag] });
      await planned();
    }
    expect(queues()).toEqual(['push-requests', 'push-requests']);
    await app.schedule();
    await planned();
    expect(queues()).toEqual(['push-requests', 'push-requests']);
  });
});

describe('a plan whose send got no answer, when it comes again,', () => {
  const away = new StorageError('send: no answer in time.', { reason: 'TIMEOUT', retryable: true });
  const rule = '- { source: docker.io/acme/app, target: $target/app, name: app }';

  /** @returns the plan, which has asked for what nobody has sent */
  async function unsent(
    tags: Readonly<Record<string, typeof content>>,
  ): Promise<{ run: string; plan: Message }> {
    app = await startApp({ rules: rule });
    await push(tags);
    const run = await app.schedule();
    const [plan] = taken();
    if (plan === undefined) throw new Error('There is no plan');
    const send = vi.spyOn(app.queues, 'send').mockRejectedValue(away);
    await expect(carryOut([plan])).rejects.toThrow('no answer');
    send.mockRestore();
    return { run, plan };
  }

  async function push(tags: Readonly<Record<string, typeof content>>): Promise<void> {
    for (const [tag, one] of Object.entries(tags)) await app.hub.push('acme/app', tag, one);
  }

  it.each([
    ['onto', { '1.0': content, latest: other }, { latest: content }],
    ['away from', { '1.0': content, latest: content }, { latest: other }],
  ])('sends it also where another tag has moved %s its digest', async (_where, before, after) => {
    const { run, plan } = await unsent(before);
    await push(after);
    await carryOut([plan]);
    await app.deliver();
    expect(app.digestAt('1.0')).toBe(digest);
    expect(app.reportOf(run)?.totals).toMatchObject({ failed: 0 });
  });

  it('sends it also where one of its tags is asked for by hand meanwhile', async () => {
    const { run, plan } = await unsent({ '1.0': content, '1.1': content });
    await app.engine().dispatcher.start('by-hand', 'manual', asked);
    await planned();
    await carryOut([plan]);
    await app.deliver();
    expect(app.digestAt('1.1')).toBe(digest);
    expect(app.reportOf(run)?.totals).toMatchObject({ tags: 2, failed: 0 });
  });

  it('sends also what was a rest of it, for a run that has joined that', async () => {
    app = await startApp({ rules: rule });
    await push({ '1.0': content, '1.1': content });
    const byHand = (run: string, tags: string[]) =>
      app.engine().dispatcher.start(run, 'manual', { ...asked, tags });
    await byHand('one', ['1.0']);
    await planned();
    const [first] = taken();
    await byHand('both', ['1.0', '1.1']);
    const [plan] = taken();
    const send = vi.spyOn(app.queues, 'send').mockRejectedValue(away);
    await expect(carryOut(plan === undefined ? [] : [plan])).rejects.toThrow('no answer');
    send.mockRestore();
    await byHand('joins', ['1.0', '1.1']);
    await planned();
    await carryOut([...(first === undefined ? [] : [first]), ...(plan === undefined ? [] : [plan])]);
    await app.deliver();
    expect(app.digestAt('1.1')).toBe(digest);
    for (const run of ['both', 'joins'])
      expect(app.reportOf(run)?.totals).toMatchObject({ tags: 2, failed: 0 });
  });

  it('sends it for a run that has joined it, though it needs it no more itself', async () => {
    const { plan } = await unsent({ '1.0': content });
    const joined = await app.schedule();
    await planned();
    await push({ '1.0': other });
    await carryOut([plan]);
    await app.deliver();
    expect(app.digestAt('1.0')).toBe(other.descriptor.digest);
    expect(app.reportOf(joined)?.totals).toMatchObject({ failed: 0 });
  });
});

describe('beside a copy of what was said late about the same', () => {
  const signature = cosignTag(digest, 'sig');
  let late: Awaited<ReturnType<typeof backlog>>;

  beforeEach(async () => {
    app = await startApp({ rules: '- { source: docker.io/acme/app, target: $target/app, name: app }' });
    await app.hub.push('acme/app', '1.0', content);
    await app.schedule();
    await app.deliver();
    await app.hub.push('acme/app', signature, cosignSignature(digest));
    late = await backlog();
  });

  it('a sync by force checks everything all the same', async () => {
    const { blobs } = app.target.repository('app');
    const lost = content.blobs[0]?.descriptor.digest;
    if (lost !== undefined) app.target.repository('app').removeBlob(lost);
    await app.engine().dispatcher.start('by-force', 'manual', { ...asked, force: true });
    await app.deliver();
    expect([...blobs.keys()]).toContain(lost);
  });

  it('a push that finds its tag as it is to be leaves that to the copy', async () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    await push('a-minute');
    await app.deliver();
    for (const ms of [61_000, 241_000]) {
      vi.setSystemTime(Date.now() + ms);
      await app.engine().releaser.release();
      await app.deliver();
    }
    expect(app.reportOf(late.run)).toBeUndefined();
    await carryOut([late.copy]);
    expect(app.digestAt(signature)).toBeDefined();
    expect(app.reportOf(late.run)?.totals).toMatchObject({ copied: 1 });
  });
});
