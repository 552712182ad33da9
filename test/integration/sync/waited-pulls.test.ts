/** What a pull that Docker Hub refuses for hours means to a plan and a check on the command line, which pull to compare platforms. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { buildMultiPlatform } from '../../local/content.ts';
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
