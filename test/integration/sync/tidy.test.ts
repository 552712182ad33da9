import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openFolderStores } from '../../../lib/storage/folder.ts';
import type { DocumentStore } from '../../../lib/storage/ports.ts';
import { type Checkpoint, OwnedCheckpoint, tidyCheckpoints } from '../../../lib/sync/checkpoint.ts';
import { PulledManifests } from '../../../lib/sync/pulled.ts';
import { buildManifest } from '../../local/content.ts';

const never = new AbortController().signal;
const digest = `sha256:${'a'.repeat(64)}` as const;
const manifest = buildManifest();

let folder: string;
let store: DocumentStore;

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'hubferry-tidy-'));
  store = openFolderStores(folder).checkpoints;
});
afterEach(() => rm(folder, { recursive: true }));

async function owned(): Promise<OwnedCheckpoint> {
  const checkpoint = await OwnedCheckpoint.take(store, 'target/app', digest, never);
  if (checkpoint === undefined) throw new Error('somebody owns it');
  const where = {
    target: 'target/app',
    digest,
    size: 9,
    location: 'https://target/u',
    offset: 4,
    savedAt: 0,
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
    expect(await tidyCheckpoints(store, 0, async (one) => void cancelled.push(one), never)).toBe(2);
    expect(cancelled).toMatchObject([{ location: 'https://target/u', offset: 4 }]);
    expect(await keys()).toEqual([]);
  });

  it('stays while it is young', async () => {
    await (await owned()).release();
    await new PulledManifests(store).save(manifest);
    expect(await tidyCheckpoints(store, 60_000, async () => {}, never)).toBe(0);
    expect(await keys()).toHaveLength(2);
  });

  it('stays while somebody owns it', async () => {
    const checkpoint = await owned();
    expect(await tidyCheckpoints(store, 0, async () => {}, never)).toBe(0);
    expect(await keys()).toHaveLength(1);
    await checkpoint.release();
  });
});
