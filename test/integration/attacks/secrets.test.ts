/**
 * Secrets in every error path: a registry knows the login that it was sent, and may repeat it wherever its answers are
 * shown. The canary is searched for in the report, in the log at its most talkative, and in the state.
 */
import { describe, expect, it } from 'vitest';
import { buildManifest, mediaTypes, put } from '../../local/content.ts';
import type { LocalRegistry } from '../../local/registry.ts';
import { type Answer, type Exchange, reply, replyJson } from '../../local/server.ts';
import { type Mirrored, mirror, registry, serve, sourceRepository } from './support.ts';

/** No word of a known shape, and one that looks different in a URL, in JSON and in Basic. */
const canary = 'canary "ü/9+x';
const login = `robot:${canary}`;

function formsOf(secret: string): string[] {
  const form = new URLSearchParams({ '': secret }).toString().slice(1);
  const basic = Buffer.from(`robot:${secret}`);
  return [
    secret,
    encodeURIComponent(secret),
    form,
    JSON.stringify(secret).slice(1, -1),
    secret.replaceAll('"', '&quot;'),
    Buffer.from(secret).toString('hex'),
    Buffer.from(secret).toString('base64'),
    Buffer.from(secret).toString('base64url'),
    basic.toString('base64'),
    basic.toString('base64url'),
  ];
}

/** As a person would still recognize it. */
const plain = (text: string) => text.replace(/[\p{C}\s]+/gu, '').toLowerCase();

function leaksIn({ report, log, state }: Mirrored, secret = canary): string[] {
  const all = plain(JSON.stringify(report) + log + state);
  return formsOf(secret).filter((form) => all.includes(plain(form)));
}

/** Says everything that it was told, in all the ways in which an answer can. */
function confession({ basic, bearer, headers }: Exchange): string {
  const { password = '' } = basic ?? {};
  const told = [bearer, headers.authorization, ...formsOf(password), password.toUpperCase()].filter(Boolean);
  return `you sent ${told.join(' and ')}; ${[...password].join('\u200b')}, ${password.replace(/../g, '$&\n')}`;
}

const asksForBasic = { 'www-authenticate': 'Basic realm="x"' };

const found = reply(200, {
  'docker-content-digest': `sha256:${'0'.repeat(64)}`,
  'content-type': mediaTypes.manifest,
  'content-length': 500,
});

function confess(exchange: Exchange, status: number): Answer {
  if (exchange.headers.authorization === undefined) return reply(401, asksForBasic);
  // An answer to HEAD has no words: let the reader come for more.
  if (exchange.method === 'HEAD') return exchange.path.includes('/manifests/') ? found : reply(404);
  const message = confession(exchange);
  return replyJson(status, {
    errors: [{ code: 'DENIED', message, detail: message }],
    message,
    details: message,
  });
}

const statuses = [400, 401, 403, 404, 405, 409, 413, 429, 500, 503];

