/**
 * A malicious publisher: manifests made to exhaust, to confuse or to lie. What a single manifest may say is in
 * test/unit/oci/manifest.test.ts; here a whole run meets it.
 */
import { describe, expect, it } from 'vitest';
import type { Descriptor, Digest } from '../../../lib/oci/descriptor.ts';
import { buildIndex, buildManifest, type Content, mediaTypes, put, referrerOf } from '../../local/content.ts';
import type { LocalRegistry } from '../../local/registry.ts';
import type { LoggedRequest } from '../../local/server.ts';
import { digestOf } from '../../local/store.ts';
import { mirror, registry, sourceRepository, targetRepository } from './support.ts';

const mirrored = (target: LocalRegistry, tag = 'latest') =>
  target.repository(targetRepository).tags.get(tag)?.digest;

function describeBytes(bytes: Uint8Array, mediaType: string): Descriptor {
  return { mediaType, digest: digestOf(bytes), size: bytes.byteLength };
}

/** A manifest of any bytes, as a registry that checks nothing would take it. */
function putRaw(source: LocalRegistry, value: object, mediaType: string): Descriptor {
  const bytes = Buffer.from(JSON.stringify(value));
  const descriptor = describeBytes(bytes, mediaType);
  source.repository(sourceRepository).putManifest(mediaType, bytes, descriptor.digest);
  return descriptor;
}

/** Levels of indexes, each of which names all of the level below. */
function lattice(source: LocalRegistry, levels: number, width: number): Digest {
  const leaf = buildManifest({ layers: [10] });
  put(source, sourceRepository, undefined, leaf);
  let below: Descriptor[] = [leaf.descriptor];
  for (let level = 0; level < levels; level += 1) {
    below = Array.from({ length: width }, (_, index) => {
      const annotations = { at: `${level} ${index}` };
      const value = { schemaVersion: 2, mediaType: mediaTypes.index, manifests: below, annotations };
      return putRaw(source, value, mediaTypes.index);
    });
  }
  const top = { schemaVersion: 2, mediaType: mediaTypes.index, manifests: below };
  return putRaw(source, top, mediaTypes.index).digest;
}

describe('a manifest bomb', () => {
  it('of indexes that all name each other below costs one visit a manifest, not one a path', async () => {
    const [source, target] = [await registry(), await registry()];
    // 74 manifests with twelve to the sixth ways down.
    const root = lattice(source, 6, 12);
    source.repository(sourceRepository).setTag('latest', root);
    const { error } = await mirror(source, target);
    expect(error).toBeUndefined();
    expect(mirrored(target)).toBe(root);
    expect(source.requests.length + target.requests.length).toBeLessThan(600);
  });

  it('that goes too deep is refused and leaves the tag alone', async () => {
    const [source, target] = [await registry(), await registry()];
    let content: Content = buildManifest({ layers: [10] });
    for (let depth = 0; depth < 12; depth += 1) content = buildIndex([{ manifest: content }]);
    put(source, sourceRepository, 'latest', content);
    const { error } = await mirror(source, target);
    expect(error?.code).toBe('ERR_TOO_LARGE');
    expect(mirrored(target)).toBeUndefined();
  });

  it.each([
    ['children', mediaTypes.index, 'manifests'],
    ['layers', mediaTypes.manifest, 'layers'],
  ])('of too many %s is refused before one of them is asked for', async (_, mediaType, key) => {
    const [source, target] = [await registry(), await registry()];
    const entries = Array.from({ length: 5000 }, (_, index) => ({
      mediaType: mediaTypes.layer,
      digest: `sha256:${index.toString(16).padStart(64, '0')}`,
      size: 1,
    }));
    const config = key === 'layers' ? { config: entries[0] } : {};
    const { digest } = putRaw(source, { schemaVersion: 2, mediaType, ...config, [key]: entries }, mediaType);
    source.repository(sourceRepository).setTag('latest', digest);
    const { error } = await mirror(source, target);
    expect(error?.code).toBe('ERR_TOO_LARGE');
    expect(source.requests.filter(({ url }) => url.includes('/blobs/'))).toEqual([]);
    expect(mirrored(target)).toBeUndefined();
  });

  it('of annotations as large as a manifest may be is copied as it is', async () => {
    const [source, target] = [await registry(), await registry()];
    const annotations = Object.fromEntries(
      Array.from({ length: 30_000 }, (_, index) => [`key-${index}`, 'x'.repeat(100)]),
    );
    const content = buildManifest({ layers: [10], annotations });
    put(source, sourceRepository, 'latest', content);
    const { error } = await mirror(source, target);
    expect(error).toBeUndefined();
    expect(mirrored(target)).toBe(content.descriptor.digest);
  });

  it('that names itself cannot be: other bytes than its digest are refused', async () => {
    const [source, target] = [await registry(), await registry()];
    const digest = digestOf(Buffer.from('anything'));
    const loop = { mediaType: mediaTypes.index, digest, size: 300 };
    const bytes = Buffer.from(
      JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.index, manifests: [loop] }),
    );
    source.repository(sourceRepository).putManifest(mediaTypes.index, bytes, digest);
    source.repository(sourceRepository).setTag('latest', digest);
    const { error } = await mirror(source, target);
    expect(error?.code).toBe('ERR_DIGEST_MISMATCH');
    expect(mirrored(target)).toBeUndefined();
  });
});

