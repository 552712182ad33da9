import { describe, expect, it } from 'vitest';
import { HubferryError } from '../../../lib/errors.ts';
import type { Descriptor, Digest } from '../../../lib/oci/descriptor.ts';
import { digestOf } from '../../../lib/oci/digest.ts';
import { createRegistry, type Registry } from '../../../lib/registry/registry.ts';
import type { TransportOptions } from '../../../lib/registry/transport.ts';
import { buildManifest } from '../../local/content.ts';
import { type Answer, type Exchange, type Respond, reply, replyJson } from '../../local/server.ts';
import { afterTest, countingObserver, fakeClock, serve, settingsFor } from './support.ts';

const ociManifest = 'application/vnd.oci.image.manifest.v1+json';
const ociIndex = 'application/vnd.oci.image.index.v1+json';

function registryAt(endpoint: string, options: Partial<TransportOptions> = {}): Registry {
  const registry = createRegistry({ settings: settingsFor(endpoint), clock: fakeClock(), ...options });
  afterTest(() => registry.close());
  return registry;
}

async function repositoryWith(respond: Respond, options: Partial<TransportOptions> = {}) {
  const server = await serve(respond);
  const observer = countingObserver();
  const repository = registryAt(server.url, options).repository('a/b', { observer });
  return { server, repository, observer };
}

async function bytesOf(stream: AsyncIterable<Uint8Array> | undefined): Promise<string | undefined> {
  if (stream === undefined) return undefined;
  const pieces: Uint8Array[] = [];
  for await (const piece of stream) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces).toString();
}

/** `reset` breaks the connection. */
const answered = (answer: Answer | 'reset' | undefined) => (answer === 'reset' ? undefined : answer);

/** What may have passed by the next attempt. */
const passing: readonly [string, Answer | 'reset'][] = [
  ['a 500', reply(500)],
  ['a 503 that names a time', reply(503, { 'retry-after': '30' })],
  ['a connection that broke', 'reset'],
];

const bytes = Buffer.from('{"schemaVersion":2}');
const digest = digestOf(bytes);
const manifest = { descriptor: { mediaType: ociManifest, digest, size: bytes.length }, bytes };
const blobDescriptor = (content: string): Descriptor => ({
  mediaType: 'application/octet-stream',
  digest: digestOf(Buffer.from(content)),
  size: content.length,
});

describe('resolve', () => {
  const headers = { 'content-type': `${ociManifest}; charset=utf-8`, 'docker-content-digest': digest };

  it('reads a descriptor from a HEAD and nothing else', async () => {
    const { server, repository, observer } = await repositoryWith(() => reply(200, headers, bytes));
    expect(await repository.resolve('v1')).toEqual(manifest.descriptor);
    expect(server.requests.map(({ method, url }) => `${method} ${url}`)).toEqual([
      'HEAD /v2/a/b/manifests/v1',
    ]);
    expect(server.requests[0]?.headers.accept).toContain(ociIndex);
    expect(observer).toMatchObject({ requests: 1, pulls: 0 });
  });

  it('is undefined for what is not there', async () => {
    const { repository } = await repositoryWith(() => reply(404));
    expect(await repository.resolve('v1')).toBeUndefined();
  });

  it('hashes the content where no digest is told', async () => {
    const { server, repository } = await repositoryWith(() =>
      reply(200, { 'content-type': ociManifest }, bytes),
    );
    expect(await repository.resolve('v1')).toEqual(manifest.descriptor);
    expect(server.requests.map(({ method }) => method)).toEqual(['HEAD', 'GET']);
  });

  it('needs no digest header for a digest, and believes none of another algorithm', async () => {
    const sha512 = digestOf(bytes, 'sha512');
    const { server, repository } = await repositoryWith(() => reply(200, headers, bytes));
    expect(await repository.resolve(sha512)).toMatchObject({ digest: sha512, size: bytes.length });
    expect(server.requests).toHaveLength(1);
  });

  it('refuses another digest than the one asked for', async () => {
    const { repository } = await repositoryWith(() => reply(200, headers, bytes));
    await expect(repository.resolve(digestOf(Buffer.from('other')))).rejects.toMatchObject({
      code: 'ERR_DIGEST_MISMATCH',
    });
  });

  it.each([
    [401, 'ERR_UNAUTHORIZED'],
    [403, 'ERR_FORBIDDEN'],
    [429, 'ERR_RATE_LIMITED'],
    [500, 'ERR_SERVER'],
  ])('fails for %i with %s', async (status, code) => {
    const { repository } = await repositoryWith(() => reply(status), { retries: 0 });
    await expect(repository.resolve('v1')).rejects.toMatchObject({ code, status });
  });

  it.each(['', 'a/b', '../x', 'a?b', 'sha256:abc', 'a b'])('sends nothing for %j', async (reference) => {
    const { server, repository } = await repositoryWith(() => reply(200));
    await expect(repository.resolve(reference)).rejects.toMatchObject({ code: 'ERR_REFERENCE' });
    expect(server.requests).toHaveLength(0);
  });
});

