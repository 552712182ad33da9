import { BlockList, isIP } from 'node:net';

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

/** What is not out on the internet: the special purpose registries of IANA (RFC 6890), multicast and reserved space. */
const inside = new BlockList();
for (const [network, prefix] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['224.0.0.0', 3],
] as const) {
  inside.addSubnet(network, prefix, 'ipv4');
}
for (const [network, prefix] of [
  ['::', 127],
  ['64:ff9b:1::', 48],
  ['fc00::', 7],
  ['fe80::', 10],
  ['ff00::', 8],
] as const) {
  inside.addSubnet(network, prefix, 'ipv6');
}

/** Whether the address is private, loopback, link-local or otherwise not out on the internet. */
export function isInsideAddress(address: string): boolean {
  return matches(inside, address);
}

/** Whether a URL's host name is an address that is inside, without asking any name server. */
export function isInsideHost(hostname: string): boolean {
  return isLoopbackHost(hostname) || isInsideAddress(unbracketed(hostname));
}

/** `localhost` and its subdomains (RFC 6761), 127.0.0.0/8 and ::1. */
export function isLoopbackHost(hostname: string): boolean {
  const name = hostname.toLowerCase().replace(/\.$/, '');
  return name === 'localhost' || name.endsWith('.localhost') || matches(loopback, unbracketed(name));
}

function matches(list: BlockList, address: string): boolean {
  const family = isIP(address);
  if (family === 0) return false;
  if (family === 4) return list.check(address, 'ipv4');
  const embedded = embeddedIPv4(address);
  return list.check(address, 'ipv6') || (embedded !== undefined && list.check(embedded, 'ipv4'));
}

/** The IPv4 address inside of 64:ff9b::/96 (NAT64, RFC 6052). `BlockList` itself sees through ::ffff:0:0/96. */
function embeddedIPv4(address: string): string | undefined {
  const match = /^64:ff9b::([0-9a-f]{1,4}):([0-9a-f]{1,4})$/i.exec(address);
  if (match === null) return undefined;
  const [high, low] = [Number.parseInt(match[1] ?? '', 16), Number.parseInt(match[2] ?? '', 16)];
  return [high >> 8, high & 255, low >> 8, low & 255].join('.');
}

function unbracketed(hostname: string): string {
  return hostname.startsWith('[') ? hostname.slice(1, -1) : hostname;
}

/** The error that a name lookup ends with where the guard refuses its result. */
export class AddressRefusedError extends Error {
  override readonly name = 'AddressRefusedError';
}