describe('a list of referrers', () => {
  it('that goes round in circles, or names what is about something else, is not followed', async () => {
    const [source, target] = [await registry(), await registry({ referrersApi: false })];
    const content = buildManifest({ layers: [10] });
    put(source, sourceRepository, 'latest', content);
    const others = Array.from({ length: 30 }, (_, index) =>
      buildManifest({ seed: `other ${index}`, layers: [5] }),
    );
    for (const other of others) put(source, sourceRepository, undefined, other);
    // Whatever is asked for, all of these are said to be about it.
    const body = JSON.stringify({
      schemaVersion: 2,
      mediaType: mediaTypes.index,
      manifests: [...others, content].map(({ descriptor }) => descriptor),
    });
    source.intercept = ({ url }) =>
      url.includes('/referrers/')
        ? { kind: 'answer', status: 200, headers: { 'content-type': mediaTypes.index }, body }
        : undefined;
    const { report } = await mirror(source, target);
    expect(report.totals).toMatchObject({ copied: 1, failed: 0 });
    expect(mirrored(target)).toBe(content.descriptor.digest);
    expect(source.requests.filter(({ url }) => url.includes('/referrers/')).length).toBeLessThan(5);
    expect(target.repository(targetRepository).manifests.size).toBe(1);
  });

  it('of a chain without an end is followed a few steps', async () => {
    const [source, target] = [await registry(), await registry()];
    const content = buildManifest({ layers: [10] });
    put(source, sourceRepository, 'latest', content);
    let last = content;
    for (let step = 0; step < 20; step += 1) {
      last = referrerOf(last, 'application/x-chain');
      put(source, sourceRepository, undefined, last);
    }
    const { error } = await mirror(source, target);
    expect(error).toBeUndefined();
    expect(target.repository(targetRepository).manifests.size).toBeLessThan(10);
  });
});

