import { describe, expect, it } from 'vitest';
import { seeded } from '../../local/random.ts';

const draw = (seed: number | string, count: number) => {
  const random = seeded(seed);
  return Array.from({ length: count }, () => random.next());
};

describe('seeded chance', () => {
  it('repeats itself for the same seed and only for it', () => {
    expect(draw(42, 20)).toEqual(draw(42, 20));
    expect(draw(42, 20)).not.toEqual(draw(43, 20));
    expect(draw('GET /a 0', 20)).not.toEqual(draw('GET /a 1', 20));
  });

  it('is even, also over the first numbers of neighbouring seeds', () => {
    for (const numbers of [
      draw(1, 10_000),
      Array.from({ length: 10_000 }, (_, seed) => draw(seed, 1)[0] ?? 0),
    ]) {
      const tenths = Map.groupBy(numbers, (number) => Math.floor(number * 10));
      for (let tenth = 0; tenth < 10; tenth++) expect(tenths.get(tenth)?.length).toBeCloseTo(1000, -2.4);
    }
  });

  it('draws whole numbers within bounds, and picks what there is', () => {
    const random = seeded(3);
    const drawn = new Set(Array.from({ length: 200 }, () => random.between(5, 8)));
    expect([...drawn].sort()).toEqual([5, 6, 7]);
    expect(['a', 'b']).toContain(random.pick(['a', 'b']));
    expect(() => random.pick([])).toThrow();
  });
});
