/** What moved while it was copied is asked for once more, whatever happens to who asks. */
import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { StorageError } from '../../../lib/storage/failure.ts';
import { containers, type DocumentStore, type Stores } from '../../../lib/storage/ports.ts';
import { planRequestSchema } from '../../../lib/sync/request.ts';
import type { Line } from '../../../lib/sync/runs/report.ts';
import { handOver, startApp } from '../../local/app.ts';
import { buildManifest, type Content } from '../../local/content.ts';

const [A, B, C] = ['A', 'B', 'C'].map((seed) => buildManifest({ seed, layers: [1000] })) as [
  Content,
  Content,
  Content,
];

let app: Awaited<ReturnType<typeof startApp>>;
beforeEach(async () => {
  app = await startApp({ rules: '\n  - { name: app, source: docker.io/acme/app, target: $target/app }' });
});
afterEach(async () => {
  vi.useRealTimers();
  await app.close();
});

const webhook = (tag: string) =>
  app
    .engine()
    .dispatcher.push(`hook-${randomUUID()}`, { repository: 'docker.io/acme/app', tag, pushedAt: Date.now() });

/** What `release` does after so many minutes, with what it brings. */
async function release(minutes: number): Promise<void> {
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + minutes * 60_000 });
  await app.engine().releaser.release();
  await app.deliver();
  await app.engine().releaser.release();
}

const marks = async () => (await Array.fromAsync(app.stores.state.list('outstanding/'))).length;

/** Every call is looked at first. */
function watched(look: (call: string, key: string) => void): Stores {
  const wrap = (store: DocumentStore): DocumentStore => {
    const called =
      <A extends [string, ...unknown[]], R>(call: string, method: (...args: A) => R) =>
      (...args: A): R => {
        look(call, args[0]);
        return method.apply(store, args);
      };
    const { get, put, delete: remove, list, lease } = store;
    return {
      get: called('get', get),
      put: called('put', put),
      delete: called('delete', remove),
      list: called('list', list),
      lease: called('lease', lease),
    };
  };
  const stores = containers.map((name) => [name, wrap(app.stores[name])] as const);
  return Object.fromEntries(stores) as Record<(typeof containers)[number], DocumentStore>;
}

/** What a run said when it closed, by tag. */
function told(run: string): string[] | undefined {
  const lines = app.reportOf(run)?.tags as readonly Line[] | undefined;
  return lines?.map(({ target, outcome }) => `${target.slice(target.lastIndexOf(':') + 1)} ${outcome}`);
}

/** Does something when the blob of a content is read for the first time. */
function whileCopying(content: Content, act: () => Promise<unknown>): void {
  const blob = content.blobs[1]?.descriptor.digest ?? '';
  let acted = false;
  app.hub.registry.intercept = async ({ method, url }) => {
    if (acted || method !== 'GET' || !url.includes(blob)) return undefined;
    acted = true;
    await act();
    return undefined;
  };
}

describe('tags of one digest', () => {
  it('that move to different digests while they are copied are all mirrored', async () => {
    for (const tag of ['1', '2']) await app.hub.push('acme/app', tag, A);
    whileCopying(A, async () => {
      await app.hub.push('acme/app', '1', B);
      await app.hub.push('acme/app', '2', C);
    });
    const run = await app.schedule();
    await app.deliver();
    expect([app.digestAt('1'), app.digestAt('2')]).toEqual([B.descriptor.digest, C.descriptor.digest]);
    expect(told(run)?.sort()).toEqual(['1 copied', '1 copied', '2 copied', '2 copied']);
  });
});

/** Takes the next message; the process that has it dies when it sends another one. */
async function dieWhileSending(): Promise<void> {
  const [message] = app.queues.messages;
  if (message === undefined) throw new Error('There is no message');
  let dead = false;
  const engine = app.engine(
    watched(() => {
      if (dead) throw new Error('died');
    }),
  );
  const send = vi.spyOn(app.queues, 'send').mockImplementationOnce(async () => {
    dead = true;
    throw new Error('died');
  });
  await expect(handOver(engine, message)).rejects.toThrow('died');
  send.mockRestore();
}

