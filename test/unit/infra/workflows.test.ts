import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, glob, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import * as z from 'zod';
import packageJson from '../../../package.json' with { type: 'json' };
import { hasProgram } from '../../local/docker-registry.ts';
import { type Answer, type LocalServer, reply, replyJson, startServer } from '../../local/server.ts';

const root = new URL('../../../', import.meta.url);
const files = await Array.fromAsync(
  glob(['.github/workflows/*.yml', '.github/examples/*.yml', '.github/actions/*/action.yml'], { cwd: root }),
);
const texts = await Promise.all(
  files.map(
    async (file) => [file.replaceAll('\\', '/'), await readFile(new URL(file, root), 'utf8')] as const,
  ),
);
const workflows = texts.filter(([file]) => !file.includes('/actions/'));

const stepSchema = z.looseObject({
  id: z.string().optional(),
  if: z.string().optional(),
  uses: z.string().optional(),
  run: z.string().optional(),
});
const permissionsSchema = z.record(z.string(), z.enum(['read', 'write', 'none']));
const workflowSchema = z.looseObject({
  permissions: permissionsSchema,
  concurrency: z.looseObject({ group: z.string() }),
  jobs: z.record(
    z.string(),
    z.looseObject({
      permissions: permissionsSchema.optional(),
      'timeout-minutes': z.number(),
      steps: z.array(stepSchema),
    }),
  ),
});
const actionSchema = z.looseObject({ runs: z.looseObject({ steps: z.array(stepSchema) }) });

const stepsOf = (file: string, text: string) => {
  const document: unknown = parse(text);
  if (file.includes('/actions/')) return actionSchema.parse(document).runs.steps;
  return Object.values(workflowSchema.parse(document).jobs).flatMap(({ steps }) => steps);
};

describe('the workflows', () => {
  it('are those that the guide names', () => {
    expect(files.map((file) => file.replaceAll('\\', '/')).sort()).toEqual([
      '.github/actions/sync/action.yml',
      '.github/examples/sync-oidc.yml',
      '.github/examples/sync-passwords.yml',
      '.github/workflows/ci.yml',
      '.github/workflows/deploy.yml',
      '.github/workflows/release.yml',
    ]);
  });

  it.each(texts)('pin every action of %s by commit, and say which version that is', (_, text) => {
    const uses = [...text.matchAll(/^.*\buses: (.*)$/gm)].map(([, what = '']) => what);
    expect(uses.length).toBeGreaterThan(0);
    for (const what of uses) {
      if (what === 'OWNER/hubferry/.github/actions/sync@COMMIT') continue;
      expect(what).toMatch(/^[\w.-]+\/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/);
    }
  });

  it('pin one action to one commit everywhere', () => {
    const pins = texts.flatMap(([, text]) => [...text.matchAll(/uses: ([\w.-]+\/[\w.-]+)[^@\n]*@(\S+)/g)]);
    const commits = Map.groupBy(pins, ([, name = '']) => name);
    for (const [name, all] of commits) expect(new Set(all.map(([, , commit]) => commit)).size, name).toBe(1);
  });

  it.each(workflows)('give %s the rights that it needs and no more, and an end', (file, text) => {
    const { permissions, jobs } = workflowSchema.parse(parse(text));
    const writes = Object.values(jobs).flatMap((job) =>
      Object.entries({ ...permissions, ...job.permissions }),
    );
    const needed: Readonly<Record<string, readonly string[]>> = {
      'sync-oidc.yml': ['id-token'],
      'deploy.yml': ['id-token'],
      'release.yml': ['contents', 'id-token', 'attestations'],
    };
    const given = writes.filter(([, right]) => right === 'write').map(([name]) => name);
    expect(given).toEqual(needed[file.split('/').at(-1) ?? ''] ?? []);
  });

  it.each(workflows)('run no package and no test of %s where a right to write could be stolen', (_, text) => {
    const { permissions, jobs } = workflowSchema.parse(parse(text));
    for (const [name, job] of Object.entries(jobs)) {
      const rights = Object.values({ ...permissions, ...job.permissions });
      if (!rights.includes('write')) continue;
      const commands = job.steps.map(({ run = '' }) => run).join('\n');
      expect(commands, name).not.toMatch(/\bnp[mx] (?:ci|i|install|run|test|exec)\b|\bnpx\b|\bnode /);
    }
  });

  it.each(texts)('let nothing that others write into a command of %s', (file, text) => {
    for (const { run = '' } of stepsOf(file, text)) expect(run).not.toContain('${{');
  });

  it.each(texts)('keep no credential of the checkout in %s', (_, text) => {
    const checkouts = text.split('actions/checkout@').slice(1);
    for (const checkout of checkouts) expect(checkout.slice(0, 150)).toContain('persist-credentials: false');
  });
});

