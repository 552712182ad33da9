/** One POST to an address that is no registry: no login, no redirect, no second try. */
import { codeOf, HubferryError } from '../errors.ts';
import { createConnections, defaultTimeouts } from './connections.ts';
import { exchange } from './exchange.ts';
import { parseRetryAfter } from './headers.ts';

export interface Posting {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
  readonly signal: AbortSignal;
}

export interface Posted {
  readonly status: number;
  /** Milliseconds since the epoch, where the receiver names a time. */
  readonly retryAt: number | undefined;
}

/** The address may be a secret as a whole: no error that comes out of here holds a part of it. */
export async function post({ url: address, headers, body, signal }: Posting): Promise<Posted> {
  const url = new URL(address);
  const connections = createConnections(settingsFor(url), { timeouts: defaultTimeouts, socketsPerHost: 1 });
  try {
    const answer = await exchange(connections.dispatcherFor(url), {
      method: 'POST',
      url,
      headers: { 'user-agent': 'hubferry', ...headers },
      body: [body],
      signal,
      headersTimeoutMs: defaultTimeouts.headersMs,
      onSent: () => undefined,
    });
    return { status: answer.status, retryAt: parseRetryAfter(answer.headers, Date.now()) };
  } catch (error) {
    const code = signal.aborted ? 'ERR_TIMEOUT' : codeOf(error);
    throw new HubferryError(code, `The receiver was not reached (${code})`, { retryable: true });
  } finally {
    await connections.close();
  }
}

function settingsFor({ host, origin }: URL) {
  return {
    host,
    kind: 'oci' as const,
    endpoint: origin,
    identity: false,
    audience: '',
    skipTlsVerify: false,
    allowHttpFallback: false,
  };
}
