import { afterEach, expect, test } from 'vitest';
import { buildManifest, buildMultiPlatform, mediaTypes } from '../../local/content.ts';
import { type DockerHubOptions, type LocalDockerHub, startDockerHub } from '../../local/dockerhub.ts';
import { startServer } from '../../local/server.ts';
import { digestOf } from '../../local/store.ts';

let hub: LocalDockerHub;
let now: number;

afterEach(() => hub.close());

async function start(options?: DockerHubOptions): Promise<void> {
  now = Date.UTC(2026, 0, 1);
  hub = await startDockerHub({ now: () => now, ...options });
}

async function login(scope: string, user?: string): Promise<Record<string, string>> {
  const headers = user === undefined ? {} : { authorization: `Basic ${btoa(user)}` };
  const url = `${hub.tokens.url}/token?service=registry.docker.io&scope=${scope}`;
  const { token } = (await (await fetch(url, { headers })).json()) as { token: string };
  return { authorization: `Bearer ${token}`, accept: `${mediaTypes.manifest}, ${mediaTypes.index}` };
}

function manifest(headers: Record<string, string>, method = 'GET'): Promise<Response> {
  return fetch(`${hub.url}/v2/library/nginx/manifests/1`, { method, headers });
}

test('bills a GET of a manifest, not a HEAD, and refuses the GET when the allowance is used up', async () => {
  await start({ anonymousPulls: 2, windowSeconds: 3600 });
  await hub.push('library/nginx', '1', buildManifest());
  const headers = await login('repository:library/nginx:pull');
  const head = await manifest(headers, 'HEAD');
  expect(head.headers.get('ratelimit-limit')).toBe('2;w=3600');
  expect(head.headers.get('ratelimit-remaining')).toBe('2;w=3600');
  expect(head.headers.get('docker-ratelimit-source')).toBe('127.0.0.1');
  const statuses = [];
  for (let count = 0; count < 3; count += 1) statuses.push((await manifest(headers)).status);
  expect([statuses, hub.pulls, hub.pullsLeft()]).toEqual([[200, 200, 429], 2, 0]);
  now += 3_600_000;
  expect((await manifest(await login('repository:library/nginx:pull'))).status).toBe(200);
});

test('counts each account for itself, and tells nothing of an allowance without limit', async () => {
  await start({ anonymousPulls: 1, accounts: { free: { secret: 'x', pulls: 200 }, paid: { secret: 'y' } } });
  await hub.push('library/nginx', '1', buildManifest());
  const free = await manifest(await login('repository:library/nginx:pull', 'free:x'));
  expect(free.headers.get('ratelimit-remaining')).toBe('199;w=21600');
  const paid = await manifest(await login('repository:library/nginx:pull', 'paid:y'));
  expect(paid.headers.has('ratelimit-remaining')).toBe(false);
  expect([hub.pullsLeft(), hub.pullsLeft('free'), hub.pullsLeft('paid')]).toEqual([1, 199, undefined]);
});

test('never lets a client write', async () => {
  await start({ accounts: { owner: { secret: 'x' } } });
  const headers = await login('repository:library/nginx:pull,push', 'owner:x');
  const upload = await fetch(`${hub.url}/v2/library/nginx/blobs/uploads/`, { method: 'POST', headers });
  expect(upload.status).toBe(401);
});

test('sends blobs to another host, which refuses credentials and an old URL', async () => {
  await start({ urlLifetimeSeconds: 60, tokenLifetimeSeconds: 600 });
  const content = buildManifest({ layers: [Buffer.from('hello')] });
  await hub.push('library/nginx', '1', content);
  const headers = await login('repository:library/nginx:pull');
  const blob = `${hub.url}/v2/library/nginx/blobs/${digestOf(Buffer.from('hello'))}`;
  const location = (await fetch(blob, { headers, redirect: 'manual' })).headers.get('location') ?? '';
  expect(new URL(location).host).toBe(new URL(hub.cdn.url).host);
  expect(await (await fetch(location)).text()).toBe('hello');
  expect((await fetch(location, { headers })).status).toBe(400);
  expect((await fetch(location.replace(/.$/, '!'))).status).toBe(403);
  now += 60_000;
  expect((await fetch(location)).status).toBe(403);
});

test('lists tags by number of page, newest first, with digests that can be withheld', async () => {
  await start();
  const content = buildMultiPlatform('x', [{ os: 'linux', architecture: 'arm64' }]);
  for (const [index, tag] of ['a', 'b', 'c'].entries()) {
    await hub.push('library/nginx', tag, content, { pushedAt: now + index });
  }
  const url = `${hub.apiUrl}/v2/namespaces/library/repositories/nginx/tags?page_size=2`;
  const first = await get(url);
  expect(first).toMatchObject({ count: 3, previous: null });
  expect(first.results).toMatchObject([
    { name: 'c', digest: content.descriptor.digest, tag_last_pushed: '2026-01-01T00:00:00.002000Z' },
    { name: 'b', images: [{ architecture: 'arm64', digest: content.children[0]?.descriptor.digest }] },
  ]);
  expect((await get(first.next ?? '')).results).toMatchObject([{ name: 'a' }]);
  hub.tellsDigests = false;
  expect((await get(url)).results).toMatchObject([{ digest: null }, { digest: null }]);
});

interface Page {
  readonly next: string | null;
  readonly results: readonly object[];
}

async function get(url: string, headers: Record<string, string> = {}): Promise<Page> {
  return (await (await fetch(url, { headers })).json()) as Page;
}

test('shows private repositories to an account that logged in to the web API', async () => {
  await start({ accounts: { owner: { secret: 'x' } }, privateRepositories: ['org/secret'] });
  await hub.push('org/open', '1', buildManifest());
  await hub.push('org/secret', '1', buildManifest());
  const url = `${hub.apiUrl}/v2/namespaces/org/repositories`;
  expect((await get(url)).results).toMatchObject([{ name: 'open' }]);
  const answer = await fetch(`${hub.apiUrl}/v2/auth/token`, {
    method: 'POST',
    body: JSON.stringify({ identifier: 'owner', secret: 'x' }),
  });
  const { access_token } = (await answer.json()) as { access_token: string };
  const headers = { authorization: `Bearer ${access_token}` };
  expect((await get(url, headers)).results).toMatchObject([{ name: 'open' }, { name: 'secret' }]);
  expect((await fetch(url, { headers: { authorization: 'Bearer wrong' } })).status).toBe(401);
});

test('posts a web hook for a push, without a digest', async () => {
  await start();
  const bodies: unknown[] = [];
  const receiver = await startServer(async (exchange) => {
    bodies.push(JSON.parse(String(await exchange.bytes())));
    return { status: 202, headers: {}, body: new Uint8Array() };
  });
  expect(await hub.push('library/nginx', '1', buildManifest(), { webhook: receiver.url })).toBe(202);
  await receiver.close();
  expect(bodies).toMatchObject([
    { push_data: { tag: '1', pushed_at: now / 1000 }, repository: { repo_name: 'library/nginx' } },
  ]);
});
