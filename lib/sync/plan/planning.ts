/**
 * Carries out one plan request: a namespace becomes a request for each of its repositories, a repository is compared with
 * its targets, and what is out of date is asked for. Where the deadline is near it is saved, and goes on in another message.
 */

import type { Rule, Rules, RuleTarget } from '../../config/model.ts';
import { codeOf, HubferryError } from '../../errors.ts';
import type { DocumentStore } from '../../storage/ports.ts';
import { forEachOf } from '../concurrency.ts';
import type { Sides } from '../copy/sides.ts';
import { beforeOthers, type CopyRequest, type PlanRequest, tagsPerPlan } from '../request.ts';
import type { OnEvent } from '../runs/events.ts';
import type { Found, Opened } from '../runs/parts.ts';
import type { Line } from '../runs/report.ts';
import { addRuleLine, deferredRule, failedRule, limitedUntil } from '../runs/rule-lines.ts';
import type { Tally } from '../runs/tally.ts';
import { idFrom } from '../select/names.ts';
import { forRepository, isNamespace } from '../select/namespace.ts';
import type { Core } from './core.ts';
import { finalOutcomes, type Plan, requestsOf } from './fan-out.ts';
import { PlanProgress, type Sent } from './plan-progress.ts';
import type { PlanInput } from './planner.ts';
import { claimsOn, isShared, selectedIn } from './rivals.ts';
import { RunClaims } from './run-claims.ts';
import { withOutcome } from './same-line.ts';
import { extras } from './verifier.ts';

export interface PlanningOptions {
  readonly core: Core;
  readonly rules: Rules;
  readonly state: DocumentStore;
  readonly pruneLimit: number;
  /** Pulls that only pushes may use. */
  readonly pullReserve: number;
  readonly tally: Tally;
  /** Aborted with a `StoppedError` when the deadline is near. */
  readonly stop: AbortSignal;
  readonly onEvent: OnEvent;
  /** Sends a copy request, or joins the one that is outstanding; `again` what may have been sent before. */
  readonly ask: (request: CopyRequest, again: boolean) => Promise<readonly Opened[]>;
  /** What was noted as rests of these requests before. */
  readonly rests: (requests: readonly CopyRequest[]) => Promise<readonly CopyRequest[]>;
  /** Sends a plan request, after so many seconds. */
  readonly send: (request: PlanRequest, delaySeconds: number) => Promise<void>;
  /** Keeps a plan request until then (milliseconds since the epoch), for a registry asks to come back later. */
  readonly park: (request: PlanRequest, until: number, found: Found) => Promise<void>;
}

/** Messages in a row that bring a plan nowhere before it fails. */
const fruitlessMessages = 5;
/** While another process has the same request. */
const busyDelaySeconds = 15;
const sendsAtOnce = 8;
/** After so many requests it is noted which were sent. */
const batchSize = 50;

export class Planning {
  readonly lines: Line[] = [];
  readonly opened: Opened[] = [];
  readonly #request: PlanRequest;
  readonly #options: PlanningOptions;
  /** What was asked for, by earlier messages of this request or this one. */
  readonly #done = new Set<string>();
  /** What was asked for and is noted with the end of the plan, unless it goes on later. */
  #unnoted: Sent = { asked: [], opened: [] };
  /** What waits for the limit of a registry, as it is told where the run is closed before. */
  readonly #waiting: Line[] = [];

  constructor(request: PlanRequest, options: PlanningOptions) {
    this.#request = request;
    this.#options = options;
  }

