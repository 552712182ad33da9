import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { SourceSelector, TagFilter } from '../../../lib/config/model.ts';
import type { TagEntry } from '../../../lib/oci/roles.ts';
import { parsePattern } from '../../../lib/sync/select/pattern.ts';
import { judgeAge, matchesNames, needsWholeList, selectTags } from '../../../lib/sync/select/select.ts';

const day = 24 * 3600 * 1000;
const now = Date.UTC(2026, 0, 31);

interface Written {
  readonly selector?: SourceSelector;
  readonly include?: readonly string[];
  readonly exclude?: readonly string[];
}

function rule({
  selector = { kind: 'all' },
  include = [],
  exclude = [],
  ...rest
}: Written & Partial<Omit<TagFilter, 'include' | 'exclude'>>) {
  return {
    source: { host: 'docker.io', path: 'a/b', selector },
    tags: {
      include: include.map(parsePattern),
      exclude: exclude.map(parsePattern),
      prerelease: false,
      ...rest,
    },
  };
}

/** Entries by name, with the days since their last push where they are given. */
function entries(ages: Readonly<Record<string, number | undefined>>): TagEntry[] {
  return Object.entries(ages).map(([name, age]) => ({
    name,
    ...(age !== undefined && { pushedAt: now - age * day }),
  }));
}

const names = (tags: readonly TagEntry[]) => tags.map(({ name }) => name);
const untimed = (...tags: string[]) => entries(Object.fromEntries(tags.map((tag) => [tag, undefined])));

function selected(tags: readonly TagEntry[], written: Parameters<typeof rule>[0]) {
  return selectTags(tags, rule(written), now).selected;
}

describe('by name', () => {
  const all = untimed('1.0', '1.1', '2.0-rc1', '2.0', 'latest', 'v3', 'nightly');

  it.each<[string, Parameters<typeof rule>[0], string[]]>([
    ['no filter', {}, ['1.0', '1.1', '2.0', '2.0-rc1', 'latest', 'nightly', 'v3']],
    ['include', { include: ['v*', '/1\\.\\d/'] }, ['1.0', '1.1', 'v3']],
    ['exclude', { exclude: ['*-rc*', 'nightly'] }, ['1.0', '1.1', '2.0', 'latest', 'v3']],
    ['include without exclude', { include: ['2*'], exclude: ['*rc*'] }, ['2.0']],
    ['semver', { semver: '>=1.1' }, ['1.1', '2.0', 'v3']],
    ['semver with prereleases', { semver: '>=1.1', prerelease: true }, ['1.1', '2.0', '2.0-rc1', 'v3']],
    ['semver and exclude', { semver: '*', exclude: ['v*'] }, ['1.0', '1.1', '2.0']],
    ['a list of tags', { selector: { kind: 'tags', tags: ['v3', 'latest', 'absent'] } }, ['latest', 'v3']],
    [
      'a list of tags and exclude',
      { selector: { kind: 'tags', tags: ['v3', 'latest'] }, exclude: ['v*'] },
      ['latest'],
    ],
    ['a glob', { selector: { kind: 'pattern', pattern: parsePattern('1.*') } }, ['1.0', '1.1']],
    [
      'a glob and semver',
      { selector: { kind: 'pattern', pattern: parsePattern('1.*') }, semver: '>1.0' },
      ['1.1'],
    ],
    [
      'image-syncer, anywhere',
      { selector: { kind: 'pattern', pattern: { kind: 'regex', text: 't', anchored: false } } },
      ['latest', 'nightly'],
    ],
    ['a digest', { selector: { kind: 'digest', digest: `sha256:${'0'.repeat(64)}` } }, []],
  ])('%s', (_title, written, expected) => {
    expect(selected(all, written)).toEqual(expected);
  });

  it('never takes tags of referrers, unless the source names them one by one', () => {
    const digest = `sha256-${'a'.repeat(64)}`;
    const tags = untimed('1', digest, `${digest}.sig`, `${digest}.att`, `${digest}.sbom`);
    expect(selected(tags, {})).toEqual(['1']);
    expect(selected(tags, { include: ['sha256-*'] })).toEqual([]);
    expect(selected(tags, { selector: { kind: 'pattern', pattern: parsePattern('*') }, newest: 1 })).toEqual([
      '1',
    ]);
    expect(selected(tags, { selector: { kind: 'tags', tags: [`${digest}.sig`] } })).toEqual([
      `${digest}.sig`,
    ]);
  });

  it('decides one tag as it decides the list', () => {
    const some = rule({ include: ['1.*'], exclude: ['*.1'] });
    expect(names(all.filter(({ name }) => matchesNames(some)(name)))).toEqual(
      selectTags(all, some, now).selected,
    );
  });
});