describe('a manifest', () => {
  it('comes with its bytes and a descriptor that was verified', async () => {
    const { repository } = await repositoryWith(() =>
      reply(200, { 'content-type': ociManifest, 'docker-content-digest': digest }, bytes),
    );
    const fetched = await repository.fetchManifest('v1');
    expect(fetched?.descriptor).toEqual(manifest.descriptor);
    expect(Buffer.from(fetched?.bytes ?? []).equals(bytes)).toBe(true);
    expect((await repository.fetchManifest(digest))?.descriptor.digest).toBe(digest);
  });

  it('that is not what its digest says is refused', async () => {
    const { repository } = await repositoryWith(() => reply(200, { 'content-type': ociManifest }, 'other'));
    await expect(repository.fetchManifest(digest)).rejects.toMatchObject({ code: 'ERR_DIGEST_MISMATCH' });
    const lying = await repositoryWith(() => reply(200, { 'docker-content-digest': digest }, 'other'));
    await expect(lying.repository.fetchManifest('v1')).rejects.toMatchObject({ code: 'ERR_DIGEST_MISMATCH' });
  });

  it.each(['application/json', 'text/plain; charset=utf-8', 'application/octet-stream'])(
    'that comes as %s from a server that knows nothing of manifests has the type that its bytes show',
    async (type) => {
      const { bytes, descriptor } = buildManifest();
      const { repository } = await repositoryWith(() => reply(200, { 'content-type': type }, bytes));
      expect((await repository.fetchManifest(descriptor.digest))?.descriptor).toEqual(descriptor);
    },
  );

  it('larger than 4 MiB is refused before it is read', async () => {
    const { repository } = await repositoryWith(() => reply(200, {}, Buffer.alloc(100_000_000)));
    await expect(repository.fetchManifest('v1')).rejects.toMatchObject({ code: 'ERR_TOO_LARGE' });
  });

  it('of Docker schema 1 is named as such', async () => {
    const type = 'application/vnd.docker.distribution.manifest.v1+prettyjws';
    const { repository } = await repositoryWith(() =>
      reply(200, { 'content-type': type, 'docker-content-digest': digest }, '{"schemaVersion":1}'),
    );
    await expect(repository.fetchManifest('v1')).rejects.toMatchObject({ code: 'ERR_SCHEMA1' });
  });

  it('that comes compressed is refused', async () => {
    const { repository } = await repositoryWith(() => reply(200, { 'content-encoding': 'gzip' }, bytes));
    await expect(repository.fetchManifest('v1')).rejects.toMatchObject({ code: 'ERR_PROTOCOL' });
  });

  it('counts as one pull when it was given, where pulls are billed', async () => {
    const respond: Respond = ({ path }) => (path.endsWith('/gone') ? reply(404) : reply(200, {}, bytes));
    const { repository, observer } = await repositoryWith(respond, { countPulls: true });
    await repository.fetchManifest('v1');
    await repository.fetchManifest('gone');
    await repository.resolve(digest);
    expect(observer).toMatchObject({ requests: 3, pulls: 1 });
  });
});

