import { createHash } from 'node:crypto';
import { HubferryError } from '../errors.ts';
import type { Digest } from './descriptor.ts';

/** The algorithms that image-spec v1.1 registers (descriptor.md, "Registered algorithms") and registries take. */
export type DigestAlgorithm = 'sha256' | 'sha512';

// The hexadecimal part is lower case: descriptor.md, "SHA-256" and "SHA-512".
const digestShape = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/;

/** Whether the text is a digest that hubferry can verify. */
export function isDigest(text: string): text is Digest {
  return digestShape.test(text);
}

/** @throws ERR_DIGEST_INVALID */
export function parseDigest(text: string): Digest {
  if (isDigest(text)) return text;
  const shown = JSON.stringify(text.slice(0, 140));
  throw new HubferryError(
    'ERR_DIGEST_INVALID',
    `${shown} is no digest: expected sha256: and 64, or sha512: and 128, lower-case hexadecimal digits.`,
  );
}

/** @throws ERR_DIGEST_INVALID for what never went through `parseDigest`. */
export function algorithmOf(digest: Digest): DigestAlgorithm {
  return parseDigest(digest).startsWith('sha256:') ? 'sha256' : 'sha512';
}

/** Computes the digest of bytes held in memory. */
export function digestOf(bytes: Uint8Array, algorithm: DigestAlgorithm = 'sha256'): Digest {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`;
}

/** A digest that grows with its content. */
export interface Digester {
  update(chunk: Uint8Array): void;
  /** Ends the computation; called once. */
  digest(): Digest;
}

/** Computes the digest of content that passes in chunks. */
export function createDigester(algorithm: DigestAlgorithm): Digester {
  const hash = createHash(algorithm);
  return {
    update(chunk) {
      hash.update(chunk);
    },
    digest: () => `${algorithm}:${hash.digest('hex')}`,
  };
}
