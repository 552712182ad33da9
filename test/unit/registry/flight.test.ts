import { describe, expect, it } from 'vitest';
import { SharedFlights } from '../../../lib/registry/flight.ts';

describe('a shared flight', () => {
  it('is flown once for all who want it at the same time', async () => {
    const flights = new SharedFlights<number>();
    const landed = Promise.withResolvers<number>();
    let started = 0;
    const start = () => {
      started++;
      return landed.promise;
    };
    const both = Promise.all([flights.join('a', undefined, start), flights.join('a', undefined, start)]);
    landed.resolve(7);
    expect(await both).toEqual([7, 7]);
    expect(started).toBe(1);
    expect(await flights.join('a', undefined, async () => 8)).toBe(8);
  });

  it('goes on when one of two leaves, and is given up when the last one leaves', async () => {
    const flights = new SharedFlights<number>();
    const [one, two] = [new AbortController(), new AbortController()];
    const given = Promise.withResolvers<AbortSignal>();
    const start = (signal: AbortSignal) => {
      given.resolve(signal);
      return new Promise<number>(() => {});
    };
    const first = flights.join('a', one.signal, start);
    const second = flights.join('a', two.signal, start);
    const signal = await given.promise;
    one.abort(new Error('first leaves'));
    await expect(first).rejects.toThrow('first leaves');
    expect(signal.aborted).toBe(false);
    two.abort(new Error('second leaves'));
    await expect(second).rejects.toThrow('second leaves');
    expect(signal.aborted).toBe(true);
  });

  it('fails for all, and is tried anew by the next', async () => {
    const flights = new SharedFlights<number>();
    const broken = () => Promise.reject(new Error('broken'));
    const both = Promise.allSettled([
      flights.join('a', undefined, broken),
      flights.join('a', undefined, broken),
    ]);
    expect((await both).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    expect(await flights.join('a', undefined, async () => 1)).toBe(1);
  });
});
