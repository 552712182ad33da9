import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseArguments, wantsJson } from '../../../lib/cli/arguments.ts';
import { ConfigError } from '../../../lib/errors.ts';

const parse = (line: string) => parseArguments(line.split(' ').filter(Boolean));

function messageOf(argv: readonly string[]): string {
  try {
    parseArguments(argv);
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    expect(error).toHaveProperty('code', 'ERR_USAGE');
    return (error as ConfigError).message;
  }
  throw new Error(`accepted: ${argv.join(' ')}`);
}
const complaint = (line: string) => messageOf(line.split(' ').filter(Boolean));

describe('every option has the default of the table', () => {
  test.each(['plan', 'sync', 'verify'])('%s', (command) => {
    expect(parse(command)).toEqual({
      command,
      rules: { platforms: [] },
      compare: { force: false, allowMassDelete: false, wait: 0 },
      engine: { proc: 10, retries: 3 },
      exitCode: false,
      output: { json: false, logLevel: 'info', logFormat: 'text' },
    });
  });
});

describe('every option is read', () => {
  test.each([
    ['plan --config rules.yaml', { rules: { config: 'rules.yaml' } }],
    ['sync --images i.yaml --auth a.yaml', { rules: { images: 'i.yaml', auth: 'a.yaml' } }],
    ['sync nginx x.azurecr.io/nginx', { rules: { pair: { source: 'nginx', target: 'x.azurecr.io/nginx' } } }],
    [
      'sync a/b c.io/b --src-creds me:to:ken --dest-creds=you:pw',
      {
        rules: {
          pair: {
            sourceCredentials: 'me:to:ken',
            targetCredentials: 'you:pw',
          },
        },
      },
    ],
    ['sync --proc 4 --retries 0', { engine: { proc: 4, retries: 0 } }],
    ['sync -p 4 -r 7', { engine: { proc: 4, retries: 7 } }],
    ['sync -p4 -r7', { engine: { proc: 4, retries: 7 } }],
    ['sync --force --allow-mass-delete', { compare: { force: true, allowMassDelete: true } }],
    ['plan --exit-code', { exitCode: true }],
    ['sync --dry-run', { command: 'plan' }],
    ['sync --dry-run --exit-code', { command: 'plan', exitCode: true }],
    ['sync --wait 90s', { compare: { wait: 90_000 } }],
    ['sync --wait 0', { compare: { wait: 0 } }],
    ['sync --wait 12h', { compare: { wait: 12 * 3_600_000 } }],
    ['sync --state /var/lib/hubferry', { state: '/var/lib/hubferry' }],
    ['status --state https://x.blob.core.windows.net', { state: 'https://x.blob.core.windows.net' }],
    ['sync --json', { output: { json: true } }],
    [
      'sync --log-level debug --log-format json --log run.log',
      { output: { logLevel: 'debug', logFormat: 'json', log: 'run.log' } },
    ],
    ['sync --output-success-images ok.yaml', { success: { file: 'ok.yaml', format: 'yaml' } }],
    [
      'sync --output-success-images ok.json --output-images-format json',
      { success: { file: 'ok.json', format: 'json' } },
    ],
    ['status', { command: 'status' }],
    ['status 20260101-abc', { command: 'status', run: '20260101-abc' }],
    ['convert --images i.yaml', { command: 'convert', images: 'i.yaml' }],
    ['convert --images i.yaml --auth a.yaml', { command: 'convert', images: 'i.yaml', auth: 'a.yaml' }],
    ['doctor --config rules.yaml', { command: 'doctor', rules: { config: 'rules.yaml' } }],
    ['--json plan', { command: 'plan', output: { json: true } }],
    ['plan -- nginx x.azurecr.io/nginx', { rules: { pair: { source: 'nginx' } } }],
    ['sync --proc 4 --proc 5', { engine: { proc: 5 } }],
  ])('%s', (line, expected) => {
    expect(parse(line)).toMatchObject(expected);
  });

  test('a dry run writes no file of what was copied', () => {
    expect(parse('sync --dry-run --output-success-images ok.yaml')).toHaveProperty('success', undefined);
  });

  test.each([
    ['--os linux', [{ os: 'linux' }]],
    ['--arch amd64', [{ architecture: 'amd64' }]],
    ['--arch arm64:v8', [{ architecture: 'arm64', variant: 'v8' }]],
    [
      '--os windows:10.0.17763 --arch amd64',
      [{ os: 'windows', osVersion: '10.0.17763', architecture: 'amd64' }],
    ],
    [
      '--os linux --os windows --arch amd64 --arch arm64',
      [
        { os: 'linux', architecture: 'amd64' },
        { os: 'linux', architecture: 'arm64' },
        { os: 'windows', architecture: 'amd64' },
        { os: 'windows', architecture: 'arm64' },
      ],
    ],
  ])('%s keeps what fits both lists', (options, platforms) => {
    expect(parse(`sync --images i.yaml ${options}`)).toMatchObject({ rules: { platforms } });
  });
});

