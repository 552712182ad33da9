import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compilePattern, formatPattern, isGlob, parsePattern } from '../../../lib/sync/select/pattern.ts';

const matches = (text: string, tag: string) => compilePattern(parsePattern(text))(tag);

const tagChar = fc.constantFrom(...'abzAZ019_.-');
const tag = fc.string({ unit: tagChar, minLength: 1, maxLength: 20 });

/** A glob with its meaning said a second time, by backtracking over its parts. */
const part = fc.oneof(
  tagChar.map((char) => ({ text: char, takes: [char] })),
  fc.constant({ text: '?', takes: 'any' as const }),
  fc.constant({ text: '*', takes: 'many' as const }),
  fc.constant({ text: '[a-z]', takes: [...'abcdefghijklmnopqrstuvwxyz'] }),
  fc.constant({ text: '[!0-9]', takes: [...'abzAZ_.-'] }),
);
interface Part {
  readonly text: string;
  readonly takes: readonly string[] | 'any' | 'many';
}

function backtrack([first, ...rest]: readonly Part[], text: string): boolean {
  if (first === undefined) return text === '';
  if (first.takes === 'many')
    return backtrack(rest, text) || (text !== '' && backtrack([first, ...rest], text.slice(1)));
  const [char] = text;
  return (
    char !== undefined &&
    (first.takes === 'any' || first.takes.includes(char)) &&
    backtrack(rest, text.slice(1))
  );
}

describe('a glob', () => {
  it.each([
    ['v*', 'v1.2', true],
    ['v*', 'av1', false],
    ['*', 'anything', true],
    ['1.?', '1.2', true],
    ['1.?', '1.23', false],
    ['1.2', '1x2', false],
    ['*-rc*', '2.0-rc1', true],
    ['[0-9]*', '7-alpine', true],
    ['[!0-9]*', '7-alpine', false],
    ['[^v]*', 'v1', false],
    ['[a.-]x', '.x', true],
    ['**', 'a', true],
    ['latest', 'latest', true],
    ['latest', 'latest-slim', false],
  ])('%s over %s: %s', (glob, name, expected) => {
    expect(matches(glob, name)).toBe(expected);
  });

  it('means the same as a matcher that tries everything', () => {
    fc.assert(
      fc.property(fc.array(part, { minLength: 1, maxLength: 6 }), tag, (parts, name) => {
        const text = parts.map((each) => each.text).join('');
        expect(matches(text, name)).toBe(backtrack(parts, name));
      }),
    );
  });

  it('that is made of a tag matches that tag and no other', () => {
    fc.assert(
      fc.property(tag, tag, (name, other) => {
        expect(matches(name, other)).toBe(name === other);
      }),
    );
  });

  it.each([
    ['v{1,2}', 'regular expression between slashes'],
    ['a|b', 'regular expression between slashes'],
    ['v\\d', 'regular expression between slashes'],
    ['[1', 'not closed'],
    ['[]', 'not closed'],
    ['[z-a]', 'invalid character class range'],
    ['a b', 'no tag contains " "'],
    ['docker.io/x', 'no tag contains "/"'],
    ['', 'empty'],
    ['a'.repeat(1100), 'longer than 1024'],
  ])('%s is refused: %s', (glob, why) => {
    expect(() => compilePattern({ kind: 'glob', text: glob, anchored: true })).toThrow(why);
  });
});

describe('a regular expression', () => {
  it.each([
    ['/\\d+\\.\\d+/', '1.25', true],
    ['/\\d+\\.\\d+/', '1.25.3', false],
    ['/a|b/', 'ab', false],
    ['/a|b/', 'b', true],
    ['/^v1$/', 'v1', true],
    ['/(?i)LATEST/', 'latest', true],
  ])('%s over %s: %s, the whole name', (text, name, expected) => {
    expect(matches(text, name)).toBe(expected);
  });

  it('matches anywhere where it is not anchored, as in image-syncer', () => {
    const test = compilePattern({ kind: 'regex', text: 'a+', anchored: false });
    expect(['baab', 'a', 'v1-alpine'].map(test)).toEqual([true, true, true]);
    expect(test('1.2')).toBe(false);
  });

  it.each([
    '(',
    '(?=a)',
    '(?<!a)b',
    '(a)\\1',
    'a{1001}',
    '((a{100}){10}){10}',
    '(?:(?:\\pL{500})?\\pN{500})\\pL{900}'.repeat(3),
  ])('%s is refused with the reason', (text) => {
    expect(() => compilePattern({ kind: 'regex', text, anchored: true })).toThrow(
      expect.objectContaining({ code: 'ERR_CONFIG', message: expect.stringMatching(/RE2\): .{5}/) }),
    );
  });

  it('takes time linear in the tag, also where backtracking would not end', () => {
    const test = compilePattern(parsePattern('/(a*)*(a|aa)*(.*a){10}x/'));
    const started = performance.now();
    for (let count = 0; count < 1000; count++) test('a'.repeat(128));
    expect(performance.now() - started).toBeLessThan(5000);
  });
});

it('a pattern is written as it was read', () => {
  for (const text of ['v*', '/v\\d+/', '/', '//x']) expect(formatPattern(parsePattern(text))).toBe(text);
});

it('no tag is taken for a glob, and every glob has a sign of one', () => {
  fc.assert(fc.property(tag, (name) => !isGlob(name)));
  expect(['v*', 'v?', 'v[12]'].map(isGlob)).toEqual([true, true, true]);
});
