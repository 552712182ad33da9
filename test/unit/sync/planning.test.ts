/** What holds of every plan, whatever both sides are: found by trying, between repositories in memory. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createCore } from '../../../lib/app.ts';
import { readRules } from '../../../lib/config/rules.ts';
import { defaultLimits } from '../../../lib/sync/copy/limits.ts';
import { DirectRun } from '../../../lib/sync/direct.ts';
import type { PlanAction } from '../../../lib/sync/runs/report.ts';
import { Tally } from '../../../lib/sync/runs/tally.ts';
import {
  attestationOf,
  buildIndex,
  buildManifest,
  buildMultiPlatform,
  type Content,
  cosignSignature,
  cosignTag,
  referrerOf,
} from '../../local/content.ts';
import { MemoryRepository, memoryStores } from './memory.ts';

const amd64 = { os: 'linux', architecture: 'amd64' };
const arm64 = { os: 'linux', architecture: 'arm64' };
const windows = { os: 'windows', architecture: 'amd64' };
const attested = buildManifest({ seed: 'attested', layers: [10], platform: arm64 });

const contents = {
  A: buildManifest({ seed: 'A', layers: [10] }),
  B: buildManifest({ seed: 'B', layers: [10] }),
  arm: buildManifest({ seed: 'arm', layers: [10], platform: arm64 }),
  both: buildMultiPlatform('both', [amd64, arm64], [10]),
  attested: buildIndex([
    { manifest: attested, platform: arm64 },
    { manifest: buildManifest({ seed: 'C', layers: [10] }), platform: amd64 },
    attestationOf(attested),
  ]),
  nested: buildIndex([
    { manifest: buildMultiPlatform('nested', [amd64, arm64], [10]) },
    { manifest: attested, platform: arm64 },
  ]),
  windows: buildIndex([{ manifest: buildManifest({ seed: 'W', layers: [10] }), platform: windows }]),
} as const satisfies Record<string, Content>;
type Name = keyof typeof contents;

/** Signatures by tag: of a manifest, of an index, of its child, and of a signature. */
const signature = cosignSignature(contents.A.descriptor.digest);
const signatures: Readonly<Record<string, Content>> = Object.fromEntries(
  [contents.A, contents.both, contents.both.children[0], signature].map((subject) => {
    const digest = subject?.descriptor.digest ?? 'sha256:';
    return [cosignTag(digest, 'sig'), cosignSignature(digest)];
  }),
);
const sbom = referrerOf(contents.B, 'application/spdx+json');

fc.configureGlobal({ numRuns: 40 });

const names = fc.constantFrom<Name>(...(Object.keys(contents) as Name[]));
const tag = fc.constantFrom('1.0', '1.1', '1.2', '2.0', '2.0-rc1', 'latest', 'edge');
const tags = fc.dictionary(tag, names, { maxKeys: 6 });
const signed = fc.subarray(Object.keys(signatures));
type Tags = Readonly<Record<string, Name>>;

const rule = fc.record({
  tags: fc.record(
    {
      include: fc.constantFrom(['1.*'], ['*.0', 'latest']),
      exclude: fc.constantFrom(['*-rc*'], ['latest']),
      semver: fc.constantFrom('>=1.1', '1.x'),
      newest: fc.integer({ min: 1, max: 4 }),
    },
    { requiredKeys: [] },
  ),
  platforms: fc.option(fc.constantFrom(['linux/amd64'], ['linux/arm64'], ['linux/amd64', 'linux/arm64']), {
    nil: undefined,
  }),
  referrers: fc.boolean(),
  prune: fc.boolean(),
  overwrite: fc.boolean(),
});

const world = fc.record({
  rule,
  /** What the source had when the rule was first carried out, and what it has now. */
  before: tags,
  now: tags,
  signed,
  /** What else the target has, and which of its tags are locked. */
  target: tags,
  locked: fc.subarray(['1.0', 'latest']),
  sourceTells: fc.boolean(),
  targetTells: fc.boolean(),
  sourceApi: fc.boolean(),
  targetApi: fc.boolean(),
  billed: fc.boolean(),
  pageSize: fc.integer({ min: 1, max: 9 }),
});
type WorldSpec = typeof world extends fc.Arbitrary<infer Spec> ? Spec : never;

class World {
  readonly source = new MemoryRepository('127.0.0.1:1/acme/app');
  readonly target = new MemoryRepository('127.0.0.1:2/app');
  readonly #rules;
  readonly #core;

