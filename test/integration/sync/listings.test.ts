/** How listings are read: once, to their end, and not believed where the registry knows better. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { buildManifest, put } from '../../local/content.ts';
import { digestOf } from '../../local/store.ts';
import { told, World } from './support.ts';

const content = buildManifest({ seed: 'listed' });
const { digest } = content.descriptor;
const names = Array.from({ length: 102 }, (_, index) => `v${String(index).padStart(3, '0')}`);

let world: World;

beforeAll(async () => {
  world = await World.start();
});
afterAll(() => world?.close());
beforeEach(() => world.reset());

const pagesOfHub = () => world.hub.api.requests.filter(({ url }) => url.includes('/tags?'));
const pagesOfAcr = () =>
  world.acr.requests.filter(({ url, status }) => /^\/acr\/v1\/.*\/_tags\?/.test(url) && status === 200);
const hub = () => world.hub.repository('acme/app');

async function push(tags: readonly string[]): Promise<void> {
  await world.hub.push('acme/app', tags[0] ?? '', content);
  for (const tag of tags) hub().setTag(tag, digest);
}

/** The target has them too. */
function mirrored(tags: readonly string[]): void {
  put(world.acr, 'app', undefined, content);
  for (const tag of tags) world.acr.repository('app').setTag(tag, digest);
}

/** Something happens at Docker Hub between the first page of a listing and the second. */
function betweenPages(happens: () => void): void {
  world.hub.api.intercept = ({ url }) => {
    if (url.includes('page=2')) happens();
    return undefined;
  };
}

it('a digest that one rule names is no tag for another rule of the repository', async () => {
  put(world.plain, 'acme/app', 'v1', content);
  const asked = () => world.plain.requests.some(({ url }) => url.endsWith(`/manifests/${digest}`));
  world.plain.intercept = async ({ url }) => {
    if (url.includes('/tags/list')) await expect.poll(asked).toBe(true);
    return undefined;
  };
  const rules = `- { source: "$plain/acme/app@${digest}", target: "$other/pinned:v1" }
- { source: $plain/acme/app, target: $other/app }`;
  expect(told(await world.plan(rules))).toHaveLength(2);
});

it('whichever is read first, lines come in the order of the rules, and of their tags', async () => {
  for (const path of ['acme/slow', 'acme/quick']) {
    for (const tag of ['2', '1']) put(world.plain, path, tag, content);
  }
  const quick = () => world.other.requests.some(({ url }) => url.includes('/quick/manifests/2'));
  world.plain.intercept = async ({ url }) => {
    if (url.includes('/slow/tags/list')) await expect.poll(quick).toBe(true);
    return undefined;
  };
  const rules = `- { source: $plain/acme/slow, target: [$other/z, $other/a] }
- { source: $plain/acme/quick, target: $other/quick }`;
  const places = ({ tags }: { tags: readonly { source: string; target: string }[] }) =>
    tags.map(({ source, target }) => `${source.replace(/.*\//, '')} ${target.replace(/.*\//, '')}`);
  const inOrder = [
    'slow:1 a:1',
    'slow:1 z:1',
    'slow:2 a:2',
    'slow:2 z:2',
    'quick:1 quick:1',
    'quick:2 quick:2',
  ];
  expect(places(await world.sync(rules))).toEqual(inOrder);
  expect(places(await world.plan(rules))).toEqual(inOrder);
});

describe('a tag that is deleted in the middle of a listing', () => {
  const prunes = '- { source: docker.io/acme/app, target: $acr/app, prune: true }';

  it('hides another one, which is neither deleted nor copied again', async () => {
    await push(names);
    await world.sync(prunes);
    // Docker Hub pages by number: the hundredth tag moves to the page that was read.
    betweenPages(() => hub().removeTag('v000'));
    const report = await world.sync(prunes);
    expect(report.totals).toMatchObject({ tags: 102, unchanged: 101, skipped: 1, deleted: 0 });
    expect(told(report)).toContain('v100 skipped (the source has it again)');
    expect(world.acr.repository('app').tags.has('v100')).toBe(true);

    world.hub.api.intercept = undefined;
    expect(told(await world.sync(prunes))).toContain('v000 deleted (gone at source)');
  });

  it('hides a tag that a rule names, which is copied all the same', async () => {
    await push(names);
    betweenPages(() => hub().removeTag('v000'));
    const named = `- { source: "docker.io/acme/app:${names.slice(-25).join()},gone", target: $acr/app }`;
    const report = await world.sync(named);
    expect(report.totals).toMatchObject({ copied: 25, failed: 1 });
    expect(told(report)).toContain('gone failed (ERR_TAG_UNKNOWN)');
  });

  it('after it was listed is gone at the source, and no failure', async () => {
    await push(names);
    mirrored(names.slice(2));
    betweenPages(() => hub().removeTag('v001'));
    const report = await world.sync('- { source: docker.io/acme/app, target: $acr/app }');
    expect(told(report)).toContain('v001 skipped (gone at source)');
    expect(report.totals).toMatchObject({ copied: 1, skipped: 1, failed: 0 });
  });

  it('with the whole last page is no failure either', async () => {
    await push(names.slice(0, 101));
    mirrored(names.slice(1, 100));
    betweenPages(() => hub().removeTag('v000'));
    const report = await world.sync('- { source: docker.io/acme/app, target: $acr/app }');
    expect(report.totals).toMatchObject({ unchanged: 99, skipped: 1, failed: 0 });
  });
});

