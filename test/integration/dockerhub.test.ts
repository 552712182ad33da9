import { describe, expect, test } from 'vitest';
import { parsePushEvent } from '../../lib/dockerhub/push-event.ts';
import { createDockerHub, type DockerHub, type DockerHubOptions } from '../../lib/dockerhub.ts';
import { codeOf, HubferryError, PullLimitError } from '../../lib/errors.ts';
import type { Allowance, TagEntry, TagLister, TagPage } from '../../lib/oci/roles.ts';
import { buildManifest, buildMultiPlatform, cosignSignature, cosignTag } from '../local/content.ts';
import {
  type LocalDockerHub,
  type DockerHubOptions as LocalOptions,
  startDockerHub,
  webhookBody,
} from '../local/dockerhub.ts';
import { afterTest, countingObserver, fakeClock, settingsFor } from './registry/support.ts';

const platforms = [
  { os: 'linux', architecture: 'amd64' },
  { os: 'linux', architecture: 'arm64', variant: 'v8' },
];

interface Sides {
  readonly local: LocalDockerHub;
  readonly hub: DockerHub;
}

interface Login {
  readonly username: string;
  readonly password: string;
}

async function start(
  local: LocalOptions = {},
  { login, ...options }: Partial<DockerHubOptions> & { readonly login?: Login } = {},
): Promise<Sides> {
  const server = await startDockerHub(local);
  afterTest(() => server.close());
  return { local: server, hub: clientOf(server, { ...options, ...(login && { login }) }) };
}

function clientOf(
  server: LocalDockerHub,
  { login, ...options }: Partial<DockerHubOptions> & { readonly login?: Login } = {},
): DockerHub {
  const settings = settingsFor(server.url, {
    kind: 'dockerhub',
    host: 'docker.io',
    hubApi: server.apiUrl,
    ...login,
  });
  const hub = createDockerHub({ settings, clock: fakeClock(), ...options });
  afterTest(() => hub.close());
  return hub;
}

