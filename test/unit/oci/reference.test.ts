import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { codeOf } from '../../../lib/errors.ts';
import type { Digest } from '../../../lib/oci/descriptor.ts';
import { digestOf } from '../../../lib/oci/digest.ts';
import {
  formatReference,
  formatRepository,
  isReferrerTag,
  isTag,
  parseReference,
  parseRepository,
  type Reference,
  referrerTag,
  referrerTagSubject,
} from '../../../lib/oci/reference.ts';

const sha256 = `sha256:${'0'.repeat(64)}` as const;
const sha512 = `sha512:${'0'.repeat(128)}` as const;

describe('parseReference', () => {
  it.each([
    ['nginx', 'docker.io/library/nginx'],
    ['nginx:1.27', 'docker.io/library/nginx:1.27'],
    ['grafana/grafana', 'docker.io/grafana/grafana'],
    ['library/nginx', 'docker.io/library/nginx'],
    ['docker.io/nginx', 'docker.io/library/nginx'],
    ['index.docker.io/nginx:1', 'docker.io/library/nginx:1'],
    ['registry-1.docker.io/a/b', 'docker.io/a/b'],
    ['DOCKER.IO/a/b', 'docker.io/a/b'],
    ['localhost/a', 'localhost/a'],
    ['localhost:5000/a:1', 'localhost:5000/a:1'],
    ['localhost:5000', 'docker.io/library/localhost:5000'],
    ['MyRegistry.azurecr.io/Team'.toLowerCase(), 'myregistry.azurecr.io/team'],
    ['MyRegistry.azurecr.io/team/app:V1', 'myregistry.azurecr.io/team/app:V1'],
    ['host:443/a', 'host:443/a'],
    ['[::1]:5000/a:1', '[::1]:5000/a:1'],
    ['[2001:DB8::1]/a', '[2001:db8::1]/a'],
    ['a/b/c/d/e', 'docker.io/a/b/c/d/e'],
    ['a__b/c-----d/e.f_g', 'docker.io/a__b/c-----d/e.f_g'],
    [`nginx@${sha256}`, `docker.io/library/nginx@${sha256}`],
    [`nginx:1@${sha512}`, `docker.io/library/nginx:1@${sha512}`],
    [`x.io/a:${'t'.repeat(128)}`, `x.io/a:${'t'.repeat(128)}`],
  ])('reads %s as %s', (text, canonical) => {
    expect(formatReference(parseReference(text))).toBe(canonical);
  });

  it('adds no tag where none is named', () => {
    expect(parseReference('nginx')).toEqual({ host: 'docker.io', path: 'library/nginx' });
  });

  it.each([
    ['nothing', ''],
    ['a space', 'nginx '],
    ['a newline at the end', 'nginx\n'],
    ['upper case in the path', 'x.io/Team/app'],
    ['an empty tag', 'nginx:'],
    ['a tag that begins with a dash', 'nginx:-1'],
    ['a tag of 129 characters', `nginx:${'t'.repeat(129)}`],
    ['a slash in the tag', 'nginx:1/2/'],
    ['two tags', 'nginx:1:2'],
    ['an empty component', 'a//b'],
    ['a slash at the end', 'a/b/'],
    ['a slash at the beginning', '/a/b'],
    ['a path that climbs', 'x.io/../a'],
    ['two dots', 'x.io/a..b'],
    ['three underscores', 'x.io/a___b'],
    ['a separator at the end', 'x.io/a-'],
    ['a path of 256 characters', `x.io/${'a'.repeat(256)}`],
    ['a host alone', 'x.io/'],
    ['a host that begins with a dash', '-x.io/a'],
    ['a host with an empty label', 'x..io/a'],
    ['a port that is none', 'x.io:65536/a'],
    ['a port in letters', 'x.io:http/a'],
    ['an IPv6 address without brackets', '::1/a'],
    ['a query', 'x.io/a?b=c'],
    ['an escaped slash', 'x.io/a%2fb'],
    ['an empty digest', 'nginx@'],
    ['a short digest', 'nginx@sha256:00'],
    ['two digests', `nginx@${sha256}@${sha256}`],
    ['64 hexadecimal digits', 'a'.repeat(64)],
    ['a namespace pattern', 'docker.io/myorg/*'],
  ])('refuses %s', (_what, text) => {
    expect(() => parseReference(text)).toThrow(expect.objectContaining({ code: 'ERR_REFERENCE' }));
  });

  it('says to leave out the scheme of a URL', () => {
    expect(() => parseReference('https://x.azurecr.io/a')).toThrow(/leave out https:\/\//);
  });

  it('never repeats a password that stands in a reference', () => {
    for (const text of ['https://me:secret@x.io/a', 'me:secret@x.io/a', `me:secret@x.io/a@${sha256}`]) {
      expect(() => parseReference(text)).toThrow(
        expect.objectContaining({ message: expect.not.stringContaining('secret') }),
      );
    }
  });

  it('says that a path must be lower case', () => {
    expect(() => parseReference('x.io/Team')).toThrow(/lower case/);
  });
});

describe('parseRepository', () => {
  it('reads a name', () => {
    expect(formatRepository(parseRepository('nginx'))).toBe('docker.io/library/nginx');
  });

  it.each(['nginx:1', `nginx@${sha256}`])('refuses %s', (text) => {
    expect(() => parseRepository(text)).toThrow(expect.objectContaining({ code: 'ERR_REFERENCE' }));
  });
});

const word = fc.stringMatching(/^[a-z0-9]{1,8}$/);
const separator = fc.constantFrom('.', '_', '__', '-', '---');
const component = fc
  .tuple(word, fc.array(fc.tuple(separator, word), { maxLength: 2 }))
  .map(([first, rest]) => first + rest.map(([sign, next]) => sign + next).join(''));
const path = fc.array(component, { minLength: 1, maxLength: 5 }).map((components) => components.join('/'));
const shortName = fc.oneof(
  component,
  fc.tuple(word, path).map(([namespace, rest]) => `${namespace}/${rest}`),
);
const host = fc.oneof(
  fc.constantFrom('docker.io', 'localhost', 'localhost:5000', '[::1]:5000', 'x.azurecr.io'),
  fc.tuple(fc.domain(), fc.integer({ min: 1, max: 65_535 })).map(([name, port]) => `${name}:${port}`),
);
const digest = fc.uint8Array().map((content): Digest => digestOf(content));
const reference = fc.record(
  {
    host,
    path,
    tag: fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9._-]{0,20}$/),
    digest,
  },
  { requiredKeys: ['host', 'path'] },
);
const canonicalReference = reference.map(
  (one): Reference =>
    one.host === 'docker.io' && !one.path.includes('/') ? { ...one, path: `library/${one.path}` } : one,
);

