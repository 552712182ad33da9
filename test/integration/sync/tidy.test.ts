import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, test, vi } from 'vitest';
import { HubferryError } from '../../../lib/errors.ts';
import { openFolderStores } from '../../../lib/storage/folder.ts';
import type { DocumentStore } from '../../../lib/storage/ports.ts';
import { type Checkpoint, OwnedCheckpoint, tidyCheckpoints } from '../../../lib/sync/copy/checkpoint.ts';
import { PulledManifests } from '../../../lib/sync/copy/pulled.ts';
import { buildManifest } from '../../local/content.ts';
import { boundTo } from '../../unit/sync/memory.ts';

const never = new AbortController().signal;
const digest = `sha256:${'a'.repeat(64)}` as const;
const manifest = buildManifest();
const ends = { cancel: async () => {}, failed: () => {} };

let folder: string;
let store: DocumentStore;

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'hubferry-tidy-'));
  store = openFolderStores(folder).checkpoints;
});
afterEach(() => rm(folder, { recursive: true }));

async function owned(target = 'target/app', savedAt = 0): Promise<OwnedCheckpoint> {
  const checkpoint = await OwnedCheckpoint.take(store, target, digest, never);
  if (checkpoint === undefined) throw new Error('somebody owns it');
  const where = {
    target,
    digest,
    size: 9,
    location: 'https://target/u',
    offset: 4,
    savedAt,
  };
  await checkpoint.save(where);
  await checkpoint.saved();
  return checkpoint;
}

async function keys(): Promise<string[]> {
  const found: string[] = [];
  for await (const { key } of store.list('')) found.push(key);
  return found;
}

describe('what copies that nobody came back to have left', () => {
  it('is taken away, with the session at the registry', async () => {
    await (await owned()).release();
    await new PulledManifests(store).save(manifest);
    const cancelled: Checkpoint[] = [];
    expect(
      await tidyCheckpoints(store, 0, { ...ends, cancel: async (one) => void cancelled.push(one) }, never),
    ).toBe(2);
    expect(cancelled).toMatchObject([{ location: 'https://target/u', offset: 4 }]);
    expect(await keys()).toEqual([]);
  });

  it('is taken away where its session cannot be ended, as is all behind it', async () => {
    const targets = ['a/app', 'b/app', 'c/app'];
    for (const target of targets) await (await owned(target)).release();
    const failed: string[] = [];
    const gone = new HubferryError('ERR_CONNECTION', 'The registry is gone');
    const ends = {
      cancel: () => Promise.reject(gone),
      failed: ({ target }: Checkpoint, error: unknown) => {
        expect(error).toBe(gone);
        failed.push(target);
      },
    };
    expect(await tidyCheckpoints(store, 0, ends, never)).toBe(3);
    expect(failed.sort()).toEqual(targets);
    expect(await keys()).toEqual([]);
  });

  it('is owned by nobody afterwards, also where storage fails in between', async () => {
    await (await owned()).release();
    const broken: DocumentStore = {
      ...boundTo(store),
      get: () => Promise.reject(new HubferryError('ERR_STORAGE', 'Storage is away')),
    };
    await expect(tidyCheckpoints(broken, 0, ends, never)).rejects.toMatchObject({ code: 'ERR_STORAGE' });
    await (await owned()).release();
  });

  it('stays while it is young', async () => {
    await (await owned()).release();
    await new PulledManifests(store).save(manifest);
    expect(await tidyCheckpoints(store, 60_000, ends, never)).toBe(0);
    expect(await keys()).toHaveLength(2);
  });

  it('stays where somebody went on while it was tidied', async () => {
    await (await owned('a/app')).release();
    await (await owned('b/app')).release();
    const cancelled: string[] = [];
    const cancel = async ({ target }: Checkpoint) => {
      cancelled.push(target);
      const other = target === 'a/app' ? 'b/app' : 'a/app';
      if (cancelled.length === 1) await (await owned(other, Date.now())).release();
    };
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 120_000 });
    try {
      expect(await tidyCheckpoints(store, 60_000, { ...ends, cancel }, never)).toBe(1);
    } finally {
      vi.useRealTimers();
    }
    expect(cancelled).toHaveLength(1);
    expect(await keys()).toHaveLength(1);
  });

  it('stays while somebody owns it', async () => {
    const checkpoint = await owned();
    expect(await tidyCheckpoints(store, 0, ends, never)).toBe(0);
    expect(await keys()).toHaveLength(1);
    await checkpoint.release();
  });
});

test('who owns an upload gives it back also where what is left of it cannot be deleted', async () => {
  const away = new HubferryError('ERR_STORAGE', 'Storage is away');
  const broken: DocumentStore = { ...boundTo(store), delete: () => Promise.reject(away) };
  const checkpoint = await OwnedCheckpoint.take(broken, 'target/app', digest, never);
  await expect(checkpoint?.discard()).rejects.toBe(away);
  await (await owned()).release();
});
