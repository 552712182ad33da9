import type { BodyOwner, Observer } from '../oci/roles.ts';
import type { ResponseBody } from './body.ts';
import type { Answered } from './failure.ts';

export interface TransportRequest {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Absolute, or a path below the registry's endpoint such as `/v2/`. */
  readonly url: string;
  /** Names in lower case. `authorization` is the authorizer's to set; in its own requests it may. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Pieces are sent one after the other, without being joined. */
  readonly body?: Uint8Array | readonly Uint8Array[];
  /** @default the body stays as it is until there is an answer */
  readonly owner?: BodyOwner | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Ends a wait before an attempt is sent; one that is on its way goes on. */
  readonly whileUnsent?: AbortSignal | undefined;
  readonly observer?: Observer | undefined;
  /** What the token has to allow, such as `repository:a/b:pull,push`. */
  readonly scopes?: readonly string[];
  /**
   * Read the whole body of a successful answer, at most so many bytes, before `send` resolves: a body that breaks is then
   * retried like its request. @default the body is handed on as it comes
   */
  readonly limit?: number;
  /** Whether sending it twice is as good as once. @default true for GET and HEAD */
  readonly idempotent?: boolean;
  /** Whether a GET or HEAD goes where the answer points. @default true */
  readonly followRedirects?: boolean;
  /** A manifest GET: what the pull limit of a registry counts. @default false */
  readonly pull?: boolean;
  /** The registry has work to do before it answers: wait longer. @default false */
  readonly slow?: boolean;
  /** Told when an attempt goes out: from here on its fate is unknown until there is an answer. */
  readonly onSent?: () => void;
}

export interface TransportResponse extends Answered {
  /** Of the last hop. */
  readonly url: string;
  /** Read it, `dump` it or `return` it. That of an error answer is in memory, cut off at 64 KiB. */
  readonly body: ResponseBody;
}

/**
 * Resolves with any answer, once retrying is over; look at its status.
 * @throws the signal's reason; a `RegistryError` where there is no answer; ERR_RATE_LIMITED with `retryAt` where the host
 * asks for a longer wait than anybody waits.
 */
export type Send = (request: TransportRequest) => Promise<TransportResponse>;

/** A request on its way through the interceptors. */
export interface Outgoing extends Omit<TransportRequest, 'url' | 'headers' | 'body'> {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: readonly Uint8Array[];
}

export type SendOutgoing = (request: Outgoing) => Promise<TransportResponse>;

/** Hears of answers of the registry itself, not of those of token service and CDN. */
export type OnAnswer = (answer: Pick<Answered, 'status' | 'headers'>, observer: Observer | undefined) => void;

/** Whether all of it is still there to be sent once more. */
export function canRepeat({ owner }: Pick<TransportRequest, 'owner'>): boolean {
  return owner?.rewind() ?? true;
}
