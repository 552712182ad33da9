import { describe, expect, it } from 'vitest';
import { type Figure, judge, summarize } from '../../bench/figure.ts';
import { renderTable } from '../../bench/table.ts';

const figure: Figure = {
  what: 'wall time',
  unit: 's',
  values: [4, 3, 8, 4, 3, 8, 4],
  peer: { name: 'another', values: [4, 5, 6] },
};

describe('a summary', () => {
  it('has the middle of an odd number of values, and the mean of the two in the middle of an even one', () => {
    expect(summarize([10, 2, 3])).toEqual({ median: 3, low: 2, high: 10 });
    expect(summarize([1, 10, 2, 4])).toEqual({ median: 3, low: 1, high: 10 });
  });

  it('of nothing is refused', () => {
    expect(() => summarize([])).toThrow('nothing was measured');
  });
});

describe('a verdict', () => {
  const verdict = (bar: Figure['bar']) => judge('copy', bar === undefined ? figure : { ...figure, bar }).met;

  it('compares the medians with the peer, or the own one with a number', () => {
    expect(judge('copy', figure).ratio).toBe(0.8);
    expect(verdict({ of: 'ratio', atMost: 0.8 })).toBe(true);
    expect(verdict({ of: 'ratio', atMost: 0.79 })).toBe(false);
    expect(verdict({ of: 'median', atMost: 4 })).toBe(true);
    expect(verdict({ of: 'median', atMost: 3.9 })).toBe(false);
  });

  it('is not given without a bar', () => {
    expect(verdict(undefined)).toBeUndefined();
  });

  it('is given after seven rounds, or on what is counted and the same each time', () => {
    const bar = { of: 'median', atMost: 100 } as const;
    expect(judge('copy', { ...figure, values: [1, 2, 3, 4, 5, 6], bar })).not.toHaveProperty('met');
    expect(judge('copy', { what: 'pulls', unit: 'pulls', values: [1], bar }).met).toBe(true);
  });

  it('has no ratio to a peer that needed nothing', () => {
    const free = { ...figure, peer: { name: 'another', values: [0] } };
    expect(judge('idle', free)).not.toHaveProperty('ratio');
    expect(judge('idle', { ...free, bar: { of: 'ratio', atMost: 1 } }).met).toBe(false);
  });
});

describe('the table', () => {
  const rowOf = (one: Figure) => renderTable([judge('copy', one)]).split('\n')[2];

  it('shows median, spread, ratio, bar and verdict in a row', () => {
    const row = rowOf({ ...figure, bar: { of: 'ratio', atMost: 0.9, aim: 0.7 } });
    expect(row?.split(/ {2,}/)).toEqual([
      'copy',
      'wall time',
      '4 s (3–8)',
      'another 5 s (4–6)',
      '0.80',
      '≤ 0.90',
      'met',
    ]);
  });

  it('says what has no peer, what is one sample only, and what is too little for a verdict', () => {
    const { peer: _, ...alone } = figure;
    const bar = { of: 'median', atMost: 5 } as const;
    const cells = (one: Figure) => rowOf(one)?.split(/ {2,}/);
    expect(cells({ ...alone, values: [2], bar })).toEqual([
      'copy',
      'wall time',
      '2 s (one sample)',
      'none',
      '≤ 5 s',
      'none below 7 rounds',
    ]);
    expect(cells({ what: 'pulls', unit: 'pulls', values: [1], bar: { of: 'median', atMost: 1 } })).toEqual([
      'copy',
      'pulls',
      '1 pulls',
      'none',
      '≤ 1 pulls',
      'met',
    ]);
  });

  it('says where the aim is reached too, and where the bar is missed', () => {
    expect(rowOf({ ...figure, bar: { of: 'ratio', atMost: 0.9, aim: 0.8 } })).toMatch(/met, and the aim$/);
    expect(rowOf({ ...figure, bar: { of: 'median', atMost: 3.5 } })).toMatch(/≤ 3\.5 s +MISSED$/);
  });
});