describe('help and version', () => {
  test.each([
    ['', { command: 'help' }],
    ['--help', { command: 'help' }],
    ['-h', { command: 'help' }],
    ['help', { command: 'help' }],
    ['help sync', { command: 'help', topic: 'sync' }],
    ['sync --help', { command: 'help', topic: 'sync' }],
    ['sync nginx -h', { command: 'help', topic: 'sync' }],
    ['--version', { command: 'version' }],
    ['-V', { command: 'version' }],
    ['sync -V', { command: 'version' }],
  ])('"%s"', (line, expected) => {
    expect(parse(line)).toMatchObject(expected);
  });
});

describe('what is wrong is named, with the nearest right word', () => {
  test.each([
    ['--images i.yaml', 'Name a command: plan, sync, verify, status, convert or doctor.'],
    ['snyc', 'There is no command "snyc". Did you mean sync?'],
    ['mirror', 'There is no command "mirror".'],
    ['sync --imges i.yaml', 'There is no option "--imges". Did you mean --images?'],
    ['sync --dest a:b', 'There is no option "--dest". Did you mean --dest-creds?'],
    ['sync --frobnicate', 'There is no option "--frobnicate".'],
    ['sync -x', 'There is no option "-x".'],
    ['sync --config', '--config needs a value: --config FILE.'],
    ['sync --config=', '--config needs a value: --config FILE.'],
    ['sync --config --json', '--config needs a value; one that begins with "-" is written --config=FILE.'],
    ['sync --force=yes', '--force takes no value.'],
    ['sync nginx', 'sync takes SOURCE and TARGET, or neither.'],
    ['sync a b c', 'sync takes [SOURCE TARGET], not 3 names.'],
    ['status a b', 'status takes [RUN], not 2 names.'],
    ['status ../../etc', '"../../etc" is no run: see `hubferry status`.'],
    ['doctor x', 'doctor takes no names.'],
    ['convert', 'convert needs --images FILE.'],
    ['help snyc', 'There is no command "snyc". Did you mean sync?'],
    ['sync --config a --images b', '--config and --images exclude each other: both say what is mirrored.'],
    ['sync a b --images c', '--images and SOURCE TARGET exclude each other: both say what is mirrored.'],
    ['sync --auth a', '--auth belongs to --images.'],
    ['sync --proc 0', '--proc takes a number from 1 to 256, not "0".'],
    ['sync --proc ten', '--proc takes a number from 1 to 256, not "ten".'],
    ['sync --proc 1e2', '--proc takes a number from 1 to 256, not "1e2".'],
    ['sync --retries=-1', '--retries takes a number from 0 to 100, not "-1".'],
    ['sync --wait 10', '--wait takes a duration such as 90s, 12h or 1d, not "10".'],
    ['sync --log-level inf', '--log-level takes debug, info, warn or error, not "inf". Did you mean info?'],
    ['sync --log-format xml', '--log-format takes text or json, not "xml".'],
    [
      'sync --output-success-images f --output-images-format toml',
      '--output-images-format takes yaml or json, not "toml".',
    ],
    ['sync --exit-code', '--exit-code is no option of sync, but of plan.'],
    ['verify --dry-run', '--dry-run is no option of verify, but of sync.'],
    ['status --proc 3', '--proc is no option of status, but of plan, sync, verify.'],
    [
      'sync --src-creds a:b',
      '--src-creds and --dest-creds belong to SOURCE TARGET; a rules file has `registries`.',
    ],
  ])('%s', (line, message) => {
    expect(complaint(line)).toBe(message);
  });

  test('a platform that is none is told', () => {
    expect(complaint('sync --os lin/u/x')).toContain('"lin/u/x/*" is no platform');
  });

  test('the value of a misspelt option is not repeated', () => {
    expect(messageOf(['sync', 'a', 'b', '--src-cred=me:hunter2'])).not.toContain('hunter2');
  });
});

test('whatever words come, they are read or refused as a usage error', () => {
  const word = fc.oneof(
    fc.constantFrom(
      'plan',
      'sync',
      'status',
      '--json',
      '--proc',
      '-p',
      '3',
      '--os=linux',
      '--',
      '--config',
      '-',
    ),
    fc.string({ maxLength: 12 }),
  );
  fc.assert(
    fc.property(fc.array(word, { maxLength: 8 }), (argv) => {
      try {
        expect(parseArguments(argv)).toHaveProperty('command');
      } catch (error) {
        expect(error).toMatchObject({ code: 'ERR_USAGE', name: 'ConfigError' });
      }
    }),
  );
});

test('JSON is wanted also where the rest cannot be read, but not behind "--"', () => {
  expect(wantsJson(['snyc', '--bogus', '--json'])).toBe(true);
  expect(wantsJson(['sync', '--', '--json'])).toBe(false);
  expect(wantsJson(['sync'])).toBe(false);
});
