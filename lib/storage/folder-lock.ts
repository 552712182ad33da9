/** Mutual exclusion between the processes that use one folder. */
import { randomUUID } from 'node:crypto';
import { closeSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { makeDirectory } from './directory.ts';
import { isGone, ownerIn, thisProcess } from './folder-owner.ts';

/**
 * A file that is there while a process is inside, which is for a few milliseconds at most. One whose process is dead is
 * taken away at once. Where that cannot be known, one that stays far longer counts as left by a process that was
 * killed; each that waits measures that by its own clock.
 */
export class FolderLock {
  readonly #path: string;
  readonly #abandonedAfterMs: number;

  constructor(path: string, abandonedAfterMs = 10_000) {
    this.#path = path;
    this.#abandonedAfterMs = abandonedAfterMs;
  }

  /** Runs something while nobody else is inside, of this process or another. */
  async run<T>(work: () => T | Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    await this.#enter(signal);
    try {
      return await work();
    } finally {
      rmSync(this.#path, { force: true });
    }
  }

  async #enter(signal: AbortSignal | undefined): Promise<void> {
    let holder: string | undefined;
    let since = 0;
    while (!this.#tryEnter()) {
      const now = performance.now();
      const seen = this.#holder();
      if (seen !== holder) {
        holder = seen;
        since = now;
      }
      if (holder !== undefined && (isLeft(holder) || now - since > this.#abandonedAfterMs)) {
        await this.#breakOpen(holder, signal);
      }
      await delay(1 + Math.random() * 4, undefined, { signal }).catch(() => signal?.throwIfAborted());
    }
  }

  #tryEnter(): boolean {
    const holder = JSON.stringify({ id: randomUUID(), owner: thisProcess() });
    try {
      this.#make(holder);
      return true;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EEXIST') return false;
      // Windows tells this for a file that is just being deleted.
      if (code === 'EPERM' && process.platform === 'win32') return false;
      if (code !== 'ENOENT') throw error;
    }
    makeDirectory(dirname(this.#path));
    return this.#tryEnter();
  }

  /** Where there is no room for it, such as on a full disk, nothing is left of it. */
  #make(holder: string): void {
    const file = openSync(this.#path, 'wx', 0o600);
    try {
      writeFileSync(file, holder);
    } catch (error) {
      rmSync(this.#path, { force: true });
      throw error;
    } finally {
      closeSync(file);
    }
  }

  /** What tells this holder from the next one, also where another user's lock cannot be read; undefined where there is none. */
  #holder(): string | undefined {
    try {
      return readFileSync(this.#path, 'utf8');
    } catch {
      const there = statSync(this.#path, { throwIfNoEntry: false });
      return there && `${there.ino} since ${there.mtimeMs}`;
    }
  }

  /** Of all that wait, one at a time looks and removes: else the next holder's lock could be removed in between. */
  #breakOpen(holder: string, signal: AbortSignal | undefined): Promise<void> {
    return new FolderLock(`${this.#path}-`, this.#abandonedAfterMs).run(() => {
      if (this.#holder() === holder) rmSync(this.#path, { force: true });
    }, signal);
  }
}

/** Whether the process that wrote this into the lock is dead. */
function isLeft(holder: string): boolean {
  try {
    const owner = ownerIn(JSON.parse(holder).owner);
    return owner !== undefined && isGone(owner);
  } catch {
    return false;
  }
}
