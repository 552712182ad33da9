/** A host that answers 429 and names no time, seen from the command line. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, expect, it, vi } from 'vitest';
import { createEngine } from '../../../lib/app.ts';
import { readRules } from '../../../lib/config/rules.ts';
import { buildManifest } from '../../local/content.ts';
import { startDockerHub } from '../../local/dockerhub.ts';
import { startRegistry } from '../../local/registry.ts';

const clock = vi.hoisted(() => {
  const begun = Date.now();
  const timesAsFast = 500;
  return { timesAsFast, now: () => begun + (Date.now() - begun) * timesAsFast };
});

vi.mock('../../../lib/registry/clock.ts', () => ({
  systemClock: {
    now: clock.now,
    sleep: (ms: number, signal?: AbortSignal) =>
      delay(ms / clock.timesAsFast, undefined, signal === undefined ? {} : { signal }),
  },
}));

const folder = mkdtempSync(path.join(tmpdir(), 'hubferry-refusing-'));
const [hub, target] = await Promise.all([startDockerHub({}), startRegistry()]);
afterAll(async () => {
  await Promise.all([hub.close(), target.close()]);
  rmSync(folder, { recursive: true, force: true });
});

/** No request comes to the end of its own attempts. */
async function sync(wait: number) {
  const text = JSON.stringify({
    registries: { 'docker.io': { endpoint: hub.url, hubApi: hub.apiUrl } },
    rules: [{ source: 'docker.io/acme/app', target: `${target.host}/app` }],
  });
  const engine = await createEngine({
    rules: readRules(text, { env: {}, variables: 'all' }),
    state: { kind: 'folder', path: folder },
    options: { proc: 4, retries: 1000 },
    env: {},
    onEvent: () => {},
    signal: new AbortController().signal,
  });
  const report = await engine.sync({ force: false, allowMassDelete: false, wait });
  await engine.close();
  return report;
}

const refusal = { kind: 'answer', status: 429, headers: {}, body: 'No\n' } as const;

it('that refuses all of a run ends it within minutes, however many tags it has, and defers them', async () => {
  const tags = 60;
  for (let nth = 0; nth < tags; nth += 1) await hub.push('acme/app', `${nth}`, buildManifest());
  target.intercept = ({ url }) => (url.includes('/tags/list') ? undefined : refusal);
  const before = clock.now();
  const report = await sync(0);
  expect(report.totals).toMatchObject({ deferred: tags, failed: 0 });
  for (const { error } of report.tags)
    expect(error?.message).toMatch(/refuses everything, and is left alone until 2/);
  expect(clock.now() - before).toBeLessThan(30 * 60_000);
});

it('is waited for as long as --wait allows', async () => {
  await hub.push('acme/app', 'one', buildManifest());
  const until = clock.now() + 10 * 60_000;
  target.intercept = () => (clock.now() < until ? refusal : undefined);
  const report = await sync(3600_000);
  expect(report.totals).toMatchObject({ deferred: 0, failed: 0 });
});
