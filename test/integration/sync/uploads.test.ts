import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openFolderStores } from '../../../lib/storage/folder.ts';
import type { DocumentStore } from '../../../lib/storage/ports.ts';
import { OwnedCheckpoint, uploadsUnderWay } from '../../../lib/sync/copy/checkpoint.ts';
import { PulledManifests } from '../../../lib/sync/copy/pulled.ts';
import { buildManifest } from '../../local/content.ts';

const never = new AbortController().signal;
const digest = `sha256:${'a'.repeat(64)}` as const;

let folder: string;
let store: DocumentStore;

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'hubferry-uploads-'));
  store = openFolderStores(folder).checkpoints;
});
afterEach(() => rm(folder, { recursive: true }));

async function take(target: string): Promise<OwnedCheckpoint> {
  const owned = await OwnedCheckpoint.take(store, target, digest, never);
  if (owned === undefined) throw new Error('somebody owns it');
  return owned;
}

async function upload(target: string): Promise<OwnedCheckpoint> {
  const owned = await take(target);
  await owned.save({ target, digest, size: 9, location: 'https://target/u', offset: 4, savedAt: 7 });
  await owned.saved();
  return owned;
}

describe('uploads under way', () => {
  it('are told with how far they are, and without their Location', async () => {
    const owned = await upload('target/app');
    await take('target/that-has-not-saved-yet');
    await new PulledManifests(store).save(buildManifest());
    expect(await uploadsUnderWay(store, Date.now())).toEqual([
      { target: 'target/app', digest, size: 9, offset: 4, savedAt: 7 },
    ]);
    await owned.discard();
    expect(await uploadsUnderWay(store, Date.now())).toEqual([]);
  });

  it('are not those that nobody has worked on for a while', async () => {
    await (await upload('target/app')).release();
    expect(await uploadsUnderWay(store, Date.now() + 6 * 60_000)).toEqual([]);
  });

  it('are told up to a bound', async () => {
    await Promise.all(Array.from({ length: 52 }, (_, index) => upload(`target/app-${index}`)));
    expect(await uploadsUnderWay(store, Date.now())).toHaveLength(50);
  });
});