describe('a lie', () => {
  it('about the size of a blob that never ends is found out at the size', async () => {
    const [source, target] = [await registry(), await registry()];
    const content = buildManifest({ layers: [1000] });
    put(source, sourceRepository, 'latest', content);
    const [, layer] = content.blobs;
    if (layer === undefined) throw new Error('there is a layer');
    let served = 0;
    source.repository(sourceRepository).putBlob(layer.descriptor.digest, {
      size: Number.MAX_SAFE_INTEGER,
      async *open() {
        for (; served < 1 << 30; served += 65_536) yield Buffer.alloc(65_536);
      },
    });
    const { error } = await mirror(source, target);
    expect(error?.code).toBe('ERR_SIZE_MISMATCH');
    expect(served).toBeLessThan(16 << 20);
    expect(mirrored(target)).toBeUndefined();
  });

  it.each([
    ['about the size of a blob that is shorter', 1001],
    ['of a size beyond every disk', Number.MAX_SAFE_INTEGER],
  ])('%s fails for the tag alone', async (_, size) => {
    const [source, target] = [await registry(), await registry()];
    const content = buildManifest({ layers: [1000] });
    put(source, sourceRepository, 'good', content);
    const [config, layer] = content.blobs.map(({ descriptor }) => descriptor);
    const layers = [{ ...layer, size }];
    const value = { schemaVersion: 2, mediaType: mediaTypes.manifest, config, layers };
    const { digest } = putRaw(source, value, mediaTypes.manifest);
    source.repository(sourceRepository).setTag('latest', digest);
    const { report } = await mirror(source, target, { tag: 'latest,good' });
    expect(report.totals).toMatchObject({ copied: 1, failed: 1 });
    expect(mirrored(target)).toBeUndefined();
    expect(mirrored(target, 'good')).toBe(content.descriptor.digest);
    expect(target.store.uploads.size).toBe(0);
  });

  describe('about the size of a blob that an honest tag names too', () => {
    async function liar(): Promise<{
      source: LocalRegistry;
      target: LocalRegistry;
      good: string;
      lie: string;
    }> {
      const [source, target] = [await registry(), await registry()];
      const content = buildManifest({ layers: [1000] });
      put(source, sourceRepository, 'good', content);
      const [config, layer] = content.blobs.map(({ descriptor }) => descriptor);
      const layers = [{ ...layer, size: Number.MAX_SAFE_INTEGER }];
      const value = { schemaVersion: 2, mediaType: mediaTypes.manifest, config, layers };
      const { digest } = putRaw(source, value, mediaTypes.manifest);
      source.repository(sourceRepository).setTag('a-lie', digest);
      return { source, target, good: content.descriptor.digest, lie: digest };
    }
    const isGetOf = (digest: string, { method, url }: LoggedRequest) =>
      method === 'GET' && url.endsWith(`/manifests/${digest}`);

    it('fails alone while both are on their way', async () => {
      const { source, target, good, lie } = await liar();
      const both = () => [good, lie].every((one) => source.requests.some((request) => isGetOf(one, request)));
      source.intercept = async ({ url }) => {
        if (url.includes('/blobs/')) await expect.poll(both).toBe(true);
        return undefined;
      };
      const { report } = await mirror(source, target, { tag: 'a-lie,good' });
      expect(report.tags.map(({ outcome }) => outcome)).toEqual(['failed', 'copied']);
      expect(mirrored(target, 'good')).toBe(good);
    });

    it('fails although the blob is there by then', async () => {
      const { source, target, good, lie } = await liar();
      source.intercept = async (request) => {
        if (isGetOf(lie, request)) await expect.poll(() => mirrored(target, 'good')).toBe(good);
        return undefined;
      };
      const { report } = await mirror(source, target, { tag: 'a-lie,good' });
      expect(report.tags.map(({ outcome, error }) => error?.code ?? outcome)).toEqual([
        'ERR_SIZE_MISMATCH',
        'copied',
      ]);
    });
  });

  it('about the size of a manifest is found out before it is named', async () => {
    const [source, target] = [await registry(), await registry()];
    const child = buildManifest({ layers: [10] });
    put(source, sourceRepository, undefined, child);
    const manifests = [{ ...child.descriptor, size: 5 }];
    const { digest } = putRaw(
      source,
      { schemaVersion: 2, mediaType: mediaTypes.index, manifests },
      mediaTypes.index,
    );
    source.repository(sourceRepository).setTag('latest', digest);
    const { error } = await mirror(source, target);
    expect(error?.code).toBe('ERR_SIZE_MISMATCH');
    expect(mirrored(target)).toBeUndefined();
  });

  it('about the bytes of a blob is found out before the blob is there', async () => {
    const [source, target] = [await registry(), await registry()];
    // One blob that is sent whole, and one that is sent in chunks.
    const content = buildManifest({ layers: [1000, 40 << 20] });
    put(source, sourceRepository, 'latest', content);
    for (const { descriptor, size } of content.blobs) {
      source.repository(sourceRepository).putBlob(descriptor.digest, {
        size,
        async *open(start, end) {
          for (let at = start; at < end; at += 65_536) yield Buffer.alloc(Math.min(65_536, end - at));
        },
      });
    }
    const { error } = await mirror(source, target);
    expect(error?.code).toBe('ERR_DIGEST_MISMATCH');
    expect(target.repository(targetRepository).blobs.size).toBe(0);
    expect(mirrored(target)).toBeUndefined();
  });

  it('about what it is: a manifest that is an index by its Content-Type is refused', async () => {
    const [source, target] = [await registry(), await registry()];
    const content = buildManifest({ layers: [10] });
    put(source, sourceRepository, 'latest', content);
    source.intercept = ({ method, url }) =>
      method === 'GET' && url.includes('/manifests/')
        ? { kind: 'answer', status: 200, headers: { 'content-type': mediaTypes.index }, body: content.bytes }
        : undefined;
    const { error } = await mirror(source, target);
    expect(error?.code).toBe('ERR_MANIFEST_INVALID');
    expect(mirrored(target)).toBeUndefined();
  });
});
