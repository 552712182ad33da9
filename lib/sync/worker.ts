/** What the function app does with its messages: plans are fanned out, requests carried out, parked, and sent again. */
import { createHash } from 'node:crypto';
import type { Rule, Rules, RuleTarget } from '../config/model.ts';
import { type ErrorSummary, HubferryError, summarize } from '../errors.ts';
import type { Digest } from '../oci/descriptor.ts';
import type { DocumentStore, RequestQueues } from '../storage/ports.ts';
import type { Announce, Opening, RunBook } from './book.ts';
import { type Checkpoint, tidyCheckpoints, type UploadEnds } from './checkpoint.ts';
import { after, forEachOf, StoppedError } from './concurrency.ts';
import type { Control, Wishes } from './control.ts';
import { moved, type Sides } from './copier.ts';
import type { Core } from './direct.ts';
import type { EventFields, LogLevel, OnEvent } from './events.ts';
import { forRepository, isNamespace } from './namespace.ts';
import type { Claim, Outstanding, Waiter } from './outstanding.ts';
import { type Lane, lanes, type Parking, type ParkingLot, scattered } from './parked.ts';
import { type Found, linesOf, type Opened, type Part, type Sent } from './parts.ts';
import { PlanProgress, tidyPlans } from './plan-progress.ts';
import { Planning } from './planning.ts';
import { lateReferrers } from './referrers.ts';
import { repairsOf } from './repairs.ts';
import type { Line, SyncOutcome, Trigger } from './report.ts';
import {
  type CopyRequest,
  copyRequestSchema,
  type FanOutRequest,
  type PlanRequest,
  tagsPerPlan,
} from './request.ts';
import { namesOfRule } from './rule-lines.ts';
import { matchesNames, needsWholeList } from './select.ts';
import { claimsOnTags } from './tag-claims.ts';
import { noTransfer, Tally } from './tally.ts';
import { tellUntold } from './untold.ts';
import { BusyError, type Work } from './work.ts';

export interface WorkerOptions {
  readonly core: Core;
  readonly rules: Rules;
  readonly queues: RequestQueues;
  readonly book: RunBook;
  readonly parked: ParkingLot;
  readonly outstanding: Outstanding;
  /** Milliseconds that one message may be worked on. */
  readonly deadlineMs: number;
  readonly pruneLimit: number;
  /** Pulls that only pushes may use. */
  readonly pullReserve: number;
  readonly checkpoints: DocumentStore;
  /** What is remembered, and how far plans have come. */
  readonly state: DocumentStore;
  readonly control: Control;
  /** How often a copy under way looks whether it is still wanted, in milliseconds. @default 15 s */
  readonly watchMs?: number;
  readonly onEvent: OnEvent;
  readonly announce: Announce;
}

export interface ManualRequest {
  readonly rules?: readonly string[] | undefined;
  /** For a namespace rule: one of its repositories. */
  readonly repository?: string | undefined;
  readonly tags?: readonly string[] | undefined;
  readonly dryRun: boolean;
  readonly force: boolean;
  /** Compare down to every blob, and change nothing. @default false */
  readonly verify?: boolean;
}

/** The run that got the requests, and how many. */
export interface Begun {
  readonly run: string;
  readonly requests: number;
}

interface Sending extends Sent {
  readonly opened: Opened;
}

export interface Push {
  /** Canonical, `docker.io/library/nginx`. */
  readonly repository: string;
  readonly tag: string;
  /** Milliseconds since the epoch. */
  readonly pushedAt: number;
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
/** Why something is stopped. */
const late = 'The deadline is near';
/** Why something is parked. */
const unseen = 'the source may not show the push yet';
const limited = 'rate limit';
const paused = 'paused';
const sendsAtOnce = 8;
/** More pushes than so many are sent by whoever takes the one message that stands for them. */
const fewSends = 3;
const watchMs = 15_000;
/** Before a tag moves it is asked again, if the last look is so many milliseconds ago. */
const askedAgainMs = 2000;
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

export class Worker {
  readonly #options: WorkerOptions;

  constructor(options: WorkerOptions) {
    this.#options = options;
  }

