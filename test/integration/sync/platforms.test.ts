/** Rules that keep some platforms of an index: what the target gets, what it costs, and what is no index. */
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { deriveIndex } from '../../../lib/oci/derive.ts';
import { parsePlatformPattern } from '../../../lib/oci/platform.ts';
import { StorageError } from '../../../lib/storage/failure.ts';
import { Facts } from '../../../lib/sync/copy/facts.ts';
import {
  attestationOf,
  buildBlob,
  buildIndex,
  buildManifest,
  buildMultiPlatform,
  type Content,
  cosignSignature,
  cosignTag,
  type IndexEntry,
} from '../../local/content.ts';
import { fieldsOf } from '../../local/store.ts';
import { told, World } from './support.ts';

const amd64 = { os: 'linux', architecture: 'amd64' };
const arm64 = { os: 'linux', architecture: 'arm64' };
const armV8 = { os: 'linux', architecture: 'arm64', variant: 'v8' };
const armV6 = { os: 'linux', architecture: 'arm', variant: 'v6' };
const armV7 = { os: 'linux', architecture: 'arm', variant: 'v7' };
const windows = { os: 'windows', architecture: 'amd64', 'os.version': '10.0.17763.5830' };

const rulesFor = (platforms: string) => {
  const kept = platforms === 'all' ? '' : `, platforms: ${platforms}`;
  return `- { source: docker.io/acme/app, target: $acr/app${kept} }`;
};

const child = (platform: IndexEntry['platform'], docker = false): IndexEntry => ({
  manifest: buildManifest({
    seed: JSON.stringify([platform, docker]),
    docker,
    ...(platform && { platform }),
  }),
  ...(platform && { platform }),
});

const nothingNested = () => Promise.reject(new Error('This index nests no other'));

let world: World;

beforeAll(async () => {
  world = await World.start();
});
afterAll(() => world?.close());
beforeEach(() => world.reset());

function targetIndex(tag: string) {
  const found = world.acr.repository('app').manifest(tag);
  return { ...found, fields: fieldsOf(found?.bytes ?? new Uint8Array()) };
}

interface Kind {
  readonly kind: string;
  readonly entries: readonly IndexEntry[];
  readonly options?: Parameters<typeof buildIndex>[1];
  readonly platforms: string;
  /** Places of the entries that are kept. */
  readonly kept: readonly number[];
}

const annotated = { annotations: { 'org.opencontainers.image.version': '1' } };
const [first, second] = [child(amd64), child(arm64)];

const kinds: readonly Kind[] = [
  { kind: 'OCI', entries: [first, second], platforms: '[linux/arm64]', kept: [1] },
  {
    kind: "Docker's manifest list",
    entries: [child(amd64, true), child(arm64, true)],
    options: { docker: true, pretty: true },
    platforms: '[linux/amd64]',
    kept: [0],
  },
  { kind: 'annotated', entries: [first, second], options: annotated, platforms: '[linux/amd64]', kept: [0] },
  {
    kind: 'with variants',
    entries: [child(armV6), child(armV7), child(armV8)],
    platforms: '[linux/arm]',
    kept: [0, 1],
  },
  { kind: 'with arm64 as v8', entries: [child(armV8), child(amd64)], platforms: '[linux/arm64]', kept: [0] },
  { kind: 'with Windows', entries: [child(windows), child(amd64)], platforms: '[windows/amd64]', kept: [0] },
  {
    kind: 'with attestations',
    entries: [first, second, attestationOf(first.manifest), attestationOf(second.manifest)],
    platforms: '[linux/arm64]',
    kept: [1, 3],
  },
  {
    kind: 'with an entry that names no platform',
    entries: [child(undefined), second],
    platforms: '[linux/arm64]',
    kept: [1],
  },
];

