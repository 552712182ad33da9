import { Agent, type Dispatcher, request } from 'undici';
import { afterAll, afterEach, expect, test } from 'vitest';
import { type AcrOptions, type LocalAcr, startAcr } from '../../local/acr.ts';
import { buildManifest, put } from '../../local/content.ts';
import { type LocalIdentity, startIdentity } from '../../local/identity.ts';
import { digestOf } from '../../local/store.ts';
import { makeCertificate } from '../../local/tls.ts';

const certificate = makeCertificate();
const dispatcher = new Agent({ connect: { ca: certificate.cert } });
const audience = 'https://containerregistry.azure.net';

let acr: LocalAcr;
let identity: LocalIdentity;
let now: number;

async function start(options?: AcrOptions): Promise<void> {
  now = Date.UTC(2026, 0, 1);
  acr = await startAcr({ certificate, now: () => now, ...options });
  identity = await startIdentity({ now: () => now });
}

afterEach(async () => {
  await acr.close();
  await identity.close();
});

afterAll(() => certificate.remove());

type Options = Omit<Dispatcher.RequestOptions, 'origin' | 'path' | 'method'>;

async function send(method: string, path: string, options: Options = {}) {
  const url = new URL(path, acr.url);
  const { statusCode, headers, body } = await request(url, { ...options, method, dispatcher });
  const text = await body.text();
  return { status: statusCode, headers, json: text.startsWith('{') ? JSON.parse(text) : undefined };
}

function form(values: Record<string, string>): Options {
  return {
    body: new URLSearchParams(values).toString(),
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
  };
}

const exchange = (access_token: string) =>
  send('POST', '/oauth2/exchange', form({ grant_type: 'access_token', service: acr.host, access_token }));

const redeem = (refresh_token: string, scope: string) =>
  send(
    'POST',
    '/oauth2/token',
    form({ grant_type: 'refresh_token', service: acr.host, scope, refresh_token }),
  );

async function login(scope: string): Promise<{ authorization: string }> {
  const { json } = await exchange(identity.issue(audience));
  const token = await redeem(json.refresh_token, scope);
  return { authorization: `Bearer ${token.json.access_token}` };
}

test('exchanges an Entra token of its audience, as long as it is in force', async () => {
  await start();
  expect((await exchange(identity.issue(audience))).status).toBe(200);
  expect((await exchange(identity.issue('https://management.azure.com'))).status).toBe(401);
  expect((await exchange(`${identity.issue(audience)}x`)).status).toBe(401);
  const old = identity.issue(audience);
  now += 86_400_000;
  expect((await exchange(old)).status).toBe(401);
});

test('gives access tokens for scopes until the refresh token ends or is revoked', async () => {
  await start();
  const { json } = await exchange(identity.issue(audience));
  const { refresh_token } = json;
  expect((await redeem(refresh_token, 'repository:a/b:pull')).status).toBe(200);
  expect((await redeem('nonsense', 'repository:a/b:pull')).status).toBe(401);
  now += 3 * 3_600_000;
  expect((await redeem(refresh_token, 'repository:a/b:pull')).status).toBe(401);
  const fresh = (await exchange(identity.issue(audience))).json.refresh_token;
  acr.revokeRefreshTokens();
  expect((await redeem(fresh, 'repository:a/b:pull')).status).toBe(401);
});

test('wants metadata_read for a listing, and says so', async () => {
  await start();
  put(acr, 'a/b', 'v1', buildManifest());
  const refused = await send('GET', '/acr/v1/a%2Fb/_tags', {
    headers: await login('repository:a/b:pull,push'),
  });
  expect([refused.status, refused.headers['www-authenticate']]).toEqual([
    401,
    `Bearer realm="${acr.url}/oauth2/token",service="${acr.host}",scope="repository:a/b:metadata_read",error="insufficient_scope"`,
  ]);
  const headers = await login('repository:a/b:metadata_read');
  const listed = await send('GET', '/acr/v1/a%2Fb/_tags', { headers });
  expect(listed.json).toMatchObject({
    imageName: 'a/b',
    tags: [
      { name: 'v1', digest: buildManifest().descriptor.digest, changeableAttributes: { writeEnabled: true } },
    ],
  });
});

