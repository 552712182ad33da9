/**
 * A malicious registry, CDN or token service. What single readers make of single answers is in test/unit/registry,
 * test/integration/registry, test/integration/dockerhub.test.ts and acr.test.ts; here a whole run meets them.
 */
import { createServer, type Server } from 'node:http';
import { describe, expect, it } from 'vitest';
import { buildManifest, put } from '../../local/content.ts';
import type { LocalRegistry } from '../../local/registry.ts';
import { type Answer, type Exchange, reply } from '../../local/server.ts';
import { transportTo } from '../registry/support.ts';
import { afterTest, mirror, registry, serve, sourceRepository, targetRepository } from './support.ts';

const MiB = 1 << 20;

const content = buildManifest({ layers: [1000, 9 * MiB] });

async function sourceWithContent(): Promise<LocalRegistry> {
  const source = await registry();
  put(source, sourceRepository, 'latest', content);
  return source;
}

const mirrored = (target: LocalRegistry) => target.repository(targetRepository).tags.get('latest')?.digest;

/** A hundred megabytes, and how much of it anybody took. */
function flood(status: number, headers: Record<string, string> = {}) {
  const told = { sent: 0 };
  const size = 100 * MiB;
  const answer = (): Answer => ({
    status,
    headers: { 'content-length': size, ...headers },
    body: (async function* () {
      for (let at = 0; at < size; at += 65_536) {
        yield Buffer.alloc(65_536, 0x20);
        told.sent += 65_536;
      }
    })(),
  });
  return { told, answer };
}

const challenge = (exchange: Exchange) => `Bearer realm="${exchange.origin}/token",service="x"`;

it('a listing without an end is refused before it takes the memory', async () => {
  const [source, target] = [await registry(), await registry()];
  let page = 0;
  source.intercept = ({ url }) => {
    if (!url.includes('/tags/list')) return undefined;
    page += 1;
    const tags = Array.from({ length: 100_000 }, (_, index) => `${page}-${index}`);
    const link = `</v2/${sourceRepository}/tags/list?k=${page}>; rel="next"`;
    return { kind: 'answer', status: 200, headers: { link }, body: JSON.stringify({ tags }) };
  };
  const { error } = await mirror(source, target, { tag: '*' });
  expect(error?.code).toBe('ERR_TOO_LARGE');
  expect(page).toBe(6);
});

it('a redirect to a path without an end leaves place for what happened', async () => {
  const hostile = await serve(({ path, origin }) =>
    path.startsWith('/v2/') ? reply(307, { location: `${origin}/${'a'.repeat(12_000)}` }) : reply(403),
  );
  const { error } = await mirror(hostile, await registry());
  expect(error).toMatchObject({ code: 'ERR_FORBIDDEN', message: expect.stringMatching(/a… answered 403$/) });
});

describe('an answer of a hundred megabytes', () => {
  /** What sockets on both ends hold, beside what the reader takes. */
  const inSockets = 12 * MiB;

  it.each<[string, number, number, RegExp, boolean]>([
    ['a manifest', 200, 4 * MiB, /\/manifests\/sha256/, false],
    ['a list of tags', 200, 32 * MiB, /\/tags\/list/, false],
    ['a token', 200, MiB, /\/token/, true],
    ['an error', 403, MiB, /\/manifests\/sha256/, false],
    ['an error of the token service', 500, MiB, /\/token/, true],
  ])('in place of %s is read no further than its limit', async (_, status, limit, where, withLogin) => {
    const { told, answer } = flood(status);
    const hostile = await serve((exchange) => {
      if (where.test(exchange.url.pathname)) return answer();
      if (withLogin && exchange.bearer === undefined) {
        return reply(401, { 'www-authenticate': challenge(exchange) });
      }
      if (/\/tags\/list/.test(exchange.path)) return reply(200, {}, '{"tags":["latest"]}');
      const { digest, mediaType } = content.descriptor;
      return reply(200, {
        'docker-content-digest': digest,
        'content-type': mediaType,
        'content-length': 500,
      });
    });
    const { report } = await mirror(hostile, await registry(), { tag: '*' });
    expect(report.totals).toMatchObject({ copied: 0, failed: 1 });
    // Twice: a request that fails for a moment is tried once more.
    expect(told.sent).toBeLessThan(2 * (limit + inSockets));
    expect(told.sent).toBeGreaterThan(0);
  });

  it('in place of a list of referrers fails for the tag', async () => {
    const source = await sourceWithContent();
    const { told, answer } = flood(200);
    const hostile = await serve((exchange) =>
      exchange.path.includes('/referrers/') ? answer() : forward(source, exchange),
    );
    const target = await registry();
    const { error } = await mirror(hostile, target);
    expect(error?.code).toBe('ERR_TOO_LARGE');
    expect(told.sent).toBeLessThan(4 * MiB + inSockets);
  });
});

