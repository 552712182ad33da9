/**
 * What every stand-in is made of: a real HTTP(S) server on a free loopback port, a log of its requests, and one
 * place where a test can step in and break an exchange.
 */
import { once } from 'node:events';
import {
  createServer as createHttpServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  type Server,
  type ServerResponse,
} from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { TLSSocket } from 'node:tls';

export interface LoggedRequest {
  readonly method: string;
  /** Path and query as they were sent. */
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  /** Of the answer; 0 as long as there is none. */
  status: number;
  /** Bytes of the request's body that arrived. */
  received: number;
  /** Bytes of the answer's body that went out. */
  sent: number;
}

/** What a test makes of a request instead of letting it through. */
export type Intervention =
  /** This answer instead. */
  | {
      readonly kind: 'answer';
      readonly status: number;
      readonly headers?: OutgoingHttpHeaders;
      readonly body?: string | Uint8Array;
      /** Only once the request's body has arrived and this has been waited for. @default at once */
      readonly late?: () => Promise<unknown>;
    }
  /** The connection breaks before anything is done. */
  | { readonly kind: 'reset' }
  /** Everything is done, and the connection breaks instead of the answer. */
  | { readonly kind: 'lose' }
  /** The connection breaks after so many bytes of the answer's body. */
  | { readonly kind: 'cut'; readonly after: number }
  /** The connection breaks after so many bytes of the request's body. */
  | { readonly kind: 'drop'; readonly after: number };

export type Intercept = (
  request: LoggedRequest,
) => Intervention | undefined | Promise<Intervention | undefined>;

export interface Certificate {
  readonly key: string;
  readonly cert: string;
}

export interface ServerOptions {
  readonly tls?: Certificate | undefined;
  /** Whether requests are kept for tests to look at. @default true */
  readonly log?: boolean | undefined;
}

export interface LocalServer {
  /** Without a trailing slash. */
  readonly url: string;
  readonly requests: LoggedRequest[];
  /** Steps into every request, before logins are looked at. */
  intercept: Intercept | undefined;
  /** Ends all connections, also those in the middle of something. */
  close(): Promise<void>;
}

export interface Answer {
  readonly status: number;
  readonly headers: OutgoingHttpHeaders;
  /** A stream's length stands in `headers`. */
  readonly body: Uint8Array | AsyncIterable<Uint8Array>;
  /** Speed of a stream. @default undefined, as fast as it goes */
  readonly bytesPerSecond?: number | undefined;
}

/** `undefined`: the client broke off and gets no answer. */
export type Respond = (exchange: Exchange) => Answer | undefined | Promise<Answer | undefined>;

export function reply(
  status: number,
  headers: OutgoingHttpHeaders = {},
  body: string | Uint8Array = '',
): Answer {
  const bytes = typeof body === 'string' ? Buffer.from(body) : body;
  const length = status === 204 ? {} : { 'content-length': bytes.byteLength };
  return { status, headers: { ...length, ...headers }, body: bytes };
}

export function replyJson(status: number, value: unknown, headers: OutgoingHttpHeaders = {}): Answer {
  return reply(status, { 'content-type': 'application/json', ...headers }, JSON.stringify(value));
}

