import { describe, expect, it } from 'vitest';
import { reply } from '../../local/server.ts';
import { makeCertificate } from '../../local/tls.ts';
import { afterTest, countingObserver, serve, transportTo } from './support.ts';

const login = { username: 'user', password: 'pass' };
const basicChallenge = { 'www-authenticate': 'Basic realm="registry"' };

const text = async (response: { body: { bytes(limit: number): Promise<Uint8Array> } }) =>
  Buffer.from(await response.body.bytes(1000)).toString();

describe('a redirect', () => {
  it('is followed, and its last address is told', async () => {
    const server = await serve(({ path }) =>
      path === '/a' ? reply(307, { location: 'b?sig=1' }) : reply(200, {}, path),
    );
    const response = await transportTo(server.url).send({ method: 'GET', url: '/a' });
    expect(response.url).toBe(`${server.url}/b?sig=1`);
    expect(await text(response)).toBe('/b');
  });

  it('to another host leaves the credentials behind, and its challenge unanswered', async () => {
    const cdn = await serve(() => reply(401, basicChallenge));
    const registry = await serve(({ basic }) =>
      basic === undefined ? reply(401, basicChallenge) : reply(307, { location: `${cdn.url}/blob` }),
    );
    const transport = transportTo(registry.url, { with: login });
    const observer = countingObserver();
    const headers = { range: 'bytes=5-' };
    const response = await transport.send({ method: 'GET', url: '/blob', headers, observer });
    expect(response.status).toBe(401);
    expect(registry.requests.at(-1)?.headers.authorization).toBeDefined();
    expect(cdn.requests).toHaveLength(1);
    expect(cdn.requests[0]?.headers).not.toHaveProperty('authorization');
    expect(cdn.requests[0]?.headers.range).toBe('bytes=5-');
    expect(observer.requests).toBe(3);
  });

  it('to another port of the same host is one to another host', async () => {
    const other = await serve(() => reply(200));
    const registry = await serve(({ basic }) =>
      basic === undefined ? reply(401, basicChallenge) : reply(302, { location: other.url }),
    );
    await transportTo(registry.url, { with: login }).send({ method: 'GET', url: '/' });
    expect(other.requests[0]?.headers).not.toHaveProperty('authorization');
  });

  it('is followed five times and no more', async () => {
    const server = await serve(({ path }) => reply(302, { location: `${path}x` }));
    await expect(transportTo(server.url).send({ method: 'GET', url: '/' })).rejects.toMatchObject({
      code: 'ERR_REDIRECT',
      retryable: false,
    });
    expect(server.requests).toHaveLength(6);
  });

  it('of anything but a GET or HEAD is an answer', async () => {
    const server = await serve(() => reply(307, { location: '/b' }));
    const response = await transportTo(server.url).send({ method: 'PUT', url: '/a', body: Buffer.from('x') });
    expect(response.status).toBe(307);
    expect(server.requests).toHaveLength(1);
  });

  it.each(['ftp://127.0.0.1/', 'file:///etc/passwd', 'http://', 'javascript:1'])(
    'to %s is refused',
    async (location) => {
      const server = await serve(() => reply(307, { location }));
      await expect(transportTo(server.url).send({ method: 'GET', url: '/a' })).rejects.toMatchObject({
        code: 'ERR_REDIRECT',
      });
    },
  );

  it('from TLS to plain HTTP is refused', async () => {
    const tls = makeCertificate();
    afterTest(() => tls.remove());
    const plain = await serve(() => reply(200));
    const server = await serve(() => reply(307, { location: `${plain.url}/blob` }), { tls });
    const send = transportTo(server.url, { with: { ca: tls.caFile } }).send({ method: 'GET', url: '/a' });
    await expect(send).rejects.toMatchObject({ code: 'ERR_REDIRECT' });
    expect(plain.requests).toHaveLength(0);
  });

  it('never shows a signed address in its error', async () => {
    const server = await serve(({ path }) => reply(302, { location: `${path}x?sig=canary` }));
    await expect(transportTo(server.url).send({ method: 'GET', url: '/' })).rejects.toMatchObject({
      message: expect.not.stringContaining('canary'),
    });
  });

  it('is asked for anew when its address fails', async () => {
    let signatures = 0;
    const cdn = await serve(({ path }) => (path === '/1' ? reply(503) : reply(200, {}, 'blob')));
    const registry = await serve(() => reply(307, { location: `${cdn.url}/${++signatures}` }));
    const response = await transportTo(registry.url).send({ method: 'GET', url: '/blob' });
    expect(await text(response)).toBe('blob');
    expect(registry.requests).toHaveLength(2);
  });
});