describe('a blob', () => {
  const content = '0123456789';
  const blob = blobDescriptor(content);
  const ranged: Respond = ({ headers }) => {
    const start = Number(/bytes=(\d+)-/.exec(headers.range ?? '')?.[1] ?? 0);
    if (headers.range === undefined) return reply(200, {}, content);
    if (start >= content.length) return reply(416);
    return reply(206, { 'content-range': `bytes ${start}-9/10` }, content.slice(start));
  };

  it('opens at its start and at an offset', async () => {
    const { server, repository } = await repositoryWith(ranged);
    expect(await bytesOf(await repository.openBlob(blob, 0))).toBe(content);
    expect(await bytesOf(await repository.openBlob(blob, 7))).toBe('789');
    expect(server.requests.map(({ headers }) => headers.range)).toEqual([undefined, 'bytes=7-']);
  });

  it('starts at the offset also where the server knows no ranges', async () => {
    const { repository } = await repositoryWith(() => reply(200, {}, content));
    expect(await bytesOf(await repository.openBlob(blob, 7))).toBe('789');
    expect(await bytesOf(await repository.openBlob(blob, 10))).toBe('');
  });

  it('is empty at its end', async () => {
    const { repository } = await repositoryWith(ranged);
    expect(await bytesOf(await repository.openBlob(blob, 10))).toBe('');
  });

  it.each([
    ['a later part', { 'content-range': 'bytes 9-9/10' }],
    ['no Content-Range', {}],
    ['one that is malformed', { 'content-range': 'bytes=7-9/10' }],
  ])('is asked for as a whole where %s is answered', async (_what, headers) => {
    const { server, repository } = await repositoryWith((exchange) =>
      exchange.headers.range === undefined ? reply(200, {}, content) : reply(206, headers, '9'),
    );
    expect(await bytesOf(await repository.openBlob(blob, 7))).toBe('789');
    expect(server.requests.map(({ headers }) => headers.range)).toEqual(['bytes=7-', undefined]);
  });

  it('starts at the offset also where an earlier part is answered', async () => {
    const { server, repository } = await repositoryWith(() =>
      reply(206, { 'content-range': 'bytes 5-9/10' }, content.slice(5)),
    );
    expect(await bytesOf(await repository.openBlob(blob, 7))).toBe('789');
    expect(server.requests).toHaveLength(1);
  });

  it('may come whole as a range that nobody asked for, but not in part', async () => {
    let last = 9;
    const { repository } = await repositoryWith(() =>
      reply(206, { 'content-range': `bytes 0-${last}/10` }, content.slice(0, last + 1)),
    );
    expect(await bytesOf(await repository.openBlob(blob, 0))).toBe(content);
    last = 4;
    await expect(repository.openBlob(blob, 0)).rejects.toMatchObject({ code: 'ERR_PROTOCOL' });
  });

  it.each([
    ['another start', { 'content-range': 'bytes 9-9/10' }],
    ['no range', {}],
  ])('with %s in every answer is refused', async (_what, headers) => {
    const { repository } = await repositoryWith(() => reply(206, headers, content));
    await expect(repository.openBlob(blob, 7)).rejects.toMatchObject({ code: 'ERR_PROTOCOL' });
  });

  it('that is not there is undefined, and one that is forbidden an error', async () => {
    const { repository } = await repositoryWith(({ headers }) =>
      reply(headers.range === undefined ? 404 : 403),
    );
    expect(await repository.openBlob(blob, 0)).toBeUndefined();
    await expect(repository.openBlob(blob, 1)).rejects.toMatchObject({ code: 'ERR_FORBIDDEN' });
  });

  it('is known by status and size, whatever digest the answer tells', async () => {
    const other = { 'docker-content-digest': digestOf(Buffer.from('x')) };
    const { repository } = await repositoryWith(({ path }) =>
      path.includes(blob.digest) ? reply(200, other, content) : reply(404),
    );
    expect(await repository.statBlob(blob.digest)).toEqual({ size: 10 });
    expect(await repository.statBlob(digest)).toBeUndefined();
  });

  it('is there where the answer tells no size', async () => {
    const { repository } = await repositoryWith(() => ({ status: 200, headers: {}, body: Buffer.alloc(0) }));
    expect(await repository.statBlob(blob.digest)).toEqual({ size: undefined });
  });
});

