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

it('that refuses all of a run ends it within minutes, however many tags it has, and defers them', async () => {
  const tags = 60;
  for (let nth = 0; nth < tags; nth += 1) await hub.push('acme/app', `${nth}`, buildManifest());
  const text = JSON.stringify({
    registries: { 'docker.io': { endpoint: hub.url, hubApi: hub.apiUrl } },
    rules: [{ source: 'docker.io/acme/app', target: `${target.host}/app` }],
  });
  const engine = await createEngine({
    rules: readRules(text, { env: {}, variables: 'all' }),
    state: { kind: 'folder', path: folder },
    options: { proc: 4, retries: 3 },
    env: {},
    onEvent: () => {},
    signal: new AbortController().signal,
  });
  target.intercept = ({ url }) =>
    url.includes('/tags/list') ? undefined : { kind: 'answer', status: 429, headers: {}, body: 'No\n' };
  const before = clock.now();
  const report = await engine.sync({ force: false, allowMassDelete: false, wait: 0 });
  await engine.close();
  expect(report.totals).toMatchObject({ deferred: tags, failed: 0 });
  const messages = report.tags.map(({ error }) => error?.message);
  expect(messages).toContainEqual(expect.stringMatching(/refuses everything, and is left alone until 2/));
  expect(clock.now() - before).toBeLessThan(30 * 60_000);
});
