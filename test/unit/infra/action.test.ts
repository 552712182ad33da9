import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { TokenFile } from '../../../.github/actions/sync/identity-token.ts';
import { summarize } from '../../../.github/actions/sync/summary.ts';
import { buildManifest, put } from '../../local/content.ts';
import { startRegistry } from '../../local/registry.ts';

const action = fileURLToPath(new URL('../../../.github/actions/sync/main.ts', import.meta.url));

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hubferry-action-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** GitHub's token endpoint: each answer is another token. */
async function startTokenEndpoint(answer: (nth: number) => { status: number; body: string }) {
  const requests: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    requests.push(request);
    const { status, body } = answer(requests.length);
    response.writeHead(status, { 'content-type': 'application/json' }).end(body);
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return {
    requests,
    endpoint: { url: `http://127.0.0.1:${address.port}/token?api-version=2`, bearer: 'workflow-bearer' },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await once(server.close(), 'close');
    },
  };
}

const token = (nth: number) => ({ status: 200, body: JSON.stringify({ value: `token-${nth}` }) });

describe('the token file', () => {
  it('holds a token for Entra ID that nobody else may read, and is gone afterwards', async () => {
    await using github = await startTokenEndpoint(token);
    const failures: string[] = [];
    const file = await TokenFile.open(github.endpoint, {
      folder,
      onFailure: (message) => failures.push(message),
    });
    expect(await readFile(file.path, 'utf8')).toBe('token-1');
    expect((await stat(file.path)).mode & 0o777).toBe(0o600);
    expect(github.requests[0]?.url).toBe('/token?api-version=2&audience=api%3A%2F%2FAzureADTokenExchange');
    expect(github.requests[0]?.headers.authorization).toBe('Bearer workflow-bearer');
    await file[Symbol.asyncDispose]();
    expect(await readdir(folder)).toEqual([]);
    expect(failures).toEqual([]);
  });

  it('is fresh again and again, and keeps the last token where GitHub fails', async () => {
    await using github = await startTokenEndpoint((nth) =>
      nth === 2 ? { status: 503, body: '' } : token(nth),
    );
    const failures: string[] = [];
    const options = { folder, intervalMs: 5, onFailure: (message: string) => failures.push(message) };
    await using file = await TokenFile.open(github.endpoint, options);
    await vi.waitFor(
      async () => expect(await readFile(file.path, 'utf8')).toMatch(/^token-(?:[4-9]|\d{2,})$/),
      { interval: 1 },
    );
    expect(failures).toEqual(['GitHub gave no identity token: status 503']);
  });

  it('is not opened where GitHub gives no token', async () => {
    for (const answer of [
      { status: 403, body: '' },
      { status: 200, body: '{}' },
    ]) {
      await using github = await startTokenEndpoint(() => answer);
      const opening = TokenFile.open(github.endpoint, { folder, onFailure: () => undefined });
      await expect(opening).rejects.toThrow('GitHub gave no identity token');
    }
    expect(await readdir(folder)).toEqual([]);
  });
});

