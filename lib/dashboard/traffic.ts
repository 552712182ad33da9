/** What the runs moved, over time. */
import type { TrafficHour } from './answers.ts';
import { day, hour, minute } from './format.ts';

export interface Bucket {
  /** Milliseconds since the epoch. */
  readonly from: number;
  readonly to: number;
  readonly runs: number;
  readonly bytes: number;
  readonly pulls: number;
}

const widths = [1, 3, 6, 12, 24, 48].map((wide) => wide * hour);
const week = 7 * day;
const bucketsAtMost = 32;

/** What began within the last 24 hours, the hour that these begin in included. */
export function lastDay(hours: readonly TrafficHour[], now: number): TrafficHour {
  const all = { from: new Date(now - day).toISOString(), runs: 0, copied: 0, bytes: 0, pulls: 0 };
  for (const { from, runs, copied, bytes, pulls } of hours) {
    if (Date.parse(from) + hour <= now - day) continue;
    all.runs += runs;
    all.copied += copied;
    all.bytes += bytes;
    all.pulls += pulls;
  }
  return all;
}

/** Slices of equal width from the first run until now, as narrow as still fits the page; days begin at the reader's midnight. */
export function trafficOf(hours: readonly TrafficHour[], now: number): Bucket[] {
  const times = hours.map(({ from }) => Date.parse(from));
  const first = Math.min(...times, now);
  // One more slice begins before the first run.
  const atLeast = (now - first) / (bucketsAtMost - 1);
  const width = widths.find((one) => one >= atLeast) ?? Math.ceil(atLeast / week) * week;
  const zone = new Date(now).getTimezoneOffset() * minute;
  const begin = Math.floor((first - zone) / width) * width + zone;
  const buckets: { from: number; to: number; runs: number; bytes: number; pulls: number }[] = [];
  for (let from = begin; from <= now; from += width)
    buckets.push({ from, to: from + width, runs: 0, bytes: 0, pulls: 0 });
  for (const [index, { runs, bytes, pulls }] of hours.entries()) {
    const bucket = buckets[Math.floor(((times[index] ?? now) - begin) / width)];
    if (bucket === undefined) continue;
    bucket.runs += runs;
    bucket.bytes += bytes;
    bucket.pulls += pulls;
  }
  return buckets;
}
