/**
 * What is out of date, with a reason for each line. Two listings are read, source and target; neither side is written, and
 * of Docker Hub no manifest is pulled.
 */

import type { Rule, RuleTarget } from '../config/model.ts';
import { HubferryError, summarize } from '../errors.ts';
import type { Digest } from '../oci/descriptor.ts';
import { algorithmOf } from '../oci/digest.ts';
import { formatPlatform, matchesPlatform } from '../oci/platform.ts';
import { isReferrerTag } from '../oci/reference.ts';
import type { TagEntry, TagLister } from '../oci/roles.ts';
import { forEachOf } from './concurrency.ts';
import { type Sides, sameBytes } from './copier.ts';
import type { OnEvent } from './events.ts';
import type { Derived, Facts } from './facts.ts';
import type { Limits } from './limits.ts';
import { type ReferrerTag, ReferrerTags } from './referrer-tags.ts';
import { lateReferrers } from './referrers.ts';
import type { Line, PlanAction } from './report.ts';
import type { CopyRequest } from './request.ts';
import { matchesNames, selectTags } from './select.ts';

export type PlanLine = Line<PlanAction>;

/** A line of a plan with what a request for it needs. */
export interface PlannedLine {
  readonly line: PlanLine;
  readonly sourceTag: string;
  readonly targetTag: string;
  readonly digest?: Digest | undefined;
  readonly referrerTags?: readonly ReferrerTag[] | undefined;
}

export interface PlanInput {
  readonly rule: Rule;
  readonly target: RuleTarget;
  readonly sides: Sides;
  /** Which rule has a claim on a target tag beside this one; read only where two rules share a target repository. */
  readonly rival: (targetTag: string) => string | undefined;
  /** Only these source tags. */
  readonly only?: readonly string[] | undefined;
  /** Confirm by HEAD what listings only hint at: a plan that people read. A copier confirms anyway. */
  readonly confirm: boolean;
  readonly force: boolean;
  readonly allowMassDelete: boolean;
  /** Share of the target's tags of this rule (0 to 1) that a prune may delete. */
  readonly pruneLimit: number;
  readonly signal: AbortSignal;
  readonly onEvent: OnEvent;
}

/** From how many tags on a listing is cheaper than a HEAD for each. */
const listingPaysFrom = 20;
const maxReferrerTags = 100;
const nobody: ReadonlySet<string> = new Set();

export class Planner {
  readonly #facts: Facts;
  readonly #limits: Limits;
  /** Derives the index of a tag, where no memory tells the digest and reading a manifest is not billed. */
  readonly #derive: (rule: Rule, sides: Sides, digest: Digest, signal: AbortSignal) => Promise<Derived>;

  constructor(facts: Facts, limits: Limits, derive: Planner['derive']) {
    this.#facts = facts;
    this.#limits = limits;
    this.#derive = derive;
  }

  get derive() {
    return this.#derive;
  }