async function forward(to: LocalRegistry, { method, logged, headers }: Exchange): Promise<Answer> {
  const { accept = '', range } = headers;
  const sent = { accept, ...(range === undefined ? {} : { range }) };
  const answer = await fetch(to.url + logged.url, { method, headers: sent, redirect: 'manual' });
  const kept = [...answer.headers].filter(([name]) => /^(content-|docker-|oci-|link|range)/.test(name));
  return {
    status: answer.status,
    headers: Object.fromEntries(kept),
    body: Buffer.from(await answer.arrayBuffer()),
  };
}

describe('names in a listing', () => {
  it('that are no tags are left out, and those that only look odd are tags like any other', async () => {
    const [source, target] = [await registry(), await registry()];
    const odd = ['__proto__', 'constructor', 'toString', 'con', 'v1.', 'V1.', '_', 'A', 'a', 't'.repeat(128)];
    for (const [index, tag] of odd.entries()) {
      put(source, sourceRepository, tag, buildManifest({ seed: tag, layers: [index + 1] }));
    }
    const none = [
      '../../x',
      '..%2f..%2fx',
      '<script>alert(1)</script>',
      'a\r\nx-injected: 1',
      'a b',
      'é',
      '',
      't'.repeat(129),
      'a?b=c',
      'a#b',
      '\u202egnp.exe',
      'a\u0000b',
      '@sha256:1',
    ];
    source.intercept = ({ url }) =>
      url.includes('/tags/list')
        ? { kind: 'answer', status: 200, body: JSON.stringify({ tags: [...none, ...odd, 7, null, {}] }) }
        : undefined;
    const { report } = await mirror(source, target, { tag: '*' });
    expect(report.totals).toMatchObject({ tags: odd.length, copied: odd.length });
    expect([...target.repository(targetRepository).tags.keys()].sort()).toEqual([...odd].sort());
    expect(source.requests.some(({ headers }) => 'x-injected' in headers)).toBe(false);
    const again = await mirror(source, target, { tag: '*' });
    expect(again.report.totals).toMatchObject({ unchanged: odd.length });
  });
});

describe('headers of an answer', () => {
  it.each([
    ['bytes that are no ASCII', 'application/\u00e9\u0080'],
    ['sixty thousand characters', `application/${'x'.repeat(60_000)}`],
    ['another type than any', '*/*; q=1, text/html'],
    ['nothing', ''],
  ])('with %s in Content-Type do no harm', async (_, type) => {
    const [source, target] = [await sourceWithContent(), await registry()];
    source.intercept = ({ method, url }) =>
      method === 'GET' && url.includes('/manifests/')
        ? { kind: 'answer', status: 200, headers: { 'content-type': type }, body: content.bytes }
        : undefined;
    const { report, error } = await mirror(source, target);
    expect(report.totals.tags).toBe(1);
    expect(error?.code).not.toBe('ERR_INTERNAL');
    const written = target.requests.filter(({ method }) => method === 'PUT').map(({ headers }) => headers);
    for (const headers of written) expect(headers['content-type'] ?? '').toMatch(/^[\x20-\x7e]{0,300}$/);
  });

  it.each([
    ['a digest that is none', { 'docker-content-digest': 'sha256:../../../etc/passwd' }],
    ['a size beyond every number', { 'content-length': '99999999999999999999' }],
    ['a negative size', { 'content-length': '-1' }],
  ])('with %s end in an error of one tag, or are asked for again', async (_, headers) => {
    const { bytes, descriptor } = content;
    const hostile = await rawServer((url, method) =>
      method === 'HEAD' && url.includes('/manifests/')
        ? { 'content-type': descriptor.mediaType, ...headers }
        : undefined,
    );
    hostile.bytes = bytes;
    const { report, error } = await mirror(hostile, await registry());
    expect(report.totals.tags).toBe(1);
    expect(error?.code).not.toBe('ERR_INTERNAL');
    expect(error?.message ?? '').not.toContain('passwd');
  });
});

