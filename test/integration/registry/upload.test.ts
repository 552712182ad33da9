import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { OutgoingHttpHeaders } from 'node:http';
import { type AddressInfo, createServer } from 'node:net';
import { describe, expect, it } from 'vitest';
import { digestOf } from '../../../lib/oci/digest.ts';
import { createRegistry } from '../../../lib/registry/registry.ts';
import { type Exchange, type Respond, reply, replyJson } from '../../local/server.ts';
import { makeCertificate } from '../../local/tls.ts';
import { afterTest, fakeClock, serve, settingsFor } from './support.ts';

const session = '/v2/a/b/blobs/uploads/1';

/** A registry that keeps one upload, with a new Location after each chunk. */
function uploads() {
  const received: Buffer[] = [];
  let moves = 0;
  const location = () => `${session}?_state=canary%2B${moves}&x`;
  const size = () => received.reduce((sum, piece) => sum + piece.length, 0);
  const respond: Respond = async (exchange: Exchange) => {
    const body = (await exchange.bytes(1 << 26)) ?? Buffer.alloc(0);
    if (exchange.method === 'POST') return reply(202, { location: location(), 'oci-chunk-min-length': 5 });
    if (exchange.method === 'DELETE') return reply(204);
    const headers = { location: location(), range: `0-${Math.max(0, size() - 1)}` };
    if (exchange.method === 'GET') return reply(204, headers);
    received.push(body);
    moves++;
    if (exchange.method === 'PUT') return reply(201);
    return reply(202, { location: location(), range: `0-${size() - 1}` });
  };
  return { respond, received, location };
}

async function repositoryWith(respond: Respond, chunkSize?: number) {
  const server = await serve(respond);
  const settings = settingsFor(server.url, chunkSize === undefined ? {} : { chunkSize });
  const registry = createRegistry({ settings, clock: fakeClock(), retries: 1 });
  afterTest(() => registry.close());
  return { server, repository: registry.repository('a/b') };
}

const pieces = (...texts: string[]) => texts.map((text) => Buffer.from(text));
const digest = digestOf(Buffer.from('abcdefghi'));

