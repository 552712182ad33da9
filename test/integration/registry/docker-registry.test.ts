/** Against the real thing: the reference implementation of the distribution API, where it is installed. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Descriptor } from '../../../lib/oci/descriptor.ts';
import { digestOf } from '../../../lib/oci/digest.ts';
import type { Pusher } from '../../../lib/oci/roles.ts';
import { createRegistry, type Registry } from '../../../lib/registry/registry.ts';
import { type DockerRegistry, hasProgram, startDockerRegistry } from '../../local/docker-registry.ts';
import { settingsFor } from './support.ts';

const ociManifest = 'application/vnd.oci.image.manifest.v1+json';
const ociIndex = 'application/vnd.oci.image.index.v1+json';

const describeBytes = (bytes: Uint8Array, mediaType = 'application/octet-stream'): Descriptor => ({
  mediaType,
  digest: digestOf(bytes),
  size: bytes.length,
});

async function push(target: Pusher, bytes: Uint8Array): Promise<Descriptor> {
  const descriptor = describeBytes(bytes);
  await (await target.startUpload()).commit(descriptor.digest, bytes.length === 0 ? [] : [bytes]);
  return descriptor;
}

function manifestOf(config: Descriptor, ...layers: Descriptor[]) {
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: ociManifest, config, layers }));
  return { descriptor: describeBytes(bytes, ociManifest), bytes };
}

async function collect(stream: AsyncIterable<Uint8Array> | undefined): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of stream ?? []) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces);
}

// Skipped, by its name in the output, where `docker-registry` is not on the PATH.
describe.skipIf(!hasProgram('docker-registry'))('docker-registry (needs docker-registry on the PATH)', () => {
  let server: DockerRegistry;
  let registry: Registry;

  beforeAll(async () => {
    server = await startDockerRegistry();
    registry = createRegistry({ settings: settingsFor(server.url), retries: 8 });
  });

  afterAll(async () => {
    await registry.close();
    await server.close();
  });

  const blob = Buffer.alloc(5_000_000, 'blob content ');

  it('takes a blob in chunks and gives it back from any offset', async () => {
    const repository = registry.repository('chunks/a');
    const descriptor = describeBytes(blob);
    expect(await repository.statBlob(descriptor.digest)).toBeUndefined();
    const upload = await repository.startUpload();
    await upload.append([blob.subarray(0, 1_000_000), blob.subarray(1_000_000, 2_000_000)]);
    expect(upload.offset).toBe(2_000_000);
    await upload.append([blob.subarray(2_000_000, 4_000_000)]);
    await upload.commit(descriptor.digest, [blob.subarray(4_000_000)]);
    expect(await repository.statBlob(descriptor.digest)).toEqual({ size: blob.length });
    expect((await collect(await repository.openBlob(descriptor, 0))).equals(blob)).toBe(true);
    const rest = await collect(await repository.openBlob(descriptor, 4_999_990));
    expect(rest.equals(blob.subarray(4_999_990))).toBe(true);
    expect(await collect(await repository.openBlob(descriptor, blob.length))).toHaveLength(0);
    expect(await repository.openBlob(describeBytes(Buffer.from('absent')), 0)).toBeUndefined();
  });

  it('lets another process go on where an upload stood, but only from its newest Location', async () => {
    const repository = registry.repository('resume/a');
    const upload = await repository.startUpload();
    const first = upload.location;
    await upload.append([blob.subarray(0, 1_000_000)]);
    const resumed = repository.resumeUpload(upload.location, 0);
    expect(await resumed.refresh()).toBe(true);
    expect(resumed.offset).toBe(1_000_000);
    expect(await repository.resumeUpload(first, 0).refresh()).toBe(false);
    await resumed.commit(digestOf(blob), [blob.subarray(1_000_000)]);
    expect(await repository.statBlob(digestOf(blob))).toEqual({ size: blob.length });
  });

  it('knows a new session, a cancelled one and one that never was', async () => {
    const repository = registry.repository('sessions/a');
    const upload = await repository.startUpload();
    expect(await upload.refresh()).toBe(true);
    expect(upload.offset).toBe(0);
    await upload.cancel();
    await upload.cancel();
    expect(await upload.refresh()).toBe(false);
    await expect(upload.append([blob])).rejects.toMatchObject({ code: 'ERR_UPLOAD_LOST', retryable: true });
  });

  it('refuses other bytes than the digest says', async () => {
    const upload = await registry.repository('wrong/a').startUpload();
    const commit = upload.commit(digestOf(Buffer.from('other')), [blob.subarray(0, 100)]);
    await expect(commit).rejects.toMatchObject({ code: 'ERR_DIGEST_MISMATCH' });
  });

  it('takes a blob of nothing', async () => {
    const repository = registry.repository('empty/a');
    const descriptor = await push(repository, Buffer.alloc(0));
    expect(await repository.statBlob(descriptor.digest)).toEqual({ size: 0 });
  });

  it('takes a blob by a sha512 digest', async () => {
    const repository = registry.repository('sha512/a');
    const digest = digestOf(blob, 'sha512');
    await (await repository.startUpload()).commit(digest, [blob]);
    expect(await repository.statBlob(digest)).toEqual({ size: blob.length });
  });

  it('mounts a blob from a sibling, or opens a session', async () => {
    const descriptor = await push(registry.repository('mount/from'), Buffer.from('mounted'));
    const repository = registry.repository('mount/to');
    expect(await repository.mountBlob(descriptor.digest, 'mount/from')).toBe(true);
    expect(await repository.statBlob(descriptor.digest)).toEqual({ size: 7 });
    const session = await repository.mountBlob(digestOf(Buffer.from('absent')), 'mount/from');
    expect(session).toMatchObject({ offset: 0 });
    if (typeof session === 'object') await session.cancel();
  });

  it('takes a manifest byte for byte, and not before its blobs', async () => {
    const repository = registry.repository('manifests/a');
    const config = describeBytes(Buffer.from('{}'));
    const manifest = manifestOf(config);
    await expect(repository.pushManifest(manifest, 'v1')).rejects.toMatchObject({ code: 'ERR_BLOB_UNKNOWN' });
    await push(repository, Buffer.from('{}'));
    expect(await repository.pushManifest(manifest, 'v1')).toEqual({ subjectHandled: false });
    expect(await repository.resolve('v1')).toEqual(manifest.descriptor);
    expect(await repository.resolve(manifest.descriptor.digest)).toEqual(manifest.descriptor);
    const fetched = await repository.fetchManifest('v1');
    expect(fetched?.descriptor).toEqual(manifest.descriptor);
    expect(Buffer.from(fetched?.bytes ?? []).equals(manifest.bytes)).toBe(true);
    expect(await repository.resolve('v2')).toBeUndefined();
    const bytes = Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: ociIndex,
        manifests: [describeBytes(Buffer.from('?'), ociManifest)],
      }),
    );
    const index = { descriptor: describeBytes(bytes, ociIndex), bytes };
    await expect(repository.pushManifest(index, 'i')).rejects.toMatchObject({ code: 'ERR_BLOB_UNKNOWN' });
  });

  it('lists tags, but not those of a repository that is not there', async () => {
    const repository = registry.repository('tags/a');
    expect(await repository.listTags()).toBeUndefined();
    const manifest = manifestOf(await push(repository, Buffer.from('{}')));
    for (const tag of ['b', 'a', 'c']) await repository.pushManifest(manifest, tag);
    const page = await repository.listTags();
    // It lists them in the order of its disk, and knows no pages.
    expect(page?.tags.map(({ name }) => name).sort()).toEqual(['a', 'b', 'c']);
    expect(page?.next).toBeUndefined();
  });

  it('deletes no tag by its name, and that is said', async () => {
    const repository = registry.repository('delete/a');
    await repository.pushManifest(manifestOf(await push(repository, Buffer.from('{}'))), 'v1');
    await expect(repository.deleteTag('v1')).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED' });
    expect(await repository.resolve('v1')).toBeDefined();
  });

  it('has no referrers API', async () => {
    const referrers = await registry.repository('tags/a').listReferrers(digestOf(blob));
    expect(referrers).toEqual({ api: false, descriptors: [] });
  });
});
