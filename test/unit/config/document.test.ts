import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { formatPath, readDocument } from '../../../lib/config/document.ts';
import { errorOf } from './read.ts';

const contentOf = (text: string) => readDocument({ text }).value;
const refusal = (text: string) => errorOf(() => readDocument({ text, file: 'f.yaml' }));

/** What is told of a text, and where; nothing of one that can be read. */
function errorMessages(text: string): string {
  try {
    readDocument({ text });
    return '';
  } catch (error) {
    return `${error} ${JSON.stringify(error)}`;
  }
}

describe('a text that attacks its reader', () => {
  it('does not reach a prototype', () => {
    for (const text of ['__proto__: {polluted: true}', '{"a": {"__proto__": {"polluted": true}}}']) {
      expect(refusal(text).message).toBe('This key is not allowed.');
    }
    const value = contentOf('constructor: {prototype: {polluted: true}}');
    expect(value).toEqual({ constructor: { prototype: { polluted: true } } });
    expect(Reflect.get({}, 'polluted')).toBeUndefined();
  });

  it('does not grow by aliases', () => {
    const levels = Array.from({ length: 9 }, (_, level) => {
      const item = level === 0 ? 'x' : `*a${level - 1}`;
      return `a${level}: &a${level} [${Array(10).fill(item).join(', ')}]`;
    });
    expect(refusal(levels.join('\n')).message).toMatch(/More than 200000 values/);
  });

  it('does not repeat many aliases at the price of its length', () => {
    const started = performance.now();
    expect(refusal(`a: &a 1\nb: [${'*a,'.repeat(250_000)}]`).message).toMatch(/values/);
    expect(performance.now() - started).toBeLessThan(30_000);
  });

  it.each([
    ['lists', '['.repeat(20_000)],
    ['maps', '{"a":'.repeat(20_000)],
    ['blocks', '- '.repeat(20_000)],
    ['forty closed lists', '['.repeat(40) + ']'.repeat(40)],
    ['an alias of itself', 'a: &a {b: *a}'],
  ])('does not exhaust the stack by nesting: %s', (_what, text) => {
    expect(refusal(text).message).toMatch(/nested/i);
  });

  it('is not read beyond 2 MiB', () => {
    expect(refusal(' '.repeat(2 * 1024 * 1024 + 1)).message).toMatch(/larger than 2 MiB/);
  });

  it('has many keys at a price that grows with their number', () => {
    const keys = Array.from({ length: 20_000 }, (_, index) => `k${index}: 1`).join('\n');
    const started = performance.now();
    expect(Object.keys(contentOf(keys) as object)).toHaveLength(20_000);
    expect(performance.now() - started).toBeLessThan(30_000);
  });
});

describe('only plain YAML', () => {
  it.each([
    ['two documents', 'a: 1\n---\nb: 2\n', 2],
    ['a tag', 'a: !!binary aGVsbG8=\n', 1],
    ['a tag of a map', 'b: 1\na: !!set {x}\n', 2],
    ['a local tag', 'a: !x 1\n', 1],
    ['a list for a key', 'a: 1\n? [b]\n: 2\n', 2],
    ['an alias for a key', 'a: &a x\n*a : 1\n', 2],
    ['an alias before its anchor', 'a: *b\nb: &b 1\n', 1],
    ['an anchor that is not there', 'a: *b\n', 1],
    ['a tab for indentation', 'a:\n\tb: 1\n', 2],
    ['an open quote', 'a: 1\nb: "x\n', 3],
    ['an open bracket', 'a: [1\nb: 2\n', 2],
    ['an equal key', 'a: 1\nb: 1\n"a": 2\n', 3],
  ])('%s is refused', (_what, text, line) => {
    expect(refusal(text)).toMatchObject({ code: 'ERR_CONFIG', file: 'f.yaml', line });
  });

  it('says in its own words that a second document is too many', () => {
    expect(refusal('a: 1\n---\nb: 2\n').message).toMatch(/: it holds more than one document\.$/);
  });

  it.each([
    '!s3cret',
    '!!s3cret',
    '!<s3cret',
    '|s3cret',
    '>s3cret',
    '%s3cret',
    '@s3cret',
    '`s3cret',
    '&s3cret: s3cret',
    '*s3cret',
    '"a\\s3cret"',
    '"s3cret',
    "'s3cret' s3cret",
    '[s3cret',
    's3cret: s3cret: s3cret',
    '{s3cret, s3cret}',
    '{s3cret: {<<: x}}',
    '[s3cret]: s3cret',
    '- s3cret',
    's3cret\n  s3cret: x',
    's3cret\n\ts3cret',
  ])('repeats nothing of a password that YAML misreads: %j', (written) => {
    for (const text of [`a:\n  password: ${written}\n`, `a: {password: ${written}, b: }\n`]) {
      expect(errorMessages(text)).not.toContain('s3cret');
    }
  });

  it('refuses merge keys, with which a login would be lost without a word', () => {
    for (const version of ['', '%YAML 1.1\n---\n']) {
      expect(refusal(`${version}a: &a {k: 1}\nb:\n  <<: *a\n`)).toMatchObject({
        code: 'ERR_CONFIG',
        path: 'b["<<"]',
        message: expect.stringMatching(/write the keys out/),
      });
    }
  });

  it('takes dates as the texts they are, whatever version the file asks for', () => {
    const text = 'c: 2024-01-01\nd: yes\n';
    const expected = { c: '2024-01-01', d: 'yes' };
    expect(contentOf(text)).toEqual(expected);
    expect(contentOf(`%YAML 1.1\n---\n${text}`)).toEqual(expected);
  });

  it('keeps the anchor that was written last', () => {
    expect(contentOf('a: &x 1\nb: *x\nc: &x 2\nd: *x\n')).toEqual({ a: 1, b: 1, c: 2, d: 2 });
  });
});

