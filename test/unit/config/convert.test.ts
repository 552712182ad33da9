import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { convertToSyncYaml } from '../../../lib/config/convert.ts';
import { readImageSyncer } from '../../../lib/config/image-syncer.ts';
import type { Rule } from '../../../lib/config/model.ts';
import { readRules } from '../../../lib/config/rules.ts';
import type { Environment } from '../../../lib/config/variables.ts';
import { matchesNames } from '../../../lib/sync/select/select.ts';
import { errorOf } from './read.ts';

const scope = (env: Environment = {}) => ({ env, variables: 'all' }) as const;

function convert(images: string, auth?: string, env: Environment = {}) {
  const files = { images: { text: images }, auth: auth === undefined ? undefined : { text: auth } };
  return convertToSyncYaml(files, scope(env));
}

/** Everything of a rule but how its pattern is written. */
function apartFromPattern(rule: Rule) {
  const { selector } = rule.source;
  return {
    ...rule,
    source: { ...rule.source, selector: selector.kind === 'pattern' ? selector.kind : selector },
  };
}

const digest = `sha256:${'1'.repeat(64)}`;
const sampleTags = [
  '1',
  '1.2',
  'v1.2',
  'latest',
  'a',
  'aa',
  'ba',
  'A',
  '1.2-rc1',
  'x_y',
  '1.2.3',
  'Q',
  'E',
  '1|2',
];

const source = fc.constantFrom(
  'nginx',
  'grafana/grafana',
  'quay.io/coreos/etcd',
  'localhost:5000/a',
  'docker.io/a/b',
);
const expression = fc.oneof(
  fc.constantFrom(
    'a+',
    '^v',
    '1|2',
    '(?i)LATEST$',
    '^$',
    '\\d+\\.\\d+',
    '[a-z]+',
    'a/b',
    '\\Q1.2',
    '\\\\Q',
    '\\Q1|\\E2',
    '\\Qa\\E\\Q1',
    '.',
  ),
  fc
    .array(fc.constantFrom('a', '1', '.', '\\d', '|', '^', '$', '(?:', ')', '*', '\\Q', '\\E', '[', ']'), {
      minLength: 1,
      maxLength: 6,
    })
    .map((parts) => parts.join('')),
);
const entry = fc.oneof(
  source.map((repo) => [repo, '']),
  source.map((repo) => [`${repo}:1`, ':one']),
  source.map((repo) => [`${repo}:1,2`, ':x,y']),
  source.map((repo) => [`${repo}@${digest}`, ':pinned']),
  fc.tuple(source, expression).map(([repo, text]) => [`${repo}:/${text}/`, '']),
);
const images = fc.array(fc.tuple(entry, fc.boolean(), fc.boolean()), { maxLength: 6 }).map((entries) =>
  Object.fromEntries(
    entries.map(([[text = '', suffix = ''], renamed, two], index) => {
      const target = `x.azurecr.io/t${index}`;
      const first = renamed ? target + suffix : target;
      return [text, two ? [first, `y.azurecr.io/t${index}`] : first];
    }),
  ),
);

describe('converting, then reading', () => {
  it('gives the rules that reading gives', () => {
    let compared = 0;
    fc.assert(
      fc.property(images, (map) => {
        const text = JSON.stringify(map);
        const files = { images: { text } };
        let direct: readonly Rule[];
        try {
          direct = readImageSyncer(files, scope()).rules;
        } catch {
          expect(() => convertToSyncYaml(files, scope())).toThrow();
          return;
        }
        const converted = readRules(convertToSyncYaml(files, scope()).text, scope()).rules;
        expect(converted.map(apartFromPattern)).toEqual(direct.map(apartFromPattern));
        for (const [index, rule] of converted.entries()) {
          const before = direct[index];
          if (before === undefined) throw new Error('A rule was added.');
          expect(sampleTags.filter(matchesNames(rule))).toEqual(sampleTags.filter(matchesNames(before)));
          compared += 1;
        }
      }),
      { numRuns: 300 },
    );
    expect(compared).toBeGreaterThan(100);
  });

  it.each([
    ['hundreds of targets', { 'a/b:1': Array.from({ length: 150 }, (_, index) => `x.io/b${index}`) }],
    ['an expression of the greatest length', { [`a/b:/${'x'.repeat(997)}|v1/`]: 'x.io/b' }],
  ])('holds %s', (_what, map) => {
    const text = JSON.stringify(map);
    const [rule] = readRules(convertToSyncYaml({ images: { text } }, scope()).text, scope()).rules;
    expect(rule?.targets).toEqual(readImageSyncer({ images: { text } }, scope()).rules[0]?.targets);
  });

  it('gives the settings that reading gives, once the variables are set', () => {
    const auth = `docker.io: {username: me, password: hubs3cret}
quay.io: {username: "ro$$bot", password: $MY_PASSWORD}
quay.io/open: {}
x.azurecr.io: {username: $WHO, password: "pre$\{MY_PASSWORD}"}
localhost:5000: {insecure: true}
grafana: {username: g, password: graf}
`;
    const env = { MY_PASSWORD: 'mine', WHO: 'acr' };
    const direct = readImageSyncer({ images: { text: '{}' }, auth: { text: auth } }, scope(env));
    const { text } = convert('{}', auth, env);
    const converted = readRules(
      text,
      scope({
        ...env,
        DOCKERHUB_TOKEN: 'hubs3cret',
        SECRET_X_AZURECR_IO_PASSWORD: 'premine',
        SECRET_DOCKER_IO_GRAFANA_PASSWORD: 'graf',
      }),
    );
    for (const [host, path] of [
      ['docker.io', 'a/b'],
      ['docker.io', 'grafana/grafana'],
      ['quay.io', 'a'],
      ['quay.io', 'open/a'],
      ['x.azurecr.io', 'a'],
      ['ghcr.io', 'a'],
    ] as const) {
      expect(converted.registryFor({ host, path }, 'source')).toEqual(
        direct.registryFor({ host, path }, 'source'),
      );
    }
    // Plain HTTP is never fallen back to by a file of hubferry's own.
    expect(converted.registryFor({ host: 'localhost:5000', path: 'a' }, 'source')).toEqual({
      ...direct.registryFor({ host: 'localhost:5000', path: 'a' }, 'source'),
      allowHttpFallback: false,
    });
  });
});