  /** @param end notes the outcome, before anything of the progress is forgotten; not called where the plan goes on later */
  async carryOut(end: () => Promise<void>): Promise<void> {
    const { state, stop, send } = this.#options;
    const { run, id } = this.#request;
    const progress = await PlanProgress.take(state, run, id);
    if (progress === undefined) return send(this.#request, busyDelaySeconds);
    let goOn: (() => Promise<void>) | undefined;
    try {
      const { asked, opened } = await progress.sent();
      for (const id of asked) this.#done.add(id);
      for (const one of opened) this.opened.push(one);
      await this.#askAgain(progress);
      await this.#plan(progress);
      if (this.#waiting.length > 0) goOn = await this.#save(progress);
      else {
        await end();
        await progress.finish();
      }
    } catch (error) {
      if (!stop.aborted) throw error;
      goOn = await this.#save(progress);
    } finally {
      await progress.release();
    }
    await goOn?.();
  }

  /**
   * What an earlier message was asking for when it ended may not have been sent, though others have joined it; by now the plan
   * may ask for something else.
   */
  async #askAgain(progress: PlanProgress): Promise<void> {
    const open = (await progress.pending()).filter(({ id }) => !this.#done.has(id));
    if (open.length === 0) return;
    // Rests before what they are rests of: that is asked for as a whole, where nothing of it is outstanding any more.
    const requests = [...(await this.#options.rests(open)), ...open];
    await this.#askAll(
      requests.map((request) => this.#askOf(request, true)),
      progress,
    );
  }

  #askOf(request: CopyRequest, again = false): Ask {
    return { id: request.id, request, ask: () => this.#options.ask(request, again) };
  }

  /** @returns what has it go on: at once, or when the registries that asked to come back later may be asked again */
  async #save(progress: PlanProgress): Promise<() => Promise<void>> {
    const { send, park } = this.#options;
    if (this.#unnoted.asked.length > 0) await progress.noteSent(this.#unnoted);
    await progress.save();
    const next = this.#next(progress);
    if (this.#waiting.length === 0) return () => send(next, 0);
    const until = Math.max(...this.#waiting.map((line) => Date.parse(line.until ?? '')));
    const found = { lines: [...this.lines, ...this.#waiting], opened: this.opened };
    return () => park(next, until, found);
  }

  #next(progress: PlanProgress): PlanRequest {
    const { hasMoved, key: cursor } = progress;
    return { ...this.#request, cursor, attempt: hasMoved ? 0 : this.#request.attempt + 1 };
  }

  async #plan(progress: PlanProgress): Promise<void> {
    const { rules } = this.#options;
    const { repository } = this.#request;
    const named = rules.rules.find(({ name }) => name === this.#request.rule);
    if (named === undefined) return;
    if (isNamespace(named.source) && repository === undefined) {
      return this.#guarded(named, named.targets, () => this.#planNamespace(named, progress));
    }
    const rule = repository === undefined ? named : forRepository(named, repository);
    for (const target of rule.targets) {
      if (this.#request.target !== undefined && this.#request.target !== nameOf(target)) continue;
      await this.#guarded(rule, [target], () => this.#planTarget(rule, target, progress));
    }
  }

  /** What fails for one target is its line; what another delivery can mend is thrown. A limit is kept, but not for ever. */
  async #guarded(rule: Rule, targets: readonly RuleTarget[], work: () => Promise<void>): Promise<void> {
    try {
      if (this.#request.attempt >= fruitlessMessages) throw stuck(rule);
      await work();
    } catch (error) {
      const code = codeOf(error);
      if (this.#options.stop.aborted || code === 'ERR_STORAGE' || code === 'ERR_LEASE_LOST') throw error;
      const until = limitedUntil(error);
      if (until !== undefined && this.#request.attempt + 1 < fruitlessMessages) {
        return this.#wait(rule, targets, until, error);
      }
      addRuleLine(this.lines, failedRule(rule, targets, error));
    }
  }

  /** A check has no word for what waits: what it has not come to has failed, unless it is told later. */
  #wait(rule: Rule, targets: readonly RuleTarget[], until: number, error: unknown): void {
    const line = deferredRule(rule, targets, until, error);
    const { reason: _, ...failed } = { ...line, outcome: 'failed' };
    addRuleLine<string>(this.#waiting, this.#request.verify ? failed : line);
  }

  async #planNamespace(rule: Rule, progress: PlanProgress): Promise<void> {
    const { core, stop, send, tally } = this.#options;
    const repositories = await core.expand(rule, tally, stop);
    const asks = repositories.map((one): Ask => {
      const { path } = one.source;
      const request = {
        ...this.#request,
        id: `plan-${idFrom(this.#request.id, path)}`,
        repository: path,
      };
      const target = one.targets.map(({ host, path }) => `${host}/${path}`).join(', ');
      const opened = { id: request.id, rule: rule.name, source: `${one.source.host}/${path}`, target };
      return {
        id: request.id,
        ask: async () => {
          await send(request, 0);
          return [opened];
        },
      };
    });
    await this.#askAll(asks, progress);
  }

  async #planTarget(rule: Rule, target: RuleTarget, progress: PlanProgress): Promise<void> {
    const { core, rules, pruneLimit, pullReserve, stop, onEvent, tally } = this.#options;
    const { tags, dryRun, force, allowMassDelete } = this.#request;
    const sides = core.open(rule, target, tally);
    const source = await progress.listing('source', sides.source);
    const claims = new RunClaims(this.#options.state, this.#request.run);
    const selected = (other: Rule, shared: RuleTarget) =>
      claims.of(other, shared, async () => {
        const listing = await progress.listing('source', core.open(other, shared, tally).source);
        await listing.read(stop);
        return listing;
      });
    const input: PlanInput = {
      rule,
      target,
      sides,
      listings: { source, target: await progress.listing('target', sides.target) },
      claims: await claimsOn(target, rule, rules.rules, selected, { signal: stop, mirrored: core.mirrored }),
      only: tags,
      confirm: dryRun,
      force,
      allowMassDelete,
      pruneLimit,
      pulls: {
        reserve: pullReserve,
        admitPull: () => core.admitPull(sides.puller, pullReserve, stop),
      },
      // A check that went on later could tell of what it finds after its run is closed: to nobody.
      awaits: () => false,
      signal: stop,
      onEvent,
    };
    if (this.#request.verify) return this.#verify(input, progress);
    const plan = await core.planner.plan(input);
    if (tags === undefined) {
      this.#log(plan, sides);
      if (source.isWhole && isShared(target, rule, rules.rules)) await claims.note(rule, target, source);
    }
    if (!dryRun) await this.#askAll(this.#asksOf(plan, rule, sides), progress);
    this.#tell(plan);
  }

  /** Compares down to every blob; of many tags, some at a time in requests of their own. */
  async #verify(input: PlanInput, progress: PlanProgress): Promise<void> {
    const { core } = this.#options;
    const parts = await this.#partsOf(input);
    if (parts.length === 0) {
      for (const line of await core.verifier.verify(input)) this.lines.push(line);
      return;
    }
    // What is extra is seen in whole listings alone.
    for (const line of extras(input)) this.lines.push(line);
    await this.#askAll(
      parts.map((tags) => this.#askFor(input, tags)),
      progress,
    );
  }

  async #partsOf({ rule, listings, only }: PlanInput): Promise<string[][]> {
    const { kind } = rule.source.selector;
    if (only !== undefined || kind === 'tags' || kind === 'digest') return [];
    const { stop } = this.#options;
    await listings.source.read(stop);
    const tags = selectedIn(listings.source, rule);
    if (tags.length <= tagsPerPlan) return [];
    await listings.target.read(stop);
    return [...groupsOf(tags, tagsPerPlan)];
  }

  #askFor({ rule, target: to, sides }: PlanInput, tags: string[]): Ask {
    const target = nameOf(to);
    const id = `plan-${idFrom(this.#request.id, target, ...tags)}`;
    const opened = { id, rule: rule.name, source: sides.source.name, target };
    const ask = async () => {
      await this.#options.send({ ...this.#request, id, target, tags }, 0);
      return [opened];
    };
    return { id, ask };
  }

  *#asksOf(plan: Plan, rule: Rule, { source, target }: Sides): Generator<Ask> {
    const { run, force, push, lane } = this.#request;
    const base = { run, rule: rule.name, source: source.name, target: target.name, force };
    const idOf = (kind: string, digest: string, tags: readonly string[]) =>
      `${kind}-${idFrom(rule.name, target.name, digest, ...tags)}`;
    for (const { request } of requestsOf(plan, { base, idOf })) {
      const isPushed = push !== undefined && request.tags.some((tag) => tag.source === push.tag);
      // A copy of the same has an end of its own.
      const id =
        isPushed || lane === 'push' ? request.id.replace(/^(copy|delete)-/, `${beforeOthers}-`) : request.id;
      yield this.#askOf({ ...request, id, ...(isPushed && { pushedAt: push.pushedAt }) });
    }
  }

  /** Asks for everything once; for the last batch of a message that broke off once more. */
  async #askAll(asks: Iterable<Ask>, progress: PlanProgress): Promise<void> {
    for (const group of groupsOf(asks, batchSize)) {
      const pending = group.filter(({ id }) => !this.#done.has(id)).flatMap(({ request }) => request ?? []);
      if (pending.length > 0) await progress.notePending(pending);
      const sent = { asked: [] as string[], opened: [] as Opened[] };
      let whole = false;
      try {
        await forEachOf(group, sendsAtOnce, (ask) => this.#askOnce(ask, sent));
        whole = group.length < batchSize;
      } finally {
        for (const one of sent.opened) this.opened.push(one);
        if (whole) this.#noteLater(sent);
        else if (sent.asked.length > 0) await progress.noteSent(sent);
      }
    }
  }

  #noteLater({ asked, opened }: Sent): void {
    this.#unnoted = {
      asked: [...this.#unnoted.asked, ...asked],
      opened: [...this.#unnoted.opened, ...opened],
    };
  }

  async #askOnce({ id, ask }: Ask, sent: { asked: string[]; opened: Opened[] }): Promise<void> {
    if (this.#done.has(id)) return;
    this.#options.stop.throwIfAborted();
    for (const one of await ask()) sent.opened.push(one);
    sent.asked.push(id);
    this.#done.add(id);
  }

  #log({ lines, tasks }: Plan, { source, target }: Sides): void {
    const fields = { source: source.name, target: target.name, tags: lines.length, behind: tasks.length };
    this.#options.onEvent({ type: 'log', level: 'info', message: 'plan finished', fields });
  }

  #tell(plan: Plan): void {
    const { dryRun } = this.#request;
    for (const line of plan.lines) {
      const outcome = finalOutcomes[line.outcome];
      if (outcome !== undefined) this.lines.push(withOutcome(line, outcome));
      else if (dryRun) {
        const reason = `would ${line.outcome}: ${line.reason ?? ''}`;
        this.lines.push({ ...withOutcome(line, 'skipped'), reason });
      }
    }
  }
}

/** A request to be sent, by its name. */
interface Ask {
  readonly id: string;
  /** Absent for a plan request, which is the same however often it is sent. */
  readonly request?: CopyRequest;
  readonly ask: () => Promise<readonly Opened[]>;
}

function* groupsOf<T>(items: Iterable<T>, size: number): Generator<T[]> {
  let group: T[] = [];
  for (const item of items) {
    group.push(item);
    if (group.length < size) continue;
    yield group;
    group = [];
  }
  if (group.length > 0) yield group;
}

function nameOf({ host, path }: RuleTarget): string {
  return `${host}/${path}`;
}

function stuck(rule: Rule): HubferryError {
  return new HubferryError('ERR_TIMEOUT', `The plan of "${rule.name}" comes nowhere before its deadline`);
}
