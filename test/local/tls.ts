/**
 * A certificate for loopback, made in the process: the tests must run where there is no `openssl`.
 * It signs itself and is a certificate authority, so trusting this one file is enough.
 */
import { generateKeyPairSync, randomBytes, sign } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Certificate } from './server.ts';

export interface LoopbackCertificate extends Certificate {
  /** Path of a PEM file with the certificate: for `ca`, NODE_EXTRA_CA_CERTS, `--cert-dir`. */
  readonly caFile: string;
  /** Removes the file. */
  remove(): void;
}

/** Makes a key and a certificate for `127.0.0.1`, `::1` and `localhost`, valid from an hour ago for ten years. */
export function makeCertificate(): LoopbackCertificate {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const body = toBeSigned(publicKey.export({ type: 'spki', format: 'der' }));
  const signature = sign('sha256', body, privateKey);
  const cert = pem(sequence(body, ecdsaWithSha256, bitString(signature)));
  const folder = mkdtempSync(join(tmpdir(), 'hubferry-ca-'));
  const caFile = join(folder, 'ca.crt');
  writeFileSync(caFile, cert);
  return {
    cert,
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    caFile,
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

// X.509 v3 (RFC 5280 section 4.1) in DER (X.690): tag, length, value.

function der(tag: number, ...values: Uint8Array[]): Buffer {
  const value = Buffer.concat(values);
  const size = value.byteLength;
  const length = size < 0x80 ? [size] : size < 0x100 ? [0x81, size] : [0x82, size >> 8, size & 0xff];
  return Buffer.concat([Buffer.from([tag, ...length]), value]);
}

const sequence = (...values: Uint8Array[]) => der(0x30, ...values);
const set = (...values: Uint8Array[]) => der(0x31, ...values);
const integer = (bytes: Uint8Array) => der(0x02, bytes);
const octetString = (value: Uint8Array) => der(0x04, value);
const bitString = (value: Uint8Array, unusedBits = 0) => der(0x03, Buffer.from([unusedBits]), value);
const utf8 = (text: string) => der(0x0c, Buffer.from(text));
const yes = der(0x01, Buffer.from([0xff]));

function objectId(text: string): Buffer {
  const [first = 0, second = 0, ...rest] = text.split('.').map(Number);
  const bytes = [first * 40 + second];
  for (const arc of rest) {
    const groups = [arc & 0x7f];
    for (let left = arc >> 7; left > 0; left >>= 7) groups.unshift((left & 0x7f) | 0x80);
    bytes.push(...groups);
  }
  return der(0x06, Buffer.from(bytes));
}

/** UTCTime, which RFC 5280 wants up to 2049. */
function time(date: Date): Buffer {
  return der(0x17, Buffer.from(`${date.toISOString().replace(/[-:T]/g, '').slice(2, 14)}Z`));
}

const extension = (id: string, critical: boolean, value: Uint8Array) =>
  sequence(objectId(id), ...(critical ? [yes] : []), octetString(value));

const ecdsaWithSha256 = sequence(objectId('1.2.840.10045.4.3.2'));
const name = sequence(set(sequence(objectId('2.5.4.3'), utf8('hubferry loopback'))));

function toBeSigned(publicKey: Buffer): Buffer {
  const now = Date.now();
  const serial = Buffer.from([0x01, ...randomBytes(15)]);
  const validity = sequence(time(new Date(now - 3_600_000)), time(new Date(now + 3650 * 86_400_000)));
  return sequence(
    der(0xa0, integer(Buffer.from([2]))),
    integer(serial),
    ecdsaWithSha256,
    name,
    validity,
    name,
    publicKey,
    der(0xa3, sequence(...extensions())),
  );
}

function extensions(): Buffer[] {
  const dns = der(0x82, Buffer.from('localhost'));
  const ipv4 = der(0x87, Buffer.from([127, 0, 0, 1]));
  const ipv6 = der(0x87, Buffer.from([...new Array<number>(15).fill(0), 1]));
  return [
    extension('2.5.29.19', true, sequence(yes)),
    // digitalSignature and keyCertSign.
    extension('2.5.29.15', true, bitString(Buffer.from([0x84]), 2)),
    extension('2.5.29.37', false, sequence(objectId('1.3.6.1.5.5.7.3.1'))),
    extension('2.5.29.17', false, sequence(dns, ipv4, ipv6)),
  ];
}

function pem(bytes: Uint8Array): string {
  const lines =
    Buffer.from(bytes)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}
