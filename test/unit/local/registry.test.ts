import { afterEach, expect, test } from 'vitest';
import {
  attestationOf,
  blobsOf,
  buildBlob,
  buildIndex,
  buildManifest,
  type Content,
  mediaTypes,
  put,
  randomBlob,
  referrerOf,
} from '../../local/content.ts';
import { type LocalRegistry, type RegistryOptions, startRegistry } from '../../local/registry.ts';
import { digestOf } from '../../local/store.ts';

let registry: LocalRegistry;

afterEach(() => registry.close());

async function start(options?: RegistryOptions): Promise<void> {
  registry = await startRegistry(options);
}

function send(method: string, path: string, init: RequestInit = {}): Promise<Response> {
  return fetch(new URL(path, registry.url), { method, ...init });
}

async function codeOf(response: Response): Promise<string | undefined> {
  const { errors } = (await response.json()) as { errors: { code: string }[] };
  return errors[0]?.code;
}

async function startUpload(repository = 'a/b'): Promise<string> {
  const response = await send('POST', `/v2/${repository}/blobs/uploads/`);
  return response.headers.get('location') ?? '';
}

function patch(location: string, bytes: Uint8Array, range?: string): Promise<Response> {
  const headers = { 'content-type': 'application/octet-stream', ...(range && { 'content-range': range }) };
  return send('PATCH', location, { body: Buffer.from(bytes), headers });
}

async function pushBlob(bytes: Uint8Array): Promise<void> {
  const location = `${await startUpload()}&digest=${digestOf(bytes)}`;
  const response = await send('PUT', location, { body: Buffer.from(bytes) });
  expect(response.status).toBe(201);
}

function pushManifest(content: Content, reference: string): Promise<Response> {
  return send('PUT', `/v2/a/b/manifests/${reference}`, {
    body: Buffer.from(content.bytes),
    headers: { 'content-type': content.descriptor.mediaType },
  });
}

const hello = Buffer.from('hello world');

test('takes a blob in chunks and gives back any part of it', async () => {
  await start();
  const first = await patch(await startUpload(), hello.subarray(0, 5), '0-4');
  expect(first.headers.get('range')).toBe('0-4');
  const second = await patch(first.headers.get('location') ?? '', hello.subarray(5), '5-10');
  const end = await send('PUT', `${second.headers.get('location')}&digest=${digestOf(hello)}`);
  expect(end.status).toBe(201);
  const part = await send('GET', `/v2/a/b/blobs/${digestOf(hello)}`, { headers: { range: 'bytes=6-' } });
  expect([part.status, part.headers.get('content-range'), await part.text()]).toEqual([
    206,
    'bytes 6-10/11',
    'world',
  ]);
});

test('holds large blobs in files and reads them back unchanged', async () => {
  await start();
  const blob = randomBlob('large', 20 << 20);
  const chunks: Uint8Array[] = [];
  for await (const chunk of blob.open(0, blob.size)) chunks.push(chunk);
  await pushBlob(Buffer.concat(chunks));
  const back = await send('GET', `/v2/a/b/blobs/${blob.descriptor.digest}`);
  expect(digestOf(new Uint8Array(await back.arrayBuffer()))).toBe(blob.descriptor.digest);
});

test('takes only the newest Location of a session', async () => {
  await start();
  const oldest = await startUpload();
  const newest = (await patch(oldest, hello)).headers.get('location') ?? '';
  for (const method of ['GET', 'PATCH', 'PUT', 'DELETE']) {
    const response = await send(method, `${oldest}&digest=${digestOf(hello)}`);
    expect([method, response.status, await codeOf(response)]).toEqual([method, 404, 'BLOB_UPLOAD_INVALID']);
  }
  const status = await send('GET', newest);
  expect([status.status, status.headers.get('range')]).toEqual([204, '0-10']);
});

