/** Signatures, attestations and SBOMs travel with what they are about, whichever way either side keeps them. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { handOver, startApp } from '../../local/app.ts';
import {
  attestationOf,
  buildIndex,
  buildManifest,
  buildMultiPlatform,
  type Content,
  cosignSignature,
  cosignTag,
  put,
  referrerOf,
} from '../../local/content.ts';
import type { LocalRegistry } from '../../local/registry.ts';
import { fieldsOf, type LocalRepository } from '../../local/store.ts';
import { told, World } from './support.ts';

const sbomType = 'application/spdx+json';
const signatureType = 'application/vnd.example.signature';
const amd64 = { os: 'linux', architecture: 'amd64' };
const arm64 = { os: 'linux', architecture: 'arm64' };
const platforms = [amd64, arm64];

let world: World;

beforeAll(async () => {
  world = await World.start();
});
afterAll(() => world?.close());
beforeEach(() => world.reset());

const betweenRegistries = '- { source: $plain/acme/app, target: $other/app }';
const toAcr = '- { source: docker.io/acme/app, target: $acr/app }';

const fallbackTag = ({ descriptor }: Content) => descriptor.digest.replace(':', '-');

/** Attaches as a client does: by `subject` where the registry knows that, else also by the tag schema's index. */
function attach(repository: LocalRepository, subject: Content, referrer: Content, api: boolean): void {
  put({ repository: () => repository }, '', undefined, referrer);
  if (api) return;
  const there =
    fieldsOf(repository.manifest(fallbackTag(subject))?.bytes ?? new Uint8Array()).manifests ?? [];
  const entries = there.map(({ digest }) => contentAt(repository, digest));
  const index = buildIndex([...entries, referrer].map((manifest) => ({ manifest })));
  put({ repository: () => repository }, '', fallbackTag(subject), index);
}

function contentAt(repository: LocalRepository, digest: Content['descriptor']['digest']): Content {
  const { bytes = new Uint8Array(), mediaType = '' } = repository.manifest(digest) ?? {};
  return { descriptor: { mediaType, digest, size: bytes.byteLength }, bytes, blobs: [], children: [] };
}

/** What a registry says about a digest when it is asked as clients do. */
async function referrersAt(
  registry: LocalRegistry,
  path: string,
  { descriptor }: Content,
): Promise<string[]> {
  const api = registry.behaviour.referrersApi;
  const what = api ? `referrers/${descriptor.digest}` : `manifests/${descriptor.digest.replace(':', '-')}`;
  const answer = await fetch(`${registry.url}/v2/${path}/${what}`, {
    headers: { accept: 'application/vnd.oci.image.index.v1+json' },
  });
  if (answer.status === 404) return [];
  const { manifests } = (await answer.json()) as { manifests: { digest: string }[] };
  return manifests.map(({ digest }) => digest).sort();
}

const digestsOf = (...contents: readonly Content[]) =>
  contents.map(({ descriptor }) => descriptor.digest).sort();

describe.each([
  { from: 'the referrers API', fromApi: true, to: 'the referrers API', toApi: true },
  { from: 'the referrers API', fromApi: true, to: 'the tag schema', toApi: false },
  { from: 'the tag schema', fromApi: false, to: 'the referrers API', toApi: true },
  { from: 'the tag schema', fromApi: false, to: 'the tag schema', toApi: false },
])('from $from to $to', ({ fromApi, toApi }) => {
  beforeEach(() => {
    world.plain.behaviour.referrersApi = fromApi;
    world.other.behaviour.referrersApi = toApi;
  });

  it('brings what is about a manifest, about its children, and about that', async () => {
    const source = world.plain.repository('acme/app');
    const index = buildMultiPlatform('app', platforms);
    const [child] = index.children;
    if (child === undefined) throw new Error('an index of two platforms has children');
    const sbom = referrerOf(index, sbomType);
    const signature = referrerOf(sbom, signatureType);
    const ofChild = referrerOf(child, signatureType);
    put(world.plain, 'acme/app', '1.0', index);
    for (const [subject, referrer] of [
      [index, sbom],
      [sbom, signature],
      [child, ofChild],
    ] as const)
      attach(source, subject, referrer, fromApi);

    expect(told(await world.sync(betweenRegistries))).toEqual(['1.0 copied (new tag)']);
    expect(await referrersAt(world.other, 'app', index)).toEqual(digestsOf(sbom));
    expect(await referrersAt(world.other, 'app', sbom)).toEqual(digestsOf(signature));
    expect(await referrersAt(world.other, 'app', child)).toEqual(digestsOf(ofChild));
    expect(told(await world.sync(betweenRegistries))).toEqual(['1.0 unchanged']);
  });

  it('keeps what the target alone knows', async () => {
    const content = buildManifest({ seed: 'signed on both sides' });
    const [theirs, ours] = [referrerOf(content, sbomType), referrerOf(content, signatureType)];
    put(world.plain, 'acme/app', '1.0', content);
    attach(world.plain.repository('acme/app'), content, theirs, fromApi);
    put(world.other, 'app', undefined, content);
    attach(world.other.repository('app'), content, ours, toApi);
    await world.sync(betweenRegistries);
    expect(await referrersAt(world.other, 'app', content)).toEqual(digestsOf(theirs, ours));
  });
});

