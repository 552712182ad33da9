/** A run in this process, from plan to report, without queues: the command line's way, with the function app's engine. */

import type { Rule, RuleTarget } from '../config/model.ts';
import { RegistryError } from '../errors.ts';
import { after, forEachOf, StoppedError } from './concurrency.ts';
import type { CopyResult } from './copy/outcome.ts';
import type { Sides } from './copy/sides.ts';
import type { Pulls } from './copy/work.ts';
import type { Core } from './plan/core.ts';
import { finalOutcomes, type PlanLine, requestsOf } from './plan/fan-out.ts';
import { Listing, SharedListings } from './plan/listing.ts';
import type { PlanInput } from './plan/planner.ts';
import { claimsOn, isShared, selectedIn } from './plan/rivals.ts';
import { withOutcome } from './plan/same-line.ts';
import type { VerifyLine } from './plan/verifier.ts';
import type { CopyRequest } from './request.ts';
import type { OnEvent } from './runs/events.ts';
import type { Line, SyncOutcome } from './runs/report.ts';
import { addRuleLine, deferredRule, failedRule, limitedUntil } from './runs/rule-lines.ts';
import type { Tally } from './runs/tally.ts';
import { nameOf } from './select/names.ts';
import { notAtOnce, sleepUntil } from './waiting.ts';

export interface DirectOptions {
  readonly run: string;
  readonly force: boolean;
  readonly allowMassDelete: boolean;
  readonly pruneLimit: number;
  /** How long all of it may wait for rate limits, in milliseconds. */
  readonly waitMs: number;
  readonly signal: AbortSignal;
  readonly onEvent: OnEvent;
  readonly tally: Tally;
}

/** Rules whose two sides are compared at once. */
const rulesAtOnce = 4;
/** What is on its way at Ctrl-C may go on for so many milliseconds: somebody waits for the prompt. */
const graceMs = 5000;
/** A tag that moves again and again while it is copied is left to the next run. */
const followUps = 3;

export class DirectRun {
  readonly #core: Core;
  readonly #rules: readonly Rule[];
  readonly #options: DirectOptions;
  readonly #waitsUntil: number;
  readonly #end: AbortSignal;

  constructor(core: Core, rules: readonly Rule[], options: DirectOptions) {
    this.#core = core;
    this.#rules = rules;
    this.#options = options;
    this.#end = after(options.signal, graceMs);
    this.#waitsUntil = Date.now() + options.waitMs;
  }

