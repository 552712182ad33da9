import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { openFolderStores } from '../../../lib/storage/folder.ts';
import { TagLocks } from '../../../lib/sync/copy/locks.ts';

const never = new AbortController().signal;
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'hubferry-locks-'));
  vi.useFakeTimers({ toFake: ['Date'] });
});
afterEach(() => {
  vi.useRealTimers();
  rmSync(folder, { recursive: true });
});

it('a tag is not moved by whoever has lost the lock on it meanwhile', async () => {
  const locks = () => new TagLocks(openFolderStores(folder).state);
  const moves: string[] = [];
  const slow = locks().hold('tag', never, async (hold) => {
    vi.setSystemTime(Date.now() + 31_000);
    await locks().hold('tag', never, async (other) => {
      await other.moves();
      moves.push('the other');
    });
    await hold.moves();
    moves.push('the slow one');
  });
  await expect(slow).rejects.toMatchObject({ code: 'ERR_LEASE_LOST', retryable: true });
  expect(moves).toEqual(['the other']);
});
