import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Digest, Platform } from '../../../lib/oci/descriptor.ts';
import type { TagEntry } from '../../../lib/oci/roles.ts';
import { Listing } from '../../../lib/sync/plan/listing.ts';
import { TagTable } from '../../../lib/sync/select/tag-table.ts';

const digestOf = (algorithm: string, length: number) =>
  fc.stringMatching(new RegExp(`^[0-9a-f]{${length}}$`)).map((hex): Digest => `${algorithm}:${hex}`);
const sets: readonly (readonly Platform[])[] = [[], [{ os: 'linux', architecture: 'amd64' }]];
const anyEntry = fc.record({
  name: fc.constantFrom('1', '1.0', 'latest', '__proto__', `sha256:${'0'.repeat(64)}`),
  digest: fc.option(fc.oneof(digestOf('sha256', 64), digestOf('sha512', 128)), { nil: undefined }),
  pushedAt: fc.option(fc.nat(), { nil: undefined }),
  locked: fc.boolean(),
  platforms: fc.option(fc.constantFrom(...sets), { nil: undefined }),
});
const anyStep = fc.oneof(
  { weight: 5, arbitrary: fc.tuple(anyEntry, fc.boolean()) },
  { weight: 1, arbitrary: fc.tuple(anyEntry, fc.constant('delete' as const)) },
);

describe('a table of tags', () => {
  it('tells of each tag what was said of it last', () => {
    fc.assert(
      fc.property(fc.array(anyStep), (steps) => {
        const table = new TagTable();
        const known = new Map<string, { entry: TagEntry; sure: boolean }>();
        for (const [entry, step] of steps) {
          if (step === 'delete') {
            table.delete(entry.name);
            known.delete(entry.name);
          } else {
            table.set(entry, step);
            known.set(entry.name, { entry, sure: step });
          }
        }
        expect([...table.names]).toEqual([...known.keys()]);
        for (const [name, { entry, sure }] of known) {
          expect(table.get(name)).toEqual(entry);
          expect(table.digestOf(name)).toBe(entry.digest);
          expect(table.pushedAt(name)).toBe(entry.pushedAt);
          expect(table.isSure(name)).toBe(sure);
        }
        expect([table.get('absent'), table.digestOf('absent'), table.has('absent')]).toEqual([
          undefined,
          undefined,
          false,
        ]);
      }),
    );
  });

  it('holds as many as there are', () => {
    const table = new TagTable();
    const digest = (index: number): Digest => `sha256:${index.toString(16).padStart(64, '0')}`;
    for (let index = 0; index < 10_000; index += 1)
      table.set({ name: `v${index}`, digest: digest(index), pushedAt: index }, false);
    for (const index of [0, 63, 64, 9999])
      expect(table.get(`v${index}`)).toMatchObject({ digest: digest(index), pushedAt: index });
  });
});

describe('a listing that shows a tag twice, for it was pushed meanwhile', () => {
  const [older, later]: TagEntry[] = ['a', 'b'].map((hex, index) => ({
    name: 'latest',
    digest: `sha256:${hex.repeat(64)}`,
    pushedAt: index + 1,
  }));

  it.each([
    ['in the order of the pushes', [older, later]],
    ['the later push first', [later, older]],
  ])('counts it once, with its later push: %s', async (_, entries) => {
    const tags = entries.flatMap((entry) => entry ?? []);
    const repository = { name: 'x/y', listTags: async () => ({ tags }), resolve: async () => undefined };
    const listing = new Listing(repository);
    await listing.read(new AbortController().signal);
    expect([...listing.entries]).toEqual([{ name: 'latest', pushedAt: 2 }]);
    expect(listing.digestOf('latest')).toBe(later?.digest);
  });
});
