/** Waiting: for the time that a registry has named, and between two attempts. */
import { setTimeout as delay } from 'node:timers/promises';

/** A wait that is kept by whoever meets it, in milliseconds; a longer one defers. */
export const longestWaitMs = 60_000;
/** Whoever names a time that is over already is left alone for so many milliseconds. */
const leastWaitMs = 3000;
/** The longest delay that a timer of Node takes; a longer one would fire at once. */
const longestTimerMs = 2 ** 31 - 1;

/** Whether a time (milliseconds since the epoch) is waited for wherever it is met. */
export function isSoon(until: number): boolean {
  return until - Date.now() <= longestWaitMs;
}

/** The time, or a later one where it is so near that nobody would be left alone. */
export function notAtOnce(until: number): number {
  return Math.max(until, Date.now() + leastWaitMs);
}

/** Resolves at a time, and not before. @throws the signal's reason as soon as it is aborted */
export async function sleepUntil(until: number, signal: AbortSignal): Promise<void> {
  for (let ms = until - Date.now(); ms > 0; ms = until - Date.now()) {
    await pause(Math.min(ms, longestTimerMs), signal);
  }
}

/** Waits so many milliseconds, which a timer of Node can take. @throws the signal's reason, and no AbortError of Node's own */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal }).catch(() => signal.throwIfAborted());
}
