/** Rules files and what they mean: read it as documentation. */
import { describe, expect, it } from 'vitest';
import { readRules } from '../../../lib/config/rules.ts';
import { parsePlatformPattern } from '../../../lib/oci/platform.ts';
import { errorOf, fileWith, note, oneRule, read } from './read.ts';

const digest = `sha256:${'3'.repeat(64)}` as const;
const day = 24 * 3600 * 1000;

describe('source and target', () => {
  const table: [source: string, target: string | string[], meaning: ReturnType<typeof note>][] = [
    ['nginx', 'x.azurecr.io/nginx', { source: 'docker.io/library/nginx', targets: ['x.azurecr.io/nginx'] }],
    [
      'grafana/grafana',
      'x.azurecr.io/g',
      { source: 'docker.io/grafana/grafana', targets: ['x.azurecr.io/g'] },
    ],
    [
      'index.docker.io/nginx',
      'x.azurecr.io/n',
      { source: 'docker.io/library/nginx', targets: ['x.azurecr.io/n'] },
    ],
    ['ghcr.io/a/b/c', 'X.AzureCR.io/b', { source: 'ghcr.io/a/b/c', targets: ['x.azurecr.io/b'] }],
    ['localhost:5000/a', '127.0.0.1:5001/a', { source: 'localhost:5000/a', targets: ['127.0.0.1:5001/a'] }],
    [
      'nginx:1.27',
      'x.azurecr.io/n',
      { source: 'docker.io/library/nginx', tags: ['1.27'], targets: ['x.azurecr.io/n'] },
    ],
    [
      'nginx:1.27',
      'x.azurecr.io/n:stable',
      { source: 'docker.io/library/nginx', tags: ['1.27'], targets: ['x.azurecr.io/n:stable'] },
    ],
    [
      'nginx:1,2',
      'x.azurecr.io/n:a,b',
      { source: 'docker.io/library/nginx', tags: ['1', '2'], targets: ['x.azurecr.io/n:a,b'] },
    ],
    [
      'nginx:1.*',
      'x.azurecr.io/n',
      { source: 'docker.io/library/nginx', pattern: '1.*', targets: ['x.azurecr.io/n'] },
    ],
    [
      'nginx:1.*',
      'x.azurecr.io/n:1.*',
      { source: 'docker.io/library/nginx', pattern: '1.*', targets: ['x.azurecr.io/n'] },
    ],
    [
      'localhost:5000/n:/1\\.\\d+/',
      'x.azurecr.io/n',
      { source: 'localhost:5000/n', pattern: '/1\\.\\d+/', targets: ['x.azurecr.io/n'] },
    ],
    [
      `nginx@${digest}`,
      'x.azurecr.io/n',
      { source: 'docker.io/library/nginx', digest, targets: ['x.azurecr.io/n'] },
    ],
    [
      `nginx:1.27@${digest}`,
      'x.azurecr.io/n:1.27',
      { source: 'docker.io/library/nginx', digest, targets: ['x.azurecr.io/n:1.27'] },
    ],
    [
      `nginx@${digest}`,
      `x.azurecr.io/n@${digest}`,
      { source: 'docker.io/library/nginx', digest, targets: ['x.azurecr.io/n'] },
    ],
    [
      'docker.io/myorg/*',
      'x.azurecr.io/mirror/myorg/*',
      { source: 'docker.io/myorg/*', targets: ['x.azurecr.io/mirror/myorg/*'] },
    ],
    ['myorg/*', 'x.azurecr.io/*', { source: 'docker.io/myorg/*', targets: ['x.azurecr.io/*'] }],
    [
      'nginx:1',
      ['x.azurecr.io/n', 'y.azurecr.cn/n:one'],
      { source: 'docker.io/library/nginx', tags: ['1'], targets: ['x.azurecr.io/n', 'y.azurecr.cn/n:one'] },
    ],
  ];

  it.each(table)('%s to %s', (source, target, meaning) => {
    expect(note(oneRule(fileWith({ source, target })))).toEqual(meaning);
  });
});

