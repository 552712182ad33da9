import { describe, expect, it, vi } from 'vitest';
import { Gathering } from '../../../lib/sync/queue/gathering.ts';

/** A gathering whose work ends when the test says so. */
function gathering(options: { most?: number; patienceMs?: number } = {}) {
  const rounds: { items: readonly number[]; end: PromiseWithResolvers<void> }[] = [];
  const gathered = new Gathering<number, string>({
    most: 100,
    patienceMs: 60_000,
    ...options,
    work: async (items) => {
      const round = { items, end: Promise.withResolvers<void>() };
      rounds.push(round);
      await round.end.promise;
      return items.map((item) => `done ${item}`);
    },
  });
  return { gathered, rounds };
}

describe('what comes', () => {
  it('alone is done at once, and what comes meanwhile is done together', async () => {
    const { gathered, rounds } = gathering();
    const results = [1, 2, 3].map((item) => gathered.add(item));
    expect(rounds.map(({ items }) => items)).toEqual([[1]]);
    rounds[0]?.end.resolve();
    expect(await results[0]).toBe('done 1');
    await vi.waitFor(() => expect(rounds).toHaveLength(2));
    rounds[1]?.end.resolve();
    expect(await Promise.all(results)).toEqual(['done 1', 'done 2', 'done 3']);
    expect(rounds.map(({ items }) => items)).toEqual([[1], [2, 3]]);
  });

  it('in numbers is done in parts', async () => {
    const { gathered, rounds } = gathering({ most: 2 });
    const results = Promise.all([1, 2, 3, 4].map((item) => gathered.add(item)));
    for (let round = 0; round < 3; round += 1) {
      await vi.waitFor(() => expect(rounds).toHaveLength(round + 1));
      rounds[round]?.end.resolve();
    }
    expect(await results).toHaveLength(4);
    expect(rounds.map(({ items }) => items)).toEqual([[1], [2, 3], [4]]);
  });

  it('together fails together, and those after it are done', async () => {
    const { gathered, rounds } = gathering();
    const first = gathered.add(1);
    const second = gathered.add(2);
    rounds[0]?.end.reject(new Error('no storage'));
    await expect(first).rejects.toThrow('no storage');
    await vi.waitFor(() => expect(rounds).toHaveLength(2));
    rounds[1]?.end.resolve();
    expect(await second).toBe('done 2');
  });

  it('and waits too long is sent away undone', async () => {
    const { gathered, rounds } = gathering({ patienceMs: -1 });
    await expect(gathered.add(1)).rejects.toMatchObject({ code: 'ERR_STORAGE', retryable: true });
    expect(rounds).toEqual([]);
  });
});