describe('an index', () => {
  it.each(kinds)('$kind keeps the platforms of the rule', async ({ entries, options, platforms, kept }) => {
    const index = buildIndex(entries, options);
    await world.hub.push('acme/app', '1.0', index);
    const rules = rulesFor(platforms);
    expect(told(await world.sync(rules))).toEqual(['1.0 copied (new tag)']);
    const { fields, mediaType } = targetIndex('1.0');
    expect(mediaType).toBe(index.descriptor.mediaType);
    expect(fields.annotations).toEqual(options?.annotations);
    expect(fields.manifests?.map(({ digest }) => digest)).toEqual(
      kept.map((place) => entries[place]?.manifest.descriptor.digest),
    );
    await expectIdle(rules);
  });

  it('of which nothing is dropped stays byte for byte what it was', async () => {
    const index = buildIndex([first, second], { pretty: true });
    await world.hub.push('acme/app', '1.0', index);
    const rules = rulesFor('[linux/amd64, linux/arm64]');
    await world.sync(rules);
    expect(world.acr.repository('app').digestOf('1.0')).toBe(index.descriptor.digest);
    await expectIdle(rules);
  });

  it('gets the same digest from everybody', async () => {
    const index = buildMultiPlatform('reproducible', [amd64, arm64]);
    await world.hub.push('acme/app', '1.0', index);
    await world.sync(rulesFor('[linux/arm64]'));
    const { manifest } = await deriveIndex(index, [parsePlatformPattern('linux/arm64')], nothingNested);
    expect(world.acr.repository('app').digestOf('1.0')).toBe(manifest.descriptor.digest);
  });

  it('of indexes keeps the platforms in each, and what is said about them comes along', async () => {
    const [one, other] = [child(amd64), child(arm64)];
    const mixed = buildIndex([one, other, attestationOf(one.manifest), attestationOf(other.manifest)]);
    const arms = buildIndex([child(armV8), child(arm64)], { pretty: true });
    const nested = [mixed, arms, buildIndex([child(windows)])].map((manifest) => ({ manifest }));
    await world.hub.push('acme/app', '1.0', buildIndex(nested));
    const signature = cosignSignature(other.manifest.descriptor.digest);
    await world.hub.push('acme/app', cosignTag(other.manifest.descriptor.digest, 'sig'), signature);
    const rules = rulesFor('[linux/arm64]');
    expect(told(await world.sync(rules))).toContain('1.0 copied (new tag)');
    const [first, second, ...rest] = targetIndex('1.0').fields.manifests ?? [];
    expect(targetIndex(first?.digest ?? '').fields.manifests?.map(({ digest }) => digest)).toEqual([
      other.manifest.descriptor.digest,
      attestationOf(other.manifest).manifest.descriptor.digest,
    ]);
    expect(second?.digest).toBe(arms.descriptor.digest);
    expect(rest).toEqual([]);
    expect(world.acr.repository('app').tagNames()).toEqual([
      '1.0',
      cosignTag(other.manifest.descriptor.digest, 'sig'),
    ]);
    await expectIdle(rules);
    expect(told(await world.verify(rules))).toEqual(['1.0 same']);
    await world.forgetState();
    expect(told(await world.sync(rules))).toContain('1.0 unchanged');
  });

  it('of which the listing does not tell the version of Windows is looked into', async () => {
    await world.hub.push('acme/app', '1.0', buildIndex([child(amd64), child(windows)]));
    const report = await world.sync(rulesFor('["windows(10.0.17763)/amd64"]'));
    expect(told(report)).toEqual(['1.0 copied (new tag)']);
  });

  it('that has none of them fails, names what there is, and leaves the tag alone', async () => {
    const rules = rulesFor('[linux/s390x]');
    await world.hub.push('acme/app', '1.0', buildIndex([first, second, attestationOf(first.manifest)]));
    await world.hub.push('acme/app', '1.1', buildIndex([child(amd64)]));
    const report = await world.sync(rules);
    expect(told(report)).toEqual(['1.0 failed (ERR_PLATFORM_MISSING)', '1.1 failed (ERR_PLATFORM_MISSING)']);
    for (const { error } of report.tags) expect(error?.message).toContain('linux/amd64');
    expect(report.tags[0]?.error?.message).toContain('linux/arm64');
    expect(world.acr.repository('app').tagNames()).toEqual([]);
    const again = await world.sync(rules);
    expect(again.tags.map(({ error }) => error)).toEqual(report.tags.map(({ error }) => error));
    expect([report.totals.pulls, again.totals.pulls]).toEqual([1, 0]);
  });

  it('of a registry that tells no platforms fails with the same code', async () => {
    const rules = '- { source: $plain/acme/app, target: $acr/app, platforms: [linux/s390x] }';
    const index = buildIndex([first, second]);
    await world.hub.push('acme/app', '1.0', index);
    world.plain.store.repositories.set('acme/app', world.hub.repository('acme/app'));
    for (const report of [await world.plan(rules), await world.sync(rules)]) {
      expect(told(report)).toEqual(['1.0 failed (ERR_PLATFORM_MISSING)']);
    }
  });
});