  /** Opens a run with a plan request for each rule (or those that are named). @throws ERR_REQUEST_INVALID for unknown rules */
  async start(run: string, trigger: Trigger, request: ManualRequest): Promise<Begun> {
    const rules = this.#chosen(request.rules);
    const partial = request.tags !== undefined;
    const about = { trigger, opener: 'start-plan', dryRun: request.dryRun, partial };
    const begun = await this.#begin(run, about, (run) =>
      rules.flatMap((rule) => plansFor(run, rule, { ...request, lane: laneOf(trigger) })),
    );
    if (begun.requests === 0) await this.#close(begun.run);
    return begun;
  }

  /** Opens a run for the tags that failed in another one. @throws ERR_RUN_UNKNOWN */
  async retry(run: string, failedIn: string): Promise<Begun> {
    const report = await this.#options.book.report(failedIn);
    if (report === undefined) throw unknownRun(failedIn);
    const repairs = repairsOf(report, this.#options.rules.rules);
    if (repairs.length === 0) return { run: failedIn, requests: 0 };
    const partial = repairs.some(({ tags }) => tags !== undefined);
    const { dryRun } = report.run;
    const about = { trigger: 'manual', opener: 'start-plan', dryRun, partial } as const;
    return this.#begin(run, about, (run) =>
      repairs.flatMap(({ rule, ...request }) => plansFor(run, rule, { ...request, lane: 'push' })),
    );
  }

  /** Ends a run: what it still waits for is skipped, and its messages do nothing. @throws ERR_RUN_UNKNOWN, ERR_REQUEST_INVALID */
  async cancel(run: string): Promise<void> {
    const { book, control, parked, announce } = this.#options;
    if ((await book.standing(run)) === undefined) {
      if ((await book.report(run)) === undefined) throw unknownRun(run);
      throw new HubferryError('ERR_REQUEST_INVALID', 'The run is closed already');
    }
    await control.cancel(run);
    await book.close(run, announce, 'cancelled');
    for await (const parking of parked.all()) if (parking.run === run) await this.#unpark(parking);
  }

  /** Turns a push into requests: 0 where no rule wants the tag. */
  async push(run: string, push: Push): Promise<Begun> {
    const [begun = { run, requests: 0 }] = await this.pushAll(run, [push]);
    return begun;
  }

