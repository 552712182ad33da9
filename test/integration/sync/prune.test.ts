/** What prune deletes, and everything that keeps a tag where it is. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { exitCodeOfSync } from '../../../lib/cli/exit-code.ts';
import type { Report } from '../../../lib/sync/runs/report.ts';
import { handOver, startApp } from '../../local/app.ts';
import { buildManifest, cosignSignature, cosignTag, put, referrerOf } from '../../local/content.ts';
import type { Intercept, LoggedRequest } from '../../local/server.ts';
import { told, World } from './support.ts';

const mirror = '- { source: docker.io/acme/app, target: $acr/app, prune: true }';
const content = buildManifest({ seed: 'of six tags' });
const names = ['1', '2', '3', '4', '5', '6'];
const unchanged = names.slice(0, 5).map((name) => `${name} unchanged`);

let world: World;

beforeAll(async () => {
  world = await World.start();
});
afterAll(() => world?.close());
beforeEach(() => world.reset());

const source = () => world.hub.repository('acme/app');
const target = () => world.acr.repository('app');
const deletes = () => world.targetRequests.filter(({ method }) => method === 'DELETE');

/** Six tags are mirrored, then the sixth goes at the source. */
async function sixTags(rules = mirror): Promise<void> {
  for (const name of names) await world.hub.push('acme/app', name, content);
  await world.sync(rules);
  source().removeTag('6');
}

describe('prune', () => {
  it('deletes one tag by its name, and nothing that shares its manifest', async () => {
    await sixTags();
    const report = await world.sync(mirror);
    expect(told(report)).toEqual([...unchanged, '6 deleted (gone at source)']);
    expect(target().tagNames()).toEqual(names.slice(0, 5));
    expect(target().manifests.has(content.descriptor.digest)).toBe(true);
    expect(deletes().map(({ url }) => url.replace(/\?.*/, ''))).toEqual(['/acr/v1/app/_tags/6']);
    expect(told(await world.sync(mirror))).toEqual(unchanged);
  });

  it('shows in a plan, which deletes nothing', async () => {
    await sixTags();
    expect(told(await world.plan(mirror))).toEqual([...unchanged, '6 delete (gone at source)']);
    expect(target().tagNames()).toEqual(names);
  });

  it.each([
    ['another name', '- { name: other, source: docker.io/acme/app, target: $acr/app, prune: true }'],
    ['a second target', '- { source: docker.io/acme/app, target: [$acr/app, $acr/two], prune: true }'],
    ['a filter', '- { source: docker.io/acme/app, target: $acr/app, prune: true, tags: { include: ["*"] } }'],
  ])('knows what was put there before its rule got %s', async (_what, rules) => {
    await sixTags();
    await world.sync(rules);
    expect(target().tagNames()).toEqual(names.slice(0, 5));
    expect(told(await world.verify(rules)).filter((line) => !line.endsWith('same'))).toEqual([]);
  });

  it('leaves what came under another name from a tag that is still there', async () => {
    for (const name of names) await world.hub.push('acme/app', name, content);
    await world.sync('- { source: "docker.io/acme/app:1", target: "$acr/app:prod" }');
    await world.sync(mirror);
    expect(target().tagNames()).toEqual([...names, 'prod']);
    expect(deletes()).toEqual([]);
  });

  it('knows a tag by the name that the rule gave it', async () => {
    const rules = (tags: string) =>
      `- { source: "docker.io/acme/app:1,2,3,4,5,6", target: "$acr/app:${tags}", prune: true }`;
    await sixTags(rules('a,b,c,d,e,f'));
    const report = await world.sync(rules('a,b,c,d,e,f'));
    expect(told(report).at(-1)).toBe('6 -> f deleted (gone at source)');
    expect(target().tagNames()).toEqual(['a', 'b', 'c', 'd', 'e']);
  });
});

