/** Rules that share a target repository, and what each may claim there. */

import type { Rule, RuleTarget } from '../../config/model.ts';
import { codeOf } from '../../errors.ts';
import { formatPlatformPattern } from '../../oci/platform.ts';
import type { Claims } from '../copy/work.ts';
import type { Tally } from '../runs/tally.ts';
import { TagNames } from '../select/names.ts';
import { forRepository, isNamespace } from '../select/namespace.ts';
import type { TagTest } from '../select/pattern.ts';
import { matchesNames, selectTags } from '../select/select.ts';
import type { Listing } from './listing.ts';

export type Expander = (rule: Rule, tally: Tally, signal: AbortSignal) => Promise<Rule[]>;

interface Claim {
  readonly rule: string;
  readonly wants: TagTest;
}

/** The tags that a rule selects of its source as it is now. */
export type SelectedTags = (rule: Rule, target: RuleTarget) => Promise<Iterable<string>>;

export interface ClaimOptions {
  readonly signal: AbortSignal;
  /** The tags of a target that came from a rule's source. */
  readonly mirrored: (rule: Rule, target: RuleTarget) => Promise<ReadonlySet<string>>;
  /** For which failures the caller waits: they are thrown. Any other makes suspects. @default for none */
  readonly awaits?: (error: unknown) => boolean;
}

export const noClaims: Claims = {
  rival: () => undefined,
  suspect: () => undefined,
  keeper: () => undefined,
};

/** Listings are read for this only where two rules that do not agree share a target repository. */
export async function claimsOn(
  target: RuleTarget,
  of: Rule,
  rules: readonly Rule[],
  selected: SelectedTags,
  options: ClaimOptions,
): Promise<Claims> {
  const rivals: Claim[] = [];
  const suspects: Claim[] = [];
  const keepers: Claim[] = [];
  for (const rule of rules) {
    const other = forTarget(rule, target);
    if (isSelf(other, of)) continue;
    for (const shared of other.targets) {
      if (!isSame(shared, target)) continue;
      const agrees = agreement({ rule: of, target }, { rule: other, target: shared });
      if (!other.prune) keepers.push(keeperOf(other, shared, agrees));
      if (agrees === always) continue;
      const claims = await rivalsOf(other, shared, selected, options);
      const wants: TagTest = (tag) => claims.wants(tag) && !agrees(tag);
      if (claims.certain) rivals.push({ rule: other.name, wants });
      else if (other === rule || !claims.denied) suspects.push({ rule: other.name, wants });
      else {
        // It need not have such a repository, and what it may not read it cannot put there: what it has filled shows otherwise.
        const filled = await options.mirrored(other, shared);
        suspects.push({ rule: other.name, wants: (tag) => wants(tag) && filled.has(tag) });
        keepers.push({ rule: other.name, wants });
      }
    }
  }
  return { rival: first(rivals), suspect: first(suspects), keeper: first(keepers) };
}

/** What a rule claims of what a listing shows: also what is too young as yet. */
export function selectedIn({ entries }: Listing, rule: Rule): string[] {
  const { selected, young } = selectTags(entries, rule, Date.now());
  return [...selected, ...young];
}

/** Whether any other rule has this target repository. */
export function isShared(target: RuleTarget, of: Rule, rules: readonly Rule[]): boolean {
  return rules.some((rule) => {
    const other = forTarget(rule, target);
    return !isSelf(other, of) && other.targets.some((shared) => isSame(shared, target));
  });
}

function first(claims: readonly Claim[]): (tag: string) => string | undefined {
  return (tag) => claims.find((claim) => claim.wants(tag))?.rule;
}

function isSame(a: RuleTarget, b: RuleTarget): boolean {
  return a.host === b.host && a.path === b.path;
}

/** A namespace rule for the repository that it would put there, if it has one of that name. */
function forTarget(rule: Rule, { host, path }: RuleTarget): Rule {
  const covering = rule.targets.find((target) => {
    const begin = target.path.slice(0, -1);
    return isNamespace(target) && target.host === host && path.startsWith(begin);
  });
  return covering === undefined ? rule : forRepository(rule, path.slice(covering.path.length - 1));
}

/** A namespace rule stands for one rule a repository; they have its name. */
function isSelf(other: Rule, rule: Rule): boolean {
  return other.name === rule.name && other.source.path === rule.source.path;
}

interface Place {
  readonly rule: Rule;
  readonly target: RuleTarget;
}

const always: TagTest = () => true;
const never: TagTest = () => false;

/** The target tags that two rules would fill from the same source tag, with the same of an index. */
function agreement(a: Place, b: Place): TagTest {
  const [from, other] = [a.rule.source, b.rule.source];
  const sameSource = from.host === other.host && from.path === other.path;
  if (!sameSource || platformsOf(a.rule) !== platformsOf(b.rule)) return never;
  if (a.target.tags === undefined && b.target.tags === undefined) return always;
  const [names, others] = [new TagNames(a.rule, a.target), new TagNames(b.rule, b.target)];
  return (tag) => names.source(tag) === others.source(tag);
}

function keeperOf(rule: Rule, target: RuleTarget, agrees: TagTest): Claim {
  const names = new TagNames(rule, target);
  const named = matchesNames(rule);
  const fills: TagTest = (tag) => target.tags === undefined || target.tags.includes(tag);
  return { rule: rule.name, wants: (tag) => fills(tag) && agrees(tag) && named(names.source(tag)) };
}

function platformsOf(rule: Rule): string {
  return rule.platforms.map(formatPlatformPattern).sort().join();
}

/** The target tags that a rule wants; not for certain where its source cannot be listed. */
async function rivalsOf(
  rule: Rule,
  target: RuleTarget,
  selected: SelectedTags,
  { signal, awaits }: ClaimOptions,
): Promise<{ readonly certain: boolean; readonly denied?: boolean; readonly wants: TagTest }> {
  const { selector } = rule.source;
  const named = target.tags ?? (selector.kind === 'tags' ? selector.tags : undefined);
  if (named !== undefined) return { certain: true, wants: oneOf(named) };
  if (selector.kind === 'digest') return { certain: true, wants: never };
  try {
    return { certain: true, wants: oneOf(await selected(rule, target)) };
  } catch (error) {
    signal.throwIfAborted();
    if (awaits?.(error)) throw error;
    // Its own plan says what is wrong.
    return { certain: false, denied: codeOf(error) === 'ERR_FORBIDDEN', wants: matchesNames(rule) };
  }
}

function oneOf(tags: Iterable<string>): TagTest {
  const names = new Set(tags);
  return (tag) => names.has(tag);
}
