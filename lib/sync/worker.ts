/** What the function app does with its messages: plans are fanned out, requests carried out, parked, and sent again. */
import { createHash } from 'node:crypto';
import type { RepositoryName, Rule, Rules, RuleTarget } from '../config/model.ts';
import { type ErrorSummary, HubferryError, summarize } from '../errors.ts';
import type { DocumentStore, Queue, RequestQueues } from '../storage/ports.ts';
import { BusyError, type Work } from './blob.ts';
import type { Announce, RunBook } from './book.ts';
import { type Checkpoint, tidyCheckpoints } from './checkpoint.ts';
import { forEachOf, StoppedError } from './concurrency.ts';
import type { Sides } from './copier.ts';
import { type Core, failedRule, finalOutcomes } from './direct.ts';
import type { OnEvent } from './events.ts';
import { requestsOf } from './fan-out.ts';
import { Listing } from './listing.ts';
import { forRepository } from './namespace.ts';
import type { Outstanding } from './outstanding.ts';
import type { Lane, ParkingLot } from './parked.ts';
import type { Opened, Part, Sent } from './parts.ts';
import type { Line, SyncOutcome, Trigger } from './report.ts';
import type { CopyRequest, PlanRequest } from './request.ts';
import { claimsOn } from './rivals.ts';
import { matchesNames, needsWholeList } from './select.ts';
import { noTransfer, Tally } from './tally.ts';

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
  readonly isPaused: () => Promise<boolean>;
  readonly onEvent: OnEvent;
  readonly announce: Announce;
}

