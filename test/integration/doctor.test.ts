/** What `doctor` finds at registries that are well, closed, or not there. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createEngine } from '../../lib/app.ts';
import type { Finding } from '../../lib/cli/engine.ts';
import { readRules } from '../../lib/config/rules.ts';
import { examine as examineProbes } from '../../lib/doctor.ts';
import { buildManifest } from '../local/content.ts';
import { type LocalDockerHub, startDockerHub } from '../local/dockerhub.ts';
import { type LocalRegistry, startRegistry } from '../local/registry.ts';

let hub: LocalDockerHub;
let target: LocalRegistry;
let folder: string;

beforeAll(async () => {
  hub = await startDockerHub({ anonymousPulls: 10 });
  target = await startRegistry({ auth: { kind: 'basic', username: 'me', password: 'good-password' } });
  for (const repository of ['acme/app', 'acme/web'])
    await hub.push(repository, '1.0', buildManifest({ seed: repository }));
});
afterAll(async () => {
  await Promise.all([hub.close(), target.close()]);
});
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'hubferry-doctor-'));
});
afterEach(() => {
  target.intercept = undefined;
  rmSync(folder, { recursive: true, force: true });
});

/** By what was checked; `$target` stands for the registry's host. */
async function examine(rules: string, password = 'good-password'): Promise<Record<string, Finding>> {
  const registries = {
    'docker.io': { endpoint: hub.url, hubApi: hub.apiUrl },
    [target.host]: { username: 'me', password },
  };
  const text = `registries: ${JSON.stringify(registries)}\nrules: ${rules.replaceAll('$target', target.host)}`;
  const engine = await createEngine({
    rules: readRules(text, { env: {}, variables: 'all' }),
    state: { kind: 'folder', path: folder },
    options: { proc: 4, retries: 0 },
    env: {},
    onEvent: () => undefined,
    signal: new AbortController().signal,
  });
  try {
    const findings = await engine.doctor();
    return Object.fromEntries(
      findings.map((finding) => [finding.check.replace(target.host, 'target'), finding]),
    );
  } finally {
    await engine.close();
  }
}

const rule = '[{ source: docker.io/acme/app, target: $target/app }]';

describe('doctor', () => {
  it('finds nothing wrong where all is well, and leaves nothing behind', async () => {
    const findings = await examine(rule);
    expect(Object.values(findings).filter(({ status }) => status !== 'ok')).toEqual([]);
    expect(Object.keys(findings)).toEqual([
      'state checkpoints',
      'state state',
      'state runs',
      'source docker.io/acme/app',
      'target target/app',
      'allowance docker.io',
    ]);
    expect(findings['allowance docker.io']?.message).toMatch(/^10 of 10 pulls left/);
    expect(hub.pulls).toBe(0);
    expect(target.store.uploads.size).toBe(0);
  });

  it('tells a refused login, with what to do', async () => {
    const { 'target target/app': finding } = await examine(rule, 'old-password');
    expect(finding).toMatchObject({
      status: 'failed',
      code: 'ERR_UNAUTHORIZED',
      remedy: 'Check user name, password or token, and their expiry.',
    });
    expect(JSON.stringify(finding)).not.toContain('old-password');
  });

  it('tells that writing is denied, which reading does not show', async () => {
    const denied = JSON.stringify({ errors: [{ code: 'DENIED', message: 'denied' }] });
    target.intercept = ({ method }) =>
      method === 'POST' ? { kind: 'answer', status: 403, body: denied } : undefined;
    expect((await examine(rule))['target target/app']).toMatchObject({ code: 'ERR_FORBIDDEN' });
  });

  it('warns where tags cannot be listed, which costs only requests', async () => {
    target.intercept = ({ url }) =>
      url.includes('/tags/list') ? { kind: 'answer', status: 403, body: '{}' } : undefined;
    expect((await examine(rule))['target target/app']).toMatchObject({ status: 'warning' });
  });

  it('tells that the right to delete is missing where a rule prunes, and tries it on no tag of anybody', async () => {
    const prunes = '[{ source: docker.io/acme/app, target: $target/app, prune: true }]';
    const names = () => Object.fromEntries(target.repository('app').tags);
    const before = names();
    expect((await examine(prunes))['prune target/app']).toMatchObject({ status: 'ok' });
    const denied = JSON.stringify({ errors: [{ code: 'DENIED', message: 'no delete' }] });
    target.intercept = ({ method, url }) =>
      method === 'DELETE' && url.includes('/manifests/')
        ? { kind: 'answer', status: 403, body: denied }
        : undefined;
    const found = (await examine(prunes))['prune target/app'];
    expect(found).toMatchObject({ status: 'failed', code: 'ERR_FORBIDDEN' });
    expect(found?.remedy).toContain('`allowPrune`');
    expect(names()).toEqual(before);
    expect(await examine(rule)).not.toHaveProperty(['prune target/app']);
  });

  it('tells of what does not answer, instead of waiting for it', async () => {
    const silent = { check: 'silent', run: () => new Promise<never>(() => undefined) };
    const well = { check: 'well', run: async () => 'it is well' };
    expect(await examineProbes([silent, well], 20)).toMatchObject([
      { check: 'silent', status: 'failed', code: 'ERR_TIMEOUT' },
      { check: 'well', status: 'ok' },
    ]);
  });

  it('tells a source that is not there', async () => {
    const findings = await examine('[{ source: docker.io/acme/none, target: $target/app }]');
    expect(findings['source docker.io/acme/none']).toMatchObject({ status: 'failed', code: 'ERR_NOT_FOUND' });
    expect(findings['target target/app']).toMatchObject({ status: 'ok' });
  });

  it('tries a namespace by one of its repositories', async () => {
    const findings = await examine('[{ source: "docker.io/acme/*", target: "$target/all/*" }]');
    expect(Object.values(findings).filter(({ status }) => status !== 'ok')).toEqual([]);
    expect(Object.keys(findings)).toContain('target target/all/*');
  });

  it('asks once for what many rules share', async () => {
    const shared = 'source: docker.io/acme/app, target: $target/app';
    const before = target.requests.length;
    await examine(`[{ name: a, ${shared}, tags: { include: [a] } }, { name: b, ${shared} }]`);
    const uploads = target.requests.slice(before).filter(({ method }) => method === 'POST');
    expect(uploads.filter(({ status }) => status === 202)).toHaveLength(1);
  });

  it('warns while the allowance is used up', async () => {
    await hub.push('acme/app', '1.0', buildManifest({ seed: 'acme/app' }));
    for (let pull = 0; pull < 10; pull += 1) await pullOnce();
    expect((await examine(rule))['allowance docker.io']).toMatchObject({
      status: 'warning',
      code: 'ERR_RATE_LIMITED',
    });
    hub.resetWindow();
  });
});

async function pullOnce(): Promise<void> {
  const scope = 'repository:acme/app:pull';
  const url = new URL('/token', hub.tokens.url);
  url.search = new URLSearchParams({ service: 'registry.docker.io', scope }).toString();
  const { token } = (await (await fetch(url)).json()) as { token: string };
  const answer = await fetch(`${hub.url}/v2/acme/app/manifests/1.0`, {
    headers: { authorization: `Bearer ${token}`, accept: '*/*' },
  });
  await answer.bytes();
}
