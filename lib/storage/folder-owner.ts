/** Which process something in a folder belongs to, so that what a killed one has left is free at once. */
import { readFileSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';

/** One process among all that may use the folder. It is written into files as it is. */
export interface Owner {
  readonly host: string;
  /** Where a process number has its meaning: this boot and, in a container, its own table of processes (Linux). */
  readonly space?: string | undefined;
  readonly pid: number;
  /** When it began, by the system's clock: tells it from a later process of the same number (Linux). */
  readonly start?: string | undefined;
}

let me: Owner | undefined;

export function thisProcess(): Owner {
  me ??= {
    host: hostname(),
    space: spaceOfProcesses(),
    pid: process.pid,
    start: entryOf(process.pid)?.start,
  };
  return me;
}

/** What was read from a file, where it is an owner. */
export function ownerIn(read: unknown): Owner | undefined {
  if (typeof read !== 'object' || read === null) return undefined;
  const { host, space, pid, start } = read as Partial<Record<keyof Owner, unknown>>;
  if (typeof host !== 'string' || !Number.isSafeInteger(pid) || Number(pid) <= 0) return undefined;
  return { host, space: textOf(space), pid: Number(pid), start: textOf(start) };
}

/** Whether a process is known to be dead. Of another machine, boot or container nothing is known. */
export function isGone({ host, space, pid, start }: Owner): boolean {
  const here = thisProcess();
  if (host !== here.host || space !== here.space) return false;
  if (!existsProcess(pid)) return true;
  const entry = entryOf(pid);
  // The table of processes can be hidden from other users.
  if (entry === undefined || start === undefined) return false;
  return entry.start !== start || entry.ended;
}

function existsProcess(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    // EPERM: it lives, under another user.
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

interface ProcessEntry {
  readonly start: string | undefined;
  /** Dead, but its parent has not asked for its status yet. */
  readonly ended: boolean;
}

/** proc_pid_stat(5): the name, in parentheses, may hold anything; fields 3 (state) and 22 (start time) come after it. */
function entryOf(pid: number): ProcessEntry | undefined {
  const line = ifReadable(() => readFileSync(`/proc/${pid}/stat`, 'latin1'));
  if (line === undefined) return undefined;
  const fields = line.slice(line.lastIndexOf(')') + 2).split(' ');
  return { start: fields[22 - 3], ended: fields[0] === 'Z' || fields[0] === 'X' };
}

function spaceOfProcesses(): string | undefined {
  return ifReadable(() => {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
    return `${boot} ${readlinkSync('/proc/self/ns/pid')}`;
  });
}

/** Systems without /proc have nothing there. */
function ifReadable<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}
