/** Requests that wait for a later time. They wait in storage, never in a queue: the scaler counts invisible messages too. */
import * as z from 'zod';
import type { DocumentStore, Queue, StoredName } from '../../storage/ports.ts';
import {
  type CopyRequest,
  copyRequestSchema,
  goesFirst,
  type PlanRequest,
  planRequestSchema,
} from '../request.ts';
import { parseStored } from '../stored.ts';

/** Which queue a request came from and goes back to. */
export const lanes = {
  push: 'push-requests',
  plan: 'plan-requests',
  copy: 'copy-requests',
} as const satisfies Record<string, Queue>;
export type Lane = keyof typeof lanes;

/** Where a request that is made here is sent. */
export function laneOf(request: CopyRequest): Lane {
  return goesFirst(request) ? 'push' : 'copy';
}

/** Why something is parked. */
export const limited = 'rate limit';
export const paused = 'paused';

/** A request as it is parked: under the name of the run that sent it, whoever else waits for it. */
export interface ParkedAs {
  readonly run: string;
  readonly id: string;
}

export interface Parking extends ParkedAs {
  readonly key: string;
  /** Milliseconds since the epoch. */
  readonly until: number;
  readonly lane: Lane;
}

const parkedSchema = z.object({
  reason: z.string(),
  request: z.discriminatedUnion('kind', [planRequestSchema, copyRequestSchema]),
});
export type Parked = z.infer<typeof parkedSchema>;

const prefix = 'parked/';
/** Beyond it the texts of times are in another order than the times. */
const lastTime = Date.UTC(9999, 11, 31);
/** A plan that joins hundreds of requests asks for each of them. */
const listedMs = 60_000;
const longestScatterMs = 5 * 60_000;
/** Pushes go first, and plans before what they bring. */
const order = Object.keys(lanes);

export class ParkingLot {
  readonly #state: DocumentStore;
  /** What this process parks and removes since is noted in it. */
  #listed: { readonly at: number; readonly until: Promise<Map<string, number>> } | undefined;

  constructor(state: DocumentStore) {
    this.#state = state;
  }

  async park(request: CopyRequest | PlanRequest, lane: Lane, until: number, reason: string): Promise<void> {
    const time = new Date(Math.min(until, lastTime)).toISOString();
    const key = `${prefix}${time}/${lane}/${request.run}/${request.id}`;
    await this.#state.put(key, Buffer.from(JSON.stringify({ reason, request })));
    await this.#note((listed) => listed.set(parkedName(request), Date.parse(time)));
  }

  /** All that is parked, the soonest first. */
  async *all(): AsyncGenerator<Parking> {
    for await (const name of this.#state.list(prefix)) {
      const parking = parse(name);
      if (parking !== undefined) yield parking;
    }
  }

  /** What waited until now, in the order in which it is to go. */
  async due(now: number): Promise<Parking[]> {
    const due: Parking[] = [];
    for await (const parking of this.all()) {
      if (parking.until > now) break;
      due.push(parking);
    }
    return due.sort((a, b) => order.indexOf(a.lane) - order.indexOf(b.lane));
  }

  /** Until when a run's request is parked, as it was within the last minute; `undefined` where it is not. */
  async untilOf(request: ParkedAs): Promise<number | undefined> {
    return (await this.#listing()).get(parkedName(request));
  }

  /** How many requests are parked, as it was within the last minute. */
  async size(): Promise<number> {
    return (await this.#listing()).size;
  }

  #listing(): Promise<Map<string, number>> {
    const now = Date.now();
    if (this.#listed !== undefined && now - this.#listed.at <= listedMs) return this.#listed.until;
    const until = this.#listUntil();
    this.#listed = { at: now, until };
    until.catch(() => {
      this.#listed = undefined;
    });
    return until;
  }

  async #listUntil(): Promise<Map<string, number>> {
    const until = new Map<string, number>();
    for await (const parking of this.all()) until.set(parkedName(parking), parking.until);
    return until;
  }

  /** `undefined` where it is gone, or is nothing that can be carried out. */
  async load({ key }: Parking): Promise<Parked | undefined> {
    const document = await this.#state.get(key);
    return document && parseStored(document.bytes, parkedSchema);
  }

  /** Whether it is there still, whatever it is. */
  async holds({ key }: Parking): Promise<boolean> {
    return (await this.#state.get(key)) !== undefined;
  }

  async remove(parking: Parking): Promise<void> {
    await this.#state.delete(parking.key);
    const name = parkedName(parking);
    await this.#note((listed) => {
      // It may be parked again, until another time.
      if (listed.get(name) === parking.until) listed.delete(name);
    });
  }

  /** A listing that fails is made again by who asks next. */
  async #note(change: (listed: Map<string, number>) => void): Promise<void> {
    const listed = await this.#listed?.until.catch(() => undefined);
    if (listed !== undefined) change(listed);
  }
}

export function parkedName({ run, id }: ParkedAs): string {
  return `${run}/${id}`;
}

/** Whatever was told the same time comes back over a tenth of its wait longer, and none of it too early. */
export function scattered(until: number): number {
  const waitMs = Math.max(until - Date.now(), 0);
  return until + Math.random() * Math.min(waitMs / 10, longestScatterMs);
}

function parse({ key }: StoredName): Parking | undefined {
  const [time = '', lane = '', run = '', id = ''] = key.slice(prefix.length).split('/');
  const until = Date.parse(time);
  return isLane(lane) && Number.isFinite(until) ? { key, until, lane, run, id } : undefined;
}

function isLane(text: string): text is Lane {
  return Object.hasOwn(lanes, text);
}