describe('a place', () => {
  const document = readDocument({
    file: 'f.yaml',
    text: '# head\na:\n  b: 1\n  c:\n    - x\n    - y: z\nd: {e: [1,\n  2]}\nf: &f\n  g: 1\nh: *f\ni:\n',
  });

  it.each([
    [['a'], 2],
    [['a', 'b'], 3],
    [['a', 'c'], 4],
    [['a', 'c', 0], 5],
    [['a', 'c', 1, 'y'], 6],
    [['d', 'e', 1], 8],
    [['h'], 11],
    [['h', 'g'], 10],
    [['i'], 12],
    [['a', 'absent'], 2],
    [['a', 'c', 7], 4],
    [[], 2],
  ])('%j is in line %s', (path, line) => {
    expect(document.lineOf(path)).toBe(line);
  });

  it('is written as a path', () => {
    expect(formatPath(['rules', 0, 'tags', 'include', 1])).toBe('rules[0].tags.include[1]');
    expect(formatPath(['registries', 'docker.io/a', 'username'])).toBe('registries["docker.io/a"].username');
    expect(formatPath(['a"b'])).toBe('["a\\"b"]');
  });

  it('tells how a scalar was spelled', () => {
    const spelled = readDocument({ text: 'a: 007\nb: "x"\nc: 1.10\nd: [1]\n' });
    expect([['a'], ['b'], ['c'], ['d'], ['e']].map((path) => spelled.spelling(path))).toEqual([
      '007',
      'x',
      '1.10',
      undefined,
      undefined,
    ]);
  });
});

const plain = fc.letrec<{ value: unknown; text: string }>((tie) => ({
  text: fc.string({ maxLength: 12 }).filter((text) => text !== '__proto__'),
  value: fc.oneof(
    { depthSize: 'small' },
    fc.constantFrom(null, true, false, 0, -1, 1.5),
    tie('text'),
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(
      fc.string({ maxLength: 8 }).filter((text) => text !== '__proto__'),
      tie('value'),
      { maxKeys: 4, noNullPrototype: true },
    ),
  ),
}));

describe('any plain value', () => {
  it('comes back from JSON and from YAML', () => {
    fc.assert(
      fc.property(plain.value, (value) => {
        const wrapped = { value };
        expect(contentOf(JSON.stringify(wrapped))).toEqual(JSON.parse(JSON.stringify(wrapped)));
        expect(contentOf(stringify(wrapped, { aliasDuplicateObjects: false }))).toEqual(
          JSON.parse(JSON.stringify(wrapped)),
        );
      }),
    );
  });

  it('or text is read, or refused as configuration', () => {
    const fragment = fc.constantFrom(
      'a',
      ': ',
      '- ',
      '[',
      ']',
      '{',
      '}',
      '"',
      "'",
      '\n',
      '  ',
      '&x ',
      '*x',
      '!',
      '|\n',
      '#',
      ',',
      '? ',
      '<<',
    );
    fc.assert(
      fc.property(fc.array(fragment, { maxLength: 20 }), (fragments) => {
        try {
          readDocument({ text: fragments.join('') });
        } catch (error) {
          expect(error).toMatchObject({ name: 'ConfigError', code: 'ERR_CONFIG' });
        }
      }),
      { numRuns: 500 },
    );
  });
});
