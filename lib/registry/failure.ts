import { type ErrorCode, HubferryError, RegistryError, redact, redactUrl } from '../errors.ts';
import { AddressRefusedError } from './addresses.ts';
import { parseRetryAfter, type ResponseHeaders } from './headers.ts';

/** One member of `errors` in the body of an error answer (distribution-spec v1.1 "Error Codes"). */
export interface Fault {
  /** Upper case, or empty. */
  readonly code: string;
  /** One line without secrets, or empty. */
  readonly message: string;
}

/** What is read of the body of an error answer. */
export const maxErrorBody = 64 * 1024;
const maxFaults = 10;
const maxMessage = 400;
/** Of a message that is longer by far, only the beginning is looked at. */
const maxMessageRead = 10 * maxMessage;

/** What an error answer says of itself; nothing where it is not understood. */
export function parseFaults(bytes: Uint8Array): readonly Fault[] {
  const body = parseJson(bytes);
  if (body === undefined) return plainFaults(bytes);
  if (!isRecord(body)) return [];
  const faults = Array.isArray(body.errors) ? body.errors.slice(0, maxFaults) : [body];
  return faults.map(faultIn).filter((fault) => fault.code !== '' || fault.message !== '');
}

/** As clients of Docker print it, and proxies hand it on. */
function plainFaults(bytes: Uint8Array): readonly Fault[] {
  const text = new TextDecoder().decode(bytes.subarray(0, maxMessageRead));
  const [, message] = /^\s*toomanyrequests: (.+)/is.exec(text) ?? [];
  return message === undefined ? [] : [{ code: 'TOOMANYREQUESTS', message: oneLine(message) }];
}

function faultIn(value: unknown): Fault {
  if (!isRecord(value)) return { code: '', message: '' };
  const code = typeof value.code === 'string' && /^\w{1,64}$/.test(value.code) ? redact(value.code) : '';
  // Beside the registries' `message`: OAuth2 (RFC 6749 section 5.2), and Docker Hub's token service and web API.
  const texts = [value.message, value.error_description, value.error, value.details, value.detail];
  const message = texts.find((text) => typeof text === 'string' && text !== '');
  return { code: code.toUpperCase(), message: typeof message === 'string' ? oneLine(message) : '' };
}

function oneLine(text: string): string {
  const words = text
    .slice(0, maxMessageRead)
    .replace(/[\p{C}\s]+/gu, ' ')
    .trim();
  // Redacted before it is cut: a few characters of a secret are no longer known as one.
  return redact(words).slice(0, maxMessage);
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The value of a JSON text; `undefined` where it is none. */
export function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    return undefined;
  }
}

/** An answer as far as a failure needs it. */
export interface Answered {
  readonly method: string;
  readonly url: string;
  readonly status: number;
  readonly headers: ResponseHeaders;
  readonly faults: readonly Fault[];
}

/** Codes that say what is wrong, whatever the status: `docker-registry` answers 500 with MANIFEST_BLOB_UNKNOWN inside. */
const codesOfFaults: Readonly<Record<string, ErrorCode>> = {
  BLOB_UNKNOWN: 'ERR_BLOB_UNKNOWN',
  MANIFEST_BLOB_UNKNOWN: 'ERR_BLOB_UNKNOWN',
  MANIFEST_UNKNOWN: 'ERR_NOT_FOUND',
  NAME_UNKNOWN: 'ERR_NOT_FOUND',
  BLOB_UPLOAD_UNKNOWN: 'ERR_UPLOAD_LOST',
  BLOB_UPLOAD_INVALID: 'ERR_UPLOAD_LOST',
  DIGEST_INVALID: 'ERR_REJECTED',
  MANIFEST_INVALID: 'ERR_REJECTED',
  MANIFEST_UNVERIFIED: 'ERR_REJECTED',
  NAME_INVALID: 'ERR_REJECTED',
  SIZE_INVALID: 'ERR_REJECTED',
  TAG_INVALID: 'ERR_REJECTED',
  UNAUTHORIZED: 'ERR_UNAUTHORIZED',
  DENIED: 'ERR_FORBIDDEN',
  UNSUPPORTED: 'ERR_UNSUPPORTED',
  TOOMANYREQUESTS: 'ERR_RATE_LIMITED',
};

const codesOfStatuses: Readonly<Record<number, ErrorCode>> = {
  401: 'ERR_UNAUTHORIZED',
  403: 'ERR_FORBIDDEN',
  404: 'ERR_NOT_FOUND',
  405: 'ERR_UNSUPPORTED',
  408: 'ERR_TIMEOUT',
  413: 'ERR_TOO_LARGE',
  429: 'ERR_RATE_LIMITED',
  501: 'ERR_UNSUPPORTED',
};

const transientCodes: ReadonlySet<ErrorCode> = new Set(['ERR_TIMEOUT', 'ERR_RATE_LIMITED', 'ERR_SERVER']);
/**
 * The same request is not sent again, but what it was for may come to a good end: a lost upload begins anew, and what one replica of
 * a registry lacks another one may have.
 */
