import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { DocumentStore } from '../../../lib/storage/ports.ts';
import { AllowanceKeeper, Puller } from '../../../lib/sync/allowance.ts';
import { boundTo, memoryStores } from './memory.ts';

// Whoever waits moves the time on.
vi.mock('../../../lib/sync/waiting.ts', async (load) => {
  const real = await load<typeof import('../../../lib/sync/waiting.ts')>();
  return {
    ...real,
    sleepUntil: async (until: number, signal: AbortSignal) => {
      signal.throwIfAborted();
      vi.setSystemTime(Math.max(until, Date.now()));
    },
  };
});

const host = 'docker.io';
const hourMs = 3600_000;
const allowance = { limit: 100, remaining: 50, windowSeconds: 6 * 3600, source: 'acme' };

let store: DocumentStore;
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['Date'], now: Date.UTC(2026, 0, 1) });
  store = memoryStores().state;
});
afterEach(() => vi.useRealTimers());

/** Somebody who was told it just now. */
function puller(): Puller {
  const told = new Puller(host, '');
  told.besides({}).onAllowance?.(allowance);
  return told;
}

const { signal } = new AbortController();
const admit = (keeper: AllowanceKeeper) => keeper.admit(puller(), 0, signal);

describe('the time before which nobody pulls', () => {
  it('stands against an instance that was told an earlier one and had not heard of it', async () => {
    const [early, late] = [new AllowanceKeeper(store), new AllowanceKeeper(store)];
    const until = Date.now() + 6 * hourMs;
    await admit(early);
    await late.refused(puller(), until);
    expect(await early.refused(puller(), Date.now() + 1500)).toMatchObject({ retryAt: until });
    vi.advanceTimersByTime(2 * hourMs);
    for (const keeper of [early, late, new AllowanceKeeper(store)])
      await expect(admit(keeper)).rejects.toMatchObject({ code: 'ERR_RATE_LIMITED', retryAt: until });
  });

  it('stands where two instances write at once', async () => {
    const until = Date.now() + 6 * hourMs;
    let told: Promise<unknown> | undefined;
    const slow: DocumentStore = {
      ...boundTo(store),
      async put(key, bytes, options) {
        told ??= new AllowanceKeeper(store).refused(puller(), until);
        await told;
        return store.put(key, bytes, options);
      },
    };
    const early = new AllowanceKeeper(slow);
    expect(await early.refused(puller(), Date.now() + 1500)).toMatchObject({ retryAt: until });
    await expect(admit(new AllowanceKeeper(store))).rejects.toMatchObject({ retryAt: until });
  });

  it('is not forgotten for a look at storage that began before', async () => {
    const until = Date.now() + 6 * hourMs;
    const looked = Promise.withResolvers<void>();
    let isFirst = true;
    const slow: DocumentStore = {
      ...boundTo(store),
      async get(key, options) {
        const document = await store.get(key, options);
        if (isFirst) {
          isFirst = false;
          await looked.promise;
        }
        return document;
      },
    };
    const keeper = new AllowanceKeeper(slow);
    const look = admit(keeper).catch(() => undefined);
    await keeper.refused(puller(), until);
    looked.resolve();
    await look;
    await expect(admit(keeper)).rejects.toMatchObject({ retryAt: until });
  });

  it('moves on where a later one is told, and begins anew where it was damaged', async () => {
    await new AllowanceKeeper(store).refused(puller(), Date.now() + hourMs);
    for await (const { key } of store.list('allowance/')) await store.put(key, Buffer.from('{"until'));
    await expect(admit(new AllowanceKeeper(store))).resolves.toBeDefined();
    for (const hours of [2, 3]) {
      const until = Date.now() + hours * hourMs;
      await new AllowanceKeeper(store).refused(puller(), until);
      await expect(admit(new AllowanceKeeper(store))).rejects.toMatchObject({ retryAt: until });
    }
  });

  it('is waited for where it is at most a minute away, by every instance', async () => {
    const told = new AllowanceKeeper(store);
    for (const ms of [8000, 60_000]) {
      const until = Date.now() + ms;
      await told.refused(puller(), until);
      for (const keeper of [told, new AllowanceKeeper(store)])
        await expect(admit(keeper)).resolves.toBeDefined();
      expect(Date.now()).toBe(until);
    }
  });

  it('is waited for by nobody who stops', async () => {
    const until = Date.now() + 8000;
    await new AllowanceKeeper(store).refused(puller(), until);
    const stopped = AbortSignal.abort(new Error('stopped'));
    await expect(new AllowanceKeeper(store).admit(puller(), 0, stopped)).rejects.toThrow('stopped');
    expect(Date.now()).toBeLessThan(until);
  });

  it('ends what was told before it, and nothing that was told after it', async () => {
    const one = puller();
    const tell = () => one.besides({}).onAllowance?.({ ...allowance, remaining: 0 });
    tell();
    const keeper = new AllowanceKeeper(store);
    await keeper.refused(one, Date.now() + 8000);
    await expect(keeper.admit(one, 0, signal)).resolves.toBeDefined();
    vi.advanceTimersByTime(1);
    tell();
    await expect(keeper.admit(one, 0, signal)).rejects.toMatchObject({ code: 'ERR_RATE_LIMITED' });
  });

  it('is of the login where the registry names nobody, and of no other', async () => {
    const until = Date.now() + hourMs;
    await new AllowanceKeeper(store).refused(new Puller(host, 'limited'), until);
    const another = new AllowanceKeeper(store);
    await expect(another.admit(new Puller(host, 'limited'), 0, signal)).rejects.toMatchObject({
      retryAt: until,
    });
    for (const login of ['paid', '']) await another.admit(new Puller(host, login), 0, signal);
  });
});

