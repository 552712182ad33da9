import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { keepSecret } from '../../../lib/errors/secrets.ts';
import {
  codeOfAnswer,
  failureOf,
  isTransient,
  networkFailure,
  parseFaults,
} from '../../../lib/registry/failure.ts';

const json = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value));
const faults = (...codes: string[]) => codes.map((code) => ({ code, message: '' }));

describe('the body of an error', () => {
  it('is read as the distribution specification has it', () => {
    const body = {
      errors: [{ code: 'NAME_UNKNOWN', message: 'repository name\nnot known', detail: {} }, 7, null],
    };
    expect(parseFaults(json(body))).toEqual([{ code: 'NAME_UNKNOWN', message: 'repository name not known' }]);
  });

  it('is read as token services and web APIs have it', () => {
    expect(parseFaults(json({ error: 'invalid_grant', error_description: 'expired' }))[0]?.message).toBe(
      'expired',
    );
    expect(parseFaults(json({ details: 'incorrect username or password' }))[0]?.message).toBe(
      'incorrect username or password',
    );
  });

  it('never carries a secret, a control character or an endless text', () => {
    const message = `token Bearer abcdefghijkl\u001b[31m\u202e${'x'.repeat(10_000)}`;
    const [fault] = parseFaults(json({ errors: [{ code: 'X', message }] }));
    expect(fault?.message).not.toContain('abcdefghijkl');
    expect(fault?.message).not.toMatch(/\p{C}/u);
    expect(fault?.message.length).toBeLessThan(500);
    expect(parseFaults(json({ errors: Array(1000).fill({ code: 'X' }) })).length).toBeLessThan(20);
  });

  it('has no code that is a login', () => {
    keepSecret('dckr_pat_AbCd1234efGH');
    const [fault] = parseFaults(json({ errors: [{ code: 'dckr_pat_AbCd1234efGH', message: 'no' }] }));
    expect(fault).toEqual({ code: '***', message: 'no' });
  });

  it('is read from the words of a client, too', () => {
    const words = Buffer.from('toomanyrequests: You have reached your pull rate limit.\n');
    expect(parseFaults(words)).toEqual([
      { code: 'TOOMANYREQUESTS', message: 'You have reached your pull rate limit.' },
    ]);
    expect(parseFaults(Buffer.from('Too Many Requests\n'))).toEqual([]);
  });

  it('may be anything', () => {
    fc.assert(fc.property(fc.uint8Array(), (bytes) => void parseFaults(bytes)));
    fc.assert(fc.property(fc.jsonValue(), (value) => void parseFaults(json(value))));
    fc.assert(fc.property(fc.array(fc.jsonValue()), (errors) => void parseFaults(json({ errors }))));
  });
});

describe('the code of an answer', () => {
  it.each([
    [401, [], 'ERR_UNAUTHORIZED'],
    [403, [], 'ERR_FORBIDDEN'],
    [404, ['MANIFEST_UNKNOWN'], 'ERR_NOT_FOUND'],
    [405, [], 'ERR_UNSUPPORTED'],
    [408, [], 'ERR_TIMEOUT'],
    [413, [], 'ERR_TOO_LARGE'],
    [429, [], 'ERR_RATE_LIMITED'],
    [400, ['MANIFEST_INVALID'], 'ERR_REJECTED'],
    [400, [], 'ERR_REJECTED'],
    [500, [], 'ERR_SERVER'],
    [500, ['UNKNOWN'], 'ERR_SERVER'],
    [500, ['MANIFEST_BLOB_UNKNOWN'], 'ERR_BLOB_UNKNOWN'],
    [501, [], 'ERR_UNSUPPORTED'],
    [503, [], 'ERR_SERVER'],
    [302, [], 'ERR_REDIRECT'],
    [200, [], 'ERR_PROTOCOL'],
    [500, ['constructor'], 'ERR_SERVER'],
  ] as const)('is for %i with %j %s', (status, codes, code) => {
    expect(codeOfAnswer({ status, faults: faults(...codes) })).toBe(code);
  });

  it('decides on sending again: what the body names will not pass by itself', () => {
    expect(isTransient({ status: 500, faults: [] })).toBe(true);
    expect(isTransient({ status: 500, faults: faults('MANIFEST_BLOB_UNKNOWN') })).toBe(false);
    expect(isTransient({ status: 404, faults: [] })).toBe(false);
  });
});

describe('the error of an answer', () => {
  it('says what happened, the request without its secrets, and the words of the registry', () => {
    const error = failureOf(
      'It failed',
      {
        method: 'PUT',
        url: 'https://user:secret@x.io/v2/a/manifests/1?_state=secret',
        status: 429,
        headers: { 'retry-after': '90' },
        faults: [{ code: 'TOOMANYREQUESTS', message: 'slow down' }],
      },
      { now: 1000 },
    );
    expect(error.message).toBe(
      'It failed: PUT https://x.io/v2/a/manifests/1 answered 429 (TOOMANYREQUESTS: slow down)',
    );
    expect(error).toMatchObject({
      code: 'ERR_RATE_LIMITED',
      status: 429,
      registryCodes: ['TOOMANYREQUESTS'],
      retryable: true,
      retryAt: 91_000,
    });
  });
});

describe('the error of a broken exchange', () => {
  const coded = (code: string) => Object.assign(new Error('it broke'), { code });
  it.each([
    ['ECONNREFUSED', 'ERR_CONNECTION', true],
    ['ENOTFOUND', 'ERR_CONNECTION', true],
    ['UND_ERR_SOCKET', 'ERR_CONNECTION', true],
    ['UND_ERR_RES_CONTENT_LENGTH_MISMATCH', 'ERR_CONNECTION', true],
    ['UND_ERR_HEADERS_TIMEOUT', 'ERR_TIMEOUT', true],
    ['UND_ERR_BODY_TIMEOUT', 'ERR_TIMEOUT', true],
    ['UND_ERR_CONNECT_TIMEOUT', 'ERR_TIMEOUT', true],
    ['DEPTH_ZERO_SELF_SIGNED_CERT', 'ERR_TLS', false],
    ['CERT_HAS_EXPIRED', 'ERR_TLS', false],
    ['ERR_TLS_CERT_ALTNAME_INVALID', 'ERR_TLS', false],
    ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'ERR_TLS', false],
    ['ERR_SSL_WRONG_VERSION_NUMBER', 'ERR_TLS', false],
    ['UND_ERR_HEADERS_OVERFLOW', 'ERR_PROTOCOL', false],
  ])('is for %s %s', (system, code, retryable) => {
    const error = networkFailure(coded(system), { method: 'GET', url: new URL('https://x.io/v2/?sig=abc') });
    expect(error).toMatchObject({
      code,
      retryable,
      message: expect.stringContaining('GET https://x.io/v2/ (it broke)'),
    });
  });
});