/** A server that may send headers which Node's own checks would refuse. */
async function rawServer(
  head: (url: string, method: string) => Record<string, string> | undefined,
): Promise<{ url: string; bytes: Uint8Array }> {
  const served = { url: '', bytes: new Uint8Array() };
  const server: Server = createServer((request, response) => {
    const headers = head(request.url ?? '', request.method ?? '');
    if (headers === undefined) return void response.writeHead(200).end(served.bytes);
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
    request.socket.end(`HTTP/1.1 200 OK\r\n${lines.join('\r\n')}\r\nconnection: close\r\n\r\n`);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  afterTest(() => server.closeAllConnections());
  afterTest(() => server.close());
  const address = server.address();
  served.url = `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`;
  return served;
}

describe('a target', () => {
  it('that wants chunks larger than all memory gets none that large', async () => {
    const [source, target] = [await sourceWithContent(), await registry()];
    target.intercept = ({ method, url }) =>
      method === 'POST' && url.includes('/blobs/uploads/')
        ? {
            kind: 'answer',
            status: 202,
            headers: { location: `${target.url}/lost`, 'oci-chunk-min-length': String(2 ** 50) },
          }
        : undefined;
    const { report, error } = await mirror(source, target);
    expect(report.totals.failed).toBe(1);
    expect(error?.code).not.toBe('ERR_INTERNAL');
    expect(Math.max(...target.requests.map(({ received }) => received))).toBeLessThan(97 * MiB);
  });

  it.each([
    ['more than was sent', '0-99999999999'],
    ['nothing, each time', '0-0'],
    ['nonsense', 'bytes=x-y'],
  ])('that confirms %s ends in an error, and the tag stays away', async (_, range) => {
    const [source, target] = [await sourceWithContent(), await registry()];
    target.intercept = ({ method, url }) => {
      if (!url.includes('/blobs/uploads/')) return undefined;
      const headers = { location: `${target.url}/v2/${targetRepository}/blobs/uploads/x`, range };
      if (method === 'PUT') return { kind: 'answer', status: 404 };
      return { kind: 'answer', status: method === 'GET' ? 204 : 202, headers };
    };
    const { error } = await mirror(source, target);
    expect(error?.code).toMatch(/^ERR_(UPLOAD_LOST|SIZE_MISMATCH|PROTOCOL)$/);
    expect(mirrored(target)).toBeUndefined();
    expect(target.requests.length).toBeLessThan(200);
  });

  it('that says it mounted, or has, what it does not is not believed twice', async () => {
    const [source, target] = [await sourceWithContent(), await registry()];
    let lies = 6;
    target.intercept = ({ method, url }) => {
      const blob = content.blobs.find(({ descriptor }) => url.endsWith(descriptor.digest));
      if (method !== 'HEAD' || blob === undefined || lies === 0) return undefined;
      lies -= 1;
      return { kind: 'answer', status: 200, headers: { 'content-length': blob.size } };
    };
    const first = await mirror(source, target);
    if (first.error !== undefined) expect(first.error.code).toBe('ERR_BLOB_UNKNOWN');
    expect((await mirror(source, target)).error).toBeUndefined();
    expect(mirrored(target)).toBe(content.descriptor.digest);
  });

  it('that sends an upload round in circles is left', async () => {
    const [source, target] = [await sourceWithContent(), await registry()];
    target.intercept = ({ method, url }) =>
      /POST|PATCH|PUT|GET/.test(method) && url.includes('/blobs/uploads/')
        ? { kind: 'answer', status: 307, headers: { location: url } }
        : undefined;
    const { report } = await mirror(source, target);
    expect(report.totals.failed).toBe(1);
    expect(target.requests.length).toBeLessThan(50);
  });
});

describe('a registry out on the internet, through a proxy', () => {
  /** A proxy that answers for every host with the same, and notes whom it was asked for. */
  async function proxyWith(headers: Record<string, string>, status: number) {
    const asked: string[] = [];
    const server = createServer((request, response) => {
      asked.push(request.url ?? '');
      response.writeHead(status, headers).end();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    afterTest(() => server.closeAllConnections());
    afterTest(() => server.close());
    const before = process.env.HTTP_PROXY;
    const address = server.address();
    process.env.HTTP_PROXY = `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`;
    afterTest(() => {
      if (before === undefined) delete process.env.HTTP_PROXY;
      else process.env.HTTP_PROXY = before;
    });
    return asked;
  }

  const inside = [
    'http://169.254.169.254/metadata/identity/oauth2/token',
    'http://10.0.0.1/',
    'http://127.0.0.1:1/',
    'http://localhost/',
    'http://[::1]/',
    'http://[::ffff:10.0.0.1]/',
    'http://[64:ff9b::127.0.0.1]/',
    'http://[2002:a9fe:a9fe::1]/',
    'http://168.63.129.16/metadata',
    'http://2130706433/',
    'http://0x7f.1/',
    'http://192.168.0.1./',
  ];

  it.each(inside)('may not redirect to %s', async (location) => {
    const asked = await proxyWith({ location }, 307);
    const send = transportTo('http://registry.example', { retries: 0 }).send({ method: 'GET', url: '/v2/' });
    await expect(send).rejects.toMatchObject({ code: 'ERR_REDIRECT', retryable: false });
    expect(asked).toEqual(['http://registry.example/v2/']);
  });

  it.each(inside)('may not have its token service at %s', async (realm) => {
    const asked = await proxyWith({ 'www-authenticate': `Bearer realm="${realm}"` }, 401);
    const login = { username: 'user', password: 'secret' };
    const transport = transportTo('http://registry.example', { retries: 0, with: login });
    const send = transport.send({ method: 'GET', url: '/v2/' });
    await expect(send).rejects.toMatchObject({ code: 'ERR_REDIRECT' });
    expect(asked).toEqual(['http://registry.example/v2/']);
  });

  it.each(inside)('may not have an upload go on at %s', async (location) => {
    await proxyWith({}, 202);
    const transport = transportTo('http://registry.example', { retries: 0 });
    const send = transport.send({ method: 'PATCH', url: location, body: Buffer.from('x') });
    await expect(send).rejects.toMatchObject({ code: 'ERR_REDIRECT' });
  });
});
