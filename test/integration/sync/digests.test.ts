/** What goes by its digest alone, without a tag at the source. */
import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Report } from '../../../lib/sync/runs/report.ts';
import { handOver, type Message, startApp } from '../../local/app.ts';
import { buildManifest, cosignSignature, cosignTag } from '../../local/content.ts';
import { told } from './support.ts';

const named = buildManifest({ seed: 'named' });
const other = buildManifest({ seed: 'other' });
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
    await handOver(app.engine(), nextMessage());
    const copy = nextMessage();
    vi.spyOn(app.outstanding, 'end').mockRejectedValueOnce(new Error('died'));
    await expect(handOver(app.engine(), copy)).rejects.toThrow('died');
    expect(app.target.repository('app').manifests.has(digest)).toBe(true);
    await handOver(app.engine(), copy);
    expect(told(app.reportOf(run) as Report)).toEqual([`${shortly} unchanged`]);
  });
});

describe('a message with a digest and no tag', () => {
  /** What comes of a message that somebody has made: its outcome and reason. */
  async function tell(message: object): Promise<string[]> {
    app.events.length = 0;
    const request = {
      kind: 'copy',
      id: 'by-hand',
      run: `run-${randomUUID()}`,
      rule: 'app',
      source: 'docker.io/acme/app',
      target: `${app.target.host}/app`,
      tags: [{ source: '', target: '' }],
      reason: 'push',
      digest: other.descriptor.digest,
      ...message,
    };
    await handOver(app.engine(), { queue: 'copy-requests', text: JSON.stringify(request) });
    return app.events.flatMap((event) =>
      event.type === 'line' ? `${event.line.outcome} (${event.line.reason})` : [],
    );
  }

  const nobodyAsks = ['skipped (no rule asks for it any more)'];
  beforeEach(() => app.hub.push('acme/app', 'private', other));

  it('goes by no rule that takes tags, under a tag at the target neither', async () => {
    app.rewrite(
      '\n  - { name: app, source: docker.io/acme/app, target: $target/app, tags: { include: ["1.*"] } }',
    );
    expect(await tell({})).toEqual(nobodyAsks);
    expect(await tell({ force: true })).toEqual(nobodyAsks);
    app.rewrite('\n  - { name: app, source: "docker.io/acme/app:1.0", target: "$target/app:stable" }');
    expect(await tell({ tags: [{ source: '', target: 'stable' }] })).toEqual(nobodyAsks);
    expect(app.target.requests).toEqual([]);
  });

  it('goes by no rule whose source is another digest', async () => {
    expect(await tell({})).toEqual(nobodyAsks);
    expect(app.target.requests).toEqual([]);
  });

  it('brings nothing where it says that only what is said about the digest is new', async () => {
    expect(await tell({ reason: 'new referrers' })).toEqual(['skipped (gone at source)']);
    expect(await tell({ reason: 'new referrers', force: true })).toEqual(['skipped (gone at source)']);
    expect(app.target.repository('app').manifests.size).toBe(0);
  });

  it('brings what is said late about what the target has', async () => {
    app.rewrite(
      '\n  - { name: app, source: docker.io/acme/app, target: $target/app, tags: { include: ["1.*"] } }',
    );
    await app.schedule();
    await app.deliver();
    const signature = cosignTag(digest, 'sig');
    await app.hub.push('acme/app', signature, cosignSignature(digest));
    expect(await tell({ reason: 'new referrers', digest })).toEqual(['copied (new referrers)']);
    expect(app.target.repository('app').tagNames()).toEqual(['1.0', signature]);
  });

  it('goes by the rule whose source is the digest', async () => {
    expect(await tell({ digest })).toEqual(['copied (push)']);
    expect(app.target.repository('app').manifests.has(digest)).toBe(true);
  });
});