describe('prune deletes', () => {
  it('what another rule fills under another name', async () => {
    const rules = `${mirror.replace('prune', 'name: all, prune')}
- { name: stable, source: "docker.io/acme/app:6", target: "$acr/app:stable" }`;
    await sixTags(rules);
    expect(told(await world.sync(rules))).toContain('6 deleted (gone at source)');
    expect(target().tagNames()).toEqual([...names.slice(0, 5), 'stable']);
  });

  it('its share, of which what stays anyway is no part', async () => {
    await sixTags();
    source().removeTag('5');
    put(world.acr, 'app', '5', buildManifest({ seed: 'own' }));
    expect(told(await world.sync(mirror))).toContain('6 deleted (gone at source)');
  });

  it.each(['', 'x/'])(
    'what a namespace may fill that has no such repository: it goes to "%s*"',
    async (path) => {
      const app = await startApp({
        rules: `
  - { name: all, source: docker.io/team/*, target: $target/${path}* }
  - { name: one, source: docker.io/acme/app, target: $target/${path}app, prune: true }`,
      });
      await app.hub.push('team/web', '1', content);
      for (const name of names) await app.hub.push('acme/app', name, content);
      await app.schedule();
      await app.deliver();
      app.hub.repository('acme/app').removeTag('6');
      const moved = buildManifest({ seed: 'moved' });
      await app.hub.push('acme/app', '1', moved);
      const run = await app.schedule();
      await app.deliver();
      expect(app.reportOf(run)?.totals).toMatchObject({ copied: 1, deleted: 1, failed: 0, skipped: 0 });
      await app.close();
    },
  );

  it('nothing that a request for single tags does not name', async () => {
    const app = await startApp({
      rules: '\n  - { name: app, source: docker.io/acme/app, target: $target/app, prune: true }',
    });
    for (const name of names) await app.hub.push('acme/app', name, content);
    await app.schedule();
    await app.deliver();
    app.hub.repository('acme/app').removeTag('6');
    await app.engine().dispatcher.start('one', 'manual', { tags: ['1'], dryRun: false, force: false });
    await app.deliver();
    expect(told(app.reportOf('one') as Report)).toEqual(['1 unchanged']);
    expect(app.digestAt('6')).toBe(content.descriptor.digest);
    await app.close();
  });

  it('and says of each tag one thing', async () => {
    const named = '- { source: "docker.io/acme/app:1,2,3,4,5,6", target: $acr/app, prune: true }';
    await sixTags(named);
    put(world.acr, 'app', '6', buildManifest({ seed: 'own' }));
    for (const report of [await world.plan(named), await world.sync(named)]) {
      expect(report.totals).toMatchObject({ tags: 6, failed: 0 });
    }
  });
});