describe('a tag list', () => {
  const pages: Respond = ({ query, ...exchange }: Exchange) => {
    const last = (exchange as Exchange).url.searchParams.get('last');
    const base = '/v2/a/b/tags/list?n=1000&last=';
    if (last === null)
      return replyJson(200, { name: 'a/b', tags: ['a', 'b'] }, { link: `<${base}b>; rel="next"` });
    // A page may be short, or empty, in the middle.
    if (last === 'b') return replyJson(200, { tags: null }, { link: `<${base}c>; rel="next"` });
    return replyJson(200, { tags: ['d', 'no/tag', 5] });
  };

  it('is read page by page, with a cursor that survives a restart', async () => {
    const { server, repository } = await repositoryWith(pages);
    const first = await repository.listTags();
    expect(first?.tags).toEqual([{ name: 'a' }, { name: 'b' }]);
    const again = registryAt(server.url).repository('a/b');
    const second = await again.listTags({ cursor: first?.next });
    expect(second?.tags).toEqual([]);
    const third = await again.listTags({ cursor: second?.next });
    expect(third).toEqual({ tags: [{ name: 'd' }] });
  });

  it('of an unknown repository is undefined', async () => {
    const { repository } = await repositoryWith(() => replyJson(404, { errors: [{ code: 'NAME_UNKNOWN' }] }));
    expect(await repository.listTags()).toBeUndefined();
  });

  it('that goes on at another host is refused', async () => {
    const other = await serve(() => replyJson(200, { tags: [] }));
    const { repository } = await repositoryWith(() =>
      replyJson(200, { tags: [] }, { link: `<${other.url}/v2/a/b/tags/list>; rel=next` }),
    );
    await expect(repository.listTags()).rejects.toMatchObject({ code: 'ERR_LISTING_INCOMPLETE' });
    expect(other.requests).toHaveLength(0);
  });

  it.each([1, 2, 3, 5, 20])('that goes round in a circle of %i pages is found out', async (length) => {
    const { server, repository } = await repositoryWith(({ url }) => {
      const page = Number(url.searchParams.get('last') ?? 0);
      return replyJson(200, { tags: ['a'] }, { link: `<?last=${(page + 1) % length}>; rel=next` });
    });
    const listAll = async () => {
      for (let page = await repository.listTags(); page?.next !== undefined; ) {
        page = await repository.listTags({ cursor: page.next });
      }
    };
    await expect(listAll()).rejects.toMatchObject({ code: 'ERR_LISTING_INCOMPLETE' });
    expect(server.requests.length).toBeLessThan(4 * length + 4);
  });

  it.each(['', 'x', '{}', '{"url":"https://evil.example/","mark":"","pages":1}'])(
    'does not go on from %j',
    async (cursor) => {
      const { server, repository } = await repositoryWith(pages);
      await expect(repository.listTags({ cursor })).rejects.toMatchObject({ code: 'ERR_LISTING_INCOMPLETE' });
      expect(server.requests).toHaveLength(0);
    },
  );

  it.each(['<html>', '[]', '{"tags":{}}'])('such as %s is an error of the protocol', async (body) => {
    const { repository } = await repositoryWith(() => reply(200, {}, body));
    await expect(repository.listTags()).rejects.toMatchObject({ code: 'ERR_PROTOCOL' });
  });
});

