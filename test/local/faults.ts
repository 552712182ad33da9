/**
 * A reverse proxy that breaks things: it stands between hubferry and one of its peers, passes everything on as it
 * comes, and lets a test, or chance, spoil single exchanges.
 */
import { once } from 'node:events';
import {
  createServer as createHttpServer,
  Agent as HttpAgent,
  type IncomingMessage,
  request as requestHttp,
  type Server,
  type ServerResponse,
} from 'node:http';
import { createServer as createHttpsServer, Agent as HttpsAgent, request as requestHttps } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { Break, passOn, spoiled } from './fault-bodies.ts';
import { drawFault, type Fault, type FaultBounds, type FaultKind } from './fault-kinds.ts';
import { seeded } from './random.ts';
import type { Certificate } from './server.ts';

export interface FaultProxyOptions {
  /** Speak TLS to the client. */
  readonly tls?: Certificate | undefined;
  /** A PEM certificate to trust at the peer. */
  readonly ca?: string | undefined;
  /** Send the peer its own name instead of the one that the client used. @default false */
  readonly rewriteHost?: boolean | undefined;
  /**
   * Other origins to replace in Location, Link and WWW-Authenticate, each with what stands for it. The peer's own is
   * always replaced with the proxy's.
   */
  readonly origins?: Readonly<Record<string, string>> | undefined;
  /** What an `overtaken` request is overtaken by. */
  readonly overtake?: Overtake | undefined;
}

/** Does something at the peer, before the request is passed on. */
export type Overtake = (request: Pick<ProxiedRequest, 'url' | 'headers'>) => Promise<void>;

export interface ProxiedRequest {
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
  readonly fault: Fault | undefined;
  /** Of the answer that the client was sent; 0 as long as there is none. */
  status: number;
  /** Bytes of bodies that were passed on. */
  sent: number;
  received: number;
}

export type RequestFilter = (request: Pick<ProxiedRequest, 'method' | 'url' | 'headers'>) => boolean;

export interface ChanceOptions extends FaultBounds {
  readonly seed: number | string;
  /** Share of requests that something happens to, from 0 to 1. */
  readonly rate: number;
  readonly kinds: readonly FaultKind[];
  readonly filter?: RequestFilter | undefined;
}

export interface FaultProxy extends AsyncDisposable {
  /** Without a trailing slash. */
  readonly url: string;
  /** All requests that arrived whole as far as their headers, in order. */
  readonly log: readonly ProxiedRequest[];
  /** Scripted faults that no request has met yet. */
  readonly waiting: number;
  /** Lets the fault happen to the next request, or the next that the filter picks. Several wait in line. */
  next(fault: Fault, filter?: RequestFilter): void;
  /**
   * From now on lets chance decide, for requests that meet no scripted fault. Which request meets which fault depends
   * on the seed, its method, its path and how often both came: not on what else goes on at the same time.
   */
  random(options: ChanceOptions): void;
  /** Ends chance and forgets what waits. */
  calm(): void;
  close(): Promise<void>;
}

/** Starts a proxy on a free loopback port. @param target the peer's origin */
export async function startFaultProxy(target: string, options: FaultProxyOptions = {}): Promise<FaultProxy> {
  const proxy = new ReverseProxy(new URL(target), options);
  await proxy.listen();
  return proxy;
}

class ReverseProxy implements FaultProxy {
  readonly log: ProxiedRequest[] = [];
  readonly #target: URL;
  readonly #options: FaultProxyOptions;
  readonly #server: Server;
  readonly #agent: HttpAgent;
  /** By the client's port: below TLS is the connection that can be reset. */
  readonly #sockets = new Map<number | undefined, Socket>();
  #scripted: { readonly fault: Fault; readonly filter: RequestFilter | undefined }[] = [];
  #chance: (request: Incoming) => Fault | undefined = () => undefined;
  #port = 0;
  #reopening: NodeJS.Timeout | undefined;

