import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { deriveIndex } from '../../../lib/oci/derive.ts';
import type { Descriptor, Manifest } from '../../../lib/oci/descriptor.ts';
import { digestOf } from '../../../lib/oci/digest.ts';
import { descriptorOf, mediaTypes, parseManifest } from '../../../lib/oci/manifest.ts';
import { matchesPlatform, parsePlatformPattern } from '../../../lib/oci/platform.ts';
import { attestation, child, descriptor, indexOf, manifestOf, textManifest } from './builders.ts';

const amd64 = child('linux/amd64');
const arm64 = child('linux/arm64/v8');
const s390x = child('linux/s390x');
const patterns = (...texts: string[]) => texts.map(parsePlatformPattern);
const textOf = (manifest: Manifest) => new TextDecoder().decode(manifest.bytes);

describe('deriveIndex', () => {
  it('keeps the children that were asked for, in their order', () => {
    const derived = deriveIndex(indexOf([s390x, arm64, amd64]), patterns('linux/amd64', 'linux/arm64'));
    expect(derived.kept).toEqual([arm64, amd64]);
    expect(derived.dropped).toEqual([s390x]);
    expect(parseManifest(derived.manifest).manifests).toEqual([arm64, amd64]);
  });

  it('describes the bytes that it wrote', () => {
    const { manifest } = deriveIndex(indexOf([amd64, arm64]), patterns('linux/amd64'));
    expect(manifest.descriptor).toEqual(descriptorOf(manifest.bytes, mediaTypes.ociIndex));
  });

  it('returns the original bytes when nothing is dropped, however they were written', () => {
    const pretty = textManifest(
      JSON.stringify({ schemaVersion: 2, manifests: [amd64, arm64] }, null, 4),
      mediaTypes.ociIndex,
    );
    expect(deriveIndex(pretty, patterns('linux')).manifest).toBe(pretty);
    expect(deriveIndex(pretty, []).manifest).toBe(pretty);
  });

  it('gives the bytes that it always gave', () => {
    // Other bytes here need another `rewriteVersion`: what targets hold was derived in this form.
    const { manifest } = deriveIndex(
      indexOf([amd64, arm64], { annotations: { b: '2', a: 'ü' } }),
      patterns('linux/amd64'),
    );
    expect(textOf(manifest)).toBe(
      '{"annotations":{"a":"ü","b":"2"},"manifests":[{"digest":"sha256:baf0239e48ff4c47ebac3ba02b5cf1506b69cd5a0c0d0c825a53ba65976fb942","mediaType":"application/vnd.oci.image.manifest.v1+json","platform":{"architecture":"amd64","os":"linux"},"size":11}],"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2}',
    );
  });

  it('gives one digest for the same index in other spacing and another order of keys', () => {
    const index = {
      schemaVersion: 2,
      mediaType: mediaTypes.ociIndex,
      manifests: [amd64, arm64],
      '10': 1,
      '9': 2,
    };
    const shuffled = Object.fromEntries(Object.entries(index).toReversed());
    const digests = [JSON.stringify(index), JSON.stringify(shuffled, null, '\t')].map(
      (text) =>
        deriveIndex(textManifest(text, mediaTypes.ociIndex), patterns('linux/amd64')).manifest.descriptor
          .digest,
    );
    expect(digests[0]).toBe(digests[1]);
  });

  it('keeps annotations, subject, artifact type and what it does not know', () => {
    const more = {
      annotations: { 'org.opencontainers.image.ref.name': '1.0' },
      subject: child(undefined),
      artifactType: 'application/vnd.example',
      'com.example.future': { b: [1, null, true], a: '\u2028\u0001"\\' },
    };
    const future = { ...amd64, data: 'eA==', 'com.example.future': 1.5 };
    const { manifest } = deriveIndex(indexOf([future, arm64], more), patterns('linux/amd64'));
    expect(JSON.parse(textOf(manifest))).toEqual({
      schemaVersion: 2,
      mediaType: mediaTypes.ociIndex,
      manifests: [future],
      ...more,
    });
  });

  it('stays a Docker list where it was one, and adds no media type where there was none', () => {
    const list = { schemaVersion: 2, mediaType: mediaTypes.dockerList, manifests: [amd64, arm64] };
    const docker = deriveIndex(manifestOf(list, mediaTypes.dockerList), patterns('linux/amd64')).manifest;
    expect(docker.descriptor.mediaType).toBe(mediaTypes.dockerList);
    const bare = manifestOf({ schemaVersion: 2, manifests: [amd64, arm64] }, mediaTypes.ociIndex);
    expect(JSON.parse(textOf(deriveIndex(bare, patterns('linux/amd64')).manifest))).not.toHaveProperty(
      'mediaType',
    );
  });

  it('uses the algorithm of the digest that it derives from', () => {
    const { bytes } = indexOf([amd64, arm64]);
    const source = { bytes, descriptor: descriptorOf(bytes, mediaTypes.ociIndex, 'sha512') };
    const { manifest } = deriveIndex(source, patterns('linux/amd64'));
    expect(manifest.descriptor.digest).toBe(digestOf(manifest.bytes, 'sha512'));
  });

  it('keeps the attestations of what it keeps, and drops the others', () => {
    const ofAmd64 = attestation(amd64);
    const ofArm64 = attestation(arm64);
    const derived = deriveIndex(indexOf([amd64, arm64, ofAmd64, ofArm64]), patterns('linux/arm64'));
    expect(derived.kept).toEqual([arm64, ofArm64]);
    expect(derived.dropped).toEqual([amd64, ofAmd64]);
  });

  it('keeps every child when no platform is asked for, attestations of nothing too', () => {
    const children = [amd64, child(undefined), attestation(s390x)];
    expect(deriveIndex(indexOf(children), []).kept).toEqual(children);
  });

  it('drops entries without a platform', () => {
    const derived = deriveIndex(indexOf([child(undefined), amd64]), patterns('linux/amd64'));
    expect(derived.kept).toEqual([amd64]);
  });

  it('keeps a nested index whole where its platform was asked for, and drops one without', () => {
    const nested = child('linux/arm64', { mediaType: mediaTypes.ociIndex });
    const bare = child(undefined, { mediaType: mediaTypes.ociIndex });
    expect(deriveIndex(indexOf([amd64, nested, bare]), patterns('linux/arm64')).kept).toEqual([nested]);
  });

  it('keeps a child of two platforms only under the one asked for', () => {
    const v6 = child('linux/arm/v6');
    const v7 = { ...v6, platform: { os: 'linux', architecture: 'arm', variant: 'v7' } };
    expect(deriveIndex(indexOf([v6, v7]), patterns('linux/arm/v7')).kept).toEqual([v7]);
  });

  it('fails when nothing is left, and names what there was', () => {
    const index = indexOf([arm64, child(undefined), attestation(arm64), s390x]);
    expect(() => deriveIndex(index, patterns('linux/amd64', 'windows'))).toThrow(
      expect.objectContaining({
        code: 'ERR_PLATFORM_MISSING',
        message:
          'The index has nothing for linux/amd64, windows; it has entries without a platform, linux/arm64/v8, linux/s390x.',
      }),
    );
  });

  it('fails for an index of attestations alone', () => {
    expect(() => deriveIndex(indexOf([attestation(amd64)]), patterns('linux'))).toThrow(
      expect.objectContaining({ code: 'ERR_PLATFORM_MISSING' }),
    );
  });

  it('leaves an index of no children, and what is no index, as they came', () => {
    const empty = indexOf([]);
    expect(deriveIndex(empty, patterns('linux')).manifest).toBe(empty);
    const config = descriptor('config');
    const single = manifestOf({ schemaVersion: 2, config, layers: [] });
    expect(deriveIndex(single, patterns('windows')).manifest).toBe(single);
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
  it('has the same bytes whenever it is derived, and deriving it again changes nothing', () => {
    fc.assert(
      fc.property(children, wanted, (entries, filter) => {
        fc.pre(keepsSomething(entries, filter));
        const { manifest } = deriveIndex(indexOf(entries), filter);
        expect(deriveIndex(indexOf(entries), filter).manifest).toEqual(manifest);
        expect(deriveIndex(manifest, filter).manifest).toBe(manifest);
      }),
    );
  });

  it('holds exactly what was kept, and what was kept and dropped is the whole', () => {
    fc.assert(
      fc.property(children, wanted, (entries, filter) => {
        fc.pre(keepsSomething(entries, filter));
        const { manifest, kept, dropped } = deriveIndex(indexOf(entries), filter);
        expect(parseManifest(manifest).manifests).toEqual(kept);
        const places = [...kept, ...dropped].map((entry) =>
          entries.findIndex(({ digest }) => digest === entry.digest),
        );
        expect(places.toSorted((a, b) => a - b)).toEqual(entries.map((_, i) => i));
      }),
    );
  });
});