describe('an upload', () => {
  it('goes chunk by chunk to the newest Location, and is closed with the last bytes', async () => {
    const registry = uploads();
    const { server, repository } = await repositoryWith(registry.respond);
    const upload = await repository.startUpload();
    expect(upload).toMatchObject({ offset: 0, minChunk: 5, location: `${server.url}${registry.location()}` });
    await upload.append(pieces('ab', 'cde'));
    expect(upload).toMatchObject({ offset: 5, location: `${server.url}${registry.location()}` });
    await upload.append(pieces('fg'));
    await upload.commit(digest, pieces('h', 'i'));
    const shown = server.requests.map(({ method, url, headers }) => [
      method,
      url,
      headers['content-length'],
      headers['content-range'],
    ]);
    const to = (n: number) => `${session}?_state=canary%2B${n}&x`;
    expect(shown).toEqual([
      ['POST', '/v2/a/b/blobs/uploads/', '0', undefined],
      ['PATCH', to(0), '5', '0-4'],
      ['PATCH', to(1), '2', '5-6'],
      ['PUT', `${to(2)}&digest=${encodeURIComponent(digest)}`, '2', '7-8'],
    ]);
    expect(Buffer.concat(registry.received).toString()).toBe('abcdefghi');
    expect(server.requests[1]?.headers).not.toHaveProperty('transfer-encoding');
  });

  it.each([
    ['a 500', { kind: 'answer', status: 500 }],
    ['a 503 that names a time', { kind: 'answer', status: 503, headers: { 'retry-after': '30' } }],
    ['a connection that broke', { kind: 'reset' }],
    ['an answer that was lost', { kind: 'lose' }],
  ] as const)('is opened again after %s', async (_what, fault) => {
    const { server, repository } = await repositoryWith(uploads().respond);
    server.intercept = () => (server.requests.length === 1 ? fault : undefined);
    expect(await repository.startUpload()).toMatchObject({ offset: 0 });
    expect(server.requests.map(({ method }) => method)).toEqual(['POST', 'POST']);
  });

  it('of nothing is one empty PUT', async () => {
    const { server, repository } = await repositoryWith(uploads().respond);
    const upload = await repository.startUpload();
    await upload.append([]);
    await upload.commit(digest, []);
    expect(server.requests.map(({ method, headers }) => [method, headers['content-length']])).toEqual([
      ['POST', '0'],
      ['PUT', '0'],
    ]);
  });

  it('sends last bytes that are too many for one request before it is closed', async () => {
    const { server, repository } = await repositoryWith(uploads().respond, 4);
    expect(repository.maxChunk).toBe(4);
    await (await repository.startUpload()).commit(digest, pieces('abc', 'def'));
    expect(server.requests.map(({ method }) => method)).toEqual(['POST', 'PATCH', 'PUT']);
  });

  it('goes on in another process from its Location and what the registry says', async () => {
    const registry = uploads();
    const { server, repository } = await repositoryWith(registry.respond);
    const upload = await repository.startUpload();
    await upload.append(pieces('abc'));
    const again = repository.resumeUpload(`${server.url}${session}`, 1);
    expect(await again.refresh()).toBe(true);
    expect(again).toMatchObject({ offset: 3, location: `${server.url}${registry.location()}` });
  });

  it('is new where the registry tells the range 0-0', async () => {
    const { server, repository } = await repositoryWith(() => reply(204, { range: '0-0' }));
    const upload = repository.resumeUpload(`${server.url}/u`, 9);
    expect(await upload.refresh()).toBe(true);
    expect(upload.offset).toBe(0);
  });

  it.each([
    ['404', () => reply(404)],
    ['a code of the specification', () => replyJson(400, { errors: [{ code: 'BLOB_UPLOAD_INVALID' }] })],
    ['405', () => reply(405)],
    ['no range', () => reply(204)],
  ])('is gone where the registry answers with %s', async (_what, respond) => {
    const { server, repository } = await repositoryWith(respond);
    expect(await repository.resumeUpload(`${server.url}/u`, 5).refresh()).toBe(false);
  });

  it('is not gone where the registry fails', async () => {
    const { server, repository } = await repositoryWith(() => reply(503));
    await expect(repository.resumeUpload(`${server.url}/u`, 5).refresh()).rejects.toMatchObject({
      code: 'ERR_SERVER',
    });
  });

  it('is cancelled in silence, also where it is gone', async () => {
    for (const status of [204, 404]) {
      const { server, repository } = await repositoryWith(() => reply(status));
      await repository.resumeUpload(`${server.url}/u`, 5).cancel();
      expect(server.requests[0]?.method).toBe('DELETE');
    }
  });
});

