import { describe, expect, it } from 'vitest';
import type { Credential, CredentialRequest } from '../../../lib/registry/token.ts';
import { type Exchange, type LocalServer, reply, replyJson } from '../../local/server.ts';
import { makeCertificate } from '../../local/tls.ts';
import { afterTest, countingObserver, fakeClock, serve, transportTo } from './support.ts';

const login = { username: 'user', password: 'p:äss' };
const scopes = ['repository:a/b:pull,push'];

interface Service {
  /** The challenge of the registry. @default Bearer with the realm of the same server and the scope of a pull */
  readonly challenge?: (server: LocalServer) => string;
  /** Takes any token that the service gave. */
  readonly accepts?: (token: string) => boolean;
  readonly give?: (
    exchange: Exchange,
    number: number,
  ) => ReturnType<typeof reply> | Promise<ReturnType<typeof reply>>;
}

/** A registry with a token service at `/token`. */
async function registryWith({ challenge, accepts, give }: Service = {}) {
  const given: string[] = [];
  const server = await serve(async (exchange) => {
    if (exchange.path === '/token') {
      if (give !== undefined) return give(exchange, given.push('') - 1);
      given.push(`token${given.length}`);
      return replyJson(200, { token: given.at(-1), expires_in: 300 });
    }
    const token = exchange.bearer;
    if (token !== undefined && (accepts?.(token) ?? true)) return reply(200, {}, 'in');
    const value =
      challenge?.(server) ?? `Bearer realm="${server.url}/token",service="svc",scope="repository:a/b:pull"`;
    return reply(401, { 'www-authenticate': value });
  });
  const asked = () => server.requests.filter(({ url }) => url.startsWith('/token'));
  return { server, asked };
}