  /** Plans one rule for one target repository. @throws what a listing throws: the caller makes it one failed line. */
  async plan(input: PlanInput): Promise<PlannedLine[]> {
    const source = await readSource(input, this.#limits);
    const target = await readTarget(input, source, this.#limits);
    const derived =
      input.rule.platforms.length === 0 ? undefined : await this.#facts.derived(input.rule.platforms);
    const facts = this.#facts;
    const known = source.referrers.isEmpty ? nobody : await facts.referrers(input.sides.target.name);
    const comparison = new Comparison(input, source, target, derived, known, facts, this.#derive);
    const lines = await comparison.lines(this.#limits.lookups);
    if (input.rule.prune) lines.push(...(await this.#prune(input, source, target)));
    if (lines.length === 0) warnOfNothing(input);
    return lines;
  }

  /** What the rule has put there and the source no longer has. */
  async #prune(input: PlanInput, source: SourceListing, target: TargetListing): Promise<PlannedLine[]> {
    const { rule, sides } = input;
    if (!source.whole || source.names.size === 0 || rule.source.selector.kind === 'digest') return [];
    const mirrored = await this.#facts.mirrored(rule.name, sides.target.name);
    const named = matchesNames(rule);
    const gone = [...mirrored].filter(
      (tag) =>
        target.tags.has(tag) &&
        !source.names.has(tag) &&
        named(tag) &&
        !isReferrerTag(tag) &&
        input.rival(tag) === undefined,
    );
    if (gone.length === 0) return [];
    if (gone.length > input.pruneLimit * mirrored.size && !input.allowMassDelete) {
      return [massDelete(input, gone.length, mirrored.size)];
    }
    return gone.sort().map((tag) => deleteLine(input, tag, target.tags.get(tag)));
  }
}

/** Nothing to do is no failure, but seldom what the rule's author meant. */
function warnOfNothing({ rule, sides, onEvent }: PlanInput): void {
  const fields = { rule: rule.name, source: sides.source.name };
  onEvent({ type: 'log', level: 'warn', message: 'no tag is selected', fields });
}

interface SourceListing {
  readonly selected: readonly TagEntry[];
  readonly young: readonly TagEntry[];
  /** Tags named in the rule that do not exist. */
  readonly absent: readonly string[];
  /** Every tag of the repository; only where it was listed. */
  readonly names: ReadonlySet<string>;
  /** Whether the repository was listed to its end. */
  readonly whole: boolean;
  readonly referrers: ReferrerTags;
}

interface TargetListing {
  readonly tags: ReadonlyMap<string, TagEntry>;
}

async function readSource(input: PlanInput, limits: Limits): Promise<SourceListing> {
  const { rule } = input;
  const { selector } = rule.source;
  if (selector.kind === 'digest') return readDigest(input, selector.digest);
  const asked = input.only ?? (selector.kind === 'tags' ? selector.tags : undefined);
  if (asked !== undefined && asked.length < listingPaysFrom && !rule.prune)
    return readTags(input, asked, limits);
  return listSource(input, asked, limits);
}

async function readDigest({ sides, signal }: PlanInput, digest: Digest): Promise<SourceListing> {
  const found = await sides.source.resolve(digest, { signal });
  const selected = found === undefined ? [] : [{ name: '', digest: found.digest }];
  return { ...nothingListed, selected, absent: found === undefined ? [''] : [] };
}

const nothingListed: SourceListing = {
  selected: [],
  young: [],
  absent: [],
  names: new Set(),
  whole: false,
  referrers: new ReferrerTags([]),
};

/** A few tags are asked for one by one. */
async function readTags(input: PlanInput, tags: readonly string[], limits: Limits): Promise<SourceListing> {
  const { source } = input.sides;
  const { minimumAge, pushedWithin } = input.rule.tags;
  const entries: TagEntry[] = [];
  const absent: string[] = [];
  await forEachOf(tags, limits.lookups, async (name) => {
    const timed = minimumAge !== undefined || pushedWithin !== undefined;
    const described = timed ? await source.describeTag?.(name, input) : undefined;
    const found = await source.resolve(name, input);
    if (found === undefined) absent.push(name);
    else entries.push({ ...described, name, digest: found.digest });
  });
  const { selected, young } = selectTags(entries, input.rule, Date.now());
  const explicit = input.rule.source.selector.kind === 'tags';
  return { ...nothingListed, selected, young, absent: explicit ? absent.sort() : [] };
}

async function listSource(
  input: PlanInput,
  asked: readonly string[] | undefined,
  limits: Limits,
): Promise<SourceListing> {
  const { rule, sides, onEvent } = input;
  const listing = await listAll(sides.source, input.signal, (tags) =>
    onEvent({ type: 'listing', rule: rule.name, tags }),
  );
  if (listing === undefined) {
    throw new HubferryError(
      'ERR_NOT_FOUND',
      `${sides.source.name} does not exist, or the login may not see it`,
    );
  }
  const names = new Set(listing.map((entry) => entry.name));
  const said = rule.referrers ? listing.filter((entry) => isReferrerTag(entry.name)) : [];
  const wanted = asked === undefined ? undefined : new Set(asked);
  const entries = wanted === undefined ? listing : listing.filter((entry) => wanted.has(entry.name));
  const { selected, young } = selectTags(entries, rule, Date.now());
  const explicit = rule.source.selector.kind === 'tags' ? (asked ?? []) : [];
  return {
    selected: await withDigests(sides.source, selected, input.signal, limits),
    young,
    absent: explicit.filter((tag) => !names.has(tag)),
    names,
    whole: true,
    referrers: new ReferrerTags(await withDigests(sides.source, said, input.signal, limits)),
  };
}

/** Every tag of a repository; `undefined` where there is no such repository. */
export async function listAll(
  lister: TagLister,
  signal: AbortSignal,
  progress?: (tags: number) => void,
): Promise<TagEntry[] | undefined> {
  const tags: TagEntry[] = [];
  let cursor: string | undefined;
  do {
    const page = await lister.listTags({ cursor, signal });
    if (page === undefined) return cursor === undefined ? undefined : tags;
    for (const entry of page.tags) tags.push(entry);
    progress?.(tags.length);
    cursor = page.next;
  } while (cursor !== undefined);
  return tags;
}

/** A HEAD for each entry whose digest the listing does not tell; an entry that is gone meanwhile is left out. */
async function withDigests(
  side: { resolve(tag: string, options: { signal: AbortSignal }): Promise<{ digest: Digest } | undefined> },
  entries: readonly TagEntry[],
  signal: AbortSignal,
  limits: Limits,
): Promise<TagEntry[]> {
  const complete: (TagEntry | undefined)[] = [...entries];
  await forEachOf(entries.entries(), limits.lookups, async ([index, entry]) => {
    if (entry.digest !== undefined) return;
    const found = await side.resolve(entry.name, { signal });
    complete[index] = found === undefined ? undefined : { ...entry, digest: found.digest };
  });
  return complete.filter((entry) => entry !== undefined);
}

/** The target's tags that the plan needs: all of them from a listing, or one HEAD each where they are few or may not be listed. */
async function readTarget(input: PlanInput, source: SourceListing, limits: Limits): Promise<TargetListing> {
  const { sides, signal, rule } = input;
  const wanted = source.selected.map((entry) => targetTagOf(input, entry));
  if (wanted.length < listingPaysFrom && !source.whole && !rule.prune)
    return askTarget(input, wanted, limits);
  let listing: TagEntry[] | undefined;
  try {
    listing = await listAll(sides.target, signal);
  } catch (error) {
    if (!(error instanceof HubferryError) || error.code !== 'ERR_FORBIDDEN') throw error;
    return askTarget(input, wanted, limits);
  }
  const needed = new Set(wanted);
  const entries = (listing ?? []).filter((entry) => needed.has(entry.name) || rule.prune);
  const complete = await withDigests(
    sides.target,
    entries.filter((e) => needed.has(e.name)),
    signal,
    limits,
  );
  return { tags: new Map([...entries, ...complete].map((entry) => [entry.name, entry])) };
}

async function askTarget(input: PlanInput, tags: readonly string[], limits: Limits): Promise<TargetListing> {
  const entries = await withDigests(
    input.sides.target,
    tags.map((name) => ({ name })),
    input.signal,
    limits,
  );
  return { tags: new Map(entries.map((entry) => [entry.name, entry])) };
}

/** A target with tags of its own takes them left to right. */
function targetTagOf({ rule, target }: PlanInput, entry: TagEntry): string {
  if (target.tags === undefined) return entry.name;
  const { selector } = rule.source;
  const index = selector.kind === 'tags' ? selector.tags.indexOf(entry.name) : 0;
  return target.tags[index] ?? entry.name;
}

/** Both listings side by side. */
class Comparison {
  readonly #input: PlanInput;
  readonly #source: SourceListing;
  readonly #target: TargetListing;
  readonly #derived: ReadonlyMap<Digest, Derived> | undefined;
  /** Referrers that were brought: `tag@digest`. */
  readonly #known: ReadonlySet<string>;
  readonly #facts: Facts;
  readonly #derive: Planner['derive'];
  readonly #tagged: ReadonlySet<Digest | undefined>;
  /** Referrer tags of what no selected tag stands for. */
  readonly #strays: readonly ReferrerTag[];

  constructor(
    input: PlanInput,
    source: SourceListing,
    target: TargetListing,
    derived: ReadonlyMap<Digest, Derived> | undefined,
    known: ReadonlySet<string>,
    facts: Facts,
    derive: Planner['derive'],
  ) {
    this.#input = input;
    this.#source = source;
    this.#target = target;
    this.#derived = derived;
    this.#known = known;
    this.#facts = facts;
    this.#derive = derive;
    this.#tagged = new Set([...source.selected, ...source.young].map((entry) => entry.digest));
    this.#strays = [...source.referrers.roots].flatMap(([root, tags]) =>
      this.#tagged.has(root) ? [] : tags,
    );
  }

  async lines(width: number): Promise<PlannedLine[]> {
    const lines: PlannedLine[] = [];
    await forEachOf(this.#source.selected.entries(), width, async ([index, entry]) => {
      lines[index] = await this.#guarded(entry);
    });
    for (const entry of this.#source.young) lines.push(this.#line(entry, 'skip', { reason: 'too young' }));
    for (const tag of this.#source.absent) lines.push(this.#absent(tag));
    lines.push(...(await this.#lateForUntagged(width)));
    return lines;
  }

  async #guarded(entry: TagEntry): Promise<PlannedLine> {
    try {
      return await this.#compare(entry);
    } catch (error) {
      this.#input.signal.throwIfAborted();
      return this.#line(entry, 'failed', { error: summarize(error) });
    }
  }

  async #compare(listed: TagEntry): Promise<PlannedLine> {
    const { rule, rival, force } = this.#input;
    const targetTag = targetTagOf(this.#input, listed);
    const other = rival(targetTag);
    if (other !== undefined) return this.#conflict(listed, other);
    const entry = await this.#confirmed(listed);
    if (entry?.digest === undefined) return this.#line(listed, 'skip', { reason: 'gone at source' });
    const present = await this.#present(targetTag, entry);
    const expected = await this.#expected(entry, present);
    if (expected === 'skip') return this.#line(entry, 'skip', { reason: 'none of its platforms is kept' });
    if (present?.digest === undefined) return this.#copy(entry, 'new tag', undefined);
    if (expected === undefined) return this.#copy(entry, 'its platforms are to be compared', present.digest);
    if (await this.#isSame(expected, present.digest)) {
      if (force) return this.#copy(entry, 'forced', present.digest);
      if (this.#hasLateReferrers(entry.digest, expected)) return this.#late(entry, entry.digest);
      return this.#line(entry, 'unchanged', { targetDigest: present.digest });
    }
    if (present.locked === true)
      return this.#line(entry, 'locked', {
        targetDigest: present.digest,
        reason: 'the target refuses changes',
      });
    if (!rule.overwrite)
      return this.#line(entry, 'skip', { targetDigest: present.digest, reason: 'not overwritten' });
    return this.#copy(entry, this.#reasonToMove(entry), present.digest);
  }

  #reasonToMove(entry: TagEntry): string {
    const known = entry.digest !== undefined && this.#derived?.has(entry.digest) === false;
    return known ? 'platform set changed' : 'moved';
  }

  /** A listing's digest that says `moved` or `new` is only a hint: the registry may know better. */
  async #confirmed(entry: TagEntry): Promise<TagEntry | undefined> {
    const { sides, confirm, signal } = this.#input;
    const present = this.#target.tags.get(targetTagOf(this.#input, entry))?.digest;
    if (!confirm || entry.name === '' || present === entry.digest || !this.#source.whole) return entry;
    if (entry.digest !== undefined && this.#derived?.get(entry.digest) === present && present !== undefined)
      return entry;
    const found = await sides.source.resolve(entry.name, { signal });
    return found === undefined ? undefined : { ...entry, digest: found.digest };
  }

  async #present(targetTag: string, entry: TagEntry): Promise<TagEntry | undefined> {
    if (targetTag !== '') return this.#target.tags.get(targetTag);
    const { sides, signal } = this.#input;
    const found =
      entry.digest === undefined ? undefined : await sides.target.resolve(entry.digest, { signal });
    return found === undefined ? undefined : { name: '', digest: found.digest };
  }

  /** The digest that the target is to have; `undefined` where telling would be billed as a pull. */
  async #expected(entry: TagEntry, present: TagEntry | undefined): Promise<Derived | undefined> {
    const { rule, sides, confirm, signal } = this.#input;
    const { digest } = entry;
    if (digest === undefined || rule.platforms.length === 0) return digest;
    const known = this.#derived?.get(digest);
    if (known !== undefined) return known;
    if (entry.platforms !== undefined && entry.platforms.length > 0) this.#refuseWithoutPlatform(entry);
    if (!confirm || (sides.source.billed === true && present === undefined)) return undefined;
    return this.#derive(rule, sides, digest, signal);
  }

  /** Docker Hub's listing tells the platforms of an index for nothing. */
  #refuseWithoutPlatform(entry: TagEntry): void {
    const { platforms } = this.#input.rule;
    const offered = entry.platforms ?? [];
    if (offered.length < 2 || offered.some((platform) => matchesPlatform(platform, platforms))) return;
    throw new HubferryError(
      'ERR_PLATFORM_MISSING',
      `${entry.name} has none of the platforms that the rule keeps; it has ${offered.map(formatPlatform).join(', ')}`,
    );
  }

  async #isSame(expected: Digest, present: Digest): Promise<boolean> {
    if (expected === present) return true;
    if (algorithmOf(expected) === algorithmOf(present)) return false;
    return sameBytes(expected, present, this.#input.sides, this.#facts, this.#input.signal);
  }

  /** Whether the listing shows a referrer of a tag's digest that was not brought yet. A derived index has none. */
  #hasLateReferrers(digest: Digest, expected: Digest): boolean {
    const { referrers } = this.#source;
    return digest === expected && referrers.about(digest).some((tag) => this.#isLate(tag));
  }

  #isLate({ tag, digest }: ReferrerTag): boolean {
    return !this.#known.has(`${tag}@${digest}`);
  }

  /** Its own referrers, and what is late of those that no tag leads to. */
  #late(entry: TagEntry, digest: Digest): PlannedLine {
    const referrerTags = this.#concerning(
      digest,
      this.#strays.filter((tag) => this.#isLate(tag)),
    );
    return { ...this.#line(entry, 'copy', { reason: lateReferrers }), referrerTags };
  }

