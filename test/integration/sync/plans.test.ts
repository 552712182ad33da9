/**
 * What a plan says, as a table: rules, what either side has, and the lines that follow from it. Docker Hub and ACR unless a
 * row names others; between a plan and its neighbours nothing is copied.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { buildIndex, buildManifest, type Content, put } from '../../local/content.ts';
import type { Intercept } from '../../local/server.ts';
import type { LocalRepository } from '../../local/store.ts';
import { told, World } from './support.ts';

const amd64 = { os: 'linux', architecture: 'amd64' };
const arm64 = { os: 'linux', architecture: 'arm64' };
const child = (seed: string, platform: typeof amd64) => ({
  manifest: buildManifest({ seed, platform }),
  platform,
});

/** By these names a row says what a tag stands for. */
const contents: Readonly<Record<string, Content>> = {
  A: buildManifest({ seed: 'A' }),
  B: buildManifest({ seed: 'B' }),
  C: buildManifest({ seed: 'C' }),
  both: buildIndex([child('amd', amd64), child('arm', arm64)]),
  arm: buildManifest({ seed: 'arm', platform: arm64 }),
};

/** Tag to content, and how long ago it was pushed where that counts: `A`, `A 3d`. */
type Tags = Readonly<Record<string, string>>;

interface Row {
  readonly title: string;
  /** Members of `rules`, in YAML. */
  readonly rules: string;
  /** What was there when the same rules were carried out for the first time; nothing: they never were. */
  readonly before?: Tags;
  readonly source?: Tags;
  /** What else is at the target. */
  readonly target?: Tags;
  /** A second source. */
  readonly second?: Tags;
  /** Target tags that ACR has locked. */
  readonly locked?: readonly string[];
  /** Docker Hub's web API tells no digests. */
  readonly digestsUntold?: true;
  /** The target lets nobody list. */
  readonly unlisted?: true;
  readonly plan: readonly string[];
}

const mirror = '- { source: docker.io/acme/app, target: $acr/app }';