describe('pushing a manifest', () => {
  it('sends its bytes with its type, and tells whether the subject was understood', async () => {
    let received: Buffer | undefined;
    const { server, repository } = await repositoryWith(async (exchange) => {
      received = await exchange.bytes();
      return reply(201, { 'docker-content-digest': digest, 'oci-subject': digest });
    });
    expect(await repository.pushManifest(manifest, 'v1')).toEqual({ subjectHandled: true });
    expect(received?.equals(bytes)).toBe(true);
    expect(server.requests[0]).toMatchObject({ method: 'PUT', url: '/v2/a/b/manifests/v1' });
    expect(server.requests[0]?.headers['content-type']).toBe(ociManifest);
  });

  it('is tried again where the registry fails for a moment', async () => {
    const { server, repository } = await repositoryWith(() =>
      server.requests.length === 1 ? reply(503) : reply(201),
    );
    expect(await repository.pushManifest(manifest, 'v1')).toEqual({ subjectHandled: false });
  });

  it.each([
    [400, 'MANIFEST_BLOB_UNKNOWN', 'ERR_BLOB_UNKNOWN'],
    [404, 'MANIFEST_BLOB_UNKNOWN', 'ERR_BLOB_UNKNOWN'],
    [500, 'MANIFEST_BLOB_UNKNOWN', 'ERR_BLOB_UNKNOWN'],
    [404, 'BLOB_UNKNOWN', 'ERR_BLOB_UNKNOWN'],
    [404, 'MANIFEST_UNKNOWN', 'ERR_BLOB_UNKNOWN'],
    [404, 'NAME_UNKNOWN', 'ERR_NOT_FOUND'],
    [405, 'REGISTRY_DISALLOWED_OPERATION', 'ERR_LOCKED'],
    [409, 'TAG_IMMUTABLE', 'ERR_LOCKED'],
    [412, 'PRECONDITION', 'ERR_LOCKED'],
    [405, 'UNSUPPORTED', 'ERR_UNSUPPORTED'],
    [400, 'MANIFEST_INVALID', 'ERR_REJECTED'],
    [413, 'SIZE_INVALID', 'ERR_TOO_LARGE'],
    [403, 'DENIED', 'ERR_FORBIDDEN'],
  ])('fails for %i %s with %s, once', async (status, fault, code) => {
    const { server, repository } = await repositoryWith(() =>
      replyJson(status, { errors: [{ code: fault }] }),
    );
    await expect(repository.pushManifest(manifest, 'v1')).rejects.toMatchObject({
      code,
      registryCodes: [fault],
    });
    expect(server.requests).toHaveLength(1);
  });

  it('fails where the registry stored something else', async () => {
    const given = { 'docker-content-digest': digestOf(Buffer.from('other')) };
    const { repository } = await repositoryWith(() => reply(201, given));
    await expect(repository.pushManifest(manifest, 'v1')).rejects.toMatchObject({
      code: 'ERR_DIGEST_MISMATCH',
    });
  });
});

describe('deleting a tag', () => {
  it('deletes it by its name', async () => {
    const { server, repository } = await repositoryWith(() => reply(202));
    await repository.deleteTag('v1');
    expect(server.requests[0]).toMatchObject({ method: 'DELETE', url: '/v2/a/b/manifests/v1' });
  });

  it('never takes a digest', async () => {
    const { server, repository } = await repositoryWith(() => reply(202));
    await expect(repository.deleteTag(digest)).rejects.toMatchObject({ code: 'ERR_REFERENCE' });
    expect(server.requests).toHaveLength(0);
  });

  it('is done where the tag is gone', async () => {
    const { repository } = await repositoryWith(() => reply(404));
    await expect(repository.deleteTag('v1')).resolves.toBeUndefined();
  });

  it.each(passing)('is tried again after %s', async (_what, fault) => {
    const answers = [fault, reply(404)];
    const { server, repository } = await repositoryWith(() => answered(answers.shift()));
    await repository.deleteTag('v1');
    expect(server.requests).toHaveLength(2);
  });

  it.each([
    [405, 'UNSUPPORTED', 'ERR_UNSUPPORTED'],
    [400, 'DIGEST_INVALID', 'ERR_UNSUPPORTED'],
    [405, 'REGISTRY_DISALLOWED_OPERATION', 'ERR_LOCKED'],
    [403, 'DENIED', 'ERR_FORBIDDEN'],
  ])('fails for %i %s with %s', async (status, fault, code) => {
    const { repository } = await repositoryWith(() => replyJson(status, { errors: [{ code: fault }] }));
    await expect(repository.deleteTag('v1')).rejects.toMatchObject({ code });
  });
});

