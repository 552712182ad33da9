/** Carries out messages: plans list and ask, requests copy or delete. What becomes of them is settled elsewhere. */

import type { Rules } from '../../config/model.ts';
import { type ErrorSummary, HubferryError, summarize } from '../../errors.ts';
import type { DocumentStore, RequestQueues } from '../../storage/ports.ts';
import { after, deadline, late, StoppedError } from '../concurrency.ts';
import type { Sides } from '../copy/sides.ts';
import { BusyError, type Work } from '../copy/work.ts';
import type { Core } from '../plan/core.ts';
import { PlanProgress } from '../plan/plan-progress.ts';
import { Planning } from '../plan/planning.ts';
import { claimsOnTags } from '../plan/tag-claims.ts';
import type { CopyRequest, FanOutRequest, PlanRequest } from '../request.ts';
import type { Announce, RunBook } from '../runs/book.ts';
import type { EventFields, LogLevel, OnEvent } from '../runs/events.ts';
import { type Lane, lanes, limited, paused, scattered } from '../runs/parked.ts';
import { costOf, linesOf, type Opened } from '../runs/parts.ts';
import type { Line } from '../runs/report.ts';
import { namesOfRule } from '../runs/rule-lines.ts';
import { noTransfer, Tally } from '../runs/tally.ts';
import { idFrom } from '../select/names.ts';
import { forRepository } from '../select/namespace.ts';
import type { Control, Wishes } from './control.ts';
import type { Outstanding } from './outstanding.ts';
import { operationOf, type Settlement } from './settlement.ts';
import { type Wanted, wantedBy } from './wanted.ts';

export interface WorkerOptions {
  readonly core: Core;
  readonly rules: Rules;
  readonly queues: RequestQueues;
  readonly book: RunBook;
  readonly outstanding: Outstanding;
  readonly control: Control;
  /** What is remembered, and how far plans have come. */
  readonly state: DocumentStore;
  /** Milliseconds that one message may be worked on. */
  readonly deadlineMs: number;
  readonly pruneLimit: number;
  /** Pulls that only pushes may use. */
  readonly pullReserve: number;
  /** How often a copy under way looks whether it is still wanted, in milliseconds. @default 15 s */
  readonly watchMs?: number;
  readonly onEvent: OnEvent;
  readonly announce: Announce;
}

/** Attempts at a request that fails in a way that may pass. */
const attempts = 5;
/** A push that the source does not show yet is looked at again after so many milliseconds. */
const looksAgain = [60_000, 240_000];
/** What is on its way at the deadline may go on for so many milliseconds: with the longest deadline that is within ten minutes. */
const graceMs = 45_000;
/** Who only waits for another instance gives the request back. */
const patienceMs = 5000;
/** A request that is given back comes again in about the time that the blob takes, in seconds. */
const busyDelay = { least: 15, most: 300, bytesPerSecond: 20 * 1024 * 1024 };
/** Why something is parked. */
const unseen = 'the source may not show the push yet';
const watchMs = 15_000;
/** Before a tag moves it is asked again, if the last look is so many milliseconds ago. */
const askedAgainMs = 2000;

export class Worker {
  readonly #options: WorkerOptions;
  readonly #settlement: Settlement;

  constructor(options: WorkerOptions, settlement: Settlement) {
    this.#options = options;
    this.#settlement = settlement;
  }

