import { describe, expect, it } from 'vitest';
import type { OpenRun, RunSummary, StatusAnswer } from '../../../lib/dashboard/answers.ts';
import { bytes, day, distance, duration, hour, minute, several } from '../../../lib/dashboard/format.ts';
import { Speeds } from '../../../lib/dashboard/speeds.ts';
import { countOf } from '../../../lib/dashboard/standing.ts';
import { lastDay, trafficOf } from '../../../lib/dashboard/traffic.ts';
import { verdictOf } from '../../../lib/dashboard/verdict.ts';
import type { Trigger } from '../../../lib/sync/runs/report.ts';
import { lineOf, reportOf, runAt } from '../../local/dashboard.ts';

const now = Date.UTC(2026, 0, 30, 12);

function ran(
  trigger: Trigger,
  ago: number,
  outcomes: readonly string[] = ['unchanged'],
  pulls = 0,
): RunSummary {
  const lines = outcomes.map((outcome, index) => lineOf('nginx', String(index), outcome));
  return reportOf(runAt(trigger, now - ago, minute), lines, pulls);
}

function verdict(
  runs: readonly RunSummary[],
  outcomes: readonly string[],
  more: Partial<StatusAnswer> = {},
  untold = false,
) {
  const status = { paused: false, openRuns: [], runs, ...more };
  const count = countOf(outcomes.map((outcome) => lineOf('nginx', '1', outcome)));
  return verdictOf({ status, count, failedRules: 0, waitingRules: 0, untold, now });
}

function openSince(trigger: Trigger, ago: number): OpenRun {
  const run = runAt(trigger, now - ago);
  return { run, state: 'working', since: run.startedAt, why: '', out: 1, parked: 0 };
}

describe('the verdict', () => {
  const daily = [ran('schedule', hour), ran('schedule', 25 * hour), ran('schedule', 49 * hour)];

  it('is good where every tag is in step', () => {
    expect(verdict(daily, ['copied', 'skipped'])).toEqual({
      tone: 'good',
      title: 'Everything is in step',
      detail: 'Every tag was looked at 59 minutes ago.',
    });
  });

  it('is bad where a tag or a whole rule failed', () => {
    expect(verdict(daily, ['copied', 'failed', 'missing'])).toMatchObject({
      tone: 'bad',
      title: '2 tags not in step',
    });
    const status = { paused: false, openRuns: [], runs: daily };
    const failed = verdictOf({
      status,
      count: countOf([]),
      failedRules: 1,
      waitingRules: 0,
      untold: false,
      now,
    });
    expect(failed).toMatchObject({ tone: 'bad', title: '1 rule failed' });
  });

  it('is not good where there is nothing, or a whole rule waits', () => {
    expect(verdict(daily, [])).toMatchObject({ tone: 'warn', title: 'No tag is mirrored' });
    const status = { paused: false, openRuns: [], runs: daily };
    const waiting = verdictOf({
      status,
      count: countOf([]),
      failedRules: 0,
      waitingRules: 1,
      untold: false,
      now,
    });
    expect(waiting).toMatchObject({ tone: 'warn', title: '1 rule waiting' });
  });

  it('tells of a pause before what follows from it, and after what is wrong', () => {
    const title = 'Copying is paused';
    const paused = { paused: true };
    const late = [ran('schedule', 3 * day), ran('schedule', 4 * day)];
    expect(verdict(daily, ['copied'], paused)).toMatchObject({ tone: 'warn', title });
    expect(verdict(daily, ['deferred'], { ...paused, openRuns: ['r'] })).toMatchObject({ title });
    expect(verdict(late, ['copied'], paused)).toMatchObject({ title });
    expect(verdict([], [], paused)).toMatchObject({ title });
    expect(verdict(daily, ['failed'], paused)).toMatchObject({ title: '1 tag not in step' });
  });

  it('does not call a schedule late whose runs are open', () => {
    const closed = [ran('schedule', 84 * hour), ran('schedule', 108 * hour), ran('schedule', 132 * hour)];
    const open = [12, 36, 60].map((ago) => openSince('schedule', ago * hour));
    const openRuns = open.map(({ run }) => run.id);
    expect(verdict(closed, ['copied'])).toMatchObject({ title: 'The schedule is late' });
    expect(verdict(closed, ['copied'], { openRuns, open })).toMatchObject({ title: 'Catching up' });
    const pushes = [openSince('webhook', hour)];
    expect(verdict(closed, ['copied'], { openRuns: ['w'], open: pushes })).toMatchObject({
      title: 'The schedule is late',
    });
  });

  it('is not good where not all that happened is known', () => {
    expect(verdict(daily, ['copied'], {}, true)).toMatchObject({ tone: 'warn', title: 'Not all is known' });
    expect(verdict(daily, ['failed'], {}, true)).toMatchObject({ tone: 'bad' });
  });

  it('waits with what waits, and is busy while a run is open', () => {
    expect(verdict(daily, ['deferred'])).toMatchObject({ tone: 'warn', title: '1 tag waiting' });
    expect(verdict(daily, ['deferred', 'copied'], { openRuns: ['r'] })).toMatchObject({
      title: 'Catching up',
    });
  });

  it('notices a run that is stuck', () => {
    const run = runAt('manual', now - hour);
    const stuck = {
      run,
      state: 'stuck',
      since: run.startedAt,
      why: 'Nothing was heard',
      out: 1,
      parked: 0,
    } as const;
    const more = { openRuns: [run.id], open: [stuck] };
    expect(verdict(daily, ['unchanged'], more)).toMatchObject({ tone: 'warn', title: 'A run is stuck' });
  });

  it('notices a schedule that does not come any more', () => {
    const late = [ran('schedule', 50 * hour), ran('schedule', 74 * hour), ran('schedule', 98 * hour)];
    expect(verdict(late, ['unchanged'])).toMatchObject({ tone: 'warn', title: 'The schedule is late' });
    expect(verdict([ran('schedule', 9 * day)], ['unchanged'])).toMatchObject({
      title: 'The schedule is late',
    });
    const { run, ...report } = ran('schedule', hour);
    const ends = { ...report, run: { ...run, partial: true } };
    expect(verdict([ends, ...late], ['unchanged'])).toMatchObject({
      title: 'The schedule is late',
      detail: 'Every tag was looked at 2 days ago.',
    });
  });

  it('tells the beginning from trouble', () => {
    expect(verdict([], [])).toMatchObject({ title: 'No run yet' });
    expect(verdict([], [], { openRuns: ['r'] })).toMatchObject({
      tone: 'busy',
      title: 'The first run is under way',
    });
  });
});

