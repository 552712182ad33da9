/**
 * A queue trigger, as the Storage Queues extension runs it: batches, a lease that is renewed while the function runs,
 * retries by dequeue count, and the poison queue.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { DequeuedMessageItem, QueueClient } from '@azure/storage-queue';
import type { LogLevel, TypedData } from './protocol.ts';
import type { QueueOptions } from './settings.ts';

export interface QueueListenerOptions {
  readonly queue: QueueClient;
  /** Where what fails too often goes. A poison queue has none. */
  readonly poison: QueueClient | undefined;
  readonly limits: QueueOptions;
  /** The extension receives messages for ten minutes; shorter here where a test loses an instance. */
  readonly leaseSeconds: number;
  /** Runs the function; rejects where it fails. */
  readonly invoke: (body: string, metadata: Readonly<Record<string, TypedData>>) => Promise<void>;
  readonly log: (level: LogLevel, message: string) => void;
  /** Aborted when the instance is lost: what runs is forgotten, its messages come back when their leases end. */
  readonly signal: AbortSignal;
}

const minPollingInterval = 100;

export class QueueListener {
  readonly #options: QueueListenerOptions;
  readonly #running = new Set<Promise<void>>();

  constructor(options: QueueListenerOptions) {
    this.#options = options;
  }

  /** Messages in the queue, those that run or are invisible included. */
  async pending(): Promise<number> {
    const count = await ifExists(this.#options.queue.getProperties());
    return count?.approximateMessagesCount ?? 0;
  }

  /** Polls until the instance is lost. */
  async run(): Promise<void> {
    const { limits, signal } = this.#options;
    let interval = minPollingInterval;
    while (!signal.aborted) {
      if (this.#running.size > limits.newBatchThreshold) {
        await Promise.race(this.#running);
        continue;
      }
      const messages = await this.#receive();
      for (const message of messages) this.#start(message);
      interval = messages.length > 0 ? minPollingInterval : Math.min(interval * 2, limits.maxPollingInterval);
      if (messages.length === 0) await delay(interval, undefined, { signal }).catch(() => undefined);
    }
  }

  /** A missing queue looks empty: the listener does not create it. */
  async #receive(): Promise<readonly DequeuedMessageItem[]> {
    const { queue, limits, leaseSeconds, log, signal } = this.#options;
    try {
      const received = await ifExists(
        queue.receiveMessages({
          numberOfMessages: limits.batchSize,
          visibilityTimeout: leaseSeconds,
          abortSignal: signal,
        }),
      );
      return received?.receivedMessageItems ?? [];
    } catch (error) {
      if (!signal.aborted) log('warning', `Queue ${queue.name} could not be read: ${String(error)}`);
      return [];
    }
  }

  #start(message: DequeuedMessageItem): void {
    const { log, signal } = this.#options;
    const running = this.#process(message)
      .catch((error: unknown) => {
        if (!signal.aborted) log('error', `Message ${message.messageId} was not settled: ${String(error)}`);
      })
      .finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  async #process(message: DequeuedMessageItem): Promise<void> {
    const { limits, poison, invoke, queue, leaseSeconds, log, signal } = this.#options;
    const body = decodeBase64(message.messageText);
    // An instance that is lost each time it takes the message would otherwise take it for ever.
    if (poison && (body === undefined || message.dequeueCount > limits.maxDequeueCount)) {
      return await this.#moveToPoison(message, message.popReceipt, poison);
    }
    if (body === undefined) return;
    const lease = new MessageLease(queue, message, leaseSeconds, log);
    const succeeded = await invoke(body, metadataOf(message, body)).then(
      () => true,
      () => false,
    );
    const receipt = await lease.end();
    if (signal.aborted) return;
    if (succeeded) await queue.deleteMessage(message.messageId, receipt);
    else await this.#settleFailure(message, receipt);
  }

  async #settleFailure(message: DequeuedMessageItem, receipt: string): Promise<void> {
    const { limits, poison, queue } = this.#options;
    // What fails in a poison queue stays invisible until its lease ends: no queue is behind it, and no hurry.
    if (!poison) return;
    if (message.dequeueCount >= limits.maxDequeueCount)
      return await this.#moveToPoison(message, receipt, poison);
    await queue.updateMessage(
      message.messageId,
      receipt,
      undefined,
      Math.floor(limits.visibilityTimeout / 1000),
    );
  }

  /** The body alone is copied: the count starts again there. */
  async #moveToPoison(message: DequeuedMessageItem, receipt: string, poison: QueueClient): Promise<void> {
    const { queue, log, limits } = this.#options;
    log(
      'warning',
      `Message has reached MaxDequeueCount of ${limits.maxDequeueCount}. Moving message to queue '${poison.name}'.`,
    );
    await poison.createIfNotExists();
    await poison.sendMessage(message.messageText, { messageTimeToLive: -1 });
    await queue.deleteMessage(message.messageId, receipt);
  }
}

/** Keeps a message invisible while its function runs, by renewing at half of the lease. */
class MessageLease {
  readonly #queue: QueueClient;
  readonly #message: DequeuedMessageItem;
  readonly #seconds: number;
  readonly #log: QueueListenerOptions['log'];
  readonly #timer: NodeJS.Timeout;
  #receipt: string;
  #renewing: Promise<void> = Promise.resolve();

  constructor(
    queue: QueueClient,
    message: DequeuedMessageItem,
    seconds: number,
    log: QueueListenerOptions['log'],
  ) {
    this.#queue = queue;
    this.#message = message;
    this.#seconds = seconds;
    this.#log = log;
    this.#receipt = message.popReceipt;
    this.#timer = setInterval(() => {
      this.#renewing = this.#renewing.then(() => this.#renew());
    }, seconds * 500);
  }

  /** Stops renewing; the receipt with which the message is settled. */
  async end(): Promise<string> {
    clearInterval(this.#timer);
    await this.#renewing;
    return this.#receipt;
  }

  async #renew(): Promise<void> {
    const { messageId } = this.#message;
    try {
      const { popReceipt } = await this.#queue.updateMessage(
        messageId,
        this.#receipt,
        undefined,
        this.#seconds,
      );
      this.#receipt = popReceipt ?? this.#receipt;
    } catch (error) {
      this.#log('warning', `The lease of message ${messageId} was not renewed: ${String(error)}`);
    }
  }
}

/** `triggerMetadata` as the host sends it: strings bare, everything else as JSON. */
function metadataOf(message: DequeuedMessageItem, body: string): Record<string, TypedData> {
  return {
    QueueTrigger: { string: body },
    Id: { string: message.messageId },
    PopReceipt: { string: message.popReceipt },
    DequeueCount: { json: String(message.dequeueCount) },
    InsertionTime: { json: JSON.stringify(message.insertedOn) },
    ExpirationTime: { json: JSON.stringify(message.expiresOn) },
    NextVisibleTime: { json: JSON.stringify(message.nextVisibleOn) },
  };
}

function decodeBase64(text: string): string | undefined {
  const isBase64 = text.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(text);
  return isBase64 ? Buffer.from(text, 'base64').toString('utf8') : undefined;
}

/** `undefined` where the queue does not exist. */
async function ifExists<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if ((error as { statusCode?: number }).statusCode === 404) return undefined;
    throw error;
  }
}