test('refuses a chunk out of order with 416, and one whose Content-Range is not a-b with 400', async () => {
  await start();
  const location = await startUpload();
  const outOfOrder = await patch(location, hello, '5-15');
  expect([outOfOrder.status, outOfOrder.headers.get('range')]).toEqual([416, '0-0']);
  expect((await patch(location, hello, '0-4')).status).toBe(416);
  expect((await patch(location, hello, 'bytes 0-10/*')).status).toBe(400);
  expect((await patch(location, hello, '0-10')).status).toBe(202);
});

test('refuses a chunk after one that was shorter than OCI-Chunk-Min-Length', async () => {
  await start({ minChunk: 8 });
  const response = await send('POST', '/v2/a/b/blobs/uploads/');
  expect(response.headers.get('oci-chunk-min-length')).toBe('8');
  const short = await patch(response.headers.get('location') ?? '', hello.subarray(0, 4));
  const next = await patch(short.headers.get('location') ?? '', hello.subarray(4));
  expect([next.status, await codeOf(next)]).toEqual([400, 'SIZE_INVALID']);
});

test('loses a session whose request broke off, and keeps nothing of it', async () => {
  await start();
  const location = await startUpload();
  registry.intercept = ({ method }) => (method === 'PATCH' ? { kind: 'drop', after: 1 } : undefined);
  await expect(patch(location, hello)).rejects.toThrow();
  const response = await send('GET', location);
  expect([response.status, await codeOf(response)]).toEqual([404, 'BLOB_UPLOAD_UNKNOWN']);
  expect(registry.store.uploads.size).toBe(0);
});

test('refuses a blob that does not have the digest, and ends the session', async () => {
  await start();
  const response = await send('PUT', `${await startUpload()}&digest=${digestOf(Buffer.from('other'))}`, {
    body: hello,
  });
  expect([response.status, await codeOf(response)]).toEqual([400, 'DIGEST_INVALID']);
  expect(registry.store.uploads.size).toBe(0);
});

test('mounts a blob of a sibling repository, or opens a session where it has none', async () => {
  await start();
  const content = buildManifest({ layers: [hello] });
  put(registry, 'other', 'v1', content);
  const mounted = await send('POST', `/v2/a/b/blobs/uploads/?mount=${digestOf(hello)}&from=other`);
  expect([mounted.status, registry.repository('a/b').blobs.has(digestOf(hello))]).toEqual([201, true]);
  const unknown = await send('POST', `/v2/a/b/blobs/uploads/?mount=${digestOf(hello)}&from=nowhere`);
  expect(unknown.status).toBe(202);
});

test('takes a manifest only when everything below it is there in the size that it names', async () => {
  await start();
  const content = buildManifest({ layers: [hello] });
  const early = await pushManifest(content, 'v1');
  expect([early.status, await codeOf(early)]).toEqual([400, 'MANIFEST_BLOB_UNKNOWN']);
  for (const { bytes } of await Promise.all(blobsOf(content).map(read))) await pushBlob(bytes);
  expect((await pushManifest(content, 'v1')).status).toBe(201);
  const index = buildIndex([{ manifest: buildManifest({ seed: 'missing' }) }]);
  expect(await codeOf(await pushManifest(index, 'v2'))).toBe('MANIFEST_BLOB_UNKNOWN');
  const liar = buildManifest({
    layers: [{ ...buildBlob(hello), descriptor: { ...buildBlob(hello).descriptor, size: 7 } }],
    config: Buffer.from('{}'),
  });
  await pushBlob(Buffer.from('{}'));
  expect(await codeOf(await pushManifest(liar, 'v3'))).toBe('MANIFEST_BLOB_UNKNOWN');
});

async function read(blob: { size: number; open(start: number, end: number): AsyncIterable<Uint8Array> }) {
  const chunks: Uint8Array[] = [];
  for await (const chunk of blob.open(0, blob.size)) chunks.push(chunk);
  return { bytes: Buffer.concat(chunks) };
}

