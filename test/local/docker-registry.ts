/** The reference implementation of the distribution API as a process of its own, where `docker-registry` is installed. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

export interface DockerRegistry {
  /** `127.0.0.1:port`, as it stands in a reference. */
  readonly host: string;
  /** Without a trailing slash. */
  readonly url: string;
  /** Ends the process and removes what it has stored. */
  close(): Promise<void>;
}

/** Whether a program of that name is on the PATH. */
export function hasProgram(name: string): boolean {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Starts an empty registry that lets manifests and blobs be deleted; settled when it answers. */
export async function startDockerRegistry(): Promise<DockerRegistry> {
  const folder = await mkdtemp(join(tmpdir(), 'hubferry-docker-registry-'));
  const host = `127.0.0.1:${await freePort()}`;
  const url = `http://${host}`;
  const config = join(folder, 'config.yml');
  await writeFile(config, configOf(host, join(folder, 'data')));
  const server = spawn('docker-registry', ['serve', config], { stdio: 'ignore' });
  const exited = once(server, 'exit');
  const close = async () => {
    server.kill();
    await exited;
    await rm(folder, { recursive: true });
  };
  try {
    await Promise.race([
      untilItAnswers(url),
      exited.then(() => Promise.reject(new Error('it ended at once'))),
    ]);
  } catch (error) {
    await close();
    throw new Error(`docker-registry does not answer at ${url}`, { cause: error });
  }
  return { host, url, close };
}

/** JSON is YAML. */
function configOf(addr: string, rootdirectory: string): string {
  return JSON.stringify({
    version: 0.1,
    log: { level: 'error' },
    storage: { filesystem: { rootdirectory }, delete: { enabled: true } },
    http: { addr },
  });
}

/** The program cannot be asked for port 0 and tell which one it got. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

/** It says by nothing but an answer that it listens. */
async function untilItAnswers(url: string): Promise<void> {
  const until = Date.now() + 20_000;
  for (;;) {
    try {
      const response = await fetch(`${url}/v2/`);
      await response.arrayBuffer();
      return;
    } catch (error) {
      if (Date.now() > until) throw error;
      await delay(50);
    }
  }
}
