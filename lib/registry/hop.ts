import { HubferryError, RegistryError, redactUrl } from '../errors.ts';
import { bodyOf, type ResponseBody } from './body.ts';
import type { Connections, Timeouts } from './connections.ts';
import type { Endpoint } from './endpoint.ts';
import { type ExchangeResponse, exchange } from './exchange.ts';
import { maxErrorBody, parseFaults } from './failure.ts';
import type { HostGate } from './gate.ts';
import type { OnAnswer, Outgoing, SendOutgoing, TransportResponse } from './send.ts';

export interface HopOptions {
  readonly endpoint: Endpoint;
  readonly connections: Connections;
  readonly gate: HostGate;
  readonly maxWaitMs: number;
  readonly timeouts: Timeouts;
  readonly countPulls: boolean;
  readonly onAnswer: OnAnswer | undefined;
}

/** No compression: digests are of what is stored, and a small body could become a huge one. */
const commonHeaders = { 'user-agent': 'hubferry', 'accept-encoding': 'identity' };

/** Sends one request to one host, and reads what an error answer says of itself. */
export function createHop(options: HopOptions): SendOutgoing {
  const { endpoint, connections, gate, timeouts } = options;

  async function send(request: Outgoing): Promise<TransportResponse> {
    const { url, signal, observer } = request;
    refuseInside(request, connections);
    const traffic = request.pull === true ? 'pulls' : 'everything';
    await gate.wait(url.host, { traffic, maxWaitMs: options.maxWaitMs, signal: waitingSignal(request) });
    observer?.onRequest?.();
    const answer = await exchange(connections.dispatcherFor(url), {
      method: request.method,
      url,
      headers: { ...commonHeaders, ...request.headers },
      body: request.body,
      owner: request.owner,
      signal,
      headersTimeoutMs: request.slow === true ? timeouts.commitMs : timeouts.headersMs,
      onSent: () => request.onSent?.(),
    });
    if (isServed(answer.status)) gate.served(url.host);
    if (url.origin === endpoint.origin) {
      endpoint.settle();
      options.onAnswer?.(answer, observer);
    }
    const response = await complete(request, answer, timeouts.wholeMs);
    if (options.countPulls && request.pull === true && response.status === 200) observer?.onPull?.();
    return response;
  }

  return async (request) => {
    let sent = false;
    const onSent = (): void => {
      sent = true;
      request.onSent?.();
    };
    try {
      return await send({ ...atEndpoint(request, endpoint), onSent });
    } catch (error) {
      const untried = !sent && request.url.origin === endpoint.origin && isUnreached(error);
      if (!untried || !endpoint.fallBack()) throw error;
      return send({ ...atEndpoint(request, endpoint), onSent });
    }
  };
}

/** To ask for a login, to refuse and to fail is not to serve. */
function isServed(status: number): boolean {
  return status < 500 && status !== 401 && status !== 429;
}

/** What ends a wait: nothing of the request is on its way. */
export function waitingSignal({ signal, whileUnsent }: Outgoing): AbortSignal | undefined {
  if (signal === undefined || whileUnsent === undefined) return signal ?? whileUnsent;
  return AbortSignal.any([signal, whileUnsent]);
}

/** The request with the scheme that the endpoint has come down to since it was made. */
function atEndpoint(request: Outgoing, endpoint: Endpoint): Outgoing {
  const { url } = request;
  if (url.protocol !== 'https:' || `http://${url.host}` !== endpoint.origin) return request;
  return { ...request, url: new URL(url.href.replace(/^https:/, 'http:')) };
}

function isUnreached(error: unknown): boolean {
  return error instanceof HubferryError && ['ERR_TLS', 'ERR_CONNECTION', 'ERR_TIMEOUT'].includes(error.code);
}

function refuseInside({ method, url }: Outgoing, connections: Connections): void {
  if (connections.mayReach(url)) return;
  const shown = redactUrl(url);
  throw new RegistryError('ERR_REDIRECT', `An address inside is refused: ${method} ${shown}`, {
    method,
    url: shown,
  });
}

/** Reads the body where it belongs to the attempt: that of an error, and one asked for as a whole. */
async function complete(
  request: Outgoing,
  answer: ExchangeResponse,
  wholeMs: number,
): Promise<TransportResponse> {
  const { status, headers } = answer;
  const facts = { method: request.method, url: request.url.href, status, headers };
  if (status >= 400) {
    const bytes = await errorBody(request, answer, wholeMs);
    return { ...facts, faults: parseFaults(bytes), body: bodyOf(bytes) };
  }
  if (status < 200 || status >= 300 || request.limit === undefined) {
    return { ...facts, faults: [], body: answer.body };
  }
  const whole = await headInTime(request, answer, request.limit, wholeMs);
  if (whole.complete) return { ...facts, faults: [], body: bodyOf(whole.bytes) };
  const url = redactUrl(request.url);
  const message = `${request.method} ${url} answered more than ${request.limit} bytes`;
  throw new RegistryError('ERR_TOO_LARGE', message, { method: request.method, url, status });
}

/** The status counts: a broken body of an error takes nothing away from it. */
async function errorBody(request: Outgoing, answer: ExchangeResponse, wholeMs: number): Promise<Uint8Array> {
  try {
    return (await headInTime(request, answer, maxErrorBody, wholeMs)).bytes;
  } catch {
    request.signal?.throwIfAborted();
    return new Uint8Array();
  }
}

async function headInTime(
  { method, url: { href } }: Outgoing,
  { status, body }: ExchangeResponse,
  limit: number,
  wholeMs: number,
): ReturnType<ResponseBody['head']> {
  const url = redactUrl(href);
  const message = `No end of the answer in time: ${method} ${url}`;
  const timer = setTimeout(
    () =>
      body.breakOff(new RegistryError('ERR_TIMEOUT', message, { method, url, status }, { retryable: true })),
    wholeMs,
  );
  try {
    return await body.head(limit);
  } finally {
    clearTimeout(timer);
  }
}
