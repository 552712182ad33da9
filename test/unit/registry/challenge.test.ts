import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseChallenges } from '../../../lib/registry/challenge.ts';

const plain = (fields: readonly string[]): unknown =>
  parseChallenges(fields).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);

describe('WWW-Authenticate', () => {
  it("reads Docker Hub's challenge", () => {
    const field =
      'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull,push"';
    expect(plain([field])).toEqual([
      [
        'bearer',
        {
          realm: 'https://auth.docker.io/token',
          service: 'registry.docker.io',
          scope: 'repository:library/alpine:pull,push',
        },
      ],
    ]);
  });

  it('reads several challenges of one field and of several', () => {
    const fields = [
      'Newauth realm="apps", type=1, title="Login to \\"apps\\"", Basic realm="simple"',
      'Negotiate',
    ];
    expect(plain(fields)).toEqual([
      ['newauth', { realm: 'apps', type: '1', title: 'Login to "apps"' }],
      ['basic', { realm: 'simple' }],
      ['negotiate', {}],
    ]);
  });

  it('reads white space where old servers send it, and odd cases', () => {
    expect(plain(['bEARER  Realm = "https://x" ,, service=y'])).toEqual([
      ['bearer', { realm: 'https://x', service: 'y' }],
    ]);
  });

  it('keeps the first of two equal parameters', () => {
    expect(plain(['Bearer realm="https://good", realm="https://evil"'])).toEqual([
      ['bearer', { realm: 'https://good' }],
    ]);
  });

  it('leaves out what is malformed and goes on', () => {
    expect(plain(['Bearer realm="https://x", =, b=, "c", scope="d"'])).toEqual([
      ['bearer', { realm: 'https://x', scope: 'd' }],
    ]);
    expect(plain(['Negotiate YWJj=='])).toEqual([['negotiate', {}]]);
    expect(plain(['realm="https://x"'])).toEqual([]);
    expect(plain([''])).toEqual([]);
  });

  it('knows no parameter that was not sent', () => {
    expect(parseChallenges(['Bearer realm=x'])[0]?.parameters.get('constructor')).toBeUndefined();
  });

  it('reads back any challenge that is written properly', () => {
    const token = fc.stringMatching(/^[a-z][a-z0-9-]{0,10}$/);
    const text = fc.string({ maxLength: 40 });
    fc.assert(
      fc.property(
        token,
        fc.uniqueArray(fc.tuple(token, text), { selector: ([name]) => name }),
        (scheme, pairs) => {
          const written = pairs
            .map(([name, value]) => `${name}="${value.replace(/[\\"]/g, '\\$&')}"`)
            .join(', ');
          const expected = [[scheme, Object.fromEntries(pairs)]];
          expect(plain([`${scheme} ${written}`])).toEqual(expected);
        },
      ),
    );
  });

  it('takes any text, in linear time', () => {
    fc.assert(fc.property(fc.array(fc.string({ unit: 'binary' })), (fields) => void parseChallenges(fields)));
    fc.assert(
      fc.property(fc.array(fc.constantFrom('a', '=', '"', ',', ' ', '\\', 'B')), (parts) => {
        void parseChallenges([parts.join('')]);
      }),
    );
    const begun = performance.now();
    for (const part of ['"', '\\"', 'a="', 'a=,', ' ,', 'a ']) parseChallenges([part.repeat(8000)]);
    expect(performance.now() - begun).toBeLessThan(1000);
  });

  it('does not read what is too long or too many', () => {
    expect(parseChallenges([`Bearer realm="${'x'.repeat(20_000)}"`])).toEqual([]);
    expect(parseChallenges([Array.from({ length: 500 }, (_, n) => `A${n} b=c`).join(', ')])).toHaveLength(16);
  });
});
