import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { parse } from 'yaml';
import { checkSuccessFile, writeSuccessFile } from '../../../lib/cli/success-file.ts';
import { lineOf, syncReport } from './reports.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hubferry-success-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const report = syncReport([
  lineOf('copied', { source: 'docker.io/a/b:1', target: 'x.azurecr.io/b:1' }),
  lineOf('copied', { source: 'docker.io/a/b:1', target: 'y.azurecr.io/b:1' }),
  lineOf('copied', { source: 'docker.io/a/b:2', target: 'x.azurecr.io/b:2' }),
  lineOf('unchanged', { source: 'docker.io/a/b:3' }),
  lineOf('failed', { source: 'docker.io/a/b:4' }),
]);
const copied = {
  'docker.io/a/b:1': ['x.azurecr.io/b:1', 'y.azurecr.io/b:1'],
  'docker.io/a/b:2': ['x.azurecr.io/b:2'],
};

test('each source is told with the targets it was copied to in this run', async () => {
  const file = join(folder, 'ok.yaml');
  await writeSuccessFile(report, { file, format: 'yaml' });
  expect(parse(readFileSync(file, 'utf8'))).toEqual(copied);
});
test('in JSON the same', async () => {
  const file = join(folder, 'ok.json');
  await writeSuccessFile(report, { file, format: 'json' });
  expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual(copied);
});
test('where nothing was copied the map is empty', async () => {
  const file = join(folder, 'ok.yaml');
  await writeSuccessFile(syncReport([]), { file, format: 'yaml' });
  expect(parse(readFileSync(file, 'utf8'))).toEqual({});
});
test('a file that cannot be written is refused before the run', async () => {
  const file = join(folder, 'nowhere', 'ok.yaml');
  await expect(checkSuccessFile({ file, format: 'yaml' })).rejects.toMatchObject({ code: 'ERR_USAGE', file });
});
