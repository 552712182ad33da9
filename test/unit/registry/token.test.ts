import { describe, expect, it } from 'vitest';
import { parseChallenges } from '../../../lib/registry/challenge.ts';
import { systemClock } from '../../../lib/registry/clock.ts';
import { Endpoint } from '../../../lib/registry/endpoint.ts';
import { createRegistryAuthorizer, fixedCredential } from '../../../lib/registry/token.ts';
import { settingsFor } from '../../integration/registry/support.ts';

async function challenge(endpoint: string, realm: string): Promise<boolean> {
  const authorizer = createRegistryAuthorizer({
    endpoint: new Endpoint(settingsFor(endpoint)),
    mayReach: (url) => url.hostname !== '10.0.0.1',
    credentials: fixedCredential({ username: 'u', password: 'p' }),
    clock: systemClock,
  });
  return authorizer.challenged(parseChallenges([`Bearer realm="${realm}"`]), undefined, {
    scopes: [],
    signal: undefined,
    observer: undefined,
    send: () => Promise.reject(new Error('nothing is to be sent')),
  });
}

describe('a realm', () => {
  it('over TLS is asked, wherever it is', async () => {
    expect(await challenge('https://registry.example', 'https://auth.example/token')).toBe(true);
  });

  it.each([
    'http://auth.example/token',
    'http://registry.example/token',
    'https://10.0.0.1/',
    'ftp://auth.example/',
    'auth',
  ])('such as %s gets no credentials from a registry that is spoken to over TLS', async (realm) => {
    await expect(challenge('https://registry.example', realm)).rejects.toMatchObject({
      code: 'ERR_REDIRECT',
    });
  });

  it('over plain HTTP is asked where the registry is spoken to without TLS, or is on this machine', async () => {
    expect(await challenge('http://registry.example', 'http://auth.example/token')).toBe(true);
    expect(await challenge('https://localhost:5000', 'http://localhost:5001/token')).toBe(true);
  });
});
