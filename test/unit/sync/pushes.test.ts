import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openFolderStores } from '../../../lib/storage/folder.ts';
import type { DocumentStore } from '../../../lib/storage/ports.ts';
import type { Line, RunHeader, Trigger } from '../../../lib/sync/runs/report.ts';
import { readRun, saveRun } from '../../../lib/sync/runs/runs.ts';
import { pushesSchema } from '../../../lib/sync/runs/status.ts';
import { readTraffic } from '../../../lib/sync/runs/traffic.ts';
import { lineOf, reportOf } from '../../local/dashboard.ts';

let folder: string;
let runs: DocumentStore;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'hubferry-pushes-'));
  ({ runs } = openFolderStores(folder));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const at = (minute: number) => new Date(Date.UTC(2026, 0, 1, 0, minute)).toISOString();

function runOf(trigger: Trigger, from: number, to = from): RunHeader {
  return { id: `${trigger}-${from}`, trigger, startedAt: at(from), finishedAt: at(to) };
}

async function save(run: RunHeader, lines: readonly Line[] = [], pulls = 0): Promise<void> {
  await saveRun(runs, reportOf(run, lines, pulls));
}

async function pushed(minute: number, tag: string, outcome: string): Promise<void> {
  await save(runOf('webhook', minute), [lineOf('nginx', tag, outcome)]);
}

async function pushes() {
  const told = pushesSchema.parse(await readRun(runs, 'pushes'));
  const words = told.tags.map(({ target, outcome }) => `${target.replace(/.*:/, '')} ${outcome}`);
  return { ...told, words };
}

