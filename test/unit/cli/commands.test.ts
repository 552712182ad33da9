import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { runCommandLine } from '../../../lib/cli/commands.ts';
import type { Engine, EngineSetup } from '../../../lib/cli/engine.ts';
import type { Output } from '../../../lib/cli/session.ts';
import { HubferryError } from '../../../lib/errors.ts';
import { lineOf, planReport, syncReport, verifyReport } from './reports.ts';

const rulesText = `
version: 1
rules:
  - name: app
    source: docker.io/a/b
    target: x.azurecr.io/b
    prune: true
`;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hubferry-cli-'));
  writeFileSync(join(folder, 'sync.yaml'), rulesText);
});
afterEach(() => rmSync(folder, { recursive: true }));
const at = (name: string) => join(folder, name);

/** An engine whose answers are given, and which tells what it was asked. */
function engineOf(answers: Partial<Engine>): Engine {
  return {
    plan: async () => planReport([]),
    sync: async () => syncReport([]),
    verify: async () => verifyReport([]),
    runs: async () => [],
    run: async () => undefined,
    doctor: async () => [],
    close: async () => undefined,
    ...answers,
  };
}

interface Setting {
  readonly answers?: Partial<Engine>;
  readonly env?: Record<string, string>;
  readonly controller?: AbortController;
  /** What the engine does as soon as it is open. */
  readonly onOpen?: (setup: EngineSetup) => void;
  readonly stderr?: Partial<Output>;
}

async function run(argv: readonly string[], setting: Setting = {}) {
  let stdout = '';
  let stderr = '';
  const setups: EngineSetup[] = [];
  const io = {
    stdout: {
      write: (text: string) => {
        stdout += text;
      },
    },
    stderr: {
      ...setting.stderr,
      write: (text: string) => {
        stderr += text;
      },
    },
    env: setting.env ?? {},
    signal: (setting.controller ?? new AbortController()).signal,
    version: '1.2.3',
  };
  const exitCode = await runCommandLine(argv, io, async (setup) => {
    setups.push(setup);
    setting.onOpen?.(setup);
    return engineOf(setting.answers ?? {});
  });
  return { exitCode, stdout, stderr, setups };
}

describe('the engine is opened with what the command line says', () => {
  test('rules from a file, defaults for the rest', async () => {
    const { setups } = await run(['plan', '--config', at('sync.yaml')]);
    expect(setups).toMatchObject([
      {
        rules: { rules: [{ name: 'app', source: { host: 'docker.io', path: 'a/b' } }] },
        state: { kind: 'folder', path: '.hubferry' },
        options: { proc: 10, retries: 3 },
      },
    ]);
  });
  test('one rule from SOURCE TARGET, each side with its own credentials', async () => {
    const { setups } = await run([
      ...['sync', 'nginx:1', 'x.azurecr.io/nginx', '--src-creds', 'me:pw1', '--dest-creds', 'you:pw2'],
      ...['--state', 'kept', '--proc', '3'],
    ]);
    const [setup] = setups;
    expect(setup?.state).toEqual({ kind: 'folder', path: 'kept' });
    expect(setup?.options.proc).toBe(3);
    const rule = setup?.rules.rules[0];
    expect(rule?.source).toMatchObject({ host: 'docker.io', path: 'library/nginx' });
    const target = rule?.targets[0];
    expect(rule && setup?.rules.registryFor(rule.source, 'source')).toMatchObject({
      username: 'me',
      password: 'pw1',
    });
    expect(target && setup?.rules.registryFor(target, 'target')).toMatchObject({
      username: 'you',
      password: 'pw2',
    });
  });
  test('with SOURCE TARGET the file gives registries only', async () => {
    writeFileSync(
      at('registries.yaml'),
      'version: 1\nregistries:\n  docker.io: {username: a, password: $PW}\n',
    );
    const argv = ['plan', 'nginx', 'x.azurecr.io/nginx', '--config', at('registries.yaml')];
    const { setups } = await run(argv, { env: { PW: 'secret' } });
    const rules = setups[0]?.rules;
    expect(rules?.rules).toHaveLength(1);
    expect(rules?.registryFor({ host: 'docker.io', path: 'library/nginx' }, 'source').password).toBe(
      'secret',
    );
  });
  test("image-syncer's files, with --os and --arch for what has no platforms", async () => {
    writeFileSync(at('images.yaml'), 'nginx:1: x.azurecr.io/nginx\n');
    writeFileSync(at('auth.yaml'), 'x.azurecr.io: {username: me, password: pw}\n');
    const argv = [
      'sync',
      '--images',
      at('images.yaml'),
      '--auth',
      at('auth.yaml'),
      '--os',
      'linux',
      '--arch',
      'arm64',
    ];
    const { setups } = await run(argv);
    const rules = setups[0]?.rules;
    expect(rules?.rules).toMatchObject([
      { source: { path: 'library/nginx' }, platforms: [{ os: 'linux', architecture: 'arm64' }] },
    ]);
    expect(rules?.registryFor({ host: 'x.azurecr.io', path: 'nginx' }, 'target').username).toBe('me');
  });
  test('--force, --allow-mass-delete and --wait reach the run', async () => {
    const asked: unknown[] = [];
    const sync: Engine['sync'] = async (options) => {
      asked.push(options);
      return syncReport([]);
    };
    const argv = ['sync', '--config', at('sync.yaml'), '--force', '--allow-mass-delete', '--wait', '1h'];
    await run(argv, { answers: { sync } });
    expect(asked).toEqual([{ force: true, allowMassDelete: true, wait: 3_600_000 }]);
  });
  test('it is closed whatever happens', async () => {
    let closed = 0;
    const close = async () => {
      closed += 1;
    };
    const sync = async () => {
      throw new HubferryError('ERR_STORAGE', 'The folder is full.');
    };
    expect(await run(['sync', '--config', at('sync.yaml')], { answers: { sync, close } })).toMatchObject({
      exitCode: 1,
    });
    expect(await run(['plan', '--config', at('sync.yaml')], { answers: { close } })).toMatchObject({
      exitCode: 0,
    });
    expect(closed).toBe(2);
  });
});

