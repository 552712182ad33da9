import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { busy, type Fault, retryAfterForms } from '../../local/fault-kinds.ts';
import { type FaultProxy, startFaultProxy } from '../../local/faults.ts';
import {
  type Exchange,
  type LocalServer,
  type Answer as PeerAnswer,
  reply,
  startServer,
} from '../../local/server.ts';
import { makeCertificate } from '../../local/tls.ts';

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
  /** Of a body that broke off. */
  readonly error: string | undefined;
}

interface Ask {
  readonly method?: string;
  readonly body?: Buffer;
  readonly ca?: string;
  readonly signal?: AbortSignal;
}

/** Asks over a connection of its own, and keeps what came of a body that broke off. */
async function ask(
  url: string,
  { body, ca, signal, method = body ? 'PUT' : 'GET' }: Ask = {},
): Promise<Answer> {
  const send = url.startsWith('https:') ? httpsRequest : httpRequest;
  const request = send(url, {
    method,
    agent: false,
    ca,
    signal,
    headers: body ? { 'content-length': body.length } : {},
  });
  // A connection may break behind the answer too; its body tells.
  request.on('error', () => {});
  request.end(body);
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  const chunks: Buffer[] = [];
  let error: string | undefined;
  try {
    for await (const chunk of response) chunks.push(chunk);
  } catch (thrown) {
    error = (thrown as NodeJS.ErrnoException).code;
  }
  return { status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks), error };
}

/** Large bodies are compared, and shown, as digests. */
const digestOf = (body: Buffer | undefined) =>
  createHash('sha256')
    .update(body ?? '')
    .digest('hex');

const payload = Buffer.from(Array.from({ length: 300_000 }, (_, index) => index % 251));

let peer: LocalServer;
let proxy: FaultProxy;
let received: Buffer | undefined;

async function* chunked(body: Buffer): AsyncGenerator<Buffer> {
  yield body;
}

async function respond(exchange: Exchange): Promise<PeerAnswer> {
  received = await exchange.bytes();
  return exchange.path === '/chunked'
    ? { status: 200, headers: {}, body: chunked(payload) }
    : reply(200, { 'x-peer': 'yes' }, payload);
}

beforeEach(async () => {
  received = undefined;
  peer = await startServer(respond);
  proxy = await startFaultProxy(peer.url);
});

afterEach(async () => {
  await proxy.close();
  await peer.close();
});

describe('a proxy without faults', () => {
  it('passes request and answer on as they are', async () => {
    const answer = await ask(`${proxy.url}/a?b=c`, { body: payload });
    expect(answer).toMatchObject({ status: 200, headers: { 'x-peer': 'yes' }, error: undefined });
    expect(digestOf(answer.body)).toBe(digestOf(payload));
    expect(digestOf(received)).toBe(digestOf(payload));
    expect(peer.requests[0]).toMatchObject({ method: 'PUT', url: '/a?b=c' });
    expect(proxy.log).toMatchObject([{ method: 'PUT', url: '/a?b=c', status: 200, fault: undefined }]);
    expect(proxy.log[0]).toMatchObject({ sent: payload.length, received: payload.length });
  });

  it('passes the first bytes on before the last are there, both ways', async () => {
    const echo = await startServer((exchange) => ({ status: 200, headers: {}, body: exchange.body() }));
    const between = await startFaultProxy(echo.url);
    const request = httpRequest(between.url, { method: 'PUT', agent: false });
    request.write('first');
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    const [first] = (await once(response, 'data')) as [Buffer];
    request.end('last');
    const [last] = (await once(response, 'data')) as [Buffer];
    expect([first.toString(), last.toString()]).toEqual(['first', 'last']);
    await between.close();
    await echo.close();
  });

  it('names the host that the client used, or the peer’s own where that is asked for', async () => {
    await ask(proxy.url);
    const renaming = await startFaultProxy(peer.url, { rewriteHost: true });
    await ask(renaming.url);
    expect(peer.requests.map(({ headers }) => headers.host)).toEqual([
      new URL(proxy.url).host,
      new URL(peer.url).host,
    ]);
    await renaming.close();
  });

  it('breaks the connection where the peer is away', async () => {
    await peer.close();
    await expect(ask(proxy.url)).rejects.toMatchObject({ code: 'ECONNRESET' });
    peer = await startServer(respond);
  });
});