export async function startServer(respond: Respond, options: ServerOptions = {}): Promise<LocalServer> {
  const listen = (request: IncomingMessage, response: ServerResponse) => {
    const exchange = new Exchange(request, response);
    if (options.log !== false) local.requests.push(exchange.logged);
    serve(exchange, local.intercept, respond).catch((error: unknown) => exchange.fail(error));
  };
  const server: Server =
    options.tls === undefined ? createHttpServer(listen) : createHttpsServer(options.tls, listen);
  // A stand-in serves slow and patient clients as well; Node's own limits are not what is tested.
  server.requestTimeout = 0;
  server.headersTimeout = 0;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const local: LocalServer = {
    url: `${options.tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}`,
    requests: [],
    intercept: undefined,
    async close() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
  return local;
}

async function serve(exchange: Exchange, intercept: Intercept | undefined, respond: Respond): Promise<void> {
  const intervention = await intercept?.(exchange.logged);
  if (intervention?.kind === 'reset') return exchange.reset();
  exchange.intervention = intervention;
  const answer =
    intervention?.kind === 'answer' ? await given(intervention, exchange) : await respond(exchange);
  if (answer === undefined || intervention?.kind === 'lose') return exchange.reset();
  await exchange.send(answer);
}

async function given(
  { late, status, headers, body }: Intervention & { kind: 'answer' },
  exchange: Exchange,
): Promise<Answer> {
  if (late !== undefined) for await (const _ of exchange.body());
  await late?.();
  return reply(status, headers, body);
}

/** One request and its answer. */
export class Exchange {
  readonly method: string;
  readonly url: URL;
  readonly headers: IncomingHttpHeaders;
  readonly logged: LoggedRequest;
  intervention: Intervention | undefined;
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;
  /** Node takes it off the request when the connection ends. */
  readonly #socket: Socket;

  constructor(request: IncomingMessage, response: ServerResponse) {
    this.#request = request;
    this.#response = response;
    this.#socket = request.socket;
    this.method = request.method ?? '';
    this.headers = request.headers;
    // Not `new URL(url, base)`: a path that starts with `//` would change the host.
    const scheme = request.socket instanceof TLSSocket ? 'https' : 'http';
    this.url = new URL(`${scheme}://${request.headers.host ?? '127.0.0.1'}${request.url ?? '/'}`);
    this.logged = {
      method: this.method,
      url: request.url ?? '',
      headers: request.headers,
      status: 0,
      received: 0,
      sent: 0,
    };
  }

  /** The request's path, decoded, since the Azure SDK encodes names (`a%2Fb`). */
  get path(): string {
    try {
      return decodeURIComponent(this.url.pathname);
    } catch {
      return this.url.pathname;
    }
  }

  /** Scheme, host and port as the client sees them. */
  get origin(): string {
    return this.url.origin;
  }

  query(name: string): string | undefined {
    return this.url.searchParams.get(name) ?? undefined;
  }

  /** The announced length; `undefined` for a chunked body. */
  get contentLength(): number | undefined {
    const value = this.headers['content-length'];
    if (value !== undefined) return Number(value);
    return this.headers['transfer-encoding'] === undefined ? 0 : undefined;
  }

  /** The request's body as it arrives. Throws where the client breaks off. */
  async *body(): AsyncGenerator<Buffer> {
    for await (const chunk of this.#request as AsyncIterable<Buffer>) {
      this.logged.received += chunk.byteLength;
      if (this.intervention?.kind === 'drop' && this.logged.received >= this.intervention.after) {
        this.reset();
        throw new Error('dropped by a test');
      }
      yield chunk;
    }
    if (!this.#request.complete) throw new Error('the client broke off');
  }

  /** The whole body, at most `limit` bytes of it; `undefined` where it is longer. */
  async bytes(limit = 1 << 20): Promise<Buffer | undefined> {
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of this.body()) {
      size += chunk.byteLength;
      if (size <= limit) chunks.push(chunk);
    }
    return size <= limit ? Buffer.concat(chunks) : undefined;
  }

  /** The body of an HTML form, as OAuth 2.0 sends it. */
  async form(): Promise<URLSearchParams> {
    return new URLSearchParams((await this.bytes())?.toString() ?? '');
  }

  /** User name and password of `Authorization: Basic`. */
  get basic(): { username: string; password: string } | undefined {
    const value = /^Basic (.+)$/i.exec(this.headers.authorization ?? '')?.[1];
    if (value === undefined) return undefined;
    const [username = '', ...rest] = Buffer.from(value, 'base64').toString().split(':');
    return { username, password: rest.join(':') };
  }

  get bearer(): string | undefined {
    return /^Bearer (.+)$/i.exec(this.headers.authorization ?? '')?.[1];
  }

  async send(answer: Answer): Promise<void> {
    const response = this.#response;
    this.logged.status = answer.status;
    response.writeHead(answer.status, answer.headers);
    if (this.method === 'HEAD') return void response.end();
    const source = answer.body instanceof Uint8Array ? [answer.body] : answer.body;
    const cut = this.intervention?.kind === 'cut' ? this.intervention.after : Number.POSITIVE_INFINITY;
    const begun = Date.now();
    let sent = 0;
    for await (const chunk of source) {
      if (sent + chunk.byteLength >= cut) {
        response.write(chunk.subarray(0, cut - sent), () => this.reset());
        return;
      }
      if (!(await this.#write(chunk))) return;
      sent += chunk.byteLength;
      this.logged.sent = sent;
      if (answer.bytesPerSecond !== undefined)
        await this.#until(begun + (sent / answer.bytesPerSecond) * 1000);
    }
    response.end();
  }

  reset(): void {
    this.#socket.destroy();
  }

  /** Last resort for what the stand-in itself did not expect: seen by the test as a 500 that names it. */
  fail(error: unknown): void {
    if (this.#response.headersSent || this.#socket.destroyed) this.reset();
    else this.#response.writeHead(500, { 'content-type': 'text/plain' }).end(`stand-in: ${String(error)}`);
  }

  /** False when the client is gone. */
  async #write(chunk: Uint8Array): Promise<boolean> {
    const response = this.#response;
    if (response.destroyed) return false;
    if (response.write(chunk)) return true;
    await new Promise<void>((resolve) => {
      const go = () => {
        response.off('drain', go);
        response.off('close', go);
        resolve();
      };
      response.on('drain', go);
      response.on('close', go);
    });
    return !response.destroyed;
  }

  async #until(time: number): Promise<void> {
    const response = this.#response;
    await new Promise<void>((resolve) => {
      const go = () => {
        clearTimeout(timer);
        response.off('close', go);
        resolve();
      };
      const timer = setTimeout(go, Math.max(0, time - Date.now()));
      response.on('close', go);
    });
  }
}
