import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Platform } from '../../../lib/oci/descriptor.ts';
import {
  formatPlatform,
  formatPlatformPattern,
  matchesPlatform,
  parsePlatformPattern,
} from '../../../lib/oci/platform.ts';

describe('parsePlatformPattern', () => {
  it.each([
    ['linux', { os: 'linux' }],
    ['linux/amd64', { os: 'linux', architecture: 'amd64' }],
    ['linux/arm64/v8', { os: 'linux', architecture: 'arm64', variant: 'v8' }],
    ['linux/arm:v7', { os: 'linux', architecture: 'arm', variant: 'v7' }],
    ['linux/arm/7', { os: 'linux', architecture: 'arm', variant: 'v7' }],
    ['windows(10.0.17763)/amd64', { os: 'windows', osVersion: '10.0.17763', architecture: 'amd64' }],
    ['windows:10.0.17763', { os: 'windows', osVersion: '10.0.17763' }],
    ['*/arm64', { architecture: 'arm64' }],
    ['Linux/AMD64', { os: 'linux', architecture: 'amd64' }],
    ['linux/aarch64', { os: 'linux', architecture: 'arm64' }],
    ['linux/x86_64', { os: 'linux', architecture: 'amd64' }],
    ['linux/armhf', { os: 'linux', architecture: 'arm', variant: 'v7' }],
    ['*', {}],
  ])('reads %s', (text, pattern) => {
    expect(parsePlatformPattern(text)).toEqual(pattern);
  });

  it.each([
    '',
    '/',
    'linux/',
    '/amd64',
    'linux/amd64/v1/x',
    'linux amd64',
    'linux()',
    'linux,windows',
    'a\n',
  ])('refuses %j', (text) => {
    expect(() => parsePlatformPattern(text)).toThrow(expect.objectContaining({ code: 'ERR_CONFIG' }));
  });

  it.each(['amd64', 'arm64', 'aarch64'])('says what to write instead of %s alone', (text) => {
    expect(() => parsePlatformPattern(text)).toThrow(`write linux/${text}`);
  });

  it('reads back what formatPlatformPattern writes', () => {
    const word = fc.constantFrom('linux', 'windows', 'freebsd');
    const cpu = fc.constantFrom('amd64', 'arm', 'arm64', 'riscv64');
    const patterns = fc.record(
      {
        os: word,
        osVersion: fc.constantFrom('10.0', '10.0.17763.1'),
        architecture: cpu,
        variant: fc.constantFrom('v6', 'v8'),
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(patterns, (pattern) => {
        expect(parsePlatformPattern(formatPlatformPattern(pattern))).toEqual(pattern);
      }),
    );
  });
});

describe('matchesPlatform', () => {
  const platform = (os: string, architecture: string, variant?: string): Platform => ({
    os,
    architecture,
    ...(variant !== undefined && { variant }),
  });
  const windows = (version: string) => ({ ...platform('windows', 'amd64'), 'os.version': version });

  it.each([
    ['linux', platform('linux', 's390x')],
    ['linux/amd64', platform('linux', 'amd64')],
    ['linux/amd64', platform('Linux', 'x86_64')],
    ['linux/arm64', platform('linux', 'arm64')],
    ['linux/arm64', platform('linux', 'arm64', 'v8')],
    ['linux/arm64/v8', platform('linux', 'arm64')],
    ['linux/arm64/v8', platform('linux', 'arm64', '8')],
    ['linux/arm64/v8', platform('linux', 'aarch64')],
    ['linux/arm', platform('linux', 'arm')],
    ['linux/arm', platform('linux', 'arm', 'v5')],
    ['linux/arm', platform('linux', 'arm', 'v7')],
    ['linux/arm/v7', platform('linux', 'arm')],
    ['linux/arm/v7', platform('linux', 'armhf')],
    ['*/arm64', platform('darwin', 'arm64')],
    ['windows', windows('10.0.17763.5830')],
    ['windows(10.0.17763)/amd64', windows('10.0.17763.5830')],
    ['windows(10.0.17763)/amd64', windows('10.0.17763')],
  ])('%s takes %o', (pattern, actual) => {
    expect(matchesPlatform(actual, [parsePlatformPattern(pattern)])).toBe(true);
  });

  it.each([
    ['linux', platform('windows', 'amd64')],
    ['linux/amd64', platform('amd64', 'linux')],
    ['linux/amd64', platform('linux', 'arm64')],
    ['linux/arm', platform('linux', 'arm64')],
    ['linux/arm/v6', platform('linux', 'arm')],
    ['linux/arm/v6', platform('linux', 'arm', 'v7')],
    ['linux/arm64/v9', platform('linux', 'arm64')],
    ['linux', platform('unknown', 'unknown')],
    ['windows(10.0.1776)/amd64', windows('10.0.17763')],
    ['windows(10.0.17763)/amd64', windows('10.0.20348.1')],
    ['windows(10.0.17763)/amd64', platform('windows', 'amd64')],
  ])('%s does not take %o', (pattern, actual) => {
    expect(matchesPlatform(actual, [parsePlatformPattern(pattern)])).toBe(false);
  });

  it('takes everything when there is no pattern', () => {
    expect(matchesPlatform(platform('linux', 'amd64'), [])).toBe(true);
    expect(matchesPlatform(undefined, [])).toBe(true);
  });

  it('takes what one of several patterns takes', () => {
    const patterns = ['linux/amd64', 'linux/arm64'].map(parsePlatformPattern);
    expect(matchesPlatform(platform('linux', 'arm64'), patterns)).toBe(true);
    expect(matchesPlatform(platform('linux', 's390x'), patterns)).toBe(false);
  });

  it('takes no entry without a platform', () => {
    expect(matchesPlatform(undefined, [parsePlatformPattern('*')])).toBe(false);
  });
});

describe('formatPlatform', () => {
  it('writes a platform as people do', () => {
    expect(formatPlatform({ os: 'linux', architecture: 'arm64', variant: 'v8' })).toBe('linux/arm64/v8');
    expect(formatPlatform({ os: 'linux', architecture: 'amd64' })).toBe('linux/amd64');
    expect(formatPlatform({ os: 'windows', architecture: 'amd64', 'os.version': '10.0.17763.1' })).toBe(
      'windows(10.0.17763.1)/amd64',
    );
  });
});
