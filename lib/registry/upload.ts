/** Pushing a blob in chunks (distribution-spec v1.1 "Pushing a blob in chunks"). */
import { RegistryError, redactUrl } from '../errors.ts';
import type { Digest } from '../oci/descriptor.ts';
import { algorithmOf, isDigest } from '../oci/digest.ts';
import type { CallOptions, Observer, SendOptions, UploadSession } from '../oci/roles.ts';
import { codeOfAnswer, failureOf, protocolFailure } from './failure.ts';
import { headerOf, parseDecimal, parseUploadRange } from './headers.ts';
import type { TransportRequest, TransportResponse } from './send.ts';
import type { Transport } from './transport.ts';

export interface UploadContext {
  readonly transport: Transport;
  readonly scopes: readonly string[];
  readonly observer: Observer | undefined;
  /** Largest body of one request in bytes. */
  readonly maxChunk: number | undefined;
}

/** The session that an answer opened. */
export function openedSession(response: TransportResponse, context: UploadContext): UploadSession {
  const location = locationIn(response);
  if (location === undefined) throw protocolFailure('An upload was opened without a Location', response);
  const minChunk = parseDecimal(headerOf(response.headers, 'oci-chunk-min-length')) ?? 0;
  return new Session(location, 0, minChunk, context);
}

/** A session that was opened before, perhaps by another process. */
export function knownSession(
  location: string,
  offset: number,
  minChunk: number,
  context: UploadContext,
): UploadSession {
  return new Session(location, offset, minChunk, context);
}

const octets = 'application/octet-stream';

class Session implements UploadSession {
  readonly minChunk: number;
  readonly #context: UploadContext;
  #location: string;
  #offset: number;

  constructor(location: string, offset: number, minChunk: number, context: UploadContext) {
    this.#location = location;
    this.#offset = offset;
    this.minChunk = minChunk;
    this.#context = context;
  }

  get location(): string {
    return this.#location;
  }

  get offset(): number {
    return this.#offset;
  }

  async append(chunk: readonly Uint8Array[], options?: SendOptions): Promise<void> {
    const size = sizeOf(chunk);
    if (size === 0) return;
    const response = await this.#change('PATCH', this.#location, chunk, options);
    response.body.dump();
    if (!isSuccess(response)) {
      this.#location = usableLocationIn(response) ?? this.#location;
      throw options?.owner?.rewind() === false
        ? goneAfter(response)
        : lostOr('A chunk was refused', response);
    }
    // Also where not all of the chunk was taken: an older Location is as good as none.
    this.#location = locationIn(response) ?? this.#location;
    const confirmed = parseUploadRange(headerOf(response.headers, 'range'));
    const end = this.#offset + size;
    if (confirmed !== undefined && confirmed.last + 1 !== end) {
      throw failureOf(`The registry has ${confirmed.last + 1} bytes instead of ${end}`, response, {
        code: 'ERR_UPLOAD_LOST',
      });
    }
    this.#offset = end;
  }

  async refresh(options?: CallOptions): Promise<boolean> {
    const response = await this.#send(
      { method: 'GET', url: this.#location, followRedirects: false },
      options,
    );
    response.body.dump();
    if (isGone(response)) return false;
    if (!isSuccess(response)) throw failureOf('The state of an upload is unknown', response);
    const confirmed = parseUploadRange(headerOf(response.headers, 'range'));
    if (confirmed === undefined) return false;
    // The range is inclusive, so that a registry has no other way to say that a session is new.
    this.#offset = confirmed.last === 0 ? 0 : confirmed.last + 1;
    this.#location = locationIn(response) ?? this.#location;
    return true;
  }

  async commit(digest: Digest, last: readonly Uint8Array[], options?: SendOptions): Promise<void> {
    const { maxChunk } = this.#context;
    if (maxChunk !== undefined && sizeOf(last) > maxChunk) {
      await this.append(last, options);
      return this.commit(digest, [], options);
    }
    const separator = this.#location.includes('?') ? '&' : '?';
    const url = `${this.#location}${separator}digest=${encodeURIComponent(digest)}`;
    const response = await this.#change('PUT', url, last, options);
    response.body.dump();
    if (!isSuccess(response)) throw lostOr('Closing an upload failed', response);
    const given = headerOf(response.headers, 'docker-content-digest') ?? digest;
    if (isDigest(given) && algorithmOf(given) === algorithmOf(digest) && given !== digest) {
      throw failureOf(`The registry has ${given} instead of ${digest}`, response, {
        code: 'ERR_DIGEST_MISMATCH',
      });
    }
  }

