/** Docker Hub's pull limit, seen from the command line. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createEngine } from '../../../lib/app.ts';
import { readRules } from '../../../lib/config/rules.ts';
import type { OnEvent } from '../../../lib/sync/runs/events.ts';
import { buildManifest } from '../../local/content.ts';
import { type LocalDockerHub, startDockerHub } from '../../local/dockerhub.ts';
import { type LocalRegistry, startRegistry } from '../../local/registry.ts';

const waiting = vi.hoisted(() => ({ sleep: undefined as ((until: number) => Promise<void>) | undefined }));

vi.mock('../../../lib/sync/waiting.ts', async (load) => {
  const real = await load<typeof import('../../../lib/sync/waiting.ts')>();
  return {
    ...real,
    sleepUntil: (until: number, signal: AbortSignal) =>
      waiting.sleep?.(until) ?? real.sleepUntil(until, signal),
  };
});

let hub: LocalDockerHub;
let target: LocalRegistry;
const folder = mkdtempSync(path.join(tmpdir(), 'hubferry-limits-'));

beforeEach(async () => {
  [hub, target] = await Promise.all([
    startDockerHub({ anonymousPulls: 2, accounts: { paid: { secret: 'secret-of-paid' } } }),
    startRegistry(),
  ]);
  for (const tag of ['1', '2', '3', '4']) await hub.push('acme/app', tag, buildManifest({ seed: tag }));
});
afterEach(async () => {
  await Promise.all([hub.close(), target.close()]);
  rmSync(folder, { recursive: true, force: true });
});

interface Options {
  readonly retries?: number;
  readonly signal?: AbortSignal;
  readonly onEvent?: OnEvent;
}

function sync(...sources: readonly string[]) {
  return syncWith({}, ...sources);
}

async function syncWith(options: Options, ...sources: readonly string[]) {
  const { retries = 0, signal = new AbortController().signal, onEvent = () => {} } = options;
  const open = { endpoint: hub.url, hubApi: hub.apiUrl, kind: 'dockerhub' };
  const registries = {
    'docker.io': open,
    'docker.io/paid': { ...open, username: 'paid', password: 'secret-of-paid' },
  };
  const from = sources.length === 0 ? ['docker.io/acme/app'] : sources;
  const rules = from.map((source, nth) => ({ source, target: `${target.host}/app${nth}` }));
  const text = JSON.stringify({ registries, rules });
  const engine = await createEngine({
    rules: readRules(text, { env: {}, variables: 'all' }),
    state: { kind: 'folder', path: folder },
    options: { proc: 2, retries },
    env: {},
    onEvent,
    signal,
  });
  try {
    return await engine.sync({ force: false, allowMassDelete: false, wait: 0 });
  } finally {
    await engine.close();
  }
}

describe('a pull limit', () => {
  it('defers what it does not reach, with a time, and spends no pull beyond it', async () => {
    const report = await sync();
    expect(report.totals).toMatchObject({ tags: 4, copied: 2, deferred: 2, failed: 0, pulls: 2 });
    const [deferred] = report.tags.filter((line) => line.outcome === 'deferred');
    expect(Date.parse(deferred?.until ?? '')).toBeGreaterThan(Date.now());
    expect(deferred?.error?.code).toBe('ERR_RATE_LIMITED');
  });

  it('is remembered: before its time the next run asks for no manifest at all', async () => {
    await sync();
    const before = hub.registry.requests.length;
    const report = await sync();
    expect(report.totals).toMatchObject({ unchanged: 2, deferred: 2, pulls: 0 });
    expect(hub.registry.requests.slice(before).filter(isPull)).toEqual([]);
  });
});

describe('a pull limit that asks for seconds', () => {
  const headers = { 'retry-after': '8' };
  const inHeaders = { 'ratelimit-limit': '100;w=21600', 'ratelimit-remaining': '0;w=21600' };
  const inWords = JSON.stringify({
    errors: [{ code: 'TOOMANYREQUESTS', message: 'You have reached your pull rate limit' }],
  });

  beforeEach(async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() });
    waiting.sleep = async (until) => void vi.setSystemTime(Math.max(until, Date.now()));
    for (const tag of ['1', '2', '3', '4'])
      await hub.push('paid/app', tag, buildManifest({ seed: `paid ${tag}` }));
  });
  afterEach(() => {
    waiting.sleep = undefined;
    vi.useRealTimers();
  });

  /** How often pulls from a repository were refused. */
  function refuse(repository: string, answer: object, until = Number.POSITIVE_INFINITY): () => number {
    let refused = 0;
    hub.registry.intercept = (request) => {
      if (!isPull(request) || !request.url.includes(repository) || Date.now() >= until) return undefined;
      refused += 1;
      return { kind: 'answer', status: 429, headers, ...answer };
    };
    return () => refused;
  }

  it.each([
    ['in its headers', { headers: { ...headers, ...inHeaders } }],
    ['in its words', { body: inWords }],
  ])('%s is waited for, and defers nothing', async (_, answer) => {
    refuse('paid/app', answer, Date.now() + 8000);
    const told: number[] = [];
    const onEvent: OnEvent = (event) => event.type === 'waiting' && told.push(event.until - Date.now());
    const report = await syncWith({ retries: 1, onEvent }, 'docker.io/paid/app');
    expect(report.totals).toMatchObject({ copied: 4, deferred: 0, pulls: 4 });
    expect(told.length).toBeGreaterThan(0);
    for (const ms of told) expect(ms).toBeLessThanOrEqual(8000);
  });

  it('is met as often as any request is sent again, and defers then', async () => {
    const refused = refuse('paid/app', { body: inWords });
    const { tags } = await syncWith({ retries: 2 }, 'docker.io/paid/app:1');
    expect(tags).toMatchObject([{ outcome: 'deferred', error: { code: 'ERR_RATE_LIMITED' } }]);
    expect(Date.parse(tags[0]?.until ?? '')).toBeLessThan(Date.now() + 60_000);
    expect(refused()).toBe(3);
  });

  it('leaves nobody alone for less than seconds, however few it asks for', async () => {
    const slept: number[] = [];
    waiting.sleep = async (until) => {
      slept.push(until - Date.now());
      vi.setSystemTime(Math.max(until, Date.now()));
    };
    refuse('paid/app', { body: inWords, headers: { 'retry-after': '0' } });
    await syncWith({ retries: 2 }, 'docker.io/paid/app:1');
    expect(slept.filter((ms) => ms > 0).length).toBe(2);
    for (const ms of slept.filter((ms) => ms > 0)) expect(ms).toBeGreaterThan(1000);
  });

  it('holds up no other account meanwhile', async () => {
    refuse('acme/app', { body: inWords }, Date.now() + 8000);
    const others = target.repository('app1').tags;
    waiting.sleep = async (until) => {
      await vi.waitFor(() => expect(others.size).toBe(4));
      vi.setSystemTime(Math.max(until, Date.now()));
    };
    const report = await syncWith({ retries: 1 }, 'docker.io/acme/app:1', 'docker.io/paid/app');
    expect(report.totals).toMatchObject({ copied: 5, deferred: 0 });
  });

  it('holds up nobody who stops', async () => {
    waiting.sleep = undefined;
    vi.useRealTimers();
    refuse('paid/app', { body: inWords, headers: { 'retry-after': '55' } });
    const stop = new AbortController();
    const onEvent: OnEvent = ({ type }) => type === 'waiting' && stop.abort();
    const { run, totals } = await syncWith(
      { retries: 3, signal: stop.signal, onEvent },
      'docker.io/paid/app',
    );
    expect([run.interrupted, totals.copied]).toEqual([true, 0]);
  });
});