const rows: readonly Row[] = [
  {
    title: 'a new tag is copied',
    rules: mirror,
    source: { '1.0': 'A', '1.1': 'B' },
    target: { '1.0': 'A' },
    plan: ['1.0 unchanged', '1.1 copy (new tag)'],
  },
  {
    title: 'a tag that moved is copied again',
    rules: mirror,
    source: { latest: 'B', '1.0': 'A' },
    target: { latest: 'A', '1.0': 'A' },
    plan: ['1.0 unchanged', 'latest copy (moved)'],
  },
  {
    title: 'names, versions and numbers choose what is planned at all',
    rules: `- source: docker.io/acme/app
  target: $acr/app
  tags: { include: ["v*"], exclude: ["*-rc*"], semver: ">=1.2 <3", newest: 2 }`,
    source: { 'v1.1': 'A', 'v1.2': 'A', 'v2.0': 'B', 'v2.1': 'B', 'v2.2-rc1': 'C', 'v3.0': 'C', latest: 'C' },
    plan: ['v2.0 copy (new tag)', 'v2.1 copy (new tag)'],
  },
  {
    title: 'a tag that was pushed too recently waits',
    rules: '- { source: docker.io/acme/app, target: $acr/app, tags: { minimumAge: 2d } }',
    source: { '1.0': 'A 3d', '1.1': 'B 1d' },
    plan: ['1.0 copy (new tag)', '1.1 skip (too young)'],
  },
  {
    title: "a moved tag's age counts from its last push",
    rules: '- { source: docker.io/acme/app, target: $acr/app, tags: { minimumAge: 2d } }',
    before: { latest: 'A 9d' },
    source: { latest: 'B 1d' },
    plan: ['latest skip (too young)'],
  },
  {
    title: 'a tag that was mirrored once stays where the rule does not overwrite',
    rules: '- { source: docker.io/acme/app, target: $acr/app, overwrite: false }',
    source: { '1.0': 'B', '1.1': 'A' },
    target: { '1.0': 'A' },
    plan: ['1.0 skip (not overwritten)', '1.1 copy (new tag)'],
  },
  {
    title: 'a locked tag is left alone; one that is equal is no news',
    rules: mirror,
    source: { '1.0': 'A', '1.1': 'B' },
    target: { '1.0': 'A', '1.1': 'A' },
    locked: ['1.0', '1.1'],
    plan: ['1.0 unchanged', '1.1 locked (the target refuses changes)'],
  },
  {
    title: 'a tag that the rule names has to be there',
    rules: '- { source: "docker.io/acme/app:1.0,1.1", target: $acr/app }',
    source: { '1.0': 'A' },
    plan: ['1.0 copy (new tag)', '1.1 failed (ERR_TAG_UNKNOWN)'],
  },
  {
    title: 'tags take other names at the target, from left to right',
    rules: '- { source: "docker.io/acme/app:1.0,1.1", target: "$acr/app:old,new" }',
    source: { '1.0': 'A', '1.1': 'B', old: 'C' },
    target: { old: 'A', '1.1': 'B' },
    plan: ['1.0 -> old unchanged', '1.1 -> new copy (new tag)'],
  },
  {
    title: 'one digest is copied under a tag of its own',
    rules: `- { source: "docker.io/acme/app@${contents.A?.descriptor.digest}", target: "$acr/app:pinned" }`,
    source: { '1.0': 'A' },
    plan: [`${contents.A?.descriptor.digest.slice(0, 13)} -> pinned copy (new tag)`],
  },
  {
    title: 'several targets are planned one by one',
    rules: '- { source: docker.io/acme/app, target: [$acr/app, $acr/more] }',
    source: { '1.0': 'A' },
    target: { '1.0': 'A' },
    plan: ['1.0 copy (new tag)', '1.0 unchanged'],
  },
  {
    title: 'an empty repository is no failure',
    rules: mirror,
    source: {},
    plan: [],
  },
  {
    title: 'a repository that nobody knows is one',
    rules: '- { source: docker.io/acme/nothing, target: $acr/app }',
    plan: ['* failed (ERR_NOT_FOUND)'],
  },
  {
    title: 'digests that the web API does not tell are asked of the registry',
    rules: mirror,
    digestsUntold: true,
    source: { '1.0': 'A', '1.1': 'B', '1.2': 'C' },
    target: { '1.0': 'A', '1.1': 'A' },
    plan: ['1.0 unchanged', '1.1 copy (moved)', '1.2 copy (new tag)'],
  },
  {
    title: 'a source without digests in its listing is asked tag by tag',
    rules: '- { source: $plain/acme/app, target: $acr/app }',
    source: { '1.0': 'A', '1.1': 'B', '1.2': 'C' },
    target: { '1.0': 'A', '1.1': 'A' },
    plan: ['1.0 unchanged', '1.1 copy (moved)', '1.2 copy (new tag)'],
  },
  {
    title: 'a target without digests in its listing is asked tag by tag',
    rules: '- { source: docker.io/acme/app, target: $other/app }',
    source: { '1.0': 'A', '1.1': 'B', '1.2': 'C' },
    target: { '1.0': 'A', '1.1': 'A' },
    plan: ['1.0 unchanged', '1.1 copy (moved)', '1.2 copy (new tag)'],
  },
  {
    title: 'an ACR that may not be listed is asked tag by tag',
    rules: mirror,
    unlisted: true,
    source: { '1.0': 'A', '1.1': 'B', '1.2': 'C' },
    target: { '1.0': 'A', '1.1': 'A' },
    plan: ['1.0 unchanged', '1.1 copy (moved)', '1.2 copy (new tag)'],
  },
  {
    title: 'what the rule copied and the source no longer has is deleted where the rule prunes',
    rules: '- { source: docker.io/acme/app, target: $acr/app, prune: true }',
    before: { '1.0': 'A', '1.1': 'A', '1.2': 'A', '1.3': 'B', '1.4': 'B' },
    source: { '1.0': 'A', '1.1': 'A', '1.2': 'A', '1.3': 'B' },
    target: { own: 'C' },
    plan: ['1.0 unchanged', '1.1 unchanged', '1.2 unchanged', '1.3 unchanged', '1.4 delete (gone at source)'],
  },
  {
    title: 'and nothing is deleted where it does not',
    rules: mirror,
    before: { '1.0': 'A', '1.1': 'B' },
    source: { '1.0': 'A' },
    plan: ['1.0 unchanged'],
  },
  {
    title: 'of an index the platforms that the rule keeps are compared',
    rules: '- { source: docker.io/acme/app, target: $acr/app, platforms: [linux/arm64] }',
    before: { '1.0': 'both', '1.1': 'arm' },
    source: { '1.0': 'both', '1.1': 'arm', '1.2': 'both' },
    plan: ['1.0 unchanged', '1.1 unchanged', '1.2 copy (new tag)'],
  },
  {
    title: 'a manifest for another platform is skipped',
    rules: '- { source: docker.io/acme/app, target: $acr/app, platforms: [linux/arm64] }',
    before: { '1.0': 'A' },
    source: { '1.0': 'A' },
    plan: ['1.0 skip (none of its platforms is kept)'],
  },
  {
    title: 'an index that has none of the platforms is a failure',
    rules: '- { source: docker.io/acme/app, target: $acr/app, platforms: [linux/s390x] }',
    source: { '1.0': 'both' },
    plan: ['1.0 failed (ERR_PLATFORM_MISSING)'],
  },
  {
    title: 'a target tag with two sources is neither copied nor deleted',
    rules: `- { source: docker.io/acme/app, target: $acr/app, name: one }
- { source: $plain/acme/app, target: $acr/app, name: two }`,
    source: { '1.0': 'A', '1.1': 'A' },
    second: { '1.1': 'B', '1.2': 'B' },
    plan: [
      '1.0 copy (new tag)',
      '1.1 failed (ERR_TARGET_CONFLICT)',
      '1.1 failed (ERR_TARGET_CONFLICT)',
      '1.2 copy (new tag)',
    ],
  },
  {
    title: 'two rules may share a target repository where their tags differ',
    rules: `- { source: docker.io/acme/app, target: $acr/app, name: one, tags: { include: ["1.*"] } }
- { source: $plain/acme/app, target: $acr/app, name: two, tags: { include: ["2.*"] } }`,
    source: { '1.0': 'A', '2.0': 'A' },
    second: { '1.0': 'B', '2.0': 'B' },
    plan: ['1.0 copy (new tag)', '2.0 copy (new tag)'],
  },
  {
    title: 'two rules of one source agree on a tag that both take',
    rules: `- { source: docker.io/acme/app, target: $acr/app, name: one, tags: { include: ["1.*"] } }
- { source: docker.io/acme/app, target: $acr/app, name: two, tags: { include: ["*.0"] } }`,
    source: { '1.0': 'A', '1.1': 'A', '2.0': 'A' },
    target: { '1.0': 'A' },
    plan: ['1.0 unchanged', '1.0 unchanged', '1.1 copy (new tag)', '2.0 copy (new tag)'],
  },
  {
    title: 'two rules agree on a tag that both fill from the same tag of one source',
    rules: `- { source: docker.io/acme/app, target: $acr/app }
- { source: "docker.io/acme/app:1.0", target: "$acr/app:1.0" }
- { source: "docker.io/acme/app:1.0,1.1", target: "$acr/app:1.0,1.1" }`,
    source: { '1.0': 'A', '1.1': 'A' },
    plan: [
      '1.0 copy (new tag)',
      '1.0 copy (new tag)',
      '1.0 copy (new tag)',
      '1.1 copy (new tag)',
      '1.1 copy (new tag)',
    ],
  },
  {
    title: 'a rule that names another tag elsewhere agrees on the tag that it does not rename here',
    rules: `- { source: "docker.io/acme/app:1.0", target: ["$acr/app", "$acr/other:stable"] }
- { source: "docker.io/acme/app:1.0,1.1", target: $acr/app }`,
    source: { '1.0': 'A', '1.1': 'A' },
    plan: ['1.0 -> stable copy (new tag)', '1.0 copy (new tag)', '1.0 copy (new tag)', '1.1 copy (new tag)'],
  },
  {
    title: 'two rules of one source that fill a tag from different tags do not agree on it',
    rules: `- { source: docker.io/acme/app, target: $acr/app, name: all }
- { source: "docker.io/acme/app:1.0", target: "$acr/app:1.1", name: renamed }`,
    source: { '1.0': 'A', '1.1': 'B' },
    plan: [
      '1.0 -> 1.1 failed (ERR_TARGET_CONFLICT)',
      '1.0 copy (new tag)',
      '1.1 failed (ERR_TARGET_CONFLICT)',
    ],
  },
  {
    title: 'two rules of one source that keep different platforms do not agree',
    rules: `- { source: docker.io/acme/app, target: $acr/app, name: one, platforms: [linux/amd64] }
- { source: docker.io/acme/app, target: $acr/app, name: two }`,
    source: { '1.0': 'both' },
    plan: ['1.0 failed (ERR_TARGET_CONFLICT)', '1.0 failed (ERR_TARGET_CONFLICT)'],
  },
  {
    title: 'a namespace stands for each of its repositories',
    rules: '- { source: docker.io/acme/*, target: $acr/mirror/* }',
    source: { '1.0': 'A' },
    plan: ['1.0 copy (new tag)'],
  },
];

