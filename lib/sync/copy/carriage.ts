/** One copy request under way: both sides are asked what the tags are *now*, and the tags move last. */
import type { Rule } from '../../config/model.ts';
import { codeOf, type ErrorSummary, HubferryError } from '../../errors.ts';
import type { Descriptor, Digest, Manifest } from '../../oci/descriptor.ts';
import { algorithmOf } from '../../oci/digest.ts';
import { refuseSchema1 } from '../../oci/manifest.ts';
import { forEachOf, StoppedError } from '../concurrency.ts';
import type { CopyRequest } from '../request.ts';
import type { Line, SyncOutcome } from '../runs/report.ts';
import type { TagTest } from '../select/pattern.ts';
import { judgeAge, matchesNames } from '../select/select.ts';
import { type Cargo, deriveCargo } from './cargo.ts';
import { type Derived, digestIn, type Facts, type Remembered } from './facts.ts';
import { type GraphCopier, knownFromPresent, nothingDerived, type Passage, passageOf } from './graph.ts';
import type { Hold, TagLocks } from './locks.ts';
import { type CopyResult, isRetryable, lockedReason, outcomeOf, type TagPair } from './outcome.ts';
import { lateReferrers, type ReferrerCopier } from './referrers.ts';
import { sameBytes } from './same-bytes.ts';
import type { Sides } from './sides.ts';
import { BusyError, type Work } from './work.ts';

/** What all copies of a process share. */
export interface Carriers {
  readonly graph: GraphCopier;
  readonly referrers: ReferrerCopier;
  readonly locks: TagLocks;
  readonly facts: Facts;
}

interface Look {
  readonly pair: TagPair;
  readonly from: Descriptor | undefined;
  readonly to: Descriptor | undefined;
}

/** The reason of a follow-up. */
export const moved = 'moved';

/** A look at the source that is not older than this still counts when the tag moves. */
const freshLookMs = 2000;
const platformReason = 'none of its platforms is kept';

export class Carriage {
  readonly #request: CopyRequest;
  readonly #rule: Rule;
  readonly #sides: Sides;
  readonly #work: Work;
  readonly #graph: GraphCopier;
  readonly #referrers: ReferrerCopier;
  readonly #locks: TagLocks;
  readonly #facts: Facts;
  readonly #selects: TagTest;
  readonly #startedAt = Date.now();
  readonly #lines: Line<SyncOutcome>[] = [];
  /** Tags that are something else by now, and what. */
  readonly #moved = new Map<TagPair, Digest>();
  /** Tags that are as they are to be, and lack only what was said about them later. */
  readonly #equal = new Set<TagPair>();
  /** Tags that have their line. */
  readonly #settled = new Set<TagPair>();
  readonly #memory = new Map<Digest, Promise<Remembered | undefined>>();
  /** What platforms make of the source, where it gets no tag. */
  #derived: Digest | undefined;
  #retry: unknown;
  /** Bytes that no line has told of yet. */
  readonly #sent = { bytes: 0 };

  constructor(
    request: CopyRequest,
    rule: Rule,
    sides: Sides,
    work: Work,
    { graph, referrers, locks, facts }: Carriers,
  ) {
    this.#request = request;
    this.#rule = rule;
    this.#selects = matchesNames(rule);
    this.#sides = sides;
    this.#work = { ...work, sent: this.#sent };
    this.#graph = graph;
    this.#referrers = referrers;
    this.#locks = locks;
    this.#facts = facts;
  }

  async run(): Promise<CopyResult> {
    await this.#guarded(this.#request.tags, async () => {
      const looks = await this.#look();
      const wanted: Look[] = [];
      for (const look of looks) if (await this.#decide(look)) wanted.push(look);
      await this.#carry(wanted);
    });
    const followUp = this.#followUp();
    return {
      lines: this.#lines,
      ...(followUp === undefined ? {} : { followUp }),
      ...(this.#retry === undefined ? {} : { retry: this.#retry }),
    };
  }