describe('a reference', () => {
  it('is the same after it was written and read', () => {
    fc.assert(
      fc.property(canonicalReference, (one) => {
        expect(parseReference(formatReference(one))).toEqual(one);
      }),
    );
  });

  it('has one canonical form: reading it again changes nothing', () => {
    fc.assert(
      fc.property(fc.oneof(shortName, reference.map(formatReference)), (text) => {
        const canonical = formatReference(parseReference(text));
        expect(formatReference(parseReference(canonical))).toBe(canonical);
      }),
    );
  });

  it('is read, or refused with one code, whatever the text', () => {
    const pieces = fc.constantFrom(
      'a',
      'A',
      '/',
      ':',
      '@',
      '.',
      '-',
      '_',
      '[',
      ']',
      '::1',
      ' ',
      '\0',
      sha256,
    );
    const texts = fc.oneof(
      fc.string(),
      fc.array(pieces).map((some) => some.join('')),
    );
    fc.assert(
      fc.property(texts, (text) => {
        try {
          const canonical = formatReference(parseReference(text));
          expect(canonical).toMatch(/^[^\s\0]+$/);
        } catch (error) {
          expect(codeOf(error)).toBe('ERR_REFERENCE');
        }
      }),
      { numRuns: 1000 },
    );
  });

  it('of a hundred thousand characters is refused at once', () => {
    for (const piece of ['a', 'a-', 'a/', '-', '_', 'a.', 'a:', '@', '[']) {
      const long = piece.repeat(100_000 / piece.length);
      const start = performance.now();
      for (const text of [long, `${long}/x`, `x.io/${long}`, `x:${long}`, `${long}!.io/x`]) {
        expect(() => parseReference(text)).toThrow(expect.objectContaining({ code: 'ERR_REFERENCE' }));
      }
      expect(performance.now() - start).toBeLessThan(1000);
    }
  });
});

describe('isTag', () => {
  it.each(['latest', 'v1.2.3', '_x', 'A-b_c.d', 't'.repeat(128)])('takes %s', (name) => {
    expect(isTag(name)).toBe(true);
  });

  it.each(['', '.x', '-x', 'a b', 'a/b', 'a:b', 'é', 'a\n', 't'.repeat(129)])('refuses %j', (name) => {
    expect(isTag(name)).toBe(false);
  });
});

describe('a referrer tag', () => {
  const hex = '0123456789abcdef'.repeat(4);

  it.each([
    [`sha256-${hex}`, `sha256:${hex}`, ''],
    [`sha256-${hex}.sig`, `sha256:${hex}`, '.sig'],
    [`sha256-${hex}.att`, `sha256:${hex}`, '.att'],
    [`sha256-${hex}.sbom`, `sha256:${hex}`, '.sbom'],
    [`sha512-${hex}${hex}`, `sha512:${hex}${hex}`, ''],
  ])('%s is about %s', (name, about, suffix) => {
    expect(isReferrerTag(name)).toBe(true);
    expect(referrerTagSubject(name)).toEqual({ digest: about, suffix });
  });

  it('of a sha512 digest is known by 64 digits, but not what it is about', () => {
    expect(isReferrerTag(`sha512-${hex}`)).toBe(true);
    expect(referrerTagSubject(`sha512-${hex}`)).toBeUndefined();
  });

  it.each([
    'latest',
    'sha256-abc',
    `sha256-${hex}.txt`,
    `sha256-${hex}.sig.sig`,
    `x-sha256-${hex}`,
    `sha256:${hex}`,
  ])('%s is none', (name) => {
    expect(isReferrerTag(name)).toBe(false);
    expect(referrerTagSubject(name)).toBeUndefined();
  });

  it('is named by the tag schema, which cuts sha512 short', () => {
    expect(referrerTag(`sha256:${hex}`)).toBe(`sha256-${hex}`);
    expect(referrerTag(`sha256:${hex}`, '.sig')).toBe(`sha256-${hex}.sig`);
    expect(referrerTag(`sha512:${hex}${hex}`)).toBe(`sha512-${hex}`);
  });

  it('of any digest is a valid tag, and tells a sha256 subject', () => {
    const suffixes = fc.constantFrom('' as const, '.sig' as const, '.att' as const, '.sbom' as const);
    fc.assert(
      fc.property(digest, suffixes, (about, suffix) => {
        const name = referrerTag(about, suffix);
        expect(isTag(name)).toBe(true);
        expect(referrerTagSubject(name)).toEqual({ digest: about, suffix });
      }),
    );
  });
});
