/**
 * Builds what is published, into `dist/` or the folder after `--out`:
 *
 * - `functions/main.cjs`, the function app in one file, and its source map;
 * - `hubferry.mjs`, the command line in one file;
 * - `sync.schema.json`, the JSON Schema of `sync.yaml`;
 * - `THIRD_PARTY_LICENSES` and `hubferry.cdx.json` (CycloneDX), of what the command line contains;
 * - with `--package`, `app/`: the folder in which `func azure functionapp publish NAME` is run, and beside it
 *   `hubferry-app.cdx.json`, of what is in it.
 *
 * The same sources give the same bytes, wherever they are built.
 */
import { copyFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { type BuildOptions, build, type Plugin } from 'esbuild';
import { buildDashboard } from './esbuild.dashboard.ts';
import { type BundledPackage, packagesIn, sbomOf } from './esbuild.sbom.ts';
import { rulesJsonSchema } from './lib/config/schema.ts';
import packageJson from './package.json' with { type: 'json' };

const root = import.meta.dirname;

/** What is used of undici: its index brings fetch, WebSocket and mocks along, more than half of its size and start-up. */
const partsOfUndici = {
  Agent: 'dispatcher/agent.js',
  buildConnector: 'core/connect.js',
  EnvHttpProxyAgent: 'dispatcher/env-http-proxy-agent.js',
};

/** What its index adds to every dispatcher, and its own proxy agent calls to open a tunnel. */
const connectOfUndici = `
  import Dispatcher from './node_modules/undici/lib/dispatcher/dispatcher.js';
  import connect from './node_modules/undici/lib/api/api-connect.js';
  Dispatcher.prototype.connect = connect;`;

/** Whoever imports something else of undici is told by the bundler. */
const leanUndici: Plugin = {
  name: 'lean-undici',
  setup({ onResolve, onLoad }) {
    const exported = Object.entries(partsOfUndici).map(
      ([name, file]) => `export { default as ${name} } from './node_modules/undici/lib/${file}';`,
    );
    onResolve({ filter: /^undici$/ }, () => ({ path: 'index', namespace: 'undici' }));
    onLoad({ filter: /^index$/, namespace: 'undici' }, () => ({
      contents: [...exported, connectOfUndici].join('\n'),
      resolveDir: root,
    }));
  },
};

/**
 * Node's `http` has its WebSocket in a lazy getter, and an `import` of it asks all getters: that loads the fetch that
 * Node brings along, a quarter of the command line's start. `require` asks none.
 */
const leanHttp: Plugin = {
  name: 'lean-http',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^(node:)?http$/ }, ({ path, kind }) =>
      kind === 'import-statement' ? { path, namespace: 'required' } : undefined,
    );
    onLoad({ filter: /^/, namespace: 'required' }, ({ path }) => ({
      contents: `module.exports = require('${path}');`,
    }));
  },
};

const common = {
  absWorkingDir: root,
  bundle: true,
  minify: true,
  platform: 'node',
  target: 'node22',
  legalComments: 'none',
  metafile: true,
  write: false,
  plugins: [leanUndici, leanHttp],
  // undici's own switch for bundlers: without it a second, experimental HTTP parser (150 kB) comes along.
  define: { esbuildDetection: 'true' },
  // Loaded by the Blob client only for lists in Arrow format, which nobody here asks for.
  external: ['apache-arrow'],
} as const satisfies BuildOptions;

const functionApp = {
  ...common,
  entryPoints: ['functions/main.ts'],
  outfile: 'dist/functions/main.cjs',
  format: 'cjs',
  // The worker answers `require('@azure/functions-core')` itself.
  external: [...common.external, '@azure/functions-core'],
  // Some packages call `createRequire(import.meta.url)` as they load, and CommonJS has no `import.meta`.
  define: {
    ...common.define,
    'import.meta.url': 'importMetaUrl',
    // What functions/dashboard.ts answers.
    dashboardAnswer: JSON.stringify(await buildDashboard()),
  },
  banner: { js: "'use strict';const importMetaUrl=require('node:url').pathToFileURL(__filename).href;" },
  sourcemap: 'linked',
  sourcesContent: false,
} as const satisfies BuildOptions;

