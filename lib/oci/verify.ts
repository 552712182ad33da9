import { HubferryError } from '../errors.ts';
import type { Descriptor } from './descriptor.ts';
import { algorithmOf, createDigester } from './digest.ts';

/**
 * Passes content on and compares it with its descriptor. The last chunk passes before the digest is known:
 * whoever reads acts on the content only after the stream has ended.
 * @throws ERR_SIZE_MISMATCH as soon as the content is too long, or when it ends early; ERR_DIGEST_MISMATCH at the end.
 */
export async function* verified(
  stream: AsyncIterable<Uint8Array>,
  descriptor: Descriptor,
): AsyncGenerator<Uint8Array, void, undefined> {
  const digester = createDigester(algorithmOf(descriptor.digest));
  let size = 0;
  for await (const chunk of stream) {
    size += chunk.byteLength;
    if (size > descriptor.size) throw sizeMismatch(descriptor, `more than ${descriptor.size}`);
    digester.update(chunk);
    yield chunk;
  }
  if (size < descriptor.size) throw sizeMismatch(descriptor, `${size} of ${descriptor.size}`);
  const digest = digester.digest();
  if (digest !== descriptor.digest) {
    throw new HubferryError(
      'ERR_DIGEST_MISMATCH',
      `The content of ${descriptor.digest} has digest ${digest}.`,
      {
        retryable: true,
      },
    );
  }
}

/** Collects a stream in memory. @throws ERR_TOO_LARGE as soon as it is longer than `limit` bytes. */
export async function readAll(stream: AsyncIterable<Uint8Array>, limit: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of stream) {
    size += chunk.byteLength;
    if (size > limit) throw new HubferryError('ERR_TOO_LARGE', `The content has more than ${limit} bytes.`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, size);
}

// Damage on the way heals when the content is read again.
function sizeMismatch(descriptor: Descriptor, found: string): HubferryError {
  return new HubferryError('ERR_SIZE_MISMATCH', `The content of ${descriptor.digest} has ${found} bytes.`, {
    retryable: true,
  });
}
