/** Files with one mistake each: code, line, path, and what a person is told. */
import { describe, expect, it } from 'vitest';
import { errorOf, read } from './read.ts';

const rule = (lines: string) => `version: 1
rules:
  - source: docker.io/a/b
    target: x.azurecr.io/b
${lines}`;

const pair = (source: string, target: string) => `version: 1
rules:
  - source: ${source}
    target: ${target}
`;

const registry = (lines: string) => `version: 1
registries:
${lines}
rules: []
`;

type Row = [title: string, text: string, line: number | undefined, path: string | undefined, message: RegExp];

function refuses(rows: readonly Row[]): void {
  it.each(rows)('%s', (_title, text, line, path, message) => {
    const error = errorOf(() => read(text));
    expect({ code: error.code, file: error.file, line: error.line, path: error.path }).toEqual({
      code: 'ERR_CONFIG',
      file: 'sync.yaml',
      line,
      path,
    });
    expect(error.message).toMatch(message);
  });
}

describe('form', () => {
  it('tells every key of a map that is not known, each with its line', () => {
    const { message, line } = errorOf(() => read('version: 1\nrules: []\nregistris: {}\nextra: 1\n'));
    expect(line).toBe(3);
    expect(message).toBe(
      'Unknown key "registris": did you mean registries? ' +
        'Line 4, extra: Unknown key "extra": known are $schema, version, registries, rules.',
    );
  });

  it('repeats nothing of a password that is written without its colon or space', () => {
    for (const written of ['password:s3cret', 'password= s3cret']) {
      const { message, path } = errorOf(() => read(registry(`  docker.io: {username: u, ${written}}`)));
      expect({ message, path }).toEqual({
        message: 'Between password and its value a colon and a space are missing.',
        path: 'registries["docker.io"].password',
      });
    }
  });

  it.each([
    '{username: u, password: hunter2, secretpart}',
    '{username: u, password hunter2secretpart}',
    '{username: u, password：hunter2secretpart}',
    '{username: u, Password:hunter2secretpart}',
    '{username: u, pasword:hunter2secretpart}',
    '{username: u, pass:hunter2secretpart}',
    '{username: u, token=hunter2secretpart}',
    '{username: u, hunter2secretpart: *x }',
    '{username: u, hunter2secretpart, hunter2secretpart}',
    '\n    username: u\n    password:\n    hunter2secretpart: x',
    '\n    username: u\n    password: u\n    hunter2secretpart: {a: b}',
  ])('repeats no key beside a login that may be a part of a password: %j', (written) => {
    const { where, message } = errorOf(() => read(registry(`  docker.io: ${written}`)));
    expect(where).toContain('registries["docker.io"]');
    expect(where + message).not.toMatch(/hunter2|secretpart/);
  });

  it('tells which keys there are beside a login, and in which line another one stands', () => {
    const { message, path, line } = errorOf(() =>
      read(registry('  docker.io:\n    username: u\n    s3cret: x')),
    );
    expect({ message, path, line }).toEqual({
      message: expect.stringMatching(/^An unknown key: known are kind, .*username, password/),
      path: 'registries["docker.io"]',
      line: 5,
    });
  });

  it('names a host that only begins like a password', () => {
    const { path } = errorOf(() => read(registry('  password.example.com: {username: 1}')));
    expect(path).toBe('registries["password.example.com"].username');
  });

  it('tells what is wrong once', () => {
    const { message } = errorOf(() => read(registry('  x.io:\n    endpoint: ftp://x.io')));
    expect(message.match(/Expected a URL/g)).toHaveLength(1);
  });

  refuses([
    ['a number for a target', 'nginx: 5\n', 1, 'nginx', /Expected a target/],
    ['an empty file', '', 1, undefined, /empty/],
    ['comments alone', '# later\n', 1, undefined, /empty/],
    ['a list', '- source: a\n', 1, undefined, /Expected a map of keys, found a list/],
    ['no rules', 'version: 1\n', 1, 'rules', /The key rules is missing: expected a list of rules/],
    ['rules that are nothing', 'version: 1\nrules:\n', 2, 'rules', /Expected a list of rules, found nothing/],
    [
      'rules that are a map',
      'version: 1\nrules:\n  a:\n    b: 1\n',
      2,
      'rules',
      /Expected a list of rules, found a map/,
    ],
    ['another version', 'version: 2\nrules: []\n', 1, 'version', /Expected the number 1/],
    ['a version in quotes', 'version: "1"\nrules: []\n', 1, 'version', /Expected the number 1/],
    [
      'a misspelt key on top',
      'version: 1\nrule: []\n',
      2,
      'rule',
      /Unknown key "rule": did you mean rules\?/,
    ],
    [
      'a key far from all',
      'rules: []\nschedule: daily\n',
      2,
      'schedule',
      /known are \$schema, version, registries, rules/,
    ],
    [
      'a misspelt required key',
      pair('a', 'b').replace('source', 'suorce'),
      3,
      'rules[0].suorce',
      /did you mean source\?/,
    ],
    [
      'a missing key',
      'rules:\n  - name: x\n    source: a/b\n',
      2,
      'rules[0].target',
      /The key target is missing/,
    ],
    ['a key twice', rule('    source: a/c\n'), 5, 'rules[0].source', /there already, in line 3/],
    [
      'a misspelt key of tags',
      rule('    tags:\n      inclde: [a]\n'),
      6,
      'rules[0].tags.inclde',
      /did you mean include\?/,
    ],
    ['letters in the wrong case', rule('    Prune: true\n'), 5, 'rules[0].Prune', /did you mean prune\?/],
    ['a rule that is text', 'rules:\n  - nginx\n', 2, 'rules[0]', /Expected a map of keys/],
    [
      'several mistakes',
      rule('    prune: 1\n    overwrite: no\n'),
      5,
      'rules[0].prune',
      /found a number\. Line 6, rules\[0\]\.overwrite: Expected true or false/,
    ],
  ]);
});

