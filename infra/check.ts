/** `npm run infra`: formats, lints and compiles what is here. A warning is an error. */
import { cp, glob, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bicep, findBicep, infraFolder } from './bicep.ts';

const outputFolder = fileURLToPath(new URL('../dist/infra', import.meta.url));
const templates = ['--pattern', '**/*.bicep'] as const;
const parameters = ['--pattern', '*.bicepparam'] as const;

try {
  await check();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}

async function check(): Promise<void> {
  const compiler = await findBicep();
  if (compiler === undefined) {
    console.log('infra: skipped, for there is neither dotnet nor bicep on this machine');
    return;
  }
  const version = (await bicep(compiler, ['--version'])).trim();
  const files = await Array.fromAsync(glob(['**/*.bicep', '*.bicepparam'], { cwd: infraFolder }));
  await checkFormat(compiler, files);
  await bicep(compiler, ['lint', ...templates]);
  await bicep(compiler, ['lint', ...parameters]);
  await mkdir(outputFolder, { recursive: true });
  await bicep(compiler, ['build', 'main.bicep', '--outfile', join(outputFolder, 'main.json')]);
  console.log(`infra: ${files.length} files formatted, linted and compiled without a warning by ${version}`);
}

/** The formatter only writes, so it gets a copy to write to. */
async function checkFormat(compiler: string, files: readonly string[]): Promise<void> {
  const copy = await mkdtemp(join(tmpdir(), 'hubferry-infra-'));
  try {
    await cp(infraFolder, copy, { recursive: true });
    await bicep(compiler, ['format', ...templates], copy);
    await bicep(compiler, ['format', ...parameters], copy);
    for (const file of files) {
      const [written, formatted] = await Promise.all([
        readFile(join(infraFolder, file), 'utf8'),
        readFile(join(copy, file), 'utf8'),
      ]);
      if (written !== formatted) throw new Error(`infra/${file} is not formatted: bicep format ${file}`);
    }
  } finally {
    await rm(copy, { recursive: true, force: true });
  }
}
