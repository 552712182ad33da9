import { HubferryError } from '../errors.ts';
import { giveBack } from '../oci/memory.ts';

/** What a body needs of the connection that it comes from. */
export interface BodySource {
  pause(): void;
  resume(): void;
  /** Closes the connection: the rest is not wanted. */
  abort(reason: Error): void;
}

/** Bytes of one body that wait for their reader; beyond it the connection is paused. */
const highWaterMark = 256 * 1024;
/** What is read and dropped of an unwanted body, for the sake of the connection. */
const dumpLimit = 64 * 1024;

/**
 * The body of an answer. It hands on the very buffers that were read from the socket: no stream is in between.
 */
export class ResponseBody implements AsyncIterable<Uint8Array>, AsyncIterator<Uint8Array, undefined> {
  readonly #source: BodySource;
  readonly #isWorthKeeping: boolean;
  readonly #waiting: Uint8Array[] = [];
  #size = 0;
  #paused = false;
  #state: 'open' | 'ended' | 'dumped' | { readonly error: unknown } = 'open';
  #reader: PromiseWithResolvers<IteratorResult<Uint8Array, undefined>> | undefined;

  /** @param isWorthKeeping whether the connection is of use after this body: not one on which a request is still being sent */
  constructor(source: BodySource, isWorthKeeping = true) {
    this.#source = source;
    this.#isWorthKeeping = isWorthKeeping;
  }

  /** Takes the next bytes from the connection. */
  push(chunk: Uint8Array): void {
    if (this.#reader !== undefined) {
      this.#settle({ done: false, value: chunk });
    } else if (this.#state === 'dumped') {
      this.#size += chunk.length;
      giveBack(chunk);
      if (this.#size > dumpLimit) this.#abort();
    } else if (this.#state === 'open') {
      this.#size += chunk.length;
      this.#waiting.push(chunk);
      if (this.#size >= highWaterMark) this.#pause();
    }
  }

  /** The body is complete. */
  end(): void {
    if (this.#state !== 'open') return;
    this.#state = 'ended';
    if (this.#reader !== undefined) this.#settle({ done: true, value: undefined });
  }

  /** The body broke: whoever reads it gets the error after what came before it. */
  fail(error: unknown): void {
    if (this.#state !== 'open') return;
    this.#state = { error };
    const reader = this.#reader;
    this.#reader = undefined;
    reader?.reject(error);
  }

  /** Gives it up: whoever reads it gets the error, and the connection is closed. */
  breakOff(error: Error): void {
    if (this.#state !== 'open') return;
    this.fail(error);
    this.#source.abort(error);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<Uint8Array, undefined>> {
    const chunk = this.#waiting.shift();
    if (chunk !== undefined) {
      this.#size -= chunk.length;
      if (this.#waiting.length === 0) this.#resume();
      return Promise.resolve({ done: false, value: chunk });
    }
    if (typeof this.#state === 'object') return Promise.reject(this.#state.error);
    if (this.#state !== 'open') return Promise.resolve({ done: true, value: undefined });
    this.#reader = Promise.withResolvers();
    return this.#reader.promise;
  }

  /** Stops reading: the connection is closed where the body has not ended. */
  return(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.#waiting.length = 0;
    if (this.#state === 'open') {
      this.#state = 'ended';
      this.#abort();
    }
    return Promise.resolve({ done: true, value: undefined });
  }

  /** Drops what is left, and keeps the connection where that is little. */
  dump(): void {
    for (const chunk of this.#waiting.splice(0)) giveBack(chunk);
    if (this.#state !== 'open') return;
    this.#state = 'dumped';
    if (this.#isWorthKeeping) this.#resume();
    else this.#abort();
  }

  /**
   * Reads all of it.
   * @throws ERR_TOO_LARGE beyond `limit` bytes.
   */
  async bytes(limit: number): Promise<Uint8Array> {
    const { bytes, complete } = await this.head(limit);
    if (!complete) throw new HubferryError('ERR_TOO_LARGE', `The answer is larger than ${limit} bytes`);
    return bytes;
  }

  /** Reads at most `limit` bytes, and leaves the rest. */
  async head(limit: number): Promise<{ readonly bytes: Uint8Array; readonly complete: boolean }> {
    const chunks: Uint8Array[] = [];
    let size = 0;
    for await (const chunk of this) {
      chunks.push(chunk);
      size += chunk.length;
      if (size > limit) break;
    }
    const bytes = Buffer.concat(chunks, Math.min(size, limit));
    for (const chunk of chunks) giveBack(chunk);
    return { bytes, complete: size <= limit };
  }

  #settle(result: IteratorResult<Uint8Array, undefined>): void {
    const reader = this.#reader;
    this.#reader = undefined;
    reader?.resolve(result);
  }

  #abort(): void {
    this.#source.abort(new Error('The rest of the body is not wanted'));
  }

  #pause(): void {
    this.#paused = true;
    this.#source.pause();
  }

  #resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#source.resume();
  }
}

/** A body that is in memory already. */
export function bodyOf(bytes: Uint8Array): ResponseBody {
  const body = new ResponseBody({ pause() {}, resume() {}, abort() {} });
  body.push(bytes);
  body.end();
  return body;
}
