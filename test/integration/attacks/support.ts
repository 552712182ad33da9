/** What the tests of attacks share: a whole run of the engine against registries that mean harm. */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach } from 'vitest';
import { createEngine } from '../../../lib/app.ts';
import { ruleFromArguments } from '../../../lib/config/arguments.ts';
import type { ErrorSummary } from '../../../lib/errors.ts';
import { createLogger, logEvent } from '../../../lib/log.ts';
import type { Report, SyncOutcome } from '../../../lib/sync/runs/report.ts';
import { type LocalRegistry, type RegistryOptions, startRegistry } from '../../local/registry.ts';
import { type LocalServer, type Respond, startServer } from '../../local/server.ts';

const cleanups: (() => unknown)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** Runs when the test is over, the last first. */
export function afterTest(cleanup: () => unknown): void {
  cleanups.push(cleanup);
}

export async function registry(options: RegistryOptions = {}): Promise<LocalRegistry> {
  const started = await startRegistry(options);
  afterTest(() => started.close());
  return started;
}

export async function serve(respond: Respond): Promise<LocalServer> {
  const server = await startServer(respond);
  afterTest(() => server.close());
  return server;
}

export interface Mirrored {
  readonly report: Report<SyncOutcome>;
  /** Error of the only line. */
  readonly error: ErrorSummary | undefined;
  /** Everything that was logged, at its most talkative. */
  readonly log: string;
  /** Everything that was left in the state folder, names too. */
  readonly state: string;
}

export interface MirrorOptions {
  readonly tag?: string | undefined;
  readonly sourceCredentials?: string | undefined;
  readonly targetCredentials?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

export const sourceRepository = 'evil/app';
export const targetRepository = 'mirror/app';

/** Mirrors `evil/app` of one registry to `mirror/app` of another, as the command line does. */
export async function mirror(
  source: { readonly url: string },
  target: { readonly url: string },
  options: MirrorOptions = {},
): Promise<Mirrored> {
  const { tag = 'latest', sourceCredentials, targetCredentials } = options;
  const folder = await mkdtemp(path.join(tmpdir(), 'hubferry-attack-'));
  afterTest(() => rm(folder, { recursive: true, force: true }));
  const log: string[] = [];
  const logger = createLogger({ level: 'debug', format: 'json', write: (line) => log.push(line) });
  const rules = ruleFromArguments(
    `${new URL(source.url).host}/${sourceRepository}:${tag}`,
    `${new URL(target.url).host}/${targetRepository}`,
    { env: {}, variables: 'all', sourceCredentials, targetCredentials },
  );
  const engine = await createEngine({
    rules,
    state: { kind: 'folder', path: folder },
    options: { proc: 4, retries: 1 },
    env: { DOCKER_CONFIG: folder },
    onEvent: (event) => logEvent(logger, event),
    signal: options.signal ?? new AbortController().signal,
  });
  try {
    const report = await engine.sync({ force: false, allowMassDelete: false, wait: 0 });
    const [line] = report.tags;
    return { report, error: line?.error, log: log.join('\n'), state: await textsIn(folder) };
  } finally {
    await engine.close();
  }
}

async function textsIn(folder: string): Promise<string> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const texts = entries.map(async (entry) => {
    const file = path.join(entry.parentPath, entry.name);
    return entry.isFile() ? `${file}\n${await readFile(file, 'latin1')}` : file;
  });
  return (await Promise.all(texts)).join('\n');
}
