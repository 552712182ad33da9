import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { reply } from '../../local/server.ts';
import { type LoopbackCertificate, makeCertificate } from '../../local/tls.ts';
import { afterTest, closedServer, serve, transportTo } from './support.ts';

function certificate(): LoopbackCertificate {
  const tls = makeCertificate();
  afterTest(() => tls.remove());
  return tls;
}

const root = { method: 'GET', url: '/v2/' } as const;

async function listen(server: Server): Promise<string> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  afterTest(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

describe('TLS', () => {
  it('takes no certificate that nobody vouches for, and says so without trying again', async () => {
    const server = await serve(() => reply(200), { tls: certificate() });
    await expect(transportTo(server.url).send(root)).rejects.toMatchObject({
      code: 'ERR_TLS',
      retryable: false,
    });
  });

  it('takes the certificate authority of the settings', async () => {
    const tls = certificate();
    const server = await serve(() => reply(200), { tls });
    expect((await transportTo(server.url, { with: { ca: tls.caFile } }).send(root)).status).toBe(200);
  });

  it('takes any certificate where the settings say so', async () => {
    const server = await serve(() => reply(200), { tls: certificate() });
    expect((await transportTo(server.url, { with: { skipTlsVerify: true } }).send(root)).status).toBe(200);
  });

  it('refuses a file that holds no certificate', () => {
    expect(() => transportTo('https://x.example', { with: { ca: '/does/not/exist' } })).toThrow(
      expect.objectContaining({ code: 'ERR_TLS' }),
    );
  });

  it('carries large bodies both ways', async () => {
    const tls = certificate();
    const server = await serve(async (exchange) => reply(200, {}, (await exchange.bytes(1 << 24)) ?? ''), {
      tls,
    });
    const body = Buffer.alloc(5_000_000, 'ab');
    const transport = transportTo(server.url, { with: { ca: tls.caFile } });
    const response = await transport.send({
      method: 'PUT',
      url: '/x',
      body: [body.subarray(0, 99), body.subarray(99)],
    });
    expect(Buffer.compare(await response.body.bytes(1 << 24), body)).toBe(0);
  });
});

describe('plain HTTP in place of TLS', () => {
  it('is taken where the settings allow it and the host speaks no TLS, for good', async () => {
    const server = await serve(() => reply(200));
    const address = server.url.replace('http:', 'https:');
    const transport = transportTo(address, { with: { allowHttpFallback: true } });
    expect((await transport.send(root)).status).toBe(200);
    expect(transport.endpoint()).toBe(server.url);
    expect((await transport.send(root)).status).toBe(200);
  });

  it('is not taken by itself', async () => {
    const server = await serve(() => reply(200));
    const send = transportTo(server.url.replace('http:', 'https:')).send(root);
    await expect(send).rejects.toMatchObject({ code: 'ERR_TLS' });
    expect(server.requests).toHaveLength(0);
  });

  it('is not taken once TLS has worked', async () => {
    const server = await serve(() => reply(200), { tls: certificate() });
    const transport = transportTo(server.url, {
      retries: 0,
      with: { allowHttpFallback: true, skipTlsVerify: true },
    });
    await transport.send(root);
    await server.close();
    await expect(transport.send(root)).rejects.toMatchObject({ code: 'ERR_CONNECTION' });
    expect(transport.endpoint()).toBe(server.url);
  });
});

/** A server whose bodies come as one byte each few milliseconds, as long as `more` says so. */
function dripping(status: number, more: () => boolean): Promise<string> {
  const server = createServer((request, response) => {
    response.writeHead(status).write(' ');
    const timer = setInterval(() => (more() ? response.write(' ') : response.end()), 5);
    request.socket.once('close', () => clearInterval(timer));
  });
  return listen(server);
}

describe('time', () => {
  it('runs out where no answer comes', async () => {
    const server = await serve(() => new Promise(() => {}));
    const transport = transportTo(server.url, { retries: 1, timeouts: { headersMs: 100 } });
    await expect(transport.send(root)).rejects.toMatchObject({ code: 'ERR_TIMEOUT', retryable: true });
    expect(server.requests).toHaveLength(2);
  });

  it('runs out where a body stalls', async () => {
    const url = await listen(
      createServer((_request, response) => void response.writeHead(200).write('begin')),
    );
    const response = await transportTo(url, { timeouts: { bodyMs: 100 } }).send(root);
    await expect(response.body.bytes(1000)).rejects.toMatchObject({ code: 'ERR_TIMEOUT', retryable: true });
  });

  it.each([
    [200, 'the error', { code: 'ERR_TIMEOUT', retryable: true }],
    [403, 'the answer, without words', { status: 403, faults: [] }],
  ])(
    'runs out where a body with %i that is read as a whole drips, and %s is told',
    async (status, _, told) => {
      let drops = 0;
      const url = await dripping(status, () => {
        drops += 1;
        return true;
      });
      const transport = transportTo(url, { retries: 0, timeouts: { wholeMs: 100 } });
      const answer = transport.send({ ...root, limit: 1000 }).catch((error: unknown) => error);
      expect(await answer).toMatchObject(told);
      expect(drops).toBeGreaterThan(1);
    },
  );

  it('does not run out where a blob drips', async () => {
    let left = 40;
    const url = await dripping(200, () => {
      left -= 1;
      return left > 0;
    });
    const { body } = await transportTo(url, { timeouts: { wholeMs: 100 } }).send(root);
    expect((await body.bytes(1000)).length).toBe(40);
  });

  it('does not run on with interim answers', async () => {
    const url = await listen(
      createServer((request, response) => {
        const timer = setInterval(() => response.writeEarlyHints({ link: '</x>' }), 5);
        request.socket.once('close', () => clearInterval(timer));
      }),
    );
    const send = transportTo(url, { retries: 0, timeouts: { headersMs: 1000 } }).send(root);
    await expect(send).rejects.toMatchObject({ code: 'ERR_PROTOCOL', retryable: false });
  });

  it('is there for a few interim answers', async () => {
    const url = await listen(
      createServer((_request, response) => {
        for (let count = 0; count < 10; count += 1) response.writeEarlyHints({ link: '</x>' });
        response.end('{}');
      }),
    );
    expect((await transportTo(url).send(root)).status).toBe(200);
  });

  it('does not run out while it is the reader who waits', async () => {
    const blob = Buffer.alloc(3_000_000, 'x');
    const stalling = await listen(
      createServer((_request, response) => void response.writeHead(200).write('begin')),
    );
    const server = await serve(() => reply(200, {}, blob));
    const transport = transportTo(server.url, { timeouts: { bodyMs: 100 } });
    const { body } = await transport.send(root);
    let size = (await body.next()).value?.length ?? 0;
    // Another body that runs out of time measures the time.
    const other = await transport.send({ method: 'GET', url: stalling });
    await expect(other.body.bytes(1000)).rejects.toMatchObject({ code: 'ERR_TIMEOUT' });
    for await (const piece of body) size += piece.length;
    expect(size).toBe(blob.length);
  });
});

describe('a connection', () => {
  it('is kept after a HEAD', async () => {
    const sockets = new Set<Socket>();
    const url = await listen(
      createServer((request, response) => {
        sockets.add(request.socket);
        response.writeHead(200, { 'content-length': 10 }).end();
      }),
    );
    const transport = transportTo(url);
    for (let n = 0; n < 5; n++) (await transport.send({ method: 'HEAD', url: '/' })).body.dump();
    // A second one may be opened while the first is still being put back.
    expect(sockets.size).toBeLessThanOrEqual(2);
  });

  it('is one of a bounded number to a host', async () => {
    const sockets = new Set<Socket>();
    const url = await listen(
      createServer((request, response) => {
        sockets.add(request.socket);
        setImmediate(() => response.end('x'));
      }),
    );
    const transport = transportTo(url, { socketsPerHost: 3 });
    await Promise.all(Array.from({ length: 30 }, () => transport.send({ ...root, limit: 10 })));
    expect(sockets.size).toBe(3);
  });

  it('that nobody reads from any more is closed', async () => {
    const closed = Promise.withResolvers<void>();
    const url = await listen(
      createServer((_request, response) => {
        response.on('close', closed.resolve);
        response.writeHead(200).write(Buffer.alloc(100));
      }),
    );
    for await (const _piece of (await transportTo(url).send(root)).body) break;
    await closed.promise;
  });

  it('that is closed here ends what is under way, for good', async () => {
    const server = await serve(() => new Promise(() => {}));
    const transport = transportTo(server.url);
    server.intercept = () => void transport.close();
    await expect(transport.send(root)).rejects.toMatchObject({ code: 'ERR_CONNECTION', retryable: false });
    expect(server.requests).toHaveLength(1);
  });

  it('that breaks in a body breaks the body, after what came before', async () => {
    const server = await serve(() => reply(200, {}, Buffer.alloc(1000)));
    server.intercept = () => ({ kind: 'cut', after: 400 });
    const { body } = await transportTo(server.url).send(root);
    let size = 0;
    const read = async () => {
      for await (const piece of body) size += piece.length;
    };
    await expect(read()).rejects.toMatchObject({ code: 'ERR_CONNECTION', retryable: true });
    expect(size).toBe(400);
  });

  it('ends with the reason of the signal, also in a body', async () => {
    const url = await listen(
      createServer((_request, response) => void response.writeHead(200).write('begin')),
    );
    const controller = new AbortController();
    const { body } = await transportTo(url).send({ ...root, signal: controller.signal });
    await body.next();
    const reason = new Error('enough');
    controller.abort(reason);
    await expect(body.next()).rejects.toBe(reason);
  });

  it('that is answered with what is no HTTP is an error of the protocol', async () => {
    const server = createServer(({ socket }) => void socket.end('SSH-2.0-OpenSSH_9.6\r\n'));
    await expect(transportTo(await listen(server)).send(root)).rejects.toMatchObject({
      code: 'ERR_PROTOCOL',
    });
  });
});

describe('an answer', () => {
  it('is never asked for compressed, nor decompressed', async () => {
    const zipped = gzipSync(Buffer.alloc(100_000));
    const server = await serve(() => reply(200, { 'content-encoding': 'gzip' }, zipped));
    const response = await transportTo(server.url).send(root);
    expect(server.requests[0]?.headers['accept-encoding']).toBe('identity');
    expect(Buffer.compare(await response.body.bytes(100_000), zipped)).toBe(0);
  });

  it('that is larger than its limit is refused', async () => {
    const server = await serve(() => reply(200, {}, Buffer.alloc(2000)));
    await expect(transportTo(server.url).send({ ...root, limit: 1999 })).rejects.toMatchObject({
      code: 'ERR_TOO_LARGE',
      status: 200,
    });
    expect((await transportTo(server.url).send({ ...root, limit: 2000 })).status).toBe(200);
  });

  it('that is an error is read no further than is needed', async () => {
    const server = await serve(() => reply(404, {}, Buffer.alloc(5_000_000)));
    const response = await transportTo(server.url).send(root);
    expect((await response.body.bytes(1_000_000)).length).toBe(64 * 1024);
  });

  it('with a head that never ends is refused', async () => {
    const server = createServer(({ socket }) => {
      socket.write(`HTTP/1.1 200 OK\r\n${'x-filler: yyyyyyyyyyyyyyyyyyyy\r\n'.repeat(5000)}`);
    });
    await expect(transportTo(await listen(server)).send(root)).rejects.toMatchObject({
      code: 'ERR_PROTOCOL',
    });
  });
});

describe('a proxy', () => {
  /** Sets a variable of the environment for this test. */
  function setVariable(name: string, value: string): void {
    const before = process.env[name];
    process.env[name] = value;
    afterTest(() => {
      if (before === undefined) delete process.env[name];
      else process.env[name] = before;
    });
  }

  /** A proxy that connects every name to one address. */
  async function tunnelTo(address: string) {
    const asked: string[] = [];
    const server = createServer((request, response) => {
      asked.push(`${request.method} ${request.url}`);
      response.end('proxied');
    });
    server.on('connect', (request, socket) => {
      asked.push(`CONNECT ${request.url}`);
      const { hostname, port } = new URL(address);
      const onward = connect(Number(port), hostname, () => socket.write('HTTP/1.1 200 OK\r\n\r\n'));
      onward.on('error', () => socket.destroy());
      socket.on('error', () => onward.destroy());
      onward.pipe(socket).pipe(onward);
    });
    return { url: await listen(server), asked };
  }

  it('of the environment is used, with the trust of the registry', async () => {
    const server = await serve(() => reply(200), { tls: certificate() });
    const proxy = await tunnelTo(server.url);
    setVariable('HTTPS_PROXY', proxy.url);
    const trusting = transportTo('https://registry.example', { with: { skipTlsVerify: true } });
    expect((await trusting.send(root)).status).toBe(200);
    expect(proxy.asked).toEqual(['CONNECT registry.example:443']);
    await expect(transportTo('https://registry.example').send(root)).rejects.toMatchObject({
      code: 'ERR_TLS',
    });
  });

  it('takes plain requests too', async () => {
    const proxy = await tunnelTo('http://127.0.0.1:1');
    setVariable('HTTP_PROXY', proxy.url);
    expect((await transportTo('http://registry.example').send(root)).status).toBe(200);
    expect(proxy.asked).toEqual(['GET http://registry.example/v2/']);
  });

  it('is not asked for what is on this machine, nor for what NO_PROXY names', async () => {
    const server = await serve(() => reply(200));
    const proxy = await tunnelTo(server.url);
    setVariable('HTTP_PROXY', proxy.url);
    expect((await transportTo(server.url).send(root)).status).toBe(200);
    setVariable('NO_PROXY', 'registry.invalid');
    const send = transportTo('http://registry.invalid', { retries: 0 }).send(root);
    await expect(send).rejects.toMatchObject({ code: 'ERR_CONNECTION' });
    expect(proxy.asked).toEqual([]);
  });

  it('that is not there is an error of the connection', async () => {
    setVariable('HTTPS_PROXY', (await closedServer()).url);
    const send = transportTo('https://registry.example', { retries: 1 }).send(root);
    await expect(send).rejects.toMatchObject({ code: 'ERR_CONNECTION' });
  });
});
