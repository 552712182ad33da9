/** The weekly check: its findings are a report like any other, and can be repaired. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { planRequestSchema } from '../../lib/sync/request.ts';
import { startApp } from '../local/app.ts';
import { buildManifest, type Content, cosignSignature, cosignTag, put } from '../local/content.ts';

let app: Awaited<ReturnType<typeof startApp>>;
beforeEach(async () => {
  app = await startApp({ rules: '\n  - { name: app, source: docker.io/acme/app, target: $target/app }' });
});
afterEach(() => app.close());

async function push(tag: string, seed = tag): Promise<Content> {
  const content = buildManifest({ seed });
  await app.hub.push('acme/app', tag, content);
  return content;
}

async function check(): Promise<string> {
  const asked = { dryRun: false, force: false, verify: true };
  return (await app.engine().dispatcher.start(`verify-${Date.now()}`, 'verify', asked)).run;
}

const findings = (run: string) =>
  app
    .reportOf(run)
    ?.tags.map(({ target, outcome }) => `${target.slice(target.lastIndexOf(':') + 1)} ${outcome}`);

const writes = () => app.target.requests.filter(({ method }) => method !== 'GET' && method !== 'HEAD');

describe('a check', () => {
  it('tells what is the same, moved, missing, incomplete and extra, and changes nothing', async () => {
    const [, whole] = [await push('1.0'), await push('2.0'), await push('3.0')];
    await app.schedule();
    await app.deliver();
    await push('3.0', 'moved');
    await push('4.0');
    const lost = whole.blobs.at(-1)?.descriptor.digest ?? 'sha256:0';
    app.target.repository('app').blobs.delete(lost);
    put(app.target.store, 'app', 'extra', buildManifest({ seed: 'extra' }));
    app.target.requests.length = 0;
    const run = await check();
    await app.deliver();
    expect(findings(run)).toEqual(['1.0 same', '2.0 incomplete', '3.0 moved', '4.0 missing', 'extra extra']);
    expect(app.reportOf(run)).toMatchObject({
      run: { trigger: 'verify' },
      totals: { tags: 5, same: 1, incomplete: 1, moved: 1, missing: 1, extra: 1, failed: 0 },
    });
    expect(app.reportOf(run)?.tags[1]).toMatchObject({ missing: [lost] });
    expect(writes()).toEqual([]);
  });

  it('finds nothing wrong with a tag that is not to be overwritten, as long as it is whole', async () => {
    await app.close();
    app = await startApp({
      rules: '\n  - { source: docker.io/acme/app, target: $target/app, overwrite: false }',
    });
    const [kept, broken] = [await push('1.0'), await push('2.0')];
    await app.schedule();
    await app.deliver();
    for (const tag of ['1.0', '2.0']) await push(tag, 'moved');
    app.target.repository('app').blobs.delete(broken.blobs.at(-1)?.descriptor.digest ?? 'sha256:0');
    const run = await check();
    await app.deliver();
    expect(findings(run)).toEqual(['1.0 same', '2.0 incomplete']);
    expect(app.reportOf(run)?.tags[0]).toMatchObject({
      targetDigest: kept.descriptor.digest,
      reason: 'not overwritten',
    });
  });

  it('is repaired by trying again what it found', async () => {
    const whole = await push('1.0');
    await app.schedule();
    await app.deliver();
    app.target.repository('app').blobs.delete(whole.blobs.at(-1)?.descriptor.digest ?? 'sha256:0');
    const run = await check();
    await app.deliver();
    expect(findings(run)).toEqual(['1.0 incomplete']);
    await app.engine().dispatcher.retry('repair', run);
    await app.deliver();
    const again = await check();
    await app.deliver();
    expect(findings(again)).toEqual(['1.0 same']);
  });

  it('of hundreds of tags is made of several requests, and tells each tag once', async () => {
    const content = buildManifest({ seed: 'same' });
    const tags = Array.from({ length: 310 }, (_, index) => `t${index}`);
    for (const tag of tags) {
      await app.hub.push('acme/app', tag, content);
      put(app.target.store, 'app', tag, content);
    }
    const { digest } = content.descriptor;
    // A signature is no tag of its own, also where it was not brought yet.
    await app.hub.push('acme/app', cosignTag(digest, 'sig'), cosignSignature(digest));
    put(app.target.store, 'app', 'extra', content);
    const run = await check();
    const requests = [];
    for (let next = app.queues.messages.shift(); next !== undefined; next = app.queues.messages.shift()) {
      requests.push(next);
      await app.engine().worker.plan(planRequestSchema.parse(JSON.parse(next.text)));
    }
    expect(requests).toHaveLength(3);
    expect(app.reportOf(run)?.totals).toMatchObject({ tags: 311, incomplete: 310, extra: 1 });
    expect(app.events).not.toContainEqual(expect.objectContaining({ message: 'no tag is selected' }));
  });

  it('that is cancelled has found nothing', async () => {
    await push('1.0');
    const run = await check();
    await app.engine().releaser.cancel(run);
    expect(app.reportOf(run)).toMatchObject({ run: { cancelled: true }, totals: { tags: 0, failed: 0 } });
  });
});