describe('prune keeps', () => {
  it('what the rule did not put there', async () => {
    await sixTags();
    put(world.acr, 'app', 'own', content);
    await world.sync(mirror);
    expect(target().tagNames()).toEqual([...names.slice(0, 5), 'own']);
  });

  it('what was there before the rule', async () => {
    put(world.acr, 'app', '6', content);
    await sixTags();
    expect(told(await world.sync(mirror))).toEqual(unchanged);
    expect(target().tagNames()).toEqual(names);
  });

  it('what somebody else put in its place', async () => {
    await sixTags();
    put(world.acr, 'app', '6', buildManifest({ seed: 'own' }));
    const kept = 'the rule did not put there what it is now';
    expect(told(await world.plan(mirror)).at(-1)).toBe(`6 skip (${kept})`);
    expect(told(await world.sync(mirror)).at(-1)).toBe(`6 skipped (${kept})`);
    expect(target().tagNames()).toEqual(names);
  });

  it('what somebody else pushed under a name that the rule had there long ago', async () => {
    await sixTags();
    target().removeTag('6');
    await world.sync(mirror);
    put(world.acr, 'app', '6', buildManifest({ seed: 'own' }));
    await world.sync(mirror);
    expect(target().tagNames()).toEqual(names);
  });

  it('what the rule may not overwrite', async () => {
    const careful = mirror.replace('prune', 'overwrite: false, prune');
    await sixTags(careful);
    await world.hub.push('acme/app', '6', content);
    put(world.acr, 'app', '6', buildManifest({ seed: 'own' }));
    expect(told(await world.sync(careful)).at(-1)).toBe('6 skipped (not overwritten)');
    source().removeTag('6');
    await world.sync(careful);
    expect(target().tagNames()).toEqual(names);
  });

  it('what is about a manifest that is still there, by whatever name', async () => {
    const sbom = referrerOf(content, 'application/spdx+json');
    await world.hub.push('acme/app', 'sbom', sbom);
    await sixTags();
    await world.hub.push('acme/app', '6', content);
    source().removeTag('sbom');
    const kept = 'it is about a manifest that is still there';
    expect(told(await world.plan(mirror))).toContain(`sbom skip (${kept})`);
    expect(told(await world.sync(mirror))).toContain(`sbom skipped (${kept})`);
    expect(target().tagNames()).toContain('sbom');
  });

  it('what the names of the rule no longer select', async () => {
    const named = mirror.replace('prune', 'name: one, prune');
    await sixTags(named);
    await world.sync(named.replace('prune', 'tags: { exclude: ["6"] }, prune'));
    expect(target().tagNames()).toEqual(names);
  });

  it('what number or age no longer select, as long as the source has it', async () => {
    const named = mirror.replace('prune', 'name: one, prune');
    await sixTags(named);
    await world.sync(named.replace('prune', 'tags: { newest: 1 }, prune'));
    expect(target().tagNames()).toEqual(names.slice(0, 5));
  });

  it('signatures', async () => {
    const { digest } = content.descriptor;
    await world.hub.push('acme/app', cosignTag(digest, 'sig'), cosignSignature(digest));
    await sixTags();
    source().removeTag(cosignTag(digest, 'sig'));
    await world.sync(mirror);
    expect(target().tagNames()).toEqual([...names.slice(0, 5), cosignTag(digest, 'sig')]);
  });

  it('a locked tag', async () => {
    await sixTags();
    world.acr.setTagAttributes('app', '6', { writeEnabled: false });
    const report = await world.sync(mirror);
    expect(told(report)).toEqual([...unchanged, '6 locked (gone at source)']);
    expect(exitCodeOfSync(report)).toBe(0);
    expect(deletes()).toEqual([]);
  });

  it('a tag that is locked against deletes alone', async () => {
    await sixTags();
    world.acr.setTagAttributes('app', '6', { deleteEnabled: false });
    const report = await world.sync(mirror);
    expect(told(report).at(-1)).toMatch(/^6 locked/);
    expect(target().tagNames()).toEqual(names);
  });

  it.each([401, 403, 429, 500, 503])(
    'a tag whose source answers %i when it is asked once more',
    async (status) => {
      await sixTags();
      world.hub.registry.intercept = answering(status, ({ method, url }) => {
        return method === 'HEAD' && url.endsWith('/manifests/6');
      });
      const report = await world.sync(mirror);
      expect(report.totals.deleted).toBe(0);
      expect(exitCodeOfSync(report)).toBe(1);
      expect(target().tagNames()).toEqual(names);
    },
  );

  it('a tag that only the listing hides', async () => {
    await sixTags();
    source().setTag('6', content.descriptor.digest);
    world.hub.api.intercept = async (request) => {
      if (request.method !== 'GET') return undefined;
      const tag = source().tags.get('6');
      source().removeTag('6');
      // Back before anybody asks the registry.
      setImmediate(() => tag && source().setTag('6', tag.digest, tag.pushedAt));
      return undefined;
    };
    expect(told(await world.plan(mirror))).toEqual([...unchanged, '6 skip (the source has it again)']);
    expect(told(await world.sync(mirror))).toEqual([...unchanged, '6 skipped (the source has it again)']);
    expect(target().tagNames()).toEqual(names);
  });

  it('a tag that another rule of the same source mirrors without pruning', async () => {
    const rules = `- { source: docker.io/acme/app, target: $acr/app, name: one, prune: true }
- { source: docker.io/acme/app, target: $acr/app, name: two, tags: { include: ["6"] } }`;
    await sixTags(rules);
    await world.sync(rules);
    expect(target().tagNames()).toEqual(names);
  });

  it('a tag that another source claims', async () => {
    const rules = `- { source: docker.io/acme/app, target: $acr/app, name: one, prune: true }
- { source: $plain/acme/app, target: $acr/app, name: two }`;
    await sixTags(mirror.replace('prune', 'name: one, prune'));
    put(world.plain, 'acme/app', '6', content);
    const report = await world.sync(rules);
    expect(report.totals.deleted).toBe(0);
    expect(target().tagNames()).toEqual(names);
  });

  it('a tag that a namespace claims whose repositories cannot be listed, which keeps nothing from being copied', async () => {
    const one = mirror.replace('prune', 'name: one, prune');
    await sixTags(one);
    await world.hub.push('team/app', '6', content);
    world.hub.api.intercept = answering(500, ({ url }) => /\/team\/repositories\/?(\?|$)/.test(url));
    const rules = `${one}\n- { source: docker.io/team/*, target: $acr/*, name: all }`;
    await world.hub.push('acme/app', '1', buildManifest({ seed: 'moved' }));
    const report = await world.sync(rules);
    expect(told(report)).toContain('* failed (ERR_SERVER)');
    expect(report.totals).toMatchObject({ copied: 1, deleted: 0 });
    expect(target().tagNames()).toEqual(names);
  });

  it('everything after a listing that failed', async () => {
    await sixTags();
    world.hub.api.intercept = answering(500, () => true);
    world.hub.registry.intercept = answering(500, ({ url }) => url.includes('/tags/list'));
    const report = await world.sync(mirror);
    expect(told(report)).toEqual(['* failed (ERR_SERVER)']);
    expect(target().tagNames()).toEqual(names);
  });

  it('everything after a listing that was empty', async () => {
    await sixTags();
    for (const name of names) source().removeTag(name);
    const report = await world.sync(mirror, { allowMassDelete: true });
    expect(told(report)).toEqual([]);
    expect(target().tagNames()).toEqual(names);
  });

  it('everything after a listing that shows signatures alone', async () => {
    await sixTags();
    for (const name of names) source().removeTag(name);
    const { digest } = content.descriptor;
    await world.hub.push('acme/app', cosignTag(digest, 'sig'), cosignSignature(digest));
    await world.sync(mirror, { allowMassDelete: true });
    expect(target().tagNames()).toEqual(expect.arrayContaining(names));
  });

  it('everything after a listing that was cut short', async () => {
    const rules = '- { source: $plain/acme/app, target: $acr/app, prune: true }';
    world.plain.behaviour.pageSize = 2;
    for (const name of names) put(world.plain, 'acme/app', name, content);
    await world.sync(rules);
    world.plain.repository('acme/app').removeTag('1');
    world.plain.intercept = answering(404, ({ url }) => url.includes('tags/list') && url.includes('last='));
    const report = await world.sync(rules);
    world.plain.behaviour.pageSize = 1000;
    expect(told(report)).toEqual(['* failed (ERR_LISTING_INCOMPLETE)']);
    expect(target().tagNames()).toEqual(names);
  });

  it('everything where more would go than its share, and says so once', async () => {
    await sixTags();
    source().removeTag('5');
    const report = await world.sync(mirror);
    expect(told(report)).toEqual(['* failed (ERR_MASS_DELETE)', ...unchanged.slice(0, 4)]);
    expect(exitCodeOfSync(report)).toBe(1);
    expect(target().tagNames()).toEqual(names);
    const told2 = told(await world.sync(mirror, { allowMassDelete: true }));
    expect(told2.filter((line) => line.endsWith('deleted (gone at source)'))).toHaveLength(2);
  });

  it('counts for its share only the tags that are still there', async () => {
    await sixTags();
    for (const name of ['1', '2', '3']) {
      source().removeTag(name);
      target().removeTag(name);
    }
    const report = await world.sync(mirror);
    expect(told(report)).toEqual(['* failed (ERR_MASS_DELETE)', '4 unchanged', '5 unchanged']);
  });

  it('a tag where the registry deletes by digest alone, and fails with it', async () => {
    const rules = '- { source: docker.io/acme/app, target: $other/app, prune: true }';
    world.other.behaviour.tagDelete = false;
    await sixTags(rules);
    const report = await world.sync(rules);
    world.other.behaviour.tagDelete = true;
    expect(told(report)).toEqual([...unchanged, '6 failed (ERR_UNSUPPORTED)']);
    expect(world.other.repository('app').tagNames()).toEqual(names);
  });

  it('everything where the target lets nobody list', async () => {
    await sixTags();
    world.acr.intercept = answering(403, ({ method, url }) => method === 'GET' && url.startsWith('/acr/v1/'));
    expect(told(await world.sync(mirror))).toEqual(unchanged);
    expect(target().tagNames()).toEqual(names);
  });
});