  /** Enters several pushes into the book at once. */
  async pushAll(wanted: string, pushes: readonly Push[]): Promise<Begun[]> {
    const messagesOf = (run: string, push: Push) =>
      this.#options.rules.rules
        .filter((rule) => wants(rule, push))
        .flatMap((rule) => this.#pushMessages(run, rule, push));
    const counts = pushes.map((push) => messagesOf(wanted, push).length);
    if (counts.every((count) => count === 0)) return counts.map(() => ({ run: wanted, requests: 0 }));
    const names = pushes.map(({ repository, tag, pushedAt }) => `${repository}\n${tag}\n${pushedAt}`);
    const about = { trigger: 'webhook', opener: `start-${hash(names.join('\n'))}` } as const;
    const { run } = await this.#begin(wanted, about, (run) => {
      const messages = pushes.flatMap((push) => messagesOf(run, push));
      // One that was told twice is one request.
      return [...new Map(messages.map((sending) => [sending.message.id, sending])).values()];
    });
    return counts.map((requests) => ({ run, requests }));
  }

  /** Enters the requests into the book, and then sends them; a flood of pushes as one message, for whoever tells them waits. */
  async #begin(
    run: string,
    about: Pick<Opening, 'trigger' | 'opener' | 'partial'> & { readonly dryRun?: boolean | undefined },
    requestsFor: (run: string) => Sending[],
  ): Promise<Begun> {
    const { book } = this.#options;
    let sends: Sending[] = [];
    const start = (run: string) => {
      sends = requestsFor(run);
      return {
        opened: sends.map(({ opened }) => opened),
        sends: sends.map(({ opened: _, ...sent }) => sent),
      };
    };
    const { trigger, opener, dryRun = false, partial = false } = about;
    const startedAt = new Date();
    const begun = await book.open({ run, trigger, opener, dryRun, partial, startedAt, start });
    const isFlood = trigger === 'webhook' && sends.length > fewSends;
    await this.#send(isFlood ? [fanOutOf(begun, opener)] : sends);
    return { run: begun, requests: sends.length };
  }

  /** Sends what stands in the book since it was begun. */
  async fanOut({ id, run }: FanOutRequest): Promise<void> {
    await this.#send(await this.#options.book.sendsOf(run, id));
  }

  #send(sends: readonly Sent[]): Promise<void> {
    return forEachOf(sends, sendsAtOnce, ({ queue, message }) => this.#options.queues.send(queue, message));
  }

  #pushMessages(run: string, rule: Rule, push: Push): Sending[] {
    const id = hash(`${rule.name}\n${push.repository}\n${push.tag}\n${push.pushedAt}`);
    const path = push.repository.slice(push.repository.indexOf('/') + 1);
    if (needsWholeList(rule)) {
      const { tag, pushedAt } = push;
      const about = { rule: rule.name, repository: path, push: { tag, pushedAt } };
      const message = { kind: 'plan', id: `plan-${id}`, run, ...about };
      return [{ queue: 'plan-requests', message, opened: { ...namesOfRule(rule), id: message.id } }];
    }
    return forRepository(rule, path).targets.map((target, index) => {
      const message = {
        kind: 'copy',
        id: `push-${id}-${index}`,
        run,
        rule: rule.name,
        source: push.repository,
        target: `${target.host}/${target.path}`,
        tags: [{ source: push.tag, target: targetTag(rule, target, push.tag) }],
        reason: 'push',
        pushedAt: push.pushedAt,
      };
      return { queue: 'push-requests', message, opened: openedBy(message) };
    });
  }

  /** Carries out a plan request, or as much of it as the time allows. */
  async plan(request: PlanRequest): Promise<void> {
    const { id, run } = request;
    // The first end stands: what it opened is under way.
    if (await this.#options.book.hasEnded(run, id)) return this.#close(run);
    // What it would find is told in its report alone.
    if ((request.verify || request.dryRun) && (await this.#options.book.isClosed(run))) return;
    const wishes = await this.#options.control.wishes();
    if (Object.hasOwn(wishes.cancelled, run)) return this.#giveUp(request, []);
    if (wishes.pausedSince !== undefined)
      return this.#park(request, 'plan', Date.now(), paused, { lines: this.#pausedLines(request) });
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
      stop: this.#deadline(),
      onEvent: this.#eventsOf(request, operation, tally),
      ask: (copy, lane) => this.#ask(copy, lane, id),
      send: (plan, delaySeconds) => queues.send(lanes.plan, plan, { delaySeconds }),
      park: (plan, until, found) => this.#park(plan, 'plan', scattered(until), limited, found, tally),
    });
    await planning.carryOut(async () => {
      const { lines, opened } = planning;
      for (const line of lines) this.#tellLine(line, request, operation);
      this.#tellPullsLeft(request, tally);
      const again = await this.#lookAgain(request, opened);
      await this.#write(run, { id, opened: [...opened, ...again], lines, ...costOf(tally) });
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
    const id = `plan-${hash(`${request.id}\n${looks}`)}`;
    const { cursor: _, ...next } = { ...request, id, attempt: 0, push: { ...push, looks } };
    await this.#park(next, 'plan', Date.now() + wait, unseen, { lines: [] });
    return [{ id, ...namesOfRule(forRepository(rule, request.repository ?? rule.source.path)) }];
  }

  /** Sends what nobody has asked for; what somebody has ends in this run too. */
  async #ask(request: CopyRequest, lane: Lane, plan: string): Promise<Opened[]> {
    const { outstanding } = this.#options;
    const isPush = request.pushedAt !== undefined;
    const { sends, joins } = await (isPush
      ? outstanding.overtake(request, plan)
      : outstanding.claim(request, plan));
    await this.#sendClaimed({ sends, joins }, request, lane);
    return [...sends, ...joins].map(({ id, tags }) => openedBy({ ...request, id, tags }));
  }

  async #sendClaimed({ sends, joins }: Claim, request: CopyRequest, lane: Lane): Promise<void> {
    const { outstanding, queues } = this.#options;
    for (const one of sends) {
      try {
        await queues.send(lanes[lane], one);
      } catch (error) {
        if (isRefusal(error)) await outstanding.withdraw(one);
        if (isRefusal(error) && one.pushedAt !== undefined) await outstanding.forgetPush(one);
        throw error;
      }
    }
    for (const { id, tags, parked } of joins) {
      if (parked === undefined) continue;
      const { until: parkedUntil, ...parkedAs } = parked;
      const until = new Date(parkedUntil).toISOString();
      const lines = linesOf({ ...request, tags }, 'deferred', { reason: 'an earlier run parked it', until });
      const part = { id, opened: [], lines, transfer: noTransfer(), parkedUntil, parkedAs };
      await this.#write(request.run, part);
    }
  }

  /** Carries out a copy or push request. It throws only what a later delivery of the same message can mend. */
  async copy(request: CopyRequest, lane: Lane): Promise<void> {
    const tally = new Tally();
    const wishes = await this.#options.control.wishes();
    if (await this.#isCancelled(request, wishes)) {
      return this.#end(request, lane, linesOf(request, 'skipped', { reason: 'cancelled' }), tally);
    }
    if (wishes.pausedSince !== undefined) {
      const lines = linesOf(request, 'deferred', { reason: paused });
      return this.#park(request, lane, Date.now(), paused, { lines }, tally);
    }
    const rule = this.#ruleFor(request);
    const target = rule?.targets.find((one) => asksFor(rule, one, request));
    if (rule === undefined || target === undefined) {
      const lines = linesOf(request, 'skipped', { reason: 'no rule asks for it any more' });
      return this.#end(request, lane, lines, tally);
    }
    const sides = openOr(() => this.#options.core.open(rule, target, tally));
    if ('error' in sides) {
      return this.#end(request, lane, linesOf(request, 'failed', sides), tally);
    }
    await this.#carry(request, lane, rule, target, sides, tally);
  }

  async #carry(
    request: CopyRequest,
    lane: Lane,
    rule: Rule,
    target: RuleTarget,
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
      if (error instanceof BusyError) return this.#sendAgain(request, lane, secondsFor(error), [], tally);
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
      return this.#sendAgain({ ...next, attempt }, lane, 0, [], tally);
    }
    if (next.attempt < attempts) return this.#sendAgain(next, lane, 5 * 2 ** request.attempt, [], tally);
    const what = `Nothing came from ${request.source} to ${request.target} before the deadline`;
    const error = summarize(new HubferryError('ERR_TIMEOUT', what));
    return this.#end(request, lane, linesOf(request, 'failed', { error }), tally);
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
      return this.#sendAgain(next, lane, 5 * 2 ** (next.attempt - 1), lines, tally);
    }
    const again = looksAgain[looks];
    const isUnseen = lines.every(
      ({ outcome, reason }) => outcome === 'unchanged' || reason === 'gone at source',
    );
    if (request.reason === 'push' && isUnseen && again !== undefined) {
      const looked = { ...request, attempt: 0, looks: looks + 1 };
      return this.#park(looked, lane, Date.now() + again, unseen, { lines }, tally);
    }
    const [first, ...others] = lines.filter((line) => line.outcome === 'deferred');
    if (first !== undefined) {
      const until = Math.max(...[first, ...others].map((line) => Date.parse(line.until ?? '')));
      return this.#park(request, lane, scattered(until), first.reason ?? '', { lines }, tally);
    }
    await this.#end(request, lane, lines, tally, followUp);
  }

  async #park(
    request: CopyRequest | PlanRequest,
    lane: Lane,
    until: number,
    reason: string,
    { lines, opened = [] }: Found,
    tally = new Tally(),
  ): Promise<void> {
    await this.#options.parked.park(request, lane, until, reason);
    for (const line of lines) if (line.outcome === 'deferred') this.#tellLine(line, request, lane);
    const { run, id } = request;
    const waits = { parkedUntil: until, parkedAs: { run, id }, paused: reason === paused };
    const part = { opened, lines, ...costOf(tally), ...waits };
    if (request.kind === 'plan') return void (await this.#write(run, { ...part, id }));
    const teller = this.#teller();
    await this.#options.outstanding.park(request, until, (waiter) => teller.tell(waiter, part));
  }

  async #end(
    request: CopyRequest,
    lane: Lane,
    lines: readonly Line<SyncOutcome>[],
    tally: Tally,
    followUp?: CopyRequest,
  ): Promise<void> {
    const { outstanding } = this.#options;
    for (const line of lines) this.#tellLine(line, request, operationOf(request, lane));
    const part = { opened: [], lines, ...costOf(tally) };
    const teller = this.#teller();
    await outstanding.end(request, async (waiter) => {
      if (followUp === undefined) return teller.tell(waiter, part);
      const next = followedBy(followUp, lane, waiter);
      // In the book first: a request that comes again may find no move any more, and what was to be sent is waited for.
      const sends = [{ queue: lanes[lane], message: next }];
      await teller.tell(waiter, { ...part, opened: [openedBy(next)], sends });
      await this.#sendClaimed(await outstanding.claimWhole(next), next, lane);
    });
    if (!teller.isCounted() && isNews(part)) await tellUntold(this.#options.book, request, part);
    // What people ask for by hand comes in this lane too.
    if (lane !== 'push' || request.pushedAt === undefined) return;
    await this.#takeOver(request, part);
    if (request.digest !== undefined) await outstanding.forgetPush(request);
  }

  /** What a push did well, nobody else needs to do. */
  async #takeOver(request: CopyRequest, part: Omit<Part, 'id'>): Promise<void> {
    const [first] = part.lines;
    const isWell = part.lines.every(({ outcome }) => outcome === 'copied' || outcome === 'unchanged');
    if (first?.digest === undefined || !isWell) return;
    const taken = { ...request, digest: request.digest ?? (first.digest as Digest) };
    // The push itself has counted what it cost.
    await this.#options.outstanding.takeOver(taken, async ({ run, id }) => {
      await this.#write(run, { ...withoutCost(part), id });
    });
  }

  /** What is told of the work on a request says whose it is. */
  #eventsOf(request: CopyRequest | PlanRequest, operation: string, tally: Tally): OnEvent {
    const own = { run: request.run, operation, rule: request.rule };
    return (event) => {
      tally.blobs.note(event);
      this.#options.onEvent(event.type === 'log' ? { ...event, fields: { ...own, ...event.fields } } : event);
    };
  }

  #tellLine(line: Line, request: CopyRequest | PlanRequest, operation: string): void {
    const { run } = request;
    const pushedAt = request.kind !== 'plan' && line.outcome === 'copied' ? request.pushedAt : undefined;
    const since = pushedAt === undefined ? {} : { pushToMirrorMs: Date.now() - pushedAt };
    this.#options.onEvent({ type: 'line', line, fields: { run, operation, ...since } });
  }

  #tellPullsLeft({ run, rule: name }: CopyRequest | PlanRequest, { allowance }: Tally): void {
    const rule = this.#options.rules.rules.find((one) => one.name === name);
    if (allowance === undefined || rule === undefined) return;
    this.#log('info', 'pulls left', { run, host: rule.source.host, pullsLeft: allowance.remaining });
  }

  /**
   * Tells the runs that wait for a request, the one that sent it first: the first that is still open counts what it cost, the
   * others see its end alone.
   */
  #teller(): { tell: (waiter: Waiter, part: Omit<Part, 'id'>) => Promise<void>; isCounted: () => boolean } {
    let isCounted = false;
    return {
      isCounted: () => isCounted,
      tell: async ({ run, id }, part) => {
        const told = isCounted ? withoutCost(part) : part;
        if (await this.#write(run, { ...told, id })) isCounted = true;
      },
    };
  }

  /** The same request once more, as a message of its own: no delivery of this one is burned. What was done so far is noted. */
  async #sendAgain(
    request: CopyRequest,
    lane: Lane,
    delaySeconds: number,
    lines: readonly Line<SyncOutcome>[],
    tally: Tally,
  ): Promise<void> {
    await this.#options.queues.send(lanes[lane], request, { delaySeconds });
    const done = lines.filter(({ outcome }) => outcome === 'copied' || outcome === 'deleted');
    if (done.length === 0 && tally.bytesCopied === 0 && tally.pulls === 0) return;
    const parkedUntil = Date.now() + delaySeconds * 1000;
    const part = { opened: [], lines: done, ...costOf(tally), parkedUntil, sentAgain: true };
    const teller = this.#teller();
    await this.#options.outstanding.note(request, (waiter) => teller.tell(waiter, part));
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
    const deadline = setTimeout(abort, this.#options.deadlineMs, late);
    const look = async () => {
      lookedAt = Date.now();
      // Whoever cannot be asked now is asked again, or the deadline comes.
      if (await this.#isUnwanted(request).catch(() => false)) abort('It is paused or cancelled');
    };
    const looks = setInterval(look, this.#options.watchMs ?? watchMs);
    const end = () => {
      clearTimeout(deadline);
      clearInterval(looks);
    };
    // Most requests are done before there is anything to ask.
    const stillWanted = async () => {
      if (Date.now() - lookedAt >= askedAgainMs) await look();
      stop.signal.throwIfAborted();
    };
    return { stop: stop.signal, end, stillWanted };
  }

  /** Sends parked requests whose time has come, as far as the allowance reaches; closes runs; tidies checkpoints. */
  async release(): Promise<void> {
    const { parked, book, checkpoints, control } = this.#options;
    const signal = this.#deadline();
    const { pausedSince, resumedAt } = await control.wishes();
    // However many are parked, what follows has its time too.
    const half = this.#deadline(this.#options.deadlineMs / 2);
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
      cancel: (checkpoint) => this.#cancelUpload(checkpoint),
      failed: ({ target }, error) => {
        const { code, message } = summarize(error);
        this.#log('warn', 'upload not cancelled', { target, code, error: message });
      },
    };
    await tidyCheckpoints(checkpoints, staleCheckpointMs, ends, signal);
    if (failures.length > 0) throw failures[0];
  }

  /** Sends once more what of an open run was lost, and closes it where it can be. */
  async #attend(run: string, lost: number): Promise<void> {
    const { book, announce } = this.#options;
    for (const sent of await book.unheard(run, Date.now() - sentMs)) await this.#sendLost(sent);
    await book.close(run, announce, { before: lost });
  }

  /** A follow-up has left no trace either where it joined a request that is still outstanding. */
  async #sendLost({ queue, message }: Sent): Promise<void> {
    const { queues, outstanding } = this.#options;
    const request = copyRequestSchema.safeParse(message).data;
    if (request?.reason !== moved) return queues.send(queue, message);
    const lane = queue === lanes.push ? 'push' : 'copy';
    await this.#sendClaimed(await outstanding.claimWhole(request), request, lane);
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
    await this.#park(request, lane, until, limited, { lines: linesOf(request, 'deferred', facts) });
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
    const rule = this.#ruleFor(request);
    const target = rule?.targets.find((one) => asksFor(rule, one, request));
    // What ends without a pull is the copier's: it says why.
    if (rule === undefined || target === undefined) return true;
    const sides = openOr(() => this.#options.core.open(rule, target, new Tally()));
    if ('error' in sides || sides.source.billed !== true) return true;
    const account = `${sides.puller.host} ${sides.puller.login}`;
    const left = budgets.get(account) ?? (await this.#pullsLeft(request, sides, signal));
    budgets.set(account, left - pullsOfARequest);
    return left > 0;
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
  async #cancelUpload({ target: name, location, offset }: Checkpoint): Promise<void> {
    for (const rule of this.#options.rules.rules) {
      const target = rule.targets.find(({ host, path }) => `${host}/${path}` === name);
      if (target === undefined) continue;
      const { target: repository } = this.#options.core.open(rule, target, new Tally());
      return repository.resumeUpload(location, offset).cancel();
    }
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
      return this.#end(request, lane, linesOf(request, 'failed', { error }), new Tally());
    if (await this.#options.book.hasEnded(run, id)) return this.#close(run);
    const rule = this.#options.rules.rules.find(({ name }) => name === request.rule);
    const named = rule && namesOfRule(forRepository(rule, request.repository ?? rule.source.path));
    await this.#giveUp(request, named === undefined ? [] : linesOf(named, 'failed', { error }));
  }

  /** A plan that comes no more: what it asked for and may never have been sent is waited for by nobody. */
  async #giveUp({ run, id }: PlanRequest, lines: readonly Line[]): Promise<void> {
    const sent = await PlanProgress.askedBy(this.#options.state, run, id);
    await this.#options.outstanding.doubt(run, id, sent);
    await this.#write(run, { id, opened: [], lines, transfer: noTransfer() });
  }

  #log(level: LogLevel, message: string, fields: EventFields): void {
    this.#options.onEvent({ type: 'log', level, message, fields });
  }

  /** False where the run was closed already. */
  async #write(run: string, part: Part): Promise<boolean> {
    return (await this.#options.book.write(run, part, this.#options.announce)) !== undefined;
  }

  async #close(run: string): Promise<void> {
    await this.#options.book.close(run, this.#options.announce);
  }

  #chosen(names: readonly string[] | undefined): readonly Rule[] {
    const { rules } = this.#options.rules;
    const unknown = names?.find((name) => !rules.some((rule) => rule.name === name));
    if (unknown !== undefined)
      throw new HubferryError('ERR_REQUEST_INVALID', `There is no rule "${unknown}"`);
    return names === undefined ? rules : rules.filter((rule) => names.includes(rule.name));
  }

  #ruleFor(request: CopyRequest): Rule | undefined {
    const rule = this.#options.rules.rules.find(({ name }) => name === request.rule);
    return rule === undefined
      ? undefined
      : forRepository(rule, request.source.slice(request.source.indexOf('/') + 1));
  }

  #deadline(afterMs = this.#options.deadlineMs): AbortSignal {
    const stop = new AbortController();
    setTimeout(() => stop.abort(new StoppedError(late)), afterMs).unref();
    return stop.signal;
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

