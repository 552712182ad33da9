/** Both listings side by side: a line for each selected tag, with its reason. Neither side is written. */

import { HubferryError, summarize } from '../../errors.ts';
import type { Digest } from '../../oci/descriptor.ts';
import { algorithmOf } from '../../oci/digest.ts';
import { formatPlatform, matchesPlatform } from '../../oci/platform.ts';
import type { TagEntry } from '../../oci/roles.ts';
import { forEachOf } from '../concurrency.ts';
import type { Derive } from '../copy/copier.ts';
import type { Derived, Facts, Remembered } from '../copy/facts.ts';
import { lateReferrers } from '../copy/referrers.ts';
import { sameBytes } from '../copy/same-bytes.ts';
import { nameOf } from '../select/names.ts';
import type { PlanLine, Task } from './fan-out.ts';
import type { LateReferrers } from './late-referrers.ts';
import type { Pruned } from './prune.ts';
import { type Pair, SameLine } from './same-line.ts';

export interface Compared extends Pair {
  /** What the rule's platforms make of a digest, as far as it is remembered. */
  readonly derived: ReadonlyMap<Digest, Remembered>;
  /** Absent where the rule leaves them behind. */
  readonly referrers: LateReferrers | undefined;
  readonly facts: Facts;
  readonly derive: Derive;
}

type LineFacts = Pick<PlanLine, 'outcome' | 'reason' | 'error'> & { readonly targetDigest?: Digest };

export class Comparison {
  readonly lines: PlanLine[] = [];
  readonly tasks: Task[] = [];
  readonly #with: Compared;
  readonly #deriving = new Map<Digest, Promise<Derived>>();
  #derivations: Promise<ReadonlySet<string>> | undefined;

  constructor(compared: Compared) {
    this.#with = compared;
  }

  /** Adds a line for each of these source tags (or a digest), in their order. */
  async compare(tags: readonly string[], width: number): Promise<void> {
    const open = new Map<string, PlanLine | undefined>();
    const equal = tags.map((tag) => {
      const line = this.#ifEqual(tag);
      if (line === undefined) open.set(tag, undefined);
      return line;
    });
    await forEachOf(open.keys(), width, async (tag) => {
      open.set(tag, await this.#lineFor(tag));
    });
    tags.forEach((tag, index) => {
      const line = equal[index] ?? open.get(tag);
      if (line !== undefined) this.#add(tag, line);
    });
  }

  #add(source: string, line: PlanLine): void {
    this.lines.push(line);
    if (line.outcome !== 'copy') return;
    const { names, listings } = this.#with;
    this.tasks.push({ line, source, target: names.target(source), digest: listings.source.digestOf(source) });
  }

