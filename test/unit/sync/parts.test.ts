/** What the parts of a request tell together. */
import { describe, expect, it } from 'vitest';
import { linesIn, type Part } from '../../../lib/sync/runs/parts.ts';
import type { Line } from '../../../lib/sync/runs/report.ts';
import { noTransfer } from '../../../lib/sync/runs/tally.ts';

const line = (tag: string, outcome: string, bytes?: number): Line => ({
  rule: 'app',
  source: `docker.io/acme/app:${tag}`,
  target: `x.azurecr.io/app:${tag}`,
  outcome,
  ...(bytes === undefined ? {} : { bytes }),
});

const part = (id: string, lines: readonly Line[], bytesCopied: number, parkedUntil?: number): Part => ({
  id,
  opened: [],
  lines,
  transfer: { ...noTransfer(), bytesCopied },
  parkedUntil,
});

describe('the lines of a request', () => {
  it('tell all that its deliveries sent, whichever order they are read in', () => {
    const parts = [part('a', [line('1', 'deferred', 20)], 20, 1), part('a', [line('1', 'copied', 5)], 5)];
    const other = part('b', [line('2', 'copied', 7)], 7);
    for (const read of [parts, parts.toReversed()]) {
      expect(linesIn([...read, other])).toEqual([line('1', 'copied', 25), line('2', 'copied', 7)]);
    }
  });

  it('keep what a delivery that was stopped had copied, and count nothing twice', () => {
    const stopped = part('a', [line('1', 'copied', 20)], 25, 1);
    const ended = part('a', [line('1', 'unchanged', 0), line('2', 'copied', 5)], 5);
    expect(linesIn([stopped, ended])).toEqual([line('1', 'copied', 20), line('2', 'copied', 10)]);
  });

  it('add up where both deliveries of one message copied', () => {
    const ends = [part('a', [line('1', 'copied', 20)], 20), part('a', [line('1', 'copied', 3)], 3)];
    expect(linesIn(ends)).toEqual([line('1', 'copied', 23)]);
  });

  it('are those of its parking while it waits', () => {
    expect(linesIn([part('a', [line('1', 'deferred', 5)], 25, 1)])).toEqual([line('1', 'deferred', 25)]);
  });

  it('tell no bytes where another run counts them', () => {
    expect(linesIn([part('a', [line('1', 'copied')], 0)])).toEqual([line('1', 'copied')]);
  });
});