  async cancel(options?: CallOptions): Promise<void> {
    const response = await this.#send({ method: 'DELETE', url: this.#location }, options);
    response.body.dump();
    if (!isSuccess(response) && !isGone(response)) throw failureOf('An upload was not cancelled', response);
  }

  /** Sends bytes. Where the answer is missing, nobody knows whether they arrived. */
  async #change(
    method: 'PATCH' | 'PUT',
    url: string,
    body: readonly Uint8Array[],
    options: SendOptions | undefined,
  ): Promise<TransportResponse> {
    const size = sizeOf(body);
    const range = `${this.#offset}-${this.#offset + size - 1}`;
    const headers = size === 0 ? {} : { 'content-type': octets, 'content-range': range };
    let sent = false;
    const onSent = (): void => {
      sent = true;
    };
    try {
      const slow = method === 'PUT';
      return await this.#send({ method, url, headers, body: size === 0 ? [] : body, slow, onSent }, options);
    } catch (error) {
      options?.signal?.throwIfAborted();
      if (!sent || !(error instanceof RegistryError) || !error.retryable || error.status !== undefined)
        throw error;
      const facts = { method, url: redactUrl(url) };
      throw new RegistryError('ERR_UPLOAD_LOST', error.message, facts, { cause: error, retryable: true });
    }
  }

  #send(request: TransportRequest, options: SendOptions | undefined): Promise<TransportResponse> {
    const { transport, scopes, observer } = this.#context;
    const { signal, whileUnsent, owner } = options ?? {};
    return transport.send({ ...request, scopes, observer, signal, whileUnsent, owner });
  }
}

function sizeOf(pieces: readonly Uint8Array[]): number {
  return pieces.reduce((sum, piece) => sum + piece.length, 0);
}

function isSuccess({ status }: TransportResponse): boolean {
  return status >= 200 && status < 300;
}

/** Statuses that registries answer with to a session that they do not know, or cannot tell about. */
function isGone({ status }: TransportResponse): boolean {
  return status === 400 || status === 404 || status === 405 || status === 410 || status === 416;
}

/** A refusal leaves the session as it was; a failure, or another offset at the registry, is its end. */
function lostOr(what: string, response: TransportResponse): RegistryError {
  const codes = response.faults.map(({ code }) => code);
  if (codes.includes('DIGEST_INVALID')) return failureOf(what, response, { code: 'ERR_DIGEST_MISMATCH' });
  const code = codeOfAnswer(response);
  const isLost = ['ERR_SERVER', 'ERR_TIMEOUT', 'ERR_NOT_FOUND', 'ERR_UPLOAD_LOST'].includes(code);
  return failureOf(what, response, isLost || response.status === 416 ? { code: 'ERR_UPLOAD_LOST' } : {});
}

/** What would be let in a moment later cannot be sent again: it has to be read again. */
function goneAfter(response: TransportResponse): RegistryError {
  const what = 'A chunk was refused';
  const isPassing = response.status === 401 || response.status === 429;
  return isPassing ? failureOf(what, response, { code: 'ERR_UPLOAD_LOST' }) : lostOr(what, response);
}

/** That of a refusal, such as 416, where the session has moved; the refusal counts, whatever else is wrong with it. */
function usableLocationIn(response: TransportResponse): string | undefined {
  // A redirect says where to send the request, and not where the session is.
  if (response.status < 400) return undefined;
  try {
    return locationIn(response);
  } catch {
    return undefined;
  }
}

/**
 * The newest Location, absolute. Another host gets no credentials; plain HTTP in place of TLS is refused.
 */
function locationIn(response: TransportResponse): string | undefined {
  const text = headerOf(response.headers, 'location');
  if (text === undefined) return undefined;
  if (!URL.canParse(text, response.url))
    throw protocolFailure('The Location of an upload is no URL', response);
  const location = new URL(text, response.url);
  location.hash = '';
  const isPlain = location.protocol === 'http:' && !response.url.startsWith('https:');
  if (location.protocol !== 'https:' && !isPlain) {
    throw failureOf(`An upload is sent to ${redactUrl(location)}`, response, { code: 'ERR_REDIRECT' });
  }
  return location.href;
}