describe('a follow-up that nobody was left to send', () => {
  /** The push of A finds B afterwards, and whoever carries it out dies before it has asked for B. */
  async function pushAndDie(): Promise<string> {
    await app.hub.push('acme/app', '1', A);
    whileCopying(A, () => app.hub.push('acme/app', '1', B));
    const { run } = await webhook('1');
    await dieWhileSending();
    expect(app.digestAt('1')).toBe(A.descriptor.digest);
    return run;
  }

  it('ends in its run, and in one that joined it, though the push comes again and finds another move', async () => {
    const first = await pushAndDie();
    const [again] = app.queues.messages.splice(0);
    const second = await app.schedule();
    await app.deliver();
    await app.hub.push('acme/app', '1', C);
    if (again !== undefined) app.queues.messages.push(again);
    await app.deliver();
    await release(16);
    expect(app.digestAt('1')).toBe(C.descriptor.digest);
    expect([first, second].map((run) => app.reportOf(run)?.run.finishedAt)).toEqual([
      expect.any(String),
      expect.any(String),
    ]);
    expect(await marks()).toBe(0);
  });

  it('is carried out though its message never comes again', async () => {
    const run = await pushAndDie();
    app.queues.messages.length = 0;
    await release(16);
    expect(app.digestAt('1')).toBe(B.descriptor.digest);
    expect(told(run)).toEqual(['1 copied', '1 copied']);
    expect(await marks()).toBe(0);
  });
});

describe('a follow-up that joined the request of a plan', () => {
  /** The request whose follow-up it is has ended; what a plan has asked for meanwhile is in the queue. */
  async function join(): Promise<string> {
    await app.hub.push('acme/app', '1', A);
    whileCopying(A, async () => {
      await app.hub.push('acme/app', '1', B);
      await app.schedule();
      await takeNext();
    });
    const run = await app.schedule();
    await takeNext();
    await takeNext();
    expect(queued()).toEqual([B.descriptor.digest]);
    return run;
  }

  async function takeNext(): Promise<void> {
    const message = app.queues.messages.shift();
    if (message === undefined) throw new Error('There is no message');
    await handOver(app.engine(), message);
  }

  const queued = () =>
    app.queues.messages.map(({ text }) => (JSON.parse(text) as { readonly digest?: string }).digest);

  it('is not sent beside it, however long that takes, and ends with it', async () => {
    const run = await join();
    for (const minutes of [16, 32, 48]) {
      vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + minutes * 60_000 });
      await app.engine().releaser.release();
      expect(queued()).toEqual([B.descriptor.digest]);
    }
    await app.deliver();
    expect(told(run)).toEqual(['1 copied', '1 copied']);
    expect(await marks()).toBe(0);
  });

  it('is sent where that was lost', async () => {
    const run = await join();
    app.queues.messages.length = 0;
    await release(13 * 60);
    expect(app.digestAt('1')).toBe(B.descriptor.digest);
    expect(told(run)).toEqual(['1 copied', '1 copied']);
    expect(await marks()).toBe(0);
  });
});

describe('a request that the queue refuses', () => {
  it('is not outstanding: a later plan asks for it', async () => {
    await app.hub.push('acme/app', '1', A);
    await app.schedule();
    const [plan] = app.queues.messages.splice(0);
    const refused = new StorageError('send: the service answered 403.', { status: 403 });
    const send = vi.spyOn(app.queues, 'send').mockRejectedValueOnce(refused);
    if (plan !== undefined) await expect(handOver(app.engine(), plan)).rejects.toThrow('403');
    send.mockRestore();
    expect(await marks()).toBe(0);
    await app.schedule();
    await app.deliver();
    expect(app.digestAt('1')).toBe(A.descriptor.digest);
  });
});

describe('a request of which nobody knows whether the queue took it', () => {
  it('is outstanding: a later plan joins it', async () => {
    await app.hub.push('acme/app', '1', A);
    await app.schedule();
    const [plan] = app.queues.messages.splice(0);
    const held = app.queues.send.bind(app.queues);
    const send = vi.spyOn(app.queues, 'send').mockImplementationOnce(async (queue, message) => {
      await held(queue, message);
      throw new StorageError('send: no answer in time.', { reason: 'TIMEOUT', retryable: true });
    });
    if (plan !== undefined) await expect(handOver(app.engine(), plan)).rejects.toThrow('no answer');
    send.mockRestore();
    const [request] = app.queues.messages.splice(0);
    const second = await app.schedule();
    const [next] = app.queues.messages.splice(0);
    if (next !== undefined) await handOver(app.engine(), next);
    expect(app.queues.messages).toEqual([]);
    if (request !== undefined) await handOver(app.engine(), request);
    expect(told(second)).toEqual(['1 copied']);
    expect(await marks()).toBe(0);
  });
});

