/**
 * `npm start`: the function app on this machine, with Azurite as its storage, under `func` where that is installed, else
 * under the small Functions host. Settings come from local.settings.json, or from the example. Ctrl-C ends everything.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import * as z from 'zod';
import { startAzurite } from './azurite.ts';
import { type LogLine, startFunctionsHost } from './functions-host.ts';
import { createProductStorage } from './product-storage.ts';

const root = path.resolve(import.meta.dirname, '../..');
const appRoot = path.join(root, 'dist/app');

type Settings = Record<string, string>;

const settingsSchema = z.object({ Values: z.record(z.string(), z.string()) });

/** The settings of the file, with Azurite wherever they name the development storage. */
function readSettings(connectionString: string): Settings {
  const file = ['local.settings.json', 'local.settings.example.json']
    .map((name) => path.join(root, name))
    .find((candidate) => existsSync(candidate));
  if (!file) throw new Error('There is neither local.settings.json nor local.settings.example.json.');
  const { Values } = settingsSchema.parse(JSON.parse(readFileSync(file, 'utf8')));
  const resolved = Object.entries(Values).map(([name, value]) => [
    name,
    value === 'UseDevelopmentStorage=true' ? connectionString : value,
  ]);
  console.log(`Settings: ${path.relative(root, file)}`);
  return Object.fromEntries(resolved);
}

function isInstalled(program: string): boolean {
  const folders = (process.env.PATH ?? '').split(path.delimiter);
  return folders.some((folder) => existsSync(path.join(folder, program)));
}

async function interrupted(): Promise<void> {
  await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')]);
}

/** Core Tools, in the packaged folder. What the environment sets wins over its local.settings.json. */
async function runUnderCoreTools(settings: Settings, port: number): Promise<void> {
  const func = spawn('func', ['start', '--port', String(port)], {
    cwd: appRoot,
    env: { ...process.env, ...settings },
    stdio: 'inherit',
  });
  const ended = once(func, 'exit');
  await Promise.race([interrupted(), ended]);
  func.kill('SIGINT');
  await ended;
}

async function runUnderOwnHost(settings: Settings, port: number): Promise<void> {
  await using host = await startFunctionsHost({ appRoot, settings, port, onLog: printLog });
  const { url } = host;
  console.log(`
hubferry runs at ${url}; Ctrl-C ends it.

  Dashboard  ${url}/api/dashboard          its key: ${host.key('status')}
  Webhook    ${url}/api/webhook?code=${host.key('webhook')}
  Plan now   curl -X POST -H 'x-functions-key: ${host.masterKey}' ${url}/admin/functions/schedule
  Sync       curl -X POST -d '{}' '${url}/api/sync?code=${host.key('sync')}'
`);
  await interrupted();
}

function printLog({ level, category, functionName, message }: LogLine): void {
  console.log(`[${level}] ${functionName ?? category}: ${message}`);
}

const { values } = parseArgs({ options: { port: { type: 'string', default: '7071' } } });
execFileSync(process.execPath, ['esbuild.config.ts', '--package'], { cwd: root, stdio: 'inherit' });
await using azurite = await startAzurite();
await createProductStorage(azurite.connectionString);
const settings = readSettings(azurite.connectionString);
console.log(`Storage: AZURE_STORAGE_CONNECTION_STRING='${azurite.connectionString}'`);
const run = isInstalled('func') ? runUnderCoreTools : runUnderOwnHost;
await run(settings, Number(values.port));
