import { describe, expect, it } from 'vitest';
import * as z from 'zod';
import { compile, expand, withoutCompiler } from './template.ts';

const values = { dockerHubToken: 'canary-hub-token', notifyUrl: 'https://example.org/canary-notify' };
const given = {
  dockerHubLogin: true,
  dockerHubUsername: 'me',
  ...values,
  notify: true,
  secrets: { GHCR_TOKEN: 'canary-ghcr', KEPT: '' },
};

const vaultSecrets = 'Microsoft.KeyVault/vaults/secrets';
const settingsSchema = z.object({
  siteConfig: z.object({ appSettings: z.array(z.object({ name: z.string(), value: z.string() })) }),
});

const secretValue = (properties: unknown) => z.object({ value: z.string() }).parse(properties).value;

const references = async (parameters: Readonly<Record<string, unknown>>) => {
  const { properties } = (await expand(parameters)).one('Microsoft.Web/sites');
  const { appSettings } = settingsSchema.parse(properties).siteConfig;
  return Object.fromEntries(
    appSettings
      .filter(({ value }) => value.startsWith('@Microsoft.KeyVault('))
      .map(({ name, value }) => [name, value.replace(/VaultName=[\w-]+/, 'VaultName=kv')]),
  );
};

describe.skipIf(withoutCompiler)('secrets', () => {
  it('go into the vault and nowhere else', async () => {
    const template = await expand(given);
    const stored = template
      .of(vaultSecrets)
      .map(({ name, properties }) => [name.split('/')[1], secretValue(properties)]);
    expect(Object.fromEntries(stored)).toEqual({
      'dockerhub-username': 'me',
      'dockerhub-token': values.dockerHubToken,
      'notify-url': values.notifyUrl,
      'secret-ghcr-token': 'canary-ghcr',
    });
    const elsewhere = template.resources.filter(({ type }) => type !== vaultSecrets);
    expect(JSON.stringify([elsewhere, template.outputs])).not.toContain('canary');
  });

  it('are read through references without a version, so that a rotated one is taken', async () => {
    const reference = (name: string) => `@Microsoft.KeyVault(VaultName=kv;SecretName=${name})`;
    expect(await references(given)).toEqual({
      DOCKERHUB_USERNAME: reference('dockerhub-username'),
      DOCKERHUB_TOKEN: reference('dockerhub-token'),
      NOTIFY_URL: reference('notify-url'),
      SECRET_GHCR_TOKEN: reference('secret-ghcr-token'),
      SECRET_KEPT: reference('secret-kept'),
    });
  });

  it('stay in the vault, and in use, when deployed again without their values', async () => {
    const login = { dockerHubUsername: '', dockerHubToken: '' };
    const again = { ...given, ...login, notifyUrl: '', secrets: { GHCR_TOKEN: '', KEPT: '' } };
    expect((await expand(again)).of(vaultSecrets)).toEqual([]);
    expect(await references(again)).toEqual(await references(given));
  });

  it('are not asked for where Docker Hub is read anonymously and nobody is notified', async () => {
    expect(await references({})).toEqual({});
  });

  it('are secure parameters, all of them, in the main template and below', async () => {
    const parametersSchema = z.object({
      parameters: z.record(z.string(), z.looseObject({ type: z.string().optional() })),
    });
    const text = await compile();
    const { parameters } = parametersSchema.parse(JSON.parse(text));
    const secure = Object.entries(parameters).filter(([, { type }]) => type?.startsWith('secure'));
    expect(secure.map(([name]) => name).sort()).toEqual(['dockerHubToken', 'notifyUrl', 'secrets']);
    expect(text).not.toMatch(/list(?:Keys|AccountSas|ServiceSas|Secrets|Credentials)\(/i);
    expect(text).not.toMatch(/AccountKey=|SharedAccessSignature|DefaultEndpointsProtocol/);
  });
});
