/** Listings by malicious hands: whatever JSON the pages are made of, they are tags, or an error with a code. */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createAcr } from '../../../lib/acr.ts';
import { createDockerHub } from '../../../lib/dockerhub.ts';
import { HubferryError } from '../../../lib/errors.ts';
import { isTag } from '../../../lib/oci/reference.ts';
import type { TagLister } from '../../../lib/oci/roles.ts';
import { createRegistry } from '../../../lib/registry/registry.ts';
import { type LocalServer, reply, startServer } from '../../local/server.ts';
import { fakeClock, settingsFor } from '../registry/support.ts';

let server: LocalServer;
let body = '';

beforeAll(async () => {
  server = await startServer(() => reply(200, { 'content-type': 'application/json' }, body), { log: false });
});
afterAll(() => server.close());

const name = fc.oneof(
  fc.string(),
  fc.constantFrom('latest', '__proto__', 'constructor', '../x', 'a\r\nb', ''),
  fc.string({ unit: 'binary' }),
);
const digest = fc.oneof(
  fc.string(),
  fc.constant(`sha256:${'a'.repeat(64)}`),
  fc.constant(null),
  fc.integer(),
);
const entry = fc.oneof(
  fc.jsonValue(),
  fc.record(
    {
      name,
      digest,
      tag_last_pushed: fc.oneof(
        fc.string(),
        fc.date({ noInvalidDate: true }).map((date) => date.toISOString()),
      ),
      images: fc.oneof(fc.jsonValue(), fc.array(fc.record({ os: fc.string(), architecture: fc.string() }))),
      changeableAttributes: fc.jsonValue(),
    },
    { requiredKeys: [] },
  ),
);
const entries = fc.oneof(fc.array(entry), fc.array(name), fc.jsonValue());
const page = fc.oneof(
  fc.jsonValue(),
  fc.record(
    {
      results: entries,
      tags: entries,
      imageName: fc.oneof(fc.string(), fc.jsonValue()),
      next: fc.oneof(fc.webUrl(), fc.string(), fc.jsonValue()),
      count: fc.oneof(fc.integer(), fc.double(), fc.jsonValue()),
      __proto__: fc.jsonValue(),
    },
    { requiredKeys: [] },
  ),
);

const listers: readonly [string, () => { lister: TagLister; close(): Promise<void> }][] = [
  [
    "Docker Hub's web API",
    () => {
      const settings = { ...settingsFor(server.url), kind: 'dockerhub' as const, hubApi: server.url };
      const hub = createDockerHub({ settings, retries: 0, clock: fakeClock() });
      return { lister: hub.repository('acme/app'), close: () => hub.close() };
    },
  ],
  [
    'ACR',
    () => {
      const login = { username: 'u', password: 'p' };
      const acr = createAcr({
        settings: { ...settingsFor(server.url), ...login },
        retries: 0,
        clock: fakeClock(),
      });
      return { lister: acr.repository('app'), close: () => acr.close() };
    },
  ],
  [
    'a registry',
    () => {
      const registry = createRegistry({ settings: settingsFor(server.url), retries: 0, clock: fakeClock() });
      return { lister: registry.repository('app', { access: 'read' }), close: () => registry.close() };
    },
  ],
];

describe.each(listers)('a page of %s', (_, open) => {
  it('is tags that are tags, with digests that are digests, or an error with a code', async () => {
    const { lister, close } = open();
    try {
      await fc.assert(
        fc.asyncProperty(page, async (content) => {
          body = JSON.stringify(content);
          const found = await lister.listTags({}).catch((error: unknown) => {
            expect(error).toBeInstanceOf(HubferryError);
            return undefined;
          });
          for (const tag of found?.tags ?? []) {
            expect(isTag(tag.name)).toBe(true);
            if (tag.digest !== undefined) expect(tag.digest).toMatch(/^sha(256|512):[a-f0-9]+$/);
            if (tag.pushedAt !== undefined) expect(Number.isFinite(tag.pushedAt)).toBe(true);
          }
        }),
        { numRuns: 100 },
      );
    } finally {
      await close();
    }
  });
});

describe('the repositories of a namespace', () => {
  it('are only those whose names are names: none leads elsewhere, at the source or at the target', async () => {
    const settings = { ...settingsFor(server.url), kind: 'dockerhub' as const, hubApi: server.url };
    const hub = createDockerHub({ settings, retries: 0, clock: fakeClock() });
    const odd = ['../victim', '..', 'a/b', 'A', 'a?b', 'a#b', 'a%2fb', '', ' ', 'a:b', '@x', 'a'.repeat(300)];
    body = JSON.stringify({ results: [...odd, 'app', 'my-app_2.x'].map((name) => ({ name })) });
    try {
      expect(await Array.fromAsync(hub.listNamespace('acme'))).toEqual(['acme/app', 'acme/my-app_2.x']);
    } finally {
      await hub.close();
    }
  });
});
