/** What every `DocumentStore` promises (lib/storage/ports.ts), tried on two clients of the same stores. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type Container,
  type DocumentStore,
  type Lease,
  maxDocumentBytes,
  type Stores,
} from '../../../lib/storage/ports.ts';

export interface Backing {
  /** Opens the stores as one more process does. */
  open(): Stores;
  /** Brings about what the passing of a lease's time does. */
  expire(container: Container, key: string): Promise<void>;
  close(): Promise<void>;
}

const bytes = (text: string) => Buffer.from(text);

async function textOf(store: DocumentStore, key: string): Promise<string | undefined> {
  const document = await store.get(key);
  return document && Buffer.from(document.bytes).toString();
}

async function keysOf(store: DocumentStore, prefix: string, after?: string): Promise<string[]> {
  const keys = [];
  for await (const { key } of store.list(prefix, { after })) keys.push(key);
  return keys;
}

/** What is not there where the contract says that it is. */
function present<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('expected something');
  return value;
}

const lost = { code: 'ERR_LEASE_LOST' };

export function describeStores(name: string, start: () => Promise<Backing>): void {
  let backing: Backing;
  let store: DocumentStore;
  /** The same documents, seen by another process. */
  let other: DocumentStore;
  let count = 0;
  const freshKey = () => `test/${++count}/document`;

  beforeAll(async () => {
    backing = await start();
    store = backing.open().state;
    other = backing.open().state;
  });
  afterAll(() => backing.close());

  describe(`documents in ${name}`, () => {
    it('are absent until they are written', async () => {
      expect(await store.get(freshKey())).toBeUndefined();
    });

    it('come back byte for byte, with the etag that writing them gave', async () => {
      const key = freshKey();
      const content = Buffer.from(Array.from({ length: 70_000 }, (_, index) => (index * 7) % 256));
      const etag = await store.put(key, content);
      const document = present(await other.get(key));
      expect(Buffer.from(document.bytes).equals(content)).toBe(true);
      expect(document.etag).toBe(etag);
    });

    it('may be empty', async () => {
      const key = freshKey();
      const etag = await store.put(key, bytes(''));
      expect(await other.get(key)).toMatchObject({ etag, bytes: expect.toSatisfy((it) => it.length === 0) });
    });

    it('have another etag after every write, of the same bytes too', async () => {
      const key = freshKey();
      const etags = [];
      for (let version = 0; version < 10; version++) etags.push(await store.put(key, bytes('same')));
      await store.delete(key);
      etags.push(await store.put(key, bytes('same')));
      expect(new Set(etags).size).toBe(11);
    });

    it('are of one container', async () => {
      const key = freshKey();
      await store.put(key, bytes('state'));
      expect(await backing.open().runs.get(key)).toBeUndefined();
    });

    it('may be named by a key that others begin with', async () => {
      const key = freshKey();
      await store.put(key, bytes('outer'));
      await store.put(`${key}/inner`, bytes('inner'));
      expect([await textOf(store, key), await textOf(store, `${key}/inner`)]).toEqual(['outer', 'inner']);
      await store.delete(`${key}/inner`);
      expect(await keysOf(store, key)).toEqual([key]);
    });

    it.each([
      ['an empty name', ''],
      ['an empty first segment', '/a'],
      ['an empty last segment', 'a/'],
      ['an empty segment between', 'a//b'],
      ['the folder itself', '.'],
      ['a way up', 'a/../b'],
      ['a backslash', 'a\\b'],
      ['a control character', 'a\u0000'],
      ['half a character', '\ud800'],
      ['more than 1,024 characters', 'a'.repeat(1025)],
    ])('have no key with %s', async (_, key) => {
      await expect(store.get(key)).rejects.toMatchObject({ code: 'ERR_INTERNAL' });
      await expect(store.put(key, bytes('x'))).rejects.toMatchObject({ code: 'ERR_INTERNAL' });
      await expect(store.delete(key)).rejects.toMatchObject({ code: 'ERR_INTERNAL' });
      await expect(store.lease(key, 15)).rejects.toMatchObject({ code: 'ERR_INTERNAL' });
    });

    it('have a largest size', async () => {
      const tooMuch = new Uint8Array(maxDocumentBytes + 1);
      await expect(store.put(freshKey(), tooMuch)).rejects.toMatchObject({
        code: 'ERR_TOO_LARGE',
      });
    });

    it('are left alone once the caller has given up', async () => {
      const key = freshKey();
      const reason = new Error('given up');
      const signal = AbortSignal.abort(reason);
      await expect(store.get(key, { signal })).rejects.toBe(reason);
      await expect(store.put(key, bytes('x'), { signal })).rejects.toBe(reason);
      await expect(store.delete(key, { signal })).rejects.toBe(reason);
      await expect(store.lease(key, 15, { signal })).rejects.toBe(reason);
      await expect(Array.fromAsync(store.list(key, { signal }))).rejects.toBe(reason);
      expect(await store.get(key)).toBeUndefined();
    });
  });

  describe(`a conditional write in ${name}`, () => {
    it('with ifAbsent writes only where nothing is', async () => {
      const key = freshKey();
      expect(await store.put(key, bytes('first'), { ifAbsent: true })).toEqual(expect.any(String));
      expect(await other.put(key, bytes('second'), { ifAbsent: true })).toBeUndefined();
      expect(await textOf(store, key)).toBe('first');
    });

    it('with ifAbsent writes where something was deleted', async () => {
      const key = freshKey();
      await store.put(key, bytes('first'));
      await store.delete(key);
      expect(await other.put(key, bytes('second'), { ifAbsent: true })).toEqual(expect.any(String));
    });

    it('with ifMatch writes only over that version', async () => {
      const key = freshKey();
      const first = await store.put(key, bytes('first'));
      const second = await other.put(key, bytes('second'), { ifMatch: first });
      expect(second).toEqual(expect.any(String));
      expect(await store.put(key, bytes('third'), { ifMatch: first })).toBeUndefined();
      expect(await textOf(store, key)).toBe('second');
      expect(present(await store.get(key)).etag).toBe(second);
    });

    it('with ifMatch writes nothing where the document is gone', async () => {
      const key = freshKey();
      const etag = await store.put(key, bytes('first'));
      await store.delete(key);
      expect(await other.put(key, bytes('second'), { ifMatch: etag })).toBeUndefined();
      expect(await store.get(key)).toBeUndefined();
    });

    it('of fifty at once with ifAbsent succeeds once', async () => {
      const key = freshKey();
      const written = await Promise.all(
        Array.from({ length: 50 }, (_, index) =>
          (index % 2 ? store : other).put(key, bytes(`${index}`), { ifAbsent: true }),
        ),
      );
      const winners = [...written.keys()].filter((index) => written[index] !== undefined);
      expect(winners).toHaveLength(1);
      expect(await textOf(store, key)).toBe(`${winners[0]}`);
    });

    it('of fifty writers at once loses no update', async () => {
      const key = freshKey();
      await store.put(key, bytes('0'));
      const increment = async (client: DocumentStore): Promise<void> => {
        const { bytes: before, etag } = present(await client.get(key));
        const after = bytes(`${Number(Buffer.from(before).toString()) + 1}`);
        if ((await client.put(key, after, { ifMatch: etag })) === undefined) await increment(client);
      };
      await Promise.all(Array.from({ length: 50 }, (_, index) => increment(index % 2 ? store : other)));
      expect(await textOf(store, key)).toBe('50');
    });
  });

  describe(`a delete in ${name}`, () => {
    it('is done when the document is gone, also when it never was', async () => {
      const key = freshKey();
      await store.put(key, bytes('x'));
      expect(await other.delete(key)).toBe(true);
      expect(await store.get(key)).toBeUndefined();
      expect(await other.delete(key)).toBe(true);
    });

    it('with ifMatch deletes only that version', async () => {
      const key = freshKey();
      const first = await store.put(key, bytes('first'));
      const second = await store.put(key, bytes('second'));
      expect(await other.delete(key, { ifMatch: first })).toBe(false);
      expect(await textOf(store, key)).toBe('second');
      expect(await other.delete(key, { ifMatch: second })).toBe(true);
      expect(await store.get(key)).toBeUndefined();
    });

    it('with ifMatch is done where the document is gone already', async () => {
      const key = freshKey();
      const etag = await store.put(key, bytes('x'));
      await store.delete(key);
      expect(await store.delete(key, { ifMatch: etag })).toBe(true);
    });
  });

  describe(`a listing in ${name}`, () => {
    it('names what begins with the prefix, in code unit order', async () => {
      const keys = ['a', 'a!', 'a-b', 'a.b', 'a/b', 'a/b/c', 'a0', 'B', 'b', 'É', 'é', '木'];
      for (const key of keys.toReversed()) await store.put(`order/${key}`, bytes('x'));
      const sorted = keys.map((key) => `order/${key}`).sort();
      expect(await keysOf(other, 'order/')).toEqual(sorted);
      expect(await keysOf(other, 'order/a')).toEqual(sorted.filter((key) => key.startsWith('order/a')));
      expect(await keysOf(other, 'order/a/')).toEqual(['order/a/b', 'order/a/b/c']);
      expect(await keysOf(other, 'ord')).toEqual(sorted);
      expect(await keysOf(other, 'order/c')).toEqual([]);
    });

    it('goes on after a key, be it there or not', async () => {
      for (const key of ['a', 'b', 'b/c', 'd']) await store.put(`after/${key}`, bytes('x'));
      expect(await keysOf(other, 'after/', 'after/b')).toEqual(['after/b/c', 'after/d']);
      expect(await keysOf(other, 'after/', 'after/b/a')).toEqual(['after/b/c', 'after/d']);
      expect(await keysOf(other, 'after/', 'after/d')).toEqual([]);
      expect(await keysOf(other, 'after/', 'a')).toHaveLength(4);
      expect(await keysOf(other, 'after/', 'z')).toEqual([]);
    });

    it('gives the etag, size and time of each', async () => {
      const key = freshKey();
      const etag = await store.put(key, bytes('12345'));
      const [name, ...more] = await Array.fromAsync(other.list(key));
      expect(more).toEqual([]);
      expect(name).toMatchObject({ key, etag, size: 5 });
      // Blob Storage tells whole seconds.
      expect(Math.abs(present(name).modifiedAt - Date.now())).toBeLessThan(10_000);
      expect(await other.delete(key, { ifMatch: present(name).etag })).toBe(true);
    });

    it('of nothing is empty', async () => {
      expect(await keysOf(backing.open().config, 'nothing/')).toEqual([]);
    });

    it('holds what is below a name that ends in a dot', async () => {
      await store.put('dots/v1./x', bytes('dotted'));
      await store.put('dots/v1/x', bytes('plain'));
      expect(await keysOf(other, 'dots/v1./')).toEqual(['dots/v1./x']);
      expect([await textOf(other, 'dots/v1./x'), await textOf(other, 'dots/v1/x')]).toEqual([
        'dotted',
        'plain',
      ]);
    });

    it('keeps keys apart that differ in case, dots or escapes, and names them as they were written', async () => {
      const keys = [
        'docker.io/library/nginx:1.2@sha256:ab',
        'v1',
        'V1',
        'v1.',
        'v1..',
        'v1.!',
        'v1/x',
        'v1.0',
        'a%2fb',
        'a b?c#d&e',
        'con',
        'nul.txt',
        "~!*'()+@lease",
        'x@lease',
        '..hidden',
        'T'.repeat(128),
        `${'t'.repeat(400)}/${'é'.repeat(100)}`,
      ].map((key) => `odd/${key}`);
      for (const key of keys) await store.put(key, bytes(key));
      expect(await keysOf(other, 'odd/')).toEqual(keys.toSorted());
      for (const key of keys) expect(await textOf(other, key)).toBe(key);
      expect(await keysOf(other, 'odd/v1.')).toEqual(keys.filter((key) => key.startsWith('odd/v1.')).sort());
      expect(await keysOf(other, 'odd/', 'odd/v1.')).toEqual(keys.filter((key) => key > 'odd/v1.').sort());
    });
  });

  describe(`a lease in ${name}`, () => {
    const take = async (client: DocumentStore, key: string) => present(await client.lease(key, 15));

    it('makes the document empty where it is not there', async () => {
      const key = freshKey();
      const lease = await take(store, key);
      expect(lease.key).toBe(key);
      expect(await textOf(other, key)).toBe('');
      await lease.release();
    });

    it('leaves a document as it is, with its etag', async () => {
      const key = freshKey();
      const etag = await store.put(key, bytes('content'));
      const lease = await take(store, key);
      expect(await textOf(other, key)).toBe('content');
      await lease.renew();
      await lease.release();
      expect(present(await other.get(key)).etag).toBe(etag);
    });

    it('is held by one, and by the next when it was given back', async () => {
      const key = freshKey();
      const first = await take(store, key);
      expect(await other.lease(key, 15)).toBeUndefined();
      expect(await store.lease(key, 15)).toBeUndefined();
      await first.release();
      const second = await take(other, key);
      expect(second.id).not.toBe(first.id);
      await second.release();
    });

    it('is won by one of twenty that want it at once', async () => {
      const key = freshKey();
      const leases = await Promise.all(
        Array.from({ length: 20 }, (_, index) => (index % 2 ? store : other).lease(key, 15)),
      );
      expect(leases.filter((lease) => lease !== undefined)).toHaveLength(1);
    });

    it('ends for its holder no later than for others', async () => {
      const before = Date.now();
      const lease = await take(store, freshKey());
      expect(lease.expiresAt).toBeGreaterThanOrEqual(before + 15_000);
      expect(lease.expiresAt).toBeLessThanOrEqual(Date.now() + 15_000);
      const renewing = Date.now();
      await lease.renew();
      expect(lease.expiresAt).toBeGreaterThanOrEqual(renewing + 15_000);
      expect(lease.expiresAt).toBeLessThanOrEqual(Date.now() + 15_000);
    });

    it.each([14, 61, 15.5])('does not take %d seconds', async (seconds) => {
      await expect(store.lease(freshKey(), seconds)).rejects.toMatchObject({
        code: 'ERR_INTERNAL',
      });
    });

    describe('on a document that another process has', () => {
      let key: string;
      let lease: Lease;
      beforeAll(async () => {
        key = freshKey();
        await store.put(key, bytes('held'));
        lease = await take(store, key);
      });
      afterAll(() => lease.release());

      it('holds up no reader', async () => {
        expect(await textOf(other, key)).toBe('held');
        expect(await keysOf(other, key)).toEqual([key]);
      });

      it('stands against a write without it', async () => {
        await expect(other.put(key, bytes('x'))).rejects.toMatchObject({ code: 'ERR_STORAGE' });
        expect(
          await other.put(key, bytes('x'), { ifMatch: present(await other.get(key)).etag }),
        ).toBeUndefined();
        expect(await other.put(key, bytes('x'), { ifAbsent: true })).toBeUndefined();
      });

      it('stands against a write with another', async () => {
        const elsewhere = await take(other, freshKey());
        expect(await other.put(key, bytes('x'), { lease: elsewhere })).toBeUndefined();
        expect(await other.delete(key, { lease: elsewhere })).toBe(false);
        await elsewhere.release();
      });

      it('stands against a delete without it', async () => {
        expect(await other.delete(key)).toBe(false);
        expect(await textOf(other, key)).toBe('held');
      });

      it('lets its holder write, with conditions too', async () => {
        const first = await store.put(key, bytes('first'), { lease });
        expect(first).toEqual(expect.any(String));
        expect(await store.put(key, bytes('second'), { lease, ifMatch: first })).toEqual(expect.any(String));
        expect(await store.put(key, bytes('third'), { lease, ifMatch: first })).toBeUndefined();
        expect(await textOf(other, key)).toBe('second');
        expect(await other.lease(key, 15)).toBeUndefined();
      });
    });

    it('ends with a delete by its holder', async () => {
      const key = freshKey();
      const lease = await take(store, key);
      expect(await store.delete(key, { lease })).toBe(true);
      expect(await store.put(key, bytes('x'), { lease })).toBeUndefined();
      await expect(lease.renew()).rejects.toMatchObject(lost);
      await lease.release();
      expect(await other.put(key, bytes('again'))).toEqual(expect.any(String));
    });

    it('that was given back lets nobody write with it', async () => {
      const key = freshKey();
      const lease = await take(store, key);
      await lease.release();
      expect(await store.put(key, bytes('x'), { lease })).toBeUndefined();
      expect(await store.delete(key, { lease })).toBe(false);
      await expect(lease.renew()).rejects.toMatchObject(lost);
      expect(await other.put(key, bytes('free'))).toEqual(expect.any(String));
    });

    describe('whose time has passed', () => {
      it('stands against nobody', async () => {
        const key = freshKey();
        const lease = await take(store, key);
        await backing.expire('state', key);
        expect(await store.put(key, bytes('late'), { lease })).toBeUndefined();
        expect(await other.put(key, bytes('free'))).toEqual(expect.any(String));
        await expect(lease.renew()).rejects.toMatchObject(lost);
        expect(await other.delete(key)).toBe(true);
      });

      it('is taken by another, and the first learns of it and cannot disturb it', async () => {
        const key = freshKey();
        const first = await take(store, key);
        await backing.expire('state', key);
        const second = await take(other, key);
        await expect(first.renew()).rejects.toMatchObject(lost);
        expect(await store.put(key, bytes('x'), { lease: first })).toBeUndefined();
        await first.release();
        expect(await store.lease(key, 15)).toBeUndefined();
        expect(await other.put(key, bytes('second'), { lease: second })).toEqual(expect.any(String));
        await second.release();
      });

      it('is taken by one of twenty', async () => {
        const key = freshKey();
        await take(store, key);
        await backing.expire('state', key);
        const leases = await Promise.all(
          Array.from({ length: 20 }, (_, index) => (index % 2 ? store : other).lease(key, 15)),
        );
        expect(leases.filter((lease) => lease !== undefined)).toHaveLength(1);
      });
    });
  });
}