describe('what pushes said since the last full run', () => {
  it('still tells of a tag that failed when many runs came after it, and that it is well again then', async () => {
    await save(runOf('schedule', 0));
    await pushed(1, 'v2', 'failed');
    for (let minute = 2; minute <= 70; minute += 1) await pushed(minute, 'v3', 'copied');
    expect(await readRun(runs, 'webhook-1')).toBeUndefined();
    expect((await pushes()).words).toEqual(['v2 failed', 'v3 copied']);
    await pushed(71, 'v2', 'copied');
    expect(await pushes()).toMatchObject({
      words: ['v2 copied', 'v3 copied'],
      full: 'schedule-0',
      others: [],
      complete: true,
    });
  });

  it('is the last word, in whatever order and however often runs are told, and nothing that was superseded', async () => {
    await pushed(2, 'v1', 'copied');
    await pushed(1, 'v1', 'failed');
    await pushed(2, 'v1', 'copied');
    await pushed(3, 'v1', 'superseded');
    expect((await pushes()).words).toEqual(['v1 copied']);
  });

  it('begins anew with a run that looked at every tag, and keeps what ended since that began', async () => {
    await pushed(1, 'old', 'failed');
    await save(runOf('webhook', 2, 6), [lineOf('nginx', 'meanwhile', 'failed')]);
    await save({ ...runOf('schedule', 3, 5), cancelled: true });
    expect((await pushes()).full).toBeUndefined();
    await save(runOf('schedule', 4, 8));
    await save({ ...runOf('schedule', 5, 9), partial: true });
    const others = ['schedule-3', 'schedule-5'];
    expect(await pushes()).toMatchObject({ words: ['meanwhile failed'], full: 'schedule-4', others });
    await save(runOf('schedule', 0, 9));
    expect(await pushes()).toMatchObject({ full: 'schedule-4', others: [...others, 'schedule-0'] });
  });

  it('names the runs that are told by their own reports, and no dry run', async () => {
    const many = Array.from({ length: 101 }, (_, nth) => lineOf('nginx', `${nth}`, 'copied'));
    await save(runOf('schedule', 0));
    await save(runOf('manual', 1), [lineOf('nginx', '1', 'failed')]);
    await save(runOf('webhook', 2), many);
    await save({ ...runOf('manual', 3), dryRun: true });
    expect(await pushes()).toMatchObject({ words: [], others: ['manual-1', 'webhook-2'], complete: true });
  });

  it('says so when more runs ended than it names', async () => {
    await save(runOf('schedule', 0));
    for (let minute = 1; minute <= 31; minute += 1) await save(runOf('manual', minute));
    const { others, complete } = await pushes();
    expect([others.length, others.at(-1), complete]).toEqual([30, 'manual-31', false]);
    await save(runOf('schedule', 40));
    expect(await pushes()).toMatchObject({ others: [], complete: true });
  });

  it('gives up tags that are well before those that are not, and says so when it must give up one of those', async () => {
    const some = (first: number, outcome: string) =>
      Array.from({ length: 100 }, (_, nth) => lineOf('nginx', `${first + nth}`, outcome));
    await save(runOf('webhook', 0), some(0, 'failed'));
    for (let nth = 1; nth <= 10; nth += 1) await save(runOf('webhook', nth), some(nth * 100, 'copied'));
    let told = await pushes();
    expect(told.totals).toMatchObject({ tags: 1000, failed: 100, copied: 900 });
    expect(told.complete).toBe(true);
    for (let nth = 11; nth <= 20; nth += 1) await save(runOf('webhook', nth), some(nth * 100, 'failed'));
    told = await pushes();
    expect(told.totals).toMatchObject({ tags: 1000, failed: 1000 });
    expect(told.complete).toBe(false);
  });

  it.each(['{', '{"tags":[{}]}'])('is made anew of the reports where it was damaged: %s', async (text) => {
    await save(runOf('schedule', 0));
    await pushed(1, 'v1', 'failed');
    await save(runOf('manual', 2));
    await runs.put('reports/pushes.json', Buffer.from(text));
    await runs.put('recent/traffic.json', Buffer.from(text));
    await pushed(3, 'v2', 'copied');
    const facts = { full: 'schedule-0', others: ['manual-2'], complete: true };
    expect(await pushes()).toMatchObject({ words: ['v1 failed', 'v2 copied'], ...facts });
    expect(await readTraffic(runs)).toHaveLength(1);
  });

  it('names a run whose report is damaged, and says so where it cannot know what fell out of the list', async () => {
    await save(runOf('schedule', 0));
    for (let minute = 1; minute <= 30; minute += 1) await pushed(minute, 'v1', 'copied');
    await runs.put('reports/webhook-7.json', Buffer.from('{'));
    await runs.delete('reports/pushes.json');
    await pushed(31, 'v2', 'copied');
    expect(await pushes()).toMatchObject({ others: ['webhook-7'], complete: false });
  });

  it('is told by several at the same time', async () => {
    await Promise.all([1, 2, 3, 4, 5, 6].map((nth) => pushed(nth, `v${nth}`, 'copied')));
    expect((await pushes()).words).toHaveLength(6);
  });
});

describe('what all runs moved', () => {
  it('counts every run in its hour, each once, however many the list forgets', async () => {
    const line = lineOf('nginx', '1', 'copied', { bytes: 10 });
    for (let minute = 0; minute < 100; minute += 1) await save(runOf('webhook', minute), [line], 2);
    await save(runOf('webhook', 99), [line], 2);
    expect(await readTraffic(runs)).toEqual([
      { from: at(0), runs: 60, copied: 60, bytes: 600, pulls: 120 },
      { from: at(60), runs: 40, copied: 40, bytes: 400, pulls: 80 },
    ]);
  });

  it('is forgotten after thirty days', async () => {
    const days = (count: number) => count * 24 * 60;
    await save(runOf('schedule', 0));
    await save(runOf('schedule', days(29)));
    expect(await readTraffic(runs)).toHaveLength(2);
    await save(runOf('schedule', days(31)));
    expect((await readTraffic(runs)).map(({ from }) => from)).toEqual([at(days(29)), at(days(31))]);
  });
});
