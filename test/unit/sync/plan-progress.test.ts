import { beforeEach, describe, expect, it } from 'vitest';
import { readRules } from '../../../lib/config/rules.ts';
import type { DocumentStore } from '../../../lib/storage/ports.ts';
import { Listing } from '../../../lib/sync/plan/listing.ts';
import { PlanProgress } from '../../../lib/sync/plan/plan-progress.ts';
import { RunClaims } from '../../../lib/sync/plan/run-claims.ts';
import { buildManifest } from '../../local/content.ts';
import { MemoryRepository, memoryStores } from './memory.ts';

let store: DocumentStore;
beforeEach(() => {
  store = memoryStores().state;
});

async function damage(text: string): Promise<void> {
  const names = await Array.fromAsync(store.list('plans/'));
  expect(names.length).toBeGreaterThan(0);
  for (const { key } of names) if (!key.endsWith('/lease')) await store.put(key, Buffer.from(text));
}

describe.each(['{"half":', '{}', 'null'])('what a plan left, damaged: %s', (text) => {
  it('counts as not sent', async () => {
    const before = await PlanProgress.take(store, 'run', 'plan');
    await before?.noteSent({ asked: ['copy-a'], opened: [] });
    await before?.release();
    await damage(text);
    const after = await PlanProgress.take(store, 'run', 'plan');
    expect(await after?.sent()).toEqual({ asked: [], opened: [] });
    await after?.release();
  });

  it('is listed again', async () => {
    const [rule] = readRules('rules: [{ source: docker.io/acme/app, target: x.azurecr.io/app }]', {
      env: {},
      variables: 'all',
    }).rules;
    const [target] = rule?.targets ?? [];
    if (rule === undefined || target === undefined) throw new Error('there is a rule');
    const source = new MemoryRepository('docker.io/acme/app');
    await source.put(buildManifest({ seed: '1.0' }), '1.0');
    const list = async () => {
      const listing = new Listing(source);
      await listing.read(new AbortController().signal);
      return listing;
    };
    const claims = new RunClaims(store, 'run');
    await claims.of(rule, target, list);
    await damage(text);
    expect(await claims.of(rule, target, list)).toEqual(['1.0']);
  });
});
