import {
  AccountSASPermissions,
  BlobServiceClient,
  generateAccountSASQueryParameters,
  StorageSharedKeyCredential,
} from '@azure/storage-blob';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openBlobStores } from '../../../lib/storage/blob.ts';
import type { Stores } from '../../../lib/storage/ports.ts';
import { type Azurite, startAzurite } from '../../local/azurite.ts';
import { busy } from '../../local/fault-kinds.ts';
import { type FaultProxy, type RequestFilter, startFaultProxy } from '../../local/faults.ts';
import { type LocalServer, type Respond, reply, startServer } from '../../local/server.ts';
import { type Backing, describeStores } from './contract.ts';

async function azuriteBacking(): Promise<Backing> {
  const azurite = await startAzurite();
  const service = BlobServiceClient.fromConnectionString(azurite.connectionString);
  return {
    open: () => openBlobStores(azurite, { create: true }),
    // The shortest lease is fifteen seconds; broken at once, it is as free as one that has run out.
    expire: async (container, key) => {
      await service.getContainerClient(container).getBlobClient(key).getBlobLeaseClient().breakLease(0);
    },
    close: () => azurite.close(),
  };
}

describeStores('Blob Storage', azuriteBacking);

/** A shared access signature leaves the query open, so that a page can be made smaller than five thousand. */
function signedConnection({ account, accountKey }: Azurite, origin: string): string {
  const signature = generateAccountSASQueryParameters(
    {
      expiresOn: new Date(Date.now() + 3_600_000),
      permissions: AccountSASPermissions.parse('rl'),
      resourceTypes: 'co',
      services: 'b',
    },
    new StorageSharedKeyCredential(account, accountKey),
  );
  return `BlobEndpoint=${origin}/${account};SharedAccessSignature=${signature}`;
}

async function startDisposable(respond: Respond): Promise<LocalServer & AsyncDisposable> {
  const server = await startServer(respond);
  return Object.assign(server, { [Symbol.asyncDispose]: () => server.close() });
}

function smallPages(origin: string): Promise<LocalServer & AsyncDisposable> {
  return startDisposable(async ({ url }) => {
    const query = url.search.replace('maxresults=5000', 'maxresults=10');
    const answer = await fetch(origin + url.pathname + query);
    return reply(answer.status, { 'content-type': 'application/xml' }, await answer.text());
  });
}

const bytes = (text: string) => Buffer.from(text);

