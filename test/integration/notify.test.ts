/** Notifications, to a receiver that takes them, fails, hangs or asks to wait. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Notification } from '../../lib/config/environment.ts';
import { HubferryError } from '../../lib/errors.ts';
import { Notifier } from '../../lib/notify.ts';
import { openFolderStores } from '../../lib/storage/folder.ts';
import type { DocumentStore } from '../../lib/storage/ports.ts';
import { type AnyReport, buildReport, type Line, syncOutcomes } from '../../lib/sync/runs/report.ts';
import { noTransfer } from '../../lib/sync/runs/tally.ts';
import { type LocalServer, replyJson, startServer } from '../local/server.ts';
import { boundTo } from '../unit/sync/memory.ts';

interface Received {
  readonly key: string;
  readonly body: { readonly about: string[]; readonly title: string } & Record<string, unknown>;
}

let folder: string;
let state: DocumentStore;
let receiver: LocalServer;
let received: Received[];
let status: number;
let logs: string[];

beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'hubferry-notify-'));
  ({ state } = openFolderStores(folder));
  received = [];
  status = 200;
  logs = [];
  receiver = await startServer(async (exchange) => {
    const chunks = await Array.fromAsync(exchange.body());
    const key = String(exchange.headers['idempotency-key']);
    received.push({ key, body: JSON.parse(Buffer.concat(chunks).toString()) });
    return replyJson(status, {});
  });
});
afterEach(async () => {
  await receiver.close();
  rmSync(folder, { recursive: true, force: true });
});

const all: readonly Notification[] = ['failed', 'parked', 'changed', 'recovered'];

function notifier(on: readonly Notification[] = all, store = state): Notifier {
  const url = () => `${receiver.url}/services/T000/secret-path?sig=secret-signature`;
  return new Notifier({ state: store, on: new Set(on), url, patienceMs: 200 });
}

const deliver = (from = notifier()) =>
  from.deliver((level, message, fields) => logs.push(JSON.stringify({ level, message, ...fields })));

function reportOf(
  id: string,
  outcomes: Readonly<Record<string, string>>,
  facts: Partial<Line> = {},
): AnyReport {
  const lines = Object.entries(outcomes).map(([tag, outcome]) => ({
    rule: 'app',
    source: `docker.io/a/b:${tag}`,
    target: `x.azurecr.io/b:${tag}`,
    outcome,
    ...(outcome === 'failed' && { error: { code: 'ERR_SERVER' as const, message: 'down' } }),
    ...facts,
  }));
  const times = { startedAt: '2026-01-01T00:00:00.000Z', finishedAt: '2026-01-01T00:01:00.000Z' };
  const run = { id, trigger: 'schedule' as const, ...times };
  return buildReport(run, syncOutcomes as readonly string[], lines, noTransfer()) as AnyReport;
}

/** Lets the pauses between attempts pass. */
async function later(): Promise<void> {
  for await (const { key } of state.list('notify/outbox/')) {
    const document = await state.get(key);
    const letter = JSON.parse(Buffer.from(document?.bytes ?? []).toString());
    await state.put(key, Buffer.from(JSON.stringify({ ...letter, notBefore: 0 })));
  }
}

async function waiting(): Promise<{ attempts: number; notBefore: number }[]> {
  const letters = [];
  for await (const { key } of state.list('notify/outbox/')) {
    const document = await state.get(key);
    letters.push(JSON.parse(Buffer.from(document?.bytes ?? []).toString()));
  }
  return letters;
}

