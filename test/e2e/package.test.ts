/** What is published: the folder that `npm run package` makes, and the command line in one file. */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import packageJson from '../../package.json' with { type: 'json' };
import lock from '../../package-lock.json' with { type: 'json' };
import type { FunctionMetadata } from '../local/host/protocol.ts';
import { WorkerProcess } from '../local/host/worker-process.ts';

const run = promisify(execFile);
const root = path.resolve(import.meta.dirname, '../..');
const folders: string[] = [];

function temporaryFolder(): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'hubferry-package-'));
  folders.push(folder);
  return folder;
}

async function build(): Promise<string> {
  const out = temporaryFolder();
  await run(process.execPath, ['esbuild.config.ts', '--package', '--out', out], { cwd: root });
  return out;
}

let out: string;
beforeAll(async () => {
  out = await build();
});
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

const publishable = ['THIRD_PARTY_LICENSES', 'host.json', 'main.cjs', 'main.cjs.map', 'package.json'];

/**
 * How Core Tools reads `.funcignore`: each pattern fits from the start of the path and to any end, `*` stands for
 * anything without a slash, and what one `!` pattern fits is published whatever the others say.
 */
function publishes(funcignore: string, file: string): boolean {
  const patterns = funcignore.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  const expression = (text: string) => text.replace(/[^\w*]/g, '\\$&').replaceAll('*', '[^/]+');
  const fits = (pattern: string) => new RegExp(`^${expression(pattern)}`).test(file);
  const kept = patterns.filter((line) => line.startsWith('!')).map((line) => line.slice(1));
  const ignored = patterns.filter((line) => !line.startsWith('!'));
  return kept.some(fits) || !ignored.some(fits);
}

/** Core Tools leaves these out by itself. */
const neverPublished = ['.funcignore', '.gitignore', 'local.settings.json', 'project.lock.json'];

function publishedFrom(folder: string): string[] {
  const funcignore = readFileSync(path.join(folder, '.funcignore'), 'utf8');
  const files = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)));
  return files
    .filter((file) => !neverPublished.includes(path.basename(file)) && publishes(funcignore, file))
    .sort();
}

