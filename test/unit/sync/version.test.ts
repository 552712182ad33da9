import fc from 'fast-check';
import semver from 'semver';
import { describe, expect, it } from 'vitest';
import {
  compareVersions,
  parseRange,
  parseVersion,
  satisfies,
  type Version,
} from '../../../lib/sync/select/version.ts';

function version(tag: string): Version {
  const parsed = parseVersion(tag);
  if (parsed === undefined) throw new Error(`${tag} is no version`);
  return parsed;
}

const inRange = (tag: string, range: string, prerelease = false) =>
  satisfies(version(tag), parseRange(range, prerelease));

describe('a tag', () => {
  it.each([
    ['1', 1, 0, 0, []],
    ['v1.2', 1, 2, 0, []],
    ['1.2.3', 1, 2, 3, []],
    ['24.04', 24, 4, 0, []],
    ['20240131', 20240131, 0, 0, []],
    ['20240131123456', 20240131123456, 0, 0, []],
    ['1.2.3-rc.1', 1, 2, 3, ['rc', '1']],
    ['1.2-alpine3.19', 1, 2, 0, ['alpine3', '19']],
    ['v0-0', 0, 0, 0, ['0']],
  ])('%s is a version', (tag, major, minor, patch, prerelease) => {
    expect(parseVersion(tag)).toEqual({ major, minor, patch, prerelease });
  });

  it.each([
    'latest',
    '1.2.3.4',
    '1.',
    '1.2-',
    'V1',
    'vv1',
    'release-1.2',
    '1.2rc1',
    '',
    'v',
    '1.2_3',
    '1234567890123456',
  ])('%j is none', (tag) => {
    expect(parseVersion(tag)).toBeUndefined();
  });
});

describe('order', () => {
  it('is that of Semantic Versioning, item 11', () => {
    const ascending = [
      '1.0.0-alpha',
      '1.0.0-alpha.1',
      '1.0.0-alpha.beta',
      '1.0.0-beta',
      '1.0.0-beta.2',
      '1.0.0-beta.11',
      '1.0.0-rc.1',
      'v1',
      '1.0.1',
      '1.2',
      '1.10',
      '20240131',
    ];
    for (const [index, tag] of ascending.entries()) {
      for (const [other, than] of ascending.entries()) {
        expect(Math.sign(compareVersions(version(tag), version(than)))).toBe(Math.sign(index - other));
      }
    }
  });

  it('agrees with node-semver on what both read', () => {
    const identifier = fc.oneof(fc.nat(20).map(String), fc.constantFrom('a', 'b', 'rc', 'x-1', 'A'));
    const text = fc
      .tuple(fc.nat(3), fc.nat(3), fc.nat(3), fc.array(identifier, { maxLength: 3 }))
      .map(
        ([major, minor, patch, pre]) =>
          `${major}.${minor}.${patch}${pre.length > 0 ? `-${pre.join('.')}` : ''}`,
      );
    fc.assert(
      fc.property(text, text, (a, b) => {
        expect(Math.sign(compareVersions(version(a), version(b)))).toBe(semver.compare(a, b));
      }),
    );
  });

  it('is exact for identifiers of any length', () => {
    expect(
      compareVersions(version('1-99999999999999999998'), version('1-99999999999999999999')),
    ).toBeLessThan(0);
    expect(compareVersions(version('1-007'), version('1-7'))).toBe(0);
  });
});

describe('a range', () => {
  it.each([
    ['1.2', '>=1.2 <3', true],
    ['v2.9.9', '>=1.2 <3', true],
    ['3', '>=1.2 <3', false],
    ['1.1.9', '>=1.2 <3', false],
    ['1.4.2', '^1.4', true],
    ['2', '^1.4', false],
    ['1.4.9', '~1.4.2', true],
    ['1.5', '~1.4.2', false],
    ['1.7', '1.x', true],
    ['5', '*', true],
    ['1', '1 || 3', true],
    ['2', '1 || 3', false],
    ['2.5', '1.0 - 2.5', true],
    ['24.04', '>=22.04', true],
    ['20.04', '>=22.04', false],
    ['1.05', '1.05', true],
    ['20240131', '>=20240101 <20250101', true],
    ['20250101', '>=20240101 <20250101', false],
  ])('%s in %s: %s', (tag, range, expected) => {
    expect(inRange(tag, range)).toBe(expected);
  });

  it.each([
    ['2.0.0-rc1', '>=1', false],
    ['3-rc1', '>=1.2 <3', false],
    ['1.2.3-alpine', '>=1', false],
    ['1.2.3-rc.2', '>=1.2.3-rc.1', true],
    ['1.2.4-rc.2', '>=1.2.3-rc.1', false],
    ['1.2.3-alpine', '1.2.3-alpine', true],
  ])('takes the prerelease %s only where it names one: %s is %s', (tag, range, expected) => {
    expect(inRange(tag, range)).toBe(expected);
  });

  it.each([
    ['2.0.0-rc1', '>=1', true],
    ['1.2-alpine', '>=1.2 <3', true],
    ['3-rc1', '>=1.2 <3', false],
    ['1.0.0-rc1', '1.x', true],
  ])('with `prerelease`, %s in %s: %s', (tag, range, expected) => {
    expect(inRange(tag, range, true)).toBe(expected);
  });

  it('agrees with node-semver on what both read', () => {
    const number = fc.nat(3);
    const text = fc
      .tuple(number, number, number, fc.constantFrom('', '-rc.1', '-rc.2', '-0'))
      .map(([major, minor, patch, pre]) => `${major}.${minor}.${patch}${pre}`);
    const range = fc
      .array(
        fc.tuple(fc.constantFrom('', '>', '>=', '<', '<=', '^', '~'), text).map((pair) => pair.join('')),
        {
          minLength: 1,
          maxLength: 3,
        },
      )
      .chain((bounds) => fc.constantFrom(' ', ' || ').map((joint) => bounds.join(joint)));
    fc.assert(
      fc.property(text, range, fc.boolean(), (tag, bounds, includePrerelease) => {
        expect(inRange(tag, bounds, includePrerelease)).toBe(
          semver.satisfies(tag, bounds, { includePrerelease }),
        );
      }),
    );
  });

  it.each(['', ' ', 'latest', '>=', '>=1.2.3.4', '1 - ', '>1234567890123456789', '1'.repeat(300)])(
    '%j is refused',
    (text) => {
      expect(() => parseRange(text, false)).toThrow(expect.objectContaining({ code: 'ERR_CONFIG' }));
    },
  );
});