describe('a delete that waits in its queue', () => {
  const rules = (more = '') =>
    `\n  - { name: app, source: docker.io/acme/app, target: $target/app, prune: true${more} }`;
  let app: Awaited<ReturnType<typeof startApp>>;

  beforeEach(async () => {
    app = await startApp({ rules: rules() });
    for (const name of names) await app.hub.push('acme/app', name, content);
    await app.schedule();
    await app.deliver();
    app.hub.repository('acme/app').removeTag('6');
  });
  afterEach(() => app.close());

  /** Plans, lets something happen, and then deletes. */
  async function deleteAfter(something: () => void): Promise<string[]> {
    const run = await app.schedule();
    const [plan] = app.queues.messages.splice(0);
    if (plan !== undefined) await handOver(app.engine(), plan);
    something();
    await app.deliver();
    return told(app.reportOf(run) as Report).filter((line) => line.startsWith('6'));
  }

  it('deletes what was moved before a crash, once the message came again', async () => {
    const moved = buildManifest({ seed: 'moved' });
    await app.hub.push('acme/app', '6', moved);
    await app.schedule();
    const [plan] = app.queues.messages.splice(0);
    if (plan !== undefined) await handOver(app.engine(), plan);
    // As the first delivery left it: the tag has moved, and nobody wrote that down.
    put(app.target, 'app', '6', moved);
    await app.deliver();
    app.hub.repository('acme/app').removeTag('6');
    expect(await deleteAfter(() => undefined)).toEqual(['6 deleted (gone at source)']);
  });

  it('deletes', async () => {
    expect(await deleteAfter(() => undefined)).toEqual(['6 deleted (gone at source)']);
  });

  it('keeps the tag where the rules were changed to keep it', async () => {
    const lines = await deleteAfter(() => app.rewrite(rules(', tags: { exclude: ["6"] }')));
    expect(lines).toEqual(['6 skipped (no longer selected by the rule)']);
    expect(app.digestAt('6')).toBe(content.descriptor.digest);
  });

  it('keeps what was pushed to the target meanwhile', async () => {
    const own = buildManifest({ seed: 'own' });
    const lines = await deleteAfter(() => put(app.target, 'app', '6', own));
    expect(lines).toEqual(['6 skipped (the rule did not put there what it is now)']);
    expect(app.digestAt('6')).toBe(own.descriptor.digest);
  });
});

function answering(status: number, which: (request: LoggedRequest) => boolean): Intercept {
  return (request) => (which(request) ? { kind: 'answer', status } : undefined);
}
