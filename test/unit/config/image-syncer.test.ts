/**
 * image-syncer's files: the forms of its README and examples, read as they are, and its faults (each of them named
 * by where it is in version 1.5.5), which are not copied.
 */
import { describe, expect, it } from 'vitest';
import { imageSyncerForm, readImageSyncer } from '../../../lib/config/image-syncer.ts';
import { readRules } from '../../../lib/config/rules.ts';
import type { Environment } from '../../../lib/config/variables.ts';
import { matchesNames } from '../../../lib/sync/select/select.ts';
import { errorOf, note } from './read.ts';

const all = (env: Environment = {}) => ({ env, variables: 'all' }) as const;

function readFiles(images: string, auth?: string, env: Environment = {}) {
  const files = {
    images: { text: images, file: 'images.yaml' },
    auth: auth === undefined ? undefined : { text: auth, file: 'auth.yaml' },
  };
  return readImageSyncer(files, all(env));
}

function notes(images: string, env: Environment = {}) {
  return readFiles(images, undefined, env).rules.map(note);
}

/** User and password for a repository. */
function login(auth: string, name: string, env: Environment = {}): string | undefined {
  const [host = '', ...path] = name.split('/');
  const settings = readFiles('{}', auth, env).registryFor({ host, path: path.join('/') }, 'source');
  return settings.username && `${settings.username}:${settings.password}`;
}

const digest = 'sha256:14b267eb38aa85fd12d0e168fffa2d8a6187ac53a14a0212b0d4fce8d729598c';
const proxy = 'quay.io/coreos/kube-rbac-proxy';
const ruohe = 'quay.io/ruohe/kube-rbac-proxy';

const exampleImages = `${proxy}: ${ruohe}
${proxy}:v1.0: ${ruohe}
${proxy}:v1.0,v2.0: ${ruohe}
${proxy}@${digest}: ${ruohe}
${proxy}:v1.1:
  - ${ruohe}1
  - ${ruohe}2
${proxy}:/a+/: ${ruohe}
`;

const exampleAuth = `{
    "quay.io": { "username": "xxx", "password": "xxxxxxxxx", "insecure": true },
    "registry.cn-beijing.aliyuncs.com": { "username": "xxx", "password": "xxxxxxxxx" },
    "docker.io": { "username": "hub", "password": "xxxxxxxxxx" },
    "quay.io/coreos": { "username": "abc", "password": "xxxxxxxxx", "insecure": true }
}`;

describe('the example files', () => {
  const meaning = [
    { source: proxy, targets: [ruohe] },
    { source: proxy, tags: ['v1.0'], targets: [ruohe] },
    { source: proxy, tags: ['v1.0', 'v2.0'], targets: [ruohe] },
    { source: proxy, digest, targets: [ruohe] },
    { source: proxy, tags: ['v1.1'], targets: [`${ruohe}1`, `${ruohe}2`] },
    { source: proxy, pattern: '/a+/ anywhere', targets: [ruohe] },
  ];

  it('images.yaml and auth.json', () => {
    const rules = readFiles(exampleImages, exampleAuth);
    expect(rules.rules.map(note)).toEqual(meaning);
    expect(rules.registryFor({ host: 'quay.io', path: 'coreos/x' }, 'source')).toMatchObject({
      username: 'abc',
      endpoint: 'https://quay.io',
      skipTlsVerify: true,
      allowHttpFallback: true,
    });
    expect(rules.registryFor({ host: 'docker.io', path: 'a/b' }, 'source')).toMatchObject({
      username: 'hub',
      skipTlsVerify: false,
      allowHttpFallback: false,
    });
  });

  it('images.yaml is a rules file', () => {
    expect(readRules(exampleImages, all()).rules.map(note)).toEqual(meaning);
  });

  it('the older config.json is a rules file', () => {
    const config = `{"auth": ${exampleAuth}, "images": {"${proxy}": "${ruohe}", "${proxy}:v1.0": "${ruohe}"}}`;
    for (const rules of [
      readRules(config, all()),
      readImageSyncer({ config: { text: config } }, all()),
      readImageSyncer({ images: { text: config } }, all()),
    ]) {
      expect(rules.rules.map(note)).toEqual(meaning.slice(0, 2));
      expect(rules.registryFor({ host: 'quay.io', path: 'coreos/x' }, 'source').username).toBe('abc');
    }
  });

  it('rules have the defaults of every rule', () => {
    expect(readFiles('nginx: x.io/n').rules).toEqual([
      {
        name: 'docker.io/library/nginx -> x.io/n',
        source: { host: 'docker.io', path: 'library/nginx', selector: { kind: 'all' } },
        targets: [{ host: 'x.io', path: 'n' }],
        tags: { include: [], exclude: [], prerelease: false },
        platforms: [],
        referrers: true,
        prune: false,
        overwrite: true,
      },
    ]);
  });
});

