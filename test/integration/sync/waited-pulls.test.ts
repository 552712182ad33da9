/** What a pull that Docker Hub refuses for hours means on the command line: also to a plan and a check, which pull to compare platforms. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { buildManifest, buildMultiPlatform } from '../../local/content.ts';
import { told, World } from './support.ts';

// Whoever waits moves the time on.
vi.mock('../../../lib/sync/waiting.ts', async (load) => ({
  ...(await load<typeof import('../../../lib/sync/waiting.ts')>()),
  sleepUntil: async (until: number) => void vi.setSystemTime(Math.max(until, Date.now())),
}));

const hour = 3600_000;
const platforms = ['amd64', 'arm64'].map((architecture) => ({ os: 'linux', architecture }));
const tags = Array.from({ length: 40 }, (_, index) => `t${index}`);
const rules = '- { source: docker.io/acme/app, target: $acr/app, platforms: [linux/amd64] }';

let world: World;
beforeAll(async () => {
  world = await World.start();
});
afterAll(() => world?.close());
beforeEach(async () => {
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() });
  await world.reset();
  await pushAll('old');
  await world.sync(rules);
  await pushAll('new');
  world.forgetRequests();
  refusePullsFor(2 * hour);
});
afterEach(() => {
  vi.useRealTimers();
});

async function pushAll(version: string): Promise<void> {
  for (const tag of tags)
    await world.hub.push('acme/app', tag, buildMultiPlatform(`${version} ${tag}`, platforms, [10]));
}

function refusePullsFor(ms: number): void {
  const until = Date.now() + ms;
  world.hub.registry.intercept = ({ method, url }) => {
    if (method !== 'GET' || !url.includes('/manifests/') || Date.now() >= until) return undefined;
    const headers = { 'retry-after': `${(until - Date.now()) / 1000}`, 'ratelimit-remaining': '0;w=21600' };
    return { kind: 'answer', status: 429, headers };
  };
}

const pulls = () =>
  world.hub.registry.requests.filter(({ method, url }) => method === 'GET' && url.includes('/manifests/'));
const all = (outcome: string) => tags.map((tag) => `${tag} ${outcome}`).sort();

describe.each([
  ['plan', (wait: number) => world.plan(rules, { wait }), 'copy (moved)'],
  ['verify', (wait: number) => world.verify(rules, { wait }), 'moved (moved)'],
])('%s', (_, run, outcome) => {
  it('fails the tags that it would have to pull, and asks no more once it was refused', async () => {
    expect(told(await run(0))).toEqual(all('failed (ERR_RATE_LIMITED)'));
    const refused = pulls().length;
    expect(refused).toBeLessThan(tags.length);
    expect(told(await run(0))).toEqual(all('failed (ERR_RATE_LIMITED)'));
    expect(pulls()).toHaveLength(refused);
  });

  it('pulls them when it may again where it may wait for that, each once', async () => {
    const report = await run(3 * hour);
    expect(told(report)).toEqual(all(outcome));
    expect(report.totals.pulls).toBe(tags.length);
  });
});

describe('sync, which may wait for the pull,', () => {
  const [before, after] = ['before', 'after'].map((seed) => buildManifest({ seed }));

  beforeEach(() => world.reset());

  it('copies what is named by its digest alone', async () => {
    const { digest } = before?.descriptor ?? {};
    if (before !== undefined) await world.hub.push('acme/app', '1', before);
    refusePullsFor(2 * hour);
    const report = await world.sync(`- { source: "docker.io/acme/app@${digest}", target: $acr/app }`, {
      wait: 3 * hour,
    });
    expect(report.totals).toMatchObject({ tags: 1, copied: 1 });
  });

  it('is waited for by a check of what is named by its digest, with platforms', async () => {
    const index = buildMultiPlatform('by digest', platforms, [10]);
    await world.hub.push('acme/app', '1', index);
    const rules = `- { source: "docker.io/acme/app@${index.descriptor.digest}", target: $acr/app, platforms: [linux/amd64] }`;
    await world.sync(rules);
    await world.forgetState();
    refusePullsFor(2 * hour);
    expect((await world.verify(rules)).tags).toMatchObject([{ error: { code: 'ERR_RATE_LIMITED' } }]);
    expect(told(await world.verify(rules, { wait: 3 * hour }))).toEqual([expect.stringContaining('same')]);
  });

  it('copies what a tag moved to meanwhile, beside another tag that waits again', async () => {
    if (before === undefined || after === undefined) throw new Error('there is no content');
    for (const tag of ['moves', 'stays']) await world.hub.push('acme/app', tag, before);
    const closedUntil = [Date.now() + hour, Date.now() + 2 * hour];
    let moved = false;
    world.hub.registry.intercept = async ({ method, url }) => {
      const until = closedUntil.find((time) => Date.now() < time);
      if (method !== 'GET' || !url.includes('/manifests/') || until === undefined) return undefined;
      if (!moved) await world.hub.push('acme/app', 'moves', after);
      moved = true;
      const headers = { 'retry-after': `${(until - Date.now()) / 1000}`, 'ratelimit-remaining': '0;w=21600' };
      return { kind: 'answer', status: 429, headers };
    };
    const report = await world.sync('- { source: docker.io/acme/app, target: $acr/app }', { wait: 6 * hour });
    expect(told(report)).toEqual([
      'moves copied (moved)',
      expect.stringContaining('moves superseded'),
      'stays copied (new tag)',
    ]);
  });
});
