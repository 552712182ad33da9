/** A run's closing, over Azurite: whatever order, duplicates and crashes its messages come with. */
import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openBlobStores } from '../../lib/storage/blob.ts';
import type { DocumentStore } from '../../lib/storage/ports.ts';
import { forEachOf } from '../../lib/sync/concurrency.ts';
import { RunBook } from '../../lib/sync/runs/book.ts';
import type { Opened, Part } from '../../lib/sync/runs/parts.ts';
import type { AnyReport, Line } from '../../lib/sync/runs/report.ts';
import { listRuns, readRun } from '../../lib/sync/runs/runs.ts';
import { noTransfer } from '../../lib/sync/runs/tally.ts';
import { type Azurite, startAzurite } from '../local/azurite.ts';
import { dying } from '../local/dying.ts';

let azurite: Azurite;
let runs: DocumentStore;
/** Reports that were announced, by run. */
let told: AnyReport[];
let run: string;

beforeAll(async () => {
  azurite = await startAzurite();
  ({ runs } = openBlobStores(azurite, { create: true }));
});
afterAll(() => azurite.close());
beforeEach(() => {
  told = [];
  run = `run-${randomUUID()}`;
});

const announce = async (report: AnyReport) => {
  told.push(report);
};

interface Message {
  readonly id: string;
  readonly opens?: readonly string[];
  readonly outcome?: string;
}

const names = (id: string) => ({
  rule: 'app',
  source: `docker.io/acme/app:${id}`,
  target: `x.azurecr.io/app:${id}`,
});
const lineOf = (id: string, outcome = 'copied'): Line => ({ ...names(id), outcome });

/** A plan is about its rule as a whole. */
function openedBy(id: string): Opened {
  const about = { id, rule: 'app', source: 'docker.io/acme/app', target: 'x.azurecr.io/app' };
  return id === 'plan' ? about : { ...about, tags: [{ source: id, target: id }] };
}

function partOf({ id, opens = [], outcome }: Message, more: Partial<Part> = {}): Part {
  return {
    id,
    opened: opens.map(openedBy),
    lines: opens.length > 0 ? [] : [lineOf(id, outcome)],
    transfer: noTransfer(),
    ...more,
  };
}

function open(book: RunBook, ids: readonly string[], opener = 'start-plan'): Promise<string> {
  const start = () => ({
    opened: ids.map(openedBy),
    sends: ids.map((id) => ({ queue: 'plan-requests' as const, message: { id } })),
  });
  return book.open({ run, trigger: 'schedule', startedAt: new Date(), opener, start });
}

async function keysOf(prefix: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of runs.list(prefix)) keys.push(key);
  return keys;
}

/** A plan with three requests, one of which asks for another one. */
const plan: readonly Message[] = [
  { id: 'plan', opens: ['a', 'b', 'c'] },
  { id: 'a' },
  { id: 'b' },
  { id: 'c', opens: ['d'] },
  { id: 'd' },
];
const everyTag = ['a', 'b', 'd'].map((id) => expect.objectContaining(lineOf(id)));