test('refuses a manifest whose media type or digest is not what it is pushed as', async () => {
  await start();
  const content = buildManifest();
  put(registry, 'a/b', 'v1', content);
  const other = { ...content, descriptor: { ...content.descriptor, mediaType: mediaTypes.dockerManifest } };
  expect(await codeOf(await pushManifest(other, 'v2'))).toBe('MANIFEST_INVALID');
  expect(await codeOf(await pushManifest(content, digestOf(hello)))).toBe('DIGEST_INVALID');
  expect((await pushManifest(content, content.descriptor.digest)).status).toBe(201);
});

test('gives a manifest only to a client that accepts its media type', async () => {
  await start();
  const content = buildManifest();
  put(registry, 'a/b', 'v1', content);
  const accept = (type: string) => send('GET', '/v2/a/b/manifests/v1', { headers: { accept: type } });
  expect((await accept(mediaTypes.index)).status).toBe(404);
  const given = await accept(`${mediaTypes.index}, ${mediaTypes.manifest};q=0.5`);
  expect(digestOf(new Uint8Array(await given.arrayBuffer()))).toBe(content.descriptor.digest);
  expect(given.headers.get('docker-content-digest')).toBe(content.descriptor.digest);
});

test('lists tags in pages that survive a tag deleted in between', async () => {
  await start({ pageSize: 2 });
  for (const tag of ['a', 'b', 'c', 'd']) put(registry, 'a/b', tag, buildManifest());
  const page = await send('GET', '/v2/a/b/tags/list?n=3');
  expect(await page.json()).toEqual({ name: 'a/b', tags: ['a', 'b'] });
  registry.repository('a/b').removeTag('b');
  const next = /<([^>]+)>; rel="next"/.exec(page.headers.get('link') ?? '')?.[1] ?? '';
  const last = await send('GET', next);
  expect([await last.json(), last.headers.get('link')]).toEqual([{ name: 'a/b', tags: ['c', 'd'] }, null]);
  expect(await codeOf(await send('GET', '/v2/unknown/tags/list'))).toBe('NAME_UNKNOWN');
});

test('lists referrers by the API, or has none and says nothing of a subject', async () => {
  await start();
  const subject = buildManifest();
  const signature = referrerOf(subject, 'application/example.signature');
  put(registry, 'a/b', 'v1', subject);
  put(registry, 'a/b', undefined, signature);
  const pushed = await pushManifest(signature, signature.descriptor.digest);
  expect(pushed.headers.get('oci-subject')).toBe(subject.descriptor.digest);
  const path = `/v2/a/b/referrers/${subject.descriptor.digest}`;
  const { manifests } = (await (await send('GET', path)).json()) as { manifests: object[] };
  expect(manifests).toMatchObject([
    { digest: signature.descriptor.digest, artifactType: 'application/example.signature' },
  ]);
  const filtered = await send('GET', `${path}?artifactType=other`);
  expect(filtered.headers.get('oci-filters-applied')).toBe('artifactType');
  expect(await filtered.json()).toMatchObject({ manifests: [] });
  registry.behaviour.referrersApi = false;
  expect((await send('GET', path)).status).toBe(404);
  expect((await pushManifest(signature, signature.descriptor.digest)).headers.has('oci-subject')).toBe(false);
});

test('deletes a tag and leaves its manifest, or a manifest with all its tags', async () => {
  await start();
  const content = buildManifest();
  for (const tag of ['a', 'b', 'c']) put(registry, 'a/b', tag, content);
  expect((await send('DELETE', '/v2/a/b/manifests/a')).status).toBe(202);
  expect(registry.repository('a/b').tagNames()).toEqual(['b', 'c']);
  registry.behaviour.tagDelete = false;
  expect(await codeOf(await send('DELETE', '/v2/a/b/manifests/b'))).toBe('UNSUPPORTED');
  expect((await send('DELETE', `/v2/a/b/manifests/${content.descriptor.digest}`)).status).toBe(202);
  expect(registry.repository('a/b').tagNames()).toEqual([]);
});