let world: World;

beforeAll(async () => {
  world = await World.start();
});
afterAll(() => world?.close());
beforeEach(() => world.reset());

describe('a plan', () => {
  it.each(rows)('$title', async (row) => {
    await furnish(row);
    const report = await world.plan(row.rules);
    expect(told(report)).toEqual([...row.plan].sort());
  });
});

const refusesListings: Intercept = ({ url }) =>
  url.startsWith('/acr/v1/') ? { kind: 'answer', status: 403 } : undefined;

async function furnish(row: Row): Promise<void> {
  const [hub, plain] = ['docker.io', '$plain'].map((host) => row.rules.includes(host));
  const repository = hub ? world.hub.repository('acme/app') : world.plain.repository('acme/app');
  if (row.before !== undefined) {
    fill(repository, row.before);
    await world.sync(row.rules, { allowMassDelete: true });
    for (const tag of repository.tagNames()) repository.removeTag(tag);
  }
  if (row.source !== undefined) fill(repository, row.source);
  if (hub && plain) fill(world.plain.repository('acme/app'), row.second ?? {});
  const target = row.rules.includes('$other') ? world.other : world.acr;
  fill(target.repository('app'), row.target ?? {});
  for (const tag of row.locked ?? []) world.acr.setTagAttributes('app', tag, { writeEnabled: false });
  if (row.digestsUntold) world.hub.tellsDigests = false;
  if (row.unlisted) world.acr.intercept = refusesListings;
}

function fill(repository: LocalRepository, tags: Tags): void {
  repository.known = true;
  for (const [tag, text] of Object.entries(tags)) {
    const [name = '', days = '30d'] = text.split(' ');
    const content = contents[name];
    if (content === undefined) throw new Error(`there is no content ${name}`);
    put({ repository: () => repository }, repository.name, undefined, content);
    repository.setTag(tag, content.descriptor.digest, Date.now() - Number.parseFloat(days) * 24 * 3600_000);
  }
}
