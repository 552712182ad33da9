import { ManagedIdentityCredential } from '@azure/identity';
import { afterAll, expect, test, vi } from 'vitest';
import { type Acr, type AcrOptions, createAcr } from '../../lib/acr.ts';
import type { RegistrySettings } from '../../lib/config/model.ts';
import { codeOf } from '../../lib/errors.ts';
import type { Digest, Manifest } from '../../lib/oci/descriptor.ts';
import type { Observer, TagEntry, TagLister, TagPage, Target } from '../../lib/oci/roles.ts';
import { type LocalAcr, type AcrOptions as LocalOptions, startAcr } from '../local/acr.ts';
import { buildBlob, buildManifest, type Content, put, randomBlob, referrerOf } from '../local/content.ts';
import { type LocalIdentity, startIdentity } from '../local/identity.ts';
import { reply, replyJson } from '../local/server.ts';
import { makeCertificate } from '../local/tls.ts';
import { afterTest, countingObserver, fakeClock, serve, settingsFor } from './registry/support.ts';

const certificate = makeCertificate();
afterAll(() => certificate.remove());

interface Sides {
  readonly local: LocalAcr;
  readonly acr: Acr;
  readonly identity: LocalIdentity;
  /** Entra tokens that were asked for. */
  readonly asked: string[];
}

interface StartOptions {
  readonly local?: LocalOptions;
  readonly settings?: Partial<RegistrySettings>;
  readonly options?: Partial<AcrOptions>;
}

async function start({ local: localOptions, settings, options }: StartOptions = {}): Promise<Sides> {
  const local = await startAcr({ certificate, ...localOptions });
  afterTest(() => local.close());
  const identity = await startIdentity(localOptions?.now && { now: localOptions.now });
  afterTest(() => identity.close());
  const asked: string[] = [];
  const acr = createAcr({
    settings: settingsFor(local.url, {
      kind: 'acr',
      identity: true,
      audience: 'https://containerregistry.azure.net',
      ca: certificate.caFile,
      ...settings,
    }),
    identity: {
      async getToken(scope) {
        asked.push(String(scope));
        const token = identity.issue(String(scope).replace(/\/\.default$/, ''));
        return { token, expiresOnTimestamp: Date.now() + 3_600_000 };
      },
    },
    clock: fakeClock(Date.now()),
    ...options,
  });
  afterTest(() => acr.close());
  return { local, acr, identity, asked };
}

/** An identity at a server of the test's own. */
function identityAt({ url }: { readonly url: string }): Acr {
  const acr = createAcr({
    settings: settingsFor(url, { kind: 'acr', identity: true }),
    identity: { getToken: async () => ({ token: 'an-entra-token', expiresOnTimestamp: 0 }) },
    clock: fakeClock(),
  });
  afterTest(() => acr.close());
  return acr;
}

function paths(local: LocalAcr): string[] {
  return local.requests.map(({ method, url, status }) => `${method} ${url.split('?')[0]} ${status}`);
}

async function all(lister: TagLister): Promise<TagEntry[]> {
  const tags: TagEntry[] = [];
  let page: TagPage | undefined;
  do {
    page = await lister.listTags({ cursor: page?.next });
    tags.push(...(page?.tags ?? []));
  } while (page?.next !== undefined);
  return tags;
}

function manifestOf({ descriptor, bytes }: Content): Manifest {
  return { descriptor, bytes };
}

async function bytesOf(stream: AsyncIterable<Uint8Array> | undefined): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream ?? []) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}

/** Pushes a manifest with its blobs in chunks of the largest size. */
async function push(target: Target, content: Content, tag: string): Promise<void> {
  for (const blob of content.blobs) {
    const bytes = await bytesOf(blob.open(0, blob.size));
    const session = await target.startUpload();
    const size = target.maxChunk ?? bytes.byteLength;
    let at = 0;
    for (; at + size < bytes.byteLength; at += size) await session.append([bytes.subarray(at, at + size)]);
    await session.commit(blob.descriptor.digest, [bytes.subarray(at)]);
  }
  await target.pushManifest(manifestOf(content), tag);
}