  async plan(): Promise<PlanLine[]> {
    const lines: PlanLine[] = [];
    await this.#eachTarget(lines, 'plan', async (input) => {
      const plan = await this.#core.planner.plan({ ...input, confirm: true });
      for (const line of plan.lines) this.#tell(lines, line, 'plan');
    });
    return lines;
  }

  async verify(): Promise<VerifyLine[]> {
    const lines: VerifyLine[] = [];
    await this.#eachTarget(lines, 'verify', async (input) => {
      for (const line of await this.#core.verifier.verify(input)) this.#tell(lines, line, 'verify');
    });
    return lines;
  }

  /** After a stop it answers with what has ended; checkpoints are saved. */
  async sync(): Promise<Line<SyncOutcome>[]> {
    const lines: Line<SyncOutcome>[] = [];
    await this.#eachTarget(lines, 'sync', (input) => this.#syncTarget(input, lines), lineOf);
    return lines;
  }

  async #syncTarget(input: PlanInput, lines: Line<SyncOutcome>[]): Promise<void> {
    const plan = await this.#core.planner.plan(input);
    for (const line of plan.lines) {
      const outcome = finalOutcomes[line.outcome];
      if (outcome !== undefined) this.#tell(lines, withOutcome(line, outcome), 'sync');
    }
    const { rule, sides, force } = input;
    const base = {
      run: this.#options.run,
      rule: rule.name,
      source: sides.source.name,
      target: sides.target.name,
      force,
    };
    this.#options.onEvent({ type: 'planned', rule: rule.name, lines: plan.tasks.length });
    const requests = requestsOf(plan, { base, idOf: (kind, digest) => `${kind}-${digest}` });
    await forEachOf(requests, this.#core.limits.tags, ({ request }) =>
      this.#carryOut(request, rule, sides, lines),
    );
  }

  async #carryOut(request: CopyRequest, rule: Rule, sides: Sides, lines: Line<SyncOutcome>[]): Promise<void> {
    const { signal, tally, onEvent } = this.#options;
    const work = {
      stop: signal,
      end: this.#end,
      tally,
      onEvent,
      patienceMs: Number.POSITIVE_INFINITY,
      ...this.#pullsOf(sides),
    };
    const open: Turn[] = [{ request, nth: 0 }];
    // What was sent for lines that wait is told with them.
    let untold = 0;
    for (let turn = open.shift(); turn !== undefined; turn = open.shift()) {
      const { request, nth, waitsUntil } = turn;
      if (waitsUntil !== undefined) await this.#waitFor(waitsUntil, rule.source.host);
      const { copier } = this.#core;
      const carry = request.kind === 'delete' ? copier.remove : copier.copy;
      const result: CopyResult = await carry.call(copier, request, rule, sides, work);
      const later = limitedLines(result, this.#waitsUntil);
      for (const line of result.lines) {
        if (later.includes(line)) continue;
        this.#tell(lines, untold === 0 ? line : { ...line, bytes: (line.bytes ?? 0) + untold }, 'sync');
        untold = 0;
      }
      for (const { bytes = 0 } of later) untold += bytes;
      const { followUp } = result;
      if (followUp !== undefined && nth < followUps) open.push({ request: followUp, nth: nth + 1 });
      if (later.length > 0) open.push({ ...onlyFor(later, request, sides.target.name), nth });
    }
  }

  /** Nothing is kept for pushes: none come in here. */
  #pullsOf({ puller }: Sides): Pulls {
    return {
      reserve: 0,
      admitPull: () => this.#core.admitPull(puller, 0, this.#options.signal),
    };
  }

  async #waitFor(time: number, host: string): Promise<void> {
    const { signal, onEvent } = this.#options;
    const until = notAtOnce(time);
    onEvent({ type: 'waiting', host, until });
    await sleepUntil(until, signal);
  }

  /** Whether it is a limit that the run may wait for. */
  #awaits(error: unknown): boolean {
    return (limitedUntil(error) ?? Number.POSITIVE_INFINITY) <= this.#waitsUntil;
  }

  /** Does something that a limit may stop as a whole, again and again as long as the run may wait for that. */
  async #throughLimits<T>({ source }: Rule, work: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await work();
      } catch (error) {
        const until = limitedUntil(error);
        if (until === undefined || !this.#awaits(error)) throw error;
        await this.#waitFor(until, error instanceof RegistryError ? new URL(error.url).host : source.host);
      }
    }
  }

  #tell<O extends string>(lines: Line<O>[], line: Line<O>, operation: Operation): void {
    lines.push(line);
    this.#log(line, operation);
  }

  #log(line: Line, operation: Operation): void {
    this.#options.onEvent({ type: 'line', line, fields: { run: this.#options.run, operation } });
  }

  /** Each rule and target on its own: what fails for one is its line, and the others go on. */
  async #eachTarget<O extends string>(
    lines: Line<O | 'failed'>[],
    operation: Operation,
    work: (input: PlanInput) => Promise<void>,
    lineFor: (...stopped: Stopped) => Line<O | 'failed'> = failedRule,
  ): Promise<void> {
    const fail = (...stopped: Stopped) => {
      const line = lineFor(...stopped);
      addRuleLine(lines, line);
      this.#log(line, operation);
    };
    const expansions = new Map<Rule, readonly Rule[]>();
    const turn = async (rules: readonly Rule[], expand: Expand, failed: typeof fail) => {
      for (const rule of rules) {
        try {
          expansions.set(rule, await expand(rule));
        } catch (error) {
          if (this.#options.signal.aborted) return;
          failed(rule, rule.targets, error);
        }
      }
      // Until it is known what a namespace stands for, it may claim what is in any target that it covers.
      const among = this.#rules.flatMap((rule) => expansions.get(rule) ?? rule);
      const begun = rules.flatMap((rule) => expansions.get(rule) ?? []);
      await this.#compare(begun, among, work, fail);
    };
    const expand: Expand = (rule) => this.#core.expand(rule, this.#options.tally, this.#options.signal);
    // A rule that a limit holds up keeps no other from its turn: it comes after them.
    const held: Rule[] = [];
    await turn(this.#rules, expand, (rule, targets, error) => {
      if (this.#awaits(error)) held.push(rule);
      else fail(rule, targets, error);
    });
    await turn(held, (rule) => this.#throughLimits(rule, () => expand(rule)), fail);
  }

  /** @param among all rules, which may claim the same tags */
  async #compare(
    rules: readonly Rule[],
    among: readonly Rule[],
    work: (input: PlanInput) => Promise<void>,
    fail: (...stopped: Stopped) => void,
  ): Promise<void> {
    const shared = new SharedListings();
    const pairs = rules.flatMap((rule) => rule.targets.map((target) => ({ rule, target })));
    for (const { rule, target } of pairs) {
      shared.expect(sourceOf(rule));
      // Its rivals may come at any time.
      if (isShared(target, rule, among)) shared.expect(sourceOf(rule));
    }
    try {
      await forEachOf(pairs, rulesAtOnce, async ({ rule, target }) => {
        await this.#oneTarget(rule, target, among, shared, work, fail);
        shared.leave(sourceOf(rule));
      });
    } catch (error) {
      if (!(error instanceof StoppedError)) throw error;
    }
  }

  async #oneTarget(
    rule: Rule,
    target: RuleTarget,
    among: readonly Rule[],
    shared: SharedListings,
    work: (input: PlanInput) => Promise<void>,
    fail: (...stopped: Stopped) => void,
  ): Promise<void> {
    const { signal, onEvent, tally, force, allowMassDelete, pruneLimit } = this.#options;
    const { mirrored } = this.#core;
    const awaits = (error: unknown) => this.#awaits(error);
    const selected = async (other: Rule, at: RuleTarget) => {
      const listing = shared.of(this.#core.open(other, at, tally).source);
      await listing.read(signal);
      return selectedIn(listing, other);
    };
    try {
      const sides = this.#core.open(rule, target, tally);
      // They go on with the page at which a limit has stopped them.
      const listings = { source: shared.of(sides.source), target: new Listing(sides.target) };
      await this.#throughLimits(rule, async () =>
        work({
          rule,
          target,
          sides,
          listings,
          claims: await claimsOn(target, rule, among, selected, { signal, mirrored, awaits }),
          confirm: false,
          force,
          allowMassDelete,
          pruneLimit,
          pulls: this.#pullsOf(sides),
          awaits,
          signal,
          onEvent,
        }),
      );
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      if (error instanceof StoppedError) throw error;
      fail(rule, [target], error);
    }
  }
}

