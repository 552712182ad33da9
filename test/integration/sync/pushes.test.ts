/** What a push does that no plan has looked at: every filter is decided again by who carries it out. */
import { randomUUID } from 'node:crypto';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { StorageError } from '../../../lib/storage/failure.ts';
import type { Sent } from '../../../lib/sync/runs/parts.ts';
import type { Line } from '../../../lib/sync/runs/report.ts';
import { type App, handOver, type Message, startApp } from '../../local/app.ts';
import { buildManifest, type Content } from '../../local/content.ts';

const [A, B] = [buildManifest({ seed: 'A' }), buildManifest({ seed: 'B' })];
const hour = 3600_000;

let app: Awaited<ReturnType<typeof startApp>> | undefined;

afterEach(() => app?.close());

async function open(rules: string): Promise<App> {
  app = await startApp({ rules });
  return app;
}

/** Docker Hub has the push, and its web hook comes. */
async function push(to: App, repository: string, tag: string, content: Content): Promise<string> {
  await to.hub.push(repository, tag, content);
  const { run } = await to.engine().dispatcher.push(`run-${randomUUID()}`, {
    repository: `docker.io/${repository}`,
    tag,
    pushedAt: Date.now(),
  });
  await to.deliver();
  return run;
}

async function linesOf(from: App, run: string): Promise<string[]> {
  const report = await from.book.report(run);
  return (report?.tags ?? []).map(
    ({ outcome, reason, error }: Line) => `${outcome} ${error?.code ?? reason}`,
  );
}

describe('a push', () => {
  it('of a tag that another source has too moves nothing', async () => {
    const there = await open(`- { source: docker.io/acme/one, target: $target/app, name: one }
- { source: docker.io/acme/two, target: $target/app, name: two }`);
    const first = await push(there, 'acme/one', 'latest', A);
    expect(await linesOf(there, first)).toEqual(['copied push']);
    const second = await push(there, 'acme/two', 'latest', B);
    expect(await linesOf(there, second)).toEqual(['failed ERR_TARGET_CONFLICT']);
    expect(there.digestAt('latest')).toBe(A.descriptor.digest);
  });

  it('of a tag that only the other filters of another rule leave to it is mirrored', async () => {
    const there =
      await open(`- { source: docker.io/acme/one, target: $target/app, name: one, tags: { exclude: [latest] } }
- { source: docker.io/acme/two, target: $target/app, name: two }`);
    await there.hub.push('acme/one', 'latest', A);
    const run = await push(there, 'acme/two', 'latest', B);
    expect(await linesOf(there, run)).toEqual(['copied push']);
    expect(there.digestAt('latest')).toBe(B.descriptor.digest);
  });

  it('that may be of a rival whose source does not answer moves nothing that is there', async () => {
    const there = await open(`- { source: docker.io/acme/one, target: $target/app, name: one }
- { source: docker.io/acme/two, target: $target/app, name: two }`);
    await push(there, 'acme/one', 'latest', A);
    there.hub.registry.intercept = ({ url }) =>
      url.includes('/acme/one/') ? { kind: 'answer', status: 500 } : undefined;
    const run = await push(there, 'acme/two', 'latest', B);
    expect(await linesOf(there, run)).toEqual(['failed ERR_TARGET_CONFLICT']);
    expect(there.digestAt('latest')).toBe(A.descriptor.digest);
  });

  it('that may be of a namespace whose listing does not answer moves nothing that it has filled', async () => {
    const there = await open(`- { source: docker.io/team/*, target: $target/*, name: all }
- { source: docker.io/acme/app, target: $target/app, name: one }`);
    await push(there, 'team/app', 'latest', A);
    for (const side of [there.hub.registry, there.hub.api])
      side.intercept = ({ url }) => (url.includes('/team/') ? { kind: 'answer', status: 500 } : undefined);
    const run = await push(there, 'acme/app', 'latest', B);
    expect(await linesOf(there, run)).toEqual(['failed ERR_TARGET_CONFLICT']);
    const other = await push(there, 'acme/app', 'other', B);
    expect(await linesOf(there, other)).toEqual(['copied push']);
    expect(there.digestAt('latest')).toBe(A.descriptor.digest);
  });

  it('goes where a namespace would put a repository to which it has no access, but has put nothing', async () => {
    const there = await open(`- { source: docker.io/team/*, target: $target/*, name: all }
- { source: docker.io/acme/app, target: $target/app, name: one }`);
    await push(there, 'acme/app', 'latest', A);
    there.hub.api.intercept = ({ url }) =>
      url.includes('/team/') ? { kind: 'answer', status: 500 } : undefined;
    expect(await linesOf(there, await push(there, 'acme/app', 'latest', B))).toEqual(['copied push']);
  });

  it('that is too young waits until it is old enough, by the time of its own digest', async () => {
    const there = await open(
      '- { source: docker.io/acme/app, target: $target/app, name: app, tags: { minimumAge: 2h } }',
    );
    await there.hub.push('acme/app', 'latest', A, { pushedAt: Date.now() - 9 * hour });
    const asked = Date.now();
    const run = await push(there, 'acme/app', 'latest', B);
    expect(await linesOf(there, run)).toEqual(['deferred too young']);
    for await (const { until } of there.parked.all()) {
      expect(until).toBeGreaterThan(asked + hour);
      expect(until).toBeLessThan(Date.now() + 3 * hour);
    }
    expect(there.digestAt('latest')).toBeUndefined();
  });

  it('that the web API does not show yet counts from now on', async () => {
    const there = await open(
      '- { source: docker.io/acme/app, target: $target/app, name: app, tags: { minimumAge: 2h } }',
    );
    await there.hub.push('acme/app', 'latest', A, { pushedAt: Date.now() - 9 * hour });
    const before = await fetch(`${there.hub.apiUrl}/v2/namespaces/acme/repositories/app/tags/latest`);
    const stale = await before.text();
    there.hub.api.intercept = ({ url }) =>
      url.endsWith('/tags/latest')
        ? { kind: 'answer', status: 200, headers: { 'content-type': 'application/json' }, body: stale }
        : undefined;
    const run = await push(there, 'acme/app', 'latest', B);
    expect(await linesOf(there, run)).toEqual(['deferred too young']);
  });
});