describe('two accounts', () => {
  it('have their own allowance each: one that is used up defers nothing of the other', async () => {
    for (const tag of ['1', '2', '3', '4'])
      await hub.push('paid/app', tag, buildManifest({ seed: `paid ${tag}` }));
    for (const copied of [6, 0]) {
      const report = await sync('docker.io/acme/app', 'docker.io/paid/app');
      expect(report.totals).toMatchObject({ copied, deferred: 2, unchanged: 6 - copied });
      const deferred = report.tags.filter(({ outcome }) => outcome === 'deferred');
      for (const { source } of deferred) expect(source).toMatch(/acme/);
    }
  });
});

describe('the abuse limit', () => {
  it('defers for a minute or two, says what was answered, and closes no allowance', async () => {
    hub.registry.intercept = (request) =>
      isPull(request)
        ? {
            kind: 'answer',
            status: 429,
            headers: { 'content-type': 'text/plain' },
            body: 'Too Many Requests\n',
          }
        : undefined;
    const report = await sync('docker.io/acme/app:1');
    const [line] = report.tags;
    expect(line).toMatchObject({ outcome: 'deferred', reason: 'rate limit' });
    expect(line?.error?.message).toMatch(/answered 429/);
    expect(Date.parse(line?.until ?? '')).toBeLessThan(Date.now() + 120_000);
    hub.registry.intercept = undefined;
    expect((await sync('docker.io/acme/app:1')).totals).toMatchObject({ copied: 1 });
  });
});

function isPull({ method, url }: { readonly method: string; readonly url: string }): boolean {
  return method === 'GET' && url.includes('/manifests/');
}