describe('a single manifest', () => {
  const rules = rulesFor('[linux/arm64]');

  it('of another platform is skipped, and looked into once', async () => {
    await world.hub.push('acme/app', '1.0', buildManifest({ seed: 'other', platform: amd64 }));
    const report = await world.sync(rules);
    expect(report.totals).toMatchObject({ skipped: 1, failed: 0, pulls: 1 });
    expect(report.tags[0]?.reason).toContain('linux/amd64');
    expect(world.acr.repository('app').tagNames()).toEqual([]);
    await expectIdle(rules, 'skipped');
  });

  it('of a platform that is kept is copied as it is', async () => {
    const content = buildManifest({ seed: 'kept', platform: armV8, docker: true, pretty: true });
    await world.hub.push('acme/app', '1.0', content);
    await world.sync(rules);
    expect(world.acr.repository('app').digestOf('1.0')).toBe(content.descriptor.digest);
    await expectIdle(rules);
  });

  it('that is no image at all has no platform, and is copied as it is', async () => {
    const chart = buildManifest({
      seed: 'chart',
      config: buildBlob(Buffer.from('{}'), 'application/vnd.cncf.helm.config.v1+json'),
    });
    await world.hub.push('acme/app', '1.0', chart);
    await world.sync(rules);
    expect(world.acr.repository('app').digestOf('1.0')).toBe(chart.descriptor.digest);
    await expectIdle(rules);
  });
});

describe('a rule whose platforms change', () => {
  const index: Content = buildMultiPlatform('changing', [amd64, arm64]);

  it.each([
    ['[linux/amd64]', '[linux/arm64]'],
    ['all', '[linux/arm64]'],
    ['[linux/arm64]', 'all'],
  ])('from %s to %s says so in its plan, and is idle afterwards', async (before, after) => {
    await world.hub.push('acme/app', '1.0', index);
    await world.sync(rulesFor(before));
    expect(told(await world.plan(rulesFor(after)))).toEqual(['1.0 copy (platform set changed)']);
    expect((await world.verify(rulesFor(after))).totals).toMatchObject({ same: 0, moved: 1 });
    await world.sync(rulesFor(after));
    await expectIdle(rulesFor(after));
  });

  it('calls a tag moved that has moved', async () => {
    await world.hub.push('acme/app', '1.0', index);
    await world.sync(rulesFor('[linux/arm64]'));
    await world.hub.push('acme/app', '1.0', buildMultiPlatform('moved', [amd64, arm64]));
    expect(told(await world.plan(rulesFor('[linux/arm64]')))).toEqual(['1.0 copy (moved)']);
  });
});

describe('without a memory', () => {
  it('one pull a tag tells that nothing is to be done, once', async () => {
    const rules = rulesFor('[linux/arm64]');
    await world.hub.push('acme/app', '1.0', buildMultiPlatform('forgotten', [amd64, arm64]));
    await world.sync(rules);
    await world.forgetState();
    const report = await world.sync(rules);
    expect(told(report)).toEqual(['1.0 unchanged']);
    expect(report.totals).toMatchObject({ pulls: 1, bytesCopied: 0 });
    await expectIdle(rules);
  });
});