describe('the exit status is that of the report', () => {
  test.each([
    ['plan', ['plan'], { plan: async () => planReport([lineOf('copy')]) }, 0],
    ['plan --exit-code', ['plan', '--exit-code'], { plan: async () => planReport([lineOf('copy')]) }, 1],
    ['sync --dry-run', ['sync', '--dry-run'], { sync: async () => syncReport([lineOf('failed')]) }, 0],
    ['sync', ['sync'], { sync: async () => syncReport([lineOf('failed')]) }, 1],
    ['verify of a rule that prunes', ['verify'], { verify: async () => verifyReport([lineOf('extra')]) }, 1],
    [
      'verify of another',
      ['verify'],
      { verify: async () => verifyReport([lineOf('extra', { rule: 'x' })]) },
      0,
    ],
    [
      'doctor',
      ['doctor'],
      { doctor: async () => [{ check: 'login', status: 'failed', message: 'refused' }] as const },
      1,
    ],
    [
      'doctor with a warning',
      ['doctor'],
      { doctor: async () => [{ check: 'login', status: 'warning', message: 'none' }] as const },
      0,
    ],
  ])('%s', async (_name, argv, answers, exitCode) => {
    expect(await run([...argv, '--config', at('sync.yaml')], { answers })).toMatchObject({ exitCode });
  });
});