export interface ManualRequest {
  readonly rules?: readonly string[] | undefined;
  readonly tags?: readonly string[] | undefined;
  readonly dryRun: boolean;
  readonly force: boolean;
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
/** Who only waits for another instance gives the request back. */
const patienceMs = 5000;
const busyDelaySeconds = 15;
const sendsAtOnce = 8;
/** While all is paused a request is looked at again after so many milliseconds; `release` sends none. */
const pausedMs = 60_000;
/** What the allowance does not reach waits so many milliseconds, up to twice as long, for the next look. */
const parkAgainMs = 5 * 60_000;
/** A manifest, or an index with the children that changed: most requests are one or the other. */
const pullsOfARequest = 2;
/** What was sent so many milliseconds ago and has left no trace is sent again. */
const sentMs = 15 * 60_000;
/** A run that has heard nothing for so many milliseconds ends without what is missing; plans found it again meanwhile. */
const lostMs = 48 * 3600_000;
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
    const begun = await this.#begin(run, trigger, 'start-plan', (run) =>
      rules.map((rule) => planFor(run, rule, request)),
    );
    if (rules.length === 0) await this.#close(begun.run);
    return begun;
  }

  /** Turns a push into requests: 0 where no rule wants the tag. */
  async push(run: string, push: Push): Promise<Begun> {
    const wanting = this.#options.rules.rules.filter((rule) => wants(rule, push));
    if (wanting.length === 0) return { run, requests: 0 };
    const opener = `start-${hash(`${push.repository}\n${push.tag}\n${push.pushedAt}`)}`;
    return this.#begin(run, 'webhook', opener, (run) =>
      wanting.flatMap((rule) => this.#pushMessages(run, rule, push)),
    );
  }

  /** Enters the requests into the book, and then sends them. */
  async #begin(
    run: string,
    trigger: Trigger,
    opener: string,
    requestsFor: (run: string) => Sending[],
  ): Promise<Begun> {
    const { book, queues } = this.#options;
    let sends: Sending[] = [];
    const start = (run: string) => {
      sends = requestsFor(run);
      return {
        opened: sends.map(({ opened }) => opened),
        sends: sends.map(({ opened: _, ...sent }) => sent),
      };
    };
    const begun = await book.open({ run, trigger, startedAt: new Date(), opener, start });
    await forEachOf(sends, sendsAtOnce, ({ queue, message }) => queues.send(queue, message));
    return { run: begun, requests: sends.length };
  }

  #pushMessages(run: string, rule: Rule, push: Push): Sending[] {
    const id = hash(`${rule.name}\n${push.repository}\n${push.tag}\n${push.pushedAt}`);
    const path = push.repository.slice(push.repository.indexOf('/') + 1);
    if (needsWholeList(rule)) {
      const message = { kind: 'plan', id: `plan-${id}`, run, rule: rule.name, repository: path };
      return [{ queue: 'plan-requests', message, opened: { ...namesOf(rule), id: message.id } }];
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

  /** Plans one rule for all its targets, and fans the difference out. */
  async plan(request: PlanRequest): Promise<void> {
    // The first end stands: what it opened is under way.
    if (await this.#options.book.hasEnded(request.run, request.id)) return this.#close(request.run);
    const tally = new Tally();
    const lines: Line<SyncOutcome>[] = [];
    const opened: Opened[] = [];
    const stop = this.#deadline();
    try {
      for (const rule of await this.#rulesOf(request, tally, stop)) {
        for (const target of rule.targets) {
          try {
            opened.push(...(await this.#planTarget(request, rule, target, tally, lines, stop)));
          } catch (error) {
            if (stop.aborted) throw error;
            lines.push(failedRule(rule, target, error));
          }
        }
      }
    } catch (error) {
      if (stop.aborted) throw error;
      const rule = this.#options.rules.rules.find(({ name }) => name === request.rule);
      for (const target of rule?.targets ?? [])
        if (rule !== undefined) lines.push(failedRule(rule, target, error));
    }
    await this.#write(request.run, { id: request.id, opened, lines, transfer: tally.totals() });
  }

  async #rulesOf(request: PlanRequest, tally: Tally, signal: AbortSignal): Promise<Rule[]> {
    const rule = this.#options.rules.rules.find(({ name }) => name === request.rule);
    if (rule === undefined) return [];
    if (request.repository !== undefined) return [forRepository(rule, request.repository)];
    return this.#options.core.expand(rule, tally, signal);
  }

  async #planTarget(
    request: PlanRequest,
    rule: Rule,
    target: RuleTarget,
    tally: Tally,
    lines: Line<SyncOutcome>[],
    signal: AbortSignal,
  ): Promise<Opened[]> {
    const { core, rules, onEvent, pruneLimit } = this.#options;
    const sides = core.open(rule, target, tally);
    const source = new Listing(sides.source);
    const list = async (other: Rule, shared: RuleTarget) => {
      const listing = new Listing(core.open(other, shared, tally).source);
      await listing.read(signal);
      return listing;
    };
    const plan = await core.planner.plan({
      rule,
      target,
      sides,
      listings: { source, target: new Listing(sides.target, source) },
      claims: await claimsOn(target, rule, rules.rules, list, signal),
      only: request.tags,
      confirm: request.dryRun,
      force: request.force,
      allowMassDelete: request.allowMassDelete,
      pruneLimit,
      signal,
      onEvent,
    });
    for (const line of plan.lines) {
      const outcome = finalOutcomes[line.outcome];
      if (outcome !== undefined) lines.push({ ...line, outcome });
      else if (request.dryRun)
        lines.push({ ...line, outcome: 'skipped', reason: `would ${line.outcome}: ${line.reason ?? ''}` });
    }
    if (request.dryRun) return [];
    const base = {
      run: request.run,
      rule: rule.name,
      source: sides.source.name,
      target: sides.target.name,
      force: request.force,
    };
    const idOf = (kind: string, digest: string, tags: readonly string[]) =>
      `${kind}-${hash([rule.name, sides.target.name, digest, ...tags].join('\n'))}`;
    const requests = requestsOf(plan, { base, idOf });
    const opened: Opened[] = [];
    await forEachOf(requests, sendsAtOnce, async ({ request: copy, lines: open }) => {
      if (await this.#options.outstanding.claim(copy)) {
        await this.#options.queues.send('copy-requests', copy);
        opened.push(openedBy(copy));
      } else {
        for (const line of open)
          lines.push({ ...line, outcome: 'deferred', reason: 'an earlier run is working on it' });
      }
    });
    return opened;
  }

  /** Carries out a copy or push request. It throws only what a later delivery of the same message can mend. */
  async copy(request: CopyRequest, lane: Lane): Promise<void> {
    const tally = new Tally();
    if (await this.#options.isPaused()) {
      return this.#park(request, lane, Date.now() + pausedMs, [lineOf(request, 'deferred', 'paused')], tally);
    }
    const rule = this.#ruleFor(request);
    const target = rule?.targets.find((one) => asksFor(rule, one, request));
    if (rule === undefined || target === undefined) {
      return this.#end(request, [lineOf(request, 'skipped', 'no rule asks for it any more')], tally);
    }
    const sides = openOr(() => this.#options.core.open(rule, target, tally));
    if ('error' in sides) {
      return this.#end(request, [{ ...lineOf(request, 'failed'), error: sides.error }], tally);
    }
    await this.#carry(request, lane, rule, sides, tally);
  }

  async #carry(request: CopyRequest, lane: Lane, rule: Rule, sides: Sides, tally: Tally): Promise<void> {
    const { core, onEvent, pullReserve } = this.#options;
    // What is kept back is kept for pushes.
    const reserve = lane === 'push' ? 0 : pullReserve;
    const work: Work = {
      stop: this.#deadline(),
      tally,
      onEvent,
      patienceMs,
      admitPull: () => core.admitPull(sides, tally, reserve),
      pullRefused: (error) => core.pullRefused(sides, tally, error),
    };
    try {
      const carry = request.kind === 'delete' ? core.copier.remove : core.copier.copy;
      await this.#settle(await carry.call(core.copier, request, rule, sides, work), request, lane, tally);
    } catch (error) {
      if (error instanceof StoppedError) return this.#sendAgain(request, lane, 0);
      if (error instanceof BusyError) return this.#sendAgain(request, lane, busyDelaySeconds);
      throw error;
    }
  }

  async #settle(
    result: Awaited<ReturnType<Core['copier']['copy']>>,
    request: CopyRequest,
    lane: Lane,
    tally: Tally,
  ): Promise<void> {
    if (result.retry !== undefined && request.attempt + 1 < attempts) {
      return this.#sendAgain({ ...request, attempt: request.attempt + 1 }, lane, 5 * 2 ** request.attempt);
    }
    const again = looksAgain[request.attempt];
    const unseen = result.lines.every(
      ({ outcome, reason }) => outcome === 'unchanged' || reason === 'gone at source',
    );
    if (request.reason === 'push' && unseen && again !== undefined) {
      const until = Date.now() + again;
      return this.#park({ ...request, attempt: request.attempt + 1 }, lane, until, result.lines, tally);
    }
    const deferred = result.lines.filter((line) => line.outcome === 'deferred');
    if (deferred.length > 0) {
      const until = Math.max(...deferred.map((line) => Date.parse(line.until ?? '')));
      return this.#park(request, lane, until, result.lines, tally);
    }
    const { followUp } = result;
    const next =
      followUp === undefined
        ? undefined
        : { ...followUp, id: `${lane}-${hash(`${request.id}\n${followUp.digest}`)}` };
    if (next !== undefined) await this.#options.queues.send(queueOf(lane), next);
    await this.#end(request, result.lines, tally, next === undefined ? [] : [openedBy(next)]);
  }

  async #park(
    request: CopyRequest,
    lane: Lane,
    until: number,
    lines: readonly Line<SyncOutcome>[],
    tally: Tally,
  ): Promise<void> {
    const { id, run } = request;
    await this.#options.parked.park(request, lane, until);
    await this.#write(run, { id, opened: [], lines, transfer: tally.totals(), parkedUntil: until });
  }

  async #end(
    request: CopyRequest,
    lines: readonly Line<SyncOutcome>[],
    tally: Tally,
    opened: readonly Opened[] = [],
  ): Promise<void> {
    const { outstanding, onEvent } = this.#options;
    for (const line of lines) onEvent({ type: 'line', line });
    await this.#write(request.run, { id: request.id, opened, lines, transfer: tally.totals() });
    await outstanding.end(request);
  }

  /** The same request once more, as a message of its own: no delivery of this one is burned. */
  async #sendAgain(request: CopyRequest, lane: Lane, delaySeconds: number): Promise<void> {
    await this.#options.queues.send(queueOf(lane), request, { delaySeconds });
  }

  /** Sends parked requests whose time has come, as far as the allowance reaches; closes runs; tidies checkpoints. */
  async release(): Promise<void> {
    const { parked, book, queues, checkpoints, announce } = this.#options;
    const signal = this.#deadline();
    const budgets = new Map<string, number>();
    for (const { key, lane, request } of await parked.due(Date.now(), signal)) {
      if (lane === 'push' || (await this.#withinAllowance(request, budgets, signal))) {
        await queues.send(queueOf(lane), request);
      } else await parked.park(request, lane, Date.now() + parkAgainMs * (1 + Math.random()));
      await parked.remove(key);
    }
    for (const run of await book.openRuns()) {
      for (const { queue, message } of await book.unheard(run, Date.now() - sentMs))
        await queues.send(queue, message);
      await book.close(run, announce, Date.now() - lostMs);
    }
    await tidyCheckpoints(
      checkpoints,
      staleCheckpointMs,
      (checkpoint) => this.#cancelUpload(checkpoint),
      signal,
    );
  }

  /** Takes the pulls of a request from what its registry has left; a HEAD tells that for nothing, once a release. */
  async #withinAllowance(
    request: CopyRequest,
    budgets: Map<string, number>,
    signal: AbortSignal,
  ): Promise<boolean> {
    const host = request.source.slice(0, request.source.indexOf('/'));
    const left = budgets.get(host) ?? (await this.#pullsLeft(request, signal));
    budgets.set(host, left - pullsOfARequest);
    return left > 0;
  }

  async #pullsLeft(request: CopyRequest, signal: AbortSignal): Promise<number> {
    const rule = this.#ruleFor(request);
    const target = rule?.targets[0];
    if (rule === undefined || target === undefined) return Number.POSITIVE_INFINITY;
    const tally = new Tally();
    const { source } = this.#options.core.open(rule, target, tally);
    if (source.billed !== true) return Number.POSITIVE_INFINITY;
    const reference = request.tags[0]?.source || request.digest;
    // A source that cannot be asked will say so to the copier, whose business it is.
    if (reference !== undefined) await source.resolve(reference, { signal }).catch(() => undefined);
    const { allowance } = tally;
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
  async poison(request: CopyRequest | PlanRequest): Promise<void> {
    const { id, run } = request;
    const error = summarize(new HubferryError('ERR_POISON', 'The request failed at every delivery'));
    if (request.kind === 'plan') {
      const rule = this.#options.rules.rules.find(({ name }) => name === request.rule);
      const target = rule?.targets[0];
      const lines =
        rule === undefined || target === undefined ? [] : [{ ...failedRule(rule, target, error), error }];
      if (await this.#options.book.hasEnded(run, id)) return this.#close(run);
      return this.#write(run, { id, opened: [], lines, transfer: noTransfer() });
    }
    const lines = request.tags.map((tag) => ({
      ...lineOf(request, 'failed'),
      target: `${request.target}:${tag.target}`,
      error,
    }));
    await this.#end(request, lines, new Tally());
  }

  async #write(run: string, part: Part): Promise<void> {
    await this.#options.book.write(run, part, this.#options.announce);
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

  #deadline(): AbortSignal {
    const stop = new AbortController();
    setTimeout(() => stop.abort(new StoppedError('The deadline is near')), this.#options.deadlineMs).unref();
    return stop.signal;
  }
}

/** A target that may not be opened is an outcome, not a fault of the delivery. */
function openOr(open: () => Sides): Sides | { readonly error: ErrorSummary } {
  try {
    return open();
  } catch (error) {
    return { error: summarize(error) };
  }
}

function planFor(run: string, rule: Rule, { tags, dryRun, force }: ManualRequest): Sending {
  const id = `plan-${hash(rule.name)}`;
  const some = tags === undefined ? {} : { tags: [...tags] };
  const message = { kind: 'plan', id, run, rule: rule.name, dryRun, force, ...some };
  return { queue: 'plan-requests', message, opened: { id, ...namesOf(rule) } };
}

function namesOf(rule: Rule): Pick<Line, 'rule' | 'source' | 'target'> {
  const nameOf = ({ host, path }: RepositoryName) => `${host}/${path}`;
  return { rule: rule.name, source: nameOf(rule.source), target: rule.targets.map(nameOf).join(', ') };
}

function openedBy(request: Pick<CopyRequest, 'id' | 'rule' | 'source' | 'target' | 'tags'>): Opened {
  const { id, rule, source, target, tags } = request;
  const [tag] = tags;
  return { id, rule, source: `${source}:${tag?.source ?? ''}`, target: `${target}:${tag?.target ?? ''}` };
}

function queueOf(lane: Lane): Queue {
  return lane === 'push' ? 'push-requests' : 'copy-requests';
}

function hash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 24);
}