describe("a file of image-syncer's that is broken", () => {
  const images =
    /Expected a target, or a list of targets\. .*image-syncer's images\.yaml, which --images reads/;
  const config = /Expected a map from sources to targets.*image-syncer's config\.json, which --config reads/;
  refuses([
    ['a source without a target', 'nginx:\n', 1, 'nginx', images],
    ['an empty list of targets', '# mine\nquay.io/a/b: []\n', 2, '["quay.io/a/b"]', images],
    ['an empty target', 'quay.io/a/b: ""\nnginx:\n', 1, '["quay.io/a/b"]', images],
    ['a target that is a number', 'nginx: [1]\n', 1, 'nginx', images],
    ['credentials without images', 'auth:\n  quay.io: { username: a, password: b }\n', 1, 'images', config],
    [
      'credentials, and a list of images',
      'auth:\n  quay.io: { username: a }\nimages:\n  - nginx\n',
      3,
      'images',
      config,
    ],
    [
      'credentials, and images misspelt',
      'auth: {}\nimgaes: { nginx: x.io/n }\n',
      2,
      'imgaes',
      /did you mean images\?/,
    ],
    [
      'credentials alone',
      'quay.io:\n  username: a\n  password: b\n',
      1,
      '["quay.io"]',
      /no rules\. .*image-syncer's auth\.yaml, which --auth reads/,
    ],
  ]);
});

describe('a file of nobody', () => {
  refuses([
    ['with a misspelt key that is empty', 'ruls:\n', 1, 'ruls', /did you mean rules\?/],
    ['with lists of maps', 'jobs:\n  - source: a\n', 1, 'jobs', /Unknown key "jobs"/],
    ['without any key', '{}\n', 1, 'rules', /The key rules is missing/],
  ]);
});

