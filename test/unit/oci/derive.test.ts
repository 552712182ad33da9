import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { deriveIndex, type OpenIndex } from '../../../lib/oci/derive.ts';
import type { Descriptor, Manifest } from '../../../lib/oci/descriptor.ts';
import { digestOf } from '../../../lib/oci/digest.ts';
import { descriptorOf, mediaTypes, parseManifest } from '../../../lib/oci/manifest.ts';
import { matchesPlatform, parsePlatformPattern } from '../../../lib/oci/platform.ts';
import { attestation, child, descriptor, indexOf, manifestOf, textManifest } from './builders.ts';

const amd64 = child('linux/amd64');
const arm64 = child('linux/arm64/v8');
const s390x = child('linux/s390x');
const patterns = (...texts: string[]) => texts.map(parsePlatformPattern);
const nobody: OpenIndex = ({ digest }) => Promise.reject(new Error(`${digest} was opened`));
const derive = async (index: Manifest, filter: ReturnType<typeof patterns>, open = nobody) =>
  (await deriveIndex(index, filter, open)).manifest;
const childrenOf = (manifest: Manifest) => parseManifest(manifest).manifests;
const textOf = (manifest: Manifest) => new TextDecoder().decode(manifest.bytes);

describe('deriveIndex', () => {
  it('keeps the children that were asked for, in their order', async () => {
    const derived = await derive(indexOf([s390x, arm64, amd64]), patterns('linux/amd64', 'linux/arm64'));
    expect(childrenOf(derived)).toEqual([arm64, amd64]);
  });

  it('describes the bytes that it wrote', async () => {
    const manifest = await derive(indexOf([amd64, arm64]), patterns('linux/amd64'));
    expect(manifest.descriptor).toEqual(descriptorOf(manifest.bytes, mediaTypes.ociIndex));
  });

  it('returns the original bytes when nothing is dropped, however they were written', async () => {
    const pretty = textManifest(
      JSON.stringify({ schemaVersion: 2, manifests: [amd64, arm64] }, null, 4),
      mediaTypes.ociIndex,
    );
    expect(await derive(pretty, patterns('linux'))).toBe(pretty);
    expect(await derive(pretty, [])).toBe(pretty);
  });

  it('gives the bytes that it always gave', async () => {
    // Other bytes here need another `rewriteVersion`: what targets hold was derived in this form.
    const manifest = await derive(
      indexOf([amd64, arm64], { annotations: { b: '2', a: 'ü' } }),
      patterns('linux/amd64'),
    );
    expect(textOf(manifest)).toBe(
      '{"annotations":{"a":"ü","b":"2"},"manifests":[{"digest":"sha256:baf0239e48ff4c47ebac3ba02b5cf1506b69cd5a0c0d0c825a53ba65976fb942","mediaType":"application/vnd.oci.image.manifest.v1+json","platform":{"architecture":"amd64","os":"linux"},"size":11}],"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2}',
    );
  });

  it('gives one digest for the same index in other spacing and another order of keys', async () => {
    const index = {
      schemaVersion: 2,
      mediaType: mediaTypes.ociIndex,
      manifests: [amd64, arm64],
      '10': 1,
      '9': 2,
    };
    const shuffled = Object.fromEntries(Object.entries(index).toReversed());
    const [plain, other] = [JSON.stringify(index), JSON.stringify(shuffled, null, '\t')].map((text) =>
      derive(textManifest(text, mediaTypes.ociIndex), patterns('linux/amd64')),
    );
    expect((await plain)?.descriptor).toEqual((await other)?.descriptor);
  });

  it('keeps annotations, subject, artifact type and what it does not know', async () => {
    const more = {
      annotations: { 'org.opencontainers.image.ref.name': '1.0' },
      subject: child(undefined),
      artifactType: 'application/vnd.example',
      'com.example.future': { b: [1, null, true], a: '\u2028\u0001"\\' },
    };
    const future = { ...amd64, data: 'eA==', 'com.example.future': 1.5 };
    const manifest = await derive(indexOf([future, arm64], more), patterns('linux/amd64'));
    expect(JSON.parse(textOf(manifest))).toEqual({
      schemaVersion: 2,
      mediaType: mediaTypes.ociIndex,
      manifests: [future],
      ...more,
    });
  });

  it('stays a Docker list where it was one, and adds no media type where there was none', async () => {
    const list = { schemaVersion: 2, mediaType: mediaTypes.dockerList, manifests: [amd64, arm64] };
    const docker = await derive(manifestOf(list, mediaTypes.dockerList), patterns('linux/amd64'));
    expect(docker.descriptor.mediaType).toBe(mediaTypes.dockerList);
    const bare = manifestOf({ schemaVersion: 2, manifests: [amd64, arm64] }, mediaTypes.ociIndex);
    const derived = await derive(bare, patterns('linux/amd64'));
    expect(JSON.parse(textOf(derived))).not.toHaveProperty('mediaType');
  });

  it('uses the algorithm of the digest that it derives from', async () => {
    const { bytes } = indexOf([amd64, arm64]);
    const source = { bytes, descriptor: descriptorOf(bytes, mediaTypes.ociIndex, 'sha512') };
    const manifest = await derive(source, patterns('linux/amd64'));
    expect(manifest.descriptor.digest).toBe(digestOf(manifest.bytes, 'sha512'));
  });

  it('keeps the attestations of what it keeps, and drops the others', async () => {
    const ofAmd64 = attestation(amd64);
    const ofArm64 = attestation(arm64);
    const derived = await derive(indexOf([amd64, arm64, ofAmd64, ofArm64]), patterns('linux/arm64'));
    expect(childrenOf(derived)).toEqual([arm64, ofArm64]);
  });

  it('keeps every child when no platform is asked for, attestations of nothing too', async () => {
    const children = [amd64, child(undefined), attestation(s390x)];
    expect(childrenOf(await derive(indexOf(children), []))).toEqual(children);
  });

  it('drops entries without a platform', async () => {
    const derived = await derive(indexOf([child(undefined), amd64]), patterns('linux/amd64'));
    expect(childrenOf(derived)).toEqual([amd64]);
  });

  it('keeps or drops a nested index of a platform as a whole', async () => {
    const nested = child('linux/arm64', { mediaType: mediaTypes.ociIndex });
    const other = child('windows/amd64', { mediaType: mediaTypes.dockerList });
    const derived = await derive(indexOf([amd64, nested, other]), patterns('linux/arm64'));
    expect(childrenOf(derived)).toEqual([nested]);
  });

  it('keeps a child of two platforms only under the one asked for', async () => {
    const v6 = child('linux/arm/v6');
    const v7 = { ...v6, platform: { os: 'linux', architecture: 'arm', variant: 'v7' } };
    const derived = await derive(indexOf([v6, v7]), patterns('linux/arm/v7'));
    expect(childrenOf(derived)).toEqual([v7]);
  });

  it('fails when nothing is left, and names what there was', async () => {
    const index = indexOf([arm64, child(undefined), attestation(arm64), s390x]);
    await expect(derive(index, patterns('linux/amd64', 'windows'))).rejects.toThrow(
      expect.objectContaining({
        code: 'ERR_PLATFORM_MISSING',
        message:
          'The index has nothing for linux/amd64, windows; it has entries without a platform, linux/arm64/v8, linux/s390x.',
      }),
    );
  });

  it('fails for an index of attestations alone', async () => {
    await expect(derive(indexOf([attestation(amd64)]), patterns('linux'))).rejects.toThrow(
      expect.objectContaining({ code: 'ERR_PLATFORM_MISSING' }),
    );
  });

  it('leaves an index of no children, and what is no index, as they came', async () => {
    const empty = indexOf([]);
    expect(await derive(empty, patterns('linux'))).toBe(empty);
    const config = descriptor('config');
    const single = manifestOf({ schemaVersion: 2, config, layers: [] });
    expect(await derive(single, patterns('windows'))).toBe(single);
  });
});

