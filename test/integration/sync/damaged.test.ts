/** State that nothing can be made of, and sessions that cannot be ended, hold up nothing else. */
import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { checkpointKey } from '../../../lib/sync/checkpoint.ts';
import { startApp } from '../../local/app.ts';

const week = 7 * 24 * 3600_000;

let app: Awaited<ReturnType<typeof startApp>>;
beforeEach(async () => {
  app = await startApp({ rules: '\n  - { name: app, source: docker.io/acme/app, target: $target/app }' });
});
afterEach(async () => {
  vi.useRealTimers();
  await app.close();
});

const logged = () => app.events.flatMap((event) => (event.type === 'log' ? [event] : []));

describe('a stale upload whose session cannot be ended', () => {
  it('is told of, and a release ends well', async () => {
    const target = `${app.target.host}/app`;
    const digest = `sha256:${'a'.repeat(64)}` as const;
    const location = `${app.target.url}/v2/app/blobs/uploads/${randomUUID()}`;
    const checkpoint = { target, digest, size: 9, location, offset: 4, savedAt: 0 };
    await app.stores.checkpoints.put(checkpointKey(target, digest), Buffer.from(JSON.stringify(checkpoint)));
    app.target.intercept = ({ method }) =>
      method === 'DELETE' ? { kind: 'answer', status: 403 } : undefined;
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + week + 1000 });
    await app.worker().release();
    expect(logged()).toMatchObject([{ message: 'upload not cancelled', fields: { target } }]);
    expect(await app.stores.checkpoints.get(checkpointKey(target, digest))).toBeUndefined();
  });
});