  /** The line of a tag that is as it is to be: most are, and nobody is asked about these. */
  #ifEqual(tag: string): PlanLine | undefined {
    const { input, listings, names, derived } = this.#with;
    const targetTag = names.target(tag);
    const digest = listings.source.digestOf(tag);
    if (digest === undefined || input.claims.rival(targetTag) !== undefined) return undefined;
    const expected = input.rule.platforms.length === 0 ? digest : derived.get(digest);
    const present = listings.target.digestOf(targetTag);
    return present !== undefined && present === expected ? this.#same(tag, digest, present) : undefined;
  }

  addSkipped(tag: string, reason: string): void {
    this.lines.push(this.#skip(tag, this.#with.listings.source.digestOf(tag), reason));
  }

  /** A tag or digest that the rule names and the source does not have. */
  addAbsent(reference: string): void {
    const what = `${reference.includes(':') ? 'manifest' : 'tag'} ${reference}`;
    const message = `${this.#with.input.sides.source.name} has no ${what}`;
    const error = { code: 'ERR_TAG_UNKNOWN', message } as const;
    this.lines.push(this.#line(reference, undefined, { outcome: 'failed', error }));
  }

  addPruned({ lines, tasks }: Pruned): void {
    for (const line of lines) this.lines.push(line);
    for (const task of tasks) this.tasks.push(task);
  }

  /**
   * Late referrers of what no tag stands for, such as the signature of one platform of an index: brought where the target has
   * what they are about. The others are put aside, so that nobody asks again until their subject comes.
   */
  async addStrays(width: number): Promise<void> {
    const { input, referrers, facts } = this.#with;
    const { target } = input.sides;
    const found: Digest[] = [];
    await forEachOf(referrers?.strays() ?? [], width, async ([subject, tags]) => {
      if ((await target.resolve(subject, { signal: input.signal })) !== undefined) found.push(subject);
      else if (!input.confirm)
        for (const { tag, digest } of tags) await facts.noteAside(target.name, { subject, tag, digest });
    });
    for (const digest of found.sort()) {
      const line = this.#line(digest, digest, { outcome: 'copy', reason: lateReferrers });
      this.lines.push(line);
      this.tasks.push({ line, source: digest, target: digest, digest });
    }
  }

  async #lineFor(tag: string): Promise<PlanLine> {
    try {
      return await this.#decide(tag);
    } catch (error) {
      const { signal, awaits } = this.#with.input;
      signal.throwIfAborted();
      if (awaits(error)) throw error;
      return this.#failed(tag, error);
    }
  }

  async #decide(tag: string): Promise<PlanLine> {
    const { input, listings, names } = this.#with;
    const targetTag = names.target(tag);
    const rival = input.claims.rival(targetTag);
    if (rival !== undefined) throw conflict(`The rule "${rival}" wants this target tag too`);
    throwIf(listings.source.failureOf(tag) ?? listings.target.failureOf(targetTag));
    const entry = await this.#confirmed(tag);
    if (entry?.digest === undefined) return this.#skip(tag, undefined, 'gone at source');
    const present = listings.target.get(targetTag);
    const expected = await this.#expected(entry, entry.digest, present);
    if (expected === 'skip') return this.#skip(tag, entry.digest, 'none of its platforms is kept');
    if (present?.digest === undefined) return this.#copy(tag, entry.digest, 'new tag');
    const targetDigest = present.digest;
    if (expected === undefined)
      return this.#copy(tag, entry.digest, 'its platforms are to be compared', targetDigest);
    if (await this.#isSame(expected, targetDigest)) return this.#same(tag, entry.digest, targetDigest);
    return this.#different(tag, entry.digest, present, targetDigest);
  }

  #same(tag: string, digest: Digest, targetDigest: Digest): PlanLine {
    const { input, referrers } = this.#with;
    if (input.force) return this.#copy(tag, digest, 'forced', targetDigest);
    // What is said about an index is not true of the one derived from it.
    const isLate = digest === targetDigest && referrers?.isLate(digest) === true;
    if (isLate) return this.#copy(tag, digest, lateReferrers);
    if (digest === targetDigest) return new SameLine(this.#with, tag);
    return this.#line(tag, digest, { outcome: 'unchanged', targetDigest });
  }

  async #different(tag: string, digest: Digest, present: TagEntry, targetDigest: Digest): Promise<PlanLine> {
    const { input, names } = this.#with;
    if (present.locked === true) {
      const facts = { outcome: 'locked', targetDigest, reason: 'the target refuses changes' } as const;
      // The source's own digest, where the rule's platforms make another one of it, does not show that it differs.
      const error = {
        code: 'ERR_LOCKED',
        message: 'The target has all platforms, and refuses changes',
      } as const;
      return this.#line(tag, digest, { ...facts, ...(targetDigest === digest && { error }) });
    }
    if (!input.rule.overwrite) return this.#skip(tag, digest, 'not overwritten', targetDigest);
    const suspect = input.claims.suspect(names.target(tag));
    if (suspect !== undefined) {
      throw conflict(`The rule "${suspect}" may want this target tag too: its source could not be listed`);
    }
    return this.#copy(tag, digest, await this.#reasonToMove(digest, targetDigest), targetDigest);
  }

  async #reasonToMove(digest: Digest, present: Digest): Promise<string> {
    if (digest === present) return 'platform set changed';
    this.#derivations ??= this.#with.facts.derivations();
    return (await this.#derivations).has(`${digest} ${present}`) ? 'platform set changed' : 'moved';
  }

  /** A listing's digest that says `moved` or `new` is only a hint: where people read the plan, the registry is asked. */
  async #confirmed(tag: string): Promise<TagEntry | undefined> {
    const { input, listings } = this.#with;
    return input.confirm ? listings.source.confirm(tag, input.signal) : listings.source.get(tag);
  }

  /** The digest that the target is to have; `undefined` where a pull would tell. */
  async #expected(
    entry: TagEntry,
    digest: Digest,
    present: TagEntry | undefined,
  ): Promise<Derived | undefined> {
    const { input, derived, derive } = this.#with;
    const { rule, sides, confirm } = input;
    if (rule.platforms.length === 0) return digest;
    const known = derived.get(digest);
    if (known === 'failed') throw await this.#with.facts.whyNotDerived(rule.platforms, digest);
    if (known !== undefined) return known;
    this.#refuseWithoutPlatform(entry);
    if (!confirm || (sides.source.billed === true && present === undefined)) return undefined;
    // Tags that share a digest make one pull.
    const deriving = this.#deriving.get(digest) ?? derive(digest, input);
    this.#deriving.set(digest, deriving);
    return deriving;
  }

  /** Docker Hub's listing tells the platforms of an index for nothing, though not always with the version of the system. */
  #refuseWithoutPlatform({ name, platforms = [] }: TagEntry): void {
    const kept = this.#with.input.rule.platforms.map(({ osVersion: _, ...pattern }) => pattern);
    if (platforms.length < 2 || platforms.some((platform) => matchesPlatform(platform, kept))) return;
    const offered = platforms.map(formatPlatform).join(', ');
    throw new HubferryError(
      'ERR_PLATFORM_MISSING',
      `${name} has none of the platforms that the rule keeps; it has ${offered}`,
    );
  }

  async #isSame(expected: Digest, present: Digest): Promise<boolean> {
    if (expected === present) return true;
    if (algorithmOf(expected) === algorithmOf(present)) return false;
    const { input, facts } = this.#with;
    return sameBytes(expected, present, input.sides.target, facts, input.signal);
  }

  #copy(tag: string, digest: Digest, reason: string, targetDigest?: Digest): PlanLine {
    return this.#line(tag, digest, { outcome: 'copy', reason, ...(targetDigest && { targetDigest }) });
  }

  #skip(tag: string, digest: Digest | undefined, reason: string, targetDigest?: Digest): PlanLine {
    return this.#line(tag, digest, { outcome: 'skip', reason, ...(targetDigest && { targetDigest }) });
  }

  #failed(tag: string, error: unknown): PlanLine {
    return this.#line(tag, this.#with.listings.source.digestOf(tag), {
      outcome: 'failed',
      error: summarize(error),
    });
  }

  #line(tag: string, digest: Digest | undefined, facts: LineFacts): PlanLine {
    const { input, names } = this.#with;
    const { rule, sides } = input;
    const { targetDigest, ...rest } = facts;
    return {
      rule: rule.name,
      source: nameOf(sides.source.name, tag),
      target: nameOf(sides.target.name, names.target(tag)),
      ...(digest === undefined ? {} : { digest }),
      ...(targetDigest === undefined || targetDigest === digest ? {} : { targetDigest }),
      ...rest,
    };
  }
}

function conflict(message: string): HubferryError {
  return new HubferryError('ERR_TARGET_CONFLICT', message);
}

function throwIf(error: unknown): void {
  if (error !== undefined) throw error;
}