describe('a run', () => {
  it('closes once, with every line, in whatever order and however often its messages come', async () => {
    await fc.assert(
      fc.asyncProperty(fc.shuffledSubarray([...plan, ...plan], { minLength: 10 }), async (messages) => {
        told = [];
        run = `run-${randomUUID()}`;
        const books = [new RunBook(runs), new RunBook(runs)];
        await open(new RunBook(runs), ['plan']);
        for (const [at, message] of messages.entries())
          await books[at % 2]?.write(run, partOf(message), announce);
        expect(told).toHaveLength(1);
        expect(told[0]?.tags).toEqual(everyTag);
        expect(await keysOf(`parts/${run}/`)).toEqual([]);
        expect(await keysOf(`open/${run}`)).toEqual([]);
      }),
      { numRuns: 5 },
    );
  });

  it('closes once where its last two hundred results come at the same moment', async () => {
    const ids = Array.from({ length: 200 }, (_, index) => `r${index}`);
    const books = [new RunBook(runs), new RunBook(runs), new RunBook(runs)];
    await open(new RunBook(runs), ['plan']);
    await books[0]?.write(run, partOf({ id: 'plan', opens: ids }), announce);
    await Promise.all(ids.map((id, index) => books[index % 3]?.write(run, partOf({ id }), announce)));
    // Where each of them knew of many that were out, the next full minute sees that none is.
    await new RunBook(runs).close(run, announce);
    expect(told).toHaveLength(1);
    expect(told[0]?.totals).toMatchObject({ tags: 200, copied: 200 });
    expect(await keysOf(`parts/${run}/`)).toEqual([]);
  });

  it('counts once what a message has cost that two instances have at the same time, again and again', async () => {
    const books = [new RunBook(runs), new RunBook(runs)];
    await open(new RunBook(runs), ['a']);
    for (let stop = 1; stop <= 5; stop += 1) {
      const parts = books.map((_, at) => ({
        ...partOf({ id: 'a' }),
        transfer: { ...noTransfer(), pulls: 1 },
        parkedUntil: Date.now() + stop * 1000 + at,
        sentAgain: true,
      }));
      await Promise.all(parts.map((part, at) => books[at]?.write(run, part, announce)));
    }
    expect((await books[0]?.report(run))?.totals.pulls).toBe(10);
    await books[0]?.write(run, { ...partOf({ id: 'a' }), transfer: { ...noTransfer(), pulls: 1 } }, announce);
    expect(told[0]?.totals.pulls).toBe(11);
  });

  it('leaves no parts that were written before it was opened, or after it was closed', async () => {
    const book = new RunBook(runs);
    await open(book, ['a']);
    const lost = `run-${randomUUID()}`;
    await runs.put(`parts/${lost}/a~ended`, Buffer.from(JSON.stringify(partOf({ id: 'a' }))));
    await book.tidy(60_000);
    expect(await keysOf(`parts/${lost}/`)).toHaveLength(1);
    await book.tidy(-1);
    expect(await keysOf(`parts/${lost}/`)).toEqual([]);
    expect(await keysOf(`parts/${run}/`)).toHaveLength(1);
  });

  it('stays open while a result is out, and closes with it, however late', async () => {
    const book = new RunBook(runs);
    await open(book, ['plan']);
    for (const message of plan.slice(0, 4)) await book.write(run, partOf(message), announce);
    expect(await book.close(run, announce)).toBe('open');
    expect((await book.standing(run))?.missing).toEqual([openedBy('d')]);
    expect((await book.report(run))?.run.finishedAt).toBeUndefined();
    await book.write(run, partOf({ id: 'd' }), announce);
    expect(told).toHaveLength(1);
  });

  it('is not closed by requests that a second delivery of its plan opened, before those of the first', async () => {
    const book = new RunBook(runs);
    await open(book, ['plan']);
    await book.write(run, partOf({ id: 'plan', opens: ['a', 'b'] }), announce);
    await book.write(run, partOf({ id: 'plan', opens: ['c'] }), announce);
    for (const id of ['a', 'c']) await book.write(run, partOf({ id }), announce);
    expect(told).toEqual([]);
    await book.write(run, partOf({ id: 'b' }), announce);
    expect(told[0]?.tags).toHaveLength(3);
  });

  it('keeps the first end of a request: a message that comes again says unchanged of what it copied', async () => {
    const book = new RunBook(runs);
    await open(book, ['a', 'b']);
    await book.write(run, partOf({ id: 'a' }), announce);
    const again = await book.write(run, partOf({ id: 'a', outcome: 'unchanged' }), announce);
    expect(again?.lines).toEqual([lineOf('a')]);
    await book.write(run, partOf({ id: 'b' }), announce);
    expect(told[0]?.totals).toMatchObject({ copied: 2, unchanged: 0 });
  });

  it('is changed by nothing that comes after it was closed', async () => {
    const book = new RunBook(runs);
    await open(book, ['a']);
    await book.write(run, partOf({ id: 'a' }), announce);
    const before = await readRun(runs, run);
    for (const late of [new RunBook(runs), book])
      await late.write(run, partOf({ id: 'a', outcome: 'failed' }), announce);
    expect(await readRun(runs, run)).toEqual(before);
    expect(await keysOf(`parts/${run}/`)).toEqual([]);
    expect(told).toHaveLength(1);
  });

  it('waits for what is parked until the next plan, and leaves what is parked longer to the next run', async () => {
    const book = new RunBook(runs);
    await open(book, ['a', 'b']);
    await book.write(run, partOf({ id: 'a' }), announce);
    const soon = Date.now() + 3600_000;
    await book.write(run, partOf({ id: 'b', outcome: 'deferred' }, { parkedUntil: soon }), announce);
    expect(told).toEqual([]);
    const late = Date.now() + 48 * 3600_000;
    await book.write(run, partOf({ id: 'b', outcome: 'deferred' }, { parkedUntil: late }), announce);
    expect(told[0]?.totals).toMatchObject({ tags: 2, copied: 1, deferred: 1 });
  });

  it('gives up what nobody has heard of for days', async () => {
    const book = new RunBook(runs);
    await open(book, ['a', 'b']);
    await book.write(run, partOf({ id: 'a' }), announce);
    expect(await book.close(run, announce, { before: Date.now() - 60_000 })).toBe('open');
    expect(await book.close(run, announce, { before: Date.now() + 60_000 })).toBe('closed');
    expect(told[0]?.tags).toEqual([
      lineOf('a'),
      { ...names('b'), outcome: 'failed', error: { code: 'ERR_LOST', message: expect.any(String) } },
    ]);
  });

  it('tells each tag once of a request that did some and was sent again', async () => {
    const book = new RunBook(runs);
    const tags = ['1', '2'].map((tag) => ({ source: tag, target: tag }));
    const opened = [{ ...openedBy('a'), tags }];
    await book.open({
      run,
      trigger: 'schedule',
      startedAt: new Date(),
      opener: 'start-plan',
      start: () => ({ opened }),
    });
    const again = { parkedUntil: Date.now(), sentAgain: true };
    await book.write(run, partOf({ id: 'a' }, { lines: [lineOf('1')], ...again }), announce);
    expect((await book.standing(run))?.missing).toEqual(opened);
    await book.close(run, announce, 'cancelled');
    const skipped = { ...lineOf('2', 'skipped'), reason: 'cancelled' };
    expect(told[0]?.tags).toEqual([lineOf('1'), skipped]);
  });

  it('has what was never sent sent again, once in a while', async () => {
    const book = new RunBook(runs);
    await open(book, ['a', 'b']);
    await book.write(run, partOf({ id: 'a' }), announce);
    expect(await book.unheard(run, Date.now() - 60_000)).toEqual([]);
    const soon = Date.now() + 60_000;
    expect(await book.unheard(run, soon)).toEqual([{ queue: 'plan-requests', message: { id: 'b' } }]);
  });
});