describe('values', () => {
  refuses([
    [
      'a number for a pattern',
      rule('    tags:\n      include: [v1, 1.10]\n'),
      6,
      'rules[0].tags.include[1]',
      /found a number: write it in quotes/,
    ],
    [
      'one pattern without a list',
      rule('    tags:\n      include: v*\n'),
      6,
      'rules[0].tags.include',
      /Expected a list of globs/,
    ],
    [
      'no pattern',
      rule('    tags:\n      include: []\n'),
      6,
      'rules[0].tags.include',
      /at least one pattern/,
    ],
    [
      'an empty pattern',
      rule('    tags:\n      exclude:\n        - a\n        - ""\n'),
      8,
      'rules[0].tags.exclude[1]',
      /found an empty text/,
    ],
    [
      'a minimum age that pushedWithin never reaches',
      rule('    tags:\n      pushedWithin: 2d\n      minimumAge: 48h\n'),
      7,
      'rules[0].tags.minimumAge',
      /as long as pushedWithin: no tag is ever taken/,
    ],
    [
      'filters for a digest',
      `${pair(`a/b@sha256:${'0'.repeat(64)}`, 'x.azurecr.io/b')}    tags:\n      newest: 1\n`,
      5,
      'rules[0].tags',
      /names a digest: there are no tags to choose from/,
    ],
    [
      'newest 0',
      rule('    tags:\n      newest: 0\n'),
      6,
      'rules[0].tags.newest',
      /a whole number of at least 1/,
    ],
    ['newest 1.5', rule('    tags:\n      newest: 1.5\n'), 6, 'rules[0].tags.newest', /a whole number/],
    [
      'a duration without unit',
      rule('    tags:\n      minimumAge: 30\n'),
      6,
      'rules[0].tags.minimumAge',
      /such as 90s, 12h or 30d/,
    ],
    [
      'a duration of years',
      rule('    tags:\n      pushedWithin: 1y\n'),
      6,
      'rules[0].tags.pushedWithin',
      /such as 90s, 12h or 30d/,
    ],
    ['yes for true', rule('    prune: yes\n'), 5, 'rules[0].prune', /Expected true or false/],
    ['a null', rule('    tags:\n'), 5, 'rules[0].tags', /Expected a map of keys, found nothing/],
    [
      'no target in a list',
      'rules:\n  - source: a/b\n    target: []\n',
      3,
      'rules[0].target',
      /or a list of them, found an empty list/,
    ],
    [
      'a number in a list of targets',
      'rules:\n  - source: a/b\n    target:\n      - x.io/b\n      - 5\n',
      5,
      'rules[0].target[1]',
      /found a number: write it in quotes/,
    ],
    ['no platform', rule('    platforms: []\n'), 5, 'rules[0].platforms', /at least one platform/],
    [
      'an architecture alone',
      rule('    platforms:\n      - linux/amd64\n      - arm64\n'),
      7,
      'rules[0].platforms[1]',
      /linux\/arm64/,
    ],
    ['a name with a line break', rule('    name: "a\\nb"\n'), 5, 'rules[0].name', /printable/],
    ['an empty name', rule('    name: ""\n'), 5, 'rules[0].name', /printable/],
  ]);
});

