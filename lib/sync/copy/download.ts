/** Reads blobs from a source: what breaks goes on where it stood. */
import { codeOf, HubferryError } from '../../errors.ts';
import type { Descriptor } from '../../oci/descriptor.ts';
import { algorithmOf, createDigester } from '../../oci/digest.ts';
import type { Source } from '../../oci/roles.ts';
import { backoff, isRetryable } from '../attempts.ts';
import { pause } from '../waiting.ts';
import type { Limits } from './limits.ts';

/**
 * The blob's bytes from an offset on, whatever breaks on the way: a stream that ends early is reopened where it stood
 * (fresh redirect, fresh token). The size is always checked, the digest where the reading starts at zero: what does not match
 * is thrown at the end. Its pieces are lent.
 */
export async function* readFrom(
  source: Source,
  blob: Descriptor,
  start: number,
  verify: boolean,
  stop: AbortSignal,
  { retries, slowest }: Pick<Limits, 'retries' | 'slowest'>,
): AsyncGenerator<Uint8Array> {
  const digester = verify ? createDigester(algorithmOf(blob.digest)) : undefined;
  let offset = start;
  for (let fruitless = 0; offset < blob.size; ) {
    const before = offset;
    let isOpen = false;
    try {
      const stream = await source.openBlob(blob, offset, { signal: stop });
      if (stream === undefined) throw missing(source, blob);
      isOpen = true;
      // From the first piece on: a source that knows no ranges sends what comes before it once more.
      let pace: Pace | undefined;
      for await (const piece of stream) {
        if (pace?.isTooSlow(piece.length)) throw tooSlow(source, blob, offset);
        offset += piece.length;
        if (offset > blob.size) throw tooLong(source, blob);
        digester?.update(piece);
        yield piece;
        pace ??= new Pace(slowest);
        pace.waits();
      }
      if (offset < blob.size) throw broken(source, blob, offset);
    } catch (error) {
      stop.throwIfAborted();
      // A request that fails was sent again as often as any.
      if (!isOpen) throw error;
      // What only drips gets nowhere, however often it is opened again.
      const least = codeOf(error) === 'ERR_TIMEOUT' ? slowest.bytes : 1;
      fruitless = offset - before >= least ? 0 : fruitless + 1;
      if (!isRetryable(error) || fruitless > retries) throw error;
      await pause(backoff(fruitless), stop);
    }
  }
  if (digester !== undefined && digester.digest() !== blob.digest) {
    if (blob.size === 0) throw notEmpty(source, blob);
    throw new HubferryError('ERR_DIGEST_MISMATCH', `${source.name} serves other bytes than ${blob.digest}`);
  }
}

/** How fast a blob comes, by the time for which its reader waits: what the target is slow to take makes no source slow. */
class Pace {
  readonly #slowest: Limits['slowest'];
  #since = performance.now();
  #waited = 0;
  #bytes = 0;

  constructor(slowest: Limits['slowest']) {
    this.#slowest = slowest;
  }

  /** From here on the reader waits for the next piece. */
  waits(): void {
    this.#since = performance.now();
  }

  /** Whether this piece is the last straw. */
  isTooSlow(bytes: number): boolean {
    this.#waited += performance.now() - this.#since;
    this.#bytes += bytes;
    if (this.#waited < this.#slowest.ms) return false;
    const isTooSlow = this.#bytes < this.#slowest.bytes;
    this.#waited = 0;
    this.#bytes = 0;
    return isTooSlow;
  }
}

function tooSlow(source: Source, blob: Descriptor, offset: number): HubferryError {
  const where = `at ${offset} of ${blob.size} bytes`;
  return new HubferryError('ERR_TIMEOUT', `${source.name} is too slow with ${blob.digest} ${where}`, {
    retryable: true,
  });
}

function missing(source: Source, blob: Descriptor): HubferryError {
  return new HubferryError('ERR_BLOB_MISSING', `${source.name} does not have the blob ${blob.digest}`);
}

/** Not a byte was asked for, so it is the manifest that is wrong. */
function notEmpty(source: Source, { digest }: Descriptor): HubferryError {
  return new HubferryError(
    'ERR_SIZE_MISMATCH',
    `A manifest of ${source.name} gives ${digest} 0 bytes, but that is not the digest of nothing`,
  );
}

function tooLong(source: Source, blob: Descriptor): HubferryError {
  return new HubferryError(
    'ERR_SIZE_MISMATCH',
    `${source.name} serves more than the ${blob.size} bytes of ${blob.digest}`,
  );
}

function broken(source: Source, blob: Descriptor, offset: number): HubferryError {
  return new HubferryError(
    'ERR_CONNECTION',
    `${source.name} ended ${blob.digest} at ${offset} of ${blob.size} bytes`,
    {
      retryable: true,
    },
  );
}
