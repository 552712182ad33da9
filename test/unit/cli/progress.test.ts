import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import {
  advanceProgress,
  type Progress,
  renderProgress,
  showProgress,
  startProgress,
  tellProgress,
} from '../../../lib/cli/progress.ts';
import type { SyncEvent } from '../../../lib/sync/runs/events.ts';
import { lineOf } from './reports.ts';

const MiB = 1024 * 1024;

function blobStarted(id: string, size: number, offset = 0, target = 'x.azurecr.io/app'): SyncEvent {
  return { type: 'blobStarted', id, target, digest: `sha256:${id.repeat(64).slice(0, 64)}`, size, offset };
}

/** Events, each with its time in milliseconds since the start. */
function after(...events: readonly (readonly [number, SyncEvent])[]) {
  const state = startProgress(0);
  for (const [at, event] of events) advanceProgress(state, event, at);
  return state;
}

const copying = () =>
  after(
    [0, { type: 'planned', rule: 'app', lines: 40 }],
    [0, { type: 'line', line: lineOf('unchanged') }],
    [0, blobStarted('a', 256 * MiB)],
    [0, blobStarted('b', 64 * MiB, 16 * MiB)],
    [4000, { type: 'blobProgress', id: 'a', offset: 64 * MiB }],
    [5000, { type: 'line', line: lineOf('copied') }],
    [6000, { type: 'line', line: lineOf('failed') }],
    [8000, { type: 'blobProgress', id: 'a', offset: 128 * MiB }],
    [8000, { type: 'blobProgress', id: 'b', offset: 48 * MiB }],
  );
const tall = { rows: 24 };

describe('the view says what fits, the most important first', () => {
  test('at 20 columns', () => {
    expect(renderProgress(copying(), { columns: 20, ...tall }, 8000)).toMatchInlineSnapshot(`
      [
        "2/40 tags  1 failed",
        " aaaaaaaaaaaa   50%",
        " bbbbbbbbbbbb   75%",
      ]
    `);
  });
  test('at 40 columns', () => {
    expect(renderProgress(copying(), { columns: 40, ...tall }, 8000)).toMatchInlineSnapshot(`
      [
        "2/40 tags  1 failed  20.0 MiB/s",
        " aaaaaaaaaaaa   50%  16.0 MiB/s",
        " bbbbbbbbbbbb   75%  4.0 MiB/s  4s left",
      ]
    `);
  });
  test('at 80 columns', () => {
    expect(renderProgress(copying(), { columns: 80, ...tall }, 8000)).toMatchInlineSnapshot(`
      [
        "[=>                  ]  2/40 tags  1 failed  160.0 MiB  20.0 MiB/s  2m32s left",
        " aaaaaaaaaaaa   50%  128.0 MiB of 256.0 MiB  16.0 MiB/s  8s left",
        " bbbbbbbbbbbb   75%  48.0 MiB of 64.0 MiB  4.0 MiB/s  4s left",
      ]
    `);
  });
  test('at 200 columns', () => {
    expect(renderProgress(copying(), { columns: 200, ...tall }, 8000)).toMatchInlineSnapshot(`
      [
        "[=>                  ]  2/40 tags  1 failed  160.0 MiB  20.0 MiB/s  2m32s left  1 unchanged",
        " aaaaaaaaaaaa   50%  [==========>         ]  128.0 MiB of 256.0 MiB  16.0 MiB/s  8s left  x.azurecr.io/app",
        " bbbbbbbbbbbb   75%  [===============>    ]  48.0 MiB of 64.0 MiB  4.0 MiB/s  4s left  x.azurecr.io/app",
      ]
    `);
  });
});

test('no width makes a line as long as the screen is wide', () => {
  for (let columns = 2; columns <= 220; columns += 1) {
    for (const line of renderProgress(copying(), { columns, ...tall }, 8000)) {
      expect(line.length).toBeLessThan(columns);
    }
  }
});

test('the view is never higher than the screen, and says how much it leaves out', () => {
  const state = after(...[...'0123456789'].map((id) => [0, blobStarted(id, MiB)] as const));
  expect(renderProgress(state, { columns: 80, rows: 24 }, 0)).toHaveLength(11);
  const lines = renderProgress(state, { columns: 80, rows: 5 }, 0);
  expect(lines).toHaveLength(4);
  expect(lines.at(-1)).toBe(' and 8 more');
  expect(renderProgress(state, { columns: 80, rows: 1 }, 0)).toHaveLength(1);
});

test('before a plan stands, the tags seen so far are told', () => {
  const wide = { columns: 80, ...tall };
  expect(renderProgress(after(), wide, 0)).toEqual(['comparing…']);
  const state = after(
    [0, { type: 'listing', rule: 'a', tags: 1200 }],
    [0, { type: 'listing', rule: 'b', tags: 34 }],
  );
  expect(renderProgress(state, wide, 0)).toEqual(['comparing… 1,234 tags']);
});

test('a blob that ended is gone, and bytes that the target had already are not counted as sent', () => {
  const state = after(
    [0, { type: 'planned', rule: 'app', lines: 1 }],
    [0, blobStarted('a', 64 * MiB, 48 * MiB)],
    [1000, { type: 'blobProgress', id: 'a', offset: 64 * MiB }],
    [1000, { type: 'blobEnded', id: 'a', how: 'copied' }],
  );
  const lines = renderProgress(state, { columns: 120, ...tall }, 1000);
  expect(lines).toHaveLength(1);
  expect(lines[0]).toContain('16.0 MiB  16.0 MiB/s');
});

