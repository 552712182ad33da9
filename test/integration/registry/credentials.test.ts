import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { describe, expect, it, test } from 'vitest';
import { Clients } from '../../../lib/clients.ts';
import { readRules } from '../../../lib/config/rules.ts';
import { readDockerCredential } from '../../../lib/registry/credentials.ts';
import { createHostGate } from '../../../lib/registry/gate.ts';
import { reply } from '../../local/server.ts';
import { afterTest, serve } from './support.ts';

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'hubferry-docker-'));
  afterTest(() => rmSync(path, { recursive: true }));
  return path;
}

/** An environment with this Docker configuration, and programs that are scripts for Node. */
function environment(
  config: unknown,
  programs: Readonly<Record<string, string>> = {},
): Record<string, string> {
  const path = folder();
  writeFileSync(join(path, 'config.json'), typeof config === 'string' ? config : JSON.stringify(config));
  for (const [name, script] of Object.entries(programs)) {
    writeFileSync(join(path, name), `#!${process.execPath}\n${script}`);
    chmodSync(join(path, name), 0o755);
  }
  return { DOCKER_CONFIG: path, PATH: [path, dirname(process.execPath)].join(delimiter) };
}

const auth = (text: string) => ({ auth: Buffer.from(text).toString('base64') });

/** Answers with what it was asked for as the password. */
const echo = `
let server = '';
process.stdin.on('data', (text) => { server += text; }).on('end', () => {
  console.log(JSON.stringify({ ServerURL: server, Username: 'helped', Secret: process.argv[2] + ' ' + server }));
});`;

describe("the user's Docker configuration", () => {
  it('is not needed', async () => {
    expect(await readDockerCredential('x.io', 'a', { DOCKER_CONFIG: folder() })).toBeUndefined();
  });

  it('gives a login in each of its forms', async () => {
    const env = environment({
      auths: {
        'a.io': auth('user:pass:word'),
        'b.io': { username: 'user', password: 'pass' },
        'c.io': { identitytoken: 'refresh', ...auth('00000000-0000-0000-0000-000000000000:') },
        'd.io': {},
        'e.io': auth('no-colon'),
      },
    });
    expect(await readDockerCredential('a.io', 'x', env)).toEqual({ username: 'user', password: 'pass:word' });
    expect(await readDockerCredential('b.io', 'x', env)).toEqual({ username: 'user', password: 'pass' });
    expect(await readDockerCredential('c.io', 'x', env)).toEqual({ identityToken: 'refresh' });
    for (const host of ['d.io', 'e.io', 'f.io', 'constructor']) {
      expect(await readDockerCredential(host, 'x', env)).toBeUndefined();
    }
  });

  it.each([
    'https://index.docker.io/v1/',
    'index.docker.io',
    'docker.io',
    'registry-1.docker.io',
    'https://docker.io',
  ])('knows Docker Hub as %s', async (key) => {
    const env = environment({ auths: { [key]: auth('user:pass') } });
    expect(await readDockerCredential('docker.io', 'library/x', env)).toEqual({
      username: 'user',
      password: 'pass',
    });
    expect(await readDockerCredential('other.io', 'library/x', env)).toBeUndefined();
  });

  it('gives the longest entry that matches at a slash', async () => {
    const env = environment({
      auths: {
        'x.io/team/app': auth('app:1'),
        'x.io': auth('host:1'),
        'x.io/team': auth('team:1'),
        'http://x.io:5000/v2/': auth('port:1'),
      },
    });
    const name = async (host: string, path: string) => {
      const credential = await readDockerCredential(host, path, env);
      return credential !== undefined && 'username' in credential ? credential.username : undefined;
    };
    expect(await name('x.io', 'team/app')).toBe('app');
    expect(await name('x.io', 'team/application')).toBe('team');
    expect(await name('x.io', 'teams')).toBe('host');
    expect(await name('x.io:5000', 'team')).toBe('port');
  });

  it('that is empty holds nothing', async () => {
    expect(await readDockerCredential('x.io', 'a', environment(''))).toBeUndefined();
  });

  it.each(['[]', '{', '"x"'])('that reads %j is named as wrong', async (text) => {
    const env = environment(text);
    await expect(readDockerCredential('x.io', 'a', env)).rejects.toMatchObject({
      code: 'ERR_CONFIG',
      file: join(env.DOCKER_CONFIG ?? '', 'config.json'),
    });
  });
});

