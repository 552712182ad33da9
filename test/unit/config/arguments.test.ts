import { describe, expect, it } from 'vitest';
import {
  type ArgumentOptions,
  platformsFromFlags,
  ruleFromArguments,
} from '../../../lib/config/arguments.ts';
import { formatPlatformPattern, parsePlatformPattern } from '../../../lib/oci/platform.ts';
import { errorOf, note } from './read.ts';

const fromArguments = (source: string, target: string, options: Partial<ArgumentOptions> = {}) =>
  ruleFromArguments(source, target, { env: {}, variables: 'all', ...options });

describe('SOURCE TARGET', () => {
  it('is one rule with the defaults of every rule', () => {
    const platforms = [parsePlatformPattern('linux/amd64')];
    expect(fromArguments('nginx:1.27', 'x.azurecr.io/nginx', { platforms }).rules).toEqual([
      {
        name: 'docker.io/library/nginx:1.27 -> x.azurecr.io/nginx',
        source: { host: 'docker.io', path: 'library/nginx', selector: { kind: 'tags', tags: ['1.27'] } },
        targets: [{ host: 'x.azurecr.io', path: 'nginx' }],
        tags: { include: [], exclude: [], prerelease: false },
        platforms,
        referrers: true,
        prune: false,
        overwrite: true,
      },
    ]);
  });

  it.each([
    ['nginx', 'x.io/n', { source: 'docker.io/library/nginx', targets: ['x.io/n'] }],
    ['nginx:v*', 'x.io/n:v*', { source: 'docker.io/library/nginx', pattern: 'v*', targets: ['x.io/n'] }],
    ['nginx:/v\\d/', 'x.io/n', { source: 'docker.io/library/nginx', pattern: '/v\\d/', targets: ['x.io/n'] }],
    [
      'nginx:1,2',
      'x.io/n:a,b',
      { source: 'docker.io/library/nginx', tags: ['1', '2'], targets: ['x.io/n:a,b'] },
    ],
    ['myorg/*', 'x.io/m/*', { source: 'docker.io/myorg/*', targets: ['x.io/m/*'] }],
  ])('%s %s', (source, target, meaning) => {
    expect(fromArguments(source, target).rules.map(note)).toEqual([meaning]);
  });

  it.each([
    ['Nginx', 'x.io/n', 'SOURCE', /lower case/],
    ['nginx:v*', 'x.io/n:v2*', 'TARGET', /leave out :v2\*/],
    ['nginx', 'x.io/n:1', 'TARGET', /keeps its name/],
    ['nginx', 'docker.io/library/nginx', 'TARGET', /same repository/],
    ['ghcr.io/a/*', 'x.io/a/*', 'SOURCE', /Only Docker Hub/],
  ])('%s %s is refused: %s', (source, target, path, message) => {
    const error = errorOf(() => fromArguments(source, target));
    expect(error).toMatchObject({ code: 'ERR_USAGE', path, message: expect.stringMatching(message) });
    expect([error.file, error.line]).toEqual([undefined, undefined]);
  });
});

describe('--src-creds and --dest-creds', () => {
  const onOneHost = fromArguments('localhost:5000/a', 'localhost:5000/b', {
    sourceCredentials: 'reader:r:1',
    targetCredentials: 'writer:w',
  });

  it('belong to their side, also where both are on one host', () => {
    const repository = { host: 'localhost:5000', path: 'a' };
    expect(onOneHost.registryFor(repository, 'source')).toMatchObject({
      username: 'reader',
      password: 'r:1',
    });
    expect(onOneHost.registryFor(repository, 'target')).toMatchObject({ username: 'writer', password: 'w' });
    expect(onOneHost.registryFor(repository, 'target')).toBe(onOneHost.registryFor(repository, 'target'));
  });

  it('replace the Azure identity and what the file says', () => {
    const rules = fromArguments('nginx', 'x.azurecr.io/n', {
      targetCredentials: 'u:p',
      config: { text: 'registries: {x.azurecr.io: {chunkSize: 4MiB}}' },
    });
    expect(rules.registryFor({ host: 'x.azurecr.io', path: 'n' }, 'target')).toMatchObject({
      username: 'u',
      identity: false,
      chunkSize: 4 * 1024 * 1024,
    });
    expect(
      rules.registryFor({ host: 'docker.io', path: 'library/nginx' }, 'source').username,
    ).toBeUndefined();
  });

  it('do not mix where a registry has two keys', () => {
    const rules = fromArguments('x.io/a/b', 'y.io/b', {
      sourceCredentials: 'u:p',
      config: { text: 'registries: {x.io: {}, x.io/a: {skipTlsVerify: true}}' },
    });
    const flags = ['c', 'a/b'].map(
      (path) => rules.registryFor({ host: 'x.io', path }, 'source').skipTlsVerify,
    );
    expect(flags).toEqual([false, true]);
  });

  it.each(['s3cret', ':s3cret', 's3cret:', ''])(
    'as %j are refused without being shown',
    (sourceCredentials) => {
      const error = errorOf(() => fromArguments('nginx', 'x.io/n', { sourceCredentials }));
      expect(error).toMatchObject({ code: 'ERR_USAGE', path: '--src-creds' });
      expect(error.message).not.toContain('s3cret');
    },
  );
});

describe('--config beside SOURCE TARGET', () => {
  const settings = (text: string, env = {}) =>
    fromArguments('a/b', 'x.io/b', { env, config: { text, file: 'f.yaml' } }).registryFor(
      { host: 'x.io', path: 'b' },
      'target',
    );

  it('gives registries only, with or without rules', () => {
    const registries = 'registries: {x.io: {username: u, password: $P}}\n';
    const rules = 'rules: [{source: nginx, target: x.io/n}]\n';
    for (const text of [registries, registries + rules]) {
      expect(settings(text, { P: 'p' })).toMatchObject({ username: 'u', password: 'p' });
    }
    expect(fromArguments('a/b', 'x.io/b', { config: { text: rules } }).rules).toHaveLength(1);
  });

  it("may be image-syncer's config.json", () => {
    const config = '{"auth": {"x.io": {"username": "u", "password": "$p"}}, "images": {"nginx": "x.io/n"}}';
    expect(settings(config)).toMatchObject({ username: 'u', password: '$p' });
  });

  it('is refused for its own mistakes, in its own place', () => {
    expect(errorOf(() => settings('registries:\n  x.io:\n    usrname: u'))).toMatchObject({
      code: 'ERR_CONFIG',
      file: 'f.yaml',
      line: 3,
      path: 'registries["x.io"].usrname',
    });
  });
});

describe('--os and --arch', () => {
  it.each([
    [[], [], []],
    [['linux'], ['amd64', 'arm64'], ['linux/amd64', 'linux/arm64']],
    [['linux', 'windows'], ['amd64'], ['linux/amd64', 'windows/amd64']],
    [['linux'], [], ['linux']],
    [[], ['arm64'], ['*/arm64']],
    [['windows:10.0.17763'], ['amd64'], ['windows(10.0.17763)/amd64']],
    [['linux'], ['arm:v7'], ['linux/arm/v7']],
  ])('%j and %j', (systems, architectures, expected) => {
    expect(platformsFromFlags(systems, architectures).map(formatPlatformPattern)).toEqual(expected);
  });

  it('that are none are refused', () => {
    expect(errorOf(() => platformsFromFlags(['li nux'], []))).toMatchObject({
      code: 'ERR_USAGE',
      path: '--os',
    });
    expect(errorOf(() => platformsFromFlags([], ['a/b/c/d']))).toMatchObject({
      code: 'ERR_USAGE',
      path: '--arch',
    });
  });
});
