import { describe, expect, it } from 'vitest';
import type { Clock } from '../../../lib/registry/clock.ts';
import { createHostGate } from '../../../lib/registry/gate.ts';

function fakeClock(): Clock & { readonly slept: number[] } {
  let now = 1_000_000;
  const slept: number[] = [];
  return {
    slept,
    now: () => now,
    async sleep(ms, signal) {
      signal?.throwIfAborted();
      slept.push(ms);
      now += ms;
    },
  };
}

const wait = { traffic: 'everything', maxWaitMs: 60_000 } as const;

describe('the gate of a host', () => {
  it('lets through where nothing was asked for', async () => {
    const clock = fakeClock();
    await createHostGate({ clock }).wait('x', wait);
    expect(clock.slept).toEqual([]);
  });

  it('holds up everything for that host and nothing for another', async () => {
    const clock = fakeClock();
    const gate = createHostGate({ clock });
    gate.close('x', clock.now() + 5000);
    await gate.wait('y', wait);
    expect(clock.slept).toEqual([]);
    await gate.wait('x', wait);
    expect(clock.slept).toEqual([5000]);
  });

  it('is never opened earlier by a later word', async () => {
    const clock = fakeClock();
    const gate = createHostGate({ clock });
    gate.close('x', clock.now() + 5000);
    gate.close('x', clock.now() + 1000);
    await gate.wait('x', wait);
    expect(clock.slept).toEqual([5000]);
  });

  it('refuses at once what would wait too long, and says until when', async () => {
    const clock = fakeClock();
    const gate = createHostGate({ clock });
    const until = clock.now() + 60_001;
    gate.close('x', until);
    await expect(gate.wait('x', wait)).rejects.toMatchObject({ code: 'ERR_RATE_LIMITED', retryAt: until });
    expect(clock.slept).toEqual([]);
    await gate.wait('x', { ...wait, maxWaitMs: 100_000 });
    expect(clock.slept).toEqual([60_001]);
  });

  it('holds up nothing but pulls where only these are limited', async () => {
    const clock = fakeClock();
    const gate = createHostGate({ clock });
    gate.close('x', clock.now() + 5000, 'pulls');
    await gate.wait('x', wait);
    expect(clock.slept).toEqual([]);
    await gate.wait('x', { ...wait, traffic: 'pulls' });
    expect(clock.slept).toEqual([5000]);
  });

  it('tells once that a host is waited for', async () => {
    const clock = fakeClock();
    const told: [string, number][] = [];
    const gate = createHostGate({ clock, onWaiting: (host, until) => told.push([host, until]) });
    const until = clock.now() + 5000;
    gate.close('x', until);
    await Promise.all([gate.wait('x', wait), gate.wait('x', wait)]);
    expect(told).toEqual([['x', until]]);
  });

  it('stops waiting with the reason of the signal', async () => {
    const gate = createHostGate();
    gate.close('x', Date.now() + 30_000);
    const controller = new AbortController();
    const waiting = gate.wait('x', { ...wait, signal: controller.signal });
    controller.abort(new Error('enough'));
    await expect(waiting).rejects.toThrow('enough');
  });

  it('leaves a host that refuses without a time alone for longer and longer, up to a minute', () => {
    const clock = fakeClock();
    const gate = createHostGate({ clock });
    const waits = Array.from({ length: 8 }, () => {
      const until = gate.refuse('x', clock.now());
      const waited = until - clock.now();
      // Whatever was sent before is refused as well, and tells nothing new.
      expect(gate.refuse('x', clock.now())).toBe(until);
      void clock.sleep(waited + 1);
      return waited;
    });
    for (const [nth, waited] of waits.entries()) {
      const most = Math.min(2000 * 2 ** nth, 60_000);
      expect(waited).toBeGreaterThanOrEqual(most / 2);
      expect(waited).toBeLessThanOrEqual(most);
    }
  });

  it('also where its refusals come later than that', async () => {
    const clock = fakeClock();
    const gate = createHostGate({ clock });
    for (let nth = 0; nth < 8; nth += 1) {
      const sentAt = clock.now();
      await clock.sleep(6000);
      const waited = gate.refuse('x', sentAt) - clock.now();
      expect(waited).toBeGreaterThanOrEqual(Math.min(1000 * 2 ** nth, 30_000));
      await clock.sleep(waited);
    }
  });

  it('is left alone for no longer, but as long, after a refusal of what was sent before', async () => {
    const clock = fakeClock();
    const gate = createHostGate({ clock });
    const sentAt = clock.now();
    await clock.sleep(gate.refuse('x', sentAt) - clock.now() + 10_000);
    const waited = gate.refuse('x', sentAt) - clock.now();
    expect(waited).toBeGreaterThanOrEqual(1000);
    expect(waited).toBeLessThanOrEqual(2000);
  });

  describe('whose patience ends', () => {
    const patienceMs = 3 * 60_000;

    it('keeps nobody waiting any more for a host that refused everything for so long, and says until when', async () => {
      const clock = fakeClock();
      const gate = createHostGate({ clock, patienceMs });
      const begun = clock.now();
      let until = gate.refuse('x', clock.now());
      while (clock.now() - begun < patienceMs) {
        await gate.wait('x', wait);
        until = gate.refuse('x', clock.now());
      }
      await expect(gate.wait('x', wait)).rejects.toMatchObject({ code: 'ERR_RATE_LIMITED', retryAt: until });
      await clock.sleep(until - clock.now());
      await gate.wait('x', wait);
    });

    it('waits on for a host that serves something between its refusals', async () => {
      const clock = fakeClock();
      const gate = createHostGate({ clock, patienceMs });
      for (let nth = 0; nth < 20; nth += 1) {
        gate.refuse('x', clock.now());
        await gate.wait('x', wait);
        gate.served('x');
      }
    });
  });

  it('begins anew with a host that has served for a while since it refused', async () => {
    const clock = fakeClock();
    const gate = createHostGate({ clock });
    for (let nth = 0; nth < 4; nth += 1) await clock.sleep(gate.refuse('x', clock.now()) - clock.now() + 1);
    await clock.sleep(40_000);
    expect(gate.refuse('x', clock.now()) - clock.now()).toBeLessThanOrEqual(2000);
  });

  it('sends those that were refused together back one after another, none too early', async () => {
    const clock = { now: () => 1_000_000, slept: [] as number[] };
    const gate = createHostGate({
      clock: { now: clock.now, sleep: (ms) => Promise.reject(clock.slept.push(ms)) },
    });
    const left = gate.refuse('x', clock.now()) - clock.now();
    await Promise.allSettled(Array.from({ length: 20 }, () => gate.wait('x', wait)));
    expect(Math.min(...clock.slept)).toBeGreaterThanOrEqual(left);
    expect(new Set(clock.slept).size).toBeGreaterThan(10);
  });
});
