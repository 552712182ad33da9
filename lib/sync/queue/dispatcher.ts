/** Turns what a timer, a push or people ask for into a run with its requests. */
import type { Rule, Rules } from '../../config/model.ts';
import { HubferryError } from '../../errors.ts';
import type { RequestQueues } from '../../storage/ports.ts';
import { forEachOf } from '../concurrency.ts';
import { type FanOutRequest, type PlanRequest, tagsPerPlan } from '../request.ts';
import type { Announce, Opening, RunBook } from '../runs/book.ts';
import { lanes } from '../runs/parked.ts';
import { type Opened, openedBy, type Sent } from '../runs/parts.ts';
import type { Trigger } from '../runs/report.ts';
import { namesOfRule } from '../runs/rule-lines.ts';
import { idFrom, TagNames } from '../select/names.ts';
import { forRepository } from '../select/namespace.ts';
import { needsWholeList } from '../select/select.ts';
import { repairsOf } from './repairs.ts';
import { type Push, wants } from './wanted.ts';

export interface DispatcherOptions {
  readonly rules: Rules;
  readonly queues: RequestQueues;
  readonly book: RunBook;
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

const sendsAtOnce = 8;
/** More pushes than so many are sent by whoever takes the one message that stands for them. */
const fewSends = 3;

export class Dispatcher {
  readonly #options: DispatcherOptions;

  constructor(options: DispatcherOptions) {
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
    if (begun.requests === 0) await this.#options.book.close(begun.run, this.#options.announce);
    return begun;
  }

  /** Opens a run for the tags that failed in another one. @throws ERR_RUN_UNKNOWN */
  async retry(run: string, failedIn: string): Promise<Begun> {
    const report = await this.#options.book.report(failedIn);
    if (report === undefined) throw new HubferryError('ERR_RUN_UNKNOWN', `There is no run "${failedIn}"`);
    const repairs = repairsOf(report, this.#options.rules.rules);
    if (repairs.length === 0) return { run: failedIn, requests: 0 };
    const partial = repairs.some(({ tags }) => tags !== undefined);
    const { dryRun } = report.run;
    const about = { trigger: 'manual', opener: 'start-plan', dryRun, partial } as const;
    return this.#begin(run, about, (run) =>
      repairs.flatMap(({ rule, ...request }) => plansFor(run, rule, { ...request, lane: 'push' })),
    );
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
    const about = { trigger: 'webhook', opener: `start-${idFrom(...names)}` } as const;
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
    const id = idFrom(rule.name, push.repository, push.tag, push.pushedAt);
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
        tags: [{ source: push.tag, target: new TagNames(rule, target).target(push.tag) }],
        reason: 'push',
        pushedAt: push.pushedAt,
      };
      return { queue: 'push-requests', message, opened: openedBy(message) };
    });
  }

  #chosen(names: readonly string[] | undefined): readonly Rule[] {
    const { rules } = this.#options.rules;
    const unknown = names?.find((name) => !rules.some((rule) => rule.name === name));
    if (unknown !== undefined)
      throw new HubferryError('ERR_REQUEST_INVALID', `There is no rule "${unknown}"`);
    return names === undefined ? rules : rules.filter((rule) => names.includes(rule.name));
  }
}

function fanOutOf(run: string, opener: string): Sent {
  const message: FanOutRequest = { kind: 'fan-out', id: opener, run };
  return { queue: lanes.push, message };
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
  const id = `plan-${idFrom(rule.name, repository ?? '')}`;
  if (tags === undefined) return [send(id, {})];
  const starts = Array.from({ length: Math.ceil(tags.length / tagsPerPlan) }, (_, nth) => nth * tagsPerPlan);
  return starts.map((at) => send(`${id}-${at}`, { tags: tags.slice(at, at + tagsPerPlan) }));
}
