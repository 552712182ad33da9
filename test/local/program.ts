/** The command line as its users run it: a process of its own, from the source, with a folder and an environment of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import type { RunHeader } from '../../lib/sync/runs/report.ts';

export const mainFile = fileURLToPath(new URL('../../lib/cli/main.ts', import.meta.url));

/** The keys of a report of any kind, as `--json` prints it. */
export interface ReportDocument {
  readonly run: RunHeader;
  readonly totals: Readonly<Record<string, number>> & {
    readonly requests: { readonly source: number; readonly target: number };
  };
  readonly tags: readonly {
    readonly source: string;
    readonly target: string;
    readonly outcome: string;
    readonly digest?: string;
    readonly targetDigest?: string;
    readonly reason?: string;
    readonly missing?: readonly string[];
    readonly bytes?: number;
    readonly error?: { readonly code: string; readonly message: string };
  }[];
}

export interface Ended {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Running {
  readonly process: ChildProcess;
  readonly ended: Promise<Ended>;
}

/** A folder to run in: the rules file, the state and an empty home live there. */
export class Workplace {
  readonly folder: string;
  readonly #running = new Set<Running>();

  private constructor(folder: string) {
    this.folder = folder;
  }

  static async open(): Promise<Workplace> {
    return new Workplace(await mkdtemp(join(tmpdir(), 'hubferry-workplace-')));
  }

  write(name: string, content: string): Promise<void> {
    return writeFile(join(this.folder, name), content);
  }

  start(args: readonly string[], env: Readonly<Record<string, string>> = {}): Running {
    const child = spawn(process.execPath, [mainFile, ...args], {
      cwd: this.folder,
      env: { HOME: this.folder, DOCKER_CONFIG: this.folder, PATH: process.env.PATH, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const running = { process: child, ended: outputOf(child) };
    this.#running.add(running);
    return running;
  }

  run(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ended> {
    return this.start(args, env).ended;
  }

  /** Runs with `--json`; the document is typed as what a run that began prints. */
  async report(
    args: readonly string[],
    env: Readonly<Record<string, string>> = {},
  ): Promise<ReportDocument & { readonly exitCode: number | null; readonly stderr: string }> {
    const { exitCode, stdout, stderr } = await this.run([...args, '--json'], env);
    return { ...(JSON.parse(stdout) as ReportDocument), exitCode, stderr };
  }

  /** All that the program has left in its folder. */
  async texts(): Promise<string> {
    const entries = await readdir(this.folder, { recursive: true, withFileTypes: true });
    const files = entries.filter((entry) => entry.isFile());
    return (
      await Promise.all(files.map((file) => readFile(join(file.parentPath, file.name), 'latin1')))
    ).join('\n');
  }

  /** Ends what a failed test has left running, and removes the folder. */
  async close(): Promise<void> {
    for (const { process: child } of this.#running) child.kill('SIGKILL');
    await Promise.all([...this.#running].map(({ ended }) => ended));
    await rm(this.folder, { recursive: true });
  }
}

async function outputOf(child: ChildProcess): Promise<Ended> {
  const { stdout, stderr } = child;
  if (stdout === null || stderr === null) throw new Error('the process has no pipes');
  const [out, errors, [exitCode]] = await Promise.all([text(stdout), text(stderr), once(child, 'close')]);
  return { exitCode: exitCode as number | null, stdout: out, stderr: errors };
}
