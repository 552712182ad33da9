/** A check of a rule with `referrers`: what is said about a manifest has to be at the target as well as the manifest. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  buildIndex,
  buildManifest,
  buildMultiPlatform,
  cosignSignature,
  cosignTag,
  put,
  referrerOf,
} from '../../local/content.ts';
import { told, World } from './support.ts';

const sbomType = 'application/spdx+json';
const index = buildMultiPlatform('verified', [
  { os: 'linux', architecture: 'amd64' },
  { os: 'linux', architecture: 'arm64' },
]);
const child = index.children[0] ?? index;
const signature = cosignSignature(child.descriptor.digest);
const tag = cosignTag(child.descriptor.digest, 'sig');

let world: World;

beforeAll(async () => {
  world = await World.start();
});
afterAll(() => world?.close());
beforeEach(() => world.reset());

/** The one line of a check, with the digests that it misses. */
async function check(rules: string) {
  const { tags, totals } = await world.verify(rules);
  return { told: told({ tags }), missing: tags[0]?.missing, pulls: totals.pulls };
}

describe('tags of cosign', () => {
  const rules = '- { source: docker.io/acme/app, target: $acr/app }';
  const unsigned = '- { source: docker.io/acme/app, target: $acr/app, referrers: false }';
  const named = '- { source: docker.io/acme/app:1.0, target: $acr/app }';

  beforeEach(async () => {
    await world.hub.push('acme/app', '1.0', index);
    await world.hub.push('acme/app', tag, signature);
    await world.sync(rules);
  });

  it('that are at the target leave nothing to say, and cost no pull', async () => {
    for (const rule of [rules, named]) {
      expect(await check(rule)).toEqual({ told: ['1.0 same'], missing: undefined, pulls: 0 });
    }
  });

  it.each([
    ['missing', () => world.acr.repository('app').removeTag(tag)],
    ['another one', () => put(world.acr, 'app', tag, cosignSignature(child.descriptor.digest, 'old'))],
  ])('that are %s are told by digest, unless the rule leaves them behind', async (_what, spoil) => {
    spoil();
    const found = { told: ['1.0 incomplete'], missing: [signature.descriptor.digest], pulls: 0 };
    expect(await check(rules)).toEqual(found);
    expect(await check(named)).toEqual(found);
    expect(await check(unsigned)).toMatchObject({ told: ['1.0 same'] });
    await world.sync(rules, { force: true });
    expect(await check(rules)).toMatchObject({ told: ['1.0 same'] });
  });

  it('have to be whole', async () => {
    const blob = signature.blobs.at(-1)?.descriptor.digest ?? 'sha256:0';
    world.acr.repository('app').blobs.delete(blob);
    expect(await check(rules)).toMatchObject({ told: ['1.0 incomplete'], missing: [blob] });
  });
});

describe.each([true, false])('referrers (by their API: %s)', (api) => {
  const rules = '- { source: $plain/acme/app, target: $other/app }';
  const sbom = referrerOf(child, sbomType);

  beforeEach(async () => {
    world.plain.behaviour.referrersApi = api;
    world.other.behaviour.referrersApi = true;
    put(world.plain, 'acme/app', '1.0', index);
    await world.sync(rules);
    put(world.plain, 'acme/app', undefined, sbom);
    const fallback = child.descriptor.digest.replace(':', '-');
    if (!api) put(world.plain, 'acme/app', fallback, buildIndex([{ manifest: sbom }]));
  });

  it('are missing until they are brought', async () => {
    expect(await check(rules)).toMatchObject({ told: ['1.0 incomplete'], missing: [sbom.descriptor.digest] });
    await world.sync(rules, { force: true });
    expect(await check(rules)).toMatchObject({ told: ['1.0 same'] });
  });
});

it('a list that names what is about something else, in a circle too, is no finding', async () => {
  const rules = '- { source: $plain/acme/app, target: $other/app }';
  world.plain.behaviour.referrersApi = false;
  const [one, other] = [buildManifest({ seed: 'one' }), buildManifest({ seed: 'other' })];
  put(world.plain, 'acme/app', '1.0', one);
  put(world.plain, 'acme/app', one.descriptor.digest.replace(':', '-'), buildIndex([{ manifest: other }]));
  put(world.plain, 'acme/app', other.descriptor.digest.replace(':', '-'), buildIndex([{ manifest: one }]));
  await world.sync(rules);
  expect(await check(rules)).toMatchObject({ told: ['1.0 same'] });
});