describe('what is told', () => {
  it.each([
    ['a failure', reportOf('r', { 1: 'failed', 2: 'copied' }), ['failed', 'changed']],
    ['a change', reportOf('r', { 1: 'copied', 2: 'unchanged' }), ['changed']],
    [
      'what is parked past a day',
      reportOf('r', { 1: 'deferred' }, { until: '2026-01-03T00:00:00Z' }),
      ['parked'],
    ],
    [
      'what was parked again and again for a day',
      reportOf('r', { 1: 'deferred' }, { until: '2026-01-02T02:00:00Z' }),
      ['parked'],
    ],
  ])('is %s, with the summary', async (_, report, about) => {
    await notifier().note(report);
    await deliver();
    expect(received).toHaveLength(1);
    expect(received[0]?.body).toMatchObject({ about, run: { id: 'r' }, totals: report.totals });
  });

  it.each([
    ['nothing changed', reportOf('r', { 1: 'unchanged' }), all],
    ['it is parked for some hours', reportOf('r', { 1: 'deferred' }, { until: '2026-01-01T06:00:00Z' }), all],
    ['it was not asked for', reportOf('r', { 1: 'copied' }), ['failed', 'parked', 'recovered'] as const],
  ])('is nothing where %s', async (_, report, on) => {
    await notifier(on).note(report);
    await deliver();
    expect(received).toEqual([]);
  });

  it('names the cause and what to do', async () => {
    await notifier().note(reportOf('r', { 1: 'failed', 2: 'failed' }));
    await deliver();
    expect(received[0]?.body.title).toBe('hubferry, schedule: 2 failed');
    expect(received[0]?.body.causes).toMatchObject([
      {
        code: 'ERR_SERVER',
        remedy: 'Run again later.',
        tags: 2,
        examples: ['x.azurecr.io/b:1', 'x.azurecr.io/b:2'],
      },
    ]);
  });

  it('is recovery, once, when a tag that had failed is well', async () => {
    const from = notifier(['recovered']);
    for (const report of [
      reportOf('r1', { 1: 'failed', 2: 'failed' }),
      reportOf('r2', { 1: 'unchanged', 2: 'failed' }),
      reportOf('r3', { 1: 'unchanged', 2: 'copied' }),
      reportOf('r4', { 1: 'unchanged', 2: 'unchanged' }),
    ])
      await from.note(report);
    await deliver(from);
    expect(received.map(({ body }) => [body.about, body.recovered])).toEqual([
      [['recovered'], ['x.azurecr.io/b:1']],
      [['recovered'], ['x.azurecr.io/b:2']],
    ]);
  });

  it('is recovery in one of two runs that close together', async () => {
    const from = notifier(['recovered']);
    await from.note(reportOf('r1', { 1: 'failed' }));
    await Promise.all(['r2', 'r3'].map((id) => notifier(['recovered']).note(reportOf(id, { 1: 'copied' }))));
    await deliver(from);
    expect(received).toHaveLength(1);
  });

  it('is recovery also where the run crashed while it was written down', async () => {
    const from = notifier(['recovered']);
    await from.note(reportOf('r1', { 1: 'failed' }));
    const dying: DocumentStore = {
      ...boundTo(state),
      put: async (key, bytes, options) => {
        if (key.startsWith('notify/outbox/')) throw new Error('crashed');
        return state.put(key, bytes, options);
      },
    };
    const well = reportOf('r2', { 1: 'copied' });
    await expect(notifier(['recovered'], dying).note(well)).rejects.toThrow('crashed');
    await from.note(well);
    await deliver(from);
    expect(received.map(({ body }) => body.recovered)).toEqual([['x.azurecr.io/b:1']]);
  });

  it.each([
    ['a run of single tags', { partial: true }, 'app'],
    ['another rule', {}, 'other'],
  ])('is no recovery of a listing when %s brings a tag', async (_, marks, rule) => {
    const from = notifier(['recovered']);
    await from.note(reportOf('r1', { 1: 'failed' }, { target: 'x.azurecr.io/b' }));
    const well = reportOf('r2', { 1: 'copied' }, { rule });
    await from.note({ ...well, run: { ...well.run, trigger: 'manual', ...marks } } as AnyReport);
    await deliver(from);
    expect(received).toEqual([]);
  });

  it('is no recovery of a listing when a push brings one tag', async () => {
    const from = notifier(['recovered']);
    await from.note(reportOf('r1', { 1: 'failed' }, { target: 'x.azurecr.io/b' }));
    const pushed = reportOf('r2', { 1: 'copied' });
    await from.note({ ...pushed, run: { ...pushed.run, trigger: 'webhook' } } as AnyReport);
    await deliver(from);
    expect(received).toEqual([]);
  });

  it.each([
    ['a dry run', { 1: 'skipped' }, { reason: 'would copy: new tag' }, { dryRun: true }],
    ['a run that was cancelled', { 1: 'skipped' }, { reason: 'cancelled' }, {}],
  ])('is recovery although %s came in between', async (_, outcomes, facts, marks) => {
    const from = notifier(['recovered']);
    await from.note(reportOf('r1', { 1: 'failed' }));
    const between = reportOf('r2', outcomes as Record<string, string>, facts);
    await from.note({ ...between, run: { ...between.run, ...marks } } as AnyReport);
    await from.note(reportOf('r3', { 1: 'copied' }));
    await deliver(from);
    expect(received.map(({ body }) => body.recovered)).toEqual([['x.azurecr.io/b:1']]);
  });

  it('is recovery of a namespace that had failed as a whole', async () => {
    const from = notifier(['recovered']);
    await from.note(reportOf('r1', { 1: 'failed' }, { target: 'x.azurecr.io/team/*' }));
    await from.note(reportOf('r2', { 1: 'unchanged' }, { target: 'x.azurecr.io/team/app:1' }));
    await deliver(from);
    expect(received.map(({ body }) => body.recovered)).toEqual([['x.azurecr.io/team/*']]);
  });

  it('is what a check found at the target alone, where its rule prunes', async () => {
    const report = { ...reportOf('r', { 1: 'extra' }) };
    for (const prunes of [false, true]) await notifier(['failed']).note(report, () => prunes);
    await deliver();
    expect(received).toMatchObject([{ body: { about: ['failed'] } }]);
  });

  it('is recovery of a rule that had failed as a whole, when one of its tags is well', async () => {
    const from = notifier(['recovered']);
    await from.note(reportOf('r1', { 1: 'failed' }, { target: 'x.azurecr.io/b' }));
    await from.note(reportOf('r2', { 1: 'unchanged' }));
    await deliver(from);
    expect(received.map(({ body }) => body.recovered)).toEqual([['x.azurecr.io/b']]);
  });

  it('is recovery of one target of a rule whose source had failed for two', async () => {
    const from = notifier(['recovered']);
    await from.note(reportOf('r1', { 1: 'failed' }, { target: 'x.azurecr.io/b, y.azurecr.io/b' }));
    await from.note(reportOf('r2', { 1: 'unchanged' }));
    await deliver(from);
    expect(received.map(({ body }) => body.recovered)).toEqual([['x.azurecr.io/b']]);
  });
});

