/**
 * What is out of date, with a reason for each line. Two listings are read, source and target; neither side is written. Where
 * people read the plan, what a rule's platforms make of a manifest is found out by pulling it; else nothing is pulled.
 */

import type { Rule, RuleTarget } from '../../config/model.ts';
import { codeOf, HubferryError } from '../../errors.ts';
import type { Digest } from '../../oci/descriptor.ts';
import type { Derive } from '../copy/copier.ts';
import { digestIn, type Facts, type Remembered } from '../copy/facts.ts';
import type { Limits } from '../copy/limits.ts';
import type { Sides } from '../copy/sides.ts';
import type { Claims, Pulls } from '../copy/work.ts';
import type { OnEvent } from '../runs/events.ts';
import { TagNames } from '../select/names.ts';
import { selectTags } from '../select/select.ts';
import { Comparison } from './comparison.ts';
import type { Plan } from './fan-out.ts';
import { LateReferrers } from './late-referrers.ts';
import type { Listings } from './listing.ts';
import { nothingPruned, type Pruned, prune } from './prune.ts';
import { lookForReferrerTags, referrerTagsIn } from './referrer-tags.ts';

export interface PlanInput {
  readonly rule: Rule;
  readonly target: RuleTarget;
  readonly sides: Sides;
  /** What was read of both sides so far; what the plan needs of them is read into these. */
  readonly listings: Listings;
  readonly claims: Claims;
  /** Only these source tags. */
  readonly only?: readonly string[] | undefined;
  /** Confirm by HEAD what listings only hint at: a plan that people read. A copier confirms anyway. */
  readonly confirm: boolean;
  readonly force: boolean;
  readonly allowMassDelete: boolean;
  /** Share of the target's tags of this rule (0 to 1) that a prune may delete. */
  readonly pruneLimit: number;
  /** For the manifests that have to be pulled where people read the plan. */
  readonly pulls: Pulls;
  /** Whether the plan is made again when this limit has passed: then it is thrown, and no tag fails by it. */
  readonly awaits: (error: unknown) => boolean;
  readonly signal: AbortSignal;
  readonly onEvent: OnEvent;
}

/** From how many tags on a listing is cheaper than a HEAD for each. */
const listingPaysFrom = 20;

/** The source tags that a rule takes, by name; or the digest that it names. */
interface Selection {
  readonly selected: readonly string[];
  readonly young: readonly string[];
  /** What the rule names and the source does not have. */
  readonly absent: readonly string[];
  /** What the request names and the rule does not take. */
  readonly unwanted: readonly string[];
}

const nothing: ReadonlyMap<Digest, Remembered> = new Map();

export class Planner {
  readonly #facts: Facts;
  readonly #limits: Limits;
  readonly #derive: Derive;

  constructor(facts: Facts, limits: Limits, derive: Derive) {
    this.#facts = facts;
    this.#limits = limits;
    this.#derive = derive;
  }

  /** Plans one rule for one target repository. @throws what a listing throws: the caller makes it one failed line. */
  async plan(input: PlanInput): Promise<Plan> {
    const { rule, listings } = input;
    const { lookups } = this.#limits;
    const facts = this.#facts;
    const derived = await this.#derivedFor(input);
    const names = new TagNames(rule, input.target, (digest) => digestIn(derived.get(digest)));
    const asked = askedFor(input);
    const { selected, young, absent, unwanted } = await this.#readSource(input, asked);
    await this.#readTarget(input, selected, names, asked);
    const referrers = await this.#referrersIn(input, [...selected, ...young], names);
    const derive = this.#derive;
    const comparison = new Comparison({ input, listings, names, derived, referrers, facts, derive });
    await comparison.compare(selected, lookups);
    if (input.only === undefined) await comparison.addStrays(lookups);
    for (const tag of young) comparison.addSkipped(tag, 'too young');
    for (const tag of unwanted)
      comparison.addSkipped(tag, listings.source.has(tag) ? 'not selected by the rule' : 'gone at source');
    const pruned = await this.#prune(input, names);
    comparison.addPruned(pruned);
    for (const tag of absent) if (!pruned.named.has(tag)) comparison.addAbsent(tag);
    const { lines, tasks } = comparison;
    if (lines.length === 0) warnOfNothing(input);
    return { lines, tasks, referrers };
  }

