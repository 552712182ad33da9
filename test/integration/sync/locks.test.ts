/** A target that refuses changes: its word is taken once, and the tag is reported as what it is. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { exitCodeOfSync } from '../../../lib/cli/exit-code.ts';
import { buildManifest, buildMultiPlatform, put } from '../../local/content.ts';
import type { Intervention } from '../../local/server.ts';
import { told, World } from './support.ts';

const mirror = '- { source: docker.io/acme/app, target: $acr/app }';
const [before, after] = [buildManifest({ seed: 'before' }), buildManifest({ seed: 'after' })];
const lockedAnswer: Intervention = {
  kind: 'answer',
  status: 405,
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify({ errors: [{ code: 'REGISTRY_DISALLOWED_OPERATION', message: 'locked' }] }),
};

const amd64 = { os: 'linux', architecture: 'amd64' };
const arm64 = { os: 'linux', architecture: 'arm64' };

let world: World;

beforeAll(async () => {
  world = await World.start();
});
afterAll(() => world?.close());
beforeEach(() => world.reset());

const tagPushes = () =>
  world.targetRequests.filter(({ method, url }) => method === 'PUT' && url.endsWith('/manifests/1.0'));

describe('a tag that the target locks', () => {
  it('and the listing shows as locked is not pushed at all', async () => {
    await world.hub.push('acme/app', '1.0', after);
    put(world.acr, 'app', '1.0', before);
    world.acr.setTagAttributes('app', '1.0', { writeEnabled: false });
    const report = await world.sync(mirror);
    expect(told(report)).toEqual(['1.0 locked (the target refuses changes)']);
    expect(exitCodeOfSync(report)).toBe(1);
    expect(world.targetRequests.filter(({ method }) => method !== 'GET')).toEqual([]);
  });

  it('after it was listed is pushed once and never again', async () => {
    await world.hub.push('acme/app', '1.0', after);
    put(world.acr, 'app', '1.0', before);
    world.acr.intercept = ({ method, url }) => {
      const moves = method === 'PUT' && url.endsWith('/manifests/1.0');
      return moves ? lockedAnswer : undefined;
    };
    const report = await world.sync(mirror);
    expect(told(report)).toEqual(['1.0 locked (ERR_LOCKED)']);
    expect(exitCodeOfSync(report)).toBe(1);
    expect(tagPushes()).toHaveLength(1);
    expect(world.acr.repository('app').digestOf('1.0')).toBe(before.descriptor.digest);
  });

  it('by a lock on its repository, where it is not yet, is locked with an error', async () => {
    await world.hub.push('acme/app', '1.0', after);
    world.acr.intercept = ({ method, url }) => {
      const writes = method === 'PUT' && url.includes('/manifests/');
      return writes ? lockedAnswer : undefined;
    };
    const report = await world.sync(mirror);
    expect(told(report)).toEqual(['1.0 locked (ERR_LOCKED)']);
    expect(exitCodeOfSync(report)).toBe(1);
  });

  it('with platforms that its rule drops is a failure, before and after it is known', async () => {
    const both = buildMultiPlatform('both', [amd64, arm64]);
    await world.hub.push('acme/app', '1.0', both);
    put(world.acr, 'app', '1.0', both);
    world.acr.setTagAttributes('app', '1.0', { writeEnabled: false });
    const rules = '- { source: docker.io/acme/app, target: $acr/app, platforms: [linux/amd64] }';
    for (let time = 0; time < 2; time += 1) {
      const report = await world.sync(rules);
      expect(report.tags).toMatchObject([{ outcome: 'locked', error: { code: 'ERR_LOCKED' } }]);
      expect(exitCodeOfSync(report)).toBe(1);
    }
  });

  it('with the platforms that its rule keeps is no failure, not even when everything is checked again', async () => {
    await world.hub.push('acme/app', '1.0', buildMultiPlatform('both', [amd64, arm64]));
    const rules = '- { source: docker.io/acme/app, target: $acr/app, platforms: [linux/amd64] }';
    await world.sync(rules);
    world.acr.setTagAttributes('app', '1.0', { writeEnabled: false });
    for (const force of [false, true]) {
      const report = await world.sync(rules, { force });
      expect(told(report)).toEqual([force ? '1.0 locked (the target refuses changes)' : '1.0 unchanged']);
      expect(exitCodeOfSync(report)).toBe(0);
    }
  });

  it('as it is to be is no failure, not even when everything is checked again', async () => {
    await world.hub.push('acme/app', '1.0', after);
    put(world.acr, 'app', '1.0', after);
    world.acr.setTagAttributes('app', '1.0', { writeEnabled: false });
    expect(told(await world.sync(mirror))).toEqual(['1.0 unchanged']);
    const forced = await world.sync(mirror, { force: true });
    expect(told(forced)).toEqual(['1.0 locked (the target refuses changes)']);
    expect(exitCodeOfSync(forced)).toBe(0);
  });
});
