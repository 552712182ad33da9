import type { Readable } from 'node:stream';
import type { Dispatcher } from 'undici';
import { RegistryError, redactUrl } from '../errors.ts';
import type { BodyOwner } from '../oci/roles.ts';
import { lend, settle } from './blocks.ts';
import { ResponseBody } from './body.ts';
import { writeAhead } from './connections.ts';
import { networkFailure, protocolFailure } from './failure.ts';
import type { ResponseHeaders } from './headers.ts';

export interface ExchangeRequest {
  readonly method: Dispatcher.HttpMethod;
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  /** Sent piece by piece, without being joined. */
  readonly body: readonly Uint8Array[];
  readonly owner?: BodyOwner | undefined;
  readonly signal: AbortSignal | undefined;
  readonly headersTimeoutMs: number;
  /** Told when the request goes out: from here on its fate is unknown until there is an answer. */
  readonly onSent: () => void;
}

export interface ExchangeResponse {
  readonly status: number;
  readonly headers: ResponseHeaders;
  readonly body: ResponseBody;
}

/** One HTTP request and its answer. It rejects with the signal's reason or a `HubferryError`, and so does the body. */
export function exchange(dispatcher: Dispatcher, request: ExchangeRequest): Promise<ExchangeResponse> {
  request.signal?.throwIfAborted();
  const answer = new Answer(request);
  dispatcher.dispatch(
    {
      origin: request.url.origin,
      path: request.url.pathname + request.url.search,
      method: request.method,
      headers: framed(request),
      // undici takes any iterable; its types do not say so.
      body: request.body.length === 0 ? null : (answer.pieces() as unknown as Readable),
      headersTimeout: request.headersTimeoutMs,
      // undici closes the connection after a HEAD unless it is told otherwise.
      reset: false,
    },
    answer,
  );
  return answer.response;
}

function framed({ headers, body }: ExchangeRequest): Record<string, string> {
  if (body.length === 0) return headers;
  return { ...headers, 'content-length': String(body.reduce((sum, piece) => sum + piece.length, 0)) };
}

/** Before one answer. Servers send one or two. */
const maxInterim = 10;
/** So many milliseconds an answer may be ahead of what it answers. */
const earlyMs = 1000;

/** Receives one answer from undici. */
class Answer implements Dispatcher.DispatchHandler {
  readonly #response = Promise.withResolvers<ExchangeResponse>();
  readonly #request: ExchangeRequest;
  #controller: Dispatcher.DispatchController | undefined;
  #body: ResponseBody | undefined;
  /** Its last piece so far. */
  #piece: Buffer | undefined;
  #interim = 0;
  /** Whether undici has the last piece; and whether all has left this process, or waits as a copy. */
  #isHanded = false;
  #isSent: boolean;
  /** Whether whoever asked has been told: the owner of the body hears no more. */
  #isOver = false;
  /** An answer that came in between. */
  #early: ExchangeResponse | undefined;
  #earlyTimer: NodeJS.Timeout | undefined;

  constructor(request: ExchangeRequest) {
    this.#request = request;
    this.#isSent = request.body.length === 0;
    request.signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  /**
   * What is to be sent. undici takes the next piece when the one before has left this process, unless that is so small that
   * it may wait in the socket: it waits as a copy, for the memory of pieces is used again once there is an answer.
   */
  *pieces(): Generator<Uint8Array> {
    const { body, owner } = this.#request;
    for (const [index, piece] of body.entries()) {
      this.#isHanded = index === body.length - 1;
      yield piece.length < writeAhead ? Buffer.from(piece) : piece;
      if (!this.#isOver) owner?.left();
    }
    this.#isSent = true;
    this.#resolveEarly();
  }

  get response(): Promise<ExchangeResponse> {
    return this.#response.promise;
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    // It may have waited for a free connection until nobody wanted it any more.
    if (this.#request.signal?.aborted) this.#onAbort();
    else this.#request.onSent();
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number, headers: ResponseHeaders): void {
    if (status < 200) {
      this.#onInterim(controller, status);
    } else {
      this.#body = new ResponseBody(controller, this.#isSent);
      const answer = { status, headers, body: this.#body };
      if (this.#isSent || status >= 300) this.#resolve(answer);
      else this.#onEarly(controller, answer);
    }
  }

  /** Whoever reads the answer uses the memory for something else, which must not go out in place of the rest. */
  #onEarly(controller: Dispatcher.DispatchController, answer: ExchangeResponse): void {
    this.#early = answer;
    if (!this.#isHanded) this.#refuseEarly(controller);
    // Node tells the end of a write over TLS later than a quick server answers.
    else this.#earlyTimer = setTimeout(() => this.#refuseEarly(controller), earlyMs);
  }

  /** All has been sent, or the connection has ended with the answer. */
  #resolveEarly(): void {
    clearTimeout(this.#earlyTimer);
    if (this.#early !== undefined) this.#resolve(this.#early);
  }

  #refuseEarly(controller: Dispatcher.DispatchController): void {
    const { method, url } = this.#request;
    const facts = { method, url: redactUrl(url) };
    const message = `An answer came before all was sent: ${method} ${facts.url}`;
    controller.abort(new RegistryError('ERR_PROTOCOL', message, facts, { retryable: true }));
  }

  /** An answer such as 103 says nothing. Each gives the next more time, so there must not be many. */
  #onInterim(controller: Dispatcher.DispatchController, status: number): void {
    this.#interim += 1;
    if (this.#interim <= maxInterim) return;
    const { method, url } = this.#request;
    controller.abort(protocolFailure('Interim answers have no end', { method, url: url.href, status }));
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    lend(chunk);
    this.#piece = chunk;
    this.#body?.push(chunk);
  }

  onResponseEnd(): void {
    this.#unlisten();
    if (this.#piece !== undefined) settle(this.#piece);
    this.#piece = undefined;
    this.#body?.end();
    this.#resolveEarly();
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.#unlisten();
    clearTimeout(this.#earlyTimer);
    this.#fail(networkFailure(error, this.#request));
  }

  readonly #onAbort = (): void => {
    const reason: unknown = this.#request.signal?.reason;
    this.#fail(reason);
    this.#controller?.abort(reason instanceof Error ? reason : new Error('Aborted', { cause: reason }));
  };

  #resolve(answer: ExchangeResponse): void {
    this.#isOver = true;
    this.#response.resolve(answer);
  }

  #fail(error: unknown): void {
    this.#isOver = true;
    this.#response.reject(error);
    this.#body?.fail(error);
  }

  #unlisten(): void {
    this.#request.signal?.removeEventListener('abort', this.#onAbort);
  }
}