describe('the token service', () => {
  it('is asked once, with the scopes of the request and the login', async () => {
    const { server, asked } = await registryWith();
    const transport = transportTo(server.url, { with: login });
    const observer = countingObserver();
    for (let n = 0; n < 3; n++) {
      expect((await transport.send({ method: 'GET', url: '/v2/', scopes, observer })).status).toBe(200);
    }
    // A challenge, a token, and three requests that are let in: the last two without being challenged.
    expect(server.requests).toHaveLength(5);
    expect(observer.requests).toBe(5);
    const [request] = asked();
    const query = new URL(request?.url ?? '', server.url).searchParams;
    expect(query.getAll('scope')).toEqual(['repository:a/b:pull,push']);
    expect(query.get('service')).toBe('svc');
    expect(request?.headers.authorization).toBe(`Basic ${Buffer.from('user:p:äss').toString('base64')}`);
  });

  it('is asked without a login where there is none', async () => {
    const { server, asked } = await registryWith();
    await transportTo(server.url).send({ method: 'GET', url: '/v2/', scopes });
    expect(asked()[0]?.headers).not.toHaveProperty('authorization');
  });

  it('is asked for what the challenge adds', async () => {
    const challenge = (server: LocalServer) =>
      `Bearer realm="${server.url}/token",service="svc",scope="repository:a/b:metadata_read registry:catalog:*"`;
    const { server, asked } = await registryWith({ challenge });
    await transportTo(server.url).send({ method: 'GET', url: '/v2/', scopes });
    const query = new URL(asked()[0]?.url ?? '', server.url).searchParams;
    expect(query.getAll('scope')).toEqual(['registry:catalog:*', 'repository:a/b:metadata_read,pull,push']);
  });

  it('is asked once by all who need the same token at the same time', async () => {
    const { server, asked } = await registryWith();
    const transport = transportTo(server.url);
    const request = { method: 'GET', url: '/v2/', scopes } as const;
    await Promise.all(Array.from({ length: 20 }, () => transport.send(request)));
    expect(asked()).toHaveLength(1);
  });

  it('is asked again before a token ends, and for other scopes', async () => {
    const clock = fakeClock();
    const { server, asked } = await registryWith();
    const transport = transportTo(server.url, { clock });
    const ask = (path: string) =>
      transport.send({ method: 'GET', url: '/v2/', scopes: [`repository:${path}:pull`] });
    await ask('a/b');
    clock.advance(200_000);
    await ask('a/b');
    expect(asked()).toHaveLength(1);
    clock.advance(60_000);
    await ask('a/b');
    expect(asked()).toHaveLength(2);
    await ask('c');
    expect(asked()).toHaveLength(3);
  });

  it.each([
    ['a minute', { token: 't' }, 40_000, 20_000],
    ['a minute, also beside an empty token,', { token: '', access_token: 't' }, 40_000, 20_000],
    [
      'what its JWT says',
      { access_token: `e.${Buffer.from('{"iat":0,"exp":4500}').toString('base64url')}.s` },
      3_500_000,
      200_000,
    ],
  ])('that tells no lifetime means %s', async (_what, answer, before, after) => {
    const clock = fakeClock(0);
    const { server, asked } = await registryWith({ give: () => replyJson(200, answer) });
    const transport = transportTo(server.url, { clock });
    await transport.send({ method: 'GET', url: '/v2/', scopes });
    clock.advance(before);
    await transport.send({ method: 'GET', url: '/v2/', scopes });
    expect(asked()).toHaveLength(1);
    clock.advance(after);
    await transport.send({ method: 'GET', url: '/v2/', scopes });
    expect(asked()).toHaveLength(2);
  });

  it('is asked for one new token when the registry refuses a fresh one, and no more', async () => {
    const { server, asked } = await registryWith({ accepts: () => false });
    const response = await transportTo(server.url, { with: login }).send({
      method: 'GET',
      url: '/v2/',
      scopes,
    });
    expect(response.status).toBe(401);
    expect(asked()).toHaveLength(2);
  });

  it('is asked for a new token when the registry forgot the old one', async () => {
    let forgotten = '';
    const { server, asked } = await registryWith({ accepts: (token) => token !== forgotten });
    const transport = transportTo(server.url);
    await transport.send({ method: 'GET', url: '/v2/', scopes });
    forgotten = 'token0';
    expect((await transport.send({ method: 'GET', url: '/v2/', scopes })).status).toBe(200);
    expect(asked()).toHaveLength(2);
  });

  it('that refuses the login is one clear error without the login', async () => {
    const { server, asked } = await registryWith({
      give: () => replyJson(401, { details: 'incorrect username or password' }),
    });
    const send = transportTo(server.url, { with: login }).send({ method: 'GET', url: '/v2/', scopes });
    await expect(send).rejects.toMatchObject({
      code: 'ERR_UNAUTHORIZED',
      retryable: false,
      message: expect.stringMatching(/login at 127\.0\.0\.1:\d+ failed.*incorrect username or password/),
    });
    await expect(send).rejects.not.toThrow(/äss/);
    expect(asked()).toHaveLength(1);
  });

  it('that gives a token which no server would take is one clear error', async () => {
    const { server } = await registryWith({ give: () => replyJson(200, { token: 'x'.repeat(20_000) }) });
    const send = transportTo(server.url).send({ method: 'GET', url: '/v2/', scopes });
    await expect(send).rejects.toMatchObject({
      code: 'ERR_PROTOCOL',
      message: expect.stringContaining('a token of 20000 characters'),
    });
  });

  it('that gave hundreds of tokens has the one in use, and the login, still taken out of an answer', async () => {
    const [password, token] = ['canary-of-the-login', 'canary-of-the-token'];
    const server = await serve((exchange) => {
      const { path, bearer, origin } = exchange;
      const scope = exchange.query('scope');
      if (path === '/token')
        return replyJson(200, { token: scope === scopes[0] ? token : `token-for-${scope}`, expires_in: 300 });
      if (bearer === undefined) return reply(401, { 'www-authenticate': `Bearer realm="${origin}/token"` });
      return replyJson(403, { message: `no: ${password}, ${token}` });
    });
    const transport = transportTo(server.url, { with: { ...login, password } });
    await transport.send({ method: 'GET', url: '/v2/', scopes });
    const others = transportTo(server.url);
    for (let number = 0; number < 501; number += 1)
      await others.send({ method: 'GET', url: '/v2/', scopes: [`repository:a/${number}:pull`] });
    const { faults } = await transport.send({ method: 'GET', url: '/v2/', scopes });
    expect(faults).toEqual([{ code: '', message: 'no: ***, ***' }]);
  });

  it('is asked again where it fails for a moment', async () => {
    const { server } = await registryWith({
      give: (_exchange, number) => (number === 0 ? reply(503) : replyJson(200, { token: 't' })),
    });
    expect((await transportTo(server.url).send({ method: 'POST', url: '/v2/', scopes })).status).toBe(200);
  });

  it.each([
    ['a huge answer', () => reply(200, {}, Buffer.alloc(200_000, 32)), 'ERR_TOO_LARGE'],
    ['no JSON', () => reply(200, {}, '<html>'), 'ERR_PROTOCOL'],
    ['no token', () => replyJson(200, { token: 5 }), 'ERR_PROTOCOL'],
    ['a token that breaks a header', () => replyJson(200, { token: 'a\r\nx: y' }), 'ERR_PROTOCOL'],
    ['a redirect', () => reply(302, { location: '/token2' }), 'ERR_REDIRECT'],
  ])('that gives %s is an error', async (_what, give, code) => {
    const { server } = await registryWith({ give });
    const send = transportTo(server.url, { retries: 0 }).send({ method: 'GET', url: '/v2/', scopes });
    await expect(send).rejects.toMatchObject({ code });
  });
});

