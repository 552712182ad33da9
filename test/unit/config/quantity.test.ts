import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseDuration, parseSize } from '../../../lib/config/quantity.ts';

describe('a duration', () => {
  it.each([
    ['0', 0],
    ['90s', 90_000],
    ['5m', 300_000],
    ['12h', 43_200_000],
    ['30d', 2_592_000_000],
    ['2w', 1_209_600_000],
  ])('%s', (text, milliseconds) => {
    expect(parseDuration(text)).toBe(milliseconds);
  });

  it.each(['', 's', '5', '5 m', '1.5h', '-1s', '1h30m', '5M', '5ms', '1e3s', '9999999s', '５s'])(
    '%j is none',
    (text) => {
      expect(parseDuration(text)).toBeUndefined();
    },
  );
});

describe('a size', () => {
  it.each([
    ['0', 0],
    ['1048576', 1_048_576],
    ['512KiB', 524_288],
    ['8MiB', 8_388_608],
    ['2GiB', 2_147_483_648],
  ])('%s', (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  it.each(['', 'MiB', '8 MiB', '8MB', '8mib', '8M', '1.5MiB', '-1', '1TiB', '1234567890123'])(
    '%j is none',
    (text) => {
      expect(parseSize(text)).toBeUndefined();
    },
  );
});

it('any text is a whole number of its unit, or nothing', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 10 }), (text) => {
      for (const value of [parseDuration(text), parseSize(text)]) {
        expect(value === undefined || (Number.isSafeInteger(value) && value >= 0)).toBe(true);
      }
    }),
  );
});