describe('the packaged folder', () => {
  it('holds what is published and what Core Tools wants to find, and nothing else', () => {
    const expected = [...publishable, '.funcignore', 'local.settings.json'].sort();
    expect(readdirSync(path.join(out, 'app')).sort()).toEqual(expected);
  });

  it('publishes the same files whatever else lands in it', () => {
    const folder = path.join(temporaryFolder(), 'app');
    cpSync(path.join(out, 'app'), folder, { recursive: true });
    cpSync(path.join(root, 'test/local/fixtures'), path.join(folder, 'node_modules/fixtures'), {
      recursive: true,
    });
    for (const name of ['.env', 'sync.yaml', 'notes.txt']) writeFileSync(path.join(folder, name), 'x');
    expect(publishedFrom(folder)).toEqual(publishable);
  });

  it('tells Core Tools the runtime, and no setting beside it', () => {
    const settings = JSON.parse(readFileSync(path.join(out, 'app/local.settings.json'), 'utf8'));
    expect(settings.Values).toEqual({ FUNCTIONS_WORKER_RUNTIME: 'node' });
  });

  it('needs no package and says which Node it runs on', () => {
    const { name, version, engines } = packageJson;
    const packaged = JSON.parse(readFileSync(path.join(out, 'app/package.json'), 'utf8'));
    expect(packaged).toEqual({ name, version, license: 'MIT', main: 'main.cjs', engines });
  });

  it('has a bundle of at most 2.5 MB', () => {
    expect(statSync(path.join(out, 'app/main.cjs')).size).toBeLessThanOrEqual(2_500_000);
  });

  it('names each package in the bundle with its licence', () => {
    const notices = readFileSync(path.join(out, 'app/THIRD_PARTY_LICENSES'), 'utf8').split(
      `\n${'-'.repeat(80)}\n\n`,
    );
    const titles = notices.map((notice) => notice.slice(0, notice.indexOf('\n')));
    const { sources } = JSON.parse(readFileSync(path.join(out, 'app/main.cjs.map'), 'utf8'));
    // Packages that are bundles themselves name their sources in the way of their bundler.
    const bundled = new Set(
      sources.flatMap(
        (source: string) => /(?:.*node_modules\/|webpack:\/\/)((?:@[^/]+\/)?[^/]+)/.exec(source)?.[1] ?? [],
      ),
    );
    expect(new Set(titles.map((title) => title.replace(/ \S+ \(.*/, '')))).toEqual(bundled);
    expect(titles.filter((title) => !/^\S+ \d+\.\d+\.\d+\S* \(\S.*\)$/.test(title))).toEqual([]);
  });

  it('has a list beside it that says the same in CycloneDX, with the hash that the lock file pins', () => {
    const read = (name: string) => JSON.parse(readFileSync(path.join(out, name), 'utf8'));
    const notices = readFileSync(path.join(out, 'app/THIRD_PARTY_LICENSES'), 'utf8');
    const sbom = read('hubferry-app.cdx.json');
    expect(sbom).toMatchObject({ bomFormat: 'CycloneDX', specVersion: '1.6', version: 1 });
    expect(sbom.metadata.component).toMatchObject({ type: 'application', name: 'hubferry' });
    const { integrity } = lock.packages['node_modules/zod'];
    expect(sbom.components).toContainEqual(
      expect.objectContaining({
        name: 'zod',
        purl: `pkg:npm/zod@${lock.packages['node_modules/zod'].version}`,
        hashes: [
          {
            alg: 'SHA-512',
            content: Buffer.from(integrity.replace('sha512-', ''), 'base64').toString('hex'),
          },
        ],
        licenses: [{ license: { id: 'MIT' } }],
      }),
    );
    for (const { name, version } of sbom.components) expect(notices).toContain(`${name} ${version} (`);
    expect(read('hubferry.cdx.json').components.length).toBeGreaterThan(10);
  });

  it.each(['hubferry.cdx.json', 'hubferry-app.cdx.json'])(
    'has in %s what each part needs of the others',
    (file) => {
      const { metadata, components, dependencies } = JSON.parse(readFileSync(path.join(out, file), 'utf8'));
      const references: string[] = components.map((component: { 'bom-ref': string }) => component['bom-ref']);
      const application: string = metadata.component['bom-ref'];
      const needs = new Map<string, string[]>(
        dependencies.map(({ ref, dependsOn }: { ref: string; dependsOn: string[] }) => [ref, dependsOn]),
      );
      expect([...needs.keys()].sort()).toEqual([application, ...references].sort());
      const reached = new Set([application]);
      for (const ref of reached) for (const other of needs.get(ref) ?? []) reached.add(other);
      expect([...reached].sort()).toEqual([application, ...references].sort());
      const of = (name: string) => references.find((ref) => ref.startsWith(`pkg:npm/${name}@`)) ?? name;
      expect(needs.get(application)).toContain(of('undici'));
      expect(needs.get(of('%40azure/storage-blob'))).toContain(of('%40azure/core-rest-pipeline'));
    },
  );

  it('is the same, byte for byte, when it is made again', async () => {
    const again = await build();
    for (const file of readdirSync(path.join(out, 'app'))) {
      const [first, second] = [out, again].map((folder) => readFileSync(path.join(folder, 'app', file)));
      expect(first?.equals(second ?? Buffer.of()), file).toBe(true);
    }
  });

  it('says nothing of the machine that it was made on', () => {
    for (const file of publishable) {
      const text = readFileSync(path.join(out, 'app', file), 'utf8');
      expect(text.includes(root), file).toBe(false);
      expect(text.includes(out), file).toBe(false);
    }
  });
});

interface Trigger {
  readonly type: string;
  readonly [option: string]: unknown;
}

const timer = (schedule: string): Trigger => ({ type: 'timerTrigger', schedule });
const queue = (queueName: string): Trigger => ({
  type: 'queueTrigger',
  queueName,
  connection: 'HubferryStorage',
});
const http = (method: string, route: string, authLevel = 'function'): Trigger => ({
  type: 'httpTrigger',
  methods: [method],
  route,
  authLevel,
});

/** The functions of the README. */
const functions: Readonly<Record<string, Trigger>> = {
  schedule: timer('%SYNC_SCHEDULE%'),
  verify: timer('%VERIFY_SCHEDULE%'),
  release: timer('0 * * * * *'),
  webhook: http('POST', 'webhook'),
  sync: http('POST', 'sync'),
  plan: queue('plan-requests'),
  push: queue('push-requests'),
  copy: queue('copy-requests'),
  planPoison: queue('plan-requests-poison'),
  pushPoison: queue('push-requests-poison'),
  copyPoison: queue('copy-requests-poison'),
  status: http('GET', 'status/{run?}'),
  control: http('POST', 'control'),
  health: http('GET', 'health'),
  dashboard: http('GET', 'dashboard', 'anonymous'),
};

/** The trigger with its options, without what the library adds on its own. */
function triggerOf({ name, bindings }: FunctionMetadata): [string, Trigger] {
  const trigger = Object.values(bindings).find(({ direction }) => direction === 'in');
  if (!trigger) throw new Error(`${name} has no trigger`);
  const own = Object.entries(trigger).filter(([key]) => !['direction', 'name', 'properties'].includes(key));
  // An HTTP function without a route is reached under its own name.
  const route = trigger.type === 'httpTrigger' ? { route: name } : {};
  return [name, { ...route, type: trigger.type, ...Object.fromEntries(own) }];
}

describe('the published function app', () => {
  it('registers the functions of its interface with their bindings, from one file without node_modules', async () => {
    const folder = temporaryFolder();
    for (const file of publishedFrom(path.join(out, 'app'))) {
      cpSync(path.join(out, 'app', file), path.join(folder, file));
    }
    const printed: string[] = [];
    const loaded = await WorkerProcess.start({
      appRoot: folder,
      env: {},
      onLog: ({ message }) => printed.push(message),
    });
    await loaded.worker.kill();
    expect(Object.fromEntries(loaded.functions.map(triggerOf))).toEqual(functions);
    expect(loaded.functions).toHaveLength(Object.keys(functions).length);
    expect(printed).toEqual([]);
  });
});

describe('the published command line', () => {
  it('runs from its one file', async () => {
    const folder = temporaryFolder();
    cpSync(path.join(out, 'hubferry.mjs'), path.join(folder, 'hubferry.mjs'));
    const { stdout } = await run(process.execPath, ['hubferry.mjs', '--version'], { cwd: folder });
    expect(stdout.trim()).toBe(packageJson.version);
  });

  it('starts without the fetch that Node brings along', async () => {
    const folder = temporaryFolder();
    const atExit = path.join(folder, 'at-exit.mjs');
    writeFileSync(
      atExit,
      `process.on('exit', () => console.error(process.moduleLoadList.filter((name) => /http$|undici/.test(name))));`,
    );
    const words = ['--import', atExit, path.join(out, 'hubferry.mjs'), '--version'];
    const { stderr } = await run(process.execPath, words, { cwd: folder });
    expect(stderr).toContain('NativeModule http');
    expect(stderr).not.toContain('undici');
  });

  it('goes through the proxy of the environment, by a tunnel for TLS', async () => {
    const folder = temporaryFolder();
    const asked: (string | undefined)[] = [];
    const proxy = createServer().on('connect', ({ url }, socket) => {
      asked.push(url);
      socket.end('HTTP/1.1 403 Forbidden\r\n\r\n');
    });
    await once(proxy.listen(0, '127.0.0.1'), 'listening');
    const address = proxy.address();
    if (address === null || typeof address === 'string') throw new Error('the proxy has no port');
    const env = { HOME: folder, HTTPS_PROXY: `http://127.0.0.1:${address.port}` };
    const words = ['plan', 'registry.example/a:1', '127.0.0.1:1/a', '--retries', '0'];
    const ended = run(process.execPath, [path.join(out, 'hubferry.mjs'), ...words], { cwd: folder, env });
    await expect(ended).rejects.toMatchObject({ code: 1 });
    proxy.close();
    expect(asked).toContain('registry.example:443');
  });

  it('brings the JSON Schema of sync.yaml and the licences of what it contains', () => {
    const schema = JSON.parse(readFileSync(path.join(out, 'sync.schema.json'), 'utf8'));
    expect(schema.properties).toHaveProperty('rules');
    expect(readFileSync(path.join(out, 'THIRD_PARTY_LICENSES'), 'utf8')).toMatch(/^yaml \d/m);
  });
});
