/** How everything stands: what `GET /api/status` tells. */
import type { DocumentStore } from '../storage/ports.ts';
import type { RunBook, Standing } from './book.ts';
import { type Upload, uploadsUnderWay } from './checkpoint.ts';
import type { Control } from './control.ts';
import type { Parking, ParkingLot } from './parked.ts';
import { linesOf } from './parts.ts';
import type { RunHeader } from './report.ts';
import { listRuns, type RunOverview } from './runs.ts';
import { readTraffic, type TrafficHour } from './traffic.ts';

export interface Status {
  readonly paused: boolean;
  readonly pausedSince?: string;
  readonly openRuns: readonly string[];
  readonly open: readonly OpenRun[];
  /** Blobs on their way, and how far they are. */
  readonly copying: readonly Upload[];
  readonly parked: ParkedRequests;
  /** The last runs of each trigger, the newest first. */
  readonly runs: readonly RunOverview[];
  /** What all runs moved, hour by hour, the oldest first. */
  readonly traffic: readonly TrafficHour[];
}

export interface OpenRun {
  readonly run: RunHeader;
  /** `stuck`: nothing was heard for an hour of what is out. */
  readonly state: 'working' | 'waiting' | 'paused' | 'stuck';
  /** When something was heard of it the last time. */
  readonly since: string;
  readonly why: string;
  /** Requests that are queued or under way. */
  readonly out: number;
  readonly parked: number;
  /** Targets of the first that are out. */
  readonly examples: readonly string[];
}

export interface ParkedRequests {
  readonly count: number;
  /** When the first comes back; none while people have paused everything. */
  readonly next?: string;
  /** By reason, of the first ones. */
  readonly groups: readonly ParkedGroup[];
}

export interface ParkedGroup {
  readonly reason: string;
  readonly count: number;
  /** When the last comes back; absent where people have to let it go on, or where its time has come. */
  readonly until?: string;
  readonly examples: readonly string[];
}

export interface Desk {
  readonly book: RunBook;
  readonly control: Control;
  readonly parked: ParkingLot;
  readonly runs: DocumentStore;
  readonly checkpoints: DocumentStore;
}

const stuckMs = 3600_000;
const [oldestShown, newestShown] = [5, 15];
const parkedRead = 100;
const examplesShown = 5;

export async function readStatus(desk: Desk, now: number): Promise<Status> {
  const { pausedSince } = await desk.control.wishes();
  const paused = pausedSince !== undefined;
  const openRuns = await desk.book.openRuns();
  const [open, copying, parked, runs, traffic] = await Promise.all([
    // One that cannot be read is among the names alone.
    Promise.all(shownOf(openRuns).map((run) => openRun(desk.book, run, paused, now).catch(() => undefined))),
    uploadsUnderWay(desk.checkpoints, now),
    parkedRequests(desk.parked, paused, now),
    listRuns(desk.runs),
    readTraffic(desk.runs),
  ]);
  return {
    paused,
    ...(paused ? { pausedSince } : {}),
    openRuns,
    open: open.flatMap((run) => run ?? []),
    copying,
    parked,
    runs,
    traffic,
  };
}

/** The newest, and the oldest, which may be stuck. */
function shownOf(openRuns: readonly string[]): readonly string[] {
  return [...openRuns.slice(0, oldestShown), ...openRuns.slice(oldestShown).slice(-newestShown)];
}

async function openRun(
  book: RunBook,
  run: string,
  paused: boolean,
  now: number,
): Promise<OpenRun | undefined> {
  const standing = await book.standing(run);
  if (standing === undefined) return undefined;
  const { header, missing, parked } = standing;
  const since = new Date(Math.min(heardOf(standing), now)).toISOString();
  const examples = missing.slice(0, examplesShown).flatMap((opened) => {
    const [line] = linesOf(opened, 'deferred', {});
    return line === undefined ? [] : [line.target];
  });
  const state = stateOf(standing, paused, now);
  return {
    run: header,
    state,
    since,
    why: reasonFor(state, standing, since),
    out: missing.length,
    parked: parked.length,
    examples,
  };
}

function stateOf(standing: Standing, paused: boolean, now: number): OpenRun['state'] {
  const { missing, parked } = standing;
  if (paused) return 'paused';
  const isDone = missing.length === 0 && parked.length === 0;
  if (isDone || (missing.length === 0 && parked.some(({ parkedUntil = 0 }) => parkedUntil > now)))
    return 'waiting';
  return now - heardOf(standing) > stuckMs ? 'stuck' : 'working';
}

/** What is parked is silent until its time; what is out should be heard of. */
function heardOf({ missing, writtenAt, heardAt }: Standing): number {
  return missing.length > 0 ? writtenAt : heardAt;
}

function reasonFor(state: OpenRun['state'], { missing, parked }: Standing, since: string): string {
  const waiting = parked.map(({ parkedUntil = 0 }) => parkedUntil);
  switch (state) {
    case 'paused':
      return 'Copying is paused';
    case 'waiting':
      if (waiting.length === 0) return 'All is done; until its time is over others may join';
      return `${waiting.length} requests are parked, the last until ${new Date(Math.max(...waiting)).toISOString()}`;
    case 'stuck':
      return `Nothing was heard since ${since} of ${missing.length + parked.length} requests: the next plan asks for them again`;
    case 'working':
      return `${missing.length} requests are queued or under way`;
  }
}

/** The reason of what waits until people let it go on: the time that it is parked under is that of the pause. */
const byPeople = 'paused';

async function parkedRequests(lot: ParkingLot, paused: boolean, now: number): Promise<ParkedRequests> {
  let count = 0;
  const first: Parking[] = [];
  for await (const parking of lot.all()) {
    count += 1;
    if (first.length < parkedRead) first.push(parking);
  }
  const read = await Promise.all(
    first.map(async (parking) => ({ parking, parked: await lot.load(parking) })),
  );
  const groups = [...Map.groupBy(read, ({ parked }) => parked?.reason ?? 'gone meanwhile')];
  const timed = paused ? undefined : read.find(({ parked }) => parked?.reason !== byPeople)?.parking;
  return {
    count,
    ...(timed === undefined ? {} : { next: timeOf(timed.until) }),
    groups: groups.map(([reason, of]) => groupOf(reason, of, now)),
  };
}

function groupOf(
  reason: string,
  of: readonly { parking: Parking; parked: Awaited<ReturnType<ParkingLot['load']>> }[],
  now: number,
): ParkedGroup {
  const examples = of.slice(0, examplesShown).flatMap(({ parked }) => {
    if (parked === undefined) return [];
    const { request } = parked;
    return request.kind === 'plan'
      ? [request.rule]
      : linesOf(request, 'deferred', {}).map(({ target }) => target);
  });
  const last = Math.max(...of.map(({ parking }) => parking.until));
  return {
    reason,
    count: of.length,
    ...(reason === byPeople || last <= now ? {} : { until: timeOf(last) }),
    examples: examples.slice(0, examplesShown),
  };
}

function timeOf(time: number): string {
  return new Date(time).toISOString();
}