const platform = fc.constantFrom(
  ...[
    'linux/amd64',
    'linux/arm/v6',
    'linux/arm/v7',
    'linux/arm64',
    'linux/arm64/v8',
    'windows/amd64',
    undefined,
  ],
);
const children = fc.uniqueArray(platform, { minLength: 1 }).chain((platforms) => {
  const plain = platforms.map((one) => child(one));
  const about = fc.subarray([...plain, s390x]).map((subjects) => subjects.map(attestation));
  return about.chain((attestations) => shuffled([...plain, ...attestations]));
});
const wanted = fc
  .subarray(['linux', 'linux/amd64', 'linux/arm', 'linux/arm/v7', 'linux/arm64', 'windows', '*/amd64'], {
    minLength: 1,
  })
  .map((texts) => texts.map(parsePlatformPattern));

function shuffled<T>(items: readonly T[]): fc.Arbitrary<T[]> {
  return fc.shuffledSubarray([...items], { minLength: items.length });
}

function keepsSomething(entries: readonly Descriptor[], filter: ReturnType<typeof patterns>): boolean {
  return entries.some((entry) => matchesPlatform(entry.platform, filter));
}

describe('a derived index', () => {
  it('has the same bytes whenever it is derived, and deriving it again changes nothing', () =>
    fc.assert(
      fc.asyncProperty(children, wanted, async (entries, filter) => {
        fc.pre(keepsSomething(entries, filter));
        const manifest = await derive(indexOf(entries), filter);
        expect(await derive(indexOf(entries), filter)).toEqual(manifest);
        expect(await derive(manifest, filter)).toBe(manifest);
      }),
    ));

  it('holds what was asked for with its attestations, in their order, and nothing else', () =>
    fc.assert(
      fc.asyncProperty(children, wanted, async (entries, filter) => {
        fc.pre(keepsSomething(entries, filter));
        const asked = entries.filter(({ platform }) => matchesPlatform(platform, filter));
        const about = new Set(asked.map(attestation).map(({ digest }) => digest));
        const kept = entries.filter((entry) => asked.includes(entry) || about.has(entry.digest));
        expect(childrenOf(await derive(indexOf(entries), filter))).toEqual(kept);
      }),
    ));
});