describe('with --json standard output is one document on every exit', () => {
  const error = new HubferryError('ERR_STORAGE', 'The folder is full.');
  const refuse = async () => {
    throw error;
  };
  test.each<[string, readonly string[], Setting, number, object]>([
    [
      'a report',
      ['sync'],
      { answers: { sync: async () => syncReport([lineOf('copied')]) } },
      0,
      { totals: { copied: 1 } },
    ],
    ['a failing run', ['sync'], { answers: { sync: refuse } }, 1, { error: { code: 'ERR_STORAGE' } }],
    [
      'a fault',
      ['sync'],
      { answers: { sync: async () => Promise.reject(new TypeError('x')) } },
      1,
      { error: { code: 'ERR_INTERNAL' } },
    ],
    ['a wrong option', ['sync', '--bogus'], {}, 2, { error: { code: 'ERR_USAGE' } }],
    ['a wrong command', ['snyc'], {}, 2, { error: { code: 'ERR_USAGE' } }],
    ['findings', ['doctor'], {}, 0, { findings: [] }],
    ['help', ['--help'], {}, 0, { help: expect.stringContaining('hubferry sync') }],
    ['a version', ['--version'], {}, 0, { version: '1.2.3' }],
  ])('%s', async (_name, argv, setting, exitCode, document) => {
    const files = ['sync', 'doctor'].includes(argv[0] ?? '') ? ['--config', at('sync.yaml')] : [];
    const ended = await run([...argv, ...files, '--json'], setting);
    expect(ended.exitCode).toBe(exitCode);
    expect(JSON.parse(ended.stdout)).toMatchObject(document);
  });

  test('the last runs, and one of them', async () => {
    const report = syncReport([lineOf('failed')]);
    const answers: Partial<Engine> = {
      runs: async () => [{ run: report.run, totals: report.totals, failures: report.tags }],
      run: async (id) => (id === 'r1' ? report : undefined),
    };
    const list = await run(['status', '--json'], { answers });
    expect(JSON.parse(list.stdout)).toMatchObject({
      runs: [{ run: { id: 'r1' }, failures: [{ outcome: 'failed' }] }],
    });
    const one = await run(['status', 'r1', '--json'], { answers });
    expect(JSON.parse(one.stdout)).toMatchObject({ tags: [{ outcome: 'failed' }] });
    const none = await run(['status', 'r2', '--json'], { answers });
    expect(none.exitCode).toBe(1);
    expect(JSON.parse(none.stdout)).toMatchObject({ error: { code: 'ERR_RUN_UNKNOWN' } });
  });

  test('a mistake in the rules is told with file, line and path, and the engine is never opened', async () => {
    writeFileSync(at('sync.yaml'), rulesText.replace('prune', 'prun'));
    const { exitCode, stdout, setups } = await run(['sync', '--config', at('sync.yaml'), '--json']);
    expect(exitCode).toBe(2);
    expect(setups).toEqual([]);
    expect(JSON.parse(stdout)).toEqual({
      error: {
        code: 'ERR_CONFIG',
        message: expect.stringContaining('prune'),
        file: at('sync.yaml'),
        line: 7,
        path: expect.stringContaining('rules[0]'),
      },
    });
  });
});

