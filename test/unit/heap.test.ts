import { getHeapSpaceStatistics } from 'node:v8';
import { expect, it } from 'vitest';
import { keepHeapSmall } from '../../lib/heap.ts';

/** The memory of the young generation, in MiB. */
const young = () => {
  const space = getHeapSpaceStatistics().find(({ space_name }) => space_name === 'new_space');
  return (space?.space_size ?? 0) / 1024 / 1024;
};

it('from a listing of very many tags on the young generation grows no more, whatever is held', () => {
  const told: unknown[] = [];
  const listing = { type: 'listing', rule: 'app', tags: 20_000 } as const;
  keepHeapSmall((event) => told.push(event))(listing);
  const before = young();
  const held = Array.from({ length: 400_000 }, (_, index) => ({ name: `v${index}` }));
  expect(young()).toBeLessThanOrEqual(before + 1);
  expect([told, held.length]).toEqual([[listing], 400_000]);
});
