/** How everything stands: what `GET /api/status` tells. */
import type { DocumentStore } from '../../storage/ports.ts';
import { type Upload, uploadsUnderWay } from '../copy/checkpoint.ts';
import type { RunBook, Standing } from '../runs/book.ts';
import { paused as byPeople, type Parking, type ParkingLot, parkedName } from '../runs/parked.ts';
import { linesOf } from '../runs/parts.ts';
import type { RunHeader } from '../runs/report.ts';
import { listRuns, type RunOverview } from '../runs/runs.ts';
import { readTraffic, type TrafficHour } from '../runs/traffic.ts';
import type { Control } from './control.ts';

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
  const { pausedSince, resumedAt } = await desk.control.wishes();
  const paused = pausedSince !== undefined;
  const openRuns = await desk.book.openRuns();
  const parkings = await Array.fromAsync(desk.parked.all());
  const moment = { now, paused, resumedAt: Date.parse(resumedAt ?? '') || 0, times: timesOf(parkings) };
  const [open, copying, parked, runs, traffic] = await Promise.all([
    // One that cannot be read is among the names alone.
    Promise.all(shownOf(openRuns).map((run) => openRun(desk.book, run, moment).catch(() => undefined))),
    uploadsUnderWay(desk.checkpoints, now),
    parkedRequests(desk.parked, parkings, moment),
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

interface Moment {
  /** Milliseconds since the epoch, as are the others. */
  readonly now: number;
  readonly paused: boolean;
  /** 0 where nothing was ever paused. */
  readonly resumedAt: number;
  readonly times: ReadonlyMap<string, number>;
}

/** Until when each request is parked, by the name under which it is; and by its id alone, for runs that do not know whose it is. */
function timesOf(parkings: readonly Parking[]): ReadonlyMap<string, number> {
  const named = parkings.map((parking) => [parkedName(parking), parking.until] as const);
  // Plans of different runs have nothing to do with each other.
  const joined = parkings.filter(({ lane }) => lane !== 'plan').map(({ id, until }) => [id, until] as const);
  return new Map([...named, ...joined]);
}

async function openRun(book: RunBook, run: string, moment: Moment): Promise<OpenRun | undefined> {
  const standing = await book.standing(run);
  if (standing === undefined) return undefined;
  const { header, missing, parked } = standing;
  const since = new Date(Math.min(heardOf(standing), moment.now)).toISOString();
  const examples = missing.slice(0, examplesShown).flatMap((opened) => {
    const [line] = linesOf(opened, 'deferred', {});
    return line === undefined ? [] : [line.target];
  });
  // What the parking has no more was sent again.
  const times = parked.flatMap(
    ({ id, parkedAs }) => moment.times.get(parkedAs) ?? moment.times.get(id) ?? [],
  );
  const last = times.reduce((latest, time) => Math.max(latest, time), 0);
  const counts = { out: missing.length + parked.length - times.length, parked: times.length };
  const state = stateOf(standing, last, moment);
  return {
    run: header,
    state,
    since,
    why: reasonFor(state, { ...counts, last, since }, moment),
    ...counts,
    examples,
  };
}

/** `last`: when the last of what is parked comes back, 0 where nothing is. */
function stateOf(standing: Standing, last: number, { paused, now, resumedAt }: Moment): OpenRun['state'] {
  const { missing, parked } = standing;
  if (paused) return 'paused';
  if (missing.length === 0 && parked.length === 0) return 'waiting';
  // Of what waited for people nobody could hear, and what is due goes with the next release.
  const since = Math.max(heardOf(standing), resumedAt, missing.length > 0 ? 0 : last);
  if (now - since > stuckMs) return 'stuck';
  return missing.length === 0 && last > 0 ? 'waiting' : 'working';
}

/** What is parked is silent until its time; what is out should be heard of. */
function heardOf({ missing, writtenAt, heardAt }: Standing): number {
  return missing.length > 0 ? writtenAt : heardAt;
}

interface Waits extends Pick<OpenRun, 'out' | 'parked' | 'since'> {
  /** When the last of what is parked comes back, in milliseconds since the epoch. */
  readonly last: number;
}

function reasonFor(state: OpenRun['state'], { out, parked, since, last }: Waits, { now }: Moment): string {
  switch (state) {
    case 'paused':
      return 'Copying is paused';
    case 'waiting':
      if (parked === 0) return 'All is done; until its time is over others may join';
      if (last <= now) return `${parked} requests were parked, and their time has come`;
      return `${parked} requests are parked, the last until ${timeOf(last)}`;
    case 'stuck':
      return `Nothing was heard since ${since} of ${out + parked} requests: the next plan asks for them again`;
    case 'working':
      return `${out} requests are queued or under way`;
  }
}

async function parkedRequests(
  lot: ParkingLot,
  parkings: readonly Parking[],
  { paused, now }: Moment,
): Promise<ParkedRequests> {
  const read = await Promise.all(
    parkings.slice(0, parkedRead).map(async (parking) => ({ parking, parked: await lot.load(parking) })),
  );
  const groups = [...Map.groupBy(read, ({ parked }) => parked?.reason ?? 'gone meanwhile')];
  // The time that something is parked under by people is that of the pause.
  const timed = paused ? undefined : read.find(({ parked }) => parked?.reason !== byPeople)?.parking;
  return {
    count: parkings.length,
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