describe('the summary', () => {
  const line = { rule: 'r', source: 'docker.io/a/b:1', target: 'x.azurecr.io/b:1' };
  const report = {
    run: { id: 'r', trigger: 'cli', startedAt: '2026-01-01T00:00:00Z', finishedAt: '2026-01-01T00:01:30Z' },
    totals: { tags: 3, copied: 1, failed: 1, deferred: 1, bytesCopied: 3 * 1024 ** 2, pulls: 2 },
    tags: [
      { ...line, outcome: 'copied', reason: 'new tag' },
      { ...line, outcome: 'failed', error: { code: 'ERR_BLOB_MISSING', message: 'no sha256:ab' } },
      { ...line, outcome: 'deferred', reason: 'allowance', until: '2026-01-01T06:00:00Z' },
    ],
  };

  it('tells what happened, and gives the numbers to the next step', () => {
    const { markdown, outputs } = summarize(JSON.stringify(report));
    expect(outputs).toEqual({ duration: 90, copied: 1, failed: 1, deferred: 1 });
    expect(markdown).toContain('## hubferry: 1 copied, 1 deferred, 1 failed\n');
    expect(markdown).toContain('3 tags, 3.0 MiB copied, 2 pulls, 90 s.');
    expect(markdown).toContain('ERR&#95;BLOB&#95;MISSING: no sha256:ab');
    expect(markdown).toContain('allowance, until 2026-01-01T06:00:00Z');
  });

  it('lets no name or message be Markdown or HTML', () => {
    const hostile = '<img src=x onerror=alert(1)> | [a](javascript:b) `c`\n# d';
    const tags = [{ ...line, outcome: 'failed', error: { code: 'ERR', message: hostile } }];
    const { markdown } = summarize(JSON.stringify({ ...report, tags }));
    const [row = ''] = markdown.split('\n').filter((text) => text.includes('onerror'));
    expect(row).not.toMatch(/[<>[\]`()]/);
    expect(row.split('|')).toHaveLength(5);
  });

  it('says what is wrong with the rules, and that there is no report where there is none', () => {
    const error = {
      code: 'ERR_CONFIG',
      message: 'unknown key',
      file: 'sync.yaml',
      line: 3,
      path: 'rules[0].tag',
    };
    expect(summarize(JSON.stringify({ error })).markdown).toContain('sync.yaml:3:rules&#91;0&#93;.tag');
    expect(summarize('').markdown).toContain('without a report');
  });

  it('does not outgrow the page', () => {
    const tags = Array.from({ length: 5000 }, () => ({
      ...line,
      outcome: 'failed',
      reason: 'x'.repeat(100),
    }));
    const { markdown } = summarize(JSON.stringify({ ...report, tags }));
    expect(markdown.length).toBeLessThan(1024 ** 2);
    expect(markdown).toContain('and 4800 more.');
  });
});

describe('the action', () => {
  async function runAction(variables: Readonly<Record<string, string>>) {
    const files = { GITHUB_OUTPUT: join(folder, 'output'), GITHUB_STEP_SUMMARY: join(folder, 'summary') };
    const log = join(folder, 'hubferry.log');
    const child = spawn(process.execPath, [action], {
      cwd: folder,
      env: { PATH: process.env.PATH, RUNNER_TEMP: folder, HUBFERRY_LOG: log, ...files, ...variables },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const [stdout, stderr, [exitCode]] = await Promise.all([
      text(child.stdout),
      text(child.stderr),
      once(child, 'close'),
    ]);
    const readOr = (path: string) => readFile(path, 'utf8').catch(() => '');
    const [output, summary, logged] = await Promise.all(
      [files.GITHUB_OUTPUT, files.GITHUB_STEP_SUMMARY, log].map(readOr),
    );
    return { exitCode, stdout, stderr, output, summary, logged };
  }

  it('syncs, writes page, outputs and log, and keeps the state', async () => {
    const registry = await startRegistry();
    onTestFinished(() => registry.close());
    put(registry, 'a/b', '1', buildManifest());
    const rules = {
      version: 1,
      rules: [{ source: `${registry.host}/a/b`, target: `${registry.host}/mirror/b` }],
    };
    await writeFile(join(folder, 'rules.yaml'), JSON.stringify(rules));
    const { exitCode, output, summary, logged, stderr } = await runAction({ HUBFERRY_CONFIG: 'rules.yaml' });
    expect(stderr).not.toContain('::error::');
    expect(exitCode).toBe(0);
    expect(registry.repository('mirror/b').tags.has('1')).toBe(true);
    expect(output).toMatch(/^duration=\d+\ncopied=1\nfailed=0\ndeferred=0\n$/);
    expect(summary).toContain('## hubferry: 1 copied\n');
    expect(logged).toContain('copied');
    expect(await readdir(folder)).toContain('.hubferry');
  });

  it('fails with the status of the program and says why on the page', async () => {
    await writeFile(join(folder, 'rules.yaml'), '{ "version": 1, "rulez": [] }');
    const { exitCode, summary, output } = await runAction({ HUBFERRY_CONFIG: 'rules.yaml' });
    expect(exitCode).toBe(2);
    expect(summary).toContain('nothing was done');
    expect(output).toContain('failed=0\n');
  });

  it('asks for the permission that it needs before it does anything', async () => {
    const { exitCode, stderr, logged } = await runAction({
      HUBFERRY_CLIENT_ID: 'app',
      HUBFERRY_TENANT_ID: 'tenant',
    });
    expect(exitCode).toBe(1);
    expect(stderr).toContain('::error::The workflow lacks the permission `id-token: write`.');
    expect(logged).toBe('');
  });
});
