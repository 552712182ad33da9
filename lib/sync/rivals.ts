/** Rules that share a target repository, and what each may claim there. */
import type { Rule, RuleTarget } from '../config/model.ts';
import { formatPlatformPattern } from '../oci/platform.ts';
import type { Listing } from './listing.ts';
import { forRepository } from './namespace.ts';
import type { TagTest } from './pattern.ts';
import { matchesNames, selectTags } from './select.ts';
import type { Tally } from './tally.ts';

export type Expander = (rule: Rule, tally: Tally, signal: AbortSignal) => Promise<Rule[]>;

/** What the other rules want of one target repository; each answer is a rule's name. */
export interface Claims {
  /** Who wants something else at a tag. */
  rival(tag: string): string | undefined;
  /** Who may want something else there: its source could not be listed. */
  suspect(tag: string): string | undefined;
  /** Who wants the same at a tag, and keeps it when it is gone at the source. */
  keeper(tag: string): string | undefined;
}

interface Claim {
  readonly rule: string;
  readonly wants: TagTest;
}

/** The tags that a rule selects of its source as it is now. */
export type SelectedTags = (rule: Rule, target: RuleTarget) => Promise<Iterable<string>>;

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
  signal: AbortSignal,
): Promise<Claims> {
  const rivals: Claim[] = [];
  const suspects: Claim[] = [];
  const keepers: Claim[] = [];
  for (const rule of rules) {
    const other = forTarget(rule, target);
    if (isSelf(other, of)) continue;
    for (const shared of other.targets) {
      if (!isSame(shared, target)) continue;
      if (!agree(other, of)) await addRival(other, shared, selected, signal, rivals, suspects);
      else if (!other.prune) keepers.push({ rule: other.name, wants: matchesNames(other) });
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
    return target.path.endsWith('/*') && target.host === host && path.startsWith(begin);
  });
  return covering === undefined ? rule : forRepository(rule, path.slice(covering.path.length - 1));
}

/** A namespace rule stands for one rule a repository; they have its name. */
function isSelf(other: Rule, rule: Rule): boolean {
  return other.name === rule.name && other.source.path === rule.source.path;
}

/** Two rules of one source repository agree on what a tag is, if they keep the same of an index and its name. */
function agree(a: Rule, b: Rule): boolean {
  const sameSource = a.source.host === b.source.host && a.source.path === b.source.path;
  return sameSource && !renames(a) && !renames(b) && platformsOf(a) === platformsOf(b);
}

function renames(rule: Rule): boolean {
  return rule.targets.some((target) => target.tags !== undefined);
}

function platformsOf(rule: Rule): string {
  return rule.platforms.map(formatPlatformPattern).sort().join();
}

async function addRival(
  rule: Rule,
  target: RuleTarget,
  selected: SelectedTags,
  signal: AbortSignal,
  rivals: Claim[],
  suspects: Claim[],
): Promise<void> {
  const { selector } = rule.source;
  const named = target.tags ?? (selector.kind === 'tags' ? selector.tags : undefined);
  if (named !== undefined) return void rivals.push(claimOf(rule, named));
  if (selector.kind === 'digest') return;
  try {
    rivals.push(claimOf(rule, await selected(rule, target)));
  } catch {
    signal.throwIfAborted();
    // Its own plan says what is wrong.
    suspects.push({ rule: rule.name, wants: matchesNames(rule) });
  }
}

function claimOf({ name }: Rule, tags: Iterable<string>): Claim {
  const names = new Set(tags);
  return { rule: name, wants: (tag) => names.has(tag) };
}
