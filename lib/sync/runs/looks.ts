/** When it pays to look whether a run can be closed: a look costs a listing. */
import type { Opened } from './parts.ts';

interface Look {
  /** Requests that were out at the last look, less those that this process has ended since. */
  out: number;
  /** Those of them that open others: until they have ended, their run does not. */
  growing: Set<string>;
  /** Milliseconds since the epoch before which no look is due. */
  notBefore: number;
  readonly opened: Map<string, readonly Opened[]>;
}

/** With so few out, every end may be the last one. */
const fewOut = 16;
/** A look may take one part in so many of the time. */
const lookShare = 20;
const leastPauseMs = 2000;
const runsRemembered = 32;

/** As this process knows it. */
export class Looks {
  readonly #looks = new Map<string, Look>();

  isDue(run: string): boolean {
    const { out, growing, notBefore } = this.#of(run);
    return (out <= fewOut && growing.size === 0) || Date.now() >= notBefore;
  }

  count(run: string, id: string): void {
    const look = this.#of(run);
    look.out -= 1;
    if (look.growing.delete(id) && look.growing.size === 0) look.notBefore = 0;
  }

  note(run: string, seen: { out: number; growing: Set<string>; tookMs: number }): void {
    const { out, growing, tookMs } = seen;
    const pauseMs = Math.max(out <= fewOut ? 0 : leastPauseMs, lookShare * tookMs);
    Object.assign(this.#of(run), { out, growing, notBefore: Date.now() + pauseMs });
  }

  opened(run: string): Map<string, readonly Opened[]> {
    return this.#of(run).opened;
  }

  forget(run: string): void {
    this.#looks.delete(run);
  }

  #of(run: string): Look {
    const look = this.#looks.get(run) ?? { out: 0, growing: new Set(), notBefore: 0, opened: new Map() };
    this.#looks.delete(run);
    this.#looks.set(run, look);
    for (const oldest of this.#looks.keys()) {
      if (this.#looks.size <= runsRemembered) break;
      this.#looks.delete(oldest);
    }
    return look;
  }
}