describe('what a plan asked for that failed at every delivery', () => {
  /** A plan whose sends go wrong at each of its five deliveries; `joins` happens before it is given up. */
  async function poisoned(joins: () => Promise<unknown>): Promise<string> {
    await app.hub.push('acme/app', '1', A);
    const run = await app.schedule();
    const [plan] = app.queues.messages.splice(0);
    if (plan === undefined) throw new Error('There is no plan');
    for (let delivery = 1; delivery <= 5; delivery += 1) {
      const send = vi.spyOn(app.queues, 'send').mockImplementation(unanswered);
      await expect(handOver(app.engine(), plan)).rejects.toThrow('no answer');
      send.mockRestore();
    }
    await joins();
    await app.engine().worker.poison(planRequestSchema.parse(JSON.parse(plan.text)), 'plan');
    return run;
  }
  const unanswered = async () => {
    throw new StorageError('send: no answer in time.', { reason: 'TIMEOUT', retryable: true });
  };

  it('is sent by `retry`', async () => {
    const run = await poisoned(async () => undefined);
    const { run: again } = await app.engine().dispatcher.retry(`manual-${randomUUID()}`, run);
    await app.deliver();
    expect(app.digestAt('1')).toBe(A.descriptor.digest);
    expect(told(again)).toEqual(['1 copied']);
    expect(await marks()).toBe(0);
  });

  it('ends in a run that joined it before, when the next one sends it', async () => {
    let joined = '';
    await poisoned(async () => {
      joined = await app.schedule();
      await app.deliver();
    });
    expect(told(joined)).toBeUndefined();
    const next = await app.schedule();
    await app.deliver();
    expect([joined, next].map(told)).toEqual([['1 copied'], ['1 copied']]);
    expect(await marks()).toBe(0);
  });

  it('is sent by the next plan where its run was cancelled', async () => {
    await app.hub.push('acme/app', '1', A);
    const run = await app.schedule();
    const [plan] = app.queues.messages.splice(0);
    if (plan === undefined) throw new Error('There is no plan');
    const send = vi.spyOn(app.queues, 'send').mockImplementation(unanswered);
    await expect(handOver(app.engine(), plan)).rejects.toThrow('no answer');
    send.mockRestore();
    await app.engine().releaser.cancel(run);
    await handOver(app.engine(), plan);
    const next = await app.schedule();
    await app.deliver();
    expect(told(next)).toEqual(['1 copied']);
  });

  it('is sent again only where it may not have been', async () => {
    for (let tag = 1; tag <= 12; tag += 1)
      await app.hub.push('acme/app', `${tag}`, buildManifest({ seed: `${tag}` }));
    await app.schedule();
    const [plan] = app.queues.messages.splice(0);
    if (plan === undefined) throw new Error('There is no plan');
    const real = app.queues.send.bind(app.queues);
    for (let delivery = 1; delivery <= 5; delivery += 1) {
      const send = vi
        .spyOn(app.queues, 'send')
        .mockImplementation((queue, message) =>
          (message as { tags: { target: string }[] }).tags.some(({ target }) => target === '12')
            ? unanswered()
            : real(queue, message),
        );
      await expect(handOver(app.engine(), plan)).rejects.toThrow('no answer');
      send.mockRestore();
    }
    await app.engine().worker.poison(planRequestSchema.parse(JSON.parse(plan.text)), 'plan');
    const sent = () =>
      app.queues.messages.flatMap(({ text }) => (JSON.parse(text).tags ?? []) as { target: string }[]);
    const before = new Set(sent().map(({ target }) => target));
    expect(before.has('1')).toBe(true);
    await app.schedule();
    const index = app.queues.messages.findIndex(({ text }) => JSON.parse(text).kind === 'plan');
    const [next] = app.queues.messages.splice(index, 1);
    if (next !== undefined) await handOver(app.engine(), next);
    const all = sent().map(({ target }) => target);
    expect(all.length).toBe(new Set(all).size);
    expect(all).toContain('12');
  });

  it('is sent by the next plan also where the clock of who noted it was ahead', async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 290_000 });
    await poisoned(async () => void vi.useRealTimers());
    const next = await app.schedule();
    await app.deliver();
    expect(told(next)).toEqual(['1 copied']);
  });

  it('stays outstanding where it is parked', async () => {
    await app.hub.push('acme/app', '1', A);
    await app.schedule();
    const [plan] = app.queues.messages.splice(0);
    if (plan === undefined) throw new Error('There is no plan');
    const end = vi.spyOn(app.book, 'write').mockRejectedValueOnce(new StorageError('put: 503'));
    await expect(handOver(app.engine(), plan)).rejects.toThrow('503');
    end.mockRestore();
    app.target.intercept = ({ method }) =>
      method === 'POST' ? { kind: 'answer', status: 429, headers: { 'retry-after': '3600' } } : undefined;
    await app.deliver();
    await app.engine().worker.poison(planRequestSchema.parse(JSON.parse(plan.text)), 'plan');
    await app.schedule();
    const [next] = app.queues.messages.splice(0);
    if (next !== undefined) await handOver(app.engine(), next);
    expect(app.queues.messages).toEqual([]);
  });
});