function fanOutOf(run: string, opener: string): Sent {
  const message: FanOutRequest = { kind: 'fan-out', id: opener, run };
  return { queue: lanes.push, message };
}

function operationOf({ kind }: CopyRequest, lane: Lane): string {
  return kind === 'delete' ? kind : lane;
}

/** Spread: those who wait for one blob do not all come at once. */
function secondsFor({ size }: BusyError): number {
  const { least, most, bytesPerSecond } = busyDelay;
  return Math.round(Math.max(least, Math.min(size / bytesPerSecond, most)) * (1 + Math.random() / 2));
}

/** Whether somebody misses something who is not told. */
function isNews({ lines, transfer }: Omit<Part, 'id'>): boolean {
  const isIdle = ({ outcome }: Line) => outcome === 'unchanged' || outcome === 'skipped';
  return transfer.bytesCopied > 0 || transfer.pulls > 0 || !lines.every(isIdle);
}

function withoutCost(part: Omit<Part, 'id'>): Omit<Part, 'id'> {
  const lines = part.lines.map(({ bytes: _, ...line }) => line);
  return { ...part, lines, transfer: noTransfer(), pullsLeft: undefined, longestBlobs: undefined };
}

/** What a part tells of the work that was done for it. */
function costOf(tally: Tally): Pick<Part, 'transfer' | 'pullsLeft' | 'longestBlobs'> {
  const transfer = tally.totals();
  return { transfer, pullsLeft: tally.allowance?.remaining, longestBlobs: tally.blobs.longest };
}