describe('traffic', () => {
  const moved = (ago: number, pulls = 0) => {
    return { from: new Date(now - ago).toISOString(), runs: 2, copied: 3, bytes: 4, pulls };
  };

  it('is summed up in slices that reach from the first run until now', () => {
    const slices = trafficOf([moved(2 * day, 4), moved(hour, 3)], now);
    expect(slices.reduce((sum, { pulls }) => sum + pulls, 0)).toBe(7);
    expect(slices.length).toBeLessThanOrEqual(32);
    expect(slices.at(-1)?.to).toBeGreaterThan(now);
    expect(slices.filter(({ runs }) => runs === 2)).toHaveLength(2);
  });

  it('stays readable over years', () => {
    expect(trafficOf([moved(3 * 365 * day)], now).length).toBeLessThanOrEqual(32);
  });

  it('of the last day is that of the hours that reach into it', () => {
    const hours = [moved(25 * hour, 1), moved(25 * hour - minute, 2), moved(3 * hour, 4)];
    expect(lastDay(hours, now)).toMatchObject({ runs: 4, copied: 6, bytes: 8, pulls: 6 });
  });
});

describe('figures', () => {
  it.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1.0 KiB'],
    [1024 ** 2 - 1, '1.0 MiB'],
    [150 * 1024 ** 3, '150 GiB'],
    [3 * 1024 ** 6, '3072 PiB'],
  ])('of %i bytes are %s', (value, text) => {
    expect(bytes(value)).toBe(text);
  });

  it.each([
    [450, '450 ms'],
    [1500, '2 s'],
    [59_900, '1 min 0 s'],
    [3_599_900, '1 h 0 min'],
    [90 * minute, '1 h 30 min'],
  ])('of %i milliseconds are %s', (value, text) => {
    expect(duration(value)).toBe(text);
  });

  it.each([
    [-30_000, '30 seconds ago'],
    [-minute, '1 minute ago'],
    [hour, 'in 1 hour'],
    [-25 * hour, '25 hours ago'],
    [-3 * day, '3 days ago'],
  ])('of a time %i milliseconds from now are %s', (offset, text) => {
    expect(distance(now + offset, now)).toBe(text);
  });

  it('agree with their nouns', () => {
    expect([several(1, 'tag'), several(0, 'tag'), several(12_000, 'tag')]).toEqual([
      '1 tag',
      '0 tags',
      '12,000 tags',
    ]);
  });

  it('of speed come from two answers that differ', () => {
    const speeds = new Speeds();
    const blob = { target: 'x', digest: 'sha256:0', size: 1000 };
    speeds.take([{ ...blob, offset: 100, savedAt: 0 }]);
    expect(speeds.of('x', 'sha256:0')).toBeUndefined();
    speeds.take([{ ...blob, offset: 300, savedAt: 2000 }]);
    speeds.take([{ ...blob, offset: 300, savedAt: 2000 }]);
    expect(speeds.of('x', 'sha256:0')).toBe(100);
    speeds.take([]);
    expect(speeds.of('x', 'sha256:0')).toBeUndefined();
  });
});