const commandLine = {
  ...common,
  entryPoints: ['lib/cli/main.ts'],
  outfile: 'dist/hubferry.mjs',
  format: 'esm',
  // What is CommonJS inside the bundle still calls `require` for Node's own modules.
  banner: {
    js: "import{createRequire as bundleRequire}from'node:module';const require=bundleRequire(import.meta.url);",
  },
} as const satisfies BuildOptions;

interface Bundle {
  readonly files: readonly { readonly name: string; readonly bytes: Uint8Array }[];
  readonly licences: string;
  readonly sbom: string;
}

async function bundle(options: BuildOptions): Promise<Bundle> {
  const { outputFiles = [], metafile, warnings } = await build(options);
  if (warnings.length > 0 || !metafile) throw new Error(`${options.outfile} was built with warnings`);
  const files = outputFiles.map(({ path: file, contents }) => ({
    name: path.relative(path.join(root, 'dist'), file),
    bytes: contents,
  }));
  const packages = await packagesIn(metafile);
  return { files, licences: await licencesOf(packages), sbom: json(sbomOf(packages, metafile)) };
}

/** The licence texts of packages. */
async function licencesOf(packages: readonly BundledPackage[]): Promise<string> {
  const notices = new Set(await Promise.all(packages.map(noticeOf)));
  return [...notices].sort().join(`\n${'-'.repeat(80)}\n\n`);
}

async function noticeOf({ folder, name, version, license }: BundledPackage): Promise<string> {
  const names = (await readdir(path.join(root, folder))).filter((file) =>
    /^(licen[cs]e|notice|copyright)/i.test(file),
  );
  const texts = await Promise.all(
    names.sort().map((file) => readFile(path.join(root, folder, file), 'utf8')),
  );
  const lines = texts.map((text) => text.replaceAll('\r\n', '\n').trim());
  return `${[`${name} ${version} (${license})`, ...lines].join('\n\n')}\n`;
}

async function write(out: string, name: string, content: string | Uint8Array): Promise<void> {
  const file = path.join(out, name);
  await mkdir(path.dirname(file), { recursive: true });
  await writeFile(file, content);
}

function json(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

async function buildFunctionApp(out: string): Promise<Bundle> {
  const built = await bundle(functionApp);
  for (const { name, bytes } of built.files) await write(out, name, bytes);
  return built;
}

async function buildCommandLine(out: string): Promise<void> {
  const { files, licences, sbom } = await bundle(commandLine);
  for (const { name, bytes } of files) await write(out, name, bytes);
  await write(out, 'THIRD_PARTY_LICENSES', licences);
  await write(out, 'hubferry.cdx.json', sbom);
}

/** The folder that is published: everything in it is meant to be, and `.funcignore` names it file by file. */
async function packageFunctionApp(out: string, { files, licences, sbom }: Bundle): Promise<void> {
  const folder = path.join(out, 'app');
  await rm(folder, { recursive: true, force: true });
  for (const { name, bytes } of files) await write(folder, path.basename(name), bytes);
  const { name, version, license, engines } = packageJson;
  await write(folder, 'package.json', json({ name, version, license, main: 'main.cjs', engines }));
  await write(folder, 'THIRD_PARTY_LICENSES', licences);
  await write(out, 'hubferry-app.cdx.json', sbom);
  await copyFile(path.join(root, 'host.json'), path.join(folder, 'host.json'));
  const published = (await readdir(folder)).sort();
  await write(folder, '.funcignore', ['*', ...published.map((file) => `!${file}`), ''].join('\n'));
  // Core Tools wants to know the runtime, and never uploads this file.
  const Values = { FUNCTIONS_WORKER_RUNTIME: 'node' };
  await write(folder, 'local.settings.json', json({ IsEncrypted: false, Values }));
}

const { values } = parseArgs({
  options: {
    out: { type: 'string', default: path.join(root, 'dist') },
    package: { type: 'boolean', default: false },
  },
});
const out = path.resolve(values.out);
const built = await buildFunctionApp(out);
await buildCommandLine(out);
await write(out, 'sync.schema.json', json(rulesJsonSchema()));
if (values.package) await packageFunctionApp(out, built);