describe('a scripted fault', () => {
  it('resets at a byte of the request', async () => {
    proxy.next({ kind: 'reset', side: 'request', after: 1000 });
    await expect(ask(proxy.url, { body: payload })).rejects.toMatchObject({
      code: expect.stringMatching(/ECONNRESET|EPIPE/),
    });
    expect(proxy.log[0]).toMatchObject({ sent: 1000, status: 0 });
    expect(received).toBeUndefined();
  });

  it('resets at a byte of the answer', async () => {
    proxy.next({ kind: 'reset', side: 'response', after: 1000 });
    const answer = await ask(proxy.url);
    expect(digestOf(answer.body)).toBe(digestOf(payload.subarray(0, 1000)));
    expect(answer.error).toBe('ECONNRESET');
  });

  it('resets at the last byte of a body that is shorter', async () => {
    proxy.next({ kind: 'reset', side: 'response', after: 10_000_000 });
    const answer = await ask(proxy.url);
    expect(proxy.log[0]?.received).toBe(payload.length - 1);
    expect(answer.body.length).toBeLessThan(payload.length);
    expect(answer.error).toBe('ECONNRESET');
  });

  it.each(['request', 'response'] as const)(
    'stalls in the %s and keeps the connection open',
    async (side) => {
      proxy.next({ kind: 'stall', side, after: 1000 });
      const patience = AbortSignal.timeout(300);
      const stalled = await ask(proxy.url, { body: payload, signal: patience }).catch((error) => error);
      expect(patience.aborted).toBe(true);
      expect(side === 'request' ? stalled.name : stalled.body.length).toBe(
        side === 'request' ? 'AbortError' : 1000,
      );
      expect(proxy.log[0]).toMatchObject(side === 'request' ? { sent: 1000 } : { received: 1000 });
    },
  );

  it('lets a body drip', async () => {
    proxy.next({ kind: 'drip', side: 'response', bytes: 100_000, everyMs: 20 });
    const start = performance.now();
    const answer = await ask(proxy.url);
    expect(digestOf(answer.body)).toBe(digestOf(payload));
    expect(performance.now() - start).toBeGreaterThan(55);
  });

  it('ends an answer early: noticed where its length was told, unnoticed where it was not', async () => {
    proxy.next({ kind: 'truncate', after: 1000 });
    proxy.next({ kind: 'truncate', after: 1000 });
    const told = await ask(proxy.url);
    const untold = await ask(`${proxy.url}/chunked`);
    expect([told.body.length, untold.body.length]).toEqual([1000, 1000]);
    expect([told.error, untold.error]).toEqual(['ECONNRESET', undefined]);
  });

  it.each(['request', 'response'] as const)('changes one byte of the %s', async (side) => {
    proxy.next({ kind: 'corrupt', side, at: 70_000 });
    const answer = await ask(proxy.url, { body: payload });
    const spoiled = side === 'request' ? received : answer.body;
    const differing = [...payload.keys()].filter((index) => payload[index] !== spoiled?.[index]);
    expect(differing).toEqual([70_000]);
    expect(digestOf(side === 'request' ? answer.body : received)).toBe(digestOf(payload));
  });

  it.each([-10, 10])('tells a length that is wrong by %i', async (by) => {
    proxy.next({ kind: 'length', by });
    const answer = await ask(proxy.url);
    expect(answer.headers['content-length']).toBe(String(payload.length + by));
    expect(answer.body.length).toBe(payload.length + Math.min(0, by));
    if (by > 0) expect(answer.error).toBe('ECONNRESET');
  });

  it('answers itself, and the peer never hears of it', async () => {
    proxy.next({ kind: 'status', status: 503, headers: { 'x-by': 'proxy' }, body: 'later' });
    const answer = await ask(proxy.url, { body: payload });
    expect(answer).toMatchObject({ status: 503, headers: { 'x-by': 'proxy' }, body: Buffer.from('later') });
    expect(peer.requests).toEqual([]);
  });

  it.each(retryAfterForms)('asks for patience with a Retry-After: %s', async (form) => {
    proxy.next(busy(form, 5));
    const { status, headers } = await ask(proxy.url);
    expect(status).toBe(429);
    const told = headers['retry-after'];
    const seconds = told === undefined ? undefined : (Date.parse(told) - Date.now()) / 1000;
    const expected: Record<typeof form, () => void> = {
      seconds: () => expect(told).toBe('5'),
      date: () => expect(seconds).toBeCloseTo(4.5, -1),
      past: () => expect(seconds).toBeLessThan(-3000),
      zero: () => expect(told).toBe('0'),
      negative: () => expect(told).toBe('-5'),
      fraction: () => expect(told).toBe('5.5'),
      text: () => expect(told).toBe('soon'),
      empty: () => expect(told).toBe(''),
      absent: () => expect(told).toBeUndefined(),
    };
    expected[form]();
  });

  it('delays the answer', async () => {
    proxy.next({ kind: 'delay', ms: 100 });
    const start = performance.now();
    expect(digestOf((await ask(proxy.url)).body)).toBe(digestOf(payload));
    expect(performance.now() - start).toBeGreaterThan(95);
  });

  it('takes a request and is silent', async () => {
    proxy.next({ kind: 'silence' });
    const patience = AbortSignal.timeout(200);
    await expect(ask(proxy.url, { signal: patience })).rejects.toMatchObject({ name: 'AbortError' });
    expect(proxy.log).toHaveLength(1);
    expect(peer.requests).toEqual([]);
  });

  it('loses the answer to what the peer has done', async () => {
    proxy.next({ kind: 'lose' });
    await expect(ask(proxy.url, { body: payload })).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect(digestOf(received)).toBe(digestOf(payload));
    expect(peer.requests[0]?.status).toBe(200);
  });

  it('refuses connections for a while, and takes them again at the same address', async () => {
    proxy.next({ kind: 'refuse', ms: 150 });
    await expect(ask(proxy.url)).rejects.toMatchObject({ code: 'ECONNRESET' });
    await expect(ask(proxy.url)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    await expect
      .poll(() =>
        ask(proxy.url).then(
          ({ status }) => status,
          () => 0,
        ),
      )
      .toBe(200);
  });

  it('happens to the next request that its filter picks, once', async () => {
    proxy.next(
      { kind: 'status', status: 500 },
      ({ method, url }) => method === 'PUT' && url.startsWith('/b'),
    );
    const statuses = [];
    for (const [path, body] of [['/b'], ['/a', payload], ['/b', payload], ['/b', payload]] as const) {
      statuses.push((await ask(proxy.url + path, body ? { body } : {})).status);
    }
    expect(statuses).toEqual([200, 200, 500, 200]);
    expect(proxy.waiting).toBe(0);
  });

  it('is forgotten on request', async () => {
    proxy.next({ kind: 'lose' });
    expect(proxy.waiting).toBe(1);
    proxy.calm();
    expect((await ask(proxy.url)).status).toBe(200);
  });
});

describe('chance', () => {
  const settings = { rate: 0.5, kinds: ['status', 'delay'], maxMs: 3 } as const;

  async function faultsOf(seed: number, paths: readonly string[]): Promise<Map<string, Fault | undefined>> {
    await using chancy = await startFaultProxy(peer.url);
    chancy.random({ seed, ...settings });
    for (const path of paths) await ask(chancy.url + path);
    return new Map(chancy.log.map(({ url, fault }) => [url, fault]));
  }

  const paths = Array.from({ length: 40 }, (_, index) => `/${index}`);

  it('is the same for the same seed, in whatever order requests come', async () => {
    const forth = await faultsOf(7, paths);
    const back = await faultsOf(7, paths.toReversed());
    for (const path of paths) expect(back.get(path)?.kind).toBe(forth.get(path)?.kind);
    const hit = [...forth.values()].filter((fault) => fault !== undefined);
    expect(hit.length).toBeGreaterThan(8);
    expect(hit.length).toBeLessThan(32);
  });

  it('is another for another seed', async () => {
    expect(await faultsOf(1, paths)).not.toEqual(await faultsOf(2, paths));
  });

  it('spares what its filter leaves out, and ends on request', async () => {
    proxy.random({ seed: 1, rate: 1, kinds: ['status'], filter: ({ url }) => url !== '/spared' });
    expect((await ask(`${proxy.url}/spared`)).status).toBe(200);
    expect((await ask(`${proxy.url}/hit`)).status).not.toBe(200);
    proxy.calm();
    expect((await ask(`${proxy.url}/hit`)).status).toBe(200);
  });
});

describe('addresses in an answer', () => {
  it('lead back to the proxy, or to what stands for another peer', async () => {
    const naming = await startServer(() =>
      reply(307, {
        location: `${naming.url}/v2/x`,
        link: [`<${naming.url}/v2/_catalog?last=a>; rel="next"`, '</relative>; rel="next"'],
        'www-authenticate': 'Bearer realm="http://auth.test:99/token",service="x"',
        'x-other': naming.url,
      }),
    );
    const between = await startFaultProxy(naming.url, {
      origins: { 'http://auth.test:99': 'http://127.0.0.1:1' },
    });
    const { headers } = await ask(between.url);
    expect(headers.location).toBe(`${between.url}/v2/x`);
    expect(headers.link).toBe(`<${between.url}/v2/_catalog?last=a>; rel="next", </relative>; rel="next"`);
    expect(headers['www-authenticate']).toBe('Bearer realm="http://127.0.0.1:1/token",service="x"');
    expect(headers['x-other']).toBe(naming.url);
    await between.close();
    await naming.close();
  });

  it('of a peer that builds them from Host get the proxy’s scheme', async () => {
    const certificate = makeCertificate();
    const building = await startServer((exchange) =>
      reply(201, { location: `http://${exchange.headers.host}/upload` }),
    );
    const between = await startFaultProxy(building.url, { tls: certificate });
    const { headers } = await ask(between.url, { ca: certificate.cert });
    expect(headers.location).toBe(`${between.url}/upload`);
    await between.close();
    await building.close();
    certificate.remove();
  });
});

describe('TLS', () => {
  it('is spoken on both sides, and broken below', async () => {
    const certificate = makeCertificate();
    const secure = await startServer(respond, { tls: certificate });
    const between = await startFaultProxy(secure.url, { tls: certificate, ca: certificate.cert });
    const whole = await ask(between.url, { ca: certificate.cert, body: payload });
    expect(digestOf(whole.body)).toBe(digestOf(payload));
    between.next({ kind: 'reset', side: 'response', after: 1000 });
    const broken = await ask(between.url, { ca: certificate.cert });
    expect(broken.error).toBe('ECONNRESET');
    expect(broken.body.length).toBeLessThanOrEqual(1000);
    await between.close();
    await secure.close();
    certificate.remove();
  });
});