test('lists a thousand tags a request with digests and locks: four requests for the first page', async () => {
  const { local, acr } = await start();
  const content = buildManifest();
  for (let index = 0; index < 1500; index += 1)
    put(local, 'a/b', `v${String(index).padStart(4, '0')}`, content);
  local.setTagAttributes('a/b', 'v0001', { writeEnabled: false });
  const observer = countingObserver();
  const tags = await all(acr.repository('a/b', { observer }));
  expect(tags).toHaveLength(1500);
  const { digest } = content.descriptor;
  expect(tags.slice(0, 2)).toEqual([
    { name: 'v0000', digest, locked: false },
    { name: 'v0001', digest, locked: true },
  ]);
  expect(paths(local)).toEqual([
    'GET /acr/v1/a%2Fb/_tags 401',
    'POST /oauth2/exchange 200',
    'POST /oauth2/token 200',
    'GET /acr/v1/a%2Fb/_tags 200',
    'GET /acr/v1/a%2Fb/_tags 200',
  ]);
  expect(observer.requests).toBe(5);
});

test('goes on with a cursor in another process, and knows nothing of an unknown repository', async () => {
  const { local, acr } = await start({ local: { pageSize: 2 } });
  for (const tag of ['a', 'b', 'c']) put(local, 'a/b', tag, buildManifest());
  const first = await acr.repository('a/b').listTags();
  expect(first?.tags.map(({ name }) => name)).toEqual(['a', 'b']);
  const again = createAcr({ settings: acr.settings, identity: { getToken: async () => null } });
  afterTest(() => again.close());
  await expect(again.repository('a/b').listTags({ cursor: first?.next })).rejects.toMatchObject({
    code: 'ERR_IDENTITY',
  });
  const second = await acr.repository('a/b').listTags({ cursor: first?.next });
  expect([second?.tags.map(({ name }) => name), second?.next]).toEqual([['c'], undefined]);
  expect(await acr.repository('a/unknown').listTags()).toBeUndefined();
});

test('lists by user name and password over the same pages', async () => {
  const { local, acr, asked } = await start({
    local: { admin: { username: 'admin', password: 'canary-secret' } },
    settings: { identity: false, username: 'admin', password: 'canary-secret' },
  });
  put(local, 'a/b', 'v1', buildManifest());
  expect(await all(acr.repository('a/b'))).toHaveLength(1);
  expect(asked).toEqual([]);
  expect(paths(local)).not.toContain('POST /oauth2/exchange 200');
});

test('asks for the data plane audience alone, once, and tells ACR who calls', async () => {
  const { local, acr, asked } = await start();
  put(local, 'a/b', 'v1', buildManifest());
  put(local, 'c', 'v1', buildManifest());
  await Promise.all([
    all(acr.repository('a/b')),
    all(acr.repository('c')),
    acr.repository('c').resolve('v1'),
  ]);
  expect(asked).toEqual(['https://containerregistry.azure.net/.default']);
  const named = local.requests.filter(({ url }) => url.startsWith('/acr/') || url.startsWith('/v2/'));
  expect(new Set(named.map(({ headers }) => headers['x-meta-source-client']))).toEqual(
    new Set(['azure/functions/hubferry']),
  );
});

