/** Request queues on Queue Storage. */
import { type QueueClient, QueueServiceClient } from '@azure/storage-queue';
import { HubferryError } from '../errors.ts';
import type { CallOptions } from '../oci/roles.ts';
import {
  attempt,
  clientOptions,
  endpointOf,
  type OpenOptions,
  openClient,
  type QueueIdentity,
  reasonOf,
  type StorageKey,
} from './azure.ts';
import type { Queue, RequestQueues, SendOptions } from './ports.ts';

/** A message has at most 64 KiB on the wire, and base64 makes four bytes of three. */
const maxMessageBytes = 48 * 1024;

export interface AzureQueues extends RequestQueues {
  /** How many messages there are, invisible ones too. The service counts roughly. */
  approximateCount(queue: Queue | `${Queue}-poison`, options?: CallOptions): Promise<number>;
}

/** Opens the queues of an account. No request is made before the first call. */
export function openQueues(connection: StorageKey | QueueIdentity, options: OpenOptions = {}): AzureQueues {
  const service = openClient(() =>
    'connectionString' in connection
      ? QueueServiceClient.fromConnectionString(connection.connectionString, clientOptions)
      : new QueueServiceClient(endpointOf(connection.queueServiceUri), connection.credential, clientOptions),
  );
  const create = options.create ?? false;
  return {
    send: (queue, message, sending = {}) => send(service.getQueueClient(queue), message, sending, create),
    approximateCount: (queue, call = {}) => approximateCount(service.getQueueClient(queue), call, create),
  };
}

/** Sent again where an answer is lost, so a message may come twice: requests are hints and bear that. */
async function send(
  client: QueueClient,
  message: unknown,
  options: SendOptions,
  create: boolean,
): Promise<void> {
  const text = encode(client.name, message);
  const settings = {
    // Else it expires after seven days.
    messageTimeToLive: -1,
    ...(options.delaySeconds && { visibilityTimeout: Math.ceil(options.delaySeconds) }),
  };
  const post = () =>
    attempt(`send to ${client.name}`, options, (abortSignal) =>
      client.sendMessage(text, { ...settings, abortSignal }),
    );
  try {
    await post();
  } catch (error) {
    if (!create || reasonOf(error) !== 'QueueNotFound') throw error;
    await attempt(`create ${client.name}`, options, (abortSignal) =>
      client.createIfNotExists({ abortSignal }),
    );
    await post();
  }
}

/** The Functions queue trigger reads base64. */
function encode(queue: string, message: unknown): string {
  const bytes = Buffer.from(JSON.stringify(message));
  if (bytes.byteLength > maxMessageBytes) {
    throw new HubferryError(
      'ERR_TOO_LARGE',
      `A message to ${queue} has ${bytes.byteLength} bytes, more than ${maxMessageBytes}.`,
    );
  }
  return bytes.toString('base64');
}

async function approximateCount(client: QueueClient, options: CallOptions, create: boolean): Promise<number> {
  try {
    const { approximateMessagesCount } = await attempt(`count ${client.name}`, options, (abortSignal) =>
      client.getProperties({ abortSignal }),
    );
    return approximateMessagesCount ?? 0;
  } catch (error) {
    if (create && reasonOf(error) === 'QueueNotFound') return 0;
    throw error;
  }
}