describe('a tag that is not to be overwritten', () => {
  const rules = rulesFor('[linux/arm64], overwrite: false');

  it('is known to be as it is to be, also without a memory, and its late signature comes', async () => {
    const index = buildMultiPlatform('kept', [amd64, arm64]);
    await world.hub.push('acme/app', '1.0', index);
    await world.sync(rules);
    await world.forgetState();
    const child = index.children[1]?.descriptor.digest ?? index.descriptor.digest;
    await world.hub.push('acme/app', cosignTag(child, 'sig'), cosignSignature(child));
    expect(told(await world.sync(rules))).toContain('1.0 unchanged');
    expect(world.acr.repository('app').tagNames()).toContain(cosignTag(child, 'sig'));
    await world.hub.push('acme/app', '1.0', buildMultiPlatform('moved', [amd64, arm64]));
    const present = world.acr.repository('app').digestOf('1.0');
    for (const pulls of [1, 0]) {
      const report = await world.sync(rules);
      expect(told(report)).toEqual(['1.0 skipped (not overwritten)']);
      expect(report.totals.pulls).toBe(pulls);
    }
    expect(world.acr.repository('app').digestOf('1.0')).toBe(present);
  });
});

/** No manifest is asked for or pulled, nothing is written. */
async function expectIdle(rules: string, outcome: 'unchanged' | 'skipped' = 'unchanged'): Promise<void> {
  world.forgetRequests();
  const report = await world.sync(rules);
  expect(report.totals).toMatchObject({ tags: 1, [outcome]: 1, pulls: 0, bytesCopied: 0 });
  const requests = [...world.sourceRequests, ...world.targetRequests].map(({ url }) => url);
  expect(requests.filter((url) => url.includes('/manifests/') || url.includes('/blobs/'))).toEqual([]);
}

describe('a source that is named by its digest, with platforms and without a tag at the target', () => {
  it.each([false, true])(
    'is idle the second time, and is found where it is, with prune %s',
    async (prune) => {
      const index = buildIndex([child(amd64), child(arm64)]);
      await world.hub.push('acme/app', 'v1', index);
      const rules = `- { source: "docker.io/acme/app@${index.descriptor.digest}", target: $acr/app, prune: ${prune}, platforms: [linux/amd64] }`;
      const first = await world.sync(rules);
      expect(first.totals).toMatchObject({ copied: 1 });
      const [line] = first.tags;
      expect(line?.target).toBe(`${world.acr.host}/app@${line?.targetDigest}`);
      world.forgetRequests();
      for (const run of [await world.sync(rules), await world.plan(rules)])
        expect(run).toMatchObject({ totals: { unchanged: 1, pulls: 0 }, tags: [{ target: line?.target }] });
      expect(world.targetRequests.filter(({ method }) => method === 'PUT')).toEqual([]);
      expect(told(await world.verify(rules))).toEqual([expect.stringContaining('same')]);
      await world.forgetState();
      world.forgetRequests();
      expect(told(await world.verify(rules))).toEqual([expect.stringContaining('same')]);
      await world.forgetState();
      expect((await world.sync(rules)).totals).toMatchObject({ unchanged: 1 });
      expect(world.targetRequests.filter(({ method }) => method === 'PUT')).toEqual([]);
      expect((await world.sync(rules, { force: true })).totals).toMatchObject({ copied: 1 });
    },
  );
});

describe('where nothing can be remembered', () => {
  const rules = rulesFor('[linux/amd64]');
  const push = (tag: string) =>
    world.hub.push('acme/app', tag, buildIndex([child(amd64), child({ ...arm64, variant: tag })]));

  it('plan and verify say what they have found, with a warning', async () => {
    await push('v1');
    await world.sync(rules);
    await push('v2');
    await world.forgetState();
    const full = new StorageError('put state/derived: no space left.', { reason: 'ENOSPC' });
    const note = vi.spyOn(Facts.prototype, 'noteDerived').mockRejectedValue(full);
    onTestFinished(() => note.mockRestore());
    expect(told(await world.plan(rules))).toEqual(['v1 unchanged', 'v2 copy (new tag)']);
    const warnings = world.events.filter((event) => event.type === 'log' && event.level === 'warn');
    expect(warnings).not.toEqual([]);
    expect(told(await world.verify(rules))).toEqual(['v1 same', 'v2 missing (not at the target)']);
  });
});
