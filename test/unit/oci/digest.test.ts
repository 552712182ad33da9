import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { codeOf } from '../../../lib/errors.ts';
import { algorithmOf, createDigester, digestOf, isDigest, parseDigest } from '../../../lib/oci/digest.ts';

const bytes = (text: string) => new TextEncoder().encode(text);
const hex = (length: number) => 'a'.repeat(length);

describe('digestOf', () => {
  it('gives the digest of nothing as everybody knows it', () => {
    expect(digestOf(bytes(''))).toBe(
      'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
    );
  });

  it('takes sha512 when asked for', () => {
    const expected = createHash('sha512').update('x').digest('hex');
    expect(digestOf(bytes('x'), 'sha512')).toBe(`sha512:${expected}`);
  });
});

describe('createDigester', () => {
  it('gives the digest of the whole, however it was cut into chunks', () => {
    const algorithms = fc.constantFrom('sha256' as const, 'sha512' as const);
    fc.assert(
      fc.property(fc.array(fc.uint8Array()), algorithms, (chunks, algorithm) => {
        const digester = createDigester(algorithm);
        for (const chunk of chunks) digester.update(chunk);
        expect(digester.digest()).toBe(digestOf(Buffer.concat(chunks), algorithm));
      }),
    );
  });
});

describe('parseDigest', () => {
  it.each([`sha256:${hex(64)}`, `sha512:${hex(128)}`])('takes %s', (text) => {
    expect(parseDigest(text)).toBe(text);
  });

  it.each([
    ['another length', `sha256:${hex(63)}`],
    ['the length of the other algorithm', `sha512:${hex(64)}`],
    ['upper case', `sha256:${hex(63)}A`],
    ['what is no hexadecimal digit', `sha256:${hex(63)}g`],
    ['another algorithm', `sha384:${hex(96)}`],
    ['an algorithm in upper case', `SHA256:${hex(64)}`],
    ['no algorithm', hex(64)],
    ['a newline at the end', `sha256:${hex(64)}\n`],
    ['a path that climbs', `sha256:../../${hex(58)}`],
    ['nothing', ''],
  ])('refuses %s', (_what, text) => {
    expect(() => parseDigest(text)).toThrow(expect.objectContaining({ code: 'ERR_DIGEST_INVALID' }));
  });

  it('repeats no more than the beginning of an endless text', () => {
    expect(() => parseDigest('x'.repeat(100_000))).toThrow(
      expect.objectContaining({ message: expect.stringMatching(/^.{1,300}$/) }),
    );
  });

  it('takes exactly what isDigest says, and refuses the rest with one code', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.uint8Array().map((content) => digestOf(content)),
        ),
        (text) => {
          try {
            expect(parseDigest(text)).toBe(text);
            expect(isDigest(text)).toBe(true);
          } catch (error) {
            expect(codeOf(error)).toBe('ERR_DIGEST_INVALID');
            expect(isDigest(text)).toBe(false);
          }
        },
      ),
    );
  });
});

describe('algorithmOf', () => {
  it('reads the algorithm', () => {
    expect(algorithmOf(`sha256:${hex(64)}`)).toBe('sha256');
    expect(algorithmOf(`sha512:${hex(128)}`)).toBe('sha512');
  });

  it('refuses a digest that was never parsed', () => {
    expect(() => algorithmOf('md5:00')).toThrow(expect.objectContaining({ code: 'ERR_DIGEST_INVALID' }));
  });
});