/** Whether the queue has not taken what it was sent. What went without an answer may be there. */
function isRefusal(error: unknown): boolean {
  return error instanceof HubferryError && !error.retryable;
}

/** A target that may not be opened is an outcome, not a fault of the delivery. */
function openOr(open: () => Sides): Sides | { readonly error: ErrorSummary } {
  try {
    return open();
  } catch (error) {
    return { error: summarize(error) };
  }
}

/** A follow-up belongs to each run that waited for its request, and is another one than the one before it for the same digest. */
function followedBy(followUp: CopyRequest, lane: Lane, { run }: Waiter): CopyRequest {
  const { id, rule, target, digest, tags } = followUp;
  const names = tags.map((tag) => tag.target);
  return { ...followUp, run, id: `${lane}-${hash([id, rule, target, digest, ...names].join('\n'))}` };
}

/** Nothing is lost while it is paused, nor just because it was. */
function lostBefore(pausedSince: string | undefined, resumedAt: string | undefined): number {
  const before = Date.now() - lostMs;
  return pausedSince !== undefined || Date.parse(resumedAt ?? '') > before ? 0 : before;
}

function unknownRun(run: string): HubferryError {
  return new HubferryError('ERR_RUN_UNKNOWN', `There is no run "${run}"`);
}

interface Planned extends Omit<ManualRequest, 'rules'> {
  readonly lane: PlanRequest['lane'];
}