describe('the example that logs in by OIDC', () => {
  it('keeps its state where the runs of every branch find it', async () => {
    const text = await readFile(new URL('.github/examples/sync-oidc.yml', root), 'utf8');
    const [sync] = stepsOf('sync-oidc.yml', text).filter(({ uses }) => uses?.includes('/actions/sync@'));
    expect(sync).toMatchObject({ with: { state: expect.stringContaining(' vars.HUBFERRY_STATE ') } });
    const guide = await readFile(new URL('infra/README.md', root), 'utf8');
    expect(guide).toContain('gh variable set HUBFERRY_STATE --body https://');
  });
});

describe('a release', () => {
  const runs = async () => {
    const text = await readFile(new URL('.github/workflows/release.yml', root), 'utf8');
    return stepsOf('release.yml', text).flatMap(({ run }) => (run === undefined ? [] : [run]));
  };

  /** Of a checkout with all that is built in it. */
  const packIn = async (folder: string) => {
    const pack = (await runs()).find((run) => run.includes('npm pack')) ?? '';
    await writeFile(join(folder, 'package.json'), JSON.stringify(packageJson));
    await mkdir(join(folder, 'dist'));
    for (const file of [...packageJson.files, 'dist/other.txt']) await writeFile(join(folder, file), file);
    const env = {
      PATH: process.env.PATH,
      HOME: folder,
      GITHUB_SERVER_URL: 'https://github.com',
      GITHUB_REPOSITORY: 'owner/name',
    };
    const bash = spawn('bash', ['-eo', 'pipefail', '-c', pack], { cwd: folder, env, stdio: 'ignore' });
    expect(await once(bash, 'exit')).toEqual([0, null]);
    const archive = join(folder, `dist/hubferry-${packageJson.version}.tgz`);
    await promisify(execFile)('tar', ['--extract', '--gzip', '--file', archive, '--directory', folder]);
    return join(folder, 'package');
  };

  it('packs the files that the package names, its repository, without which npm refuses the provenance, and no need of other packages', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'hubferry-pack-'));
    try {
      const packed = await packIn(folder);
      const manifest: unknown = JSON.parse(await readFile(join(packed, 'package.json'), 'utf8'));
      const { name, version, bin, engines } = packageJson;
      const repository = { url: 'git+https://github.com/owner/name.git' };
      expect(manifest).toMatchObject({ name, version, bin, engines, repository });
      for (const kind of ['', 'dev', 'peer', 'optional'])
        expect(manifest).not.toHaveProperty(kind === '' ? 'dependencies' : `${kind}Dependencies`);
      const files = await Array.fromAsync(glob('**/*.*', { cwd: packed }));
      const licences = 'dist/THIRD_PARTY_LICENSES';
      expect([...files, licences].sort()).toEqual([...packageJson.files, 'package.json'].sort());
      await access(join(packed, licences));
      // Nothing runs where it is installed.
      expect(
        Object.keys(packageJson.scripts).filter((script) => /install|prepare|pack/.test(script)),
      ).toEqual(['package']);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it('hands the licences on with every file that contains the work of others', async () => {
    const release = (await runs()).find((run) => run.includes('gh release create')) ?? '';
    expect(release).toMatch(/ dist\/hubferry\.mjs dist\/THIRD_PARTY_LICENSES /);
    const text = await readFile(new URL('.github/workflows/release.yml', root), 'utf8');
    const { with: handed } = z
      .looseObject({ with: z.looseObject({ path: z.string() }) })
      .parse(stepsOf('release.yml', text).find(({ uses }) => uses?.startsWith('actions/upload-artifact@')));
    expect(handed.path.split('\n')).toContain('dist/THIRD_PARTY_LICENSES');
  });

  it('publishes that very file', async () => {
    const publish = (await runs()).filter((run) => run.includes('npm publish'));
    expect(publish).toEqual([expect.stringMatching(/^npm publish .\/dist\/hubferry-\S+\.tgz --provenance /)]);
  });
});