  /** Carries out a plan request, or as much of it as the time allows. */
  async plan(request: PlanRequest): Promise<void> {
    const { book, control, announce } = this.#options;
    const { id, run } = request;
    // The first end stands: what it opened is under way.
    if (await book.hasEnded(run, id)) return void (await book.close(run, announce));
    // What it would find is told in its report alone.
    if ((request.verify || request.dryRun) && (await book.isClosed(run))) return;
    const wishes = await control.wishes();
    if (Object.hasOwn(wishes.cancelled, run)) return this.#giveUp(request, []);
    if (wishes.pausedSince !== undefined)
      return this.#settlement.park(request, 'plan', Date.now(), paused, {
        lines: this.#pausedLines(request),
      });
    const { core, rules, state, pruneLimit, pullReserve, queues } = this.#options;
    const operation = request.verify ? 'verify' : 'plan';
    const tally = new Tally();
    const planning = new Planning(request, {
      core,
      rules,
      state,
      pruneLimit,
      pullReserve,
      tally,
      stop: deadline(this.#options.deadlineMs),
      onEvent: this.#eventsOf(request, operation, tally),
      ask: (copy, again) => this.#settlement.ask(copy, { plan: id, again }),
      rests: (copies) => this.#options.outstanding.restsOf(copies, { run, plan: id }),
      send: (plan, delaySeconds) => queues.send(lanes.plan, plan, { delaySeconds }),
      park: (plan, until, found) =>
        this.#settlement.park(plan, 'plan', scattered(until), limited, found, tally),
    });
    await planning.carryOut(async () => {
      const { lines, opened } = planning;
      for (const line of lines) this.#settlement.tellLine(line, request, operation);
      this.#tellPullsLeft(request, tally);
      const again = await this.#lookAgain(request, opened);
      const part = { id, opened: [...opened, ...again], lines, ...costOf(tally) };
      await book.write(run, part, announce);
    });
  }

  /** A plan that waits says so for its rule; a check has no word for that. */
  #pausedLines({ rule: name, repository, verify }: PlanRequest): Line<'deferred'>[] {
    const rule = this.#options.rules.rules.find((one) => one.name === name);
    if (rule === undefined || verify) return [];
    const named = namesOfRule(forRepository(rule, repository ?? rule.source.path));
    return linesOf(named, 'deferred', { reason: paused });
  }

  /** A push that the listing does not show yet is planned once more, in a request of its own. */
  async #lookAgain({ push, ...request }: PlanRequest, opened: readonly Opened[]): Promise<Opened[]> {
    const wait = push === undefined ? undefined : looksAgain[push.looks];
    const rule = this.#options.rules.rules.find(({ name }) => name === request.rule);
    const isFound = opened.some(({ tags }) => tags?.some(({ source }) => source === push?.tag));
    if (push === undefined || wait === undefined || rule === undefined || isFound) return [];
    const looks = push.looks + 1;
    const id = `plan-${idFrom(request.id, looks)}`;
    const { cursor: _, ...next } = { ...request, id, attempt: 0, push: { ...push, looks } };
    await this.#settlement.park(next, 'plan', Date.now() + wait, unseen, { lines: [] });
    return [{ id, ...namesOfRule(forRepository(rule, request.repository ?? rule.source.path)) }];
  }

  /** Carries out a copy or push request. It throws only what a later delivery of the same message can mend. */
  async copy(request: CopyRequest, lane: Lane): Promise<void> {
    const tally = new Tally();
    const wishes = await this.#options.control.wishes();
    if (await this.#isCancelled(request, wishes)) {
      return this.#settlement.end(request, lane, linesOf(request, 'skipped', { reason: 'cancelled' }), tally);
    }
    if (wishes.pausedSince !== undefined) {
      const lines = linesOf(request, 'deferred', { reason: paused });
      return this.#settlement.park(request, lane, Date.now(), paused, { lines }, tally);
    }
    const wanted = wantedBy(this.#options.rules.rules, request);
    if (wanted === undefined) {
      const lines = linesOf(request, 'skipped', { reason: 'no rule asks for it any more' });
      return this.#settlement.end(request, lane, lines, tally);
    }
    const sides = openOr(() => this.#options.core.open(wanted.rule, wanted.target, tally));
    if ('error' in sides) {
      return this.#settlement.end(request, lane, linesOf(request, 'failed', sides), tally);
    }
    await this.#carry(request, lane, wanted, sides, tally);
  }

  async #carry(
    request: CopyRequest,
    lane: Lane,
    { rule, target }: Wanted,
    sides: Sides,
    tally: Tally,
  ): Promise<void> {
    const { core, rules, pullReserve } = this.#options;
    // What is kept back is kept for pushes.
    const reserve = lane === 'push' ? 0 : pullReserve;
    const { stop, end, stillWanted } = this.#watch(request);
    const tags = request.tags.map((tag) => tag.target);
    const work: Work = {
      stop,
      end: after(stop, graceMs),
      tally,
      onEvent: this.#eventsOf(request, operationOf(request, lane), tally),
      patienceMs,
      yields: lane === 'copy',
      again: request.kept !== undefined,
      reserve,
      admitPull: () => core.admitPull(sides.puller, reserve, stop),
      stillWanted,
      claims: claimsOnTags(rule, target, tags, { core, rules, tally, signal: stop }),
    };
    try {
      const carry = request.kind === 'delete' ? core.copier.remove : core.copier.copy;
      await this.#settle(await carry.call(core.copier, request, rule, sides, work), request, lane, tally);
    } catch (error) {
      if (error instanceof StoppedError) return this.#goOnLater(error, request, lane, tally);
      if (error instanceof BusyError)
        return this.#settlement.sendAgain(request, lane, secondsFor(error), [], tally);
      throw error;
    } finally {
      end();
      if (tally.pulls > 0) this.#tellPullsLeft(request, tally);
    }
  }

  /** A deadline before which nothing has come counts as an attempt: what is too slow for one is so for the next. */
  #goOnLater({ message }: StoppedError, request: CopyRequest, lane: Lane, tally: Tally): Promise<void> {
    const next = afterAttempt(request, tally);
    if (message !== late || !this.#isFruitless(tally)) {
      const attempt = Math.min(request.attempt, next.attempt - 1);
      return this.#settlement.sendAgain({ ...next, attempt }, lane, 0, [], tally);
    }
    if (next.attempt < attempts)
      return this.#settlement.sendAgain(next, lane, 5 * 2 ** request.attempt, [], tally);
    const what = `Nothing came from ${request.source} to ${request.target} before the deadline`;
    const error = summarize(new HubferryError('ERR_TIMEOUT', what));
    return this.#settlement.end(request, lane, linesOf(request, 'failed', { error }), tally);
  }

  /** Whether blobs were on their way for most of the time, and nothing has come; waiting for a place is no such thing. */
  #isFruitless({ bytesCopied, blobsMounted, blobs }: Tally): boolean {
    if (bytesCopied > 0 || blobsMounted > 0 || blobs.firstAt === undefined) return false;
    return Date.now() - blobs.firstAt >= this.#options.deadlineMs / 2;
  }

  async #settle(
    result: Awaited<ReturnType<Core['copier']['copy']>>,
    request: CopyRequest,
    lane: Lane,
    tally: Tally,
  ): Promise<void> {
    const { lines, retry, followUp } = result;
    const { looks = 0 } = request;
    const next = afterAttempt(request, tally);
    if (retry !== undefined && next.attempt < attempts) {
      return this.#settlement.sendAgain(next, lane, 5 * 2 ** (next.attempt - 1), lines, tally);
    }
    const again = looksAgain[looks];
    const isUnseen = lines.every(
      ({ outcome, reason }) => outcome === 'unchanged' || reason === 'gone at source',
    );
    if (request.reason === 'push' && isUnseen && again !== undefined) {
      const looked = { ...request, attempt: 0, looks: looks + 1 };
      return this.#settlement.park(looked, lane, Date.now() + again, unseen, { lines }, tally);
    }
    const [first, ...others] = lines.filter((line) => line.outcome === 'deferred');
    if (first !== undefined) {
      const until = Math.max(...[first, ...others].map((line) => Date.parse(line.until ?? '')));
      return this.#settlement.park(request, lane, scattered(until), first.reason ?? '', { lines }, tally);
    }
    await this.#settlement.end(request, lane, lines, tally, followUp);
  }

  /** A request that failed at every delivery: it ends as failed. */
  async poison(request: CopyRequest | PlanRequest | FanOutRequest, lane: Lane): Promise<void> {
    const { id, run } = request;
    const error = summarize(new HubferryError('ERR_POISON', 'The request failed at every delivery'));
    const { code, message } = error;
    this.#log('error', 'poisoned', { run, ...aboutOf(request), code, error: message });
    // What it was to send is sent by `release`, as all that nobody has heard of.
    if (request.kind === 'fan-out') return;
    if (request.kind !== 'plan')
      return this.#settlement.end(request, lane, linesOf(request, 'failed', { error }), new Tally());
    const { book, announce, rules } = this.#options;
    if (await book.hasEnded(run, id)) return void (await book.close(run, announce));
    const rule = rules.rules.find(({ name }) => name === request.rule);
    const named = rule && namesOfRule(forRepository(rule, request.repository ?? rule.source.path));
    await this.#giveUp(request, named === undefined ? [] : linesOf(named, 'failed', { error }));
  }

  /** A plan that comes no more: what it asked for and may never have been sent is waited for by nobody. */
  async #giveUp({ run, id }: PlanRequest, lines: readonly Line[]): Promise<void> {
    const sent = await PlanProgress.askedBy(this.#options.state, run, id);
    await this.#options.outstanding.doubt(run, id, sent);
    const part = { id, opened: [], lines, transfer: noTransfer() };
    await this.#options.book.write(run, part, this.#options.announce);
  }

  /** What is told of the work on a request says whose it is. */
  #eventsOf(request: CopyRequest | PlanRequest, operation: string, tally: Tally): OnEvent {
    const own = { run: request.run, operation, rule: request.rule };
    return (event) => {
      tally.blobs.note(event);
      this.#options.onEvent(event.type === 'log' ? { ...event, fields: { ...own, ...event.fields } } : event);
    };
  }

  #tellPullsLeft({ run, rule: name }: CopyRequest | PlanRequest, { allowance }: Tally): void {
    const rule = this.#options.rules.rules.find((one) => one.name === name);
    if (allowance === undefined || rule === undefined) return;
    this.#log('info', 'pulls left', { run, host: rule.source.host, pullsLeft: allowance.remaining });
  }

  /** Whether every run that waits for the request was cancelled. */
  async #isCancelled(request: CopyRequest, { cancelled }: Wishes): Promise<boolean> {
    if (!Object.hasOwn(cancelled, request.run)) return false;
    const runs = await this.#options.outstanding.runsOf(request);
    return runs.every((run) => Object.hasOwn(cancelled, run));
  }

  async #isUnwanted(request: CopyRequest): Promise<boolean> {
    const wishes = await this.#options.control.wishes();
    return wishes.pausedSince !== undefined || this.#isCancelled(request, wishes);
  }

  /** Work on a request stops at its deadline, and when people no longer want it. */
  #watch(request: CopyRequest): { stop: AbortSignal; end: () => void; stillWanted: () => Promise<void> } {
    const stop = new AbortController();
    let lookedAt = Date.now();
    const abort = (reason: string) => {
      if (stop.signal.aborted) return;
      this.#log('info', 'stopped', { run: request.run, target: request.target, reason });
      stop.abort(new StoppedError(reason));
    };
    const timer = setTimeout(abort, this.#options.deadlineMs, late);
    const look = async () => {
      lookedAt = Date.now();
      // Whoever cannot be asked now is asked again, or the deadline comes.
      if (await this.#isUnwanted(request).catch(() => false)) abort('It is paused or cancelled');
    };
    const looks = setInterval(look, this.#options.watchMs ?? watchMs);
    const end = () => {
      clearTimeout(timer);
      clearInterval(looks);
    };
    // Most requests are done before there is anything to ask.
    const stillWanted = async () => {
      if (Date.now() - lookedAt >= askedAgainMs) await look();
      stop.signal.throwIfAborted();
    };
    return { stop: stop.signal, end, stillWanted };
  }

  #log(level: LogLevel, message: string, fields: EventFields): void {
    this.#options.onEvent({ type: 'log', level, message, fields });
  }
}

function aboutOf(request: CopyRequest | PlanRequest | FanOutRequest): EventFields {
  switch (request.kind) {
    case 'fan-out':
      return {};
    case 'plan':
      return { rule: request.rule };
    default:
      return { rule: request.rule, source: request.source, target: request.target };
  }
}

/** Spread: those who wait for one blob do not all come at once. */
function secondsFor({ size }: BusyError): number {
  const { least, most, bytesPerSecond } = busyDelay;
  return Math.round(Math.max(least, Math.min(size / bytesPerSecond, most)) * (1 + Math.random() / 2));
}

/** A target that may not be opened is an outcome, not a fault of the delivery. */
function openOr(open: () => Sides): Sides | { readonly error: ErrorSummary } {
  try {
    return open();
  } catch (error) {
    return { error: summarize(error) };
  }
}

/** The request for another attempt. Attempts count from the first one on that found no more at the target than the one before. */
function afterAttempt(request: CopyRequest, { kept }: Tally): CopyRequest {
  const before = request.kept ?? 0;
  const attempt = kept > before ? 1 : request.attempt + 1;
  return { ...request, kept: Math.max(kept, before), attempt };
}
