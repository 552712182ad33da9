import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readRules } from '../../../lib/config/rules.ts';
import { expandVariables } from '../../../lib/config/variables.ts';
import { errorOf } from './read.ts';

const env = {
  USER: 'me',
  TOKEN: 's3cret',
  EMPTY: '',
  DOCKERHUB_TOKEN: 'hub',
  SECRET_A: 'a',
  UNRESOLVED: '@Microsoft.KeyVault(SecretUri=https://v/secrets/x)',
};
const expand = (text: string) => expandVariables(text, { env, variables: 'all' });

describe('a variable', () => {
  it.each([
    ['$TOKEN', 's3cret'],
    [`$\{TOKEN}`, 's3cret'],
    [`a$\{USER}b$USER-c`, 'amebme-c'],
    ['$$TOKEN', '$TOKEN'],
    ['pa$$$$word', 'pa$$word'],
    ['$$$USER', '$me'],
    ['plain', 'plain'],
  ])('%s becomes %s', (text, expected) => {
    expect(expand(text)).toBe(expected);
  });

  it.each([
    ['$ABSENT', 'ERR_VARIABLE_UNSET', /ABSENT is not set/],
    ['$EMPTY', 'ERR_VARIABLE_UNSET', /EMPTY is not set/],
    ['$constructor', 'ERR_VARIABLE_UNSET', /constructor is not set/],
    ['$TOKENS', 'ERR_VARIABLE_UNSET', /TOKENS is not set/],
    ['$UNRESOLVED', 'ERR_SECRET_UNRESOLVED', /UNRESOLVED still holds its Key Vault reference/],
    ['a$', 'ERR_CONFIG', /"\$\$" for a dollar/],
    ['$1', 'ERR_CONFIG', /"\$\$" for a dollar/],
    [`$\{}`, 'ERR_CONFIG', /"\$\$" for a dollar/],
    [`$\{TOKEN`, 'ERR_CONFIG', /"\$\$" for a dollar/],
  ])('%s is refused', (text, code, message) => {
    expect(() => expand(text)).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) }),
    );
  });

  it('in the function app has a name that starts with DOCKERHUB_ or SECRET_', () => {
    const inApp = (text: string) => expandVariables(text, { env, variables: 'prefixed' });
    expect(inApp('$DOCKERHUB_TOKEN $SECRET_A')).toBe('hub a');
    expect(() => inApp('$TOKEN')).toThrow(/TOKEN may not be read here/);
    expect(() => inApp('$MY_SECRET_A')).toThrow(/may not be read here/);
  });

  it('leaves every text as it is whose dollars are doubled', () => {
    fc.assert(fc.property(fc.string(), (text) => expand(text.replaceAll('$', '$$$$')) === text));
  });
});

describe('in a rules file', () => {
  const file = (username: string, password: string, extra = '') =>
    `registries:\n  x.io:\n    username: "${username}"\n    password: "${password}"\n${extra}rules: []\n`;
  const repository = { host: 'x.io', path: 'a' };

  it('username and password are expanded', () => {
    const rules = readRules(file('$USER', `$\{TOKEN}!`), { env, variables: 'all' });
    expect(rules.registryFor(repository, 'source')).toMatchObject({ username: 'me', password: 's3cret!' });
  });

  it('nothing else is', () => {
    const ca = () => readRules(file('a', 'b', '    ca: /$USER/ca.pem\n'), { env, variables: 'all' });
    expect(ca).toThrow('/$USER/ca.pem');
    const error = errorOf(() =>
      readRules('rules: [{source: $USER/a, target: x.io/a}]', { env, variables: 'all' }),
    );
    expect(error.path).toBe('rules[0].source');
  });

  it.each([
    ['$ABSENT', 'ERR_VARIABLE_UNSET'],
    ['$UNRESOLVED', 'ERR_SECRET_UNRESOLVED'],
    ['s3cret$', 'ERR_CONFIG'],
  ])('%s is told with its place, and without any value', (password, code) => {
    const error = errorOf(() => readRules(file('$USER', password), { file: 'f', env, variables: 'all' }));
    expect(error).toMatchObject({ code, file: 'f', line: 4, path: 'registries["x.io"].password' });
    expect(`${error.message}${error.cause}`).not.toMatch(/s3cret|KeyVault\(|me\b/);
  });
});
