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
    '64:ff9b:0:0:0:0:7f00:1',
    '64:ff9b::127.0.0.1',
    '0064:FF9B::10.0.0.1',
    '::ffff:0:7f00:1',
    '::ffff:0:10.0.0.1',
    '::10.0.0.1',
    '::7f00:1',
    '2002:a9fe:a9fe::1',
    '2002:7f00:1::',
    '2002:a00:1:2:3:4:5:6',
    '2001:0:a9fe:a9fe::1',
    '2001::1',
    'fec0::1',
    'fe80::1%eth0',
    '168.63.129.16',
    '::ffff:168.63.129.16',
    '100::1',
    '5f00::1',
  ])('%s is inside', (address) => {
    expect(isInsideAddress(address)).toBe(true);
  });

  it.each([
    '8.8.8.8',
    '172.32.0.1',
    '100.128.0.1',
    '192.0.2.1',
    '2606:4700::1111',
    '2001:4860:4860::8888',
    '64:ff9b::808:808',
    '64:ff9b:0:0:0:0:8.8.8.8',
    '::ffff:8.8.8.8',
    '2002:808:808::1',
    '2a9f:e000::a9fe:a9fe',
    '168.63.129.17',
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

  it('sees the IPv4 address inside of an IPv6 one however that is spelled', () => {
    const octet = fc.integer({ min: 0, max: 255 });
    fc.assert(
      fc.property(fc.tuple(octet, octet, octet, octet), (parts) => {
        const dotted = parts.join('.');
        const [a, b, c, d] = parts.map((part) => part.toString(16).padStart(2, '0'));
        const groups = `${a}${b}:${c}${d}`;
        for (const address of [
          `64:ff9b::${dotted}`,
          `64:ff9b:0:0:0:0:${groups}`,
          `::ffff:${groups}`,
          `::ffff:0:${groups}`,
          `2002:${groups}::1`,
          `2002:${groups}:0:0:0:0:1`,
        ])
          expect(isInsideAddress(address), address).toBe(isInsideAddress(dotted));
      }),
    );
  });
});
