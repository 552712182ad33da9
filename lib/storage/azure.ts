/** What Blob and Queue Storage have in common: how they are reached, and how a request to them is tried. */
import { setTimeout as delay } from 'node:timers/promises';
import type { TokenCredential } from '@azure/core-auth';
import { isRestError } from '@azure/storage-blob';
import { HubferryError } from '../errors.ts';
import type { CallOptions } from '../oci/roles.ts';
import { StorageError } from './failure.ts';

export interface StorageKey {
  readonly connectionString: string;
}

export interface BlobIdentity {
  readonly blobServiceUri: string;
  readonly credential: TokenCredential;
}

export interface QueueIdentity {
  readonly queueServiceUri: string;
  readonly credential: TokenCredential;
}

/** How a storage account is reached: by a key or signature, or by the Azure identity. */
export type StorageConnection = StorageKey | (BlobIdentity & QueueIdentity);

export interface OpenOptions {
  /** Make a container or queue that is not there. In Azure the deployment makes them, and the identity need not. @default false */
  readonly create?: boolean;
}

/**
 * The SDK's own retries have no jitter and hide that a request was sent twice, which a conditional write must know.
 * So `attempt` is the only one that tries again.
 */
export const clientOptions = {
  retryOptions: { maxTries: 1 },
  userAgentOptions: { userAgentPrefix: 'hubferry' },
};

/** Turns the SDK's complaint about a connection string, which may quote it, into one that does not. */
export function openClient<T>(open: () => T): T {
  try {
    return open();
  } catch (error) {
    if (error instanceof HubferryError) throw error;
    throw new HubferryError(
      'ERR_SETTING',
      'The connection string or address of the storage account is malformed.',
    );
  }
}

/** A token goes over TLS only. */
export function endpointOf(uri: string): string {
  if (URL.canParse(uri) && new URL(uri).protocol === 'https:') return uri;
  throw new HubferryError(
    'ERR_SETTING',
    'With the Azure identity a storage account is reached by an https address.',
  );
}

const tries = 4;
const firstPauseMs = 200;
const patienceMs = 30_000;

export interface AttemptOptions extends CallOptions {
  /** How long one try may take. @default 30 s */
  readonly patienceMs?: number;
}

/**
 * Sends a request, again after a pause where the failure may pass. `send` gets the signal for this one try and its
 * number, from 1. Only `StorageError` (any status), `ERR_IDENTITY` and the caller's own abort reason come out.
 */
export async function attempt<T>(
  what: string,
  options: AttemptOptions,
  send: (abortSignal: AbortSignal, nth: number) => Promise<T>,
): Promise<T> {
  const { signal } = options;
  for (let nth = 1; ; nth++) {
    signal?.throwIfAborted();
    try {
      return await within(options, (abortSignal) => send(abortSignal, nth));
    } catch (error) {
      signal?.throwIfAborted();
      const failure = explain(what, error);
      if (!failure.retryable || nth === tries) throw failure;
    }
    const pause = firstPauseMs * 4 ** (nth - 1) * (0.5 + Math.random() / 2);
    await delay(pause, undefined, { signal }).catch(() => signal?.throwIfAborted());
  }
}

/**
 * The SDK is not waited for when the time is up: it looks at no signal while it asks for a token.
 * Not `AbortSignal.any`: a listener left on its signal is kept for as long as the caller's signal lives.
 */
async function within<T>(options: AttemptOptions, send: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const limit = new AbortController();
  const { promise: late, reject } = Promise.withResolvers<never>();
  const abort = () => {
    limit.abort();
    reject(limit.signal.reason);
  };
  const timer = setTimeout(abort, options.patienceMs ?? patienceMs);
  options.signal?.addEventListener('abort', abort);
  try {
    return await Promise.race([send(limit.signal), late]);
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener('abort', abort);
  }
}

/** The service's error code of a failed `attempt`. */
export function reasonOf(error: unknown): string {
  return error instanceof StorageError ? (error.reason ?? '') : '';
}

const identityErrors = new Set([
  'AuthenticationError',
  'AuthenticationRequiredError',
  'AggregateAuthenticationError',
  'CredentialUnavailableError',
]);
const passingStatus = (status: number) => status === 408 || status === 429 || status >= 500;
/** A container or queue of the same name is still being deleted; a body was damaged on the way. */
const passingReason = /BeingDeleted$|^Md5Mismatch$/;
const certificateReason = /CERT|SELF_SIGNED|UNABLE_TO/;

/** Errors of the SDK carry the request with its headers and query: nothing of them is passed on but code and status. */
function explain(what: string, error: unknown): HubferryError {
  if (error instanceof HubferryError) return error;
  const { name, code } = error as { name?: unknown; code?: unknown };
  if (isRestError(error) && error.statusCode !== undefined) {
    const { statusCode: status, response } = error;
    // The answer to a HEAD has no body to tell the code.
    const reason = error.code ?? response?.headers.get('x-ms-error-code');
    const trace = response?.headers.get('x-ms-request-id');
    const retryable = passingStatus(status) || passingReason.test(reason ?? '');
    const told = [status, reason, trace && `(request ${trace})`].filter(Boolean).join(' ');
    return new StorageError(`${what}: the service answered ${told}.`, { status, reason, retryable });
  }
  if (name === 'AbortError') {
    return new StorageError(`${what}: no answer in time.`, { reason: 'TIMEOUT', retryable: true });
  }
  if (identityErrors.has(String(name))) {
    return new HubferryError('ERR_IDENTITY', `${what}: the Azure identity gave no token.`);
  }
  const reason = typeof code === 'string' ? code : undefined;
  return new StorageError(`${what}: the connection failed${reason === undefined ? '' : ` (${reason})`}.`, {
    reason,
    retryable: !certificateReason.test(reason ?? ''),
  });
}
