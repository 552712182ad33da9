import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openLogFile } from '../../../lib/cli/log-file.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hubferry-log-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const refuse = (message: string) => {
  throw new Error(message);
};

test('lines are appended to what earlier runs wrote', () => {
  const path = join(folder, 'run.log');
  writeFileSync(path, 'earlier\n');
  const file = openLogFile(path, refuse);
  file.write('one');
  file.write('two');
  file.close();
  expect(readFileSync(path, 'utf8')).toBe('earlier\none\ntwo\n');
});

test('a new file is for its owner alone', () => {
  const path = join(folder, 'run.log');
  openLogFile(path, refuse).close();
  expect(statSync(path).mode & 0o777).toBe(0o600);
});

test('a file that cannot be opened is a usage error that names it', () => {
  const path = join(folder, 'nowhere', 'run.log');
  expect(() => openLogFile(path, refuse)).toThrow(
    expect.objectContaining({
      code: 'ERR_USAGE',
      message: '--log: the file cannot be opened: ENOENT.',
      file: path,
    }),
  );
});

test.runIf(process.platform === 'linux')('a full disk is told once and does not end the run', () => {
  const failures: string[] = [];
  const file = openLogFile('/dev/full', (message) => failures.push(message));
  file.write('one');
  file.write('two');
  file.close();
  expect(failures).toEqual(['--log: the file can no longer be written: ENOSPC.']);
});