  constructor(target: URL, options: FaultProxyOptions) {
    this.#target = target;
    this.#options = options;
    const serve = (request: IncomingMessage, response: ServerResponse) => {
      this.#serve(request, response).catch(() => this.#reset(request.socket));
    };
    this.#server = options.tls ? createHttpsServer(options.tls, serve) : createHttpServer(serve);
    // Nothing but the faults may end a connection: no limits, and no reuse that races with the peer's own end of it.
    Object.assign(this.#server, { requestTimeout: 0, headersTimeout: 0, keepAliveTimeout: 0 });
    this.#server.on('connection', (socket: Socket) => this.#track(socket));
    this.#agent = target.protocol === 'https:' ? new HttpsAgent({ ca: options.ca }) : new HttpAgent();
  }

  get url(): string {
    return `${this.#options.tls ? 'https' : 'http'}://127.0.0.1:${this.#port}`;
  }

  get waiting(): number {
    return this.#scripted.length;
  }

  next(fault: Fault, filter?: RequestFilter): void {
    this.#scripted.push({ fault, filter });
  }

  random(options: ChanceOptions): void {
    this.#chance = chance(options);
  }

  calm(): void {
    this.#scripted = [];
    this.#chance = () => undefined;
  }

  async listen(): Promise<void> {
    this.#server.listen(this.#port, '127.0.0.1');
    await once(this.#server, 'listening');
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    clearTimeout(this.#reopening);
    this.#server.close();
    for (const socket of this.#sockets.values()) socket.destroy();
    this.#agent.destroy();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', url = '/', headers } = request;
    const fault = this.#draw({ method, url, headers });
    const logged: ProxiedRequest = { method, url, headers, fault, status: 0, sent: 0, received: 0 };
    this.log.push(logged);
    if (fault?.kind === 'silence') return;
    if (fault?.kind === 'refuse') return this.#refuse(request.socket, fault.ms);
    if (fault?.kind === 'status') {
      request.resume();
      logged.status = fault.status;
      response.writeHead(fault.status, fault.headers).end(fault.body);
      return;
    }
    if (fault?.kind === 'overtaken') await this.#options.overtake?.(logged);
    const answer = await this.#ask(request, response, logged);
    if (fault?.kind === 'delay') await delay(fault.ms);
    if (fault?.kind === 'lose') {
      for await (const _ of answer);
      return this.#reset(request.socket);
    }
    await this.#answer(answer, response, logged);
  }

  #draw(request: Incoming): Fault | undefined {
    const index = this.#scripted.findIndex(({ filter }) => filter?.(request) ?? true);
    const [scripted] = index < 0 ? [] : this.#scripted.splice(index, 1);
    return scripted?.fault ?? this.#chance(request);
  }

  /** Passes the request on, and resolves with the head of the answer, which may come before the body has ended. */
  async #ask(
    request: IncomingMessage,
    response: ServerResponse,
    logged: ProxiedRequest,
  ): Promise<IncomingMessage> {
    const { host, ...headers } = withoutHopByHop(request.headers);
    const upstream = (this.#target.protocol === 'https:' ? requestHttps : requestHttp)(this.#target, {
      agent: this.#agent,
      method: logged.method,
      path: logged.url,
      headers: this.#options.rewriteHost ? headers : { host, ...headers },
    });
    response.once('close', () => upstream.destroy());
    const answered = new Promise<IncomingMessage>((resolve, reject) => {
      upstream.once('response', resolve);
      upstream.on('error', reject);
    });
    const body = spoiled(request, 'request', logged.fault, lengthOf(request));
    passOn(body, upstream, (bytes) => {
      logged.sent += bytes;
    }).catch((error: Error) => {
      if (error instanceof Break) this.#reset(request.socket);
      upstream.destroy(error);
    });
    return answered;
  }

  async #answer(answer: IncomingMessage, response: ServerResponse, logged: ProxiedRequest): Promise<void> {
    const { fault } = logged;
    logged.status = answer.statusCode ?? 0;
    if (fault?.kind === 'length' || fault?.kind === 'truncate') response.shouldKeepAlive = false;
    response.writeHead(logged.status, answer.statusMessage, this.#headersOf(answer, fault));
    response.flushHeaders();
    await passOn(spoiled(answer, 'response', fault, lengthOf(answer)), response, (bytes) => {
      logged.received += bytes;
    });
  }

  /** In pairs, as they came: a header may be there twice. */
  #headersOf(answer: IncomingMessage, fault: Fault | undefined): string[] {
    const pairs: string[] = [];
    for (let at = 0; at < answer.rawHeaders.length; at += 2) {
      const [name = '', value = ''] = answer.rawHeaders.slice(at, at + 2);
      const key = name.toLowerCase();
      if (hopByHop.has(key)) continue;
      if (key === 'content-length' && fault?.kind === 'length') {
        pairs.push(name, String(Math.max(0, Number(value) + fault.by)));
      } else pairs.push(name, addressed.has(key) ? this.#rewrite(value) : value);
    }
    return pairs;
  }

  #rewrite(value: string): string {
    const stands: Record<string, string> = {
      ...this.#options.origins,
      [this.#target.origin]: this.url,
      // A peer that builds its addresses from Host knows nothing of the TLS in front of it.
      [`${this.#target.protocol}//${new URL(this.url).host}`]: this.url,
    };
    return value.replace(originPattern, (origin) => stands[origin] ?? origin);
  }

  #track(socket: Socket): void {
    const port = socket.remotePort;
    this.#sockets.set(port, socket);
    // The other side of a reset.
    socket.on('error', () => {});
    socket.once('close', () => this.#sockets.delete(port));
  }

  #reset(socket: Socket): void {
    this.#sockets.get(socket.remotePort)?.resetAndDestroy();
  }

  #refuse(socket: Socket, ms: number): void {
    this.#reset(socket);
    this.#server.close();
    clearTimeout(this.#reopening);
    this.#reopening = setTimeout(() => void this.listen(), ms);
  }
}

type Incoming = Pick<ProxiedRequest, 'method' | 'url' | 'headers'>;

function chance(options: ChanceOptions): (request: Incoming) => Fault | undefined {
  const seen = new Map<string, number>();
  return (request) => {
    if (options.filter?.(request) === false) return undefined;
    const what = `${request.method} ${request.url.split('?')[0]}`;
    const times = seen.get(what) ?? 0;
    seen.set(what, times + 1);
    const random = seeded(`${options.seed} ${what} ${times}`);
    return random.next() < options.rate ? drawFault(random.pick(options.kinds), random, options) : undefined;
  };
}

/** RFC 9110 section 7.6.1. */
const hopByHop = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'te',
  'transfer-encoding',
  'upgrade',
]);
/** Headers that say where to go on. */
const addressed = new Set(['location', 'link', 'www-authenticate']);
const originPattern = /https?:\/\/(\[[^\]]*\]|[^\s"'<>/?#,;:]+)(:\d+)?/g;

function withoutHopByHop(headers: IncomingMessage['headers']): IncomingMessage['headers'] {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !hopByHop.has(name)));
}

function lengthOf(message: IncomingMessage): number | undefined {
  const value = message.headers['content-length'];
  return value === undefined ? undefined : Number(value);
}