test('a rate follows the last ten seconds, and a stall lowers it', () => {
  const state = after([0, blobStarted('a', 1024 * MiB)], [0, { type: 'planned', rule: 'app', lines: 1 }]);
  for (let at = 1000; at <= 60_000; at += 1000) {
    // 1 MiB/s for the first 40 seconds, then 4 MiB/s.
    const offset = (Math.min(at, 40_000) + 4 * Math.max(0, at - 40_000)) / 1000;
    advanceProgress(state, { type: 'blobProgress', id: 'a', offset: offset * MiB }, at);
  }
  const wide = { columns: 200, ...tall };
  expect(renderProgress(state, wide, 60_000)[1]).toContain('4.0 MiB/s');
  expect(renderProgress(state, wide, 70_000)[1]).toContain('2.1 MiB/s');
});

test('a wait is shown until it is over', () => {
  const state = after([0, { type: 'waiting', host: 'registry-1.docker.io', until: 90_000 }]);
  const wide = { columns: 80, ...tall };
  expect(renderProgress(state, wide, 30_000)[1]).toBe(' waiting 1m00s for registry-1.docker.io');
  expect(renderProgress(state, wide, 90_000)).toHaveLength(1);
});

test('names of others move no cursor', () => {
  const state = after([0, blobStarted('a', MiB, 0, 'x/\u001b[2J')]);
  expect(renderProgress(state, { columns: 200, ...tall }, 0).join('')).not.toContain('\u001b');
});

describe('on a terminal', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  function open(columns = 40) {
    const writes: string[] = [];
    const terminal = { columns, rows: 24, write: (text: string) => writes.push(text) };
    return { writes, terminal, progress: showProgress(terminal) };
  }

  function feed(progress: Progress, milliseconds: number) {
    progress.onEvent({ type: 'planned', rule: 'app', lines: 1 });
    progress.onEvent(blobStarted('a', 1024 * MiB));
    for (let at = 0; at < milliseconds; at += 1) {
      progress.onEvent({ type: 'blobProgress', id: 'a', offset: at * MiB });
      vi.advanceTimersByTime(1);
    }
  }

  test('the view is redrawn at most ten times a second', () => {
    const { writes, progress } = open();
    feed(progress, 1000);
    expect(writes.length).toBeGreaterThan(5);
    expect(writes.length).toBeLessThanOrEqual(10);
    progress.stop();
  });

  test('nothing is written while nothing changes', () => {
    const { writes, progress } = open();
    vi.advanceTimersByTime(5000);
    expect(writes).toEqual(['comparing…']);
    progress.stop();
  });

  test('a frame goes back over the frame before it, and clears it', () => {
    const { writes, progress } = open();
    progress.onEvent(blobStarted('a', MiB));
    vi.advanceTimersByTime(100);
    progress.onEvent({ type: 'listing', rule: 'app', tags: 5 });
    vi.advanceTimersByTime(100);
    expect(writes[1]?.startsWith('\r\u001b[1A\u001b[Jcomparing… 5 tags\n aaaaaaaaaaaa')).toBe(true);
    progress.stop();
  });

  test('when the terminal became narrower, the rows that the old frame wrapped to are cleared too', () => {
    const { writes, terminal, progress } = open(80);
    progress.onEvent({ type: 'planned', rule: 'app', lines: 9 });
    progress.onEvent(blobStarted('a', MiB));
    vi.advanceTimersByTime(100);
    const longest = Math.max(...(writes[0] ?? '').split('\n').map((line) => line.length));
    expect(longest).toBeGreaterThan(40);
    terminal.columns = 20;
    vi.advanceTimersByTime(100);
    const rows = (writes[0] ?? '').split('\n').reduce((sum, line) => sum + Math.ceil(line.length / 20), 0);
    expect(writes[1]?.startsWith(`\r\u001b[${rows - 1}A\u001b[J`)).toBe(true);
    progress.stop();
  });

  test('a line of the log stands above the view, which comes again with the next frame', () => {
    const { writes, progress } = open();
    vi.advanceTimersByTime(100);
    progress.print('first');
    progress.print('second');
    vi.advanceTimersByTime(100);
    expect(writes).toEqual(['comparing…', '\r\u001b[Jfirst\n', 'second\n', 'comparing…']);
    progress.stop();
  });

  test('at the end the view is gone and stays away', () => {
    const { writes, progress } = open();
    vi.advanceTimersByTime(100);
    progress.stop();
    vi.advanceTimersByTime(1000);
    expect(writes).toEqual(['comparing…', '\r\u001b[J']);
  });
});

describe('where no terminal reads', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  test('lines are plain, and every half minute one says where a moving run stands', () => {
    const writes: string[] = [];
    const told: object[] = [];
    const output = { write: (text: string) => writes.push(text) };
    const progress = tellProgress(output, (fields) => told.push(fields));
    progress.print('a line');
    progress.onEvent({ type: 'planned', rule: 'app', lines: 2 });
    progress.onEvent(blobStarted('a', 60 * MiB));
    progress.onEvent({ type: 'blobProgress', id: 'a', offset: 30 * MiB });
    vi.advanceTimersByTime(30_000);
    expect(told).toEqual([{ ended: 0, planned: 2, bytes: 30 * MiB, rate: '1.0 MiB/s', left: '30s' }]);
    vi.advanceTimersByTime(60_000);
    expect(told).toHaveLength(1);
    progress.stop();
    expect(writes).toEqual(['a line\n']);
  });
});