async function pushTags(local: LocalDockerHub, count: number): Promise<void> {
  for (let index = 0; index < count; index += 1) {
    const content = buildManifest({ layers: [100], seed: `tag ${index}` });
    await local.push('library/nginx', `v${String(index).padStart(5, '0')}`, content, {
      pushedAt: 1_700_000_000_000 + index,
    });
  }
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

test('lists tags with digests, push times and platforms, one request a hundred tags and no pull', async () => {
  const { local, hub } = await start();
  await pushTags(local, 250);
  const content = buildMultiPlatform('x', platforms);
  await local.push('library/nginx', 'latest', content, { pushedAt: 1_700_000_000_999 });
  const observer = countingObserver();
  const tags = await all(hub.repository('library/nginx', { observer }));
  expect(tags).toHaveLength(251);
  expect(tags[0]).toEqual({
    name: 'latest',
    digest: content.descriptor.digest,
    pushedAt: 1_700_000_000_999,
    platforms,
  });
  expect([observer.requests, observer.pulls, local.pulls]).toEqual([3, 0, 0]);
});

test('goes on with a cursor in another process', async () => {
  const { local, hub } = await start();
  await pushTags(local, 150);
  const first = await hub.repository('library/nginx').listTags();
  const second = await clientOf(local).repository('library/nginx').listTags({ cursor: first?.next });
  expect(second?.tags.map(({ name }) => name)).toEqual(
    Array.from({ length: 50 }, (_, index) => `v${String(index + 100).padStart(5, '0')}`),
  );
  expect(second?.next).toBeUndefined();
});

test('tells no digest where the web API does not, and HEAD confirms for nothing', async () => {
  const { local, hub } = await start();
  await pushTags(local, 1);
  local.tellsDigests = false;
  const repository = hub.repository('library/nginx');
  const [tag] = await all(repository);
  expect([tag?.name, tag?.digest]).toEqual(['v00000', undefined]);
  const found = await repository.resolve('v00000');
  expect([found?.digest, local.pulls]).toEqual([local.repository('library/nginx').digestOf('v00000'), 0]);
});

test('describes one tag as the listing would', async () => {
  const { local, hub } = await start();
  await pushTags(local, 2);
  const repository = hub.repository('library/nginx');
  const [, second] = await all(repository);
  expect(await repository.describeTag?.('v00001')).toEqual(second);
  expect(await repository.describeTag?.('v9')).toBeUndefined();
});

test('knows nothing of an unknown repository', async () => {
  const { hub } = await start();
  expect(await hub.repository('library/unknown').listTags()).toBeUndefined();
});

test('says of a repository that is not there, or is private, that it may not be read', async () => {
  const { local, hub } = await start({ privateRepositories: ['myorg/secret'] });
  await local.push('myorg/secret', '1', buildManifest());
  for (const path of ['library/unknown', 'myorg/secret']) {
    await expect(hub.repository(path).resolve('1')).rejects.toMatchObject({ code: 'ERR_FORBIDDEN' });
  }
});

test('logs in to the web API once, and sees what is private', async () => {
  const { local, hub } = await start(
    { accounts: { me: { secret: 'canary-secret' } }, privateRepositories: ['myorg/secret'] },
    { login: { username: 'me', password: 'canary-secret' } },
  );
  await local.push('myorg/secret', '1', buildManifest());
  const observer = countingObserver();
  const repository = hub.repository('myorg/secret', { observer });
  expect(await all(repository)).toHaveLength(1);
  expect(await all(repository)).toHaveLength(1);
  expect(observer.requests).toBe(3);
  expect(local.api.requests.map(({ method }) => method)).toEqual(['POST', 'GET', 'GET']);
});

test('logs in again when the token of the web API ended early', async () => {
  let now = Date.now();
  const { local, hub } = await start(
    { accounts: { me: { secret: 'x' } }, now: () => now },
    { login: { username: 'me', password: 'x' } },
  );
  await pushTags(local, 1);
  const repository = hub.repository('library/nginx');
  await all(repository);
  now += 3_600_000;
  expect(await all(repository)).toHaveLength(1);
  expect(local.api.requests.map(({ status }) => status)).toEqual([200, 200, 401, 200, 200]);
});

test('takes no token of the web API that is longer than any header', async () => {
  const told: string[] = [];
  const { local, hub } = await start(
    { accounts: { me: { secret: 'x' } } },
    {
      login: { username: 'me', password: 'x' },
      onFallback: (error) => told.push(`${error.code} ${error.message}`),
    },
  );
  await pushTags(local, 1);
  const answer = JSON.stringify({ access_token: 'x'.repeat(20_000) });
  local.api.intercept = () => ({ kind: 'answer', status: 200, body: answer });
  expect(await all(hub.repository('library/nginx'))).toHaveLength(1);
  expect(told).toEqual([expect.stringMatching(/^ERR_PROTOCOL .*web API gave a token of 20000 characters/)]);
});

test('asks the registry where the web API refuses, says so, and does not try a bad login again', async () => {
  const told: string[] = [];
  const { local, hub } = await start(
    {},
    {
      login: { username: 'me', password: 'canary-secret' },
      onFallback: (error) => told.push(`${error.code} ${error.message}`),
    },
  );
  await pushTags(local, 3);
  const observer = countingObserver();
  const error = await hub
    .repository('library/nginx', { observer })
    .listTags()
    .catch((thrown: unknown) => thrown);
  // The registry's own login fails as well, and that is what is said.
  expect(codeOf(error)).toBe('ERR_UNAUTHORIZED');
  expect(told).toHaveLength(1);
  expect(told[0]).toMatch(/^ERR_UNAUTHORIZED .*web API/);
  expect(`${told[0]} ${error}`).not.toContain('canary');
  await expect(hub.repository('library/nginx').listTags()).rejects.toThrow();
  expect(local.api.requests).toHaveLength(1);
});

test('lists by the registry where the web API is not there', async () => {
  const { local } = await start();
  await pushTags(local, 3);
  await local.api.close();
  const hub = clientOf(local);
  const tags = await all(hub.repository('library/nginx'));
  expect(tags).toEqual([{ name: 'v00000' }, { name: 'v00001' }, { name: 'v00002' }]);
  const described = await hub.repository('library/nginx').describeTag?.('v00001');
  expect(described).toEqual({ name: 'v00001', digest: local.repository('library/nginx').digestOf('v00001') });
});

test.each([
  ['seconds', { retryAfter: '7200' }],
  ['a Unix time', { xRetryAfter: String(Date.parse('2026-11-24T10:00:00Z') / 1000) }],
])('keeps a long wait that the web API asks for in %s, and does not go round it', async (_, abuse) => {
  const { local, hub } = await start();
  await pushTags(local, 1);
  local.apiAbuse = abuse;
  const error = await hub
    .repository('library/nginx')
    .listTags()
    .catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code: 'ERR_RATE_LIMITED', retryAt: Date.parse('2026-11-24T10:00:00Z') });
  await expect(hub.repository('library/nginx').listTags()).rejects.toThrow();
  expect([local.api.requests.length, local.registry.requests.length]).toEqual([1, 0]);
});

