import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openFolderStores } from '../../../lib/storage/folder.ts';
import type { DocumentStore } from '../../../lib/storage/ports.ts';
import {
  type AnyReport,
  buildReport,
  type Line,
  syncOutcomes,
  type Trigger,
} from '../../../lib/sync/runs/report.ts';
import { listRuns, overviewOf, readRun, saveRun } from '../../../lib/sync/runs/runs.ts';
import { noTransfer } from '../../../lib/sync/runs/tally.ts';

let folder: string;
let runs: DocumentStore;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'hubferry-runs-'));
  ({ runs } = openFolderStores(folder));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function reportOf(minute: number, trigger: Trigger, lines: readonly Line[] = []): AnyReport {
  const startedAt = new Date(Date.UTC(2026, 0, 1, 0, minute)).toISOString();
  const run = { id: `${trigger}-${minute}`, trigger, startedAt, finishedAt: startedAt };
  return buildReport(run, syncOutcomes as readonly string[], lines, noTransfer()) as AnyReport;
}

const lineOf = (tag: string, outcome: string, facts: Partial<Line> = {}): Line => ({
  rule: 'app',
  source: `docker.io/a/b:${tag}`,
  target: `x.azurecr.io/b:${tag}`,
  outcome,
  ...facts,
});

describe('the last runs', () => {
  it('are listed with the newest first', async () => {
    for (const minute of [2, 1, 3]) await saveRun(runs, reportOf(minute, 'cli'));
    expect((await listRuns(runs)).map(({ run }) => run.id)).toEqual(['cli-3', 'cli-2', 'cli-1']);
  });

  it('of the timer are not pushed out by those of pushes, of which only the last ones are kept', async () => {
    await saveRun(runs, reportOf(0, 'schedule'));
    for (let minute = 1; minute <= 62; minute += 1) await saveRun(runs, reportOf(minute, 'webhook'));
    const listed = (await listRuns(runs)).map(({ run }) => run.id);
    expect(listed).toHaveLength(31);
    expect(listed.at(-1)).toBe('schedule-0');
    expect(await readRun(runs, 'webhook-2')).toBeUndefined();
    expect(await readRun(runs, 'webhook-3')).toBeDefined();
  });

  it('are noted once, however often, and by several at the same time', async () => {
    await Promise.all([1, 2, 3, 1, 2, 3].map((minute) => saveRun(runs, reportOf(minute, 'manual'))));
    expect(await listRuns(runs)).toHaveLength(3);
  });

  it('of ten thousand tags each cost one read for each trigger', async () => {
    const lines = Array.from({ length: 10_000 }, (_, index) => lineOf(`${index}`, 'unchanged'));
    await saveRun(runs, reportOf(1, 'schedule', lines));
    let bytes = 0;
    let reads = 0;
    const counted: DocumentStore = {
      get: async (key) => {
        const document = await runs.get(key);
        reads += 1;
        bytes += document?.bytes.length ?? 0;
        return document;
      },
      put: (...args) => runs.put(...args),
      delete: (...args) => runs.delete(...args),
      list: (...args) => runs.list(...args),
      lease: (...args) => runs.lease(...args),
    };
    await listRuns(counted);
    expect(reads).toBe(5);
    expect(bytes).toBeLessThan(2000);
  });
});

describe('what a report comes to', () => {
  const error = { code: 'ERR_BLOB_MISSING', message: 'no blob' } as const;
  const overview = overviewOf(
    reportOf(1, 'schedule', [
      lineOf('1', 'copied', { bytes: 3000, durationMs: 1000 }),
      lineOf('2', 'copied', { bytes: 1000, durationMs: 1000 }),
      lineOf('3', 'failed', { error }),
      lineOf('4', 'failed', { error: { ...error, message: 'no blob either' } }),
      { ...lineOf('5', 'unchanged'), rule: 'quiet' },
    ]),
  );

  it('groups failures by their cause, with what to do', () => {
    expect(overview.causes).toEqual([
      {
        ...error,
        remedy: 'Ask the publisher to push it again.',
        tags: 2,
        examples: ['x.azurecr.io/b:3', 'x.azurecr.io/b:4'],
      },
    ]);
    expect(overview.failures).toHaveLength(2);
  });

  it('tells of the rules in which something happened, and how fast it went', () => {
    const outcomes = { copied: 2, failed: 2 };
    expect(overview.rules).toEqual([{ rule: 'app', tags: 4, bytes: 4000, outcomes }]);
    expect(overview.bytesPerSecond).toBe(2000);
  });
});