describe('sources and targets', () => {
  it.each([
    [
      'gcr.io/knative-releases/github.com/knative/build/cmd/creds-init:v1',
      'gcr.io/knative-releases/github.com/knative/build/cmd/creds-init',
      ['v1'],
    ],
    ['nginx:v1', 'docker.io/library/nginx', ['v1']],
    ['127.0.0.1:300/library/nginx:v1,v2', '127.0.0.1:300/library/nginx', ['v1', 'v2']],
    ['registry.hub.docker.io/library/nginx:v1', 'registry.hub.docker.io/library/nginx', ['v1']],
  ])('%s', (text, source, tags) => {
    expect(notes(`"${text}": x.io/n`)).toEqual([{ source, tags, targets: ['x.io/n'] }]);
  });

  it('a tag beside a digest is dropped', () => {
    expect(notes(`nginx:1.27@${digest}: x.io/n`)).toEqual([
      { source: 'docker.io/library/nginx', digest, targets: ['x.io/n'] },
    ]);
  });

  it('a digest may get a tag, or keep its name', () => {
    expect(notes(`nginx@${digest}: [x.io/n:v1, "y.io/n@${digest}"]`)[0]?.targets).toEqual([
      'x.io/n:v1',
      'y.io/n',
    ]);
  });

  it('tags are mapped left to right', () => {
    expect(notes('nginx:1,2: x.io/n:one,two')[0]?.targets).toEqual(['x.io/n:one,two']);
  });

  it('targets are expanded, sources are not', () => {
    expect(notes(`nginx: $REGISTRY/n-$\{STAGE}`, { REGISTRY: 'x.io', STAGE: 'test' })[0]?.targets).toEqual([
      'x.io/n-test',
    ]);
    expect(errorOf(() => notes('$REGISTRY/n: x.io/n', { REGISTRY: 'y.io' }))).toMatchObject({
      code: 'ERR_CONFIG',
      line: 1,
    });
  });

  it('equal targets of a list are one', () => {
    expect(notes('nginx: [x.io/n, x.io/n, X.io/n]')[0]?.targets).toEqual(['x.io/n']);
  });

  it('one entry spelled in two ways is one rule', () => {
    expect(notes('nginx: x.io/n\ndocker.io/library/nginx: x.io/n\n')).toHaveLength(1);
  });

  it('a target may say the tags that it has anyway', () => {
    expect(notes('"nginx:1,2": [x.io/n, "x.io/n:1,2", "x.io/n:a,b"]')[0]?.targets).toEqual([
      'x.io/n',
      'x.io/n:a,b',
    ]);
  });

  it('entries that begin alike at length are rules of their own', () => {
    const tags = Array.from({ length: 60 }, (_, index) => `v1.0.${1000 + index}`).join();
    const images = { [`a/b:${tags},x`]: 'x.io/b', [`a/b:${tags},y`]: 'x.io/b', [`a/b:${tags},z`]: 'x.io/c' };
    const { rules } = readFiles(JSON.stringify(images));
    expect(new Set(rules.map(({ name }) => name)).size).toBe(3);
    expect(Math.max(...rules.map(({ name }) => name.length))).toBeLessThanOrEqual(500);
  });

  it.each(['index.docker.io', 'registry-1.docker.io', 'registry.hub.docker.com'])(
    '%s is Docker Hub',
    (host) => {
      expect(notes(`${host}/library/nginx: x.io/n`)).toEqual(notes('nginx: x.io/n'));
    },
  );

  it('an expression matches anywhere in a tag', () => {
    const [rule] = readFiles('nginx:/^v1|rc/: x.io/n').rules;
    const matches = rule === undefined ? () => false : matchesNames(rule);
    expect(['v1.2', 'x-rc1', 'rc', 'v2', 'xv1'].filter(matches)).toEqual(['v1.2', 'x-rc1', 'rc']);
  });
});