describe('a chunk', () => {
  const lost = { code: 'ERR_UPLOAD_LOST', retryable: true };
  const appendTo = async (respond: Respond) => {
    const { server, repository } = await repositoryWith(respond);
    const upload = repository.resumeUpload(`${server.url}/u`, 5);
    return { server, upload, append: upload.append(pieces('abc')) };
  };

  it.each([
    ['404', () => reply(404)],
    ['416', () => reply(416)],
    ['400 BLOB_UPLOAD_INVALID', () => replyJson(400, { errors: [{ code: 'BLOB_UPLOAD_INVALID' }] })],
    ['500', () => reply(500)],
    ['no answer', () => undefined],
    ['fewer bytes than were sent', () => reply(202, { range: '0-6' })],
  ])('answered with %s is lost with its session, and never repeated', async (_what, respond) => {
    const { server, upload, append } = await appendTo(respond);
    await expect(append).rejects.toMatchObject(lost);
    expect(server.requests).toHaveLength(1);
    expect(upload.offset).toBe(5);
  });

  it.each([
    ['416', (headers: OutgoingHttpHeaders) => reply(416, headers)],
    ['fewer bytes than were sent', (headers: OutgoingHttpHeaders) => reply(202, headers)],
  ])('answered with %s is gone on from at the newest Location', async (_what, answer) => {
    const moved = { location: '/u?_state=2', range: '0-6' };
    const { server, upload, append } = await appendTo(({ method, url }) => {
      if (method === 'PATCH') return answer(moved);
      return url.href.endsWith(moved.location) ? reply(204, moved) : reply(404);
    });
    await expect(append).rejects.toMatchObject(lost);
    expect(await upload.refresh()).toBe(true);
    expect(upload).toMatchObject({ offset: 7, location: `${server.url}${moved.location}` });
  });

  it.each(['ftp://127.0.0.1/', 'http://['])(
    'refused with the Location %s stays where its session was',
    async (location) => {
      const { server, upload, append } = await appendTo(() => reply(416, { location }));
      await expect(append).rejects.toMatchObject(lost);
      expect(upload.location).toBe(`${server.url}/u`);
    },
  );

  it.each([
    [401, 'ERR_UNAUTHORIZED'],
    [403, 'ERR_FORBIDDEN'],
    [413, 'ERR_TOO_LARGE'],
    [429, 'ERR_RATE_LIMITED'],
  ])('refused with %i costs no session', async (status, code) => {
    await expect((await appendTo(() => reply(status))).append).rejects.toMatchObject({ code });
  });

  it('that never went out is not lost', async () => {
    const { server, repository } = await repositoryWith(() => reply(202));
    await server.close();
    const append = repository.resumeUpload(`${server.url}/u`, 5).append(pieces('abc'));
    await expect(append).rejects.toMatchObject({ code: 'ERR_CONNECTION' });
  });

  it('that breaks off in the middle is lost', async () => {
    const { server, repository } = await repositoryWith(async (exchange) => {
      for await (const _piece of exchange.body()) return undefined;
      return reply(202);
    });
    const upload = repository.resumeUpload(`${server.url}/u`, 5);
    await expect(upload.append([Buffer.alloc(8_000_000)])).rejects.toMatchObject(lost);
  });

  it('is stopped with the reason of the signal', async () => {
    const controller = new AbortController();
    const reason = new Error('enough');
    const { server, repository } = await repositoryWith(() => {
      controller.abort(reason);
      return new Promise(() => {});
    });
    const append = repository
      .resumeUpload(`${server.url}/u`, 5)
      .append(pieces('abc'), { signal: controller.signal });
    await expect(append).rejects.toBe(reason);
  });

  it('of many pieces arrives whole', async () => {
    const registry = uploads();
    const { repository } = await repositoryWith(registry.respond);
    const chunk = Array.from({ length: 500 }, (_, n) => Buffer.alloc(1 + ((n * 977) % 60_000), n));
    const upload = await repository.startUpload();
    await upload.append(chunk);
    await upload.append(chunk);
    expect(Buffer.concat(registry.received).equals(Buffer.concat([...chunk, ...chunk]))).toBe(true);
  });
});

describe('closing an upload', () => {
  it.each([
    [400, 'DIGEST_INVALID', 'ERR_DIGEST_MISMATCH'],
    [404, 'BLOB_UPLOAD_UNKNOWN', 'ERR_UPLOAD_LOST'],
    [500, 'UNKNOWN', 'ERR_UPLOAD_LOST'],
    [403, 'DENIED', 'ERR_FORBIDDEN'],
    [413, 'SIZE_INVALID', 'ERR_TOO_LARGE'],
  ])('fails for %i %s with %s', async (status, fault, code) => {
    const { server, repository } = await repositoryWith(() =>
      replyJson(status, { errors: [{ code: fault }] }),
    );
    const commit = repository.resumeUpload(`${server.url}/u?_state=canary`, 5).commit(digest, []);
    await expect(commit).rejects.toMatchObject({ code, message: expect.not.stringContaining('canary') });
  });

  it('fails where the registry stored something else', async () => {
    const other = digestOf(Buffer.from('other'));
    const { server, repository } = await repositoryWith(() => reply(201, { 'docker-content-digest': other }));
    const commit = repository.resumeUpload(`${server.url}/u`, 5).commit(digest, []);
    await expect(commit).rejects.toMatchObject({ code: 'ERR_DIGEST_MISMATCH' });
  });
});