describe('mounting a blob', () => {
  const blob = digestOf(Buffer.from('blob'));

  it('is done with 201', async () => {
    const { server, repository } = await repositoryWith(() => reply(201));
    expect(await repository.mountBlob(blob, 'c/d')).toBe(true);
    expect(server.requests[0]?.url).toBe(
      `/v2/a/b/blobs/uploads/?mount=${encodeURIComponent(blob)}&from=${encodeURIComponent('c/d')}`,
    );
  });

  it('gives the session that the registry opened instead', async () => {
    const { server, repository } = await repositoryWith(() =>
      reply(202, { location: '/v2/a/b/blobs/uploads/1' }),
    );
    expect(await repository.mountBlob(blob, 'c/d')).toMatchObject({
      location: `${server.url}/v2/a/b/blobs/uploads/1`,
      offset: 0,
    });
  });

  it.each([404, 405])('is given up at %i', async (status) => {
    const { server, repository } = await repositoryWith(() => reply(status));
    expect(await repository.mountBlob(blob, 'c/d')).toBe(false);
    expect(server.requests).toHaveLength(1);
  });

  it.each(passing)('is tried again after %s, and given up where that stays', async (_what, fault) => {
    const answers: (Answer | 'reset')[] = [fault, reply(201)];
    const { server, repository } = await repositoryWith(() => answered(answers.shift() ?? fault), {
      retries: 2,
    });
    expect(await repository.mountBlob(blob, 'c/d')).toBe(true);
    expect(server.requests).toHaveLength(2);
    expect(await repository.mountBlob(blob, 'c/d')).toBe(false);
    expect(server.requests).toHaveLength(5);
  });

  it('ends with the reason of its signal', async () => {
    const { server, repository } = await repositoryWith(() => new Promise(() => {}));
    const stop = new AbortController();
    const reason = new HubferryError('ERR_INTERRUPTED', 'stopped', { retryable: true });
    server.intercept = () => void stop.abort(reason);
    await expect(repository.mountBlob(blob, 'c/d', { signal: stop.signal })).rejects.toBe(reason);
  });

  it('is not tried again from where the login may not read', async () => {
    const { server, repository } = await repositoryWith(() => reply(403));
    expect(await repository.mountBlob(blob, 'c/d')).toBe(false);
    expect(await repository.mountBlob(blob, 'c/d')).toBe(false);
    expect(await repository.mountBlob(blob, 'e/f')).toBe(false);
    expect(server.requests).toHaveLength(2);
  });

  it('asks for a token that reads the other repository, and goes without where it gets none', async () => {
    const asked: string[][] = [];
    const { server, repository } = await repositoryWith((exchange) => {
      if (exchange.path === '/token') {
        const scopes = exchange.url.searchParams.getAll('scope');
        asked.push(scopes);
        return scopes.length > 1 ? reply(401) : replyJson(200, { token: 't' });
      }
      return exchange.bearer === undefined
        ? reply(401, { 'www-authenticate': `Bearer realm="${exchange.origin}/token"` })
        : reply(202, { location: '/v2/a/b/blobs/uploads/1' });
    });
    expect(await repository.mountBlob(blob, 'c/d')).toMatchObject({ offset: 0 });
    expect(asked).toEqual([
      ['repository:a/b:pull,push', 'repository:c/d:pull'],
      ['repository:a/b:pull,push'],
    ]);
    expect(server.requests.at(-1)?.method).toBe('POST');
  });

  it('is given up where the registry lets nobody mount without the token that there is not', async () => {
    const { repository } = await repositoryWith((exchange) => {
      const { origin, path, url } = exchange;
      if (path === '/token') {
        const isOther = url.searchParams.getAll('scope').some((scope) => scope.includes('c/d'));
        return isOther ? reply(401) : replyJson(200, { token: 't' });
      }
      const scope = url.searchParams.has('from')
        ? ',scope="repository:a/b:pull,push repository:c/d:pull"'
        : '';
      if (exchange.bearer !== undefined && scope === '')
        return reply(202, { location: '/v2/a/b/blobs/uploads/1' });
      return reply(401, { 'www-authenticate': `Bearer realm="${origin}/token"${scope}` });
    });
    expect(await repository.mountBlob(blob, 'c/d')).toBe(false);
    expect(await repository.mountBlob(blob, 'c/d')).toBe(false);
    expect(await repository.startUpload()).toMatchObject({ offset: 0 });
  });
});

