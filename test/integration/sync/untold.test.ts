/** Ends that come when every run that waited for them has closed. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { openFolderStores } from '../../../lib/storage/folder.ts';
import type { DocumentStore } from '../../../lib/storage/ports.ts';
import { RunBook } from '../../../lib/sync/runs/book.ts';
import type { AnyReport } from '../../../lib/sync/runs/report.ts';
import { noTransfer } from '../../../lib/sync/runs/tally.ts';
import { tellUntold } from '../../../lib/sync/runs/untold.ts';
import { dying } from '../../local/dying.ts';

const moreThanAnHourMs = 2 * 3600_000;
let folder: string;
let runs: DocumentStore;
/** Reports that were announced. */
let told: AnyReport[];

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['Date'], now: Date.UTC(2026, 0, 1, 12, 20) });
  folder = mkdtempSync(path.join(tmpdir(), 'hubferry-untold-'));
  ({ runs } = openFolderStores(folder));
  told = [];
});
afterEach(() => {
  vi.useRealTimers();
  rmSync(folder, { recursive: true, force: true });
});

function tell(store: DocumentStore, tag: string, asker = '20260101T000000Z-schedule-abcdef'): Promise<void> {
  const [source, target] = ['docker.io/acme/app', 'x.azurecr.io/app'];
  const tags = [{ source: tag, target: tag }];
  const about = { kind: 'copy', id: 'copy', rule: 'app', source, target, tags } as const;
  const request = { ...about, run: asker, reason: 'new tag', force: false, attempt: 0 };
  const line = { rule: 'app', source: `${source}:${tag}`, target: `${target}:${tag}`, outcome: 'copied' };
  return tellUntold(new RunBook(store), request, { opened: [], lines: [line], transfer: noTransfer() });
}

/** As `release` does it. */
async function closeAll(): Promise<void> {
  const book = new RunBook(runs);
  for (const run of await book.openRuns()) await book.close(run, async (report) => void told.push(report));
}

async function keysOf(...prefixes: string[]): Promise<string[]> {
  const lists = await Promise.all(prefixes.map((prefix) => Array.fromAsync(runs.list(prefix))));
  return lists.flat().map(({ key }) => key);
}

const sources = () => told.flatMap(({ tags }) => tags.map(({ source }) => source));

describe('what no open run waits for', () => {
  it('is told when the hour is over, by one partial run of each trigger that had asked', async () => {
    const hook = '20260101T0000-webhook';
    await tell(runs, '1');
    await tell(runs, '2', '20260101T000000Z-schedule-fedcba');
    await tell(runs, '3', hook);
    await tell(runs, '4', 'by-hand');
    await closeAll();
    expect(told).toEqual([]);
    vi.setSystemTime(Date.UTC(2026, 0, 1, 13, 5));
    await closeAll();
    const seen = told.map(({ run, tags }) => [run.id, run.trigger, run.partial, tags.length]);
    expect(seen.sort()).toEqual([
      ['20260101T120000Z-manual-late', 'manual', true, 1],
      ['20260101T120000Z-schedule-late', 'schedule', true, 2],
      ['20260101T120000Z-webhook-late', 'webhook', true, 1],
    ]);
  });

  it('is told once, and leaves nothing, wherever its teller is killed: once it is written nobody has to tell it again', async () => {
    for (let calls = 0, died = true; died; calls += 1) {
      told = [];
      vi.setSystemTime(Date.now() + moreThanAnHourMs);
      died = await tell(dying(runs, calls), '1').then(
        () => false,
        () => true,
      );
      const isWritten = (await keysOf('parts/')).some((key) => key.includes('/end-'));
      // The message comes again.
      if (!isWritten) await tell(runs, '1');
      vi.setSystemTime(Date.now() + moreThanAnHourMs);
      await closeAll();
      expect(sources(), `after ${calls} calls`).toEqual(['docker.io/acme/app:1']);
      expect(await keysOf('parts/', 'open/'), `after ${calls} calls`).toEqual([]);
    }
  });

  it('is told once where the hour ends meanwhile, by a clock that is ahead', async () => {
    const tags = Array.from({ length: 20 }, (_, index) => `${index}`);
    const asked = tags.map((tag) => `20260101T000000Z-schedule-${tag}`);
    const tellers = tags.map((tag, index) => tell(runs, tag, asked[index]));
    await tellers[0];
    vi.setSystemTime(Date.UTC(2026, 0, 1, 13, 4));
    await Promise.all([...tellers, closeAll()]);
    vi.setSystemTime(Date.UTC(2026, 0, 1, 15));
    await closeAll();
    expect(sources().sort()).toEqual(tags.map((tag) => `docker.io/acme/app:${tag}`).sort());
    expect(await keysOf('parts/', 'open/')).toEqual([]);
  });
});