describe('Blob Storage that is not as it should be', () => {
  let azurite: Azurite;
  let proxy: FaultProxy;
  let stores: Stores;
  let count = 0;
  const freshKey = () => `faults/${++count}`;

  beforeAll(async () => {
    azurite = await startAzurite();
    proxy = await startFaultProxy(new URL(azurite.blobEndpoint).origin);
    const connectionString = azurite.connectionString.replace(
      new URL(azurite.blobEndpoint).origin,
      proxy.url,
    );
    stores = openBlobStores({ connectionString }, { create: true });
    await stores.state.put('made', bytes(''));
  });
  afterAll(async () => {
    await proxy.close();
    await azurite.close();
  });

  const writes: RequestFilter = ({ method }) => method === 'PUT';
  const reads: RequestFilter = ({ method }) => method === 'GET';

  it('a missing container is a failure where it may not be made', async () => {
    const { runs } = openBlobStores(azurite);
    const missing = { code: 'ERR_STORAGE', reason: 'ContainerNotFound', status: 404, retryable: false };
    await expect(runs.get('a')).rejects.toMatchObject(missing);
    await expect(runs.put('a', bytes('x'))).rejects.toMatchObject(missing);
    await expect(runs.delete('a')).rejects.toMatchObject(missing);
    await expect(runs.lease('a', 15)).rejects.toMatchObject(missing);
    await expect(Array.fromAsync(runs.list(''))).rejects.toMatchObject(missing);
  });

  it('a missing container is made by the first write or lease where it may be', async () => {
    const { checkpoints, runs } = openBlobStores(azurite, { create: true });
    expect(await checkpoints.get('a')).toBeUndefined();
    expect(await checkpoints.delete('a')).toBe(true);
    expect(await Array.fromAsync(checkpoints.list(''))).toEqual([]);
    expect(await Promise.all(['a', 'b', 'c'].map((key) => checkpoints.put(key, bytes(key))))).not.toContain(
      undefined,
    );
    expect(await runs.lease('a', 15)).toBeDefined();
  });

  it('a refused login is no absence, is not tried again, and shows no key', async () => {
    const before = proxy.log.length;
    const wrongKey = Buffer.from('canary').toString('base64');
    const connectionString = azurite.connectionString
      .replace(azurite.accountKey, wrongKey)
      .replace(new URL(azurite.blobEndpoint).origin, proxy.url);
    const { state } = openBlobStores({ connectionString });
    const error = await state.get('made').catch((thrown) => thrown);
    expect(error).toMatchObject({ code: 'ERR_STORAGE', status: 403, retryable: false });
    expect(error.message).toMatch(/^get state\/made: the service answered 403 AuthorizationFailure/);
    expect(proxy.log).toHaveLength(before + 1);
    expect(JSON.stringify(error) + error.stack + error.cause).not.toContain(wrongKey);
  });

  it.each(['AccountName=a;AccountKey', 'secret', ''])(
    'a malformed connection string %j is not quoted',
    (text) => {
      const open = () => openBlobStores({ connectionString: text });
      expect(open).toThrow(
        expect.objectContaining({ code: 'ERR_SETTING', message: expect.not.stringContaining('secret') }),
      );
    },
  );

  it.each(['http://account.invalid', 'account'])('no token goes to %s', (blobServiceUri) => {
    const credential = { getToken: () => Promise.reject(new Error('asked for a token')) };
    expect(() => openBlobStores({ blobServiceUri, credential })).toThrow(
      expect.objectContaining({ code: 'ERR_SETTING' }),
    );
  });

  it('an identity without a token is told as such', async () => {
    const credential = {
      getToken: () =>
        Promise.reject(Object.assign(new Error('canary'), { name: 'CredentialUnavailableError' })),
    };
    const { state } = openBlobStores({ blobServiceUri: 'https://account.invalid', credential });
    const error = await state.get('a').catch((thrown) => thrown);
    expect(error).toMatchObject({ code: 'ERR_IDENTITY', message: expect.not.stringContaining('canary') });
  });

  it('an account that is away is a failure that may pass', async () => {
    const gone = await startFaultProxy('http://127.0.0.1:9');
    const connectionString = azurite.connectionString.replace(new URL(azurite.blobEndpoint).origin, gone.url);
    await gone.close();
    const { state } = openBlobStores({ connectionString });
    await expect(state.get('a')).rejects.toMatchObject({
      code: 'ERR_STORAGE',
      reason: 'ECONNREFUSED',
      retryable: true,
    });
  });

  it.each([
    ['is busy', busy('seconds', 1, 503)],
    ['fails', { kind: 'status', status: 500 }],
    ['throttles', busy('date', 1)],
    ['resets the connection', { kind: 'reset', side: 'response', after: 3 }],
    ['sends half an answer', { kind: 'truncate', after: 3 }],
    ['sends a damaged answer', { kind: 'corrupt', side: 'response', at: 3 }],
  ] as const)('is read again when it %s', async (_, fault) => {
    const key = freshKey();
    const etag = await stores.state.put(key, bytes('content'));
    proxy.next(fault, reads);
    const document = await stores.state.get(key);
    expect(document).toEqual({ bytes: bytes('content'), etag });
    expect(proxy.waiting).toBe(0);
  });

  it('a write that was damaged on the way is refused and sent again', async () => {
    const key = freshKey();
    proxy.next({ kind: 'corrupt', side: 'request', at: 3 }, writes);
    const etag = await stores.state.put(key, bytes('content'));
    expect(await stores.state.get(key)).toEqual({ bytes: bytes('content'), etag });
    expect(proxy.waiting).toBe(0);
  });

  it.each([
    [409, 'LeaseAlreadyPresent'],
    [412, 'LeaseIdMissing'],
    [412, 'ConditionNotMet'],
    [409, 'BlobAlreadyExists'],
  ])('a write without a condition that is answered %i %s has failed', async (status, reason) => {
    const answer = () => reply(status, { 'x-ms-error-code': reason });
    await using refusing = await startDisposable(answer);
    const { state } = openBlobStores({
      connectionString: azurite.connectionString.replace(new URL(azurite.blobEndpoint).origin, refusing.url),
    });
    await expect(state.put('a', bytes('x'))).rejects.toMatchObject({ code: 'ERR_STORAGE', status, reason });
    expect(await state.put('a', bytes('x'), { ifAbsent: true })).toBeUndefined();
  });

  it('a conditional write whose answer is lost is known again as our own', async () => {
    const key = freshKey();
    proxy.next({ kind: 'lose' }, writes);
    const first = await stores.state.put(key, bytes('mine'), { ifAbsent: true });
    expect(await stores.state.get(key)).toEqual({ bytes: bytes('mine'), etag: first });
    proxy.next({ kind: 'lose' }, writes);
    const second = await stores.state.put(key, bytes('mine'), { ifMatch: first });
    expect(second).not.toBe(first);
    expect(await stores.state.get(key)).toEqual({ bytes: bytes('mine'), etag: second });
  });

  it('a conditional write that failed before it arrived is not taken for another’s', async () => {
    const key = freshKey();
    await stores.state.put(key, bytes('other'));
    proxy.next({ kind: 'reset', side: 'request', after: 1 }, writes);
    expect(await stores.state.put(key, bytes('mine'), { ifAbsent: true })).toBeUndefined();
  });

  it('a delete and a lease whose answers are lost are done', async () => {
    const key = freshKey();
    const etag = await stores.state.put(key, bytes('x'));
    proxy.next({ kind: 'lose' }, ({ method }) => method === 'DELETE');
    expect(await stores.state.delete(key, { ifMatch: etag })).toBe(true);
    await stores.state.put(key, bytes('x'));
    proxy.next({ kind: 'lose' }, writes);
    const lease = await stores.state.lease(key, 15);
    expect(lease).toBeDefined();
    proxy.next({ kind: 'lose' }, writes);
    await lease?.renew();
    proxy.next({ kind: 'lose' }, writes);
    await lease?.release();
    expect(await stores.state.lease(key, 15)).toBeDefined();
    expect(proxy.waiting).toBe(0);
  });

  it('a lease that is granted to somebody who has stopped waiting for it is given back', async () => {
    const key = freshKey();
    await stores.state.put(key, bytes('x'));
    const giveUp = new AbortController();
    proxy.next({ kind: 'delay', ms: 60_000 }, writes);
    const asked = stores.state.lease(key, 60, { signal: giveUp.signal });
    const service = BlobServiceClient.fromConnectionString(azurite.connectionString);
    const blob = service.getContainerClient('state').getBlobClient(key);
    const isHeld = async () => (await blob.getProperties()).leaseState === 'leased';
    await expect.poll(isHeld).toBe(true);
    giveUp.abort(new Error('given up'));
    await expect(asked).rejects.toThrow('given up');
    await expect.poll(isHeld).toBe(false);
  });

  it('a lease on a document that is being deleted is taken all the same', async () => {
    const key = freshKey();
    const [, ...leases] = await Promise.all([
      ...Array.from({ length: 5 }, () => stores.state.delete(key)),
      ...Array.from({ length: 5 }, () => stores.state.lease(key, 15)),
    ]);
    expect(leases.filter((lease) => typeof lease === 'object')).toHaveLength(1);
  });

  it('a listing goes on over pages, each asked for again where it breaks', async () => {
    const keys = Array.from({ length: 25 }, (_, index) => `pages/${String(index).padStart(2, '0')}`);
    await Promise.all(keys.map((key) => stores.state.put(key, bytes(''))));
    await using paging = await smallPages(proxy.url);
    const { state } = openBlobStores({ connectionString: signedConnection(azurite, paging.url) });
    const before = proxy.log.length;
    proxy.next({ kind: 'status', status: 503 }, reads);
    proxy.next({ kind: 'status', status: 500 }, ({ url }) => url.includes('marker='));
    const names = await Array.fromAsync(state.list('pages/'));
    expect(names.map(({ key }) => key)).toEqual(keys);
    expect(proxy.log.length - before).toBe(3 + 2);
  });

  it('is given up at once when the caller gives up', async () => {
    const reason = new Error('given up');
    const giveUp = new AbortController();
    proxy.next({ kind: 'silence' });
    const before = proxy.log.length;
    const reading = stores.state.get('made', { signal: giveUp.signal });
    await expect.poll(() => proxy.log.length).toBe(before + 1);
    giveUp.abort(reason);
    await expect(reading).rejects.toBe(reason);
  });

  it('a renewal that hangs is sent again well before a lease can end', async () => {
    const lease = await stores.state.lease(freshKey(), 15);
    proxy.next({ kind: 'silence' }, writes);
    const start = Date.now();
    await lease?.renew();
    expect(Date.now() - start).toBeLessThan(10_000);
    expect(lease?.expiresAt).toBeGreaterThan(start + 15_000);
  });
});
