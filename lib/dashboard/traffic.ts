/** What the runs moved, over time. */
import type { RunSummary } from './answers.ts';
import { day, hour, minute } from './format.ts';

export interface Bucket {
  /** Milliseconds since the epoch. */
  readonly from: number;
  readonly to: number;
  readonly runs: number;
  readonly bytes: number;
  readonly pulls: number;
}

const widths = [1, 3, 6, 12, 24, 48].map((hours) => hours * hour);
const week = 7 * day;
const bucketsAtMost = 32;

/** Slices of equal width from the first run until now, as narrow as still fits the page; days begin at the reader's midnight. */
export function trafficOf(runs: readonly RunSummary[], now: number): Bucket[] {
  const times = runs.map(({ run }) => Date.parse(run.startedAt));
  const first = Math.min(...times, now);
  // One more slice begins before the first run.
  const atLeast = (now - first) / (bucketsAtMost - 1);
  const width = widths.find((one) => one >= atLeast) ?? Math.ceil(atLeast / week) * week;
  const zone = new Date(now).getTimezoneOffset() * minute;
  const begin = Math.floor((first - zone) / width) * width + zone;
  const buckets: { from: number; to: number; runs: number; bytes: number; pulls: number }[] = [];
  for (let from = begin; from <= now; from += width)
    buckets.push({ from, to: from + width, runs: 0, bytes: 0, pulls: 0 });
  for (const [index, { totals }] of runs.entries()) {
    const bucket = buckets[Math.floor(((times[index] ?? now) - begin) / width)];
    if (bucket === undefined) continue;
    bucket.runs += 1;
    bucket.bytes += totals.bytesCopied;
    bucket.pulls += totals.pulls;
  }
  return buckets;
}