describe('a push', () => {
  it.each([
    ['lease', 'locks/', 'copied'],
    ['put', 'mirrored/', 'unchanged'],
  ])('that our own storage refuses for a moment arrives: %s %s', async (call, prefix, outcome) => {
    await app.hub.push('acme/app', '1', A);
    const { run } = await webhook('1');
    const refused = new StorageError(`${call}: the service answered 403.`, { status: 403 });
    let left = 1;
    const stores = watched((called, key) => {
      if (called === call && key.startsWith(prefix) && left-- > 0) throw refused;
    });
    await app.deliver(app.engine(stores));
    expect(left).toBeLessThan(1);
    expect(app.digestAt('1')).toBe(A.descriptor.digest);
    for (const minutes of [2, 5]) await release(minutes);
    expect(told(run)).toEqual([`1 ${outcome}`]);
  });

  it('is followed by the one that came meanwhile, where the note of its move is refused', async () => {
    await app.hub.push('acme/app', '1', A);
    whileCopying(A, () => app.hub.push('acme/app', '1', B));
    await webhook('1');
    let left = 1;
    const stores = watched((called, key) => {
      if (called === 'put' && key.startsWith('locks/') && left-- > 0) throw new StorageError('put: 403');
    });
    await app.deliver(app.engine(stores));
    expect(left).toBeLessThan(1);
    expect(app.digestAt('1')).toBe(B.descriptor.digest);
  });

  it('is followed by the one that came meanwhile, where giving back the lease is refused', async () => {
    await app.hub.push('acme/app', '1', A);
    whileCopying(A, () => app.hub.push('acme/app', '1', B));
    await webhook('1');
    const { state } = app.stores;
    const take = state.lease.bind(state);
    let refused = 0;
    vi.spyOn(state, 'lease').mockImplementation(async (key, ...args) => {
      const lease = await take(key, ...args);
      if (lease === undefined || !key.startsWith('locks/')) return lease;
      const release = lease.release.bind(lease);
      vi.spyOn(lease, 'release').mockImplementation(async () => {
        await release();
        refused += 1;
        throw new StorageError('release: 403');
      });
      return lease;
    });
    await app.deliver();
    expect(refused).toBeGreaterThan(0);
    expect(app.digestAt('1')).toBe(B.descriptor.digest);
  });
});

it('a plan that dies before it sends, and whose tag moves then, leaves nothing behind for ever', async () => {
  await app.hub.push('acme/app', '1.0', A);
  await app.schedule();
  const [plan] = app.queues.messages.splice(0);
  if (plan === undefined) throw new Error('there is no plan');
  const { send } = app.queues;
  app.queues.send = () => Promise.reject(new StorageError('the process ends here'));
  const dying = watched((call, key) => {
    if (call === 'delete' && key.startsWith('outstanding/')) throw new Error('nobody is left');
  });
  await handOver(app.engine(dying), plan).catch(() => undefined);
  app.queues.send = send;
  expect(await marks()).toBe(1);
  await app.hub.push('acme/app', '1.0', B);
  await handOver(app.engine(), plan);
  await app.deliver();
  expect(app.digestAt('1.0')).toBe(B.descriptor.digest);
  await release(49 * 60);
  expect(await marks()).toBe(0);
});
