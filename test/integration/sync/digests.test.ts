/** What goes by its digest alone, without a tag at the source. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Report } from '../../../lib/sync/report.ts';
import { handOver, type Message, startApp } from '../../local/app.ts';
import { buildManifest } from '../../local/content.ts';
import { told } from './support.ts';

const named = buildManifest({ seed: 'named' });
const { digest } = named.descriptor;
const shortly = digest.slice(0, 'sha256:'.length + 6);
const rules = `\n  - { name: app, source: "docker.io/acme/app@${digest}", target: $target/app }`;

let app: Awaited<ReturnType<typeof startApp>>;

beforeEach(async () => {
  app = await startApp({ rules });
  await app.hub.push('acme/app', '1.0', named);
});
afterEach(() => app.close());

function nextMessage(): Message {
  const message = app.queues.messages.shift();
  if (message === undefined) throw new Error('There is no message');
  return message;
}

describe('a rule whose source is a digest', () => {
  it('is done when its message comes again after a crash right behind the push', async () => {
    const run = await app.schedule();
    await handOver(app.worker(), nextMessage());
    const copy = nextMessage();
    vi.spyOn(app.outstanding, 'end').mockRejectedValueOnce(new Error('died'));
    await expect(handOver(app.worker(), copy)).rejects.toThrow('died');
    expect(app.target.repository('app').manifests.has(digest)).toBe(true);
    await handOver(app.worker(), copy);
    expect(told(app.reportOf(run) as Report)).toEqual([`${shortly} unchanged`]);
  });
});