describe('joining a run', () => {
  it('adds to it while it is open', async () => {
    const book = new RunBook(runs);
    expect(await open(book, ['a'], 'start-1')).toBe(run);
    expect(await open(book, ['b'], 'start-2')).toBe(run);
    await book.write(run, partOf({ id: 'a' }), announce);
    expect(told).toEqual([]);
    await book.write(run, partOf({ id: 'b' }), announce);
    expect(told[0]?.tags).toHaveLength(2);
  });

  it('takes the next run where it is closed', async () => {
    const book = new RunBook(runs);
    await open(book, ['a'], 'start-1');
    await book.write(run, partOf({ id: 'a' }), announce);
    expect(await open(book, ['b'], 'start-2')).toBe(`${run}-2`);
    await book.write(`${run}-2`, partOf({ id: 'b' }), announce);
    expect(await open(book, ['c'], 'start-3')).toBe(`${run}-3`);
    expect(told.map(({ tags }) => tags.length)).toEqual([1, 1]);
  });

  it('loses nothing while the run is closing, and reports everything once', async () => {
    const ids = Array.from({ length: 24 }, (_, index) => `p${index}`);
    await Promise.all(
      ids.map(async (id) => {
        const book = new RunBook(runs);
        const joined = await open(book, [id], `start-${id}`);
        await book.write(joined, partOf({ id }), announce);
      }),
    );
    const reported = told.flatMap(({ tags }) => tags.map(({ source }) => source));
    expect(reported.sort()).toEqual(ids.map((id) => names(id).source).sort());
    expect(await keysOf(`open/${run}`)).toEqual([]);
  });
});

