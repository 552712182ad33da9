import { beforeEach, describe, expect, it } from 'vitest';
import type { Descriptor } from '../../../lib/oci/descriptor.ts';
import type { DocumentStore } from '../../../lib/storage/ports.ts';
import { MountCandidates } from '../../../lib/sync/copy/mount.ts';
import { boundTo, memoryStores } from './memory.ts';

const mediaType = 'application/vnd.oci.image.layer.v1.tar';
const large: Descriptor = { mediaType, digest: `sha256:${'a'.repeat(64)}`, size: 5 * 1024 * 1024 };
const small: Descriptor = { ...large, size: 100 };
const source = 'docker.io/acme/app';

let store: DocumentStore;
beforeEach(() => {
  store = memoryStores().state;
});

const near = (candidates: MountCandidates, target: string, blob = large) =>
  candidates.nearest(`acr.example/${target}`, blob, source);

describe('repositories that a blob can be mounted from', () => {
  it('are those that any instance has filled, the nearest first', async () => {
    const [one, two] = [new MountCandidates(store), new MountCandidates(store)];
    await one.note('acr.example/x/a', large);
    await two.note('acr.example/team/app', large);
    await one.note('acr.example/x/b', large);
    for (const candidates of [one, two, new MountCandidates(store)])
      expect(await near(candidates, 'team/tool')).toEqual(['team/app', 'x/a', 'x/b']);
    expect(await near(one, 'team/app')).toEqual(['x/a', 'x/b']);
  });

  it('stay known where two instances note at once', async () => {
    let other: Promise<void> | undefined;
    const slow: DocumentStore = {
      ...boundTo(store),
      async put(key, bytes, options) {
        other ??= new MountCandidates(store).note('acr.example/two', large);
        await other;
        return store.put(key, bytes, options);
      },
    };
    await new MountCandidates(slow).note('acr.example/one', large);
    expect(await near(new MountCandidates(store), 'three')).toEqual(['two', 'one']);
  });

  it('are forgotten once they refused', async () => {
    const candidates = new MountCandidates(store);
    for (const blob of [small, large]) {
      for (const path of ['a', 'b']) await candidates.note(`acr.example/${path}`, blob);
      await candidates.note('acr.example/c', blob, ['a']);
    }
    expect(await near(candidates, 'd')).toEqual(['b', 'c']);
    expect(await near(candidates, 'd', small)).toEqual(['b']);
  });

  it('begin with the source, where that is at the same registry', async () => {
    const candidates = new MountCandidates(store);
    await candidates.note('acr.example/team/app', large);
    expect(await candidates.nearest('acr.example/team/b', large, 'acr.example/from')).toEqual([
      'from',
      'team/app',
    ]);
  });
});
