/**
 * Tells a receiver of runs in which something failed, waits for long, changed, or is well again.
 *
 * What is to be told is written down while the run closes, and sent later: a receiver that fails, hangs or asks to wait holds
 * up no run. It is sent until the receiver has taken it, so it may come twice, each time under the same key.
 */
import * as z from 'zod';
import type { Notification } from './config/environment.ts';
import { codeOf } from './errors.ts';
import { bodyFor } from './notify/formats.ts';
import { type Message, messageOf, type Prunes } from './notify/message.ts';
import { Troubles } from './notify/troubles.ts';
import { post } from './registry/post.ts';
import type { DocumentStore } from './storage/ports.ts';
import type { LogLevel } from './sync/runs/events.ts';
import type { AnyReport } from './sync/runs/report.ts';
import { parseStored } from './sync/stored.ts';

export interface NotifierOptions {
  readonly state: DocumentStore;
  readonly on: ReadonlySet<Notification>;
  /** Where to; it is a secret. @throws ERR_SECRET_UNRESOLVED, ERR_SETTING */
  readonly url: () => string | undefined;
  /** How long the receiver may take, in milliseconds. @default 10 s */
  readonly patienceMs?: number;
}

export type Log = (
  level: LogLevel,
  message: string,
  fields: Readonly<Record<string, string | number | undefined>>,
) => void;

/** As far as sending it relies on it. */
const messageShape = z.object({
  idempotencyKey: z.string(),
  title: z.string(),
  run: z.object({ id: z.string() }),
  about: z.array(z.string()),
  causes: z.array(z.object({ examples: z.array(z.string()) })),
  failures: z.array(z.object({ target: z.string() })),
  rules: z.array(z.object({ outcomes: z.object({}) })),
  recovered: z.array(z.string()),
});
const letterSchema = z.object({
  message: z.custom<Message>((value) => messageShape.safeParse(value).success),
  attempts: z.number(),
  /** Milliseconds since the epoch. */
  writtenAt: z.number(),
  notBefore: z.number(),
});
type Letter = z.infer<typeof letterSchema>;

const prefix = 'notify/outbox/';
/** Until when the receiver asked to wait, in milliseconds since the epoch. */
const restKey = 'notify/rest.json';
const firstPauseMs = 60_000;
const longestPauseMs = 6 * 3600_000;
/** Whom nobody could tell for so long is not told any more, in milliseconds. */
const givenUpMs = 7 * 24 * 3600_000;

export class Notifier {
  readonly #options: NotifierOptions;
  readonly #troubles: Troubles;

  constructor(options: NotifierOptions) {
    this.#options = options;
    this.#troubles = new Troubles(options.state);
  }

  /** Writes down what is to be told of a run; a second time for the same run changes nothing. */
  async note(report: AnyReport, prunes: Prunes = () => false): Promise<void> {
    const { state, on } = this.#options;
    if (!this.#isAsked() || report.run.dryRun) return;
    const recovered = await this.#troubles.takeRecovered(report);
    const message = messageOf(report, recovered, on, prunes);
    if (message !== undefined) {
      const now = Date.now();
      const letter: Letter = { message, attempts: 0, writtenAt: now, notBefore: now };
      await state.put(`${prefix}${report.run.id}.json`, encode(letter), { ifAbsent: true });
    }
    await this.#troubles.note(report);
  }

  /** Sends what is written down, the oldest first, until the receiver refuses. */
  async deliver(log: Log): Promise<void> {
    const { state } = this.#options;
    let isAsked = false;
    for await (const { key } of state.list(prefix)) {
      if (!isAsked && (await this.#isResting())) return;
      isAsked = true;
      const document = await state.get(key);
      if (document === undefined) continue;
      const letter = parseStored(document.bytes, letterSchema);
      // What is none, nobody can send.
      if (letter === undefined) await state.delete(key);
      else if (letter.notBefore <= Date.now() && !(await this.#send(key, letter, log))) return;
    }
  }

  #isAsked(): boolean {
    try {
      return this.#options.url() !== undefined;
    } catch {
      // It is meant to be told; `deliver` says why it is not.
      return true;
    }
  }

  async #send(key: string, letter: Letter, log: Log): Promise<boolean> {
    const { state } = this.#options;
    const { message } = letter;
    const { run } = message;
    const { status, retryAt, error } = await this.#post(message);
    if (status !== undefined && status >= 200 && status < 300) {
      await state.delete(key);
      log('info', 'notified', { run: run.id, about: message.about.join(' ') });
      return true;
    }
    const attempts = letter.attempts + 1;
    const code = error ?? (status === 429 ? 'ERR_RATE_LIMITED' : 'ERR_REJECTED');
    if (Date.now() - letter.writtenAt > givenUpMs) {
      await state.delete(key);
      log('error', 'notification given up', { run: run.id, attempts, code, status });
      return true;
    }
    const pause = Math.min(firstPauseMs * 2 ** letter.attempts, longestPauseMs);
    const notBefore = Math.max(Date.now() + pause, Math.min(retryAt ?? 0, letter.writtenAt + givenUpMs));
    await state.put(key, encode({ ...letter, attempts, notBefore }));
    if (retryAt !== undefined) await state.put(restKey, encode(notBefore));
    log('warn', 'notification failed', {
      run: run.id,
      attempts,
      code,
      status,
      until: new Date(notBefore).toISOString(),
    });
    return false;
  }

  /** Whether the receiver asked to be left alone: that holds for all that is to be told. */
  async #isResting(): Promise<boolean> {
    const document = await this.#options.state.get(restKey);
    return document !== undefined && Number(Buffer.from(document.bytes).toString()) > Date.now();
  }

  async #post(message: Message): Promise<{ status?: number; retryAt?: number | undefined; error?: string }> {
    try {
      const url = this.#options.url();
      if (url === undefined) return { status: 204 };
      const headers = { 'content-type': 'application/json', 'idempotency-key': message.idempotencyKey };
      const signal = AbortSignal.timeout(this.#options.patienceMs ?? 10_000);
      return await post({ url, headers, body: encode(bodyFor(new URL(url).hostname, message)), signal });
    } catch (error) {
      return { error: codeOf(error) };
    }
  }
}

function encode(value: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(value));
}
