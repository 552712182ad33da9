/** Memory that is read into again must never change a byte under its reader. */
import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { giveBack } from '../../../lib/oci/memory.ts';
import { randomBlob } from '../../local/content.ts';
import type { Answer } from '../../local/server.ts';
import { makeCertificate } from '../../local/tls.ts';
import { afterTest, serve, transportTo } from './support.ts';

const size = 12_000_000;
const blobs = ['a', 'b', 'c', 'd', 'e'].map((seed) => randomBlob(seed, size));

/** Serves the blobs by number; the odd ones in chunks of unknown total length. */
function answer(path: string): Answer {
  const number = Number(path.slice(1));
  const blob = blobs[number];
  if (blob === undefined) throw new Error(`no blob ${path}`);
  const headers = number % 2 === 0 ? { 'content-length': size } : {};
  return { status: 200, headers, body: blob.open(0, size) };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe('pieces that are lent', () => {
  it.each(['plain', 'TLS'])('are whole until they are given back, over %s', async (kind) => {
    const certificate = kind === 'TLS' ? makeCertificate() : undefined;
    afterTest(() => certificate?.remove());
    const server = await serve(({ path }) => answer(path), { tls: certificate });
    const transport = transportTo(server.url, { with: certificate ? { ca: certificate.caFile } : {} });
    const digestOf = async (number: number): Promise<string> => {
      const { body } = await transport.send({ method: 'GET', url: `/${number}` });
      const hash = createHash('sha256');
      const held: Uint8Array[] = [];
      const look = (piece: Uint8Array) => {
        hash.update(piece);
        giveBack(piece);
      };
      let count = 0;
      for await (const piece of body) {
        // Some readers dawdle, so that connections pause and others read meanwhile.
        if (count++ % (number + 2) === 0) await turn();
        held.push(piece);
        if (held.length > 10 * number) held.splice(0, 1).forEach(look);
      }
      held.forEach(look);
      return `sha256:${hash.digest('hex')}`;
    };
    for (let round = 0; round < 2; round++) {
      const digests = await Promise.all(blobs.map((_blob, number) => digestOf(number)));
      expect(digests).toEqual(blobs.map(({ descriptor }) => descriptor.digest));
    }
  });
});
