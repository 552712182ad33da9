import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { rootCertificates } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { read } from './read.ts';

function settings(name: string, registries: Readonly<Record<string, unknown>> = {}) {
  const [host = '', ...path] = name.split('/');
  return read(JSON.stringify({ registries, rules: [] })).registryFor(
    { host, path: path.join('/') },
    'source',
  );
}

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'hubferry-registries-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function fileWith(text: string): string {
  const file = path.join(folder, 'ca.pem');
  writeFileSync(file, text);
  return file;
}

const audience = 'https://containerregistry.azure.net';
const plain = { identity: false, audience, skipTlsVerify: false, allowHttpFallback: false };

describe('without an entry', () => {
  it.each([
    [
      'docker.io/library/nginx',
      { kind: 'dockerhub', endpoint: 'https://registry-1.docker.io', hubApi: 'https://hub.docker.com' },
    ],
    [
      'x.azurecr.io/a',
      { kind: 'acr', endpoint: 'https://x.azurecr.io', identity: true, chunkSize: 8 * 1024 * 1024 },
    ],
    [
      'x.azurecr.cn/a',
      { kind: 'acr', endpoint: 'https://x.azurecr.cn', identity: true, chunkSize: 8 * 1024 * 1024 },
    ],
    [
      'x.azurecr.us/a',
      { kind: 'acr', endpoint: 'https://x.azurecr.us', identity: true, chunkSize: 8 * 1024 * 1024 },
    ],
    ['azurecr.io/a', { kind: 'oci', endpoint: 'https://azurecr.io' }],
    ['x.azurecr.io.evil.com/a', { kind: 'oci', endpoint: 'https://x.azurecr.io.evil.com' }],
    ['ghcr.io/a/b', { kind: 'oci', endpoint: 'https://ghcr.io' }],
    ['registry.example.com:5000/a', { kind: 'oci', endpoint: 'https://registry.example.com:5000' }],
    ['localhost/a', { kind: 'oci', endpoint: 'http://localhost' }],
    ['localhost:5000/a', { kind: 'oci', endpoint: 'http://localhost:5000' }],
    ['127.0.0.1:5000/a', { kind: 'oci', endpoint: 'http://127.0.0.1:5000' }],
    ['127.8.9.10/a', { kind: 'oci', endpoint: 'http://127.8.9.10' }],
    ['[::1]:5000/a', { kind: 'oci', endpoint: 'http://[::1]:5000' }],
    ['127.0.0.1.evil.com/a', { kind: 'oci', endpoint: 'https://127.0.0.1.evil.com' }],
    ['localhost.evil.com/a', { kind: 'oci', endpoint: 'https://localhost.evil.com' }],
  ])('%s', (name, expected) => {
    expect(settings(name)).toEqual({ ...plain, host: name.split('/')[0], ...expected });
  });
});