describe('a rule', () => {
  it('with every key is read as it is written', () => {
    const rule = oneRule(`
version: 1
rules:
  - name: hagicode
    source: docker.io/newbe36524/hagicode
    target: hagicode.azurecr.io/hagicode
    tags:
      include: ["v*", "/\\\\d+\\\\.\\\\d+/"]
      exclude: ["*-rc*"]
      semver: ">=1.2 <3"
      prerelease: true
      newest: 20
      pushedWithin: 30d
      minimumAge: 2d
    platforms: [linux/amd64, linux/arm64]
    referrers: false
    prune: true
    overwrite: false
`);
    expect(rule).toEqual({
      name: 'hagicode',
      source: { host: 'docker.io', path: 'newbe36524/hagicode', selector: { kind: 'all' } },
      targets: [{ host: 'hagicode.azurecr.io', path: 'hagicode' }],
      tags: {
        include: [
          { kind: 'glob', text: 'v*', anchored: true },
          { kind: 'regex', text: '\\d+\\.\\d+', anchored: true },
        ],
        exclude: [{ kind: 'glob', text: '*-rc*', anchored: true }],
        semver: '>=1.2 <3',
        prerelease: true,
        newest: 20,
        pushedWithin: 30 * day,
        minimumAge: 2 * day,
      },
      platforms: [
        { os: 'linux', architecture: 'amd64' },
        { os: 'linux', architecture: 'arm64' },
      ],
      referrers: false,
      prune: true,
      overwrite: false,
    });
  });

  it('with two keys has every default', () => {
    expect(oneRule(fileWith({ source: 'a/b', target: 'x.azurecr.io/b' }))).toEqual({
      name: 'docker.io/a/b -> x.azurecr.io/b',
      source: { host: 'docker.io', path: 'a/b', selector: { kind: 'all' } },
      targets: [{ host: 'x.azurecr.io', path: 'b' }],
      tags: { include: [], exclude: [], prerelease: false },
      platforms: [],
      referrers: true,
      prune: false,
      overwrite: true,
    });
  });

  it('is named by its source and targets, within what a message takes', () => {
    const tags = Array.from({ length: 200 }, (_, index) => `v1.${index}`).join(',');
    const { rules } = read(
      JSON.stringify({
        rules: [
          { source: 'a/b:1,2', target: ['x.io/b', 'y.io/b:3,4'] },
          { source: `a/b:${tags}`, target: 'x.io/b' },
        ],
      }),
    );
    expect(rules[0]?.name).toBe('docker.io/a/b:1,2 -> x.io/b, y.io/b:3,4');
    expect(rules[1]?.name.length).toBe(500);
  });

  it('is frozen to the bottom', () => {
    const rule = oneRule(fileWith({ source: 'a/b:1', target: 'x.io/b:2', tags: { include: ['1'] } }));
    for (const part of [
      rule,
      rule.source,
      rule.source.selector,
      rule.targets,
      rule.targets[0]?.tags,
      rule.tags.include,
    ]) {
      expect(Object.isFrozen(part)).toBe(true);
    }
  });

  it('takes the platforms of the command line where it has none', () => {
    const arm = parsePlatformPattern('linux/arm64');
    const text = JSON.stringify({
      rules: [
        { source: 'a/b', target: 'x.io/b' },
        { source: 'a/c', target: 'x.io/c', platforms: ['windows'] },
      ],
    });
    const { rules } = readRules(text, { env: {}, variables: 'all', platforms: [arm] });
    expect(rules.map(({ platforms }) => platforms)).toEqual([[arm], [{ os: 'windows' }]]);
  });
});

describe('a file', () => {
  it.each([
    ['YAML', 'version: 1\nrules:\n  - source: nginx\n    target: x.io/n\n'],
    ['JSON', '{"version": 1, "rules": [{"source": "nginx", "target": "x.io/n"}]}'],
    ['JSON with tabs', '{\n\t"rules": [\n\t\t{ "source": "nginx", "target": "x.io/n" }\n\t]\n}\n'],
    [
      'JSON with its schema',
      '{"$schema": "./sync.schema.json", "rules": [{"source": "nginx", "target": "x.io/n"}]}',
    ],
    ['YAML without version', 'rules: [{source: nginx, target: x.io/n}]'],
    ['YAML of Windows', '\uFEFFversion: 1\r\nrules:\r\n  - source: nginx\r\n    target: x.io/n\r\n'],
    ['YAML with an anchor', 'rules: [{source: &s nginx, target: x.io/n, name: *s}]'],
  ])('may be %s', (_format, text) => {
    expect(note(oneRule(text))).toEqual({ source: 'docker.io/library/nginx', targets: ['x.io/n'] });
  });

  it('may have no rules yet', () => {
    expect(read('version: 1\nrules: []\n').rules).toEqual([]);
  });

  it('reads dates and other look-alikes as the text they are', () => {
    expect(
      oneRule('rules: [{source: "nginx", target: x.io/n, name: 2024-01-01, tags: {include: ["1.10"]}}]').name,
    ).toBe('2024-01-01');
  });
});

describe('one target tag with two sources', () => {
  it.each([
    ['two repositories', ['nginx:1', 'x.io/a'], ['redis:1', 'x.io/a']],
    ['two tags', ['nginx:1', 'x.io/a:z'], ['nginx:2', 'x.io/a:z']],
    ['a tag and a digest', ['nginx:1', 'x.io/a'], [`nginx@${digest}`, 'x.io/a:1']],
    ['one among many', ['nginx:1,2,3', 'x.io/a'], ['redis:7,2', 'x.io/a']],
  ])('is refused, naming both lines: %s', (_title, [first, firstTarget], [second, secondTarget]) => {
    const text = `version: 1
rules:
  - source: ${first}
    target: ${firstTarget}
  - source: ${second}
    target: ${secondTarget}
`;
    const error = errorOf(() => read(text));
    expect(error).toMatchObject({ code: 'ERR_TARGET_CONFLICT', line: 6, path: 'rules[1].target' });
    expect(error.message).toMatch(/line 4.*line 6/);
  });

  it('is refused within one rule', () => {
    expect(errorOf(() => read(fileWith({ source: 'nginx:1,2', target: 'x.io/a:z,z' })))).toMatchObject({
      code: 'ERR_TARGET_CONFLICT',
    });
  });

  it.each([
    ['the same source', ['nginx:1', 'x.io/a'], ['nginx:1,2', 'x.io/a']],
    [
      'the same source, spelled in two ways',
      ['nginx:1', 'x.io/a:z'],
      ['docker.io/library/nginx:1', 'x.io/a:z'],
    ],
    ['other targets', ['nginx:1', 'x.io/a'], ['redis:1', 'x.io/b']],
    ['what only listings show', ['nginx:1', 'x.io/a'], ['redis', 'x.io/a']],
  ])('is none: %s', (_title, [first, firstTarget], [second, secondTarget]) => {
    const rules = [
      { name: '1', source: first, target: firstTarget },
      { name: '2', source: second, target: secondTarget },
    ];
    expect(read(JSON.stringify({ rules })).rules).toHaveLength(2);
  });

  it('is none where a filter leaves the tag out', () => {
    const rules = [
      { source: 'nginx:1,2', target: 'x.io/a' },
      { source: 'redis:1,3', target: 'x.io/a', tags: { exclude: ['1'] } },
    ];
    expect(read(JSON.stringify({ rules })).rules).toHaveLength(2);
  });
});
