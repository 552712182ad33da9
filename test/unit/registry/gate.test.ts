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
});
