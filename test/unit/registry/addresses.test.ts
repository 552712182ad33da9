import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isInsideAddress, isInsideHost, isLoopbackHost } from '../../../lib/registry/addresses.ts';

describe('addresses', () => {
  it.each([
    '10.1.2.3',
    '127.0.0.1',
    '169.254.169.254',
    '172.16.0.1',
    '172.31.255.255',
    '192.168.1.1',
    '100.64.0.1',
    '0.0.0.0',
    '224.0.0.1',
    '255.255.255.255',
    '::',
    '::1',
    'fe80::1',
    'fd00::1',
    'ff02::1',
    '::ffff:10.0.0.1',
    '::ffff:7f00:1',
    '64:ff9b::a00:1',
  ])('%s is inside', (address) => {
    expect(isInsideAddress(address)).toBe(true);
  });

  it.each([
    '8.8.8.8',
    '172.32.0.1',
    '100.128.0.1',
    '192.0.2.1',
    '2606:4700::1111',
    '64:ff9b::808:808',
    '::ffff:8.8.8.8',
  ])('%s is outside', (address) => {
    expect(isInsideAddress(address)).toBe(false);
  });

  it('reads the host of a URL in all its spellings', () => {
    // The URL parser itself turns decimal, octal and hexadecimal spellings into dotted ones.
    for (const url of [
      'http://2130706433/',
      'http://0x7f.1/',
      'http://017700000001/',
      'http://[::1]/',
      'http://127.1/',
    ]) {
      expect(isInsideHost(new URL(url).hostname)).toBe(true);
    }
    expect(isInsideHost('localhost')).toBe(true);
    expect(isInsideHost('a.LOCALHOST.')).toBe(true);
    expect(isInsideHost('localhost.example.com')).toBe(false);
    expect(isLoopbackHost('[::1]')).toBe(true);
    expect(isLoopbackHost('10.0.0.1')).toBe(false);
  });

  it('takes any text for a host', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => void isInsideHost(text)));
    fc.assert(fc.property(fc.ipV6(), (address) => void isInsideAddress(address)));
  });
});