describe('referrers on both sides with more annotations than an index may hold', () => {
  it('are all listed by the tag schema, without them', async () => {
    world.plain.behaviour.referrersApi = true;
    world.other.behaviour.referrersApi = false;
    const content = buildManifest({ seed: 'much is said' });
    const annotations = { text: 'x'.repeat(1_000_000) };
    const referrers = Array.from({ length: 5 }, (_, index) =>
      referrerOf(content, sbomType, `${index}`, annotations),
    );
    put(world.plain, 'acme/app', '1.0', content);
    put(world.other, 'app', undefined, content);
    for (const referrer of referrers.slice(0, 3))
      attach(world.plain.repository('acme/app'), content, referrer, true);
    const ours = referrers.slice(3).map((manifest) => ({ manifest, annotations }));
    put(world.other, 'app', fallbackTag(content), buildIndex(ours));
    expect(told(await world.sync(betweenRegistries))).toEqual(['1.0 copied (new tag)']);
    expect(await referrersAt(world.other, 'app', content)).toEqual(digestsOf(...referrers));
    expect(told(await world.sync(betweenRegistries))).toEqual(['1.0 unchanged']);
  });
});

describe('tags of cosign', () => {
  it('are brought with what they are about, and neither planned nor counted as tags', async () => {
    const content = buildManifest({ seed: 'signed' });
    await world.hub.push('acme/app', '1.0', content);
    for (const kind of ['sig', 'att', 'sbom'] as const) {
      const tag = cosignTag(content.descriptor.digest, kind);
      await world.hub.push('acme/app', tag, cosignSignature(content.descriptor.digest, kind));
    }
    const rules = '- { source: docker.io/acme/app, target: $acr/app, tags: { newest: 1 } }';
    expect(told(await world.sync(rules))).toEqual(['1.0 copied (new tag)']);
    expect(world.acr.repository('app').tagNames()).toEqual(world.hub.repository('acme/app').tagNames());
  });

  it('about a signature are brought too', async () => {
    const content = buildManifest({ seed: 'signed twice' });
    const signature = cosignSignature(content.descriptor.digest);
    const tag = cosignTag(signature.descriptor.digest, 'sig');
    await world.hub.push('acme/app', '1.0', content);
    await world.hub.push('acme/app', cosignTag(content.descriptor.digest, 'sig'), signature);
    await world.hub.push('acme/app', tag, cosignSignature(signature.descriptor.digest));
    await world.sync(toAcr);
    expect(world.acr.repository('app').tagNames()).toContain(tag);
  });

  it('stay where the rule leaves referrers behind', async () => {
    const content = buildManifest({ seed: 'unsigned' });
    await world.hub.push('acme/app', '1.0', content);
    const { digest } = content.descriptor;
    await world.hub.push('acme/app', cosignTag(digest, 'sig'), cosignSignature(digest));
    await world.sync('- { source: docker.io/acme/app, target: $acr/app, referrers: false }');
    expect(world.acr.repository('app').tagNames()).toEqual(['1.0']);
  });
});

