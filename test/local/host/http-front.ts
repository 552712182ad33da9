/** The HTTP triggers behind one address, with the keys that Azure asks for, and the two admin routes that people use. */
import { randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type {
  BindingInfo,
  FunctionMetadata,
  HttpRequestData,
  HttpResponseData,
  NullableString,
} from './protocol.ts';
import { Route, type RouteParams } from './routes.ts';

export interface HttpFunction {
  readonly name: string;
  readonly route: Route;
  readonly methods: ReadonlySet<string>;
  readonly authLevel: string;
}

/** What the front asks of the host. */
export interface FrontTarget {
  /** `undefined` while no instance runs. */
  httpFunctions(): readonly HttpFunction[] | undefined;
  /** The function's answer; rejects where it fails. */
  invokeHttp(name: string, request: HttpRequestData): Promise<HttpResponseData | undefined>;
  /** Starts a function by hand (`POST /admin/functions/NAME`); false where there is none of that name. */
  invokeByHand(name: string): boolean;
}

const bodyLimit = 100 * 1024 * 1024;

/** An HTTP trigger's binding with its expressions resolved, under the route prefix of host.json. */
export function httpFunctionOf(
  metadata: FunctionMetadata,
  binding: BindingInfo,
  prefix: string,
): HttpFunction {
  const route = typeof binding.route === 'string' ? binding.route : metadata.name;
  const methods = Array.isArray(binding.methods) ? binding.methods : [];
  return {
    name: metadata.name,
    route: new Route(`${prefix}/${route}`),
    methods: new Set(methods.map((method) => String(method).toUpperCase())),
    authLevel: String(binding.authLevel),
  };
}

/** Function, host and master keys. They are new at each start, and stay over a restart of the app. */
export class Keys {
  readonly master = newKey();
  readonly #host = newKey();
  readonly #byFunction = new Map<string, string>();

  /** The default key of a function, or the host key that opens all of them. */
  get(functionName?: string): string {
    if (functionName === undefined) return this.#host;
    const key = this.#byFunction.get(functionName) ?? newKey();
    this.#byFunction.set(functionName, key);
    return key;
  }

  allows(key: string | undefined, { name, authLevel }: HttpFunction): boolean {
    if (authLevel === 'anonymous' || key === this.master) return true;
    return authLevel === 'function' && (key === this.#host || key === this.get(name));
  }
}

function newKey(): string {
  return randomBytes(40).toString('base64url');
}

export class HttpFront {
  readonly #server: Server;
  readonly #keys: Keys;
  readonly #target: FrontTarget;

  constructor(keys: Keys, target: FrontTarget) {
    this.#keys = keys;
    this.#target = target;
    this.#server = createServer((request, response) => void this.#answer(request, response));
  }

  /** Listens on loopback; the address without a path. */
  async listen(port: number): Promise<string> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(port, '127.0.0.1', resolve);
    });
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const answer = await this.#respond(request);
      response.writeHead(Number(answer.statusCode), answer.headers);
      response.end(request.method === 'HEAD' ? undefined : answer.body?.bytes);
    } catch {
      // What a function throws is in the log; a caller learns nothing of it.
      if (!response.headersSent) response.writeHead(500);
      response.end();
    }
  }

  async #respond(request: IncomingMessage): Promise<HttpResponseData> {
    const url = new URL(request.url ?? '/', `http://${request.headers.host ?? '127.0.0.1'}`);
    const key = headerOf(request, 'x-functions-key') ?? url.searchParams.get('code') ?? undefined;
    if (url.pathname.startsWith('/admin/')) return this.#admin(request, url, key);
    const functions = this.#target.httpFunctions();
    if (!functions) return status(503);
    const found = find(functions, request.method ?? 'GET', url.pathname);
    if (!found) return status(404);
    if (!this.#keys.allows(key, found.called)) return status(401);
    const body = await readBody(request);
    if (!body) return status(413);
    const data = requestData(request, url, found.params, body);
    return (await this.#target.invokeHttp(found.called.name, data)) ?? status(204);
  }

  #admin(request: IncomingMessage, url: URL, key: string | undefined): HttpResponseData {
    if (key !== this.#keys.master) return status(401);
    const [, name] = /^\/admin\/functions\/([\w-]+)$/.exec(url.pathname) ?? [];
    if (url.pathname === '/admin/host/ping') return status(200);
    if (!name || request.method !== 'POST') return status(404);
    return status(this.#target.invokeByHand(name) ? 202 : 404);
  }
}

function status(code: number): HttpResponseData {
  return { statusCode: String(code), headers: { 'content-length': '0' }, cookies: [] };
}

function find(
  functions: readonly HttpFunction[],
  method: string,
  path: string,
): { called: HttpFunction; params: RouteParams } | undefined {
  const matches = functions.flatMap((called) => {
    const params = called.methods.has(method) ? called.route.match(path) : undefined;
    return params ? [{ called, params }] : [];
  });
  return matches.sort((a, b) => b.called.route.literals - a.called.route.literals)[0];
}

function headerOf(request: IncomingMessage, name: string): string | undefined {
  const value = request.headers[name];
  return Array.isArray(value) ? value.join(', ') : value;
}

/** `undefined` where it is longer than the host takes. */
async function readBody(request: IncomingMessage): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request) {
    length += chunk.length;
    if (length > bodyLimit) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function requestData(request: IncomingMessage, url: URL, params: RouteParams, body: Buffer): HttpRequestData {
  const headers = Object.keys(request.headers).map((name) => [name, headerOf(request, name) ?? '']);
  const query = [...new Set(url.searchParams.keys())].map((name) => [
    name,
    url.searchParams.getAll(name).join(','),
  ]);
  return {
    method: request.method ?? 'GET',
    url: url.href,
    nullableHeaders: nullable(headers),
    nullableQuery: nullable(query),
    nullableParams: nullable(Object.entries(params)),
    body: body.length > 0 ? { bytes: body } : undefined,
  };
}

function nullable(entries: readonly (readonly string[])[]): Record<string, NullableString> {
  return Object.fromEntries(entries.map(([name, value = '']) => [name, { value }]));
}
