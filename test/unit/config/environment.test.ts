import { describe, expect, it } from 'vitest';
import { readAppSettings } from '../../../lib/config/environment.ts';
import { readRules } from '../../../lib/config/rules.ts';
import { errorOf } from './read.ts';

const reference = '@Microsoft.KeyVault(VaultName=v;SecretName=hub)';
const storage = { HubferryStorage: 'UseDevelopmentStorage=true' };

describe('settings', () => {
  it('have defaults for all but the storage', () => {
    const { notifyUrl, ...settings } = readAppSettings(storage);
    expect(settings).toEqual({
      storage: { kind: 'connection', connectionString: 'UseDevelopmentStorage=true' },
      syncConfig: undefined,
      azureClientId: undefined,
      copyDeadline: 8 * 60_000,
      pullReserve: 20,
      pruneLimit: 0.2,
      notifyOn: new Set(['failed', 'parked', 'recovered']),
      repositoryPrefixes: [],
      variables: {},
    });
    expect(notifyUrl()).toBeUndefined();
  });

  it('are read, and empty ones count as left out', () => {
    const settings = readAppSettings({
      ...storage,
      SYNC_CONFIG: 'rules: []',
      AZURE_CLIENT_ID: 'id',
      COPY_DEADLINE: '90s',
      PULL_RESERVE: '0',
      PRUNE_LIMIT: '',
      NOTIFY_ON: 'changed, failed',
      NOTIFY_URL: 'https://hooks.example.com/x?code=1',
      REPOSITORY_PREFIXES: 'mirror/,base/',
    });
    expect(settings).toMatchObject({
      syncConfig: 'rules: []',
      azureClientId: 'id',
      copyDeadline: 90_000,
      pullReserve: 0,
      pruneLimit: 0.2,
      notifyOn: new Set(['changed', 'failed']),
      repositoryPrefixes: ['mirror/', 'base/'],
    });
    expect(settings.notifyUrl()).toBe('https://hooks.example.com/x?code=1');
  });

  it.each([
    ['20%', 0.2],
    ['0.35', 0.35],
    ['0', 0],
    ['100%', 1],
    ['12.5%', 0.125],
  ])('PRUNE_LIMIT %s', (text, share) => {
    expect(readAppSettings({ ...storage, PRUNE_LIMIT: text }).pruneLimit).toBeCloseTo(share);
  });

  it.each([
    ['COPY_DEADLINE', '8'],
    ['COPY_DEADLINE', '1s'],
    ['COPY_DEADLINE', '10m'],
    ['PULL_RESERVE', '-1'],
    ['PULL_RESERVE', 'ten'],
    ['PRUNE_LIMIT', '20'],
    ['PRUNE_LIMIT', '101%'],
    ['PRUNE_LIMIT', 'all'],
    ['NOTIFY_ON', 'failed,errors'],
    ['REPOSITORY_PREFIXES', 'Mirror/'],
  ])('%s=%s is refused by its name', (name, value) => {
    expect(errorOf(() => readAppSettings({ ...storage, [name]: value }))).toMatchObject({
      code: 'ERR_SETTING',
      path: name,
      message: expect.stringContaining(`The setting ${name} is wrong: expected`),
    });
  });
});

describe('storage', () => {
  const identity = {
    HubferryStorage__blobServiceUri: 'https://a.blob.core.windows.net/',
    HubferryStorage__queueServiceUri: 'https://a.queue.core.windows.net',
    HubferryStorage__credential: 'managedidentity',
  };

  it('is reached by identity, with or without the id of a client', () => {
    const expected = {
      kind: 'identity',
      blobServiceUri: 'https://a.blob.core.windows.net',
      queueServiceUri: 'https://a.queue.core.windows.net',
    };
    expect(readAppSettings(identity).storage).toEqual({ ...expected, clientId: undefined });
    expect(readAppSettings({ ...identity, HubferryStorage__clientId: 'id' }).storage).toEqual({
      ...expected,
      clientId: 'id',
    });
  });

  it('is the one of the exact name where both are set, as the host has it', () => {
    expect(readAppSettings({ ...identity, ...storage }).storage.kind).toBe('connection');
  });

  it.each([
    ['HubferryStorage__blobServiceUri', undefined, /is missing, and so is HubferryStorage/],
    ['HubferryStorage__queueServiceUri', undefined, /is missing/],
    ['HubferryStorage__queueServiceUri', 'a.queue.core.windows.net', /must be the URL/],
    [
      'HubferryStorage__blobServiceUri',
      'https://a.blob.core.windows.net/?sv=1&sig=s3cret',
      /without user or query/,
    ],
    ['HubferryStorage__credential', 'workloadidentity', /must be managedidentity/],
  ])('%s=%s is refused by its name', (name, value, message) => {
    const error = errorOf(() => readAppSettings({ ...identity, [name]: value }));
    expect(error).toMatchObject({ code: 'ERR_SETTING', path: name, message: expect.stringMatching(message) });
    expect(error.message).not.toContain('s3cret');
  });
});

describe('secrets', () => {
  it('that rules may expand are all that rules get to see', () => {
    const env = {
      ...storage,
      DOCKERHUB_TOKEN: 't',
      SECRET_A: 'a',
      AzureWebJobsStorage: 'key',
      NOTIFY_URL: 'https://x',
    };
    expect(readAppSettings(env).variables).toEqual({ DOCKERHUB_TOKEN: 't', SECRET_A: 'a' });
  });

  it('that are not resolved are an error only where rules name them', () => {
    const { variables: env } = readAppSettings({ ...storage, DOCKERHUB_TOKEN: reference });
    const options = { env, variables: 'prefixed', file: 'sync.yaml' } as const;
    expect(readRules('rules: []', options).rules).toEqual([]);
    const text = 'registries:\n  docker.io: {username: u, password: $DOCKERHUB_TOKEN}\nrules: []';
    const error = errorOf(() => readRules(text, options));
    expect(error).toMatchObject({ code: 'ERR_SECRET_UNRESOLVED', line: 2 });
    expect(error.message).toMatch(/DOCKERHUB_TOKEN/);
    expect(error.message).not.toContain('VaultName');
  });

  it('NOTIFY_URL that is not resolved, or is no URL, is an error when it is used', () => {
    for (const [value, code] of [
      [reference, 'ERR_SECRET_UNRESOLVED'],
      ['hooks', 'ERR_SETTING'],
      ['file:///etc/passwd', 'ERR_SETTING'],
    ]) {
      const settings = readAppSettings({ ...storage, NOTIFY_URL: value });
      expect(() => settings.notifyUrl()).toThrow(
        expect.objectContaining({ code, message: expect.stringContaining('NOTIFY_URL') }),
      );
    }
  });
});