test('pushes blobs in chunks below the limit of ACR, and reads them back', async () => {
  const { local, acr } = await start({ settings: { chunkSize: 100 << 20 } });
  const target = acr.repository('a/b');
  expect(target.maxChunk).toBe(16 << 20);
  const content = buildManifest({ layers: [randomBlob('large', (33 << 20) + 5)] });
  await push(target, content, 'v1');
  expect(local.repository('a/b').digestOf('v1')).toBe(content.descriptor.digest);
  const chunks = local.requests.filter(({ method }) => method === 'PATCH').map(({ received }) => received);
  expect(chunks).toEqual([16 << 20, 16 << 20]);
  const layer = content.blobs[1]?.descriptor;
  if (layer === undefined) throw new Error('no layer');
  const end = await bytesOf(await target.openBlob(layer, 33 << 20));
  expect(end.byteLength).toBe(5);
  expect(local.data.requests.map(({ headers }) => headers.authorization)).toEqual([undefined]);
});

test('has a default chunk of 8 MiB', async () => {
  const { acr } = await start();
  expect(acr.repository('a/b').maxChunk).toBe(8 << 20);
});

test('goes on when access tokens end in the middle of the work', async () => {
  const { local, acr } = await start();
  const target = acr.repository('a/b');
  const bytes = Buffer.from('hello world');
  const session = await target.startUpload();
  local.revokeAccessTokens();
  await session.append([bytes.subarray(0, 5)]);
  local.revokeAccessTokens();
  const { digest } = buildBlob(bytes).descriptor;
  await session.commit(digest, [bytes.subarray(5)]);
  expect(await target.statBlob(digest)).toEqual({ size: 11 });
  expect(paths(local).filter((path) => path.includes('exchange'))).toHaveLength(1);
});

test('reads a chunk again that a token refused and whose memory is given away: no right is missing', async () => {
  const { local, acr } = await start();
  const session = await acr.repository('a/b').startUpload();
  local.revokeAccessTokens();
  const owner = { left: () => undefined, rewind: () => false };
  await expect(session.append([Buffer.from('hello')], { owner })).rejects.toMatchObject({
    code: 'ERR_UPLOAD_LOST',
    retryable: true,
  });
  expect(await session.refresh()).toBe(true);
});

test('begins at the identity again when the registry refuses its refresh token', async () => {
  const { local, acr, asked } = await start();
  put(local, 'a/b', 'v1', buildManifest());
  await acr.repository('a/b').resolve('v1');
  local.revokeRefreshTokens();
  local.revokeAccessTokens();
  expect(await acr.repository('a/b').resolve('v1')).toBeDefined();
  expect(asked).toHaveLength(2);
  expect(paths(local).filter((path) => path.includes('oauth2'))).toEqual([
    'POST /oauth2/exchange 200',
    'POST /oauth2/token 200',
    'POST /oauth2/token 401',
    'POST /oauth2/exchange 200',
    'POST /oauth2/token 200',
  ]);
});

test.each([
  ['is longer than any header', 'x'.repeat(20_000), /gave a token of 20000 characters/],
  ['no header could hold', 'line\nbreak', /gave no token/],
])('takes no refresh token that %s', async (_, token, message) => {
  const server = await serve(({ path, origin }) =>
    path === '/oauth2/exchange'
      ? replyJson(200, { refresh_token: token })
      : reply(401, { 'www-authenticate': `Bearer realm="${origin}/oauth2/token",service="x"` }),
  );
  await expect(identityAt(server).repository('a/b').resolve('v1')).rejects.toMatchObject({
    code: 'ERR_PROTOCOL',
    message: expect.stringMatching(message),
  });
});

test('takes no word out of messages that a registry gives as a refresh token', async () => {
  const server = await serve(({ path, origin }) => {
    if (path === '/oauth2/exchange') return replyJson(200, { refresh_token: 'registry' });
    if (path === '/oauth2/token') return replyJson(403, { message: 'the registry says no' });
    return reply(401, { 'www-authenticate': `Bearer realm="${origin}/oauth2/token",service="x"` });
  });
  await expect(identityAt(server).repository('a/b').resolve('v1')).rejects.toThrow('the registry says no');
});