function answerPage(page: object) {
  return () => ({ kind: 'answer', status: 200, body: JSON.stringify(page) }) as const;
}

test('never follows a next page to another host, and ends a listing that repeats itself', async () => {
  const { local, hub } = await start();
  const elsewhere = await startDockerHub();
  afterTest(() => elsewhere.close());
  const query = '/v2/namespaces/library/repositories/nginx/tags?page=2';
  local.api.intercept = answerPage({ results: [{ name: 'a' }], next: `${elsewhere.apiUrl}${query}` });
  const error = await all(hub.repository('library/nginx')).catch((thrown: unknown) => thrown);
  expect(codeOf(error)).toBe('ERR_LISTING_INCOMPLETE');
  expect(elsewhere.api.requests).toEqual([]);
});

test('takes a listing that ends long before its count for incomplete', async () => {
  const { local, hub } = await start();
  local.api.intercept = answerPage({ count: 15_000, results: [{ name: 'a' }], next: null });
  await expect(hub.repository('library/nginx').listTags()).rejects.toMatchObject({
    code: 'ERR_LISTING_INCOMPLETE',
  });
});

test('reads what it understands of a tag and leaves out what is no tag', async () => {
  const { local, hub } = await start();
  local.api.intercept = answerPage({
    results: [
      { name: 'a', digest: 5, tag_last_pushed: 'soon', images: [{ os: 'unknown', architecture: 'unknown' }] },
      { name: '../../etc', digest: null },
      { name: 'b', digest: 'sha256:short', last_updated: '2026-01-01T00:00:00.123456Z', images: 'none' },
      { name: 'c', images: [{ os: 'linux', architecture: 'amd64' }, { os: '' }] },
    ],
  });
  expect((await hub.repository('library/nginx').listTags())?.tags).toEqual([
    { name: 'a', digest: undefined, pushedAt: undefined, platforms: [] },
    { name: 'b', digest: undefined, pushedAt: Date.parse('2026-01-01T00:00:00.123Z'), platforms: [] },
    { name: 'c', digest: undefined, pushedAt: undefined, platforms: undefined },
  ]);
});

test('a tag deleted during the listing ends it in peace', async () => {
  const { local, hub } = await start();
  await pushTags(local, 101);
  const repository = hub.repository('library/nginx');
  const first = await repository.listTags();
  local.repository('library/nginx').removeTag('v00000');
  expect(await repository.listTags({ cursor: first?.next })).toEqual({ tags: [] });
});

test('tells the allowance with every answer about a manifest, and counts what is billed', async () => {
  const { local, hub } = await start({ anonymousPulls: 50 });
  await local.push('library/nginx', '1', buildMultiPlatform('x', platforms));
  const told: Allowance[] = [];
  const observer = {
    ...countingObserver(),
    onAllowance: (allowance: Allowance) => void told.push(allowance),
  };
  const counting = countingObserver();
  await hub.repository('library/nginx', { observer }).resolve('1');
  expect(told).toEqual([{ limit: 50, remaining: 50, windowSeconds: 21_600, source: '127.0.0.1' }]);
  const repository = hub.repository('library/nginx', { observer: counting });
  const index = await repository.fetchManifest('1');
  await repository.fetchManifest(index?.descriptor.digest ?? '');
  expect([counting.pulls, local.pulls, local.pullsLeft()]).toEqual([2, 2, 48]);
});