describe('what lies in the outbox and is no notification', () => {
  it('is taken away, and holds up none', async () => {
    await state.put('notify/outbox/a.json', Buffer.from('{ "half": '));
    await state.put('notify/outbox/b.json', Buffer.from('{}'));
    const empty = { message: {}, attempts: 0, writtenAt: 0, notBefore: 0 };
    await state.put('notify/outbox/c.json', Buffer.from(JSON.stringify(empty)));
    await notifier().note(reportOf('r', { 1: 'failed' }));
    await deliver();
    expect(received).toHaveLength(1);
    expect(await Array.fromAsync(state.list('notify/outbox/'))).toEqual([]);
  });
});

describe('a receiver', () => {
  it('gets the same key in header and body, also for what it is sent twice', async () => {
    status = 503;
    await notifier().note(reportOf('r', { 1: 'failed' }));
    await deliver();
    await later();
    status = 200;
    await deliver();
    expect(received).toHaveLength(2);
    for (const { key, body } of received) {
      expect(key).toMatch(/^r-[0-9a-f]{16}$/);
      expect(body.idempotencyKey).toBe(key);
    }
    expect(new Set(received.map(({ key }) => key)).size).toBe(1);
    expect(await waiting()).toEqual([]);
  });

  it('is not told again of a run whose closing came twice', async () => {
    const report = reportOf('r', { 1: 'failed' });
    await notifier().note(report);
    await notifier().note(report);
    await deliver();
    expect(received).toHaveLength(1);
  });

  it('that fails is asked again later and later, and the others wait behind it', async () => {
    status = 500;
    for (const id of ['r1', 'r2']) await notifier().note(reportOf(id, { 1: 'failed' }));
    await deliver();
    expect(received).toHaveLength(1);
    const [first] = await waiting();
    expect(first?.attempts).toBe(1);
    expect(first?.notBefore).toBeGreaterThan(Date.now() + 50_000);
    await later();
    await deliver();
    const [again] = await waiting();
    expect(again?.notBefore).toBeGreaterThan(Date.now() + 100_000);
    status = 200;
    await later();
    await deliver();
    expect(received.map(({ body }) => (body.run as { id: string }).id)).toEqual(['r1', 'r1', 'r1', 'r2']);
  });

  it('that hangs costs one attempt and its patience', async () => {
    receiver.intercept = () => new Promise(() => undefined);
    await notifier().note(reportOf('r', { 1: 'failed' }));
    await deliver();
    expect(await waiting()).toMatchObject([{ attempts: 1 }]);
    expect(logs.join()).toContain('ERR_TIMEOUT');
  });

  it('that answers 429 is left alone for as long as it says', async () => {
    receiver.intercept = () => ({ kind: 'answer', status: 429, headers: { 'retry-after': '72000' } });
    await notifier().note(reportOf('r', { 1: 'failed' }));
    await deliver();
    const [letter] = await waiting();
    expect(letter?.notBefore).toBeGreaterThan(Date.now() + 70_000_000);
    expect(logs.join()).toContain('ERR_RATE_LIMITED');
  });

  it('that answers 429 is asked for nothing else meanwhile', async () => {
    receiver.intercept = () => ({ kind: 'answer', status: 429, headers: { 'retry-after': '3600' } });
    for (const id of ['r1', 'r2', 'r3']) await notifier().note(reportOf(id, { 1: 'failed' }));
    await deliver();
    await deliver();
    expect(receiver.requests).toHaveLength(1);
    receiver.intercept = undefined;
    await later();
    await state.delete('notify/rest.json');
    await deliver();
    expect(received).toHaveLength(3);
  });

  it('that breaks the connection, or is not there, is asked again', async () => {
    receiver.intercept = () => ({ kind: 'reset' });
    await notifier().note(reportOf('r', { 1: 'failed' }));
    await deliver();
    await receiver.close();
    await later();
    await deliver();
    expect(await waiting()).toMatchObject([{ attempts: 2 }]);
  });

  it('is not followed elsewhere', async () => {
    receiver.intercept = ({ url }) =>
      url.startsWith('/services')
        ? { kind: 'answer', status: 307, headers: { location: `${receiver.url}/elsewhere` } }
        : undefined;
    await notifier().note(reportOf('r', { 1: 'failed' }));
    await deliver();
    expect(receiver.requests.map(({ url }) => url.split('?')[0])).toEqual(['/services/T000/secret-path']);
    expect(await waiting()).toHaveLength(1);
  });

  it('has an address that no log, no error and no document holds', async () => {
    await receiver.close();
    await notifier().note(reportOf('r', { 1: 'failed' }));
    await deliver();
    const kept = JSON.stringify(await waiting());
    for (const text of [logs.join(), kept]) expect(text).not.toMatch(/secret|services/);
    expect(logs).toHaveLength(1);
  });
});

describe('without a good address', () => {
  it('nothing is written down where none is set', async () => {
    const from = new Notifier({ state, on: new Set(all), url: () => undefined });
    await from.note(reportOf('r', { 1: 'failed' }));
    expect(await waiting()).toEqual([]);
  });

  it('it is kept, and said why, where the vault gives none', async () => {
    const url = () => {
      throw new HubferryError('ERR_SECRET_UNRESOLVED', 'NOTIFY_URL');
    };
    const from = new Notifier({ state, on: new Set(all), url });
    await from.note(reportOf('r', { 1: 'failed' }));
    await deliver(from);
    expect(await waiting()).toHaveLength(1);
    expect(logs.join()).toContain('ERR_SECRET_UNRESOLVED');
  });
});