describe("the action's promises", () => {
  let text: string;
  beforeAll(async () => {
    text = await readFile(new URL('.github/actions/sync/action.yml', root), 'utf8');
  });

  it('are duration, copied and failed as outputs, and a log that is kept for a week', () => {
    const action = z
      .looseObject({
        inputs: z.record(z.string(), z.looseObject({ default: z.string() })),
        outputs: z.record(z.string(), z.looseObject({ value: z.string() })),
      })
      .parse(parse(text));
    expect(Object.keys(action.outputs)).toEqual(['duration', 'copied', 'failed', 'deferred']);
    expect(action.inputs['log-retention-days']?.default).toBe('7');
    expect(text).toMatch(/retention-days: \$\{\{ inputs\.log-retention-days \}\}/);
  });

  it('are state and log that are kept also when the sync fails', () => {
    const { steps } = actionSchema.parse(parse(text)).runs;
    const after = steps.slice(steps.findIndex((step) => step.id === 'sync') + 1);
    expect(after).toHaveLength(2);
    for (const step of after) expect(step.if).toMatch(/^always\(\)/);
  });
});

describe('azure.yaml', () => {
  it('publishes the finished folder and builds nothing elsewhere', async () => {
    const azure: unknown = parse(await readFile(new URL('azure.yaml', root), 'utf8'));
    const build = 'npm ci && npm run package';
    expect(azure).toMatchObject({
      infra: { provider: 'bicep', path: 'infra', module: 'main' },
      services: { app: { host: 'function', project: 'dist/app', remoteBuild: false } },
      hooks: { prepackage: { posix: { run: build }, windows: { run: build } } },
    });
  });
});

const missing = ['curl', 'jq'].filter((program) => !hasProgram(program));

describe.skipIf(missing.length > 0)('the smoke test of a deployment (needs curl and jq)', () => {
  const findings = { findings: [{ check: 'rules', status: 'failed' }] };
  let folder: string;
  let server: LocalServer;
  afterEach(async () => {
    await server.close();
    await rm(folder, { recursive: true });
  });

  /** Its script, with an Azure CLI that tells a key, against an app that answers so, one after the other. */
  async function smoke(
    ...answers: Answer[]
  ): Promise<{ status: unknown; summary: string; keys: Set<unknown> }> {
    folder = await mkdtemp(join(tmpdir(), 'hubferry-smoke-'));
    const keys = new Set<unknown>();
    server = await startServer(async ({ headers }) => {
      keys.add(headers['x-functions-key']);
      return (answers.length > 1 ? answers.shift() : answers[0]) ?? replyJson(500, {});
    });
    const text = await readFile(new URL('.github/workflows/deploy.yml', root), 'utf8');
    const script = stepsOf('deploy.yml', text).at(-1)?.run ?? '';
    const env = {
      PATH: process.env.PATH,
      APP: 'app',
      GROUP: 'group',
      HOME: folder,
      URL: server.url,
      RUNNER_TEMP: folder,
      GITHUB_STEP_SUMMARY: join(folder, 'summary'),
    };
    // Whoever waits for what will not come waits a second here.
    await writeFile(join(folder, '.curlrc'), 'retry-max-time = 1');
    const azure = 'az() { echo the-key; }\n';
    const bash = spawn('bash', ['-eo', 'pipefail', '-c', azure + script], { env, stdio: 'ignore' });
    const [status]: unknown[] = await once(bash, 'exit');
    return { status, summary: await readFile(env.GITHUB_STEP_SUMMARY, 'utf8'), keys };
  }

  it('waits until the app has started, whatever the platform says meanwhile', async () => {
    const page = reply(502, {}, '<html>Bad Gateway</html>');
    const { status, summary, keys } = await smoke(page, replyJson(200, findings));
    expect([status, JSON.parse(summary), [...keys]]).toEqual([0, findings, ['the-key']]);
  });

  it('fails with what is wrong', async () => {
    const { status, summary } = await smoke(replyJson(404, findings));
    expect(status).not.toBe(0);
    expect(JSON.parse(summary)).toEqual(findings);
  });

  it('fails with what was answered, also where that is no document', async () => {
    const { status, summary } = await smoke(reply(404, {}, '<html>Not here</html>'));
    expect(status).not.toBe(0);
    expect(summary).toBe('<html>Not here</html>');
  });
});