describe('references', () => {
  refuses([
    ['a URL', pair('https://hub.docker.com/r/a/b', 'x.io/b'), 3, 'rules[0].source', /leave out https:\/\//],
    ['capitals', pair('docker.io/A/b', 'x.io/b'), 3, 'rules[0].source', /lower case/],
    ['a bad tag', pair('a/b:-x', 'x.io/b'), 3, 'rules[0].source', /"-x" is no tag/],
    ['an empty tag in a list', pair('a/b:1,,2', 'x.io/b'), 3, 'rules[0].source', /"" is no tag/],
    ['a short digest', pair('a/b@sha256:123', 'x.io/b'), 3, 'rules[0].source', /digest/],
    [
      'a regular expression that does not end',
      pair('a/b:/v1', 'x.io/b'),
      3,
      'rules[0].source',
      /must end with a slash/,
    ],
    [
      'a regular expression that is none',
      pair('a/b:/(/', 'x.io/b'),
      3,
      'rules[0].source',
      /missing closing \)/,
    ],
    ['a glob that is none', pair('"a/b:v{1,*}"', 'x.io/b'), 3, 'rules[0].source', /one glob/],
    ['several globs', pair('a/b:1*,2*', 'x.io/b'), 3, 'rules[0].source', /tags\.include/],
    [
      'too few tags at the target',
      pair('a/b:1,2', 'x.io/b:1'),
      4,
      'rules[0].target',
      /1 tag for 2 tags of the source/,
    ],
    [
      'tags at the target of all tags',
      pair('a/b', 'x.io/b:1'),
      4,
      'rules[0].target',
      /every tag keeps its name/,
    ],
    [
      'tags at the target of a glob',
      pair('a/b:v*', 'x.io/b:1'),
      4,
      'rules[0].target',
      /every tag keeps its name/,
    ],
    ['another glob at the target', pair('a/b:v*', 'x.io/b:1*'), 4, 'rules[0].target', /leave out :1\*/],
    [
      'a digest at the target',
      pair('a/b:1', `x.io/b@sha256:${'a'.repeat(64)}`),
      4,
      'rules[0].target',
      /leave out @sha256/,
    ],
    [
      'the same repository',
      pair('nginx:1,2', 'docker.io/library/nginx:3,1'),
      4,
      'rules[0].target',
      /the same repository/,
    ],
    [
      'a target twice',
      'rules:\n  - source: a/b\n    target: [x.io/b, X.io/b]\n',
      3,
      'rules[0].target[1]',
      /there twice/,
    ],
    [
      'a namespace without star at the target',
      pair('docker.io/a/*', 'x.io/a'),
      4,
      'rules[0].target',
      /prefix\/\*/,
    ],
    ['a star at the target alone', pair('docker.io/a/b', 'x.io/a/*'), 4, 'rules[0].target', /prefix\/\*/],
    ['a namespace with tags', pair('docker.io/a/*:1', 'x.io/a/*'), 3, 'rules[0].source', /the key tags/],
    ['a namespace elsewhere', pair('ghcr.io/a/*', 'x.io/a/*'), 3, 'rules[0].source', /Only Docker Hub/],
    ['a namespace of two parts', pair('docker.io/a/b/*', 'x.io/a/*'), 3, 'rules[0].source', /has one part/],
    ['no namespace', pair('docker.io/*', 'x.io/a/*'), 3, 'rules[0].source', /names no namespace/],
    ['a star in the middle', pair('docker.io/*/b', 'x.io/a'), 3, 'rules[0].source', /is no repository/],
  ]);
});

describe('filters', () => {
  refuses([
    [
      'a glob with braces',
      rule('    tags:\n      include: ["v{1,2}"]\n'),
      6,
      'rules[0].tags.include[0]',
      /regular expression between slashes/,
    ],
    [
      'a look-ahead',
      rule('    tags:\n      exclude: ["a", "/(?!v).*/"]\n'),
      6,
      'rules[0].tags.exclude[1]',
      /RE2/,
    ],
    ['no range', rule('    tags:\n      semver: newest\n'), 6, 'rules[0].tags.semver', /no version range/],
    [
      'prerelease without semver',
      rule('    tags:\n      prerelease: true\n'),
      6,
      'rules[0].tags.prerelease',
      /semver, which is not there/,
    ],
    [
      'an age at a source that tells none',
      pair('ghcr.io/a/b', 'x.io/b').concat('    tags: {pushedWithin: 3d}\n'),
      5,
      'rules[0].tags.pushedWithin',
      /Only Docker Hub tells/,
    ],
    [
      'a minimum age at a source that tells none',
      pair('ghcr.io/a/b', 'x.io/b').concat('    tags:\n      minimumAge: 3d\n'),
      6,
      'rules[0].tags.minimumAge',
      /Only Docker Hub tells/,
    ],
  ]);
});

describe('names', () => {
  const two = (first: string, second: string) => `rules:
  - ${first}
    source: a/b
    target: x.io/b
  - ${second}
    source: a/b
    target: x.io/b
`;
  refuses([
    ['given twice', two('name: m', 'name: m'), 5, 'rules[1].name', /"m" belongs to the rule in line 2 too/],
    [
      'by default twice',
      two('prune: false', 'prune: true'),
      5,
      'rules[1]',
      /line 2 too: give one of them a name/,
    ],
  ]);
});