describe('a push that the source does not show yet', () => {
  afterEach(() => vi.useRealTimers());

  it('is looked at again after one and five minutes, also where it had to be tried again before', async () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    const there = await open('- { source: docker.io/acme/app, target: $target/app, name: app }');
    await push(there, 'acme/app', 'latest', A);
    let failures = 2;
    there.target.intercept = ({ method }) => {
      if (method !== 'HEAD' || failures === 0) return undefined;
      failures -= 1;
      return { kind: 'answer', status: 503 };
    };
    const pushed = { repository: 'docker.io/acme/app', tag: 'latest', pushedAt: Date.now() };
    await there.engine().dispatcher.push(`run-${randomUUID()}`, pushed);
    await there.deliver();
    const looks: number[] = [];
    for (let times = 0; times < 3; times += 1) {
      const [waiting] = await Array.fromAsync(there.parked.all());
      if (waiting === undefined) break;
      looks.push(Math.round((waiting.until - Date.now()) / 60_000));
      vi.setSystemTime(waiting.until);
      await there.engine().releaser.release();
      await there.deliver();
    }
    expect(failures).toBe(0);
    expect(looks).toEqual([1, 4]);
  });
});

describe('a push for a rule that needs the whole list', () => {
  const rules = '- { source: docker.io/acme/app, target: $target/app, name: app, tags: { newest: 2 } }';
  const minutes = 60_000;

  afterEach(() => vi.useRealTimers());

  /** The listing is as it was before the push for so long. */
  async function pushUnseen(there: App, shows: () => boolean): Promise<string> {
    await there.hub.push('acme/app', '1.0', A);
    const page = await fetch(`${there.hub.apiUrl}/v2/namespaces/acme/repositories/app/tags?page_size=100`);
    const stale = await page.text();
    there.hub.api.intercept = ({ url }) =>
      url.includes('/tags?') && !shows()
        ? { kind: 'answer', status: 200, headers: { 'content-type': 'application/json' }, body: stale }
        : undefined;
    return push(there, 'acme/app', '2.0', B);
  }

  async function wait(there: App, ms: number): Promise<void> {
    vi.setSystemTime(Date.now() + ms);
    await there.engine().releaser.release();
    await there.deliver();
  }

  it('goes by the backlog, and what else the list shows does not', async () => {
    const there = await open(rules);
    await there.hub.push('acme/app', '1.0', A);
    await there.hub.push('acme/app', '2.0', B);
    const pushed = { repository: 'docker.io/acme/app', tag: '2.0', pushedAt: 1 };
    await there.engine().dispatcher.push(`run-${randomUUID()}`, pushed);
    const [plan] = there.queues.messages.splice(0);
    if (plan === undefined) throw new Error('There is no message');
    await handOver(there.engine(), plan);
    const sent = there.queues.messages.map(({ queue, text }) => [queue, JSON.parse(text).tags[0].source]);
    expect(Object.fromEntries(sent)).toEqual({ 'push-requests': '2.0', 'copy-requests': '1.0' });
  });

  it('goes by a backlog in which its tag is, too', async () => {
    const there = await open(rules);
    await there.hub.push('acme/app', '2.0', B);
    await there.schedule();
    const sent = async () => {
      for (const plan of there.queues.messages.filter(({ queue }) => queue === 'plan-requests')) {
        there.queues.messages.splice(there.queues.messages.indexOf(plan), 1);
        await handOver(there.engine(), plan);
      }
      return there.queues.messages.map(({ queue }) => queue);
    };
    expect(await sent()).toEqual(['copy-requests']);
    const pushed = { repository: 'docker.io/acme/app', tag: '2.0', pushedAt: Date.now() };
    const { run } = await there.engine().dispatcher.push(`run-${randomUUID()}`, pushed);
    expect(await sent()).toEqual(['copy-requests', 'push-requests']);
    there.queues.messages.reverse();
    await there.deliver();
    expect(await linesOf(there, run)).toEqual(['copied new tag']);
    expect(there.reports).toMatchObject([{ totals: { tags: 1, copied: 1, failed: 0 } }]);
    expect(there.hub.pulls).toBe(1);
  });

  it('asks for what the pushes of its minute have asked for no second time', async () => {
    const there = await open(rules.replace('newest: 2', 'newest: 9'));
    const tags = ['1', '2', '3', '4', '5'];
    for (const tag of tags) await there.hub.push('acme/app', tag, buildManifest({ seed: tag }));
    const pushed = { repository: 'docker.io/acme/app', pushedAt: Date.now() };
    for (const tag of tags.slice(0, 3))
      await there.engine().dispatcher.push('one-minute', { ...pushed, tag });
    for (const plan of there.queues.messages.splice(0)) await handOver(there.engine(), plan);
    const sent = there.queues.messages.map(
      ({ queue, text }) => `${queue} ${JSON.parse(text).tags[0].source}`,
    );
    expect(sent.sort()).toEqual([
      ...tags.map((tag) => `copy-requests ${tag}`).filter((one) => !one.endsWith('1')),
      ...['1', '2', '3'].map((tag) => `push-requests ${tag}`),
    ]);
  });

  it('of which all are of one digest is asked for once, and carried out once', async () => {
    const there = await open(rules.replace('newest: 2', 'newest: 9'));
    const tags = ['1', '1.2', '1.2.3', 'latest'];
    for (const tag of tags) await there.hub.push('acme/app', tag, A);
    const pushed = { repository: 'docker.io/acme/app', pushedAt: Date.now() };
    for (const tag of tags) await there.engine().dispatcher.push('one-minute', { ...pushed, tag });
    for (const plan of there.queues.messages.splice(0)) await handOver(there.engine(), plan);
    expect(there.queues.messages.map(({ queue }) => queue)).toEqual(['push-requests']);
    await there.deliver();
    expect(await linesOf(there, 'one-minute')).toEqual(Array(4).fill('copied new tag'));
    expect(await Array.fromAsync(there.stores.state.list('outstanding/'))).toEqual([]);
  });

  it('ends for the backlog in which its tag is only where it ends well', async () => {
    const there = await open(rules);
    await there.hub.push('acme/app', '2.0', B);
    const scheduled = await there.schedule();
    for (const plan of there.queues.messages.splice(0)) await handOver(there.engine(), plan);
    await there.engine().dispatcher.push('one-minute', {
      repository: 'docker.io/acme/app',
      tag: '2.0',
      pushedAt: Date.now(),
    });
    const [copy, plan] = there.queues.messages.splice(0) as [Message, Message];
    await handOver(there.engine(), plan);
    there.target.intercept = ({ method }) => (method === 'PUT' ? { kind: 'answer', status: 400 } : undefined);
    await there.deliver();
    expect(await linesOf(there, 'one-minute')).toEqual(['failed ERR_REJECTED']);
    expect(there.reportOf(scheduled)).toBeUndefined();
    there.target.intercept = undefined;
    await handOver(there.engine(), copy);
    expect(there.reportOf(scheduled)?.totals).toMatchObject({ copied: 1, failed: 0 });
  });

  it('goes by a backlog also where its plan came twice, and after one that failed', async () => {
    const there = await open(rules);
    await there.hub.push('acme/app', '2.0', B);
    await there.schedule();
    for (const plan of there.queues.messages.splice(0)) await handOver(there.engine(), plan);
    const pushed = { repository: 'docker.io/acme/app', tag: '2.0', pushedAt: Date.now() };
    const [copy] = there.queues.messages.splice(0) as [Message];
    await there.engine().dispatcher.push('one-minute', pushed);
    const [plan] = there.queues.messages.splice(0) as [Message];
    const send = vi
      .spyOn(there.queues, 'send')
      .mockRejectedValueOnce(
        new StorageError('send: no answer in time.', { reason: 'TIMEOUT', retryable: true }),
      );
    await expect(handOver(there.engine(), plan)).rejects.toThrow('no answer');
    send.mockRestore();
    await handOver(there.engine(), plan);
    expect(there.queues.messages.map(({ queue }) => queue)).toEqual(['push-requests']);
    there.target.intercept = ({ method }) => (method === 'PUT' ? { kind: 'answer', status: 400 } : undefined);
    await there.deliver();
    there.target.intercept = undefined;
    await there.engine().dispatcher.push('another-minute', { ...pushed, pushedAt: pushed.pushedAt + 1 });
    await there.deliver();
    expect(there.digestAt('2.0')).toBe(B.descriptor.digest);
    await handOver(there.engine(), copy);
    expect(await Array.fromAsync(there.stores.state.list('outstanding/'))).toEqual([]);
  });

  it('that the list does not show yet is looked at again within minutes', async () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    const there = await open(rules);
    let shows = false;
    const run = await pushUnseen(there, () => shows);
    expect(there.digestAt('2.0')).toBeUndefined();
    expect(there.reportOf(run)).toBeUndefined();
    await wait(there, minutes);
    expect(there.digestAt('2.0')).toBeUndefined();
    shows = true;
    await wait(there, 4 * minutes);
    expect(there.digestAt('2.0')).toBe(B.descriptor.digest);
    expect(there.reportOf(run)?.totals).toMatchObject({ tags: 2, copied: 2 });
  });

  it('that the list never shows is given up after that', async () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    const there = await open(rules);
    const run = await pushUnseen(there, () => false);
    for (const ms of [minutes, 4 * minutes]) await wait(there, ms);
    expect(there.reportOf(run)?.totals).toMatchObject({ tags: 1, copied: 1 });
    expect(await Array.fromAsync(there.parked.all())).toEqual([]);
  });
});