describe('a refresh token', () => {
  it('is exchanged by OAuth2', async () => {
    const forms: Record<string, string>[] = [];
    const { server } = await registryWith({
      give: async (exchange) => {
        forms.push({ method: exchange.method, ...Object.fromEntries(await exchange.form()) });
        return replyJson(200, { access_token: 'x' });
      },
    });
    const credentials = async () => ({ identityToken: 'refresh' });
    await transportTo(server.url, { credentials }).send({ method: 'GET', url: '/v2/', scopes });
    expect(forms).toEqual([
      {
        method: 'POST',
        grant_type: 'refresh_token',
        service: 'svc',
        scope: 'repository:a/b:pull,push',
        client_id: 'hubferry',
        refresh_token: 'refresh',
      },
    ]);
  });

  it('that is refused is asked for anew at its source, once', async () => {
    const refused: (Credential | undefined)[] = [];
    const credentials = async (request: CredentialRequest) => {
      refused.push(request.refused);
      return { identityToken: request.refused === undefined ? 'old' : 'new' };
    };
    const { server, asked } = await registryWith({
      give: async (exchange) =>
        (await exchange.form()).get('refresh_token') === 'new'
          ? replyJson(200, { access_token: 'x' })
          : replyJson(400, { error: 'invalid_grant' }),
    });
    const response = await transportTo(server.url, { credentials }).send({
      method: 'GET',
      url: '/v2/',
      scopes,
    });
    expect(response.status).toBe(200);
    expect(refused).toEqual([undefined, { identityToken: 'old' }]);
    expect(asked()).toHaveLength(2);
  });
});

describe('Basic', () => {
  it('is answered once, and then sent without being asked for', async () => {
    const server = await serve(({ basic }) =>
      basic?.password === login.password ? reply(200) : reply(401, { 'www-authenticate': 'Basic realm=x' }),
    );
    const transport = transportTo(server.url, { with: login });
    await transport.send({ method: 'GET', url: '/v2/' });
    await transport.send({ method: 'GET', url: '/v2/' });
    expect(server.requests).toHaveLength(3);
  });

  it('that is refused is not tried again', async () => {
    const server = await serve(() => reply(401, { 'www-authenticate': 'Basic realm=x' }));
    expect((await transportTo(server.url, { with: login }).send({ method: 'GET', url: '/v2/' })).status).toBe(
      401,
    );
    expect(server.requests).toHaveLength(2);
  });

  it('without a login is not answered', async () => {
    const server = await serve(() => reply(401, { 'www-authenticate': 'Basic realm=x' }));
    expect((await transportTo(server.url).send({ method: 'GET', url: '/v2/' })).status).toBe(401);
    expect(server.requests).toHaveLength(1);
  });
});

describe('credentials', () => {
  it('go to a token service on another host that the registry names over TLS', async () => {
    const tls = makeCertificate();
    afterTest(() => tls.remove());
    const service = await serve(() => replyJson(200, { token: 't' }), { tls });
    const registry = await serve(
      ({ bearer }) =>
        bearer === undefined
          ? reply(401, { 'www-authenticate': `Bearer realm="${service.url}/t"` })
          : reply(200),
      { tls },
    );
    const transport = transportTo(registry.url, { with: { ...login, ca: tls.caFile } });
    expect((await transport.send({ method: 'GET', url: '/v2/' })).status).toBe(200);
    expect(service.requests[0]?.headers.authorization).toMatch(/^Basic /);
  });

  it('do not go to where an upload goes on at another host', async () => {
    const other = await serve(() => reply(202));
    const server = await serve(() => reply(401, { 'www-authenticate': 'Basic realm=x' }));
    const transport = transportTo(server.url, { with: login });
    await transport.send({ method: 'GET', url: '/v2/' });
    await transport.send({ method: 'PATCH', url: `${other.url}/upload`, body: Buffer.from('x') });
    expect(other.requests[0]?.headers).not.toHaveProperty('authorization');
  });
});
