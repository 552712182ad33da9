/**
 * Programs as child processes, and what they cost.
 *
 * Bash's `time` gives wall time and the CPU seconds of a program with all that it started and waited for, to a
 * millisecond, from the kernel's own account (`getrusage`). The peak of its resident memory is `VmHWM` of
 * `/proc/PID/status`, the kernel's high-water mark: read again and again, it only misses what grows in the last moment.
 * Both are there on every Linux; `/usr/bin/time` and Python are not.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';

export interface Cost {
  readonly wallSeconds: number;
  /** User and system together. */
  readonly cpuSeconds: number;
  /** Peak of the first process; what it starts is not looked at. */
  readonly peakBytes: number;
}

export interface Ended extends Cost {
  readonly stdout: string;
  /** 137 where it was killed. */
  readonly exitCode: number;
}

export interface ProgramOptions {
  readonly cwd: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Kills it with signal 9. */
  readonly kill?: AbortSignal;
}

const timed = `
  exec 4>&2
  TIMEFORMAT='%R %U %S'
  { time "$@" 2>&4 3>&- 4>&-; } 2>&3
`;

const lookEveryMs = 10;

/** Runs a program to its end. @throws where it fails, unless it was killed on purpose */
export async function run(command: readonly string[], options: ProgramOptions): Promise<Ended> {
  const { cwd, env, kill } = options;
  const shell = spawn('bash', ['-c', timed, 'bash', ...command], {
    cwd,
    env: { PATH: process.env.PATH, TMPDIR: process.env.TMPDIR, HOME: cwd, ...env },
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
  });
  let peakBytes = 0;
  const look = () => {
    const pid = childOf(shell.pid);
    if (pid === undefined) return;
    peakBytes = Math.max(peakBytes, peakOf(pid));
    if (kill?.aborted) killQuietly(pid);
  };
  const looking = setInterval(look, lookEveryMs);
  kill?.addEventListener('abort', look, { once: true });
  try {
    const printed = [1, 2, 3].map((stream) => text(shell.stdio[stream] as NodeJS.ReadableStream));
    const [[stdout = '', stderr = '', account = ''], [code]] = await Promise.all([
      Promise.all(printed),
      once(shell, 'close'),
    ]);
    const exitCode = code as number;
    if (exitCode !== 0 && !kill?.aborted) {
      throw new Error(`${command.join(' ')}\nended with ${exitCode}\n${stdout}${stderr}`);
    }
    const [wallSeconds = 0, user = 0, system = 0] = account.trim().split(' ').map(Number);
    return { wallSeconds, cpuSeconds: user + system, peakBytes, stdout, exitCode };
  } finally {
    clearInterval(looking);
    kill?.removeEventListener('abort', look);
  }
}

function childOf(pid: number | undefined): number | undefined {
  const children = readQuietly(`/proc/${pid}/task/${pid}/children`);
  const first = Number.parseInt(children, 10);
  return Number.isNaN(first) ? undefined : first;
}

function peakOf(pid: number): number {
  const [, kibibytes] = /^VmHWM:\s+(\d+) kB$/m.exec(readQuietly(`/proc/${pid}/status`)) ?? [];
  return Number(kibibytes ?? 0) * 1024;
}

/** A process may be gone at any time. */
function readQuietly(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}
