import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { DocumentStore } from '../../../lib/storage/ports.ts';
import { type Admission, AllowanceKeeper, Puller } from '../../../lib/sync/copy/allowance.ts';
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
const admit = (keeper: AllowanceKeeper, one = puller()) => keeper.admit(one, 0, signal);

/** A pull that is refused; the time that all keep now. */
async function refuse(keeper: AllowanceKeeper, until: number, one = puller()): Promise<number | undefined> {
  using pull = await admit(keeper, one);
  return (await pull.refused(until)).retryAt;
}

describe('the time before which nobody pulls', () => {
  it('stands against an instance that was told an earlier one and had not heard of it', async () => {
    const [early, late] = [new AllowanceKeeper(store), new AllowanceKeeper(store)];
    const until = Date.now() + 6 * hourMs;
    await admit(early);
    await refuse(late, until);
    expect(await refuse(early, Date.now() + 1500)).toBe(until);
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
        told ??= refuse(new AllowanceKeeper(store), until);
        await told;
        return store.put(key, bytes, options);
      },
    };
    const early = new AllowanceKeeper(slow);
    expect(await refuse(early, Date.now() + 1500)).toBe(until);
    await expect(admit(new AllowanceKeeper(store))).rejects.toMatchObject({ retryAt: until });
  });

  it('is not forgotten for a look at storage that began before', async () => {
    const until = Date.now() + 6 * hourMs;
    const looked = Promise.withResolvers<void>();
    let isSlow = false;
    const slow: DocumentStore = {
      ...boundTo(store),
      async get(key, options) {
        const document = await store.get(key, options);
        if (isSlow) await looked.promise;
        return document;
      },
    };
    const keeper = new AllowanceKeeper(slow);
    const pull = await admit(keeper);
    vi.advanceTimersByTime(6000);
    isSlow = true;
    const look = admit(keeper).catch(() => undefined);
    isSlow = false;
    await pull.refused(until);
    looked.resolve();
    await look;
    await expect(admit(keeper)).rejects.toMatchObject({ retryAt: until });
  });

  it('moves on where a later one is told, and begins anew where it was damaged', async () => {
    await refuse(new AllowanceKeeper(store), Date.now() + hourMs);
    for await (const { key } of store.list('allowance/')) await store.put(key, Buffer.from('{"until'));
    const pulls = [2, 3].map(async (hours) => ({ hours, pull: await admit(new AllowanceKeeper(store)) }));
    for (const { hours, pull } of await Promise.all(pulls)) {
      const until = Date.now() + hours * hourMs;
      await pull.refused(until);
      await expect(admit(new AllowanceKeeper(store))).rejects.toMatchObject({ retryAt: until });
    }
  });

  it('is waited for where it is at most a minute away, by every instance', async () => {
    const told = new AllowanceKeeper(store);
    for (const ms of [8000, 60_000]) {
      const until = Date.now() + ms;
      await refuse(told, until);
      for (const keeper of [told, new AllowanceKeeper(store)])
        await expect(admit(keeper)).resolves.toBeDefined();
      expect(Date.now()).toBe(until);
    }
  });

  it('is waited for by nobody who stops', async () => {
    const until = Date.now() + 8000;
    await refuse(new AllowanceKeeper(store), until);
    const stopped = AbortSignal.abort(new Error('stopped'));
    await expect(new AllowanceKeeper(store).admit(puller(), 0, stopped)).rejects.toThrow('stopped');
    expect(Date.now()).toBeLessThan(until);
  });

  it('ends what was told before it, and nothing that was told after it', async () => {
    const one = puller();
    const tell = () => one.besides({}).onAllowance?.({ ...allowance, remaining: 0 });
    const keeper = new AllowanceKeeper(store);
    const pull = await admit(keeper, one);
    tell();
    await pull.refused(Date.now() + 8000);
    pull[Symbol.dispose]();
    await expect(keeper.admit(one, 0, signal)).resolves.toBeDefined();
    vi.advanceTimersByTime(1);
    tell();
    await expect(keeper.admit(one, 0, signal)).rejects.toMatchObject({ code: 'ERR_RATE_LIMITED' });
  });

  it('is of the login where the registry names nobody, and of no other', async () => {
    const until = Date.now() + hourMs;
    await refuse(new AllowanceKeeper(store), until, new Puller(host, 'limited'));
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
  const inSeconds = async (keeper: AllowanceKeeper, seconds: number) => {
    const retryAt = await refuse(keeper, Date.now() + seconds * 1000);
    return Math.round(((retryAt ?? 0) - Date.now()) / 1000);
  };

  it('are believed three times in a row; then everybody is kept off for longer and longer, up to a sixth of the window', async () => {
    const keeper = new AllowanceKeeper(store);
    const waits: number[] = [];
    for (let nth = 0; nth < 12; nth += 1) {
      waits.push(await inSeconds(keeper, 8));
      vi.advanceTimersByTime(2 * hourMs);
    }
    expect(waits).toEqual([8, 8, 8, 120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600]);
  });

  it('of pulls that were sent together count as one, however far apart they come', async () => {
    const keeper = new AllowanceKeeper(store);
    const pulls = await Promise.all(Array.from({ length: 10 }, () => admit(keeper)));
    for (const pull of pulls) {
      await pull.refused(Date.now() + 3000);
      vi.advanceTimersByTime(4000);
    }
    expect(await inSeconds(keeper, 8)).toBe(8);
  });

  it('begin anew with a pull that was served, also one that was sent before', async () => {
    const keeper = new AllowanceKeeper(store);
    for (let nth = 0; nth < 6; nth += 1) {
      const [served, refused] = [await admit(keeper), await admit(keeper)];
      const until = Date.now() + 8000;
      expect(await refused.refused(until)).toMatchObject({ retryAt: until });
      served.answered();
      for (const pull of [served, refused]) pull[Symbol.dispose]();
      vi.advanceTimersByTime(9000);
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

describe('of those who have waited for that time', () => {
  const kept = 2;
  let keeper: AllowanceKeeper;
  let pull: Admission;
  let first: Puller;
  let others: Puller[];

  /** All have heard of the allowance before; the first of them pulls. */
  beforeEach(async () => {
    keeper = new AllowanceKeeper(store);
    [first, ...others] = Array.from({ length: 5 }, puller) as [Puller, ...Puller[]];
    await refuse(keeper, Date.now() + 8000, first);
    pull = await keeper.admit(first, kept, signal);
  });

  const ask = (reserve = kept) => others.map((one) => keeper.admit(one, reserve, signal));
  const settled = async (promises: readonly Promise<unknown>[]) =>
    (await Promise.allSettled(promises)).map(({ status }) => status);

  it('one pulls, and its answer tells the others how many may', async () => {
    const asked = ask();
    vi.advanceTimersByTime(1);
    first.besides({}).onAllowance?.({ ...allowance, remaining: 4 });
    pull.answered();
    pull[Symbol.dispose]();
    expect(await settled(asked)).toEqual(['fulfilled', 'fulfilled', 'rejected', 'rejected']);
  });

  it('all wait again where that one is refused', async () => {
    const asked = ask();
    const until = Date.now() + hourMs;
    await pull.refused(until);
    pull[Symbol.dispose]();
    for (const one of asked) await expect(one).rejects.toMatchObject({ retryAt: until });
  });

  it('another goes first where that one fails', async () => {
    const next = keeper.admit(others[0] as Puller, kept, signal);
    pull[Symbol.dispose]();
    const second = await next;
    let isHeldUp = true;
    const third = keeper.admit(others[1] as Puller, kept, signal).finally(() => {
      isHeldUp = false;
    });
    await new Promise(setImmediate);
    expect(isHeldUp).toBe(true);
    second.answered();
    second[Symbol.dispose]();
    await third;
  });

  it('another goes first where that one takes longer than a moment; the answer of either goes for all', async () => {
    const [second, third] = others as [Puller, Puller];
    await expect(keeper.admit(second, kept, signal)).resolves.toBeDefined();
    const pulls = vi.fn();
    const asked = keeper.admit(third, kept, signal).then(pulls);
    await new Promise(setImmediate);
    vi.advanceTimersByTime(1);
    first.besides({}).onAllowance?.({ ...allowance, remaining: 4 });
    pull.answered();
    pull[Symbol.dispose]();
    await new Promise(setImmediate);
    expect(pulls).toHaveBeenCalledOnce();
    await asked;
  });

  it('all pull where the answer tells nothing', async () => {
    const asked = ask();
    pull.answered();
    pull[Symbol.dispose]();
    expect(await settled(asked)).toEqual(Array(4).fill('fulfilled'));
  });

  it('none who leaves less to others waits for one who leaves more', async () => {
    let isHeldUp = true;
    const push = keeper.admit(others[0] as Puller, 0, signal).finally(() => {
      isHeldUp = false;
    });
    await new Promise(setImmediate);
    expect(isHeldUp).toBe(false);
    await push;
  });

  it('none who stops is held up', async () => {
    const stop = new AbortController();
    const stopped = keeper.admit(puller(), kept, stop.signal);
    stop.abort(new Error('stopped'));
    await expect(stopped).rejects.toThrow('stopped');
  });
});