/** What people ask for goes by the backlog of what a timer asks for. */
function laneOf(trigger: Trigger): PlanRequest['lane'] {
  return trigger === 'manual' ? 'push' : 'copy';
}

/** The plan requests for a rule: several where many tags are named. */
function plansFor(run: string, rule: Rule, request: Planned): Sending[] {
  const { repository, tags, dryRun, force, verify = false, lane } = request;
  const scope = repository === undefined ? {} : { repository };
  const base = { kind: 'plan', run, rule: rule.name, ...scope, dryRun, force, verify, lane };
  const named = repository === undefined ? rule : forRepository(rule, repository);
  const send = (id: string, some: { tags?: string[] }) => {
    const message = { ...base, ...some, id };
    return { queue: 'plan-requests' as const, message, opened: { id, ...namesOfRule(named) } };
  };
  const id = `plan-${hash(`${rule.name}\n${repository ?? ''}`)}`;
  if (tags === undefined) return [send(id, {})];
  const starts = Array.from({ length: Math.ceil(tags.length / tagsPerPlan) }, (_, nth) => nth * tagsPerPlan);
  return starts.map((at) => send(`${id}-${at}`, { tags: tags.slice(at, at + tagsPerPlan) }));
}

/** The request for another attempt. Attempts count from the first one on that found no more at the target than the one before. */
function afterAttempt(request: CopyRequest, { kept }: Tally): CopyRequest {
  const before = request.kept ?? 0;
  const attempt = kept > before ? 1 : request.attempt + 1;
  return { ...request, kept: Math.max(kept, before), attempt };
}

