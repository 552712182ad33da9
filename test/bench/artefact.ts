/** The function app as it is published: its size, and how long it takes to load, bundled and unbundled. */
import { execFile } from 'node:child_process';
import { readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { type Benchmark, inTurns } from './benchmark.ts';
import type { Figure } from './figure.ts';
import { run } from './process.ts';
import { inFolder } from './programs.ts';

const root = path.resolve(import.meta.dirname, '../..');
const loader = path.join(import.meta.dirname, 'load.ts');

export const artefact: Benchmark = {
  name: 'artefact',
  about: 'size and load time of the function app, bundled against unbundled',
  run: (bench) =>
    inFolder(async (folder) => {
      bench.say('compiling the unbundled one');
      const unbundled = await compile(folder);
      const bundled = path.join(bench.app, 'main.cjs');
      const cache = { NODE_COMPILE_CACHE: path.join(folder, 'cache') };
      const load = async (file: string, env: Readonly<Record<string, string>> = {}) => {
        const { stdout } = await run([bench.hubferry.node, loader, file], { cwd: folder, env });
        return Number(stdout);
      };
      const times = await inTurns(bench, {
        bundled: () => load(bundled),
        cached: () => load(bundled, cache),
        unbundled: () => load(unbundled),
      });
      const peer = { name: 'unbundled', values: times.unbundled };
      const figures: Figure[] = [
        {
          what: 'size of main.cjs',
          unit: 'MB',
          values: [(await stat(bundled)).size / 1e6],
          peer: { name: 'unbundled', values: [(await bytesUnbundled(path.dirname(unbundled))) / 1e6] },
          bar: { of: 'median', atMost: 2.5 },
        },
        { what: 'load time', unit: 'ms', values: times.bundled, peer, bar: { of: 'ratio', atMost: 0.55 } },
        {
          what: 'load time with NODE_COMPILE_CACHE',
          unit: 'ms',
          values: times.cached,
          peer,
          bar: { of: 'ratio', atMost: 0.4 },
        },
      ];
      return figures;
    }),
};

/** What would have to be published otherwise: the compiled program and all packages that it depends on. */
async function bytesUnbundled(program: string): Promise<number> {
  const words = ['ls', '--omit=dev', '--all', '--parseable'];
  const { stdout } = await promisify(execFile)('npm', words, { cwd: root });
  const [, ...packages] = stdout.trim().split('\n');
  const sizes = await Promise.all([path.dirname(program), ...packages].map(bytesIn));
  return sizes.reduce((sum, bytes) => sum + bytes, 0);
}

/** The files of a package, without those of packages inside it: they are packages of their own. */
async function bytesIn(folder: string): Promise<number> {
  const entries = await readdir(folder, { withFileTypes: true });
  const sizes = entries.map(async (entry) => {
    const name = path.join(folder, entry.name);
    if (entry.isDirectory()) return entry.name === 'node_modules' ? 0 : bytesIn(name);
    return entry.isFile() ? (await stat(name)).size : 0;
  });
  return (await Promise.all(sizes)).reduce((sum, bytes) => sum + bytes, 0);
}

/** JavaScript files as the compiler writes them, with `node_modules` beside them: what would be published otherwise. */
async function compile(folder: string): Promise<string> {
  const { compilerOptions } = JSON.parse(await readFile(path.join(root, 'tsconfig.json'), 'utf8'));
  const out = path.join(folder, 'unbundled');
  const config = path.join(folder, 'tsconfig.json');
  await writeFile(
    config,
    JSON.stringify({
      compilerOptions: {
        ...compilerOptions,
        noEmit: false,
        outDir: out,
        rootDir: root,
        rewriteRelativeImportExtensions: true,
        typeRoots: [path.join(root, 'node_modules/@types')],
      },
      files: [path.join(root, 'functions/main.ts')],
    }),
  );
  await promisify(execFile)(process.execPath, [
    path.join(root, 'node_modules/typescript/bin/tsc'),
    '-p',
    config,
  ]);
  await symlink(path.join(root, 'node_modules'), path.join(out, 'node_modules'));
  await writeFile(path.join(out, 'package.json'), JSON.stringify({ type: 'module' }));
  return path.join(out, 'functions/main.js');
}