  /**
   * Late referrers of what no tag stands for, such as the signature of one platform of an index: brought where the target has
   * what they are about. The others are noted, so that nobody asks again; they come with their subject, if ever it comes.
   */
  async #lateForUntagged(width: number): Promise<PlannedLine[]> {
    const { sides, signal } = this.#input;
    const lines: PlannedLine[] = [];
    await forEachOf(this.#source.referrers.roots, width, async ([subject, tags]) => {
      const late = tags.filter((tag) => this.#isLate(tag));
      if (late.length === 0 || this.#tagged.has(subject)) return;
      if ((await sides.target.resolve(subject, { signal })) === undefined) {
        for (const { tag, digest } of late) await this.#facts.noteReferrer(sides.target.name, tag, digest);
        return;
      }
      const line: PlanLine = {
        rule: this.#input.rule.name,
        source: `${sides.source.name}@${subject}`,
        target: `${sides.target.name}@${subject}`,
        digest: subject,
        outcome: 'copy',
        reason: lateReferrers,
      };
      lines.push({ line, sourceTag: '', targetTag: '', digest: subject, referrerTags: late });
    });
    return lines.sort((a, b) => (a.line.source < b.line.source ? -1 : 1));
  }

  /** What may concern a digest: all that is said about it, and what no tag leads to. Too many for a message: nothing. */
  #concerning(digest: Digest, strays: readonly ReferrerTag[]): readonly ReferrerTag[] | undefined {
    const about = this.#source.referrers.about(digest);
    return about.length + strays.length > maxReferrerTags ? undefined : [...about, ...strays];
  }

  #copy(entry: TagEntry, reason: string, present: Digest | undefined): PlannedLine {
    const facts = { reason, ...(present === undefined ? {} : { targetDigest: present }) };
    const planned = this.#line(entry, 'copy', facts);
    if (!this.#source.whole || entry.digest === undefined) return planned;
    return { ...planned, referrerTags: this.#concerning(entry.digest, this.#strays) };
  }

  #conflict(entry: TagEntry, other: string): PlannedLine {
    const message = `The rule "${other}" wants this target tag too`;
    return this.#line(entry, 'failed', { error: { code: 'ERR_TARGET_CONFLICT', message } });
  }

  #absent(tag: string): PlannedLine {
    const { sides, rule } = this.#input;
    const what = tag === '' && rule.source.selector.kind === 'digest' ? rule.source.selector.digest : tag;
    const message = `${sides.source.name} has no ${tag === '' ? 'manifest' : 'tag'} ${what}`;
    return this.#line({ name: tag }, 'failed', { error: { code: 'ERR_TAG_UNKNOWN', message } });
  }

  #line(
    entry: TagEntry,
    outcome: PlanAction,
    facts: Pick<PlanLine, 'reason' | 'error' | 'targetDigest'>,
  ): PlannedLine {
    const { rule, sides } = this.#input;
    const targetTag = targetTagOf(this.#input, entry);
    const { targetDigest, ...rest } = facts;
    const suffix = (tag: string) => (tag === '' ? `@${digestOfRule(rule) ?? ''}` : `:${tag}`);
    const line: PlanLine = {
      rule: rule.name,
      source: `${sides.source.name}${suffix(entry.name)}`,
      target: `${sides.target.name}${suffix(targetTag)}`,
      ...(entry.digest === undefined ? {} : { digest: entry.digest }),
      ...(targetDigest === undefined || targetDigest === entry.digest ? {} : { targetDigest }),
      outcome,
      ...rest,
    };
    return { line, sourceTag: entry.name, targetTag, digest: entry.digest };
  }
}

