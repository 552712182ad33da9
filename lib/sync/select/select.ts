/**
 * Which tags a rule takes. Three kinds of filters, in this order: by name (one tag is enough to decide), by age
 * (needs the time of the last push), by count (needs the whole list).
 */
import type { Rule, TagFilter } from '../../config/model.ts';
import { isReferrerTag } from '../../oci/reference.ts';
import { compilePattern, type TagTest } from './pattern.ts';
import type { Dated } from './tag-table.ts';
import { compareVersions, parseRange, parseVersion, satisfies, type Version } from './version.ts';

type Selecting = Pick<Rule, 'source' | 'tags'>;

export interface Selection {
  /** In the order of their names. */
  readonly selected: readonly string[];
  /** What `minimumAge` alone holds back, in the order of their names. */
  readonly young: readonly string[];
}

/**
 * What the age filters say of a tag: `young` until it has its minimum age (a time that the source does not tell
 * never shows that), `old` when it was pushed before `pushedWithin`.
 */
export type AgeVerdict =
  | { readonly kind: 'right' }
  | { readonly kind: 'old' }
  | { readonly kind: 'young'; readonly until: number | undefined };

/**
 * The filters that a name alone decides: selector, include, exclude and semver. Compile once, then test many tags.
 * Tags of referrers are taken only where the source names them one by one.
 */
export function matchesNames(rule: Selecting): TagTest {
  const { include, exclude, semver, prerelease } = rule.tags;
  const selected = selectorTest(rule.source.selector);
  const included = anyOf(include.map(compilePattern));
  const excluded = anyOf(exclude.map(compilePattern));
  const inRange = semver === undefined ? () => true : rangeTest(semver, prerelease);
  return (tag) => selected(tag) && (include.length === 0 || included(tag)) && !excluded(tag) && inRange(tag);
}

function selectorTest(selector: Rule['source']['selector']): TagTest {
  switch (selector.kind) {
    case 'all':
      return (tag) => !isReferrerTag(tag);
    case 'tags': {
      const tags = new Set(selector.tags);
      return (tag) => tags.has(tag);
    }
    case 'pattern': {
      const matches = compilePattern(selector.pattern);
      return (tag) => matches(tag) && !isReferrerTag(tag);
    }
    case 'digest':
      return () => false;
  }
}

function anyOf(tests: readonly TagTest[]): TagTest {
  return (tag) => tests.some((test) => test(tag));
}

function rangeTest(semver: string, prerelease: boolean): TagTest {
  const range = parseRange(semver, prerelease);
  return (tag) => {
    const version = parseVersion(tag);
    return version !== undefined && satisfies(version, range);
  };
}

/** Whether one tag cannot be decided without all the others. */
export function needsWholeList(rule: Selecting): boolean {
  return rule.tags.newest !== undefined;
}

/** The filters that the time of the last push decides. */
export function judgeAge(filter: TagFilter, pushedAt: number | undefined, now: number): AgeVerdict {
  const { pushedWithin, minimumAge } = filter;
  if (pushedWithin !== undefined && (pushedAt === undefined || now - pushedAt > pushedWithin)) {
    return { kind: 'old' };
  }
  if (minimumAge === undefined) return { kind: 'right' };
  if (pushedAt === undefined) return { kind: 'young', until: undefined };
  const until = pushedAt + minimumAge;
  return now < until ? { kind: 'young', until } : { kind: 'right' };
}

/** Decides a whole list; the order of the entries changes nothing. @param entries each tag once */
export function selectTags(entries: Iterable<Dated>, rule: Selecting, now: number): Selection {
  const named = matchesNames(rule);
  const right: Dated[] = [];
  const selected: string[] = [];
  const young: string[] = [];
  for (const entry of entries) {
    if (!named(entry.name)) continue;
    const { kind } = judgeAge(rule.tags, entry.pushedAt, now);
    if (kind === 'young') young.push(entry.name);
    if (kind !== 'right') continue;
    if (needsWholeList(rule)) right.push(entry);
    else selected.push(entry.name);
  }
  for (const { name } of newest(right, rule.tags)) selected.push(name);
  return { selected: selected.sort(), young: young.sort() };
}

function newest(entries: readonly Dated[], { newest: count, semver }: TagFilter): readonly Dated[] {
  if (count === undefined || entries.length <= count) return entries;
  const timed = semver === undefined && entries.some((entry) => entry.pushedAt !== undefined);
  const sorted = timed ? entries.toSorted(laterPushFirst) : latestVersionFirst(entries);
  return sorted.slice(0, count);
}

function laterPushFirst(a: Dated, b: Dated): number {
  const [x, y] = [pushTime(a), pushTime(b)];
  return x === y ? byName(a, b) : y - x;
}

/** A push that the source does not tell the time of is taken for the oldest. */
function pushTime(entry: Dated): number {
  return entry.pushedAt ?? Number.NEGATIVE_INFINITY;
}

function latestVersionFirst(entries: readonly Dated[]): readonly Dated[] {
  return entries
    .map((entry) => ({ entry, version: parseVersion(entry.name) }))
    .toSorted((a, b) => laterVersionFirst(a.version, b.version) || byName(a.entry, b.entry))
    .map(({ entry }) => entry);
}

function laterVersionFirst(a: Version | undefined, b: Version | undefined): number {
  if (a === undefined || b === undefined) return Number(a === undefined) - Number(b === undefined);
  return compareVersions(b, a);
}

function byName(a: Dated, b: Dated): number {
  if (a.name === b.name) return 0;
  return a.name < b.name ? -1 : 1;
}