describe('a pull', () => {
  it('counts until it is over, whatever HEADs tell its puller meanwhile', async () => {
    const keeper = new AllowanceKeeper(store);
    const one = new Puller(host, '');
    const tell = (remaining: number) => one.besides({}).onAllowance?.({ ...allowance, remaining });
    tell(2);
    const pull = await keeper.admit(one, 0, signal);
    tell(2);
    await keeper.admit(one, 0, signal);
    tell(2);
    await expect(keeper.admit(one, 0, signal)).rejects.toMatchObject({ code: 'ERR_RATE_LIMITED' });
    tell(2);
    pull[Symbol.dispose]();
    await expect(keeper.admit(one, 0, signal)).resolves.toBeDefined();
  });
});

describe('refusals that name a time close by', () => {
  const refuse = async (keeper: AllowanceKeeper, seconds: number) => {
    using _pull = await admit(keeper);
    const { retryAt = 0 } = await keeper.refused(puller(), Date.now() + seconds * 1000);
    return Math.round((retryAt - Date.now()) / 1000);
  };

  it('are believed three times in a row; then everybody is kept off for longer and longer, up to a sixth of the window', async () => {
    const keeper = new AllowanceKeeper(store);
    const waits: number[] = [];
    for (let nth = 0; nth < 12; nth += 1) {
      waits.push(await refuse(keeper, 8));
      vi.advanceTimersByTime(2 * hourMs);
    }
    expect(waits).toEqual([8, 8, 8, 120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600]);
  });

  it('of pulls that were on their way together count as one', async () => {
    const keeper = new AllowanceKeeper(store);
    const pulls = await Promise.all(Array.from({ length: 10 }, () => admit(keeper)));
    for (const _ of pulls) await keeper.refused(puller(), Date.now() + 8000);
    for (const pull of pulls) pull[Symbol.dispose]();
    vi.advanceTimersByTime(9000);
    expect(await refuse(keeper, 8)).toBe(8);
  });

  it('begin anew after a pull that was not refused', async () => {
    const keeper = new AllowanceKeeper(store);
    for (let nth = 0; nth < 6; nth += 1) {
      expect(await refuse(keeper, 8)).toBe(8);
      vi.advanceTimersByTime(9000);
      if (nth % 2 === 1) (await admit(keeper))[Symbol.dispose]();
    }
  });
});

describe('a pull that is on its way for long', () => {
  it('counts as long as it is', async () => {
    const keeper = new AllowanceKeeper(store);
    const pulls = [];
    for (let nth = 0; nth < 50; nth += 1) pulls.push(await admit(keeper));
    vi.advanceTimersByTime(2 * hourMs);
    await expect(admit(keeper)).rejects.toMatchObject({ code: 'ERR_RATE_LIMITED' });
    for (const pull of pulls) pull[Symbol.dispose]();
    await expect(admit(keeper)).resolves.toBeDefined();
  });
});

describe('who has waited for that time', () => {
  const waited = async (keeper: AllowanceKeeper, count: number) => {
    const pullers = Array.from({ length: count }, puller);
    await keeper.refused(pullers[0] as Puller, Date.now() + 8000);
    return pullers;
  };
  const answer = (one: Puller, remaining: number) =>
    one.besides({}).onAllowance?.({ ...allowance, remaining });
  const settled = async (promises: readonly Promise<unknown>[]) =>
    (await Promise.allSettled(promises)).map(({ status }) => status);

  it('lets one of them pull, whose answer tells the others how many may', async () => {
    const keeper = new AllowanceKeeper(store);
    const [first, ...others] = await waited(keeper, 5);
    const pull = await keeper.admit(first as Puller, 2, signal);
    const asked = others.map((one) => keeper.admit(one, 2, signal));
    vi.advanceTimersByTime(1);
    answer(first as Puller, 4);
    pull[Symbol.dispose]();
    expect(await settled(asked)).toEqual(['fulfilled', 'fulfilled', 'rejected', 'rejected']);
  });

  it('waits again where that one is refused', async () => {
    const keeper = new AllowanceKeeper(store);
    const [first, second] = await waited(keeper, 2);
    const pull = await keeper.admit(first as Puller, 0, signal);
    const asked = keeper.admit(second as Puller, 0, signal);
    const until = Date.now() + hourMs;
    await keeper.refused(first as Puller, until);
    pull[Symbol.dispose]();
    await expect(asked).rejects.toMatchObject({ retryAt: until });
  });

  it('is not held up where the answer tells nothing, nor by a pull when it stops', async () => {
    const keeper = new AllowanceKeeper(store);
    const [first, ...others] = await waited(keeper, 4);
    const pull = await keeper.admit(first as Puller, 0, signal);
    const stop = new AbortController();
    const stopped = keeper.admit(puller(), 0, stop.signal);
    stop.abort(new Error('stopped'));
    await expect(stopped).rejects.toThrow('stopped');
    const asked = others.map((one) => keeper.admit(one, 0, signal));
    pull[Symbol.dispose]();
    expect(await settled(asked)).toEqual(['fulfilled', 'fulfilled', 'fulfilled']);
  });
});