describe('credentials', () => {
  it('are expanded in auth.yaml', () => {
    const env = { HUB_USER: 'me', HUB_TOKEN: 's3cret' };
    expect(login(`docker.io: {username: $HUB_USER, password: "x$\{HUB_TOKEN}"}`, 'docker.io/a/b', env)).toBe(
      'me:xs3cret',
    );
  });

  it('are left as they are in config.json', () => {
    const config =
      '{"auth": {"x.io": {"username": "robot$ci", "password": "pa$word"}}, "images": {"a/b": "x.io/b"}}';
    const settings = readRules(config, all({ word: 'no' })).registryFor(
      { host: 'x.io', path: 'b' },
      'target',
    );
    expect([settings.username, settings.password]).toEqual(['robot$ci', 'pa$word']);
  });

  it.each([
    ['no password', 'x.io: {username: u}'],
    ['no username', 'x.io: {password: p}'],
    ['an empty password', 'x.io: {username: u, password: ""}'],
    ['nothing', 'x.io:'],
  ])('with %s there is no login', (_what, auth) => {
    expect(login(auth, 'x.io/a')).toBeUndefined();
  });

  it('that look like numbers are text', () => {
    expect(login('x.io: {username: 007, password: 1.10}', 'x.io/a')).toBe('007:1.10');
  });

  it.each(['true', 'True', 'yes', 'on'])('insecure may be %s', (word) => {
    const rules = readFiles('{}', `x.io: {insecure: ${word}}`);
    expect(rules.registryFor({ host: 'x.io', path: 'a' }, 'source').allowHttpFallback).toBe(true);
  });

  it("insecure takes no TLS from the Azure identity's login", () => {
    const rules = readFiles('{}', 'x.azurecr.io: {insecure: true}');
    const settings = rules.registryFor({ host: 'x.azurecr.io', path: 'a' }, 'target');
    expect(settings).toMatchObject({ identity: true, allowHttpFallback: false });
  });

  it('keys that image-syncer does not know are passed over, misspelt ones are not', () => {
    expect(login('x.io: {username: u, password: p, comment: ours}', 'x.io/a')).toBe('u:p');
    expect(errorOf(() => readFiles('{}', 'x.io: {username: u, pasword: p}'))).toMatchObject({
      file: 'auth.yaml',
      line: 1,
      path: '["x.io"].pasword',
      message: expect.stringContaining('did you mean password?'),
    });
  });

  it.each([
    ['like a misspelt one', '{username: u, "passw/rd": x}', 'did you mean password?'],
    ['that is there twice', '{username: u, passw/rd, passw/rd}', 'there already'],
    ['for an alias of nothing', '{username: u, passw/rd: *x }', 'stands for nothing'],
  ])('a key that may be a part of a password is not repeated: one %s', (_, entry, message) => {
    for (const [path, reader] of [
      ['["x.io"]', () => readFiles('{}', `x.io: ${entry}`)],
      ['auth["x.io"]', () => readRules(`{auth: {x.io: ${entry}}, images: {}}`, all())],
    ] as const) {
      const error = errorOf(reader);
      expect(error).toMatchObject({ path, line: 1, message: expect.stringContaining(message) });
      expect(error.message).not.toContain('passw/rd');
    }
  });
});

describe("image-syncer's faults are not copied", () => {
  it('the longest match wins, not the last in random order (config.go:102-117)', () => {
    const keys = ['quay.io', 'quay.io/coreos', 'quay.io/coreos/etcd'];
    for (const order of [keys, keys.toReversed()]) {
      const auth = order.map((key) => `${key}: {username: ${key.split('/').length}, password: p}`).join('\n');
      expect(login(auth, 'quay.io/coreos/etcd')).toBe('3:p');
      expect(login(auth, 'quay.io/coreos/x')).toBe('2:p');
      expect(login(auth, 'quay.io/coreos-old/x')).toBe('1:p');
    }
  });

  it('a key equal to the repository gives its credentials, and no panic (string.go:7-18)', () => {
    expect(login('quay.io/coreos/etcd: {username: u, password: p}', 'quay.io/coreos/etcd')).toBe('u:p');
    expect(login('quay.io/coreos/: {username: u, password: p}', 'quay.io/coreos/etcd')).toBe('u:p');
  });

  it('short names mean Docker Hub in every form (url.go:30-125)', () => {
    const images = [
      'grafana/grafana',
      'grafana/grafana:1',
      'grafana/grafana:1,2',
      'grafana/grafana:/1/',
      `grafana/grafana@${digest}`,
    ];
    for (const text of images) {
      expect(notes(`"${text}": x.io/g`)[0]?.source).toBe('docker.io/grafana/grafana');
    }
    expect(login('grafana: {username: u, password: p}', 'docker.io/grafana/grafana')).toBe('u:p');
  });

  it('an unset variable is an error, not nothing (config.go:119-134)', () => {
    expect(errorOf(() => login('x.io:\n  username: u\n  password: $ABSENT', 'x.io/a'))).toMatchObject({
      code: 'ERR_VARIABLE_UNSET',
      file: 'auth.yaml',
      line: 3,
      path: '["x.io"].password',
    });
    expect(errorOf(() => notes('nginx: x.io/n\nredis:\n  - x.io/$ABSENT'))).toMatchObject({
      code: 'ERR_VARIABLE_UNSET',
      file: 'images.yaml',
      line: 3,
      path: 'redis[0]',
    });
  });

  it("Google's _oauth2_ is refused, not sent as a password (google.go)", () => {
    const error = errorOf(() => readFiles('{}', 'asia.gcr.io:\n  username: _oauth2_\n  password: abc'));
    expect(error).toMatchObject({
      code: 'ERR_CONFIG',
      line: 2,
      message: expect.stringContaining('_json_key'),
    });
  });

  it('two sources of one target tag are refused, not pushed one over the other', () => {
    expect(errorOf(() => notes('nginx:1: x.io/n\nredis:1: x.io/n'))).toMatchObject({
      code: 'ERR_TARGET_CONFLICT',
      line: 2,
    });
  });
});