test('in ABAC mode lets the identity into its prefixes alone', async () => {
  await start({ prefixes: ['mirror/'] });
  const { json } = await exchange(identity.issue(audience));
  expect((await redeem(json.refresh_token, 'repository:mirror/a:pull,push')).status).toBe(200);
  expect((await redeem(json.refresh_token, 'repository:other/a:pull,push')).status).toBe(401);
  expect((await redeem(json.refresh_token, 'registry:catalog:*')).status).toBe(401);
});

test('refuses a chunked body with 400 and a body above its limit with 413', async () => {
  await start({ bodyLimit: 10 });
  const headers = await login('repository:a/b:pull,push');
  const { headers: session } = await send('POST', '/v2/a/b/blobs/uploads/', { headers });
  const location = String(session.location);
  expect(location).toMatch(/^\/v2\/a\/b\/blobs\/uploads\/.+_state=/);
  async function* body() {
    yield Buffer.from('hello');
  }
  const chunked = await send('PATCH', location, { headers, body: body() as never });
  expect([chunked.status, chunked.json.errors[0].code]).toEqual([400, 'CONTENT_LENGTH_INVALID']);
  expect((await send('PATCH', location, { headers, body: 'hello world' })).status).toBe(413);
  expect((await send('PATCH', location, { headers, body: 'hello' })).status).toBe(202);
});

test('keeps a locked tag from being moved or deleted', async () => {
  await start();
  const content = buildManifest();
  put(acr, 'a/b', 'v1', content);
  acr.setTagAttributes('a/b', 'v1', { writeEnabled: false, deleteEnabled: false });
  const headers = await login('repository:a/b:pull,push,delete');
  const moved = await send('PUT', '/v2/a/b/manifests/v1', {
    headers: { ...headers, 'content-type': content.descriptor.mediaType },
    body: Buffer.from(content.bytes),
  });
  expect([moved.status, moved.json.errors[0].code]).toEqual([405, 'REGISTRY_DISALLOWED_OPERATION']);
  expect((await send('DELETE', '/acr/v1/a%2Fb/_tags/v1', { headers })).status).toBe(405);
  acr.setTagAttributes('a/b', 'v1', { writeEnabled: true, deleteEnabled: true });
  expect((await send('DELETE', '/acr/v1/a%2Fb/_tags/v1', { headers })).status).toBe(202);
  expect(acr.repository('a/b').manifests.has(content.descriptor.digest)).toBe(true);
});

test('logs its admin user in by Basic, and everybody waits while it is throttled', async () => {
  await start({ admin: { username: 'admin', password: 'secret' } });
  const path = `/oauth2/token?service=${acr.host}&scope=repository:a/b:pull`;
  const basic = (login: string) => ({ headers: { authorization: `Basic ${btoa(login)}` } });
  expect((await send('GET', path, basic('admin:secret'))).status).toBe(200);
  expect((await send('GET', path, basic('admin:wrong'))).status).toBe(401);
  acr.throttled = { retryAfter: '7' };
  const throttled = await send('GET', path, basic('admin:secret'));
  expect([throttled.status, throttled.headers['retry-after']]).toEqual([429, '7']);
});

test('serves blobs from another host', async () => {
  await start();
  put(acr, 'a/b', 'v1', buildManifest({ layers: [Buffer.from('hello')] }));
  const headers = await login('repository:a/b:pull');
  const blob = await send('GET', `/v2/a/b/blobs/${digestOf(Buffer.from('hello'))}`, { headers });
  expect([blob.status, new URL(String(blob.headers.location)).host]).toEqual([
    307,
    new URL(acr.data.url).host,
  ]);
});

test('the identity endpoint answers only who knows its header, for a resource', async () => {
  await start();
  const ask = (query: string, header: string) =>
    fetch(`${identity.env.IDENTITY_ENDPOINT}?${query}`, { headers: { 'x-identity-header': header } });
  const query = `resource=${audience}&api-version=2019-08-01`;
  expect((await ask(query, 'wrong')).status).toBe(401);
  expect((await ask('resource=x', identity.env.IDENTITY_HEADER)).status).toBe(400);
  const answer = (await (await ask(query, identity.env.IDENTITY_HEADER)).json()) as Record<string, string>;
  expect(answer).toMatchObject({
    resource: audience,
    token_type: 'Bearer',
    expires_on: String(now / 1000 + 86_400),
  });
  expect((await exchange(answer.access_token ?? '')).status).toBe(200);
});
