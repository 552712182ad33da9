/** Azure Storage on a bad day, as the product's own client meets it. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openBlobStores } from '../../../lib/storage/blob.ts';
import type { DocumentStore } from '../../../lib/storage/ports.ts';
import { type Azurite, startAzurite } from '../../local/azurite.ts';
import { denials, rivalIn } from '../../local/chaos/storage-faults.ts';
import { type FaultProxy, startFaultProxy } from '../../local/faults.ts';

let azurite: Azurite;
let proxy: FaultProxy;
let state: DocumentStore;
beforeAll(async () => {
  azurite = await startAzurite();
  const { origin } = new URL(azurite.blobEndpoint);
  proxy = await startFaultProxy(origin, { overtake: rivalIn(azurite.connectionString) });
  const connectionString = azurite.connectionString.replaceAll(origin, proxy.url);
  ({ state } = openBlobStores({ connectionString }, { create: true }));
});
afterAll(() => Promise.all([proxy?.close(), azurite?.close()]));

const bytes = (text: string) => Buffer.from(text);
const statuses = () => proxy.log.map(({ status }) => status);

it('a document that a rival writes first is written over by nobody who knew it before', async () => {
  const ifMatch = await state.put('folder/a b', bytes('1'));
  proxy.next({ kind: 'overtaken' });
  expect(await state.put('folder/a b', bytes('2'), { ifMatch })).toBeUndefined();
  expect(statuses().at(-1)).toBe(412);
  const document = await state.get('folder/a b');
  expect(Buffer.from(document?.bytes ?? []).toString()).toBe('1');
  expect(await state.put('folder/a b', bytes('2'), { ifMatch: document?.etag })).toEqual(expect.any(String));
});

it('a lease that a rival takes first is free again soon', async () => {
  await state.put('lock', bytes(''));
  proxy.next({ kind: 'overtaken' });
  expect(await state.lease('lock', 15)).toBeUndefined();
  expect(statuses().at(-1)).toBe(409);
  await expect.poll(() => state.lease('lock', 15)).toBeDefined();
});

it.each(denials)('a denial is one: $status $body', async (denial) => {
  proxy.next(denial);
  await expect(state.get('lock')).rejects.toMatchObject({ code: 'ERR_STORAGE', status: 403 });
});