test('replaces both tokens before they end', async () => {
  const clock = fakeClock(Date.now());
  const { local, acr, asked } = await start({ local: { now: clock.now }, options: { clock } });
  put(local, 'a/b', 'v1', buildManifest());
  await acr.repository('a/b').resolve('v1');
  for (let minutes = 0; minutes < 240; minutes += 20) {
    clock.advance(20 * 60_000);
    await acr.repository('a/b').resolve('v1');
  }
  expect(local.requests.filter(({ status }) => status === 401)).toHaveLength(1);
  expect(asked).toHaveLength(2);
});

test('a login that fails is told as such, without the token in it', async () => {
  const canary = 'canary-secret-token';
  const { local, acr } = await start({
    options: { identity: { getToken: async () => ({ token: canary, expiresOnTimestamp: 0 }) } },
  });
  const refused = await acr
    .repository('a/b')
    .resolve('v1')
    .catch((thrown: unknown) => thrown);
  expect(codeOf(refused)).toBe('ERR_UNAUTHORIZED');
  const listing = await acr
    .repository('a/b')
    .listTags()
    .catch((thrown: unknown) => thrown);
  expect(codeOf(listing)).toBe('ERR_UNAUTHORIZED');
  expect(`${refused} ${JSON.stringify(refused)} ${listing}`).not.toContain(canary);
  expect(local.requests.length).toBeLessThan(10);
});

test('an identity that cannot be reached is told as such', async () => {
  const { acr } = await start({
    options: {
      identity: {
        getToken: async () => {
          throw new Error('no managed identity here: access_token=canary-secret');
        },
      },
    },
  });
  const error = await acr
    .repository('a/b')
    .resolve('v1')
    .catch((thrown: unknown) => thrown);
  expect(codeOf(error)).toBe('ERR_IDENTITY');
  expect(String(error)).not.toContain('canary');
});

test('a login that may not list is told apart, and may still ask for single tags', async () => {
  const { local, acr } = await start({ local: { granted: ['pull', 'push'] } });
  put(local, 'a/b', 'v1', buildManifest());
  const target = acr.repository('a/b');
  await expect(target.listTags()).rejects.toMatchObject({ code: 'ERR_FORBIDDEN' });
  expect((await target.resolve('v1'))?.digest).toBe(buildManifest().descriptor.digest);
});

test('a user that may not list is told apart as well', async () => {
  const { local, acr } = await start({
    local: { admin: { username: 'user', password: 'canary-secret' } },
    settings: { identity: false, username: 'user', password: 'canary-secret' },
  });
  put(local, 'a/b', 'v1', buildManifest());
  local.intercept = ({ url }) =>
    url.includes('metadata_read') ? { kind: 'answer', status: 401, body: '{}' } : undefined;
  await expect(acr.repository('a/b').listTags()).rejects.toMatchObject({ code: 'ERR_FORBIDDEN' });
  expect(await acr.repository('a/b').resolve('v1')).toBeDefined();
});

test('a repository outside of the prefixes that the identity may write is forbidden, not a failed login', async () => {
  const { acr } = await start({ local: { prefixes: ['mirror/'] } });
  await expect(acr.repository('other/a').startUpload()).rejects.toMatchObject({ code: 'ERR_FORBIDDEN' });
  await expect(acr.repository('other/a').listTags()).rejects.toMatchObject({ code: 'ERR_FORBIDDEN' });
  const session = await acr.repository('mirror/a').startUpload();
  expect(session.offset).toBe(0);
});

test('mounts from a sibling, and uploads where the identity may not read it', async () => {
  const { local, acr } = await start({ local: { prefixes: ['mirror/'] } });
  const content = buildManifest({ layers: [Buffer.from('hello')] });
  for (const name of ['mirror/a', 'other/a']) put(local, name, 'v1', content);
  const digest = content.blobs[1]?.descriptor.digest as Digest;
  const target = acr.repository('mirror/b');
  expect(await target.mountBlob(digest, 'mirror/a')).toBe(true);
  expect(await target.mountBlob(digest, 'other/a')).not.toBe(true);
});