  /** Both sides, now; HEADs are free. */
  async #look(): Promise<Look[]> {
    const { source, target } = this.#sides;
    const looks: Look[] = [];
    const signal = this.#work.stop;
    const { digest, tags } = this.#request;
    if (digest !== undefined && tags.some((pair) => this.#isFoundByDigest(pair)))
      this.#derived = digestIn(await this.#remembered(digest));
    await forEachOf(this.#request.tags.entries(), 8, async ([index, pair]) => {
      const there = target.resolve(targetReference(pair, this.#request, this.#derived), { signal });
      // What was said late about a digest concerns the target, whether the source still has it or not.
      const isAtTarget = this.#request.reason === lateReferrers && pair.source === '';
      const asked = isAtTarget ? there : source.resolve(sourceReference(pair, this.#request), { signal });
      const [from, to] = await Promise.all([asked, there]);
      looks[index] = { pair, from, to };
    });
    return looks;
  }

  /** What gets no tag at the target is found there by its own digest, which platforms change. */
  #isFoundByDigest(pair: TagPair): boolean {
    return pair.target === '' && this.#derives(pair);
  }

  /** What is remembered of a digest and the rule's platforms; many tags may be of it. */
  #remembered(digest: Digest): Promise<Remembered | undefined> {
    const known =
      this.#memory.get(digest) ??
      this.#facts.derived(this.#rule.platforms, digest).then((derived) => derived.get(digest));
    this.#memory.set(digest, known);
    return known;
  }

  /** What is asked for late by its digest is a child that is at the target as it is. */
  #derives({ source }: TagPair): boolean {
    return this.#rule.platforms.length > 0 && !(this.#request.reason === lateReferrers && source === '');
  }

  /** Decides each filter again for what the tag is now; true where it is to be copied. */
  async #decide(look: Look): Promise<boolean> {
    const { pair, from, to } = look;
    if (from === undefined) return this.#settle(pair, 'skipped', { reason: 'gone at source' });
    if (pair.source !== '' && !this.#selects(pair.source)) {
      return this.#settle(pair, 'skipped', { digest: from.digest, reason: 'no longer selected by the rule' });
    }
    const claims = await this.#work.claims?.();
    const rival = claims?.rival(pair.target);
    if (rival !== undefined)
      return this.#settle(pair, 'failed', { digest: from.digest, error: wantedBy(rival) });
    const expected = await this.#expected(from, pair);
    if (expected === 'skip')
      return this.#settle(pair, 'skipped', { digest: from.digest, reason: platformReason });
    const same = expected !== undefined && to !== undefined && (await this.#isSame(expected, to.digest));
    if (same && !this.#request.force) {
      if (this.#request.reason !== lateReferrers || !this.#rule.referrers) {
        await this.#mendRecord(pair, to.digest);
        return this.#settleAt(look, 'unchanged', expected);
      }
      this.#equal.add(pair);
    }
    if (expected !== undefined && !same && this.#leaves(look, expected)) return false;
    const suspect = to === undefined || same ? undefined : claims?.suspect(pair.target);
    if (suspect !== undefined)
      return this.#settle(pair, 'failed', { digest: from.digest, error: wantedBy(suspect) });
    if (this.#request.digest !== undefined && from.digest !== this.#request.digest) {
      this.#supersede(pair, from.digest);
      return false;
    }
    return (await this.#oldEnough(look)) && !this.#work.stop.aborted;
  }

  /** Whether the rule lets the tag stay another than it is to be. */
  #leaves(look: Look, wanted: Digest): boolean {
    const { to } = look;
    if (this.#rule.overwrite || to === undefined || to.digest === wanted) return false;
    this.#settleAt(look, 'skipped', to.digest, 'not overwritten');
    return true;
  }

  /** What the listing does not know yet was pushed just now; without a time, the minimum age is over after it, from now on. */
  async #oldEnough({ pair, from }: Look): Promise<boolean> {
    const { minimumAge, pushedWithin } = this.#rule.tags;
    if ((minimumAge === undefined && pushedWithin === undefined) || pair.source === '') return true;
    const entry = await this.#sides.source.describeTag?.(pair.source, { signal: this.#work.stop });
    const isNewer = entry?.digest !== undefined && entry.digest !== from?.digest;
    const verdict = judgeAge(this.#rule.tags, isNewer ? Date.now() : entry?.pushedAt, Date.now());
    const facts = { digest: from?.digest };
    switch (verdict.kind) {
      case 'right':
        return true;
      case 'old':
        return this.#settle(pair, 'skipped', { ...facts, reason: 'no longer selected by the rule' });
      case 'young': {
        const until = new Date(verdict.until ?? Date.now() + (minimumAge ?? 0)).toISOString();
        return this.#settle(pair, 'deferred', { ...facts, reason: 'too young', until });
      }
    }
  }

  /** The digest that the target is to have: known without a pull, or `undefined`. */
  async #expected(from: Descriptor, pair: TagPair): Promise<Derived | undefined> {
    if (!this.#derives(pair)) return from.digest;
    const { platforms } = this.#rule;
    const derived = await this.#remembered(from.digest);
    if (derived === 'failed') throw await this.#facts.whyNotDerived(platforms, from.digest);
    return derived;
  }

  /** Digests of different algorithms may be of the same bytes: those are compared once, and remembered. */
  async #isSame(expected: Digest, present: Digest): Promise<boolean> {
    if (expected === present) return true;
    if (algorithmOf(expected) === algorithmOf(present)) return false;
    return sameBytes(expected, present, this.#sides.target, this.#facts, this.#work.stop);
  }

  /** Copies what was decided for. After the decisions all looks are of one digest, unless the request names none. */
  async #carry(wanted: readonly Look[]): Promise<void> {
    const groups = Map.groupBy(wanted, (look) => look.from?.digest);
    for (const looks of groups.values()) {
      await this.#guarded(
        looks.map((look) => look.pair),
        () => this.#carryDigest(looks),
      );
    }
  }

  async #carryDigest(looks: readonly Look[]): Promise<void> {
    const passage = passageOf(this.#sides, this.#work, this.#request.force);
    let goesOn = true;
    try {
      const [equal = [], others = []] = [true, false].map((is) =>
        looks.filter(({ pair }) => this.#equal.has(pair) === is),
      );
      await this.#bringReferrers(equal, passage);
      await this.#bring(others, passage);
      goesOn = this.#retry !== undefined || this.#lines.some(({ outcome }) => outcome === 'deferred');
    } finally {
      await this.#graph.leave(passage, goesOn);
    }
  }

  async #bringReferrers(looks: readonly Look[], passage: Passage): Promise<void> {
    const [first] = looks;
    if (first?.to === undefined) return;
    const { manifest } = await this.#graph.obtain(first.to, passage);
    const { digest } = first.to;
    const derived = digest === first.from?.digest ? nothingDerived : new Map([[digest, manifest]]);
    await this.#copyReferrers(manifest, { ...passage, derived });
    for (const look of looks) this.#settleAt(look, 'copied', first.to.digest, this.#request.reason);
  }

  async #bring(looks: readonly Look[], passage: Passage): Promise<void> {
    const from = looks[0]?.from;
    if (from === undefined) return;
    const cargo = await this.#load(from, passage);
    if ('skip' in cargo) {
      for (const { pair } of looks)
        this.#settle(pair, 'skipped', { digest: from.digest, reason: cargo.skip });
      return;
    }
    const { manifest } = cargo;
    const here = { ...passage, derived: cargo.derived };
    const open = await this.#withoutEqual(await this.#lookedAgain(looks, manifest), manifest, here);
    if (open.length === 0) return;
    await this.#copyBelow(open, manifest, here);
    await forEachOf(open, 4, (look) =>
      this.#guarded([look.pair], () => this.#moveIfOpen(look, from.digest, manifest, here)),
    );
  }