describe('a crash', () => {
  /** Delivers the messages until all have been taken; the store dies once, after so many calls. */
  async function liveThrough(calls: number): Promise<boolean> {
    told = [];
    run = `run-${randomUUID()}`;
    let store = dying(runs, calls);
    let book = new RunBook(store);
    const steps = [
      () => open(book, ['plan']),
      ...plan.map((message) => () => book.write(run, partOf(message), announce)),
    ];
    let died = false;
    for (const step of steps) {
      try {
        await step();
      } catch {
        died = true;
        store = runs;
        book = new RunBook(store);
        await step();
      }
    }
    for (const left of await new RunBook(runs).openRuns()) if (left === run) await closeLater();
    return died;
  }

  /** As `release` does it, some minutes on. */
  async function closeLater(): Promise<void> {
    await new RunBook(aged(runs)).close(run, announce);
    expect(await new RunBook(runs).standing(run)).toBeUndefined();
  }

  it('at any step of any message leaves a run that closes all the same, with every line', async () => {
    let calls = 0;
    while (await liveThrough(calls)) {
      expect(told.length, `after ${calls} calls`).toBeGreaterThanOrEqual(1);
      for (const report of told) expect(report.tags, `after ${calls} calls`).toEqual(everyTag);
      expect((await readRun(runs, run))?.tags).toEqual(everyTag);
      expect(await keysOf(`parts/${run}/`)).toEqual([]);
      calls += 1;
    }
    expect(calls).toBeGreaterThan(30);
    expect(told).toHaveLength(1);
  });

  it('tells one report, also where somebody who was taken for dead goes on', async () => {
    const held = Promise.withResolvers<void>();
    const slow: DocumentStore = {
      ...bound(runs),
      async put(key, bytes, options) {
        if (key.startsWith('reports/')) await held.promise;
        return runs.put(key, bytes, options);
      },
    };
    await open(new RunBook(runs), ['a']);
    const first = new RunBook(slow).write(run, partOf({ id: 'a' }), announce);
    await expect.poll(() => new RunBook(aged(runs)).close(run, announce)).toBe('closed');
    held.resolve();
    await first;
    expect(told.length).toBeGreaterThan(0);
    expect(new Set(told.map((report) => report.run.finishedAt)).size).toBe(1);
    expect(told.at(-1)).toEqual(await readRun(runs, run));
  });

  it('leaves nothing of a result that comes while it is tidied away', async () => {
    let late: Promise<unknown> | undefined;
    const slow: DocumentStore = {
      ...bound(runs),
      async delete(key, options) {
        if (key === `open/${run}.json`) {
          late = new RunBook(runs).write(run, partOf({ id: 'b' }), announce);
          await late;
        }
        return runs.delete(key, options);
      },
    };
    const book = new RunBook(slow);
    await open(book, ['a']);
    await book.write(run, partOf({ id: 'a' }), announce);
    expect(late).toBeDefined();
    expect(await keysOf(`parts/${run}/`)).toEqual([]);
  });

  it('is not held up by a list of runs that was damaged', async () => {
    const before = await runs.get('recent/schedule.json');
    for (const text of ['[{"run":', '{}', '[{"run":{}}]', 'null']) {
      run = `run-${randomUUID()}`;
      await runs.put('recent/schedule.json', Buffer.from(text));
      const book = new RunBook(runs);
      await open(book, ['a']);
      await book.write(run, partOf({ id: 'a' }), announce);
      expect((await listRuns(runs)).map((one) => one.run.id)).toEqual([run]);
    }
    if (before !== undefined) await runs.put('recent/schedule.json', before.bytes);
  });

  it('names a report that was damaged', async () => {
    await runs.put(`reports/${run}.json`, Buffer.from('{"run":'));
    await expect(readRun(runs, run)).rejects.toMatchObject({
      code: 'ERR_STORAGE',
      message: expect.stringContaining(`reports/${run}.json`),
    });
    await runs.delete(`reports/${run}.json`);
  });

  it.each([
    ['20260101T023000Z-schedule-abcdef', { trigger: 'schedule', startedAt: '2026-01-01T02:30:00.000Z' }],
    ['20260101T0230-webhook-2', { trigger: 'webhook', startedAt: '2026-01-01T02:30:00.000Z' }],
  ])('goes on and closes where its header was damaged, as its name tells: %s', async (name, header) => {
    run = name;
    const book = new RunBook(runs);
    await open(book, ['a', 'b']);
    await book.write(run, partOf({ id: 'a' }), announce);
    await runs.put(`open/${run}.json`, Buffer.from('{"id":'));
    expect((await book.standing(run))?.header).toEqual({ id: run, ...header });
    await book.write(run, partOf({ id: 'b' }), announce);
    expect(told).toMatchObject([{ run: { id: run, ...header }, totals: { copied: 2 } }]);
    expect(await keysOf(`open/${run}`)).toEqual([]);
  });

  it('names a header that was damaged where its own name tells nothing', async () => {
    await runs.put(`open/${run}.json`, Buffer.from('{}'));
    await expect(new RunBook(runs).standing(run)).rejects.toMatchObject({
      code: 'ERR_STORAGE',
      message: expect.stringContaining(`open/${run}.json`),
    });
    await runs.delete(`open/${run}.json`);
  });

  it.each(['{"id":', '{}'])('tells of a part that was damaged as failed: %s', async (text) => {
    const book = new RunBook(runs);
    await open(book, ['a', 'b']);
    await book.write(run, partOf({ id: 'a' }), announce);
    const [key = ''] = await keysOf(`parts/${run}/a~`);
    await runs.put(key, Buffer.from(text));
    await book.write(run, partOf({ id: 'b' }), announce);
    const error = { code: 'ERR_STORAGE', message: expect.stringContaining(key) };
    expect(told).toMatchObject([{ tags: [{ ...lineOf('a', 'failed'), error }, lineOf('b')] }]);
  });

  it('stays open, and says why, where nobody knows any more what it is of', async () => {
    const book = new RunBook(runs);
    await open(book, ['a']);
    const [key = ''] = await keysOf(`parts/${run}/start-plan~`);
    await runs.put(key, Buffer.from('{}'));
    const refused = { code: 'ERR_STORAGE', message: expect.stringContaining(key) };
    await expect(new RunBook(runs).standing(run)).rejects.toMatchObject(refused);
    await expect(new RunBook(runs).write(run, partOf({ id: 'a' }), announce)).rejects.toMatchObject(refused);
    await runs.delete(key);
    expect(await new RunBook(runs).close(run, announce)).toBe('closed');
    expect(told[0]?.tags).toMatchObject([lineOf('a')]);
  });

  it('is told from another one that is closing the run just now', async () => {
    const book = new RunBook(runs);
    await open(book, ['a']);
    const closing = Promise.withResolvers<void>();
    const slow = book.write(run, partOf({ id: 'a' }), () => closing.promise);
    await expect.poll(() => readRun(runs, run)).toBeDefined();
    expect(await new RunBook(runs).close(run, announce)).toBe('open');
    closing.resolve();
    await slow;
    expect(told).toEqual([]);
  });
});

