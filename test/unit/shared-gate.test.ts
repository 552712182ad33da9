import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { createSharedGate } from '../../lib/shared-gate.ts';
import { openFolderStores } from '../../lib/storage/folder.ts';
import type { DocumentStore } from '../../lib/storage/ports.ts';
import { boundTo } from './sync/memory.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'hubferry-gate-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const store = () => openFolderStores(folder).state;
const everything = { traffic: 'everything', maxWaitMs: 0 } as const;
const pulls = { traffic: 'pulls', maxWaitMs: 0 } as const;

/** What one instance asked for is in storage. */
async function told(key: string): Promise<void> {
  await vi.waitFor(async () => expect(await store().get(key)).toBeDefined());
}

describe('a gate that instances share', () => {
  it('keeps the others away from a host that asked one of them to wait', async () => {
    const until = Date.now() + 3_600_000;
    createSharedGate(store()).close('busy.example', until);
    await told('hosts/busy.example/everything');
    await expect(createSharedGate(store()).wait('busy.example', everything)).rejects.toMatchObject({
      code: 'ERR_RATE_LIMITED',
      retryAt: until,
    });
  });

  it('keeps the others away from a host that refuses one of them without a time', async () => {
    const until = createSharedGate(store()).refuse('bare.example', Date.now());
    await told('hosts/bare.example/everything');
    await expect(createSharedGate(store()).wait('bare.example', everything)).rejects.toMatchObject({
      retryAt: until,
    });
  });

  it('keeps back all that goes to a host at once, before storage has answered the first of it', async () => {
    const until = Date.now() + 3_600_000;
    createSharedGate(store()).close('new.example', until);
    await told('hosts/new.example/everything');
    const other = createSharedGate(store());
    const waits = Array.from({ length: 8 }, () => other.wait('new.example', everything));
    for (const wait of await Promise.allSettled(waits))
      expect(wait).toMatchObject({ status: 'rejected', reason: { retryAt: until } });
  });

  it('lets requests pass where storage does not answer, and asks it once for many', async () => {
    let reads = 0;
    const broken: DocumentStore = {
      ...boundTo(store()),
      async get() {
        reads += 1;
        throw new Error('out of order');
      },
    };
    const gate = createSharedGate(broken);
    await Promise.all(Array.from({ length: 8 }, () => gate.wait('any.example', everything)));
    expect(reads).toBe(1);
  });

  it('keeps back who waits already where another one is told a longer wait meanwhile', async () => {
    const begun = Date.now();
    let now = begun;
    const sleep = async (ms: number) => {
      now += ms;
      createSharedGate(store()).close('longer.example', begun + 42_500);
      await told('hosts/longer.example/everything');
    };
    const gate = createSharedGate(store(), { clock: { now: () => now, sleep } });
    gate.close('longer.example', begun + 12_000);
    await gate.wait('longer.example', { ...everything, maxWaitMs: 60_000 });
    expect(now).toBeGreaterThanOrEqual(begun + 42_500);
  });

  it('is not opened earlier by a later, shorter request', async () => {
    const until = Date.now() + 3_600_000;
    const gate = createSharedGate(store());
    gate.close('long.example', until);
    await told('hosts/long.example/everything');
    createSharedGate(store()).close('long.example', Date.now() + 10_000);
    await expect(createSharedGate(store()).wait('long.example', everything)).rejects.toMatchObject({
      retryAt: until,
    });
  });

  it('is not opened earlier by one that was told a shorter wait at the same time', async () => {
    const until = Date.now() + 3_600_000;
    const ended = Promise.withResolvers<void>();
    const slow: DocumentStore = {
      ...boundTo(store()),
      async put(key, bytes, options) {
        createSharedGate(store()).close('both.example', until);
        await told(key);
        const etag = await store().put(key, bytes, options);
        ended.resolve();
        return etag;
      },
    };
    createSharedGate(slow).close('both.example', Date.now() + 10_000);
    await ended.promise;
    await expect(createSharedGate(store()).wait('both.example', everything)).rejects.toMatchObject({
      retryAt: until,
    });
  });

  it('holds up pulls alone where only those are limited', async () => {
    createSharedGate(store()).close('pulls.example', Date.now() + 3_600_000, 'pulls');
    await told('hosts/pulls.example/pulls');
    const other = createSharedGate(store());
    await expect(other.wait('pulls.example', pulls)).rejects.toMatchObject({ code: 'ERR_RATE_LIMITED' });
    await expect(other.wait('pulls.example', everything)).resolves.toBeUndefined();
  });
});