describe('what can be known without a request ends with 2', () => {
  test.each([
    ['no file', ['sync', '--config', 'missing.yaml'], 'missing.yaml: The file cannot be read: ENOENT.'],
    ['a folder', ['sync', '--config', '.'], '.: The file cannot be read: EISDIR.'],
    ['a wrong SOURCE', ['sync', 'UPPER/case', 'x.azurecr.io/b'], 'lower case'],
    [
      'credentials without a colon',
      ['sync', 'a/b', 'x.azurecr.io/b', '--src-creds', 'hunter2'],
      'takes user:password',
    ],
    [
      'a connection string',
      ['status', '--state', 'AccountName=a;AccountKey=hunter2'],
      'takes no connection string',
    ],
    [
      'a log that cannot be opened',
      ['status', '--log', 'missing/run.log'],
      'missing/run.log: --log: the file cannot be opened: ENOENT.',
    ],
  ])('%s', async (_name, argv, message) => {
    const { exitCode, stdout, stderr, setups } = await run(argv);
    expect(exitCode).toBe(2);
    expect(setups).toEqual([]);
    expect(stdout).toBe('');
    expect(stderr).toContain(message);
    expect(stderr).not.toContain('hunter2');
    expect(stderr).not.toMatch(/^ +at /m);
  });
  test('a file that is not UTF-8', async () => {
    writeFileSync(at('sync.yaml'), Buffer.from([0x61, 0xff, 0xfe]));
    const { exitCode, stderr } = await run(['sync', '--config', at('sync.yaml')]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain('it is not UTF-8');
  });
  test('a file larger than rules can be', async () => {
    writeFileSync(at('sync.yaml'), `#${'x'.repeat(5 * 1024 * 1024)}`);
    const { exitCode, stderr } = await run(['sync', '--config', at('sync.yaml')]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain('larger than');
  });
  test('a file for what was copied that cannot be written', async () => {
    const argv = ['sync', '--config', at('sync.yaml'), '--output-success-images', at('no/ok.yaml')];
    const { exitCode, setups } = await run(argv);
    expect(exitCode).toBe(2);
    expect(setups).toEqual([]);
  });
});

describe('an interrupt', () => {
  const interrupted = new HubferryError('ERR_INTERRUPTED', 'Interrupted by SIGINT.');
  test('ends with 130 and the report of what was done', async () => {
    const controller = new AbortController();
    const sync: Engine['sync'] = async () => {
      controller.abort(interrupted);
      return syncReport([lineOf('copied')], { interrupted: true });
    };
    const ended = await run(['sync', '--config', at('sync.yaml'), '--json'], {
      answers: { sync },
      controller,
    });
    expect(ended.exitCode).toBe(130);
    expect(JSON.parse(ended.stdout)).toMatchObject({ run: { interrupted: true }, totals: { copied: 1 } });
  });
  test('ends with 130 also where it broke something else off', async () => {
    const controller = new AbortController();
    const plan: Engine['plan'] = async () => {
      controller.abort(interrupted);
      throw new HubferryError('ERR_CONNECTION', 'The socket was closed.');
    };
    const ended = await run(['plan', '--config', at('sync.yaml'), '--json'], {
      answers: { plan },
      controller,
    });
    expect(ended.exitCode).toBe(130);
    expect(JSON.parse(ended.stdout)).toMatchObject({ error: { code: 'ERR_INTERRUPTED' } });
  });
});

describe('logs', () => {
  const tell = ({ onEvent }: EngineSetup) => {
    onEvent({ type: 'line', line: lineOf('copied', { reason: 'new tag' }) });
    onEvent({
      type: 'log',
      level: 'warn',
      message: 'Bearer abcdefgh',
      fields: { url: 'https://a:hunter2@h/' },
    });
  };
  test('go to standard error, and to the file too', async () => {
    const argv = ['sync', '--config', at('sync.yaml'), '--log', at('run.log')];
    const { stdout, stderr } = await run(argv, { onOpen: tell });
    expect(stderr).toMatch(/INFO {2}copied rule=app .* reason="new tag"\n/);
    expect(readFileSync(at('run.log'), 'utf8')).toBe(stderr);
    expect(stdout).not.toContain('INFO');
  });
  test('are JSON lines where asked', async () => {
    const argv = ['sync', '--config', at('sync.yaml'), '--log-format', 'json', '--log-level', 'warn'];
    const { stderr } = await run(argv, { onOpen: tell });
    expect(JSON.parse(stderr)).toMatchObject({ level: 'warn', message: 'Bearer ***', url: 'https://***@h/' });
  });
  test('stand above the progress view on a terminal, which is gone in the end', async () => {
    const { stderr } = await run(['sync', '--config', at('sync.yaml')], {
      onOpen: tell,
      stderr: { isTTY: true, columns: 80, rows: 24 },
    });
    expect(stderr).toMatch(/INFO {2}copied/);
    expect(stderr).toContain('1/1 tag');
    expect(stderr.split('\u001b[J').at(-1)).not.toContain('1/1 tag');
  });
  test('of a JSON format have the error that ends the command as their last line', async () => {
    const argv = ['sync', '--config', 'missing.yaml', '--log-format', 'json'];
    const { stderr } = await run(argv);
    expect(JSON.parse(stderr)).toMatchObject({ level: 'error', code: 'ERR_CONFIG', file: 'missing.yaml' });
  });
  test('in a file have it too', async () => {
    const { stderr } = await run(['sync', '--config', 'missing.yaml', '--log', at('run.log')]);
    expect(stderr).toMatch(/^hubferry: missing.yaml: /);
    expect(readFileSync(at('run.log'), 'utf8')).toMatch(
      / ERROR The file .* code=ERR_CONFIG file=missing.yaml\n$/,
    );
  });
  test.each(['status', 'doctor'])('of %s come without a progress view', async (name) => {
    const files = name === 'doctor' ? ['--config', at('sync.yaml')] : [];
    const { stderr } = await run([name, ...files], { onOpen: tell, stderr: { isTTY: true } });
    expect(stderr).toContain('INFO');
    expect(stderr).not.toContain('\u001b');
  });
  test('have the stack of a fault at debug, and at no other level', async () => {
    const sync = async () => Promise.reject(new TypeError('x'));
    const argv = ['sync', '--config', at('sync.yaml')];
    const quiet = await run(argv, { answers: { sync } });
    expect(quiet.stderr).not.toContain('commands.test.ts');
    const loud = await run([...argv, '--log-level', 'debug'], { answers: { sync } });
    expect(loud.stderr).toContain('commands.test.ts');
  });
});

test('what was copied is written for image-syncer', async () => {
  const sync = async () => syncReport([lineOf('copied')]);
  const argv = ['sync', '--config', at('sync.yaml'), '--output-success-images', at('ok.json')];
  await run([...argv, '--output-images-format', 'json'], { answers: { sync } });
  expect(JSON.parse(readFileSync(at('ok.json'), 'utf8'))).toEqual({
    'docker.io/a/b:1': ['x.azurecr.io/b:1'],
  });
});

test('what was done is told also where its file can no longer be written', async () => {
  const sync = async () => {
    rmSync(at('ok.json'));
    mkdirSync(at('ok.json'));
    return syncReport([lineOf('copied')]);
  };
  const argv = ['sync', '--config', at('sync.yaml'), '--json', '--output-success-images', at('ok.json')];
  const { exitCode, stdout, stderr } = await run(argv, { answers: { sync } });
  expect(exitCode).toBe(1);
  expect(JSON.parse(stdout)).toMatchObject({ totals: { copied: 1 } });
  expect(stderr).toContain('--output-success-images: the file cannot be written');
});

test('where there is no rule, that is said', async () => {
  writeFileSync(at('none.yaml'), 'rules: []\n');
  const { exitCode, stderr } = await run(['sync', '--config', at('none.yaml')]);
  expect(exitCode).toBe(0);
  expect(stderr).toContain('there is no rule');
});

test('people see the report, and nothing of the log on standard output', async () => {
  const sync = async () => syncReport([lineOf('copied', { reason: 'new tag' })]);
  const { stdout } = await run(['sync', '--config', at('sync.yaml')], { answers: { sync } });
  expect(stdout).toBe('app\n  copied      1 tag: new tag\n\n1 copied. 0 requests, 0 pulls in 34s.\n');
});

describe('convert', () => {
  const images = 'nginx:1: x.azurecr.io/nginx\n';
  test('prints the sync.yaml that means the same, and planning from it gives the same rules', async () => {
    writeFileSync(at('images.yaml'), images);
    writeFileSync(at('auth.yaml'), 'x.azurecr.io: {username: me, password: $PW}\n');
    const files = ['--images', at('images.yaml'), '--auth', at('auth.yaml')];
    const env = { PW: 'hunter2' };
    const { exitCode, stdout } = await run(['convert', ...files], { env });
    expect(exitCode).toBe(0);
    expect(stdout).not.toContain('hunter2');
    writeFileSync(at('sync.yaml'), stdout);
    const before = await run(['plan', ...files], { env });
    const after = await run(['plan', '--config', at('sync.yaml')], { env });
    expect(after.setups[0]?.rules.rules).toEqual(before.setups[0]?.rules.rules);
  });
  test('with --json prints the same as one document', async () => {
    writeFileSync(at('images.yaml'), images);
    const { stdout } = await run(['convert', '--images', at('images.yaml'), '--json']);
    expect(JSON.parse(stdout)).toMatchObject({
      version: 1,
      rules: [{ source: 'docker.io/library/nginx:1' }],
    });
  });
  test('takes the older config.json too', async () => {
    writeFileSync(
      at('config.json'),
      JSON.stringify({ auth: {}, images: { 'nginx:1': 'x.azurecr.io/nginx' } }),
    );
    const { exitCode, stdout } = await run(['convert', '--images', at('config.json')]);
    expect(exitCode).toBe(0);
    expect(stdout).toContain('docker.io/library/nginx:1');
  });
  test('of a file with a mistake says where it is', async () => {
    writeFileSync(at('images.yaml'), 'nginx:1: [1, 2]\n');
    const { exitCode, stderr } = await run(['convert', '--images', at('images.yaml')]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain(`${at('images.yaml')}:1: `);
  });
});
