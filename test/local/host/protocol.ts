/**
 * What passes between the host and its worker process, and the part of `@azure/functions-core` that both know:
 * that module exists only inside the real worker, and its types are published nowhere.
 */

export type LogLevel = 'trace' | 'debug' | 'information' | 'warning' | 'error' | 'critical' | 'none';

export interface LogLine {
  readonly level: LogLevel;
  /** `user`: the app's own log. `system`: the worker and the library. `host`: the host. `console`: what was printed. */
  readonly category: 'user' | 'system' | 'host' | 'console';
  readonly functionName?: string | undefined;
  readonly invocationId?: string | undefined;
  readonly message: string;
}

export interface BindingInfo {
  readonly type: string;
  readonly direction: 'in' | 'out' | 'inout';
  readonly [option: string]: unknown;
}

export interface FunctionMetadata {
  readonly name: string;
  readonly bindings: Readonly<Record<string, BindingInfo>>;
  readonly retryOptions?: unknown;
}

export interface NullableString {
  readonly value: string;
}

export interface HttpRequestData {
  readonly method: string;
  readonly url: string;
  readonly nullableHeaders: Readonly<Record<string, NullableString>>;
  readonly nullableQuery: Readonly<Record<string, NullableString>>;
  readonly nullableParams: Readonly<Record<string, NullableString>>;
  readonly body?: { readonly bytes: Uint8Array } | undefined;
}

export interface HttpResponseData {
  readonly statusCode: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly cookies: readonly unknown[];
  readonly body?: { readonly bytes?: Uint8Array } | null;
}

/** `RpcTypedData`: exactly one of them is set. */
export type TypedData =
  | { readonly string: string }
  | { readonly json: string }
  | { readonly http: HttpRequestData };

export interface InvocationRequest {
  readonly invocationId: string;
  readonly functionId: string;
  readonly inputData: readonly { readonly name: string; readonly data: TypedData }[];
  readonly triggerMetadata: Readonly<Record<string, TypedData>>;
}

export interface InvocationResponse {
  readonly invocationId: string;
  readonly returnValue?: { readonly http?: HttpResponseData } | null;
}

export interface Failure {
  readonly name: string;
  readonly message: string;
  readonly stack: string;
}

export type ToWorker =
  | { readonly type: 'invoke'; readonly request: InvocationRequest }
  | { readonly type: 'terminate' };

export type FromWorker =
  | { readonly type: 'ready'; readonly functions: readonly FunctionMetadata[] }
  | { readonly type: 'loadFailed'; readonly failure: Failure }
  | { readonly type: 'log'; readonly line: LogLine }
  | { readonly type: 'succeeded'; readonly response: InvocationResponse }
  | { readonly type: 'failed'; readonly invocationId: string; readonly failure: Failure };