describe('registries', () => {
  refuses([
    ['a key without host', registry('  grafana: {}'), 3, 'registries.grafana', /no registry/],
    ['a key with scheme', registry('  "https://x.io": {}'), 3, 'registries["https://x.io"]', /no registry/],
    ['a key with tag', registry('  docker.io/a:1: {}'), 3, 'registries["docker.io/a:1"]', /no registry/],
    [
      'one registry under two names',
      registry('  docker.io: {}\n  index.docker.io: {}'),
      4,
      'registries["index.docker.io"]',
      /same registry/,
    ],
    [
      'a misspelt key',
      registry('  x.io:\n    pasword: hunter2'),
      4,
      'registries["x.io"].pasword',
      /did you mean password\?/,
    ],
    ['a kind', registry('  x.io:\n    kind: ecr'), 4, 'registries["x.io"].kind', /dockerhub, acr and oci/],
    [
      'an endpoint without scheme',
      registry('  x.io:\n    endpoint: x.io'),
      4,
      'registries["x.io"].endpoint',
      /begins with https/,
    ],
    [
      'an endpoint with a user',
      registry('  x.io:\n    endpoint: https://u:hunter2@x.io'),
      4,
      'registries["x.io"].endpoint',
      /without user/,
    ],
    [
      'an endpoint with a query',
      registry('  x.io:\n    endpoint: https://x.io?a=1'),
      4,
      'registries["x.io"].endpoint',
      /without user, query/,
    ],
    [
      'a web API of no Docker Hub',
      registry('  x.io:\n    hubApi: https://x.io'),
      4,
      'registries["x.io"].hubApi',
      /kind dockerhub/,
    ],
    [
      'an identity elsewhere',
      registry('  x.io:\n    identity: true'),
      4,
      'registries["x.io"].identity',
      /kind acr/,
    ],
    [
      'an audience elsewhere',
      registry('  x.io:\n    audience: https://containerregistry.azure.net'),
      4,
      'registries["x.io"].audience',
      /kind acr/,
    ],
    [
      'identity and username',
      registry('  x.azurecr.io:\n    username: u\n    password: p\n    identity: true'),
      6,
      'registries["x.azurecr.io"].identity',
      /not with both/,
    ],
    [
      'a username alone',
      registry('  x.io:\n    username: u'),
      4,
      'registries["x.io"].username',
      /password is missing/,
    ],
    [
      'a password alone',
      registry('  x.io:\n    ca: a.pem\n    password: hunter2'),
      5,
      'registries["x.io"].password',
      /username is missing/,
    ],
    [
      'a number for a password',
      registry('  x.io:\n    username: u\n    password: 123456'),
      5,
      'registries["x.io"].password',
      /found a number: write it in quotes/,
    ],
    [
      'a chunk that ACR refuses',
      registry('  x.azurecr.io:\n    chunkSize: 17MiB'),
      4,
      'registries["x.azurecr.io"].chunkSize',
      /at most 16MiB/,
    ],
    [
      'a chunk in decimal units',
      registry('  x.io:\n    chunkSize: 8MB'),
      4,
      'registries["x.io"].chunkSize',
      /such as 8MiB/,
    ],
    [
      'a chunk of nothing',
      registry('  x.io:\n    chunkSize: 0'),
      4,
      'registries["x.io"].chunkSize',
      /from 1KiB/,
    ],
    [
      'a lone dollar',
      registry('  x.io:\n    username: u\n    password: hunter2$'),
      5,
      'registries["x.io"].password',
      /"\$\$" for a dollar/,
    ],
  ]);

  it('never shows a value that may be secret', () => {
    const secret = 'hunter2';
    for (const text of [
      registry(`  x.io:\n    pasword: ${secret}`),
      registry(`  x.io:\n    endpoint: https://u:${secret}@x.io`),
      registry(`  x.io:\n    password: ${secret}`),
      registry(`  x.io:\n    username: u\n    password: ${secret}$`),
      registry(`  x.io:\n    username: u\n    password: "${secret}`),
      registry(`  x.io:\n    username: u\n    password: "a" ${secret}`),
      registry(`  x.io:\n    username: u\n    password: ${secret}: x`),
      pair(`https://u:${secret}@x.io/a/b`, 'x.io/b'),
    ]) {
      const error = errorOf(() => read(text));
      expect(`${error.message} ${error.path} ${error.stack}`).not.toContain(secret);
    }
  });
});