describe('a login that a registry repeats', () => {
  it.each(statuses)('in an error with %i stays out of everything, on both sides', async (status) => {
    const hostile = await serve((exchange) => confess(exchange, status));
    const credentials = { sourceCredentials: login, targetCredentials: login };
    const fromHostile = await mirror(hostile, await registry(), credentials);
    expect(fromHostile.report.totals.copied).toBe(0);
    expect(leaksIn(fromHostile)).toEqual([]);
    const source = await registry();
    put(source, sourceRepository, 'latest', buildManifest({ layers: [10] }));
    const toHostile = await mirror(source, hostile, { targetCredentials: login });
    expect(toHostile.report.totals.copied).toBe(0);
    expect(leaksIn(toHostile)).toEqual([]);
  });

  it.each<[string, (exchange: Exchange) => Answer]>([
    [
      'a redirect',
      (exchange) => reply(307, { location: `ftp://x/${encodeURIComponent(confession(exchange))}` }),
    ],
    [
      'an address that is none',
      (exchange) => reply(307, { location: `https://${encodeURIComponent(confession(exchange))}/` }),
    ],
    [
      'a Content-Type',
      (exchange) => reply(200, { 'content-type': encodeURIComponent(confession(exchange)) }, '{}'),
    ],
    [
      'a digest',
      (exchange) => reply(200, { 'docker-content-digest': encodeURIComponent(confession(exchange)) }, '{}'),
    ],
    ['a manifest', (exchange) => replyJson(200, { schemaVersion: 2, mediaType: confession(exchange) })],
    ['what is no JSON', (exchange) => reply(200, {}, confession(exchange))],
    [
      'a place at the end of a long message',
      (exchange) => replyJson(403, { message: `${'x'.repeat(390)}${exchange.basic?.password}` }),
    ],
  ])('in %s stays out of everything', async (_, answer) => {
    const hostile = await serve((exchange) =>
      exchange.headers.authorization === undefined
        ? reply(401, asksForBasic)
        : exchange.method === 'HEAD'
          ? found
          : answer(exchange),
    );
    const result = await mirror(hostile, await registry(), { sourceCredentials: login });
    expect(result.report.totals.failed).toBe(1);
    expect(leaksIn(result)).toEqual([]);
    expect(JSON.stringify(result.report)).not.toContain('canary');
  });

  it('as the code of an error stays out of everything', async () => {
    const token = 'dckr_pat_AbCd1234efGH';
    const hostile = await serve(({ headers, method, basic }) => {
      if (headers.authorization === undefined) return reply(401, asksForBasic);
      return method === 'HEAD' ? found : replyJson(500, { errors: [{ code: basic?.password }] });
    });
    const result = await mirror(hostile, await registry(), { sourceCredentials: `robot:${token}` });
    expect(result.report.totals.failed).toBe(1);
    expect(leaksIn(result, token)).toEqual([]);
  });

  it('as the file of a key stays out of everything to its end', async () => {
    const rest = 'TheKeyItself+(and-more)';
    const key = JSON.stringify({ project_id: 'p'.repeat(300), private_key: `-----BEGIN-----\n${rest}` });
    const hostile = await serve(({ headers, method, basic }) => {
      if (headers.authorization === undefined) return reply(401, asksForBasic);
      const message = `no login: ${basic?.password} of robot`;
      return method === 'HEAD' ? found : replyJson(403, { errors: [{ code: 'DENIED', message }] });
    });
    const result = await mirror(hostile, await registry(), { sourceCredentials: `_json_key:${key}` });
    expect(result.report.totals.failed).toBe(1);
    expect(result.error?.message).toContain('no login: ***');
    for (const part of ['private_key', rest]) expect(leaksIn(result, part)).toEqual([]);
  });

  it.each([400, 401, 403, 500])('by its token service with %i stays out of everything', async (status) => {
    const hostile = await serve((exchange) =>
      exchange.path === '/token'
        ? replyJson(status, {
            error: 'invalid_grant',
            error_description: confession(exchange),
            details: confession(exchange),
          })
        : reply(401, { 'www-authenticate': `Bearer realm="${exchange.origin}/token",service="x"` }),
    );
    const result = await mirror(hostile, await registry(), { sourceCredentials: login });
    expect(result.report.totals.failed).toBe(1);
    expect(leaksIn(result)).toEqual([]);
  });

  it('as the token that its service gave stays out of everything', async () => {
    const token = 'canary-of-the-token';
    const hostile = await serve((exchange) => {
      if (exchange.path === '/token') return replyJson(200, { token });
      if (exchange.bearer === undefined)
        return reply(401, { 'www-authenticate': `Bearer realm="${exchange.origin}/token",service="x"` });
      // Without the word Bearer, by which any token is known.
      const message = `no: ${formsOf(exchange.bearer).join(', ')}`;
      return exchange.method === 'HEAD' ? found : replyJson(403, { errors: [{ code: 'DENIED', message }] });
    });
    const result = await mirror(hostile, await registry(), { sourceCredentials: login });
    expect(result.report.totals.failed).toBe(1);
    expect(result.error?.message).toContain('no: ***');
    expect(leaksIn(result, token)).toEqual([]);
  });

  it('is not in what a good run leaves behind', async () => {
    const auth = { kind: 'token', users: { robot: canary } } as const;
    const [source, target]: LocalRegistry[] = [await registry({ auth }), await registry({ auth })];
    if (source === undefined || target === undefined) throw new Error('both are started');
    put(source, sourceRepository, 'latest', buildManifest({ layers: [10, 9 << 20] }));
    const result = await mirror(source, target, { sourceCredentials: login, targetCredentials: login });
    expect(result.report.totals.copied).toBe(1);
    expect(leaksIn(result)).toEqual([]);
    expect(result.log).not.toContain('eyJ');
    expect(result.state).not.toContain('eyJ');
  });
});
