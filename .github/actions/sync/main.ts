/** The step of the action that syncs: runs hubferry, then writes the job's page and the step's outputs. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { TokenFile } from './identity-token.ts';
import { summarize } from './summary.ts';

const program = fileURLToPath(new URL('../../../lib/cli/main.ts', import.meta.url));
const { env } = process;

/** An input that is left out is an empty variable. */
const input = (name: string) => env[`HUBFERRY_${name}`] || undefined;

function commandLine(): string[] {
  const options = {
    config: input('CONFIG'),
    images: input('IMAGES'),
    auth: input('AUTH'),
    state: input('STATE'),
  };
  const given = Object.entries(options).flatMap(([name, value]) =>
    value === undefined ? [] : [`--${name}`, value],
  );
  const more = input('ARGUMENTS')?.split(/\s+/) ?? [];
  return ['sync', '--json', '--log', required('HUBFERRY_LOG'), ...given, ...more];
}

function required(name: string): string {
  const value = env[name];
  if (value === undefined || value === '') throw new Error(`The variable ${name} is not set.`);
  return value;
}

/** Where the workflow logs in to Azure as an application that trusts this repository. */
async function openIdentity(): Promise<TokenFile | undefined> {
  if (input('CLIENT_ID') === undefined) return undefined;
  const { ACTIONS_ID_TOKEN_REQUEST_URL: url, ACTIONS_ID_TOKEN_REQUEST_TOKEN: bearer } = env;
  if (url === undefined || bearer === undefined) {
    throw new Error('The workflow lacks the permission `id-token: write`.');
  }
  const onFailure = (message: string) => console.error(`::warning::${message}`);
  return TokenFile.open({ url, bearer }, { folder: required('RUNNER_TEMP'), onFailure });
}

/** The program's environment: it can log in, and cannot ask GitHub for anything. */
function programEnvironment(identity: TokenFile | undefined): NodeJS.ProcessEnv {
  const { ACTIONS_ID_TOKEN_REQUEST_URL: _url, ACTIONS_ID_TOKEN_REQUEST_TOKEN: _bearer, ...rest } = env;
  if (identity === undefined) return rest;
  return {
    ...rest,
    AZURE_CLIENT_ID: input('CLIENT_ID'),
    AZURE_TENANT_ID: required('HUBFERRY_TENANT_ID'),
    AZURE_FEDERATED_TOKEN_FILE: identity.path,
    AZURE_TOKEN_CREDENTIALS: 'WorkloadIdentityCredential',
  };
}

async function sync(): Promise<number> {
  await using identity = await openIdentity();
  const child = spawn(process.execPath, [program, ...commandLine()], {
    env: programEnvironment(identity),
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  // A cancelled workflow gives some seconds: enough to save the checkpoints.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal));
  const exited = once(child, 'exit');
  const { markdown, outputs } = summarize(await text(child.stdout));
  const [exitCode]: (number | null)[] = await exited;
  await appendFile(required('GITHUB_STEP_SUMMARY'), markdown);
  const lines = Object.entries(outputs).map(([name, value]) => `${name}=${value}\n`);
  await appendFile(required('GITHUB_OUTPUT'), lines.join(''));
  return exitCode ?? 1;
}

try {
  process.exitCode = await sync();
} catch (error) {
  console.error(`::error::${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