  /** A lock on what is as it is to be is no failure. */
  async #moveIfOpen(look: Look, digest: Digest, manifest: Manifest, passage: Passage): Promise<void> {
    try {
      await this.#move(look, digest, manifest, passage);
    } catch (error) {
      const { digest: wanted } = manifest.descriptor;
      if (codeOf(error) !== 'ERR_LOCKED' || look.to?.digest !== wanted) throw error;
      // Without a digest of the target's: none is to be compared.
      this.#settle(look.pair, 'locked', { digest, reason: lockedReason });
    }
  }

  /**
   * With `platforms`, whether a tag is equal, or is to stay, may show only once its index is derived; its referrers may be
   * new all the same.
   */
  async #withoutEqual(looks: readonly Look[], manifest: Manifest, passage: Passage): Promise<Look[]> {
    const { digest } = manifest.descriptor;
    const isEqual = (look: Look) => look.to?.digest === digest && !this.#request.force;
    const equal = looks.filter(isEqual);
    const listed = this.#request.referrerTags ?? [];
    if (equal.length > 0 && listed.length > 0 && this.#rule.referrers) {
      await this.#copyReferrers(manifest, passage);
    }
    for (const look of equal) this.#settleAt(look, 'unchanged', digest);
    return looks.filter((look) => !isEqual(look) && !this.#leaves(look, digest));
  }

  /** What gets no tag is looked for once more where it was not known what platforms make of it. */
  async #lookedAgain(looks: readonly Look[], { descriptor: { digest } }: Manifest): Promise<readonly Look[]> {
    if (this.#derived === digest || !looks.some(({ pair }) => this.#isFoundByDigest(pair))) return looks;
    this.#derived = digest;
    const to = await this.#sides.target.resolve(digest, { signal: this.#work.stop });
    return looks.map((look) => ({ ...look, to }));
  }

  async #copyBelow(looks: readonly Look[], manifest: Manifest, passage: Passage): Promise<void> {
    const present = looks.find((look) => look.to !== undefined)?.to?.digest;
    const { target, work } = passage;
    const known =
      present === undefined || passage.thorough
        ? passage.known
        : await knownFromPresent(present, manifest, target, work.stop);
    await this.#graph.ensureBelow(manifest, { ...passage, known });
    if (this.#rule.referrers) await this.#copyReferrers(manifest, passage);
  }

  async #copyReferrers(manifest: Manifest, passage: Passage): Promise<void> {
    const { referrerTags = [], moreReferrers } = this.#request;
    const isAll = this.#request.referrerTags !== undefined && !moreReferrers;
    const tags = new Map(referrerTags.map(({ tag, digest }) => [tag, digest] as const));
    const { tags: brought, subjects } = await this.#referrers.copyFor(manifest, passage, { tags, isAll });
    const { name } = passage.target;
    for (const [tag, digest] of brought) await this.#facts.noteReferrer(name, tag, digest);
    if (isAll) await this.#recall(name, subjects);
  }

  /** A plan that came before its subject did may have put aside what this request does not name. */
  async #recall(target: string, subjects: ReadonlySet<Digest>): Promise<void> {
    const asides = await this.#facts.asides(target);
    for (const aside of asides) if (subjects.has(aside.subject)) await this.#facts.forgetAside(target, aside);
  }

  /** The manifest that the target is to have. */
  async #load(from: Descriptor, passage: Passage): Promise<Cargo> {
    refuseSchema1(from);
    const { platforms } = this.#rule;
    if (platforms.length > 0) return deriveCargo(from, platforms, passage, this.#graph, this.#facts);
    const { manifest } = await this.#graph.obtain(from, passage);
    return { manifest, derived: nothingDerived };
  }

  /** The tag moves last, alone, and only to what the source's tag still is; then the source is looked at once more. */
  async #move(look: Look, digest: Digest, manifest: Manifest, passage: Passage): Promise<void> {
    const { target, work } = passage;
    const reference = targetReference(look.pair, this.#request, manifest.descriptor.digest);
    await work.stillWanted?.();
    // Others move at the same time: what is sent for this tag is told of this tag.
    const sent = { bytes: 0 };
    const move = async (hold: Hold) => {
      const stale = Date.now() - this.#startedAt > freshLookMs || hold.movedSince(this.#startedAt);
      if (stale && !(await this.#stillAt(look.pair, digest))) return false;
      await hold.moves();
      await this.#graph.push(manifest, reference, { ...passage, work: { ...work, sent } });
      await this.#noteMirrored(look.pair, manifest.descriptor.digest);
      const targetDigest = manifest.descriptor.digest;
      const facts = {
        digest,
        reason: this.#request.reason,
        ...(targetDigest !== digest && { targetDigest }),
      };
      this.#settle(look.pair, 'copied', facts, sent);
      return true;
    };
    try {
      const moves = await this.#locks.hold(`${target.name}:${reference}`, work.stop, move);
      if (moves) await this.#lookOnceMore(look.pair, digest);
    } finally {
      this.#sent.bytes += take(sent);
    }
  }

  async #noteMirrored(pair: TagPair, digest: Digest): Promise<void> {
    const { source, target } = this.#sides;
    const put = { digest, from: pair.source };
    if (pair.target !== '') await this.#facts.noteMirrored(source.name, target.name, pair.target, put);
  }

  /**
   * A crash right after a move leaves the record of the digest before: the next attempt finds the tag as it is to be. What
   * goes by its digest alone has no record.
   */
  async #mendRecord(pair: TagPair, digest: Digest): Promise<void> {
    if (pair.target === '') return;
    const { source, target } = this.#sides;
    const put = await this.#facts.mirroredAs(source.name, target.name, pair.target);
    if (put !== undefined && put.digest !== digest) await this.#noteMirrored(pair, digest);
  }

  /** Before the move: false, with its line written, where the tag is something else by now. */
  async #stillAt(pair: TagPair, digest: Digest): Promise<boolean> {
    const now = await this.#sides.source.resolve(sourceReference(pair, this.#request), {
      signal: this.#work.stop,
    });
    if (now?.digest === digest) return true;
    if (now === undefined) this.#settle(pair, 'skipped', { digest, reason: 'gone at source' });
    else this.#supersede(pair, now.digest);
    return false;
  }

  /** After the move: a push that came in between is queued again. Its failure is not this line's. */
  async #lookOnceMore(pair: TagPair, digest: Digest): Promise<void> {
    if (pair.source === '') return;
    const now = await this.#sides.source
      .resolve(pair.source, { signal: this.#work.end })
      .catch(() => undefined);
    if (now !== undefined && now.digest !== digest) this.#moved.set(pair, now.digest);
  }

  #supersede(pair: TagPair, digest: Digest): void {
    this.#moved.set(pair, digest);
    this.#settle(pair, 'superseded', { digest: this.#request.digest, reason: `the tag is now ${digest}` });
  }

  /** For what the tags are by now; without a digest where they went different ways: each is asked for. */
  #followUp(): CopyRequest | undefined {
    const [digest, ...others] = new Set(this.#moved.values());
    if (digest === undefined) return undefined;
    const { referrerTags: _, moreReferrers: __, digest: ___, kept: ____, ...request } = this.#request;
    const one = others.length === 0 ? { digest } : {};
    return { ...request, ...one, tags: [...this.#moved.keys()], reason: moved, attempt: 0 };
  }

  /** Turns what goes wrong into lines for the tags that have none yet. */
  async #guarded(pairs: readonly TagPair[], work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (error instanceof StoppedError || error instanceof BusyError) throw error;
      if (this.#work.stop.aborted) throw this.#work.stop.reason;
      const open = pairs.filter((pair) => !this.#settled.has(pair));
      for (const pair of open) await this.#settleFailure(pair, error);
    }
  }

  async #settleFailure(pair: TagPair, error: unknown): Promise<void> {
    const { digest } = this.#request;
    if (error instanceof HubferryError && error.code === 'ERR_BLOB_MISSING' && digest !== undefined) {
      // No failure before the tag was resolved again: what was moved or deleted loses its content at once.
      const still = await this.#stillAt(pair, digest).catch(() => true);
      if (!still) return;
    }
    const [outcome, facts] = outcomeOf(error);
    if (outcome === 'failed' && isRetryable(error)) this.#retry ??= error;
    this.#settle(pair, outcome, { digest, ...facts });
  }

  #settleAt({ pair, from }: Look, outcome: SyncOutcome, present: Digest, reason?: string): false {
    return this.#settle(pair, outcome, {
      digest: from?.digest,
      ...(present === from?.digest ? {} : { targetDigest: present }),
      reason,
    });
  }

  /** @param own what was sent for this tag alone */
  #settle(pair: TagPair, outcome: SyncOutcome, facts: LineFacts, own = { bytes: 0 }): false {
    const bytes = take(this.#sent) + take(own);
    this.#settled.add(pair);
    const { digest, targetDigest, reason, until, error } = facts;
    this.#lines.push({
      rule: this.#rule.name,
      source: `${this.#sides.source.name}${suffixOf(pair.source, digest)}`,
      target: this.#targetName(pair),
      ...(digest === undefined ? {} : { digest }),
      ...(targetDigest === undefined ? {} : { targetDigest }),
      outcome,
      ...(reason === undefined ? {} : { reason }),
      ...(error === undefined ? {} : { error }),
      ...(until === undefined ? {} : { until }),
      bytes,
      startedAt: new Date(this.#startedAt).toISOString(),
      durationMs: Date.now() - this.#startedAt,
    });
    return false;
  }

  #targetName(pair: TagPair): string {
    return `${this.#sides.target.name}${suffixOf(pair.target, this.#derived ?? this.#request.digest)}`;
  }
}

/** Bytes that no line has told of yet: this one does. */
function take(sent: { bytes: number }): number {
  const { bytes } = sent;
  sent.bytes = 0;
  return bytes;
}

interface LineFacts {
  readonly digest?: string | undefined;
  readonly targetDigest?: string;
  readonly reason?: string | undefined;
  readonly until?: string | undefined;
  readonly error?: ErrorSummary | undefined;
}

function wantedBy(rule: string): ErrorSummary {
  return { code: 'ERR_TARGET_CONFLICT', message: `The rule "${rule}" wants this target tag too` };
}

function suffixOf(tag: string, digest: string | undefined): string {
  return tag === '' ? `@${digest ?? ''}` : `:${tag}`;
}

function sourceReference(pair: TagPair, request: CopyRequest): string {
  return pair.source === '' ? (request.digest ?? '') : pair.source;
}

function targetReference(pair: TagPair, request: CopyRequest, derived?: Digest): string {
  return pair.target === '' ? (derived ?? request.digest ?? '') : pair.target;
}
