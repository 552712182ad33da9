/** Mutual exclusion between the processes that use one folder. */
import { randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

/**
 * A file that is there while a process is inside, which is for well under a millisecond. One that stays far longer was
 * left by a process that was killed; each that waits measures that by its own clock.
 */
export class FolderLock {
  readonly #path: string;
  readonly #abandonedAfterMs: number;

  constructor(path: string, abandonedAfterMs = 10_000) {
    this.#path = path;
    this.#abandonedAfterMs = abandonedAfterMs;
  }

  /** Runs something while no other process is inside. It is synchronous, so nothing of this process gets between either. */
  async run<T>(work: () => T, signal: AbortSignal | undefined): Promise<T> {
    await this.#enter(signal);
    try {
      return work();
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
      } else if (now - since > this.#abandonedAfterMs) this.#breakOpen(holder);
      await delay(1 + Math.random() * 4, undefined, { signal }).catch(() => signal?.throwIfAborted());
    }
  }

  #tryEnter(): boolean {
    const create = () => writeFileSync(this.#path, randomUUID(), { flag: 'wx', mode: 0o600 });
    try {
      create();
      return true;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EEXIST') return false;
      // Windows tells this for a file that is just being deleted.
      if (code === 'EPERM' && process.platform === 'win32') return false;
      if (code !== 'ENOENT') throw error;
    }
    mkdirSync(dirname(this.#path), { recursive: true, mode: 0o700 });
    return this.#tryEnter();
  }

  #holder(): string | undefined {
    try {
      return readFileSync(this.#path, 'utf8');
    } catch {
      return undefined;
    }
  }

  /** Renaming gives the abandoned lock to one process only, of all that wait for it. */
  #breakOpen(holder: string | undefined): void {
    if (this.#holder() !== holder) return;
    const aside = `${this.#path}-${randomUUID()}`;
    try {
      renameSync(this.#path, aside);
    } catch {
      return;
    }
    rmSync(aside);
  }
}