describe('a signature made after the fact', () => {
  const content = buildManifest({ seed: 'signed later' });
  const { digest } = content.descriptor;
  const signatureTag = cosignTag(digest, 'sig');

  it('shows in the listing of Docker Hub, is brought alone, and then costs nothing', async () => {
    await world.hub.push('acme/app', '1.0', content);
    await world.sync(toAcr);
    const signature = cosignSignature(digest);
    await world.hub.push('acme/app', signatureTag, signature);
    world.forgetRequests();
    const pulls = world.hub.pulls;
    expect(told(await world.sync(toAcr))).toEqual(['1.0 copied (new referrers)']);
    expect(world.acr.repository('app').digestOf(signatureTag)).toBe(signature.descriptor.digest);
    expect(world.hub.pulls - pulls).toBe(1);
    expect(movedTags()).toEqual([signatureTag]);

    await expectIdle();
  });

  it('may be another one under the same tag', async () => {
    await world.hub.push('acme/app', '1.0', content);
    await world.hub.push('acme/app', signatureTag, cosignSignature(digest, 'first'));
    await world.sync(toAcr);
    const second = cosignSignature(digest, 'second');
    await world.hub.push('acme/app', signatureTag, second);
    expect(told(await world.sync(toAcr))).toEqual(['1.0 copied (new referrers)']);
    expect(world.acr.repository('app').digestOf(signatureTag)).toBe(second.descriptor.digest);
    await expectIdle();
  });

  it('may be the one again that it was before', async () => {
    await world.hub.push('acme/app', '1.0', content);
    const [first, second] = ['first', 'second'].map((seed) => cosignSignature(digest, seed));
    for (const signature of [first, second, first]) {
      if (signature !== undefined) await world.hub.push('acme/app', signatureTag, signature);
      await world.sync(toAcr);
    }
    expect(world.acr.repository('app').digestOf(signatureTag)).toBe(first?.descriptor.digest);
    expect(told(await world.verify(toAcr))).toEqual(['1.0 same']);
    await expectIdle();
  });

  it('may be about one platform of an index', async () => {
    const index = buildMultiPlatform('signed by platform', platforms);
    const child = index.children[0]?.descriptor.digest ?? digest;
    await world.hub.push('acme/app', '1.0', index);
    await world.sync(toAcr);
    await world.hub.push('acme/app', cosignTag(child, 'sig'), cosignSignature(child));
    world.forgetRequests();
    expect(told(await world.sync(toAcr))).toEqual([
      '1.0 unchanged',
      `${child.slice(0, 13)} copied (new referrers)`,
    ]);
    expect(movedTags()).toEqual([cosignTag(child, 'sig')]);
    await expectIdle();
  });

  it('may come together with a signature of itself', async () => {
    const signature = cosignSignature(digest);
    const ofSignature = cosignTag(signature.descriptor.digest, 'sig');
    await world.hub.push('acme/app', '1.0', content);
    await world.sync(toAcr);
    await world.hub.push('acme/app', signatureTag, signature);
    await world.hub.push('acme/app', ofSignature, cosignSignature(signature.descriptor.digest));
    await world.sync(toAcr);
    expect(world.acr.repository('app').tagNames()).toContain(ofSignature);
    await expectIdle();
  });

  describe('about an SBOM that comes late itself', () => {
    const sbom = referrerOf(content, sbomType);
    const ofSbom = cosignTag(sbom.descriptor.digest, 'sig');
    const atTarget = () => world.acr.repository('app').tagNames();

    beforeEach(async () => {
      await world.hub.push('acme/app', '1.0', content);
      await world.sync(toAcr);
      attach(world.hub.repository('acme/app'), content, sbom, false);
      await world.hub.push('acme/app', ofSbom, cosignSignature(sbom.descriptor.digest));
    });

    it('is brought after a plan that people looked at', async () => {
      await world.plan(toAcr);
      await world.sync(toAcr);
      expect(atTarget()).toContain(ofSbom);
      await expectIdle();
    });

    it('is brought after a copy that failed', async () => {
      world.hub.registry.intercept = ({ method, url }) =>
        method === 'GET' && url.includes('/manifests/') ? { kind: 'answer', status: 503 } : undefined;
      await world.sync(toAcr);
      world.hub.registry.intercept = undefined;
      await world.sync(toAcr);
      expect(atTarget()).toContain(ofSbom);
      await expectIdle();
    });

    it('is missed by a check', async () => {
      await world.sync(toAcr);
      world.acr.repository('app').removeTag(ofSbom);
      expect(told(await world.verify(toAcr))).toEqual(['1.0 incomplete']);
    });
  });

  it('about what a waiting request brings is not put aside for good', async () => {
    const app = await startApp({
      rules: '\n  - { name: app, source: docker.io/acme/app, target: $target/app }',
    });
    const sbom = referrerOf(content, sbomType);
    const ofSbom = cosignTag(sbom.descriptor.digest, 'sig');
    const planned = async () => {
      await app.schedule();
      const [plan] = app.queues.messages.splice(-1);
      if (plan !== undefined) await handOver(app.engine(), plan);
    };
    await app.hub.push('acme/app', '1.0', content);
    attach(app.hub.repository('acme/app'), content, sbom, false);
    await planned();
    // The request for the tag waits. Meanwhile its SBOM is signed, and another plan comes.
    await app.hub.push('acme/app', ofSbom, cosignSignature(sbom.descriptor.digest));
    await planned();
    await app.deliver();
    await app.schedule();
    await app.deliver();
    expect(app.target.repository('app').tagNames()).toContain(ofSbom);
    await app.close();
  });

  it('about what is not at the target is asked for once', async () => {
    const elsewhere = buildManifest({ seed: 'never tagged' }).descriptor.digest;
    await world.hub.push('acme/app', '1.0', content);
    await world.hub.push('acme/app', cosignTag(elsewhere, 'sig'), cosignSignature(elsewhere));
    await world.sync(toAcr);
    await world.sync(toAcr);
    expect(world.acr.repository('app').tagNames()).toEqual(['1.0']);
    await expectIdle();
  });

  describe.each([
    { where: 'Docker Hub', rules: '- { source: "docker.io/acme/app:1.0", target: $acr/app }' },
    { where: 'a registry', rules: '- { source: "$plain/acme/app:1.0", target: $acr/app }' },
  ])('about a tag that a rule names, at $where', ({ where, rules }) => {
    const repository = () => (where === 'Docker Hub' ? world.hub : world.plain).repository('acme/app');
    const sbom = referrerOf(content, sbomType);
    const ofSignature = cosignTag(cosignSignature(digest).descriptor.digest, 'att');
    const ofSbom = cosignTag(sbom.descriptor.digest, 'sig');

    it('is brought with what is said about it, and then costs HEADs alone', async () => {
      world.plain.behaviour.referrersApi = false;
      put({ repository }, '', '1.0', content);
      await world.sync(rules);
      put({ repository }, '', signatureTag, cosignSignature(digest));
      put({ repository }, '', ofSignature, cosignSignature(cosignSignature(digest).descriptor.digest));
      attach(repository(), content, sbom, false);
      put({ repository }, '', ofSbom, cosignSignature(sbom.descriptor.digest));
      expect(told(await world.sync(rules))).toEqual(['1.0 copied (new referrers)']);
      expect(world.acr.repository('app').tagNames()).toEqual(
        expect.arrayContaining([signatureTag, ofSignature, ofSbom]),
      );
      await expectHeads(rules);
    });

    it('is not brought a second time after it came with the tag', async () => {
      world.plain.behaviour.referrersApi = false;
      put({ repository }, '', '1.0', content);
      put({ repository }, '', signatureTag, cosignSignature(digest));
      attach(repository(), content, sbom, false);
      expect(told(await world.sync(rules))).toEqual(['1.0 copied (new tag)']);
      await expectHeads(rules);
    });
  });

  async function expectHeads(rules: string): Promise<void> {
    world.forgetRequests();
    expect(told(await world.sync(rules))).toEqual(['1.0 unchanged']);
    const about = world.sourceRequests.filter(({ url }) => url.includes('/manifests/'));
    expect(new Set(about.map(({ method }) => method))).toEqual(new Set(['HEAD']));
    expect(new Set(about.map(({ url }) => url)).size).toBe(5);
  }

  it('about a locked tag is brought all the same', async () => {
    await world.hub.push('acme/app', '1.0', content);
    await world.sync(toAcr);
    world.acr.setTagAttributes('app', '1.0', { writeEnabled: false });
    await world.hub.push('acme/app', signatureTag, cosignSignature(digest));
    expect(told(await world.sync(toAcr))).toEqual(['1.0 copied (new referrers)']);
    expect(world.acr.repository('app').tagNames()).toContain(signatureTag);
  });

  it('shows at a source that lists names alone by one HEAD', async () => {
    put(world.plain, 'acme/app', '1.0', content);
    await world.sync(betweenRegistries);
    put(world.plain, 'acme/app', signatureTag, cosignSignature(digest));
    expect(told(await world.sync(betweenRegistries))).toEqual(['1.0 copied (new referrers)']);
    world.forgetRequests();
    expect(told(await world.sync(betweenRegistries))).toEqual(['1.0 unchanged']);
    expect(world.sourceRequests.filter(({ method }) => method === 'HEAD')).toHaveLength(2);
    expect(world.sourceRequests.filter(({ url }) => /manifests|referrers/.test(url))).toHaveLength(2);
  });

  /** One page of either listing, and nothing else. */
  async function expectIdle(): Promise<void> {
    world.forgetRequests();
    const report = await world.sync(toAcr);
    expect(told(report).filter((line) => !line.endsWith(' unchanged'))).toEqual([]);
    expect(world.sourceRequests.map(({ url }) => url.replace(/\?.*/, ''))).toEqual([
      '/v2/namespaces/acme/repositories/app/tags',
    ]);
    expect(world.targetRequests.filter(({ url }) => url.startsWith('/v2/'))).toEqual([]);
    expect(report.totals.pulls).toBe(0);
  }

  function movedTags(): string[] {
    return world.targetRequests
      .filter(({ method, url }) => method === 'PUT' && /\/manifests\/[^:]*$/.test(url))
      .map(({ url }) => url.replace(/.*\//, ''));
  }
});

describe('an index that lost platforms', () => {
  const rules = '- { source: docker.io/acme/app, target: $acr/app, platforms: [linux/arm64] }';

  it('has no referrers of the original; its children keep theirs', async () => {
    const index = buildMultiPlatform('derived', platforms);
    const [dropped, kept] = index.children.map((child) => child.descriptor.digest);
    if (dropped === undefined || kept === undefined) throw new Error('two platforms are two children');
    await world.hub.push('acme/app', '1.0', index);
    for (const digest of [index.descriptor.digest, dropped, kept]) {
      await world.hub.push('acme/app', cosignTag(digest, 'sig'), cosignSignature(digest));
    }
    await world.sync(rules);
    expect(world.acr.repository('app').tagNames()).toEqual(['1.0', cosignTag(kept, 'sig')]);
    await world.sync(rules);
    expect(told(await world.sync(rules))).toEqual(['1.0 unchanged']);
  });

  it('gets a late signature of a child that it keeps', async () => {
    const arm = buildManifest({ seed: 'kept', platform: arm64 });
    const index = buildIndex([
      { manifest: buildManifest({ seed: 'dropped', platform: amd64 }), platform: amd64 },
      { manifest: arm, platform: arm64 },
      attestationOf(arm),
    ]);
    await world.hub.push('acme/app', '1.0', index);
    await world.sync(rules);
    const { digest } = arm.descriptor;
    await world.hub.push('acme/app', cosignTag(digest, 'sig'), cosignSignature(digest));
    const pulls = world.hub.pulls;
    await world.sync(rules);
    expect(world.acr.repository('app').tagNames()).toContain(cosignTag(digest, 'sig'));
    expect(world.hub.pulls - pulls).toBe(1);
    expect(told(await world.sync(rules))).toEqual(['1.0 unchanged']);
  });
});

describe('more than anybody has', () => {
  it('a thousand referrers of one tag are the limit, and the tag fails with it', async () => {
    world.plain.behaviour.referrersApi = true;
    const content = buildManifest({ seed: 'popular' });
    put(world.plain, 'acme/app', '1.0', content);
    for (let index = 0; index <= 1000; index += 1) {
      put(world.plain, 'acme/app', undefined, referrerOf(content, sbomType, `referrer ${index}`));
    }
    const report = await world.sync(betweenRegistries);
    expect(told(report)).toEqual(['1.0 failed (ERR_TOO_LARGE)']);
    expect(world.other.repository('app').tagNames()).toEqual([]);
  });

  it('signatures of signatures are followed four deep', async () => {
    const content = buildManifest({ seed: 'deep' });
    await world.hub.push('acme/app', '1.0', content);
    let { digest } = content.descriptor;
    const tags: string[] = [];
    for (let depth = 0; depth < 6; depth += 1) {
      const signature = cosignSignature(digest);
      tags.push(cosignTag(digest, 'sig'));
      await world.hub.push('acme/app', cosignTag(digest, 'sig'), signature);
      digest = signature.descriptor.digest;
    }
    await world.sync(toAcr);
    expect(world.acr.repository('app').tagNames()).toEqual(['1.0', ...tags.slice(0, 4)].sort());
    expect(told(await world.sync(toAcr))).toEqual(['1.0 unchanged']);
  });
});