describe('referrers', () => {
  const subject = digestOf(Buffer.from('subject'));
  const referrer = (name: string) => ({
    mediaType: ociManifest,
    digest: digestOf(Buffer.from(name)),
    size: 5,
    artifactType: 'application/sig',
  });
  const index = (...manifests: unknown[]) =>
    JSON.stringify({ schemaVersion: 2, mediaType: ociIndex, manifests });
  const asIndex = (body: string, headers = {}) => reply(200, { 'content-type': ociIndex, ...headers }, body);
  const tag = subject.replace(':', '-');

  it('come from the API, all its pages', async () => {
    const { repository } = await repositoryWith(({ url }) =>
      url.searchParams.has('page')
        ? asIndex(index(referrer('b')))
        : asIndex(index(referrer('a')), { link: '<?page=2>; rel="next"' }),
    );
    expect(await repository.listReferrers(subject)).toEqual({
      api: true,
      descriptors: [referrer('a'), referrer('b')],
    });
  });

  it('come from the tag where there is no API, and the registry is not asked for it again', async () => {
    const { server, repository } = await repositoryWith(({ path, method }) => {
      if (path.includes('/referrers/')) return reply(404);
      if (path.endsWith(`/manifests/${tag}`)) return asIndex(index(referrer('a')));
      return reply(method === 'HEAD' ? 404 : 500);
    });
    expect(await repository.listReferrers(subject)).toMatchObject({
      api: false,
      descriptors: [referrer('a')],
    });
    const other = digestOf(Buffer.from('other')) as Digest;
    expect(await repository.listReferrers(other)).toEqual({ api: false, descriptors: [] });
    expect(server.requests.map(({ method }) => method)).toEqual(['GET', 'HEAD', 'GET', 'HEAD']);
  });

  it.each([
    ['a page for people', () => reply(200, { 'content-type': 'text/html' }, '<html></html>')],
    [
      'a manifest',
      () => reply(200, { 'content-type': ociManifest }, '{"schemaVersion":2,"config":{},"layers":[]}'),
    ],
  ])('are not what is %s', async (_what, answer) => {
    const { repository } = await repositoryWith(({ path }) =>
      path.includes('/referrers/') ? answer() : reply(404),
    );
    expect(await repository.listReferrers(subject)).toEqual({ api: false, descriptors: [] });
  });

  it('of a repository that is not there yet are none, which says nothing of the API', async () => {
    const unknown = JSON.stringify({ errors: [{ code: 'NAME_UNKNOWN' }] });
    const answers = [
      reply(404, { 'content-type': 'application/json' }, unknown),
      asIndex(index(referrer('a'))),
    ];
    const { repository } = await repositoryWith(({ path }) =>
      path.includes('/referrers/') ? (answers.shift() ?? reply(500)) : reply(404),
    );
    expect(await repository.listReferrers(subject)).toEqual({ api: false, descriptors: [] });
    expect(await repository.listReferrers(subject)).toEqual({ api: true, descriptors: [referrer('a')] });
  });

  it.each([400, 404])('come from the API again where it has answered before one %i', async (status) => {
    const answers = [asIndex(index()), reply(status), asIndex(index(referrer('a')))];
    const { repository } = await repositoryWith(({ path }) =>
      path.includes('/referrers/') ? (answers.shift() ?? reply(500)) : reply(404),
    );
    for (const descriptors of [[], [], [referrer('a')]])
      expect(await repository.listReferrers(subject)).toMatchObject({ descriptors });
  });

  it('come from the API where the registry has said that it keeps them', async () => {
    const content = { descriptor: referrer('a'), bytes: Buffer.from('a') };
    let hasApi = false;
    const { repository } = await repositoryWith(({ method, path }) => {
      if (method === 'PUT') return reply(201, { 'oci-subject': subject });
      return hasApi && path.includes('/referrers/') ? asIndex(index(referrer('a'))) : reply(404);
    });
    expect(await repository.listReferrers(subject)).toMatchObject({ api: false });
    hasApi = true;
    await repository.pushManifest(content, content.descriptor.digest);
    expect(await repository.listReferrers(subject)).toEqual({ api: true, descriptors: [referrer('a')] });
  });

  it('are unknown where the registry fails, which is no absence', async () => {
    for (const status of [401, 403, 500]) {
      const { repository } = await repositoryWith(() => reply(status), { retries: 0 });
      await expect(repository.listReferrers(subject)).rejects.toMatchObject({ status });
    }
  });
});

describe('a login for reading', () => {
  it('asks for no more than that', async () => {
    const asked: string[] = [];
    const server = await serve((exchange) => {
      if (exchange.path === '/token') {
        asked.push(...exchange.url.searchParams.getAll('scope'));
        return replyJson(200, { token: 't' });
      }
      return exchange.bearer === undefined
        ? reply(401, { 'www-authenticate': `Bearer realm="${exchange.origin}/token"` })
        : reply(404);
    });
    await registryAt(server.url).repository('a/b', { access: 'read' }).resolve('v1');
    expect(asked).toEqual(['repository:a/b:pull']);
  });
});
