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
  // Of Azure itself, on every virtual machine and in the function app.
  ['168.63.129.16', 32],
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
  ['100::', 64],
  ['2001::', 23],
  ['5f00::', 16],
  ['fc00::', 7],
  ['fe80::', 10],
  ['fec0::', 10],
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
  // The name of an interface may follow (RFC 4007 section 11).
  const [plain = ''] = address.split('%');
  const embedded = embeddedIPv4(groupsOf(plain));
  return list.check(plain, 'ipv6') || (embedded !== undefined && list.check(embedded, 'ipv4'));
}

/** The eight numbers of an IPv6 address. The URL parser leaves one spelling of each. */
function groupsOf(address: string): number[] {
  const [head = '', tail = ''] = unbracketed(new URL(`http://[${address}]/`).hostname).split('::');
  const [before = [], after = []] = [head, tail].map((part) => part.split(':').filter(Boolean));
  const gap = Array<string>(8 - before.length - after.length).fill('0');
  return [...before, ...gap, ...after].map((group) => Number.parseInt(group, 16));
}

/** `BlockList` itself sees through ::ffff:0:0/96. */
const prefixesOfIPv4: readonly (readonly number[])[] = [
  [0x64, 0xff9b, 0, 0, 0, 0], // NAT64 (RFC 6052)
  [0, 0, 0, 0, 0xffff, 0], // IPv4-translated (RFC 2765)
  [0, 0, 0, 0, 0, 0], // IPv4-compatible (RFC 4291 section 2.5.5.1)
  [0x2002], // 6to4 (RFC 3056)
];

/** The IPv4 address to which a network takes what is sent to this IPv6 address. */
function embeddedIPv4(groups: readonly number[]): string | undefined {
  const prefix = prefixesOfIPv4.find((one) => one.every((group, index) => group === groups[index]));
  if (prefix === undefined) return undefined;
  const pair = groups.slice(prefix.length, prefix.length + 2);
  return pair.flatMap((group) => [group >> 8, group & 255]).join('.');
}

function unbracketed(hostname: string): string {
  return hostname.startsWith('[') ? hostname.slice(1, -1) : hostname;
}

/** The error that a name lookup ends with where the guard refuses its result. */
export class AddressRefusedError extends Error {
  override readonly name = 'AddressRefusedError';
}
