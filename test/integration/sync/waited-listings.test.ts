/** What a listing that is refused without a time means to a run that may wait. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { buildManifest, put } from '../../local/content.ts';
import { told, World } from './support.ts';

// Whoever waits moves the time on.
const passes = vi.hoisted(() => async (until: number) => void vi.setSystemTime(Math.max(until, Date.now())));

vi.mock('../../../lib/registry/clock.ts', () => ({
  systemClock: { now: () => Date.now(), sleep: (ms: number) => passes(Date.now() + ms) },
}));
vi.mock('../../../lib/sync/waiting.ts', async (load) => ({
  ...(await load<typeof import('../../../lib/sync/waiting.ts')>()),
  sleepUntil: passes,
}));

const minute = 60_000;
const content = buildManifest({ seed: 'listed' });

let world: World;
beforeAll(async () => {
  world = await World.start();
});
afterAll(() => world?.close());
beforeEach(async () => {
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() });
  await world.reset();
  put(world.plain, 'acme/app', '1', content);
  await world.hub.push('acme/app', '1', content);
});
afterEach(() => {
  vi.useRealTimers();
});

const fromPlain = '- { source: $plain/acme/app, target: $other/app }';

describe.each([
  ['of the source', () => world.plain, fromPlain],
  ['of the target', () => world.other, fromPlain],
  ['of Docker Hub', () => world.hub.api, '- { source: docker.io/acme/app, target: $other/app }'],
  ['of a namespace', () => world.hub.api, '- { source: docker.io/acme/*, target: $other/* }'],
])('a listing %s that is refused without a time', (_, side, rules) => {
  function refuseFor(ms: number): void {
    const until = Date.now() + ms;
    side().intercept = () => (Date.now() < until ? { kind: 'answer', status: 429 } : undefined);
  }

  it('is asked for again as long as the run may wait', async () => {
    refuseFor(5 * minute);
    expect(told(await world.plan(rules, { wait: 10 * minute }))).toEqual(['1 copy (new tag)']);
    refuseFor(5 * minute);
    expect(told(await world.sync(rules, { wait: 10 * minute }))).toEqual(['1 copied (new tag)']);
  });

  it('is deferred where that takes longer', async () => {
    const begun = Date.now();
    refuseFor(20 * minute);
    expect(told(await world.sync(rules, { wait: 10 * minute }))).toEqual(['* deferred (ERR_RATE_LIMITED)']);
    expect(Date.now() - begun).toBeLessThanOrEqual(12 * minute);
  });
});

describe('what another rule claims whose source is not listed for minutes', () => {
  const moved = buildManifest({ seed: 'moved' });
  const one = '- { source: $plain/acme/app, target: $other/app, name: one, prune: true }';

  it.each([
    ['a namespace', '- { source: docker.io/acme/*, target: $other/*, name: all }'],
    ['a repository', '- { source: docker.io/acme/web, target: $other/app, name: web }'],
  ])('is waited for, and fails nothing: %s', async (_, claims) => {
    world.hub.store.repositories.clear();
    await world.hub.push('acme/web', '3', content);
    const rules = `${claims}\n${one}`;
    put(world.plain, 'acme/app', '2', content);
    await world.sync(rules);
    put(world.plain, 'acme/app', '1', moved);
    world.plain.repository('acme/app').removeTag('2');
    const until = Date.now() + 5 * minute;
    world.hub.api.intercept = () => (Date.now() < until ? { kind: 'answer', status: 429 } : undefined);
    const report = await world.sync(rules, { wait: 200 * minute, allowMassDelete: true });
    expect(told(report)).toEqual(['1 copied (moved)', '2 deleted (gone at source)', '3 unchanged']);
  });
});

it('a namespace that waits keeps no other rule from its turn', async () => {
  const copied = () =>
    world.targetRequests.some(({ method, url }) => method === 'PUT' && url.endsWith('/app/manifests/1'));
  world.hub.api.intercept = () => (copied() ? undefined : { kind: 'answer', status: 429 });
  const rules = `- { source: docker.io/acme/*, target: $other/acme/*, name: all }\n${fromPlain}`;
  const report = await world.sync(rules, { wait: 200 * minute });
  expect(told(report)).toEqual(['1 copied (new tag)', '1 copied (new tag)']);
});