describe('a nested index without a platform', () => {
  const nest = (index: Manifest, more: object = {}) => ({ ...index.descriptor, ...more });
  const opens =
    (...indexes: Manifest[]): OpenIndex =>
    async (entry) =>
      indexes.find(({ descriptor }) => descriptor.digest === entry.digest) ?? nobody(entry);
  const both = indexOf([amd64, arm64, attestation(amd64), attestation(arm64)]);

  it('is looked into, and derived in the same way', async () => {
    const annotations = { 'com.example.name': 'inner' };
    const outer = indexOf([nest(both, { annotations, data: 'eA==' })]);
    const derived = await deriveIndex(outer, patterns('linux/arm64'), opens(both));
    const inner = await derive(both, patterns('linux/arm64'));
    expect(childrenOf(derived.manifest)).toEqual([nest(inner, { annotations })]);
    expect(textOf(derived.manifest)).not.toContain('eA==');
    expect([...derived.written.values()]).toEqual([inner, derived.manifest]);
  });

  it('stays as it came where nothing of it is dropped, and so does what holds it', async () => {
    const outer = indexOf([nest(both)]);
    const derived = await deriveIndex(outer, patterns('linux'), opens(both));
    expect(derived).toEqual({ manifest: outer, written: new Map() });
  });

  it('is dropped where nothing in it was asked for', async () => {
    const others = [indexOf([s390x, attestation(s390x)]), indexOf([]), indexOf([attestation(amd64)])];
    const outer = indexOf([...others.map((one) => nest(one)), amd64]);
    const derived = await derive(outer, patterns('linux/amd64'), opens(...others));
    expect(childrenOf(derived)).toEqual([amd64]);
  });

  it('is looked into at any depth, and found there by its platforms', async () => {
    const middle = indexOf([nest(both), s390x]);
    const outer = indexOf([nest(middle)]);
    const derived = await deriveIndex(outer, patterns('linux/amd64'), opens(middle, both));
    const [first] = childrenOf(derived.manifest);
    const [second] = childrenOf(derived.written.get(first?.digest ?? 'no:digest') ?? outer);
    expect(childrenOf(derived.written.get(second?.digest ?? 'no:digest') ?? outer)).toEqual([
      amd64,
      attestation(amd64),
    ]);
    await expect(derive(outer, patterns('windows'), opens(middle, both))).rejects.toThrow(
      'it has linux/amd64, linux/arm64/v8, linux/s390x.',
    );
  });

  it('keeps what is attested about it only as long as it stays what it was', async () => {
    const outer = indexOf([nest(both), attestation(nest(both)), s390x]);
    const whole = await derive(outer, patterns('linux/amd64', 'linux/arm64'), opens(both));
    expect(childrenOf(whole)).toEqual([nest(both), attestation(nest(both))]);
    const rewritten = await derive(outer, patterns('linux/arm64'), opens(both));
    expect(childrenOf(rewritten)).toHaveLength(1);
  });

  it('is opened once, however often it is named', async () => {
    const opened: string[] = [];
    const open: OpenIndex = async (entry) => {
      opened.push(entry.digest);
      return opens(both)(entry);
    };
    await derive(indexOf([nest(both), nest(both), nest(both)]), patterns('linux/arm64'), open);
    expect(opened).toEqual([both.descriptor.digest]);
  });

  it('is refused where too many are nested, too deep, or too large', async () => {
    const chain = [indexOf([amd64])];
    for (let i = 0; i < 9; i += 1) chain.push(indexOf([nest(chain.at(-1) ?? both), s390x]));
    const many = Array.from({ length: 101 }, (_, i) => indexOf([amd64], { annotations: { nth: `${i}` } }));
    const large = Array.from({ length: 5 }, (_, i) =>
      indexOf([amd64], { annotations: { filler: `${i}`.repeat(4_000_000) } }),
    );
    for (const [indexes, outer] of [
      [chain, chain.at(-1) ?? both],
      [many, indexOf(many.map((one) => nest(one)))],
      [large, indexOf(large.map((one) => nest(one)))],
    ] as const) {
      await expect(derive(outer, patterns('linux/amd64'), opens(...indexes))).rejects.toThrow(
        expect.objectContaining({ code: 'ERR_TOO_LARGE' }),
      );
    }
  });
});