const laterCodes: ReadonlySet<ErrorCode> = new Set(['ERR_UPLOAD_LOST', 'ERR_BLOB_UNKNOWN']);

/** The code of an answer that is not what was asked for. */
export function codeOfAnswer({ status, faults }: Pick<Answered, 'status' | 'faults'>): ErrorCode {
  // A status such as 404 is clear by itself; 400 and 500 are not.
  if (status === 400 || status >= 500) {
    for (const { code } of faults) {
      const known = Object.hasOwn(codesOfFaults, code) ? codesOfFaults[code] : undefined;
      if (known !== undefined) return known;
    }
  }
  const known = codesOfStatuses[status];
  if (known !== undefined) return known;
  if (status >= 500) return 'ERR_SERVER';
  if (status >= 400) return 'ERR_REJECTED';
  return status >= 300 ? 'ERR_REDIRECT' : 'ERR_PROTOCOL';
}

/** Whether the same request may succeed later, judged by its answer. */
export function isTransient(answer: Pick<Answered, 'status' | 'faults'>): boolean {
  return transientCodes.has(codeOfAnswer(answer));
}

export interface FailureDetails {
  /** @default what status and body say */
  readonly code?: ErrorCode;
  /** Now, for a `Retry-After` in seconds. @default the clock */
  readonly now?: number;
}

/** The error for an answer that is not what was asked for: what happened, the request, and the registry's own words. */
export function failureOf(what: string, answer: Answered, details: FailureDetails = {}): RegistryError {
  const code = details.code ?? codeOfAnswer(answer);
  const url = redactUrl(answer.url);
  const words = answer.faults
    .map(({ code, message }) => [code, message].filter(Boolean).join(': '))
    .join('; ');
  return new RegistryError(
    code,
    `${what}: ${answer.method} ${url} answered ${answer.status}${words === '' ? '' : ` (${words})`}`,
    {
      method: answer.method,
      url,
      status: answer.status,
      registryCodes: answer.faults.map((fault) => fault.code).filter(Boolean),
    },
    {
      retryable: transientCodes.has(code) || laterCodes.has(code),
      retryAt: parseRetryAfter(answer.headers, details.now ?? Date.now()),
    },
  );
}

/** An answer that breaks the protocol, or is larger than its limit. */
export function protocolFailure(
  what: string,
  answer: Pick<Answered, 'method' | 'url' | 'status'>,
): RegistryError {
  const { method, status } = answer;
  const url = redactUrl(answer.url);
  return new RegistryError('ERR_PROTOCOL', `${what}: ${method} ${url} (${status})`, { method, url, status });
}

const timeoutCodes = /^(?:UND_ERR_(?:CONNECT|HEADERS|BODY)_TIMEOUT|ETIMEDOUT)$/;
const tlsCodes =
  /^(?:EPROTO|UND_ERR_PRX_TLS|HOSTNAME_MISMATCH|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH_EXCEEDED|(?:CERT|CRL|DEPTH_ZERO|ERR_SSL|ERR_TLS|SELF_SIGNED|UNABLE_TO)_\w+)$/;
const protocolCodes = /^UND_ERR_(?:HEADERS_OVERFLOW|RES_EXCEEDED_MAX_SIZE|INVALID_ARG)$/;

/** The error for a request that got no answer, or half of one. */
export function networkFailure(error: Error, request: { readonly method: string; readonly url: URL }): Error {
  if (error instanceof HubferryError) return error;
  const [code, what, retryable] = kindOf(error);
  const { method } = request;
  const url = redactUrl(request.url);
  const reason = redact(error.message || systemCodeOf(error));
  return new RegistryError(
    code,
    `${what}: ${method} ${url} (${reason})`,
    { method, url },
    { cause: error, retryable },
  );
}

function kindOf(error: Error): readonly [ErrorCode, string, boolean] {
  const code = systemCodeOf(error);
  if (error instanceof AddressRefusedError) return ['ERR_REDIRECT', 'An address inside is refused', false];
  if (timeoutCodes.test(code)) return ['ERR_TIMEOUT', 'No answer in time', true];
  if (tlsCodes.test(code)) return ['ERR_TLS', 'No trusted connection', false];
  if (code === 'UND_ERR_DESTROYED' || code === 'UND_ERR_CLOSED')
    return ['ERR_CONNECTION', 'Closed here', false];
  // undici's word for a proxy that wants a password.
  if (error.message.includes('(407)')) return ['ERR_CONNECTION', 'The proxy refused', false];
  if (protocolCodes.test(code) || error.name === 'HTTPParserError')
    return ['ERR_PROTOCOL', 'No proper HTTP', false];
  return ['ERR_CONNECTION', 'No connection', true];
}

function systemCodeOf(error: Error): string {
  return 'code' in error && typeof error.code === 'string' ? error.code : '';
}
