/** Docker Hub's pull limit, seen from the command line. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createEngine } from '../../../lib/app.ts';
import { readRules } from '../../../lib/config/rules.ts';
import { buildManifest } from '../../local/content.ts';
import { type LocalDockerHub, startDockerHub } from '../../local/dockerhub.ts';
import { type LocalRegistry, startRegistry } from '../../local/registry.ts';

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

async function sync(...sources: readonly string[]) {
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
    options: { proc: 2, retries: 0 },
    env: {},
    onEvent: () => {},
    signal: new AbortController().signal,
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