function digestOfRule(rule: Rule): Digest | undefined {
  return rule.source.selector.kind === 'digest' ? rule.source.selector.digest : undefined;
}

function deleteLine(input: PlanInput, tag: string, entry: TagEntry | undefined): PlannedLine {
  const { rule, sides } = input;
  const locked = entry?.locked === true;
  const line: PlanLine = {
    rule: rule.name,
    source: `${sides.source.name}:${tag}`,
    target: `${sides.target.name}:${tag}`,
    ...(entry?.digest === undefined ? {} : { digest: entry.digest }),
    outcome: locked ? 'locked' : 'delete',
    reason: 'gone at source',
  };
  return { line, sourceTag: tag, targetTag: tag, digest: entry?.digest };
}

function massDelete(input: PlanInput, gone: number, mirrored: number): PlannedLine {
  const { rule, sides } = input;
  const message = `Prune would delete ${gone} of ${mirrored} tags of ${sides.target.name}, more than its share`;
  const line: PlanLine = {
    rule: rule.name,
    source: sides.source.name,
    target: sides.target.name,
    outcome: 'failed',
    error: { code: 'ERR_MASS_DELETE', message },
  };
  return { line, sourceTag: '', targetTag: '' };
}

/** Copy and delete requests for what a plan found: tags of one digest in one request, each delete in one of its own. */
export function requestsOf(
  planned: readonly PlannedLine[],
  base: Pick<CopyRequest, 'run' | 'rule' | 'source' | 'target' | 'force'>,
  idOf: (kind: string, digest: string, tags: readonly string[]) => string,
): { request: CopyRequest; lines: PlanLine[] }[] {
  const requests: { request: CopyRequest; lines: PlanLine[] }[] = [];
  const byDigest = Map.groupBy(
    planned.filter(({ line }) => line.outcome === 'copy'),
    ({ digest }) => digest ?? '',
  );
  for (const group of byDigest.values()) {
    for (let at = 0; at < group.length; at += tagsPerRequest) {
      requests.push(copyRequest(group.slice(at, at + tagsPerRequest), base, idOf));
    }
  }
  for (const one of planned) if (one.line.outcome === 'delete') requests.push(deleteRequest(one, base, idOf));
  return requests;
}

