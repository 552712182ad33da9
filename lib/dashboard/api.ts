/** Asks the app, with the key in a header: never in an address, where histories and logs would keep it. */
import { type ErrorCode, type ErrorSummary, errorCodes, HubferryError } from '../errors.ts';
import type { ControlAction, ControlAnswer, RunReport, StatusAnswer } from './answers.ts';

const patienceMs = 60_000;
/** A header carries no other characters, and no key has them. */
const keyShape = /^[\x21-\x7E\xA1-\xFF]+$/;
/** What comes along where a key is copied out of a text. */
const invisible = /[\s\u200B-\u200D\u2060\uFEFF]/g;

export function cleanKey(typed: string): string {
  return typed.replace(invisible, '');
}

export class WrongKey extends HubferryError {
  constructor() {
    super('ERR_UNAUTHORIZED', 'The app refuses this key.');
  }
}

export class Api {
  readonly #key: string;

  constructor(key: string) {
    this.#key = key;
  }

  async status(): Promise<StatusAnswer> {
    return (await this.#ask('status')) as StatusAnswer;
  }

  async report(run: string): Promise<RunReport> {
    return (await this.#ask(`status/${encodeURIComponent(run)}`)) as RunReport;
  }

  async control(action: ControlAction, run?: string): Promise<ControlAnswer> {
    return (await this.#ask('control', {
      method: 'POST',
      body: JSON.stringify({ action, run }),
    })) as ControlAnswer;
  }

  /** @throws HubferryError with a code whose remedy a person can follow */
  async #ask(path: string, init: RequestInit = {}): Promise<unknown> {
    if (!keyShape.test(this.#key)) throw new WrongKey();
    const headers = { 'x-functions-key': this.#key };
    const signal = AbortSignal.timeout(patienceMs);
    const answer = await fetch(path, { ...init, headers, signal, redirect: 'error' }).catch(
      (cause: unknown) => {
        throw new HubferryError('ERR_CONNECTION', 'The app cannot be reached.', { cause });
      },
    );
    if (answer.status === 401 || answer.status === 403) throw new WrongKey();
    const document: unknown = await answer.json().catch(() => undefined);
    if (!answer.ok) throw refusalOf(answer.status, document);
    if (typeof document !== 'object' || document === null)
      throw new HubferryError('ERR_PROTOCOL', 'What answers is not the app.');
    return document;
  }
}

function refusalOf(status: number, document: unknown): HubferryError {
  const { error } = (document ?? {}) as { readonly error?: Partial<ErrorSummary> };
  return new HubferryError(
    knownCode(error?.code) ?? 'ERR_SERVER',
    error?.message ?? `The app answers with status ${status}.`,
  );
}

/** The code, where this page knows it. */
export function knownCode(code: string | undefined): ErrorCode | undefined {
  return code !== undefined && Object.hasOwn(errorCodes, code) ? (code as ErrorCode) : undefined;
}
