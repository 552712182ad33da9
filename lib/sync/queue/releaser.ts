/** Lets go of what waits: requests whose time has come, runs that nothing is missing of, uploads that nobody came back to. */

import type { Rules } from '../../config/model.ts';
import { HubferryError, summarize } from '../../errors.ts';
import type { DocumentStore, RequestQueues } from '../../storage/ports.ts';
import { deadline } from '../concurrency.ts';
import { moved } from '../copy/carriage.ts';
import { type Checkpoint, tidyCheckpoints, type UploadEnds } from '../copy/checkpoint.ts';
import type { Sides } from '../copy/sides.ts';
import type { Core } from '../plan/core.ts';
import { tidyPlans } from '../plan/plan-progress.ts';
import { type CopyRequest, copyRequestSchema } from '../request.ts';
import type { Announce, RunBook } from '../runs/book.ts';
import type { EventFields, LogLevel, OnEvent } from '../runs/events.ts';
import { type Lane, lanes, limited, type Parking, type ParkingLot } from '../runs/parked.ts';
import { linesOf, type Sent } from '../runs/parts.ts';
import { Tally } from '../runs/tally.ts';
import type { Control } from './control.ts';
import type { Outstanding } from './outstanding.ts';
import type { Settlement } from './settlement.ts';
import { wantedBy } from './wanted.ts';

export interface ReleaserOptions {
  readonly core: Core;
  readonly rules: Rules;
  readonly queues: RequestQueues;
  readonly book: RunBook;
  readonly parked: ParkingLot;
  readonly outstanding: Outstanding;
  readonly control: Control;
  readonly checkpoints: DocumentStore;
  /** How far plans have come. */
  readonly state: DocumentStore;
  /** Milliseconds that one round may take. */
  readonly deadlineMs: number;
  /** Pulls that only pushes may use. */
  readonly pullReserve: number;
  readonly onEvent: OnEvent;
  readonly announce: Announce;
}

/** What the allowance does not reach waits so many milliseconds, up to twice as long, for the next look. */
const parkAgainMs = { least: 5 * 60_000, forEachParked: 2000, most: 2 * 3600_000 };
/** A manifest, or an index with the children that changed: most requests are one or the other. */
const pullsOfARequest = 2;
/** What was sent so many milliseconds ago and has left no trace is sent again. */
const sentMs = 15 * 60_000;
/** A run that has heard nothing for so many milliseconds ends without what is missing; plans found it again meanwhile. */
const lostMs = 48 * 3600_000;
/** A plan that nobody came back to for so many milliseconds was lost, and made again since. */
const stalePlanMs = 48 * 3600_000;
/** Registries drop upload sessions after about a week (distribution's default is 168 h). */
const staleCheckpointMs = 7 * 24 * 3600_000;

export class Releaser {
  readonly #options: ReleaserOptions;
  readonly #settlement: Settlement;

  constructor(options: ReleaserOptions, settlement: Settlement) {
    this.#options = options;
    this.#settlement = settlement;
  }

  /** Sends parked requests whose time has come, as far as the allowance reaches; closes runs; tidies checkpoints. */
  async release(): Promise<void> {
    const { parked, book, checkpoints, control } = this.#options;
    const signal = deadline(this.#options.deadlineMs);
    const { pausedSince, resumedAt } = await control.wishes();
    // However many are parked, what follows has its time too.
    const half = deadline(this.#options.deadlineMs / 2);
    if (pausedSince === undefined) await this.#releaseParked(await parked.due(Date.now()), half);
    const failures: unknown[] = [];
    for (const run of await book.openRuns()) {
      // What goes wrong with one run keeps no other open.
      await this.#attend(run, lostBefore(pausedSince, resumedAt)).catch((error) => failures.push(error));
    }
    await tidyPlans(this.#options.state, stalePlanMs);
    await this.#options.outstanding.tidy(lostMs);
    await book.tidy(lostMs);
    const ends: UploadEnds = {
      cancel: (checkpoint, signal) => this.#cancelUpload(checkpoint, signal),
      failed: ({ target }, error) => {
        const { code, message } = summarize(error);
        this.#log('warn', 'upload not cancelled', { target, code, error: message });
      },
    };
    await tidyCheckpoints(checkpoints, staleCheckpointMs, ends, signal);
    if (failures.length > 0) throw failures[0];
  }

  /** Ends a run: what it still waits for is skipped, and its messages do nothing. @throws ERR_RUN_UNKNOWN, ERR_REQUEST_INVALID */
  async cancel(run: string): Promise<void> {
    const { book, control, parked, announce } = this.#options;
    if ((await book.standing(run)) === undefined) {
      if ((await book.report(run)) === undefined)
        throw new HubferryError('ERR_RUN_UNKNOWN', `There is no run "${run}"`);
      throw new HubferryError('ERR_REQUEST_INVALID', 'The run is closed already');
    }
    await control.cancel(run);
    await book.close(run, announce, 'cancelled');
    for await (const parking of parked.all()) if (parking.run === run) await this.#unpark(parking);
  }

  /** Sends once more what of an open run was lost, and closes it where it can be. */
  async #attend(run: string, lost: number): Promise<void> {
    const { book, announce } = this.#options;
    for (const sent of await book.unheard(run, Date.now() - sentMs)) await this.#sendLost(sent);
    await book.close(run, announce, { before: lost });
  }

  /** A follow-up has left no trace either where it joined a request that is still outstanding. */
  async #sendLost({ queue, message }: Sent): Promise<void> {
    const request = copyRequestSchema.safeParse(message).data;
    if (request?.reason !== moved) return this.#options.queues.send(queue, message);
    await this.#settlement.sendFollowUp(request);
  }

  async #releaseParked(due: readonly Parking[], signal: AbortSignal): Promise<void> {
    const budgets = new Map<string, number>();
    for (const parking of due) {
      // The next release, in a minute, goes on.
      if (signal.aborted) return;
      await this.#unpark(parking, (request) => this.#withinAllowance(request, budgets, signal));
    }
  }