  /** What is known of the rule's platforms; where people read the plan, also of a digest that shows at the target by that alone. */
  async #derivedFor(input: PlanInput): Promise<ReadonlyMap<Digest, Remembered>> {
    const { rule, target, confirm } = input;
    if (rule.platforms.length === 0) return nothing;
    const derived = await this.#facts.derived(rule.platforms);
    const { selector } = rule.source;
    if (selector.kind !== 'digest' || target.tags !== undefined || !confirm || derived.has(selector.digest))
      return derived;
    const made = await this.#derive(selector.digest, input).catch((error: unknown) => {
      // Its line says so. Anything else stops the rule, which has no other line.
      if (codeOf(error) !== 'ERR_PLATFORM_MISSING') throw error;
    });
    return made === undefined ? derived : derived.set(selector.digest, made);
  }

  async #readSource(input: PlanInput, asked: readonly string[] | undefined): Promise<Selection> {
    const { rule, signal, listings } = input;
    const { source } = listings;
    const width = this.#limits.lookups;
    const { selector } = rule.source;
    if (selector.kind === 'digest') {
      await source.look([selector.digest], { signal, width });
      const there = source.has(selector.digest);
      return {
        selected: there ? [selector.digest] : [],
        young: [],
        absent: there ? [] : [selector.digest],
        unwanted: [],
      };
    }
    const named = new Set(selector.kind === 'tags' ? selector.tags : []);
    if (asked !== undefined && isFew(asked.length, rule) && !source.isWhole) {
      const { minimumAge, pushedWithin } = rule.tags;
      const timed = minimumAge !== undefined || pushedWithin !== undefined;
      await source.look(asked, { signal, width, timed });
    } else {
      await readAll(input);
      // A listing can hide a tag, where others go while it is read.
      const hidden = asked?.filter((tag) => named.has(tag) && !source.has(tag)) ?? [];
      await source.look(hidden, { signal, width });
    }
    const entries =
      asked === undefined ? source.entries : [...new Set(asked)].flatMap((tag) => source.get(tag) ?? []);
    const { selected, young } = selectTags(entries, rule, Date.now());
    await source.complete(selected, { signal, width });
    const absent = [...new Set(asked)].filter((tag) => named.has(tag) && !source.has(tag));
    const taken = new Set([...selected, ...young, ...absent]);
    const unwanted = input.only?.filter((tag) => !taken.has(tag)) ?? [];
    return { selected, young, absent: absent.sort(), unwanted: unwanted.sort() };
  }

  /** All of the target's tags from a listing, or one HEAD each where they are few or may not be listed. */
  async #readTarget(
    input: PlanInput,
    selected: readonly string[],
    names: TagNames,
    asked: readonly string[] | undefined,
  ): Promise<void> {
    const { rule, signal, listings } = input;
    const { target } = listings;
    const options = { signal, width: this.#limits.lookups };
    const few = asked !== undefined && isFew(selected.length, rule);
    const wanted = selected.values().map((tag) => names.target(tag));
    if (!few && !(await isForbidden(target.read(signal)))) return target.complete(wanted, options);
    await target.look(new Set(wanted), options);
  }

  /** What the source shows of signatures and the like, with what was brought before. */
  async #referrersIn(
    input: PlanInput,
    tags: readonly string[],
    names: TagNames,
  ): Promise<LateReferrers | undefined> {
    const { rule, sides, signal, listings } = input;
    const { source, target } = listings;
    if (!rule.referrers) return undefined;
    const options = { signal, width: this.#limits.lookups };
    if (!source.isWhole) {
      const equal = tags.filter((tag) => source.digestOf(tag) === target.digestOf(names.target(tag)));
      await lookForReferrerTags(source, new Set(equal.flatMap((tag) => source.digestOf(tag) ?? [])), options);
    }
    const found = await referrerTagsIn(source, options);
    if (found.isEmpty) return new LateReferrers(found, new Set(), new Set(), source.isWhole);
    const tagged = new Set(tags.flatMap((tag) => source.digestOf(tag) ?? []));
    const known = await this.#facts.referrers(sides.target.name);
    for (const { tag, digest } of await this.#facts.asides(sides.target.name)) known.add(`${tag}@${digest}`);
    return new LateReferrers(found, tagged, known, source.isWhole);
  }

  async #prune(input: PlanInput, names: TagNames): Promise<Pruned> {
    if (!input.rule.prune) return nothingPruned;
    return prune(input, input.listings, names, this.#facts, this.#limits.lookups);
  }
}

/** What a rule or a request names one by one. */
function askedFor({ rule, only }: PlanInput): readonly string[] | undefined {
  const { selector } = rule.source;
  if (selector.kind === 'digest') return [selector.digest];
  return only ?? (selector.kind === 'tags' ? selector.tags : undefined);
}

function isFew(tags: number, { source, prune: prunes }: Rule): boolean {
  // What is named by digest stands in no listing.
  return source.selector.kind === 'digest' || (tags < listingPaysFrom && !prunes);
}

async function readAll({ rule, sides, signal, onEvent, listings }: PlanInput): Promise<void> {
  const { source } = listings;
  await source.read(signal, (tags) => onEvent({ type: 'listing', rule: rule.name, tags }));
  if (!source.isAbsent) return;
  throw new HubferryError(
    'ERR_NOT_FOUND',
    `${sides.source.name} does not exist, or the login may not see it`,
  );
}

/** Who may not list may still ask for single tags. */
async function isForbidden(reading: Promise<void>): Promise<boolean> {
  try {
    await reading;
    return false;
  } catch (error) {
    if (codeOf(error) !== 'ERR_FORBIDDEN') throw error;
    return true;
  }
}

/** Nothing to do is no failure, but seldom what the rule's author meant. */
function warnOfNothing({ rule, sides, onEvent }: PlanInput): void {
  const fields = { rule: rule.name, source: sides.source.name };
  onEvent({ type: 'log', level: 'warn', message: 'no tag is selected', fields });
}
