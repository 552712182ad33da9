/** What goes wrong in storage, told without keys, signatures and addresses with either. */
import { HubferryError } from '../errors.ts';
import { maxDocumentBytes, type PutOptions } from './ports.ts';

export interface FailureFacts {
  /** HTTP status, where there was an answer. */
  readonly status?: number | undefined;
  /** The service's error code (`AuthorizationPermissionMismatch`), or the system's (`ECONNREFUSED`, `EACCES`). */
  readonly reason?: string | undefined;
  readonly retryable?: boolean;
  readonly cause?: unknown;
}

/** The state could not be read or written. */
export class StorageError extends HubferryError {
  override readonly name = 'StorageError';
  readonly status: number | undefined;
  readonly reason: string | undefined;

  constructor(message: string, facts: FailureFacts = {}) {
    super('ERR_STORAGE', message, { retryable: facts.retryable ?? false, cause: facts.cause });
    this.status = facts.status;
    this.reason = facts.reason;
  }
}

export function leaseLost(key: string): HubferryError {
  return new HubferryError('ERR_LEASE_LOST', `The lease on ${key} was lost.`, { retryable: true });
}

/** Whether a write may be left undone by what it asks for itself. Of any other nobody looks whether it was done: it has failed. */
export function isConditional({ ifMatch, ifAbsent, lease }: PutOptions): boolean {
  return ifMatch !== undefined || ifAbsent === true || lease !== undefined;
}

export function checkSize(key: string, size: number): void {
  if (size <= maxDocumentBytes) return;
  throw new HubferryError('ERR_TOO_LARGE', `${key} has ${size} bytes, more than ${maxDocumentBytes}.`);
}

/** Blob Storage's bounds of a lease that ends by itself, kept to by every store. */
export function checkLeaseSeconds(seconds: number): void {
  if (Number.isInteger(seconds) && seconds >= 15 && seconds <= 60) return;
  throw new HubferryError('ERR_INTERNAL', `A lease takes 15 to 60 seconds, not ${seconds}.`);
}

const control = /\p{Cc}/u;

/**
 * Refuses what is no key. Blob names have at most 1,024 characters, and an empty or dot segment would be resolved
 * by the URL or the file system, into another folder.
 */
export function checkKey(key: string): void {
  const segments = key.split('/');
  const resolvable = segments.some((segment) => segment === '' || segment === '.' || segment === '..');
  if (!resolvable && key.length <= 1024 && key.isWellFormed() && !control.test(key) && !key.includes('\\'))
    return;
  throw new HubferryError('ERR_INTERNAL', `${JSON.stringify(key)} is no key of a document.`);
}
