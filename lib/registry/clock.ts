import { setTimeout as delay } from 'node:timers/promises';

/** The longest delay that a timer of Node takes; a longer one would fire at once. */
const longestTimerMs = 2 ** 31 - 1;

/** Time as this room sees it: tests bring their own. */
export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number;
  /** Resolves after so many milliseconds, or earlier where that is weeks away; rejects with the signal's reason. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  now: Date.now,
  async sleep(ms, signal) {
    try {
      await delay(Math.min(ms, longestTimerMs), undefined, signal === undefined ? {} : { signal });
    } catch (error) {
      // The timer rejects with an AbortError of its own; what passes on is why the caller stopped.
      signal?.throwIfAborted();
      throw error;
    }
  },
};