test('deletes a tag and nothing else, and leaves a locked one', async () => {
  const { local, acr } = await start();
  const content = buildManifest();
  for (const tag of ['a', 'b', 'locked']) put(local, 'a/b', tag, content);
  local.setTagAttributes('a/b', 'locked', { deleteEnabled: false });
  const target = acr.repository('a/b');
  await target.deleteTag('a');
  await target.deleteTag('a');
  await expect(target.deleteTag('locked')).rejects.toMatchObject({ code: 'ERR_LOCKED' });
  await expect(target.deleteTag(content.descriptor.digest)).rejects.toMatchObject({ code: 'ERR_REFERENCE' });
  expect(local.repository('a/b').tagNames()).toEqual(['b', 'locked']);
  local.granted = ['pull', 'push', 'metadata_read'];
  local.revokeAccessTokens();
  await expect(target.deleteTag('b')).rejects.toMatchObject({ code: 'ERR_FORBIDDEN' });
});

test('a locked tag that would move is told as locked', async () => {
  const { local, acr } = await start();
  const content = buildManifest();
  put(local, 'a/b', 'v1', content);
  local.setTagAttributes('a/b', 'v1', { writeEnabled: false });
  await expect(acr.repository('a/b').pushManifest(manifestOf(content), 'v1')).rejects.toMatchObject({
    code: 'ERR_LOCKED',
  });
});

test('an upload whose session is gone is lost, and so is one with an older Location', async () => {
  const { local, acr } = await start();
  const target = acr.repository('a/b');
  const session = await target.startUpload();
  const older = session.location;
  await session.append([Buffer.from('hello')]);
  expect(await target.resumeUpload(older, 0).refresh()).toBe(false);
  const resumed = target.resumeUpload(session.location, 0);
  expect([await resumed.refresh(), resumed.offset]).toEqual([true, 5]);
  local.loseUploads();
  await expect(session.append([Buffer.from('x')])).rejects.toMatchObject({ code: 'ERR_UPLOAD_LOST' });
});

test('lists referrers by the API, or by the tag where a registry with its own keys has none', async () => {
  const { local, acr } = await start();
  const subject = buildManifest();
  const signature = referrerOf(subject, 'application/example.signature');
  put(local, 'a/b', 'v1', subject);
  put(local, 'a/b', undefined, signature);
  const target = acr.repository('a/b');
  const found = await target.listReferrers(subject.descriptor.digest);
  expect([found.api, found.descriptors.map(({ digest }) => digest)]).toEqual([
    true,
    [signature.descriptor.digest],
  ]);
  const other = await start({ local: { referrersApi: false } });
  put(other.local, 'a/b', 'v1', subject);
  expect(await other.acr.repository('a/b').listReferrers(subject.descriptor.digest)).toEqual({
    api: false,
    descriptors: [],
  });
});

test('waits as long as ACR asks when it throttles, for a listing as for anything else', async () => {
  const clock = fakeClock(Date.now());
  const { local, acr } = await start({ options: { clock } });
  put(local, 'a/b', 'v1', buildManifest());
  let throttled = 1;
  local.intercept = ({ url }) =>
    url.startsWith('/acr/') && throttled-- > 0
      ? { kind: 'answer', status: 429, headers: { 'retry-after': '7' } }
      : undefined;
  expect(await all(acr.repository('a/b'))).toHaveLength(1);
  expect(clock.slept).toEqual([7000]);
  local.throttled = { retryAfter: '3600' };
  await expect(acr.repository('a/b').listTags()).rejects.toMatchObject({
    code: 'ERR_RATE_LIMITED',
    retryAt: expect.any(Number),
  });
});