test('repositories of one host are each read with the login of their own namespace', async () => {
  const seen: string[] = [];
  const server = await serve(({ basic, path }) => {
    if (basic === undefined) return reply(401, { 'www-authenticate': 'Basic realm="x"' });
    seen.push(`${path.split('/')[2]} by ${basic.username}`);
    return reply(404);
  });
  const { host } = new URL(server.url);
  const teams = ['team-a', 'team-b', 'other'];
  const env = environment({
    auths: { [`${host}/team-a`]: auth('a:1'), [`${host}/team-b`]: auth('b:2'), [host]: auth('all:3') },
  });
  const text = JSON.stringify({ rules: [{ source: `${host}/team-a/x`, target: 'elsewhere.io/x' }] });
  const rules = readRules(text, { env: {}, variables: 'all' });
  const identity = () => {
    throw new Error('No identity is needed here');
  };
  const clients = new Clients({ env, gate: createHostGate(), retries: 0, maxWaitMs: 0, blobs: 1, identity });
  afterTest(() => clients.close());
  for (const team of [...teams, ...teams]) {
    const source = clients.source(rules, { host, path: `${team}/x` }, {});
    expect(await source.resolve('1')).toBeUndefined();
  }
  expect(seen.slice(3)).toEqual(['team-a by a', 'team-b by b', 'other by all']);
});

describe('a credential helper', () => {
  it('is asked for its host, before the store and the file', async () => {
    const env = environment(
      { credHelpers: { 'x.io': 'special' }, credsStore: 'all', auths: { 'x.io': auth('file:1') } },
      { 'docker-credential-special': echo, 'docker-credential-all': echo.replace('helped', 'stored') },
    );
    expect(await readDockerCredential('x.io', 'a', env)).toEqual({
      username: 'helped',
      password: 'get x.io',
    });
    expect(await readDockerCredential('docker.io', 'library/a', env)).toEqual({
      username: 'stored',
      password: 'get https://index.docker.io/v1/',
    });
  });

  it('may give a refresh token', async () => {
    const env = environment(
      { credsStore: 'token' },
      {
        'docker-credential-token': `console.log(JSON.stringify({ Username: '<token>', Secret: 'refresh' }));`,
      },
    );
    expect(await readDockerCredential('x.io', 'a', env)).toEqual({ identityToken: 'refresh' });
  });

  it('that knows nothing leaves it to the file', async () => {
    const env = environment(
      { credsStore: 'empty', auths: { 'x.io': auth('file:1') } },
      {
        'docker-credential-empty': `console.log('credentials not found in native keychain'); process.exit(1);`,
      },
    );
    expect(await readDockerCredential('x.io', 'a', env)).toEqual({ username: 'file', password: '1' });
  });

  it('that fails is named, without what it wrote', async () => {
    const env = environment(
      { credsStore: 'broken' },
      { 'docker-credential-broken': `console.log('canary'); console.error('canary'); process.exit(3);` },
    );
    const read = readDockerCredential('x.io', 'a', env);
    await expect(read).rejects.toMatchObject({
      code: 'ERR_UNAUTHORIZED',
      message: 'docker-credential-broken gave no login for x.io: it failed',
    });
    await expect(readDockerCredential('x.io', 'a', environment({ credsStore: 'absent' }))).rejects.toThrow(
      'docker-credential-absent gave no login for x.io: it is not installed',
    );
  });

  it.each(['../evil', 'a b', 'a;b', 7])('is never run by the name %j', async (name) => {
    const env = environment({ credHelpers: { 'x.io': name } });
    const read = readDockerCredential('x.io', 'a', env);
    if (typeof name === 'string') await expect(read).rejects.toMatchObject({ code: 'ERR_CONFIG' });
    else expect(await read).toBeUndefined();
  });
});
