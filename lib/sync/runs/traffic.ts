/** What all runs moved, hour by hour: the list of runs forgets the older ones of a busy day, and sums of it would be too small. */
import * as z from 'zod';
import type { DocumentStore } from '../../storage/ports.ts';
import { parseStored } from '../stored.ts';
import type { AnyReport } from './report.ts';

const hourSchema = z.object({
  /** When the hour begins. */
  from: z.string(),
  runs: z.number(),
  /** Tags. */
  copied: z.number(),
  bytes: z.number(),
  pulls: z.number(),
});
const trafficSchema = z.object({
  /** The runs that were taken in last: a run may be told twice, soon after each other. */
  noted: z.array(z.string()),
  /** The oldest first; hours without a run are left out. */
  hours: z.array(hourSchema),
});
type Traffic = z.infer<typeof trafficSchema>;

/** What the runs that began within an hour came to. */
export type TrafficHour = Readonly<z.infer<typeof hourSchema>>;

const key = 'recent/traffic.json';
const hourMs = 3600_000;
const keptMs = 30 * 24 * hourMs;
const notedKept = 200;

export async function noteTraffic(store: DocumentStore, report: AnyReport): Promise<void> {
  for (;;) {
    const document = await store.get(key);
    const known = document === undefined ? { noted: [], hours: [] } : decode(document.bytes);
    if (known.noted.includes(report.run.id)) return;
    const noted = [...known.noted, report.run.id].slice(-notedKept);
    const next = { noted, hours: withRun(known.hours, report) };
    const condition = document === undefined ? { ifAbsent: true } : { ifMatch: document.etag };
    if ((await store.put(key, Buffer.from(JSON.stringify(next)), condition)) !== undefined) return;
  }
}

/** Of the last thirty days. */
export async function readTraffic(store: DocumentStore): Promise<readonly TrafficHour[]> {
  const document = await store.get(key);
  return document === undefined ? [] : decode(document.bytes).hours;
}

function withRun(hours: readonly TrafficHour[], { run, totals }: AnyReport): TrafficHour[] {
  const began = Date.parse(run.startedAt);
  const from = new Date(Math.floor(began / hourMs) * hourMs).toISOString();
  const { runs, copied, bytes, pulls } = hours.find((hour) => hour.from === from) ?? {
    runs: 0,
    copied: 0,
    bytes: 0,
    pulls: 0,
  };
  const hour = {
    from,
    runs: runs + 1,
    copied: copied + ('copied' in totals ? totals.copied : 0),
    bytes: bytes + totals.bytesCopied,
    pulls: pulls + totals.pulls,
  };
  const others = hours.filter((other) => other.from !== from);
  return [...others, hour]
    .filter((one) => began - Date.parse(one.from) < keptMs)
    .sort((a, b) => (a.from < b.from ? -1 : 1));
}

/** What was damaged begins anew: it holds up no run. */
function decode(bytes: Uint8Array): Traffic {
  return parseStored(bytes, trafficSchema) ?? { noted: [], hours: [] };
}
