import { QueueServiceClient } from '@azure/storage-queue';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Queue } from '../../../lib/storage/ports.ts';
import { type AzureQueues, openQueues } from '../../../lib/storage/queue.ts';
import { type Azurite, startAzurite } from '../../local/azurite.ts';
import { type FaultProxy, startFaultProxy } from '../../local/faults.ts';

describe('request queues', () => {
  let azurite: Azurite;
  let proxy: FaultProxy;
  let connectionString: string;
  let queues: AzureQueues;

  beforeAll(async () => {
    azurite = await startAzurite();
    const { origin } = new URL(azurite.queueEndpoint);
    proxy = await startFaultProxy(origin);
    connectionString = azurite.connectionString.replace(origin, proxy.url);
    queues = openQueues({ connectionString }, { create: true });
  });
  afterAll(async () => {
    await proxy.close();
    await azurite.close();
  });

  async function receive(queue: Queue) {
    const client = QueueServiceClient.fromConnectionString(azurite.connectionString).getQueueClient(queue);
    const { receivedMessageItems } = await client.receiveMessages({ numberOfMessages: 32 });
    await client.clearMessages();
    return receivedMessageItems;
  }

  const decode = (text: string) => JSON.parse(Buffer.from(text, 'base64').toString());

  it('are made by the first message where they may be', async () => {
    expect(await queues.approximateCount('plan-requests')).toBe(0);
    await queues.send('plan-requests', { kind: 'plan' });
    expect(await queues.approximateCount('plan-requests')).toBe(1);
  });

  it('are missed where they may not be made', async () => {
    const deployed = openQueues({ connectionString });
    const missing = { code: 'ERR_STORAGE', status: 404, reason: 'QueueNotFound', retryable: false };
    await expect(deployed.send('push-requests', {})).rejects.toMatchObject(missing);
    await expect(deployed.approximateCount('push-requests-poison')).rejects.toMatchObject(missing);
  });

  it('carry a message as base64 of JSON, for ever', async () => {
    const message = { kind: 'copy', tags: ['v1', 'ä€😀'] };
    await queues.send('copy-requests', message);
    const [item, ...more] = await receive('copy-requests');
    expect(more).toEqual([]);
    expect(decode(item?.messageText ?? '')).toEqual(message);
    expect(item?.expiresOn.getUTCFullYear()).toBe(9999);
  });

  it('show a delayed message later, and count it all the same', async () => {
    await queues.send('copy-requests', { number: 1 }, { delaySeconds: 60.5 });
    await queues.send('copy-requests', { number: 2 }, { delaySeconds: 0 });
    expect(await queues.approximateCount('copy-requests')).toBe(2);
    const visible = await receive('copy-requests');
    expect(visible.map(({ messageText }) => decode(messageText))).toEqual([{ number: 2 }]);
  });

  it('take 48 KiB, and refuse more before anything is sent', async () => {
    const quotes = 2;
    await queues.send('copy-requests', 'x'.repeat(48 * 1024 - quotes));
    expect(await receive('copy-requests')).toHaveLength(1);
    const before = proxy.log.length;
    const tooMuch = queues.send('copy-requests', 'x'.repeat(48 * 1024 - quotes + 1));
    await expect(tooMuch).rejects.toMatchObject({ code: 'ERR_TOO_LARGE' });
    expect(proxy.log).toHaveLength(before);
  });

  it('get a message again whose answer was lost: twice is better than never', async () => {
    proxy.next({ kind: 'lose' }, ({ method }) => method === 'POST');
    await queues.send('copy-requests', { number: 1 });
    const messages = await receive('copy-requests');
    expect(messages.map(({ messageText }) => decode(messageText))).toEqual([{ number: 1 }, { number: 1 }]);
  });

  it('get a message again that did not arrive', async () => {
    proxy.next({ kind: 'status', status: 503 });
    proxy.next({ kind: 'reset', side: 'request', after: 10 }, ({ method }) => method === 'POST');
    await queues.send('copy-requests', { number: 1 });
    expect(await receive('copy-requests')).toHaveLength(1);
    expect(proxy.waiting).toBe(0);
  });

  it('tell a refused login, without the key', async () => {
    const wrongKey = Buffer.from('canary').toString('base64');
    const stranger = openQueues({ connectionString: connectionString.replace(azurite.accountKey, wrongKey) });
    const error = await stranger.send('copy-requests', {}).catch((thrown) => thrown);
    expect(error).toMatchObject({ code: 'ERR_STORAGE', status: 403, retryable: false });
    expect(JSON.stringify(error) + error.stack + error.cause).not.toContain(wrongKey);
  });

  it('stop sending when the caller gives up', async () => {
    const reason = new Error('given up');
    await expect(queues.send('copy-requests', {}, { signal: AbortSignal.abort(reason) })).rejects.toBe(
      reason,
    );
    expect(await receive('copy-requests')).toEqual([]);
  });
});