  /** Sends a parked request where it is admitted, else it waits some more. */
  async #unpark(parking: Parking, admit = async (_: CopyRequest) => true): Promise<void> {
    const { parked, queues, outstanding } = this.#options;
    const { lane } = parking;
    const found = await parked.load(parking);
    if (found !== undefined) {
      const { request, reason } = found;
      if (lane !== 'copy' || request.kind === 'plan' || (await admit(request))) {
        if (request.kind !== 'plan') await outstanding.sendAgain(request);
        await queues.send(lanes[lane], request);
      } else await this.#putOff(request, lane, reason);
    } else if (await parked.holds(parking)) {
      this.#log('error', 'parked request dropped', { run: parking.run, request: parking.id });
    }
    await parked.remove(parking);
  }

  /** Parks what the allowance does not reach. A look costs no more writes than that: who waits is told where the reason is another one. */
  async #putOff(request: CopyRequest, lane: Lane, reason: string): Promise<void> {
    const until = await this.#nextLook();
    if (reason === limited) return this.#options.parked.park(request, lane, until, reason);
    const facts = { reason: limited, until: new Date(until).toISOString() };
    await this.#settlement.park(request, lane, until, limited, {
      lines: linesOf(request, 'deferred', facts),
    });
  }

  /** The more wait for the same allowance, the later each looks again: a look costs writes, and the first ones use it up. */
  async #nextLook(): Promise<number> {
    const { least, forEachParked, most } = parkAgainMs;
    const wait = Math.max(least, Math.min(forEachParked * (await this.#options.parked.size()), most));
    return Date.now() + wait * (1 + Math.random());
  }

  /** Takes the pulls of a request from what its login has left; a HEAD tells that for nothing, once a release. */
  async #withinAllowance(
    request: CopyRequest,
    budgets: Map<string, number>,
    signal: AbortSignal,
  ): Promise<boolean> {
    const sides = this.#sidesOf(request);
    // What ends without a pull is the copier's: it says why.
    if (sides?.source.billed !== true || request.kind === 'delete') return true;
    const account = `${sides.puller.host} ${sides.puller.login}`;
    const left = budgets.get(account) ?? (await this.#pullsLeft(request, sides, signal));
    budgets.set(account, left - pullsOfARequest);
    return left > 0;
  }

  /** Undefined where nobody asks for it any more, or where a side may not be opened. */
  #sidesOf(request: CopyRequest): Sides | undefined {
    const { core, rules } = this.#options;
    const wanted = wantedBy(rules.rules, request);
    try {
      return wanted && core.open(wanted.rule, wanted.target, new Tally());
    } catch {
      return undefined;
    }
  }

  async #pullsLeft(request: CopyRequest, { source, puller }: Sides, signal: AbortSignal): Promise<number> {
    const reference = request.tags[0]?.source || request.digest;
    // A source that cannot be asked will say so to the copier, whose business it is.
    if (reference !== undefined) await source.resolve(reference, { signal }).catch(() => undefined);
    const { allowance } = puller;
    return allowance === undefined
      ? Number.POSITIVE_INFINITY
      : allowance.remaining - this.#options.pullReserve;
  }

  /** Ends the session of a checkpoint that nobody came back to, where a rule still names its target. */
  async #cancelUpload({ target: name, location, offset }: Checkpoint, signal: AbortSignal): Promise<void> {
    for (const rule of this.#options.rules.rules) {
      const target = rule.targets.find(({ host, path }) => `${host}/${path}` === name);
      if (target === undefined) continue;
      const { target: repository } = this.#options.core.open(rule, target, new Tally());
      return repository.resumeUpload(location, offset).cancel({ signal });
    }
  }

  #log(level: LogLevel, message: string, fields: EventFields): void {
    this.#options.onEvent({ type: 'log', level, message, fields });
  }
}

/** Nothing is lost while it is paused, nor just because it was. */
function lostBefore(pausedSince: string | undefined, resumedAt: string | undefined): number {
  const before = Date.now() - lostMs;
  return pausedSince !== undefined || Date.parse(resumedAt ?? '') > before ? 0 : before;
}
