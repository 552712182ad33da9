/**
 * `npm run bench`: measures hubferry beside its peers on this machine, and says which bars are kept.
 *
 * Needs Linux with docker-registry, skopeo, curl and bash. Everything that is copied lies below `TMPDIR`: with
 * `TMPDIR=/dev/shm` the disk has no say.
 */
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { cpus, loadavg, release, totalmem } from 'node:os';
import path from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { hasProgram } from '../local/docker-registry.ts';
import { artefact } from './artefact.ts';
import type { Bench, Benchmark } from './benchmark.ts';
import { changedBlob } from './changed-blob.ts';
import { copyFour } from './copy-four.ts';
import { copyOne } from './copy-one.ts';
import { type Judged, judge } from './figure.ts';
import { idle } from './idle.ts';
import { kill } from './kill.ts';
import { memory } from './memory.ts';
import { planning } from './planning.ts';
import { inFolder } from './programs.ts';
import { push } from './push.ts';
import { renderTable } from './table.ts';
import { tags } from './tags.ts';

/** What a person did wrong. */
class UsageError extends Error {}

const root = path.resolve(import.meta.dirname, '../..');
const execute = promisify(execFile);

const benchmarks: readonly Benchmark[] = [
  copyFour,
  copyOne,
  tags,
  memory,
  idle,
  changedBlob,
  kill,
  push,
  artefact,
  planning,
];

const { values: options } = parseArgs({
  options: {
    only: { type: 'string', multiple: true },
    rounds: { type: 'string', default: '7' },
    help: { type: 'boolean', default: false },
  },
});

if (options.help) console.log(usage());
else
  await main().catch((error: Error) => {
    console.error(error instanceof UsageError ? error.message : error);
    process.exitCode = 2;
  });

function usage(): string {
  return [
    'npm run bench -- [--only NAME]... [--rounds N]    (all of them take about half an hour)',
    '',
    ...benchmarks.map(({ name, about }) => `  ${name.padEnd(14)}${about}`),
  ].join('\n');
}

async function main(): Promise<void> {
  const chosen = chosenOf(options.only);
  const rounds = Number(options.rounds);
  if (!Number.isSafeInteger(rounds) || rounds < 1)
    throw new UsageError(`--rounds takes a number, not ${options.rounds}`);
  const missing = ['docker-registry', 'skopeo', 'curl', 'bash'].filter((program) => !hasProgram(program));
  if (process.platform !== 'linux' || missing.length > 0) {
    throw new UsageError(
      `This needs Linux with docker-registry, skopeo, curl and bash; missing: ${missing.join(', ')}`,
    );
  }
  const file = path.join(root, `${['bench-results', ...(options.only ?? [])].join('-')}.json`);
  // What was measured is kept, whatever becomes of the rest.
  const keep = async (figures: readonly Judged[]) =>
    writeFile(file, `${JSON.stringify({ rounds, machine: await machine(), figures }, null, 2)}\n`);
  const { figures, failed } = await inFolder((folder) => measure(chosen, rounds, folder, keep));
  console.log(`\n${renderTable(figures)}`);
  console.log(`The same, with every single value: ${path.relative(process.cwd(), file)}`);
  if (failed.length > 0) console.log(`Not measured, see above: ${failed.join(', ')}`);
  process.exitCode = failed.length > 0 || figures.some(({ met }) => met === false) ? 1 : 0;
}

function chosenOf(names: readonly string[] | undefined): readonly Benchmark[] {
  const unknown = names?.find((name) => !benchmarks.some((benchmark) => benchmark.name === name));
  if (unknown !== undefined) throw new UsageError(`There is no benchmark ${unknown}.\n\n${usage()}`);
  return names === undefined ? benchmarks : benchmarks.filter(({ name }) => names.includes(name));
}

async function measure(
  chosen: readonly Benchmark[],
  rounds: number,
  folder: string,
  keep: (figures: readonly Judged[]) => Promise<void>,
): Promise<{ figures: Judged[]; failed: string[] }> {
  console.error('building what is published');
  await execute(process.execPath, ['esbuild.config.ts', '--package', '--out', folder], { cwd: root });
  const figures: Judged[] = [];
  const failed: string[] = [];
  for (const { name, run } of chosen) {
    const bench: Bench = {
      rounds,
      hubferry: {
        node: path.join(root, 'node_modules/node/bin/node'),
        file: path.join(folder, 'hubferry.mjs'),
      },
      app: path.join(folder, 'app'),
      say: (text) => console.error(`${name}: ${text}`),
    };
    try {
      for (const figure of await run(bench)) figures.push(judge(name, figure));
      await keep(figures);
    } catch (error) {
      failed.push(name);
      console.error(`${name}:`, error);
    }
  }
  return { figures, failed };
}

/** What the figures depend on beside the program. */
async function machine(): Promise<object> {
  const [{ stdout: skopeo }, { stdout: registry }] = await Promise.all([
    execute('skopeo', ['--version']),
    execute('docker-registry', ['--version']),
  ]);
  return {
    cpus: cpus().length,
    model: cpus()[0]?.model,
    memoryBytes: totalmem(),
    kernel: release(),
    load: loadavg()[0],
    node: process.version,
    skopeo: skopeo.trim(),
    dockerRegistry: registry.trim(),
  };
}
