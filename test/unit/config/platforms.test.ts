import { describe, expect, it } from 'vitest';
import { platformsFromFlags } from '../../../lib/config/arguments.ts';
import { readPlatform } from '../../../lib/config/platforms.ts';
import { formatPlatformPattern } from '../../../lib/oci/platform.ts';
import { errorOf } from './read.ts';

describe('a platform', () => {
  it.each([
    ['linux/amd46', 'linux/amd64'],
    ['linux/arm46', 'linux/arm64'],
    ['linx/arm64', 'linux/arm64'],
    ['windwos(10.0.17763)/amd64', 'windows(10.0.17763)/amd64'],
    ['linux/armv7', 'linux/arm/v7'],
    ['linux/arm32v6', 'linux/arm/v6'],
    ['linux/arm64v8', 'linux/arm64/v8'],
    ['linux/x64', 'linux/amd64'],
  ])('%s is refused: %s was meant', (text, right) => {
    expect(() => readPlatform(text)).toThrow(`did you mean ${right}?`);
    expect(formatPlatformPattern(readPlatform(right))).toBe(right);
  });

  it.each([
    'linux',
    '*/arm64',
    'linux/riscv64',
    'linux/x86_64',
    'linux/arm/7',
    'wasi/wasm',
    'linux/quantum9',
  ])('%s is taken as it is', (text) => {
    expect(() => readPlatform(text)).not.toThrow();
  });

  it.each(['linux-amd64', 'linux_arm64'])('%s is refused with what it is to be', (text) => {
    expect(() => readPlatform(text)).toThrow(`did you mean ${text.replace(/[-_]/, '/')}?`);
  });

  it('of the command line is refused by its option', () => {
    expect(errorOf(() => platformsFromFlags(['linux'], ['amd46']))).toMatchObject({
      code: 'ERR_USAGE',
      path: '--os',
      message: expect.stringContaining('did you mean linux/amd64?'),
    });
  });
});