/** Whether a push concerns a rule by its names alone. */
function wants(rule: Rule, push: Push): boolean {
  const { host, path } = rule.source;
  const name = `${host}/${path}`;
  const here = path.endsWith('/*') ? push.repository.startsWith(name.slice(0, -1)) : push.repository === name;
  return here && matchesNames(rule)(push.tag);
}

/** Whether the rule has these tags go where the request would take them: no message writes under a name of its own. */
function asksFor(rule: Rule, target: RuleTarget, request: CopyRequest): boolean {
  if (`${target.host}/${target.path}` !== request.target) return false;
  return request.tags.every((tag) => {
    if (tag.source !== '') return tag.target === targetTag(rule, target, tag.source);
    return tag.target === '' || tag.target === target.tags?.[0];
  });
}

function targetTag(rule: Rule, target: RuleTarget, tag: string): string {
  const { selector } = rule.source;
  const index = selector.kind === 'tags' ? selector.tags.indexOf(tag) : 0;
  return target.tags?.[index] ?? tag;
}

function lineOf(request: CopyRequest, outcome: SyncOutcome, reason?: string): Line<SyncOutcome> {
  const [tag] = request.tags;
  return {
    rule: request.rule,
    source: `${request.source}:${tag?.source ?? ''}`,
    target: `${request.target}:${tag?.target ?? ''}`,
    outcome,
    ...(reason === undefined ? {} : { reason }),
  };
}