/** Two names of at most 128 characters a tag: well within a message of 48 KiB. */
const tagsPerRequest = 100;

function copyRequest(
  group: readonly PlannedLine[],
  base: Parameters<typeof requestsOf>[1],
  idOf: Parameters<typeof requestsOf>[2],
): { request: CopyRequest; lines: PlanLine[] } {
  const tags = group.map((one) => ({ source: one.sourceTag, target: one.targetTag }));
  const [first] = group;
  const digest = first?.digest;
  return {
    request: {
      ...base,
      kind: 'copy',
      id: idOf(
        'copy',
        digest ?? '',
        tags.map((tag) => tag.target),
      ),
      tags,
      ...(digest === undefined ? {} : { digest }),
      reason: first?.line.reason ?? 'new tag',
      ...(first?.referrerTags === undefined ? {} : { referrerTags: [...first.referrerTags] }),
      attempt: 0,
    },
    lines: group.map((one) => one.line),
  };
}

function deleteRequest(
  one: PlannedLine,
  base: Parameters<typeof requestsOf>[1],
  idOf: Parameters<typeof requestsOf>[2],
): { request: CopyRequest; lines: PlanLine[] } {
  const tags = [{ source: one.sourceTag, target: one.targetTag }];
  return {
    request: {
      ...base,
      kind: 'delete',
      id: idOf('delete', one.digest ?? '', [one.targetTag]),
      tags,
      ...(one.digest === undefined ? {} : { digest: one.digest }),
      reason: 'gone at source',
      attempt: 0,
    },
    lines: [one.line],
  };
}