/** Shows the headers of runs as they look ten minutes later. */
function aged(store: DocumentStore): DocumentStore {
  return {
    ...bound(store),
    async get(key, options) {
      const document = await store.get(key, options);
      if (document === undefined || !key.startsWith('open/')) return document;
      const header: { closing?: { at: number } } = JSON.parse(Buffer.from(document.bytes).toString());
      if (header.closing !== undefined) header.closing.at -= 600_000;
      return { ...document, bytes: Buffer.from(JSON.stringify(header)) };
    },
  };
}

function bound(store: DocumentStore): DocumentStore {
  return dying(store, Number.POSITIVE_INFINITY);
}

describe('hundreds of results', () => {
  const ids = Array.from({ length: 400 }, (_, index) => `r${index}`);
  let listings = 0;

  function counting(): RunBook {
    listings = 0;
    return new RunBook({
      ...bound(runs),
      list: (...args) => {
        listings += 1;
        return runs.list(...args);
      },
    });
  }

  it('that come while their plan goes on cost a listing now and then, and its end closes the run', async () => {
    const book = counting();
    await open(book, ['plan']);
    await forEachOf(ids, 8, async (id) => {
      await book.write(run, partOf({ id }), announce);
    });
    expect(listings).toBeLessThan(60);
    await book.write(run, partOf({ id: 'plan', opens: ids }), announce);
    expect(told[0]?.totals.tags).toBe(400);
  });

  it('cost a listing now and then, not one each', async () => {
    const book = counting();
    await open(book, ['plan']);
    await book.write(run, partOf({ id: 'plan', opens: ids }), announce);
    await forEachOf(ids, 8, async (id) => {
      await book.write(run, partOf({ id }), announce);
    });
    expect(told[0]?.totals.tags).toBe(400);
    expect(listings).toBeLessThan(60);
  });
});