describe('a 429 to a pull', () => {
  const usedUp = 'You have reached your pull rate limit. You may increase the limit by upgrading.';
  const hour = { 'retry-after': '3600' };
  const left = (pulls: number) => ({
    'ratelimit-limit': '100;w=21600',
    'ratelimit-remaining': `${pulls};w=21600`,
  });

  async function refusing(headers: Record<string, string>, body: string, times = Number.POSITIVE_INFINITY) {
    const clock = fakeClock();
    const sides = await start({}, { clock });
    await sides.local.push('library/nginx', '1', buildManifest());
    let refusals = 0;
    sides.local.registry.intercept = ({ method, url }) => {
      if (method !== 'GET' || !url.includes('/manifests/') || refusals === times) return undefined;
      refusals += 1;
      return { kind: 'answer', status: 429, headers, body };
    };
    const repository = sides.hub.repository('library/nginx');
    return {
      repository,
      clock,
      pull: repository.fetchManifest('1').catch((error: unknown) => error),
      refusals: () => refusals,
    };
  }

  test.each([
    ['in its headers', left(0), 'Too Many Requests\n'],
    ['in its body', {}, JSON.stringify({ errors: [{ code: 'TOOMANYREQUESTS', message: usedUp }] })],
    ['in plain words', left(1), `toomanyrequests: ${usedUp}\n`],
    ['by asking for an hour', hour, 'Too Many Requests\n'],
    ['in its headers, and asks for seconds', { ...left(0), 'retry-after': '8' }, 'Too Many Requests\n'],
    ['in plain words, and asks for a minute', { 'retry-after': '60' }, `toomanyrequests: ${usedUp}\n`],
    ['in its body, and asks for an hour', { ...left(3), ...hour }, `toomanyrequests: ${usedUp}`],
  ])(
    'that tells of the pull limit %s is not asked again, and is about pulls alone',
    async (_, headers, body) => {
      const { repository, clock, pull, refusals } = await refusing(headers, body);
      expect(await pull).toBeInstanceOf(PullLimitError);
      expect(await pull).toMatchObject({ code: 'ERR_RATE_LIMITED', retryable: true });
      expect(await repository.resolve('1')).toBeDefined();
      expect([refusals(), clock.slept]).toEqual([1, []]);
    },
  );

  test.each([
    ['says nothing', {}, 'Too Many Requests\n'],
    [
      'says so in JSON',
      {},
      JSON.stringify({ errors: [{ code: 'TOOMANYREQUESTS', message: 'too many requests' }] }),
    ],
    ['tells of pulls that are left', left(990), 'Too Many Requests\n'],
    ['asks for a minute', { 'retry-after': '60' }, 'Too Many Requests\n'],
  ])('that %s is the abuse limit: the host is left alone, and asked again', async (_, headers, body) => {
    const { clock, pull, refusals } = await refusing(headers, body, 2);
    expect(await pull).toMatchObject({ descriptor: {} });
    expect([refusals(), clock.slept.length]).toEqual([2, 2]);
    for (const ms of clock.slept) expect(ms).toBeGreaterThanOrEqual(1000);
  });

  test('is told as what it is where that did not help', async () => {
    const { pull, refusals } = await refusing({}, 'Too Many Requests\n');
    const error = await pull;
    expect(error).not.toBeInstanceOf(PullLimitError);
    expect(error).toMatchObject({ code: 'ERR_RATE_LIMITED', retryAt: undefined });
    expect(String(error)).toContain('answered 429');
    expect(refusals()).toBe(4);
  });

  test('holds up all that goes there where it asks for an hour though pulls are left', async () => {
    const { pull, repository, refusals } = await refusing({ ...hour, ...left(50) }, 'Too Many Requests\n');
    expect(await pull).not.toBeInstanceOf(PullLimitError);
    await expect(repository.fetchManifest('1')).rejects.toMatchObject({ code: 'ERR_RATE_LIMITED' });
    await expect(repository.resolve('1')).rejects.toMatchObject({ code: 'ERR_RATE_LIMITED' });
    expect(refusals()).toBe(1);
  });
});

