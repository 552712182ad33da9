/**
 * Versions as tags spell them: `[v]N[.N[.N]][-suffix]`. Ranges are node-semver's; versions are not, since tags leave
 * parts out and write leading zeros (`24.04`), and dates are numbers too (`20240131`).
 */
import type { Comparator } from 'semver';
import Range from 'semver/classes/range.js';
import { HubferryError } from '../../errors.ts';

/** Missing parts are 0; a suffix makes it a prerelease of what stands before it. */
export interface Version {
  readonly major: number;
  readonly minor: number;
  readonly patch: number;
  /** The suffix, split at its dots; empty for a release. */
  readonly prerelease: readonly string[];
}

/** A test over versions, read from a text such as `>=1.2 <3`. */
export interface VersionRange {
  readonly alternatives: readonly (readonly Bound[])[];
  readonly prerelease: boolean;
}

interface Bound {
  readonly operator: '' | '=' | '<' | '<=' | '>' | '>=';
  /** Absent: every version. */
  readonly version: Version | undefined;
}

const maxRangeLength = 256;

/** Fifteen digits are exact in a double. */
const versionShape = /^v?(\d{1,15})(?:\.(\d{1,15}))?(?:\.(\d{1,15}))?(?:-(.+))?$/;

/** The version that a tag spells; `undefined` where it spells none, as `latest` or `1.2.3.4`. */
export function parseVersion(tag: string): Version | undefined {
  const match = versionShape.exec(tag);
  if (match === null) return undefined;
  const [, major = 0, minor = 0, patch = 0, suffix] = match;
  return {
    major: Number(major),
    minor: Number(minor),
    patch: Number(patch),
    prerelease: suffix === undefined ? [] : suffix.split('.'),
  };
}

/** Negative where `a` is the older one: the precedence of Semantic Versioning 2.0.0, item 11. */
export function compareVersions(a: Version, b: Version): number {
  return (
    a.major - b.major ||
    a.minor - b.minor ||
    a.patch - b.patch ||
    comparePrereleases(a.prerelease, b.prerelease)
  );
}

function comparePrereleases(a: readonly string[], b: readonly string[]): number {
  if (a.length === 0 || b.length === 0) return Math.sign(b.length - a.length);
  for (const [index, part] of a.entries()) {
    const other = b[index];
    if (other === undefined) return 1;
    const order = compareIdentifiers(part, other);
    if (order !== 0) return order;
  }
  return Math.sign(a.length - b.length);
}

function compareIdentifiers(a: string, b: string): number {
  const aIsNumber = isNumber(a);
  if (aIsNumber !== isNumber(b)) return aIsNumber ? -1 : 1;
  if (!aIsNumber) return compareText(a, b);
  // By length, then by digits: exact for numbers of any size.
  const [x, y] = [stripZeros(a), stripZeros(b)];
  return Math.sign(x.length - y.length) || compareText(x, y);
}

function isNumber(identifier: string): boolean {
  return /^\d+$/.test(identifier);
}

function stripZeros(digits: string): string {
  return digits.replace(/^0+(?=\d)/, '');
}

function compareText(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

/**
 * Reads a range in node-semver's grammar, where numbers may also have leading zeros.
 * With `prerelease`, prereleases count like releases; else only beside a bound that names one of the same version.
 * @throws ERR_CONFIG
 */
export function parseRange(text: string, prerelease: boolean): VersionRange {
  if (text.trim() === '' || text.length > maxRangeLength) throw invalidRange(text);
  const parsed = parseWithoutZeros(text, prerelease);
  return {
    alternatives: parsed.set.map((bounds) => bounds.map(readBound)),
    prerelease,
  };
}

function parseWithoutZeros(text: string, includePrerelease: boolean): Range {
  try {
    return new Range(text.replace(/(^|[\s<>=~^|v.])0+(?=\d)/g, '$1'), { includePrerelease });
  } catch {
    throw invalidRange(text);
  }
}

function readBound(comparator: Comparator): Bound {
  const { operator, semver } = comparator;
  // node-semver writes "anything" as a symbol in the place of a version.
  if (typeof semver.major !== 'number') return { operator: '', version: undefined };
  const { major, minor, patch } = semver;
  return { operator, version: { major, minor, patch, prerelease: semver.prerelease.map(String) } };
}

/** Whether the range takes the version. */
export function satisfies(version: Version, range: VersionRange): boolean {
  return range.alternatives.some(
    (bounds) =>
      bounds.every((bound) => isWithin(version, bound)) &&
      (range.prerelease || version.prerelease.length === 0 || bounds.some((bound) => names(bound, version))),
  );
}

function isWithin(version: Version, bound: Bound): boolean {
  if (bound.version === undefined) return true;
  const order = compareVersions(version, bound.version);
  switch (bound.operator) {
    case '<':
      return order < 0;
    case '<=':
      return order <= 0;
    case '>':
      return order > 0;
    case '>=':
      return order >= 0;
    default:
      return order === 0;
  }
}

/** Whether a bound names a prerelease of the same version: then its siblings are wanted. */
function names({ version: bound }: Bound, version: Version): boolean {
  return (
    bound !== undefined &&
    bound.prerelease.length > 0 &&
    bound.major === version.major &&
    bound.minor === version.minor &&
    bound.patch === version.patch
  );
}

function invalidRange(text: string): HubferryError {
  const shown = JSON.stringify(text.slice(0, 100));
  return new HubferryError(
    'ERR_CONFIG',
    `${shown} is no version range: write one such as ">=1.2 <3" or "^1.4".`,
  );
}