function openedBy({ id, rule, source, target, tags }: Opened): Opened {
  return { id, rule, source, target, tags };
}

function hash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 24);
}

/** Whether a push concerns a rule by its names alone. */
function wants(rule: Rule, push: Push): boolean {
  const { host, path } = rule.source;
  const name = `${host}/${path}`;
  const here = isNamespace(rule.source)
    ? push.repository.startsWith(name.slice(0, -1))
    : push.repository === name;
  return here && matchesNames(rule)(push.tag);
}

/** Whether the rule has these tags go where the request would take them: no message writes under a name of its own. */
function asksFor(rule: Rule, target: RuleTarget, request: CopyRequest): boolean {
  if (`${target.host}/${target.path}` !== request.target) return false;
  return request.tags.every((tag) => {
    if (tag.source !== '') return tag.target === targetTag(rule, target, tag.source);
    return asksForDigest(rule, target, request, tag.target);
  });
}

/** No filter is decided for what has no source tag: it has to be the rule's source itself, or said late about what the target has. */
function asksForDigest(rule: Rule, target: RuleTarget, request: CopyRequest, tag: string): boolean {
  const { selector } = rule.source;
  const isSource = selector.kind === 'digest' && selector.digest === request.digest;
  return isSource ? tag === (target.tags?.[0] ?? '') : tag === '' && request.reason === lateReferrers;
}

function targetTag(rule: Rule, target: RuleTarget, tag: string): string {
  const { selector } = rule.source;
  const index = selector.kind === 'tags' ? selector.tags.indexOf(tag) : 0;
  return target.tags?.[index] ?? tag;
}