test('a listing that leads elsewhere or in circles is incomplete', async () => {
  const { local, acr } = await start({ local: { pageSize: 1 } });
  for (const tag of ['a', 'b']) put(local, 'a/b', tag, buildManifest());
  const target = acr.repository('a/b');
  const list = (link: string) => {
    local.intercept = ({ url, headers }) =>
      url.startsWith('/acr/') && headers.authorization !== undefined
        ? { kind: 'answer', status: 200, headers: { link }, body: '{"tags":[{"name":"a"}]}' }
        : undefined;
    return all(target);
  };
  await expect(list('<https://elsewhere.example/acr/v1/x>; rel="next"')).rejects.toMatchObject({
    code: 'ERR_LISTING_INCOMPLETE',
  });
  await expect(list('</acr/v1/a%2Fb/_tags?last=a>; rel="next"')).rejects.toMatchObject({
    code: 'ERR_LISTING_INCOMPLETE',
  });
});

test.each([
  ['no JSON', 'hello', 'ERR_PROTOCOL'],
  ['a number', '5', 'ERR_PROTOCOL'],
  ['tags of another type', '{"tags":5}', 'ERR_PROTOCOL'],
  ['names that are none', '{"tags":[{"name":"../x"},{"name":5},{}]}', undefined],
  ['nothing', '{}', 'ERR_PROTOCOL'],
  ['a repository without tags', '{"imageName":"a/b","tags":null}', undefined],
])('takes %s for what it is', async (_, body, code) => {
  const { local, acr } = await start();
  local.intercept = ({ url, headers }) =>
    url.startsWith('/acr/') && headers.authorization !== undefined
      ? { kind: 'answer', status: 200, body }
      : undefined;
  const result = await acr
    .repository('a/b')
    .listTags()
    .catch((thrown: unknown) => codeOf(thrown));
  expect(result).toEqual(code ?? { tags: [] });
});

test('stops with the reason of its signal', async () => {
  const { local, acr } = await start();
  put(local, 'a/b', 'v1', buildManifest());
  const controller = new AbortController();
  const reason = new Error('enough');
  local.intercept = ({ url }) => {
    if (url.startsWith('/acr/')) controller.abort(reason);
    return undefined;
  };
  await expect(acr.repository('a/b').listTags({ signal: controller.signal })).rejects.toBe(reason);
});

test('a managed identity of App Service logs in, and is asked once', async () => {
  const { local, acr, identity } = await start({
    options: { identity: new ManagedIdentityCredential({ clientId: 'client' }) },
  });
  for (const [name, value] of Object.entries(identity.env)) vi.stubEnv(name, value);
  afterTest(() => vi.unstubAllEnvs());
  put(local, 'a/b', 'v1', buildManifest());
  expect(await all(acr.repository('a/b'))).toHaveLength(1);
  local.revokeRefreshTokens();
  local.revokeAccessTokens();
  expect(await all(acr.repository('a/b'))).toHaveLength(1);
  const asked = identity.requests.map(({ url }) => new URL(url, identity.url).searchParams);
  expect(asked.map((query) => [query.get('resource'), query.get('client_id')])).toEqual([
    ['https://containerregistry.azure.net', 'client'],
  ]);
});

test('without an identity there is no registry that needs one', () => {
  const settings = settingsFor('https://x.azurecr.io', { kind: 'acr', identity: true });
  expect(() => createAcr({ settings })).toThrow(expect.objectContaining({ code: 'ERR_IDENTITY' }));
});

test('keeps the scheme of its endpoint and the path in front', async () => {
  const observer: Observer = {};
  const settings = settingsFor('http://127.0.0.1:9/prefix', { kind: 'acr', username: 'u', password: 'p' });
  const acr = createAcr({ settings, retries: 0 });
  afterTest(() => acr.close());
  await expect(acr.repository('a/b', { observer }).listTags()).rejects.toMatchObject({
    code: 'ERR_CONNECTION',
    url: 'http://127.0.0.1:9/prefix/acr/v1/a%2Fb/_tags',
  });
});