it('a line tells the digest that the target has, whatever the source has since', async () => {
  const rules = `- { source: docker.io/acme/app, target: $acr/one }
- { source: docker.io/acme/app, target: $acr/two }`;
  await push(['v1']);
  await world.sync(rules);
  // The second rule finds its tag gone and asks the source, where it has moved since the listing.
  world.acr.repository('two').removeTag('v1');
  const moved = buildManifest({ seed: 'moved' });
  world.hub.registry.intercept = () => {
    put(world.hub, 'acme/app', 'v1', moved);
    return undefined;
  };
  const { tags } = await world.plan(rules);
  expect(tags.map((line) => [line.outcome, line.digest])).toEqual([
    ['unchanged', digest],
    ['copy', moved.descriptor.digest],
  ]);
});

describe('a source', () => {
  it('is listed once for all its targets, and for the rules that share it', async () => {
    await push(names);
    await world.plan(`- { source: docker.io/acme/app, target: [$acr/one, $acr/two, $other/three] }
- { source: docker.io/acme/app, target: $acr/four, tags: { include: ["v00*"] } }`);
    expect(pagesOfHub()).toHaveLength(2);
  });

  it('is listed once where others claim tags of the same target', async () => {
    await push(names.slice(0, 3));
    put(world.plain, 'acme/app', 'other', content);
    await world.plan(`- { source: docker.io/acme/app, target: $acr/app, name: one }
- { source: $plain/acme/app, target: $acr/app, name: two }`);
    expect(pagesOfHub()).toHaveLength(1);
    expect(world.plain.requests.filter(({ url }) => url.includes('/tags/list'))).toHaveLength(1);
  });

  it('that cannot be listed keeps its rivals from moving what may be its own', async () => {
    const rules = `- { source: docker.io/acme/app, target: $acr/app, name: one }
- { source: $plain/acme/app, target: $acr/app, name: two, tags: { include: ["v000", "v001"] } }`;
    await push(names.slice(0, 3));
    put(world.acr, 'app', 'v000', buildManifest({ seed: 'of the other rule' }));
    world.plain.intercept = () => ({ kind: 'answer', status: 500 });
    expect(told(await world.plan(rules))).toEqual([
      '* failed (ERR_SERVER)',
      'v000 failed (ERR_TARGET_CONFLICT)',
      'v001 copy (new tag)',
      'v002 copy (new tag)',
    ]);
  });

  it('is verified with one listing of either side', async () => {
    await push(names);
    mirrored([...names, 'more']);
    const report = await world.verify('- { source: docker.io/acme/app, target: $acr/app }');
    expect(report.totals).toMatchObject({ tags: 103, same: 102, extra: 1 });
    expect(pagesOfHub()).toHaveLength(2);
    expect(pagesOfAcr()).toHaveLength(1);
  });
});

describe('one tag that cannot be asked for', () => {
  it('fails alone', async () => {
    const rules = '- { source: $plain/acme/app, target: $acr/app }';
    for (const tag of ['1', '2', '3']) put(world.plain, 'acme/app', tag, content);
    world.plain.intercept = ({ url }) => {
      return url.endsWith('/manifests/2') ? { kind: 'answer', status: 500 } : undefined;
    };
    const expected = ['1 copy (new tag)', '2 failed (ERR_SERVER)', '3 copy (new tag)'];
    expect(told(await world.plan(rules))).toEqual(expected);
  });

  it('at the target fails alone too', async () => {
    const rules = '- { source: $plain/acme/app, target: $other/app }';
    for (const tag of ['1', '2', '3']) {
      put(world.plain, 'acme/app', tag, content);
      put(world.other, 'app', tag, content);
    }
    world.other.intercept = ({ url }) => {
      return url.endsWith('/manifests/2') ? { kind: 'answer', status: 500 } : undefined;
    };
    expect(told(await world.plan(rules))).toEqual(['1 unchanged', '2 failed (ERR_SERVER)', '3 unchanged']);
  });

  it('because the login is no good is one failure of the rule', async () => {
    for (const tag of ['1', '2', '3']) put(world.plain, 'acme/app', tag, content);
    world.plain.intercept = ({ method }) => {
      return method === 'HEAD' ? { kind: 'answer', status: 403 } : undefined;
    };
    const report = await world.plan('- { source: $plain/acme/app, target: $acr/app }');
    expect(told(report)).toEqual(['* failed (ERR_FORBIDDEN)']);
  });
});

describe('digests of different algorithms', () => {
  const rules = '- { source: $plain/acme/app, target: $other/app }';
  const sha512 = digestOf(content.bytes, 'sha512');

  beforeEach(() => {
    put(world.plain, 'acme/app', undefined, content);
    const source = world.plain.repository('acme/app');
    source.putManifest(content.descriptor.mediaType, content.bytes, sha512);
    source.setTag('1', sha512);
  });

  it('are compared by the bytes that the target has, without a pull, and remembered', async () => {
    put(world.other, 'app', '1', content);
    world.forgetRequests();
    expect(told(await world.sync(rules))).toEqual(['1 unchanged']);
    expect(manifestReads().map(({ headers }) => headers.host)).toEqual([world.other.host]);
    world.forgetRequests();
    expect(told(await world.sync(rules))).toEqual(['1 unchanged']);
    expect(manifestReads()).toHaveLength(0);
  });

  it('of different bytes are a move, and the next run is idle', async () => {
    put(world.other, 'app', '1', buildManifest({ seed: 'older' }));
    expect(told(await world.sync(rules))).toEqual(['1 copied (moved)']);
    expect(world.other.repository('app').digestOf('1')).toBe(digest);
    expect(told(await world.sync(rules))).toEqual(['1 unchanged']);
    world.forgetRequests();
    expect(told(await world.sync(rules))).toEqual(['1 unchanged']);
    expect(manifestReads()).toHaveLength(0);
  });

  function manifestReads() {
    const requests = [...world.sourceRequests, ...world.targetRequests];
    return requests.filter(({ method, url }) => method === 'GET' && url.includes('/manifests/'));
  }
});