/** A request, or what follows it, or waits of it. */
interface Turn {
  readonly request: CopyRequest;
  /** How many it follows. */
  readonly nth: number;
  readonly waitsUntil?: number;
}

type Expand = (rule: Rule) => Promise<readonly Rule[]>;

type Operation = 'plan' | 'sync' | 'verify';

/** A rule that cannot go on, for these of its targets, and why. */
type Stopped = [rule: Rule, targets: readonly RuleTarget[], error: unknown];

/** A limit that is to be kept defers, as it does for a tag. */
function lineOf(...[rule, targets, error]: Stopped): Line<'failed' | 'deferred'> {
  const until = limitedUntil(error);
  return until === undefined ? failedRule(rule, targets, error) : deferredRule(rule, targets, until, error);
}

/** Lines that a limit holds up no longer than the run may wait. */
function limitedLines({ lines }: CopyResult, waitsUntil: number): readonly Line<SyncOutcome>[] {
  return lines.filter(
    ({ outcome, reason, until }) =>
      outcome === 'deferred' && reason === 'rate limit' && Date.parse(until ?? '') <= waitsUntil,
  );
}

/** What of a request waits, until the last of its lines may be tried again. */
function onlyFor(
  lines: readonly Line[],
  request: CopyRequest,
  target: string,
): Pick<Turn, 'request' | 'waitsUntil'> {
  const open = new Set(lines.map((line) => line.target));
  // What gets no tag is alone in its request.
  const tags = request.tags.filter((tag) => tag.target === '' || open.has(nameOf(target, tag.target)));
  return {
    request: { ...request, tags },
    waitsUntil: Math.max(...lines.map(({ until = '' }) => Date.parse(until))),
  };
}

function sourceOf({ source }: Rule): string {
  return `${source.host}/${source.path}`;
}
