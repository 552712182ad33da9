/** Rules that share a target repository, and what each may claim there; what a namespace rule stands for. */
import type { Rule, RuleTarget } from '../config/model.ts';
import { formatPlatformPattern } from '../oci/platform.ts';
import type { Sides } from './copier.ts';
import { listAll } from './planner.ts';
import { selectTags } from './select.ts';
import type { Tally } from './tally.ts';

export type Expander = (rule: Rule, tally: Tally, signal: AbortSignal) => Promise<Rule[]>;

/** For one rule and target: which other rule wants a target tag. */
export type RivalClaims = (rule: Rule, target: RuleTarget) => Promise<(tag: string) => string | undefined>;

/**
 * Listings are read for this only where two rules share a target repository, and once a run. A rival whose listing fails
 * claims nothing: its own plan says so.
 */
export function claimsOf(
  rules: readonly Rule[],
  open: (rule: Rule, target: RuleTarget) => Sides,
  signal: AbortSignal,
): RivalClaims {
  const known = new Map<string, Promise<ReadonlySet<string>>>();
  const claimed = (rule: Rule, target: RuleTarget) => {
    const key = `${rule.name}\n${rule.source.host}/${rule.source.path}\n${nameOf(target)}`;
    const claims = known.get(key) ?? readClaims(rule, target, open, signal);
    known.set(key, claims);
    return claims;
  };
  return async (rule, target) => {
    const rivals: { name: string; tags: ReadonlySet<string> }[] = [];
    for (const other of rules) {
      for (const shared of other === rule ? [] : other.targets.filter((t) => nameOf(t) === nameOf(target))) {
        if (!agree(other, rule)) rivals.push({ name: other.name, tags: await claimed(other, shared) });
      }
    }
    return (tag) => rivals.find((rival) => rival.tags.has(tag))?.name;
  };
}

function nameOf(target: RuleTarget): string {
  return `${target.host}/${target.path}`;
}

/** Two rules of one source repository agree on what a tag is, if they keep the same of an index and its name. */
function agree(a: Rule, b: Rule): boolean {
  const sameSource = a.source.host === b.source.host && a.source.path === b.source.path;
  return sameSource && !renames(a) && !renames(b) && platformsOf(a) === platformsOf(b);
}

function platformsOf(rule: Rule): string {
  return rule.platforms.map(formatPlatformPattern).sort().join();
}

function renames(rule: Rule): boolean {
  return rule.targets.some((target) => target.tags !== undefined);
}

async function readClaims(
  rule: Rule,
  target: RuleTarget,
  open: (rule: Rule, target: RuleTarget) => Sides,
  signal: AbortSignal,
): Promise<ReadonlySet<string>> {
  const { selector } = rule.source;
  if (target.tags !== undefined) return new Set(target.tags);
  if (selector.kind === 'tags') return new Set(selector.tags);
  if (selector.kind === 'digest') return new Set();
  try {
    const listing = await listAll(open(rule, target).source, signal);
    const { selected, young } = selectTags(listing ?? [], rule, Date.now());
    return new Set([...selected, ...young].map((entry) => entry.name));
  } catch (error) {
    if (signal.aborted) throw error;
    return new Set();
  }
}