test('gives tokens for scopes and refuses a token of another scope, an old one, and none', async () => {
  let now = 1_000_000;
  await start({
    auth: { kind: 'token', users: { user: 'secret' }, anonymous: ['pull'], lifetimeSeconds: 60 },
    now: () => now,
  });
  put(registry, 'a/b', 'v1', buildManifest());
  const none = await send('GET', '/v2/a/b/tags/list');
  expect(none.headers.get('www-authenticate')).toBe(
    `Bearer realm="${registry.url}/token",service="stand-in",scope="repository:a/b:pull"`,
  );
  const anonymous = await tokenFor('repository:a/b:pull,push');
  expect(await statusWith(anonymous)).toEqual([200, 401]);
  const user = await tokenFor('repository:a/b:pull,push', 'user:secret');
  expect(await statusWith(user)).toEqual([200, 202]);
  expect(await statusWith(await tokenFor('repository:other:pull', 'user:secret'))).toEqual([401, 401]);
  now += 60_000;
  expect(await statusWith(user)).toEqual([401, 401]);
});

async function tokenFor(scope: string, login?: string): Promise<string> {
  const headers = login === undefined ? {} : { authorization: `Basic ${btoa(login)}` };
  const response = await send('GET', `/token?service=stand-in&scope=${scope}`, { headers });
  return ((await response.json()) as { token: string }).token;
}

/** Of a read and of a write. */
async function statusWith(token: string): Promise<number[]> {
  const init = { headers: { authorization: `Bearer ${token}` } };
  const read = await send('GET', '/v2/a/b/tags/list', init);
  const write = await send('POST', '/v2/a/b/blobs/uploads/', init);
  return [read.status, write.status];
}

test('does what a test intervenes with, and logs what came', async () => {
  await start();
  const content = buildManifest({ layers: [hello] });
  put(registry, 'a/b', 'v1', content);
  const path = `/v2/a/b/blobs/${digestOf(hello)}`;
  registry.intercept = () => ({ kind: 'answer', status: 503, headers: { 'retry-after': '1' } });
  expect((await send('GET', path)).status).toBe(503);
  registry.intercept = () => ({ kind: 'reset' });
  await expect(send('GET', path)).rejects.toThrow();
  registry.intercept = () => ({ kind: 'cut', after: 5 });
  const cut = await send('GET', path);
  await expect(cut.text()).rejects.toThrow();
  registry.intercept = () => ({ kind: 'lose' });
  await expect(send('POST', '/v2/a/b/blobs/uploads/')).rejects.toThrow();
  expect(registry.store.uploads.size).toBe(1);
  expect(registry.requests.map(({ method, status }) => [method, status])).toEqual([
    ['GET', 503],
    ['GET', 0],
    ['GET', 200],
    ['POST', 0],
  ]);
});

test('makes the same content from the same seed, and serves any range of it', async () => {
  await start();
  const child = buildManifest({ seed: 'x', layers: [1 << 20] });
  const content = buildIndex([
    { manifest: child, platform: { os: 'linux', architecture: 'amd64' } },
    attestationOf(child),
  ]);
  const again = buildManifest({ seed: 'x', layers: [1 << 20] });
  expect(again.descriptor).toEqual(child.descriptor);
  put(registry, 'a/b', 'v1', content);
  const blob = child.blobs[1];
  const all = new Uint8Array(
    await (await send('GET', `/v2/a/b/blobs/${blob?.descriptor.digest}`)).arrayBuffer(),
  );
  expect(digestOf(all)).toBe(blob?.descriptor.digest);
  const range = { headers: { range: 'bytes=300001-300020' } };
  const part = await send('GET', `/v2/a/b/blobs/${blob?.descriptor.digest}`, range);
  expect(Buffer.from(await part.arrayBuffer())).toEqual(Buffer.from(all.subarray(300_001, 300_021)));
});
