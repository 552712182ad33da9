/** The command line of `npm run chaos`; what it runs is in test/e2e/chaos.test.ts. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { readArguments } from '../../local/chaos/arguments.ts';
import { replayOf } from '../../local/chaos.ts';

const program = fileURLToPath(new URL('../../local/chaos.ts', import.meta.url));

function run(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...args], { encoding: 'utf8' });
  return { status, stdout, stderr };
}

it('tells its options, and runs nothing', () => {
  expect(run('--help')).toEqual({
    status: 0,
    stdout: expect.stringMatching(/^Usage: npm run chaos -- .*--seed N.*--minutes M.*--log FILE/s),
    stderr: '',
  });
});

it('refuses what it does not know in one line', () => {
  expect(run('--sede', '7')).toEqual({
    status: 2,
    stdout: '',
    stderr: "Unknown option '--sede'. See npm run chaos -- --help.\n",
  });
});

it.each([
  [['--seed', 'seven'], '--seed takes a whole number.'],
  [['--seed', '-1'], '--seed'],
  [['--minutes', '0'], '--minutes takes a number above 0.'],
  [['--minutes', ''], '--minutes takes a number above 0.'],
  [['3'], "Unexpected argument '3'."],
])('refuses %j', (args, message) => {
  expect(() => readArguments(args)).toThrow(message);
});

it('reads back the command that it prints for a replay', () => {
  const options = { seed: 7, stormMs: 30_000 };
  const [, args = ''] = replayOf(options).split(' -- ');
  expect(readArguments(args.split(' '))).toMatchObject(options);
});
