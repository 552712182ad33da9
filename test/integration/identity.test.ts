/** The Azure identity whose endpoint falls silent, for all that needs its tokens: storage, queues, registry. */
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import type { TokenCredential } from '@azure/core-auth';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { createAcr } from '../../lib/acr.ts';
import { azureIdentity } from '../../lib/identity.ts';
import { openBlobStores } from '../../lib/storage/blob.ts';
import { openQueues } from '../../lib/storage/queue.ts';
import { type LocalAcr, startAcr } from '../local/acr.ts';
import { type Azurite, startAzurite } from '../local/azurite.ts';
import { buildManifest, put } from '../local/content.ts';
import { type LocalIdentity, startIdentity } from '../local/identity.ts';
import { makeCertificate } from '../local/tls.ts';
import { settingsFor } from './registry/support.ts';

const certificate = makeCertificate();
const trusted = getCACertificates('default');
let azurite: Azurite;
let acr: LocalAcr;
let identity: LocalIdentity;

beforeAll(async () => {
  setDefaultCACertificates([...trusted, certificate.cert]);
  [azurite, acr, identity] = await Promise.all([
    startAzurite({ tls: certificate }),
    startAcr({ certificate }),
    startIdentity(),
  ]);
  // The SDK reads them once in a process.
  for (const [name, value] of Object.entries(identity.env)) vi.stubEnv(name, value);
  put(acr, 'a/b', 'v1', buildManifest());
  await openBlobStores(azurite, { create: true }).state.put('key', Buffer.from('there'));
  await openQueues(azurite, { create: true }).send('copy-requests', {});
});
afterAll(async () => {
  vi.unstubAllEnvs();
  await Promise.all([azurite.close(), acr.close(), identity.close()]);
  setDefaultCACertificates(trusted);
  certificate.remove();
});
beforeEach(() => {
  identity.intercept = undefined;
  identity.requests.length = 0;
});

let clients = 0;
/** An identity of its own, which no other test has a token of. */
const freshIdentity = (patienceMs?: number) => azureIdentity(`client-${++clients}`, patienceMs);

/** The endpoint takes its next requests and never answers them. */
function fallSilent(requests = Number.POSITIVE_INFINITY): void {
  let left = requests;
  identity.intercept = () => (left-- > 0 ? new Promise(() => {}) : undefined);
}

const users = {
  documents: async (credential: TokenCredential) => {
    const { state } = openBlobStores({ blobServiceUri: azurite.blobEndpoint, credential });
    return (await state.get('key'))?.bytes.toString();
  },
  queues: (credential: TokenCredential) =>
    openQueues({ queueServiceUri: azurite.queueEndpoint, credential }).approximateCount('copy-requests'),
  'the registry': async (credential: TokenCredential) => {
    const settings = settingsFor(acr.url, {
      kind: 'acr',
      identity: true,
      audience: 'https://containerregistry.azure.net',
      ca: certificate.caFile,
    });
    const registry = createAcr({ settings, identity: credential });
    const page = await registry.repository('a/b').listTags();
    await registry.close();
    return page?.tags.map(({ name }) => name);
  },
};
const answers = { documents: 'there', queues: 1, 'the registry': ['v1'] };

describe.each(Object.keys(users) as (keyof typeof users)[])('for %s', (name) => {
  it('an identity that is silent once is asked again', async () => {
    fallSilent(1);
    expect(await users[name](freshIdentity(100))).toEqual(answers[name]);
    expect(identity.requests).toHaveLength(2);
  });

  it('an identity that stays silent is an error that may pass, and the next request asks it anew', async () => {
    fallSilent();
    const credential = freshIdentity(10);
    await expect(users[name](credential)).rejects.toMatchObject({ code: 'ERR_IDENTITY', retryable: true });
    identity.intercept = undefined;
    expect(await users[name](credential)).toEqual(answers[name]);
  });
});

it('a caller who leaves is let go while the identity is silent', async () => {
  fallSilent();
  const { state } = openBlobStores({
    blobServiceUri: azurite.blobEndpoint,
    credential: freshIdentity(),
  });
  const reason = new Error('has better things to do');
  const caller = new AbortController();
  const answer = state.get('key', { signal: caller.signal });
  await vi.waitUntil(() => identity.requests.length > 0);
  caller.abort(reason);
  await expect(answer).rejects.toBe(reason);
});

it('what one caller gives up comes all the same for the others who wait for the token', async () => {
  const asked = Promise.withResolvers<void>();
  const released = Promise.withResolvers<void>();
  identity.intercept = async () => {
    asked.resolve();
    await released.promise;
    return undefined;
  };
  const { state } = openBlobStores({
    blobServiceUri: azurite.blobEndpoint,
    credential: freshIdentity(),
  });
  const caller = new AbortController();
  const first = state.get('key', { signal: caller.signal });
  await asked.promise;
  const second = state.get('key');
  caller.abort(new Error('left'));
  await expect(first).rejects.toThrow('left');
  released.resolve();
  expect((await second)?.bytes.toString()).toBe('there');
  expect(identity.requests).toHaveLength(1);
});

it('of two answers the first counts, also where it is that to the first question', async () => {
  const second = Promise.withResolvers<void>();
  identity.intercept = async () => {
    if (identity.requests.length > 1) {
      second.resolve();
      return new Promise(() => {});
    }
    await second.promise;
    return undefined;
  };
  expect(await users.documents(freshIdentity(1000))).toBe('there');
});