describe('webhooks of one minute', () => {
  afterEach(() => vi.useRealTimers());

  it('share a run, also where each has ended before the next one comes; the run closes after that minute', async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: Date.UTC(2026, 0, 1, 12, 0, 10) });
    const there = await open('- { source: docker.io/acme/app, target: $target/app, name: app }');
    for (const tag of ['1', '2', '3']) {
      await there.hub.push('acme/app', tag, A);
      const pushed = { repository: 'docker.io/acme/app', tag, pushedAt: Date.now() };
      expect((await there.engine().dispatcher.push('one-minute', pushed)).run).toBe('one-minute');
      await there.deliver();
      await there.engine().releaser.release();
    }
    expect(there.reports).toEqual([]);
    vi.setSystemTime(Date.UTC(2026, 0, 1, 12, 1));
    await there.engine().releaser.release();
    expect(there.reports).toMatchObject([{ run: { id: 'one-minute' }, totals: { tags: 3, copied: 3 } }]);
  });
});

describe('a flood of pushes', () => {
  const tags = Array.from({ length: 20 }, (_, index) => `v${index}`);
  const pushed = (tag: string) => ({ repository: 'docker.io/acme/app', tag, pushedAt: 1 });

  async function flood(): Promise<{ there: App; run: string }> {
    const there = await open('- { source: docker.io/acme/app, target: $target/app, name: app }');
    for (const tag of tags) await there.hub.push('acme/app', tag, A);
    const run = `run-${randomUUID()}`;
    const begun = await there.engine().dispatcher.pushAll(run, tags.map(pushed));
    expect(begun).toEqual(tags.map(() => ({ run, requests: 1 })));
    return { there, run };
  }

  it('is one message when it is taken, and a request each when that is delivered', async () => {
    const { there, run } = await flood();
    expect(there.queues.messages).toHaveLength(1);
    await there.deliver();
    expect((await there.book.report(run))?.tags).toHaveLength(tags.length);
    expect(tags.map((tag) => there.digestAt(tag))).toEqual(tags.map(() => A.descriptor.digest));
  });

  it('has nothing to do with a daily run, which sends a plan request for each rule', async () => {
    const names = ['one', 'two', 'three', 'four', 'five'];
    const there = await open(
      names
        .map((name) => `- { source: docker.io/acme/${name}, target: $target/${name}, name: ${name} }`)
        .join('\n'),
    );
    await there.schedule();
    expect(there.queues.messages.map(({ queue }) => queue)).toEqual(names.map(() => 'plan-requests'));
  });

  it('loses nothing where its message comes twice or never', async () => {
    const { there, run } = await flood();
    const [message] = there.queues.messages.splice(0);
    if (message === undefined) throw new Error('There is no message');
    // What nobody has heard of is sent again; then the message comes after all, and once more.
    there.queues.messages.push(...(await there.book.unheard(run, Date.now() + 1)).map(asMessage));
    there.queues.messages.push(message, message);
    await there.deliver();
    expect((await there.book.report(run))?.tags).toHaveLength(tags.length);
    expect(there.hub.pulls).toBe(1);
  });
});

function asMessage({ queue, message }: Sent): Message {
  return { queue, text: JSON.stringify(message) };
}