describe('the Location of an upload', () => {
  it('may be on another host, which gets no credentials', async () => {
    const storage = uploads();
    const other = await serve(storage.respond);
    const server = await serve(({ basic }) =>
      basic === undefined
        ? reply(401, { 'www-authenticate': 'Basic realm=x' })
        : reply(202, { location: `${other.url}${session}` }),
    );
    const settings = settingsFor(server.url, { username: 'u', password: 'p' });
    const registry = createRegistry({ settings, clock: fakeClock() });
    afterTest(() => registry.close());
    const upload = await registry.repository('a/b').startUpload();
    await upload.append(pieces('abc'));
    await upload.commit(digest, []);
    expect(other.requests.map(({ method }) => method)).toEqual(['PATCH', 'PUT']);
    for (const { headers } of other.requests) expect(headers).not.toHaveProperty('authorization');
  });

  it.each(['http://', 'ftp://127.0.0.1/'])('such as %s is refused', async (location) => {
    const { repository } = await repositoryWith(() => reply(202, { location }));
    await expect(repository.startUpload()).rejects.toThrow();
  });

  it('that is missing is an error of the protocol', async () => {
    const { repository } = await repositoryWith(() => reply(202));
    await expect(repository.startUpload()).rejects.toMatchObject({ code: 'ERR_PROTOCOL' });
  });
});

describe('a registry that answers a chunk before it has come', () => {
  it.each([
    ['202 Accepted', 'transfer-encoding: chunked\r\n\r\n', 'ERR_UPLOAD_LOST'],
    ['307 Temporary Redirect', 'transfer-encoding: chunked\r\n\r\n', 'ERR_REDIRECT'],
    ['413 Content Too Large', 'content-length: 2\r\n\r\n{}', 'ERR_TOO_LARGE'],
  ])('with %s gets nothing that its memory is used for since', async (status, rest, code) => {
    const goOn = Promise.withResolvers<void>();
    const closed = Promise.withResolvers<Buffer>();
    const server = createServer((socket) => {
      const received: Buffer[] = [];
      socket.once('data', (head: Buffer) => {
        received.push(head);
        socket.write(`HTTP/1.1 ${status}\r\nlocation: ftp://elsewhere/\r\n${rest}`);
        socket.pause();
        goOn.promise.then(() => socket.resume());
        socket.on('data', (more: Buffer) => received.push(more));
      });
      socket.on('error', () => {});
      socket.on('close', () => closed.resolve(Buffer.concat(received)));
    });
    const listening = Promise.withResolvers<void>();
    server.listen(0, '127.0.0.1', listening.resolve);
    await listening.promise;
    afterTest(() => server.close());
    const settings = settingsFor(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    const registry = createRegistry({ settings, clock: fakeClock(), retries: 0 });
    afterTest(() => registry.close());
    const upload = registry.repository('a/b').resumeUpload(`${settings.endpoint}${session}`, 0);
    const chunk = Array.from({ length: 16 }, () => Buffer.alloc(1 << 20, 1));
    await expect(upload.append(chunk)).rejects.toMatchObject({ code });
    for (const piece of chunk) piece.fill(2);
    goOn.resolve();
    expect((await closed.promise).includes(2)).toBe(false);
    expect(upload.offset).toBe(0);
  });
});

describe('a registry in another process that answers as soon as it has a chunk', () => {
  it('gets each chunk once, over TLS', async () => {
    const certificate = makeCertificate();
    afterTest(() => certificate.remove());
    const taker = spawn(process.execPath, ['--input-type=module', '--eval', quickTaker], {
      env: { CERT: certificate.caFile, KEY: certificate.key },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    afterTest(() => taker.kill());
    const [port] = (await once(taker.stdout, 'data')) as [Buffer];
    const endpoint = `https://127.0.0.1:${port}`;
    const settings = settingsFor(endpoint, { ca: certificate.caFile });
    const registry = createRegistry({ settings, clock: fakeClock(), retries: 0 });
    afterTest(() => registry.close());
    const upload = registry.repository('a/b').resumeUpload(`${endpoint}${session}`, 0);
    const chunk = [Buffer.alloc(1 << 20), Buffer.alloc(1 << 20)];
    for (let count = 1; count <= 60; count += 1) {
      await upload.append(chunk);
      expect(upload.offset).toBe(count * (2 << 20));
    }
  });
});

const quickTaker = `
  import { readFileSync } from 'node:fs';
  import { createServer } from 'node:https';
  const server = createServer({ cert: readFileSync(process.env.CERT), key: process.env.KEY }, (request, response) => {
    let left = Number(request.headers['content-length']);
    request.on('data', ({ length }) => {
      left -= length;
      if (left === 0) response.writeHead(202, { location: request.url }).end();
    });
  });
  server.listen(0, '127.0.0.1', () => process.stdout.write(String(server.address().port)));
`;