describe('an entry', () => {
  it('fills in what it leaves out', () => {
    expect(
      settings('mirror.example.com/a', {
        'mirror.example.com': { kind: 'acr', username: 'u', password: 'p' },
      }),
    ).toEqual({
      ...plain,
      host: 'mirror.example.com',
      kind: 'acr',
      endpoint: 'https://mirror.example.com',
      username: 'u',
      password: 'p',
      chunkSize: 8 * 1024 * 1024,
    });
  });

  it('says everything', () => {
    const ca = fileWith(rootCertificates.slice(0, 2).join('\n'));
    const entry = {
      kind: 'dockerhub',
      endpoint: 'http://127.0.0.1:5001/base/',
      hubApi: 'http://127.0.0.1:5002/',
      skipTlsVerify: true,
      ca,
      chunkSize: '32MiB',
    };
    expect(settings('docker.io/a/b', { 'docker.io': entry })).toEqual({
      ...plain,
      host: 'docker.io',
      kind: 'dockerhub',
      endpoint: 'http://127.0.0.1:5001/base',
      hubApi: 'http://127.0.0.1:5002',
      skipTlsVerify: true,
      ca,
      chunkSize: 32 * 1024 * 1024,
    });
  });

  it('names a file of certificates that is there', () => {
    for (const ca of [path.join(folder, 'absent.pem'), fileWith('no certificate')]) {
      expect(() => settings('x.io/a', { 'x.io': { ca } })).toThrow(
        expect.objectContaining({ code: 'ERR_CONFIG', line: 1, path: 'registries["x.io"].ca' }),
      );
    }
  });

  it('names a file of certificates that ends, and is no larger than those of a whole system', () => {
    const [certificate = ''] = rootCertificates;
    const large = fileWith(`${certificate}\n${'#'.repeat(1024 * 1024)}`);
    for (const ca of ['/dev/zero', folder, large]) {
      expect(() => settings('x.io/a', { 'x.io': { ca } })).toThrow(
        expect.objectContaining({ code: 'ERR_CONFIG', path: 'registries["x.io"].ca' }),
      );
    }
    const ca = fileWith(certificate);
    expect(settings('x.io/a', { 'x.io': { ca } }).ca).toBe(ca);
  });

  it.each([
    [5_000_000, 5_000_000],
    ['5000000', 5_000_000],
    ['512KiB', 512 * 1024],
    ['1GiB', 1024 ** 3],
  ])('chunkSize %s', (chunkSize, expected) => {
    expect(settings('ghcr.io/a', { 'ghcr.io': { chunkSize } }).chunkSize).toBe(expected);
  });

  it('for ACR with a username leaves the identity out, and so does `identity: false`', () => {
    expect(settings('x.azurecr.io/a', { 'x.azurecr.io': { username: 'u', password: 'p' } }).identity).toBe(
      false,
    );
    expect(settings('x.azurecr.io/a', { 'x.azurecr.io': { identity: false } }).identity).toBe(false);
  });

  it.each(['net', 'us', 'cn'])('takes the audience of registries in each cloud: %s', (end) => {
    const audience = `https://containerregistry.azure.${end}`;
    expect(settings('x.azurecr.io/a', { 'x.azurecr.io': { audience } })).toMatchObject({
      identity: true,
      audience,
    });
  });

  it.each([
    'https://vault.azure.net',
    'https://management.azure.com',
    'https://containerregistry.azure.net.evil.example',
    'https://containerregistry.azure.net/.default https://vault.azure.net',
    '',
  ])('takes no audience of another service: %j', (audience) => {
    const expected = { code: 'ERR_CONFIG', path: 'registries["x.azurecr.io"].audience' };
    expect(() => settings('x.azurecr.io/a', { 'x.azurecr.io': { audience } })).toThrow(
      expect.objectContaining(expected),
    );
  });

  it.each([
    ['x.azurecr.io', {}],
    ['x.azurecr.us', { endpoint: 'https://x.eastus.geo.azurecr.us' }],
    ['acr.example', { kind: 'acr', endpoint: 'https://x.azurecr.io' }],
    ['acr.example', { kind: 'acr', endpoint: 'http://127.0.0.1:5000' }],
    ['acr.example', { kind: 'acr', endpoint: 'https://localhost:5000' }],
    ['[::1]:5000', { kind: 'acr' }],
  ])('lets the identity log in at Azure and on this machine: %s %j', (host, entry) => {
    expect(settings(`${host}/a`, { [host]: entry }).identity).toBe(true);
  });

  it.each([
    ['x.azurecr.io', { endpoint: 'https://evil.example' }, 'endpoint'],
    ['x.azurecr.io', { endpoint: 'http://x.azurecr.io' }, 'endpoint'],
    ['x.azurecr.io', { endpoint: 'https://x.azurecr.io.evil.example' }, 'endpoint'],
    ['x.azurecr.io', { endpoint: 'https://evilazurecr.io' }, 'endpoint'],
    ['x.azurecr.io', { endpoint: 'https://evil.example/.azurecr.io' }, 'endpoint'],
    ['x.azurecr.io', { endpoint: 'https://127.0.0.1.evil.example' }, 'endpoint'],
    ['evil.example', { kind: 'acr', identity: true, endpoint: 'http://10.0.0.1' }, 'endpoint'],
    ['evil.example', { kind: 'acr' }, 'kind'],
  ])('lets the identity log in nowhere else: %s %j', (host, entry, key) => {
    const expected = { code: 'ERR_CONFIG', path: `registries["${host}"].${key}` };
    expect(() => settings(`${host}/a`, { [host]: entry })).toThrow(expect.objectContaining(expected));
    expect(settings(`${host}/a`, { [host]: { ...entry, identity: false } }).identity).toBe(false);
  });

  it('is frozen, and the same each time', () => {
    const rules = read(JSON.stringify({ registries: { 'x.io': {} }, rules: [] }));
    const some = { host: 'x.io', path: 'a' };
    expect(rules.registryFor(some, 'source')).toBe(rules.registryFor({ host: 'x.io', path: 'b' }, 'target'));
    expect(rules.registryFor({ host: 'y.io', path: 'a' }, 'source')).toBe(
      rules.registryFor({ host: 'y.io', path: 'b' }, 'source'),
    );
    expect(Object.isFrozen(rules.registryFor(some, 'source'))).toBe(true);
  });
});

describe('the longest match', () => {
  const login = (username: string) => ({ username, password: 'p' });
  const registries = {
    'quay.io': login('host'),
    'quay.io/coreos': login('namespace'),
    'quay.io/coreos/etcd': login('repository'),
    'quay.io:443': login('port'),
    'index.docker.io': login('hub'),
    'docker.io/library': login('official'),
    'Ghcr.io': login('lower'),
  };

  it.each([
    ['quay.io/a/b', 'host'],
    ['quay.io/coreos/x', 'namespace'],
    ['quay.io/coreos-old/x', 'host'],
    ['quay.io/coreos/etcd', 'repository'],
    ['quay.io/coreos/etcd/sub', 'repository'],
    ['quay.io/coreos/etcd2', 'namespace'],
    ['quay.io/coreos', 'namespace'],
    ['quay.io:443/coreos/x', 'port'],
    ['quay.io:8443/coreos/x', undefined],
    ['docker.io/a/b', 'hub'],
    ['docker.io/library/nginx', 'official'],
    ['docker.io/library/*', 'official'],
    ['ghcr.io/a', 'lower'],
  ])('for %s is %s, in whatever order the keys are', (name, username) => {
    expect(settings(name, registries).username).toBe(username);
    expect(settings(name, Object.fromEntries(Object.entries(registries).toReversed())).username).toBe(
      username,
    );
  });

  it('is taken as a whole: nothing of the shorter one remains', () => {
    const both = { 'quay.io': { username: 'u', password: 'p', skipTlsVerify: true }, 'quay.io/open': {} };
    expect(settings('quay.io/open/x', both)).toEqual({
      ...plain,
      host: 'quay.io',
      kind: 'oci',
      endpoint: 'https://quay.io',
    });
  });
});
