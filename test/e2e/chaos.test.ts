/** A short storm with a fixed seed; `npm run chaos` makes longer ones with any. */
import { expect, it } from 'vitest';
import { replayOf, runChaos } from '../local/chaos.ts';

it('two instances keep every promise among failing peers, killed workers and lost machines', async () => {
  const options = { seed: 7, stormMs: 8000 };
  const { violations, figures } = await runChaos(options);
  expect(violations, `replay: ${replayOf(options)}`).toEqual([]);
  expect(figures.kills).toBeGreaterThanOrEqual(3);
  expect(figures.faults).toBeGreaterThan(5);
  expect(figures.copied).toBeGreaterThan(5);
}, 300_000);