describe('the file', () => {
  it('is one that a person would write', () => {
    const auth =
      'docker.io: {username: me, password: hubs3cret}\nold.example.com: {username: u, password: $OLD, insecure: true}\n';
    expect(convert('nginx:1: [x.io/n, y.io/n:one]\na/b:/rc/: $R/b\n', auth, { R: 'x.io' }).text).toBe(
      `# Rules for hubferry, converted from image-syncer's files.

# Set these variables, which stand for the passwords:
#   DOCKERHUB_TOKEN: password of docker.io

# In the function app rename OLD: there, names start with SECRET_.

version: 1
registries:
  docker.io:
    username: me
    password: $\{DOCKERHUB_TOKEN}
  old.example.com:
    # image-syncer's insecure. If the registry speaks no TLS, add the line
    # endpoint: http://old.example.com
    username: u
    password: $OLD
    skipTlsVerify: true
rules:
  - source: docker.io/library/nginx:1
    target:
      - x.io/n
      - y.io/n:one
  - name: docker.io/a/b:/rc/ -> x.io/b
    source: docker.io/a/b:/.*(?:rc).*/
    target: x.io/b
`,
    );
  });

  it('is told as a plain value too', () => {
    const { text, document } = convert(`nginx@${digest}: x.io/n`, 'x.io: {username: u, password: p}');
    expect(parse(text)).toEqual(document);
  });

  it('holds no password, and gives each a variable of its own', () => {
    const { text } = convert(
      '{}',
      'a-b.io: {username: u, password: s3cret1}\na_b.io/x: {username: u, password: "s3cret2"}\na-b.io/x: {username: u, password: s3cret3$$}\n'.replace(
        'a_b',
        'a.b',
      ),
    );
    expect(text).not.toContain('s3cret');
    expect([...text.matchAll(/password: (\S+)/g)].map(([, value]) => value)).toEqual([
      `$\{SECRET_A_B_IO_PASSWORD}`,
      `$\{SECRET_A_B_IO_X_PASSWORD}`,
      `$\{SECRET_A_B_IO_X_PASSWORD_2}`,
    ]);
  });

  it('of config.json doubles the dollars of a username, which are no variables there', () => {
    const config = '{"auth": {"x.io": {"username": "robot$ci", "password": "$p"}}, "images": {}}';
    const { text } = convertToSyncYaml({ config: { text: config } }, scope());
    const settings = readRules(text, scope({ SECRET_X_IO_PASSWORD: '$p' })).registryFor(
      { host: 'x.io', path: 'a' },
      'source',
    );
    expect([settings.username, settings.password]).toEqual(['robot$ci', '$p']);
  });

  it('needs no variable of a credential to be set, but those of targets', () => {
    expect(() => convert('{}', 'x.io: {username: $U, password: $P}')).not.toThrow();
    expect(errorOf(() => convert('nginx: $REGISTRY/n')).code).toBe('ERR_VARIABLE_UNSET');
  });

  it('is not made of rules that contradict each other', () => {
    expect(errorOf(() => convert('nginx:1: x.io/n\nredis:1: x.io/n')).code).toBe('ERR_TARGET_CONFLICT');
  });
});