describe('mistakes', () => {
  it.each([
    ['an empty target', 'a/b: ""\nc/d: x.io/d', 1, '["a/b"]', /Expected a target/],
    ['an empty list', 'c/d: x.io/d\na/b: []', 2, '["a/b"]', /Expected a target/],
    ['a number', 'c/d: x.io/d\na/b: 5', 2, '["a/b"]', /Expected a target/],
    ['a number in a list', 'c/d: x.io/d\na/b:\n  - x.io/b\n  - 5', 4, '["a/b"][1]', /Expected a target/],
    ['credentials', 'a/b: x.io/b\nx.io: {username: u, password: p}', 2, '["x.io"]', /--auth reads/],
    ['a source that is none', 'c/d: x.io/d\nA/b: x.io/b', 2, '["A/b"]', /lower case/],
    ['too few tags', 'a/b:1,2: x.io/b:1', 1, '["a/b:1,2"]', /1 tag for 2 tags/],
    ['tags for all tags', 'a/b: x.io/b:1', 1, '["a/b"]', /keeps its name/],
    [
      'another digest',
      `a/b@${digest}: "x.io/b@sha256:${'0'.repeat(64)}"`,
      1,
      `["a/b@${digest}"]`,
      /leave out @sha256/,
    ],
    ['an expression that is none', 'a/b:/(/: x.io/b', 1, '["a/b:/(/"]', /RE2/],
    ['the same source twice', 'a/b: x.io/b\na/b: y.io/b', 2, '["a/b"]', /there already, in line 1/],
  ])('%s', (_what, images, line, path, message) => {
    expect(errorOf(() => readFiles(images))).toMatchObject({
      code: 'ERR_CONFIG',
      file: 'images.yaml',
      line,
      path,
      message: expect.stringMatching(message),
    });
  });

  it('in config.json are told with the path there', () => {
    const config = '{\n "auth": {},\n "images": {\n  "a/b": ["x.io/B"]\n }\n}';
    expect(errorOf(() => readRules(config, all()))).toMatchObject({ line: 4, path: 'images["a/b"][0]' });
  });

  it('credentials that are a list are refused', () => {
    expect(errorOf(() => readFiles('{}', 'x.io: [u, p]')).message).toMatch(/username, password and insecure/);
    expect(errorOf(() => readFiles('{}', 'x.io: {insecure: 5}')).message).toMatch(/true or false/);
    expect(errorOf(() => readFiles('{}', 'x.io: {username: [u], password: p}')).message).toMatch(
      /Expected text/,
    );
  });
});

describe('a file is told by its top level', () => {
  it.each([
    ['a map to targets', { nginx: 'x.io/n' }, 'images'],
    ['a map to lists', { nginx: ['x.io/n'] }, 'images'],
    ['a map with one good entry', { nginx: 5, 'a/b': 'x.io/b' }, 'images'],
    ['auth and images', { auth: {}, images: {} }, 'config'],
    ['images alone', { images: { nginx: 'x.io/n' } }, 'config'],
    ['a repository named images', { images: 'x.io/images' }, 'images'],
    ['rules', { rules: [] }, undefined],
    ['a version', { version: 1 }, undefined],
    ['registries', { registries: {} }, undefined],
    ['a schema', { $schema: 'sync.schema.json', ruels: [] }, undefined],
    ['rules misspelt', { ruels: [{ source: 'a', target: 'b' }] }, undefined],
    ['a list', ['a'], undefined],
    ['nothing', null, undefined],
  ])('%s', (_what, value, form) => {
    expect(imageSyncerForm(value)).toBe(form);
  });
});