test('reads a blob from the CDN without credentials, from an offset, with a fresh URL each time', async () => {
  let now = Date.now();
  const { local, hub } = await start(
    { urlLifetimeSeconds: 60, now: () => now, accounts: { me: { secret: 'x' } } },
    {
      login: { username: 'me', password: 'x' },
    },
  );
  const content = buildManifest({ layers: [500_000] });
  await local.push('library/nginx', '1', content);
  const layer = content.blobs[1];
  if (layer === undefined) throw new Error('no layer');
  const repository = hub.repository('library/nginx');
  await bytesOf(await repository.openBlob(layer.descriptor, 0));
  now += 61_000;
  const rest = await bytesOf(await repository.openBlob(layer.descriptor, 499_990));
  expect(rest).toEqual(await bytesOf(layer.open(499_990, 500_000)));
  expect(local.cdn.requests.map(({ headers }) => headers.authorization)).toEqual([undefined, undefined]);
});

async function bytesOf(stream: AsyncIterable<Uint8Array> | undefined): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream ?? []) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}

test('finds referrers by the tag schema, since there is no API for them', async () => {
  const { local, hub } = await start();
  const content = buildManifest();
  await local.push('library/nginx', '1', content);
  const { digest } = content.descriptor;
  expect(await hub.repository('library/nginx').listReferrers(digest)).toEqual({
    api: false,
    descriptors: [],
  });
  await local.push('library/nginx', cosignTag(digest, 'sig'), cosignSignature(digest));
  const tags = await all(hub.repository('library/nginx'));
  expect(tags.map(({ name }) => name)).toContain(`${digest.replace(':', '-')}.sig`);
});

test('lists the repositories of a namespace over several pages', async () => {
  const { local, hub } = await start({
    accounts: { me: { secret: 'x' } },
    privateRepositories: ['myorg/p000'],
  });
  for (let index = 0; index < 120; index += 1) {
    await local.push(`myorg/p${String(index).padStart(3, '0')}`, '1', buildManifest());
  }
  const observer = countingObserver();
  const names = await Array.fromAsync(hub.listNamespace('myorg', { observer }));
  expect([names.length, names[0], names.at(-1), observer.requests]).toEqual([
    119,
    'myorg/p001',
    'myorg/p119',
    2,
  ]);
  await expect(hub.listNamespace('nobody').next()).rejects.toMatchObject({ code: 'ERR_NOT_FOUND' });
});

test('reads the push event that Docker Hub posts', () => {
  expect(parsePushEvent(JSON.stringify(webhookBody('library/nginx', 'v1', 1_700_000_000_500)))).toEqual({
    repository: 'library/nginx',
    tag: 'v1',
    pushedAt: 1_700_000_000_500,
  });
  expect(() => parsePushEvent('{}')).toThrow(HubferryError);
});

test.each([
  { tags: 350, missing: 'page=3', seen: 200 },
  // Fewer than a page are missing.
  { tags: 150, missing: 'page=2', seen: 100 },
])('takes a listing of $tags tags of which $missing is not there for incomplete', async (listing) => {
  const { local, hub } = await start();
  await pushTags(local, listing.tags);
  local.api.intercept = missing(listing.missing);
  await expect(all(hub.repository('library/nginx'))).rejects.toMatchObject({
    code: 'ERR_LISTING_INCOMPLETE',
    message: expect.stringContaining(`the first ${listing.seen} of ${listing.tags}`),
  });
});

test('takes a namespace of which a page is not there for incomplete', async () => {
  const { local, hub } = await start();
  for (let index = 0; index < 150; index += 1) await local.push(`acme/app${index}`, '1', buildManifest());
  local.api.intercept = missing('page=2');
  await expect(Array.fromAsync(hub.listNamespace('acme'))).rejects.toMatchObject({
    code: 'ERR_LISTING_INCOMPLETE',
  });
});

function missing(page: string): NonNullable<LocalDockerHub['api']['intercept']> {
  return ({ url }) => (url.includes(page) ? { kind: 'answer', status: 404, body: '{}' } : undefined);
}