describe('by age', () => {
  const all = entries({ fresh: 0.5, week: 7, month: 31, untold: undefined });

  it('pushedWithin takes what was pushed since then, and nothing whose time is not told', () => {
    expect(selected(all, { pushedWithin: 30 * day })).toEqual(['fresh', 'week']);
  });

  it('minimumAge holds back the young, and what never shows its age', () => {
    const { selected: old, young } = selectTags(all, rule({ minimumAge: 2 * day }), now);
    expect(old).toEqual(['month', 'week']);
    expect(young).toEqual(['fresh', 'untold']);
  });

  it('tells until when a tag is young', () => {
    const { tags } = rule({ minimumAge: 2 * day });
    expect(judgeAge(tags, now - day, now)).toEqual({ kind: 'young', until: now + day });
    expect(judgeAge(tags, undefined, now)).toEqual({ kind: 'young', until: undefined });
    expect(judgeAge(tags, now - 2 * day, now)).toEqual({ kind: 'right' });
  });

  it('what is too old is not young as well', () => {
    expect(judgeAge(rule({ minimumAge: 5 * day, pushedWithin: day }).tags, now - 3 * day, now)).toEqual({
      kind: 'old',
    });
  });

  it('only young tags that the names let through are told', () => {
    const { young } = selectTags(all, rule({ minimumAge: 2 * day, exclude: ['fresh'] }), now);
    expect(young).toEqual(['untold']);
  });
});

describe('newest', () => {
  it('goes by push time where the source tells it, untold times last', () => {
    const tags = entries({ '9.0': 9, '1.0': 1, '5.0': 5, '99.0': undefined });
    expect(selected(tags, { newest: 2 })).toEqual(['1.0', '5.0']);
    expect(selected(tags, { newest: 4 })).toHaveLength(4);
  });

  it('goes by version with semver, whatever the push times', () => {
    const tags = entries({ '9.0': 9, '1.0': 1, '5.0': 5, latest: 0 });
    expect(selected(tags, { semver: '*', newest: 2 })).toEqual(['5.0', '9.0']);
  });

  it('goes by version where no time is told, non-versions last', () => {
    const tags = untimed('1.9', '1.10', 'latest', 'v2', '2.0-rc1', 'alpha');
    expect(selected(tags, { newest: 3 })).toEqual(['1.10', '2.0-rc1', 'v2']);
    expect(selected(tags, { newest: 5 })).toEqual(['1.10', '1.9', '2.0-rc1', 'alpha', 'v2']);
  });

  it('breaks ties by name', () => {
    expect(selected(untimed('v1', '1.0', '1'), { newest: 2 })).toEqual(['1', '1.0']);
    expect(selected(entries({ b: 1, a: 1, c: 1 }), { newest: 2 })).toEqual(['a', 'b']);
  });

  it('counts what the other filters leave: neither excluded nor young tags take a place', () => {
    const tags = entries({ a: 0, b: 3, c: 4, 'd-rc': 1, e: 5 });
    const selection = selectTags(tags, rule({ newest: 2, minimumAge: 2 * day, exclude: ['*-rc'] }), now);
    expect(selection.selected).toEqual(['b', 'c']);
    expect(selection.young).toEqual(['a']);
  });

  it('alone needs the whole list', () => {
    expect(needsWholeList(rule({ newest: 1 }))).toBe(true);
    expect(needsWholeList(rule({ semver: '*', minimumAge: day }))).toBe(false);
  });
});

const anyEntry = fc.record({
  name: fc.oneof(
    fc.tuple(fc.nat(4), fc.nat(12)).map(([major, minor]) => `${major}.${minor}`),
    fc.stringMatching(/^[a-z]{1,4}$/),
    fc.constantFrom('1.0-rc1', '2', 'v2', 'latest', `sha256-${'b'.repeat(64)}.sig`),
  ),
  pushedAt: fc.option(fc.integer({ min: now - 40 * day, max: now }), { nil: undefined }),
});
const list = fc.uniqueArray(anyEntry, { selector: ({ name }) => name, maxLength: 30 });
const anyRule = fc
  .record(
    {
      include: fc.constantFrom(['*'], ['1.*', 'v*'], ['/[a-z]+/']),
      exclude: fc.constantFrom(['*rc*'], ['latest', '/2.*/']),
      semver: fc.constantFrom('*', '>=1 <3'),
      newest: fc.integer({ min: 1, max: 8 }),
      pushedWithin: fc.constantFrom(10 * day, 30 * day),
      minimumAge: fc.constantFrom(day, 5 * day),
    },
    { requiredKeys: [] },
  )
  .map(rule);

describe('any selection', () => {
  it('does not depend on the order of the list', () => {
    fc.assert(
      fc.property(
        list.chain((tags) =>
          fc.tuple(fc.constant(tags), fc.shuffledSubarray(tags, { minLength: tags.length })),
        ),
        anyRule,
        ([tags, shuffled], written) => {
          expect(selectTags(shuffled, written, now)).toEqual(selectTags(tags, written, now));
        },
      ),
    );
  });

  it('selects again what it selected, and no tag is both selected and young', () => {
    fc.assert(
      fc.property(list, anyRule, (tags, written) => {
        const { selected: first, young } = selectTags(tags, written, now);
        const again = tags.filter(({ name }) => first.includes(name));
        expect(selectTags(again, written, now).selected).toEqual(first);
        expect(young.filter((name) => first.includes(name))).toEqual([]);
        expect(first.length).toBeLessThanOrEqual(written.tags.newest ?? tags.length);
      }),
    );
  });

  it('of 100,000 tags takes a moment', () => {
    const tags = Array.from({ length: 100_000 }, (_, index) => ({
      name: `v${index % 50}.${index}`,
      pushedAt: now - index,
    }));
    const started = performance.now();
    const written = rule({ include: ['v*', '/\\d+/'], exclude: ['*-rc*'], semver: '>=10', newest: 20 });
    expect(selectTags(tags, written, now).selected).toHaveLength(20);
    expect(performance.now() - started).toBeLessThan(5000);
  });
});
