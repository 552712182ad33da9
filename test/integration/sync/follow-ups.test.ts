/** What moved while it was copied is asked for once more, whatever happens to who asks. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Line } from '../../../lib/sync/report.ts';
import { startApp } from '../../local/app.ts';
import { buildManifest, type Content } from '../../local/content.ts';

const [A, B, C] = ['A', 'B', 'C'].map((seed) => buildManifest({ seed, layers: [1000] })) as [
  Content,
  Content,
  Content,
];

let app: Awaited<ReturnType<typeof startApp>>;
beforeEach(async () => {
  app = await startApp({ rules: '\n  - { name: app, source: docker.io/acme/app, target: $target/app }' });
});
afterEach(() => app.close());

/** What a run said when it closed, by tag. */
function told(run: string): string[] | undefined {
  const lines = app.reportOf(run)?.tags as readonly Line[] | undefined;
  return lines?.map(({ target, outcome }) => `${target.slice(target.lastIndexOf(':') + 1)} ${outcome}`);
}

/** Does something when the blob of a content is read for the first time. */
function whileCopying(content: Content, act: () => Promise<unknown>): void {
  const blob = content.blobs[1]?.descriptor.digest ?? '';
  let acted = false;
  app.hub.registry.intercept = async ({ method, url }) => {
    if (acted || method !== 'GET' || !url.includes(blob)) return undefined;
    acted = true;
    await act();
    return undefined;
  };
}

describe('tags of one digest', () => {
  it('that move to different digests while they are copied are all mirrored', async () => {
    for (const tag of ['1', '2']) await app.hub.push('acme/app', tag, A);
    whileCopying(A, async () => {
      await app.hub.push('acme/app', '1', B);
      await app.hub.push('acme/app', '2', C);
    });
    const run = await app.schedule();
    await app.deliver();
    expect([app.digestAt('1'), app.digestAt('2')]).toEqual([B.descriptor.digest, C.descriptor.digest]);
    expect(told(run)?.sort()).toEqual(['1 copied', '1 copied', '2 copied', '2 copied']);
  });
});
