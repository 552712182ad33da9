import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatSource, formatTarget, parseSource, parseTarget } from '../../../lib/config/forms.ts';

const host = fc.constantFrom(
  'docker.io',
  'ghcr.io',
  'localhost:5000',
  'x.azurecr.io',
  '[::1]:5000',
  '127.0.0.1',
);
const component = fc.stringMatching(/^[a-z0-9]{1,5}(?:[._-][a-z0-9]{1,3})?$/);
const path = fc.array(component, { minLength: 2, maxLength: 3 }).map((parts) => parts.join('/'));
const tag = fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9._-]{0,10}$/);
const tags = fc.array(tag, { minLength: 1, maxLength: 4 });
const selector = fc.oneof(
  fc.constant(''),
  tags.map((names) => `:${names.join(',')}`),
  fc.constantFrom(':v*', ':1.?', ':[0-9]*', ':/v\\d+/', ':/a|b/', ':/x:y@z/'),
  fc.constant(`@sha256:${'a'.repeat(64)}`),
);
const source = fc
  .tuple(host, path, selector)
  .map(([name, repository, choice]) => `${name}/${repository}${choice}`);

describe('a canonical source', () => {
  it('is read back as itself', () => {
    fc.assert(
      fc.property(source, (text) => {
        const parsed = parseSource(text);
        expect(formatSource(parsed)).toBe(text);
        expect(parseSource(formatSource(parsed))).toEqual(parsed);
      }),
    );
  });

  it('fits every target that is only a repository', () => {
    fc.assert(
      fc.property(source, host, path, (text, name, repository) => {
        expect(parseTarget(`${name}/${repository}`, parseSource(text))).toEqual({
          host: name,
          path: repository,
        });
      }),
    );
  });

  it('with tags fits as many tags, and no other number of them', () => {
    fc.assert(
      fc.property(fc.uniqueArray(tag, { minLength: 1, maxLength: 4 }), tags, (from, to) => {
        const parse = () => parseTarget(`x.io/b:${to.join(',')}`, parseSource(`a/b:${from.join(',')}`));
        if (from.length === to.length) expect(formatTarget(parse())).toBe(`x.io/b:${to.join(',')}`);
        else expect(parse).toThrow(/of the source/);
      }),
    );
  });

  it('with tags wants each tag of the source once, since it gives it one name', () => {
    const from = parseSource('a/b:1,1');
    expect(() => parseTarget('x.io/b:first,second', from)).toThrow(/lists a tag twice/);
    expect(formatTarget(parseTarget('x.io/b', from))).toBe('x.io/b');
  });
});

it('any text is a source, or is refused as one', () => {
  const fragment = fc.constantFrom(
    'a',
    'b.c',
    '/',
    ':',
    '@',
    ',',
    '*',
    '[',
    ']',
    '/*',
    ':/',
    '//',
    'sha256:',
    'docker.io',
    '1',
    ' ',
    '\\',
    '(',
    'é',
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.array(fragment, { maxLength: 8 }).map((parts) => parts.join('')),
      ),
      (text) => {
        try {
          expect(parseSource(formatSource(parseSource(text)))).toEqual(parseSource(text));
        } catch (error) {
          expect(error).toMatchObject({
            code: expect.stringMatching(/^ERR_(REFERENCE|CONFIG|DIGEST_INVALID)$/),
          });
        }
      },
    ),
    { numRuns: 2000 },
  );
});