  constructor(spec: WorldSpec) {
    const { source, target } = this;
    Object.assign(source, {
      tellsDigests: spec.sourceTells,
      billed: spec.billed,
      referrersApi: spec.sourceApi,
    });
    Object.assign(target, { tellsDigests: spec.targetTells, referrersApi: spec.targetApi });
    source.pageSize = target.pageSize = spec.pageSize;
    const text = JSON.stringify({ rules: [{ source: source.name, target: target.name, ...spec.rule }] });
    this.#rules = readRules(text, { env: {}, variables: 'all' });
    this.#core = createCore({
      rules: this.#rules,
      stores: memoryStores(),
      clients: {
        source: (_rules, _name, observer) => Object.assign(source, { observer }),
        target: () => target,
        expand: async (_rules, one) => [one],
      },
      limits: defaultLimits,
      repositoryPrefixes: [],
    });
  }

  /** Lets the source have these tags and no others. */
  async fill(tags: Tags, signed: readonly string[]): Promise<void> {
    this.source.tags.clear();
    for (const [tag, name] of Object.entries(tags)) await this.source.put(contents[name], tag);
    for (const tag of signed) await this.source.put(signatures[tag] ?? signature, tag);
    await this.source.put(sbom);
  }

  plan() {
    return this.#run().plan();
  }

  sync() {
    return this.#run().sync();
  }

  #run(): DirectRun {
    return new DirectRun(this.#core, this.#rules.rules, {
      run: 'run',
      force: false,
      allowMassDelete: true,
      pruneLimit: 1,
      waitMs: 0,
      signal: new AbortController().signal,
      onEvent: () => {},
      tally: new Tally(),
    });
  }
}

/** A world in which the rule was carried out once, and both sides have changed since. */
async function build(spec: WorldSpec): Promise<World> {
  const world = new World(spec);
  await world.fill(spec.before, []);
  await world.sync();
  await world.fill(spec.now, spec.signed);
  for (const [tag, name] of Object.entries(spec.target)) await world.target.put(contents[name], tag);
  for (const tag of spec.locked) {
    const there = world.target.tags.get(tag);
    if (there !== undefined) world.target.tags.set(tag, { ...there, locked: true });
  }
  world.target.changes.length = 0;
  return world;
}

const outcomes = (lines: readonly { target: string; outcome: string; reason?: string }[]) =>
  lines.map(({ target, outcome, reason = '' }) => `${target} ${outcome} ${reason}`).sort();

const isWork = ({ outcome }: { outcome: PlanAction }) => outcome === 'copy' || outcome === 'delete';

describe('every plan', () => {
  it('is empty after it was carried out, and carrying it out again changes nothing', async () => {
    await fc.assert(
      fc.asyncProperty(world, async (spec) => {
        const world = await build(spec);
        await world.sync();
        const state = world.target.state;
        world.target.changes.length = 0;
        expect((await world.plan()).filter(isWork)).toEqual([]);
        await world.sync();
        expect(world.target.changes).toEqual([]);
        expect(world.target.state).toEqual(state);
      }),
    );
  });

  it('deletes nothing that it would copy, nothing that the source has, and nothing that the rule did not bring', async () => {
    await fc.assert(
      fc.asyncProperty(world, async (spec) => {
        const world = await build(spec);
        const lines = await world.plan();
        const deleted = lines.filter(({ outcome }) => outcome === 'delete').map(({ target }) => target);
        const others = new Set(
          lines.filter(({ outcome }) => outcome !== 'delete').map(({ target }) => target),
        );
        for (const target of deleted) {
          const tag = target.slice(target.lastIndexOf(':') + 1);
          expect(others).not.toContain(target);
          expect(Object.keys(spec.now)).not.toContain(tag);
          expect(Object.keys(spec.before)).toContain(tag);
        }
        if (!spec.rule.prune) expect(deleted).toEqual([]);
      }),
    );
  });

  it('is the same in whatever order and size the pages come, and with tags that come twice', async () => {
    const order = fc.record({
      sizes: fc.tuple(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 9 })),
      seed: fc.nat(),
      twice: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(world, order, async (spec, { sizes, seed, twice }) => {
        const world = await build(spec);
        // The first plan may find out what platforms make of a digest, and the next ones remember it.
        await world.plan();
        const expected = outcomes(await world.plan());
        const shuffled = (names: readonly string[]) => {
          const mixed = names.toSorted((a, b) => mix(a, seed) - mix(b, seed));
          return twice ? [...mixed, ...mixed.slice(0, 2)] : mixed;
        };
        for (const [index, side] of [world.source, world.target].entries()) {
          side.order = shuffled;
          side.pageSize = sizes[index] ?? 1;
        }
        expect(outcomes(await world.plan())).toEqual(expected);
      }),
    );
  });

  it('carried out twice at the same time leaves what it leaves carried out once', async () => {
    await fc.assert(
      fc.asyncProperty(world, async (spec) => {
        const [once, twice] = [await build(spec), await build(spec)];
        await once.sync();
        await Promise.all([twice.sync(), twice.sync()]);
        expect(twice.target.state).toEqual(once.target.state);
      }),
    );
  });

  it('mirrors each tag of the source byte for byte where the rule has no filter and nothing is locked', async () => {
    const plain = world.map(
      (spec): WorldSpec => ({
        ...spec,
        rule: { tags: {}, platforms: undefined, referrers: true, prune: false, overwrite: true },
        locked: [],
      }),
    );
    await fc.assert(
      fc.asyncProperty(plain, async (spec) => {
        const world = await build(spec);
        await world.sync();
        expect(world.target.state).toMatchObject(
          Object.fromEntries(
            Object.entries(spec.now).map(([tag, name]) => [tag, contents[name].descriptor.digest]),
          ),
        );
      }),
    );
  });
});

/** A number for a name that looks random and depends on the seed. */
function mix(name: string, seed: number): number {
  let hash = seed;
  for (const character of name) hash = Math.imul(hash ^ character.charCodeAt(0), 0x5bd1e995) >>> 0;
  return hash;
}
