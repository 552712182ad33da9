import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Descriptor } from '../../../lib/oci/descriptor.ts';
import { descriptorOf } from '../../../lib/oci/manifest.ts';
import { readAll, verified } from '../../../lib/oci/verify.ts';

const content = new TextEncoder().encode('the content of a blob');
const truth = descriptorOf(content, 'application/octet-stream');

async function* chunks(...parts: Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* parts;
}

describe('verified', () => {
  it('passes on what it verified', async () => {
    const stream = verified(chunks(content.subarray(0, 5), content.subarray(5)), truth);
    expect(Buffer.from(await readAll(stream, 1000)).equals(content)).toBe(true);
  });

  it('takes no content for a descriptor of no content', async () => {
    const nothing = descriptorOf(new Uint8Array(), 'application/octet-stream');
    expect(await readAll(verified(chunks(), nothing), 0)).toHaveLength(0);
  });

  it('verifies sha512', async () => {
    const descriptor = descriptorOf(content, 'application/octet-stream', 'sha512');
    expect(await readAll(verified(chunks(content), descriptor), 1000)).toHaveLength(content.length);
  });

  it('refuses other content of the same size, once it has ended', async () => {
    const other = content.toReversed();
    await expect(readAll(verified(chunks(other), truth), 1000)).rejects.toMatchObject({
      code: 'ERR_DIGEST_MISMATCH',
      retryable: true,
    });
  });

  it('refuses content that ends early', async () => {
    await expect(readAll(verified(chunks(content.subarray(1)), truth), 1000)).rejects.toMatchObject({
      code: 'ERR_SIZE_MISMATCH',
    });
  });

  it('refuses a descriptor with a malformed digest before it reads', async () => {
    const descriptor: Descriptor = { ...truth, digest: 'sha256:00' };
    await expect(readAll(verified(chunks(content), descriptor), 1000)).rejects.toMatchObject({
      code: 'ERR_DIGEST_INVALID',
    });
  });

  it('stops an endless stream as soon as it is too long, and closes it', async () => {
    let closed = false;
    async function* endless(): AsyncGenerator<Uint8Array> {
      try {
        while (true) yield content;
      } finally {
        closed = true;
      }
    }
    await expect(readAll(verified(endless(), truth), 1_000_000)).rejects.toMatchObject({
      code: 'ERR_SIZE_MISMATCH',
    });
    expect(closed).toBe(true);
  });
});

describe('readAll', () => {
  it('takes exactly its limit', async () => {
    expect(await readAll(chunks(content), content.length)).toHaveLength(content.length);
  });

  it('refuses one byte more', async () => {
    await expect(readAll(chunks(content), content.length - 1)).rejects.toMatchObject({
      code: 'ERR_TOO_LARGE',
    });
  });
});

describe('over HTTP', () => {
  let server: Server;
  let url: string;

  beforeEach(async () => {
    server = createServer((request, response) => {
      const whole = request.url === '/whole';
      response.writeHead(200, { 'content-type': 'application/octet-stream' });
      response.end(whole ? content : Buffer.concat([content, content]));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });

  afterEach(async () => {
    await new Promise((resolve) => server.close(resolve));
  });

  const body = async (path: string) => {
    const response = await fetch(url + path);
    if (response.body === null) throw new Error('no body');
    return response.body;
  };

  it('reads a response of the right content', async () => {
    expect(await readAll(verified(await body('/whole'), truth), 1000)).toHaveLength(content.length);
  });

  it('refuses a response that is longer than the descriptor says', async () => {
    await expect(readAll(verified(await body('/twice'), truth), 1000)).rejects.toMatchObject({
      code: 'ERR_SIZE_MISMATCH',
    });
  });
});
