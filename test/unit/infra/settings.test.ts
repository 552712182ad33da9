import { readdir, readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import * as z from 'zod';
import { readAppSettings } from '../../../lib/config/environment.ts';
import { parseDuration } from '../../../lib/config/quantity.ts';
import { isPrefixed } from '../../../lib/config/variables.ts';
import { expand, withoutCompiler } from './template.ts';

const root = new URL('../../../', import.meta.url);
const read = (file: string) => readFile(new URL(file, root), 'utf8');

/** Read by the Functions host and its telemetry, not by hubferry. */
const hostSettings = [
  'APPLICATIONINSIGHTS_AUTHENTICATION_STRING',
  'APPLICATIONINSIGHTS_CONNECTION_STRING',
  'AzureWebJobsStorage__blobServiceUri',
  'AzureWebJobsStorage__clientId',
  'AzureWebJobsStorage__credential',
  'AzureWebJobsStorage__queueServiceUri',
];

/** Alternatives that only a local set-up uses: the rules' text, and a connection string. */
const localSettings = ['HubferryStorage', 'SYNC_CONFIG'];

/** Refused, ignored or harmful on Flex Consumption. */
const forbiddenSettings = [
  'ENABLE_ORYX_BUILD',
  'FUNCTIONS_EXTENSION_VERSION',
  'FUNCTIONS_MAX_HTTP_CONCURRENCY',
  'FUNCTIONS_WORKER_DYNAMIC_CONCURRENCY_ENABLED',
  'FUNCTIONS_WORKER_PROCESS_COUNT',
  'FUNCTIONS_WORKER_RUNTIME',
  'FUNCTIONS_WORKER_RUNTIME_VERSION',
  'SCM_DO_BUILD_DURING_DEPLOYMENT',
  'WEBSITE_CONTENTAZUREFILECONNECTIONSTRING',
  'WEBSITE_CONTENTOVERVNET',
  'WEBSITE_CONTENTSHARE',
  'WEBSITE_DNS_SERVER',
  'WEBSITE_MAX_DYNAMIC_APPLICATION_SCALE_OUT',
  'WEBSITE_MOUNT_ENABLED',
  'WEBSITE_NODE_DEFAULT_VERSION',
  'WEBSITE_RUN_FROM_PACKAGE',
  'WEBSITE_SKIP_CONTENTSHARE_VALIDATION',
  'WEBSITE_TIME_ZONE',
  'WEBSITE_VNET_ROUTE_ALL',
];

const siteSchema = z.object({
  siteConfig: z.looseObject({ appSettings: z.array(z.object({ name: z.string(), value: z.string() })) }),
});

/** Settings named in the only reader of the environment, and in binding expressions. */
async function settingsReadByCode(): Promise<ReadonlySet<string>> {
  const environment = await read('lib/config/environment.ts');
  const schema = environment.slice(environment.indexOf('const settingsSchema'));
  const names = [
    ...schema.matchAll(/^ {2}([A-Z_]+): /gm),
    ...environment.matchAll(/\benv\.([A-Za-z_]+)/g),
    ...environment.matchAll(/'(HubferryStorage__\w+)'/g),
  ];
  const files = await readdir(new URL('functions/', root));
  for (const file of files) names.push(...(await read(`functions/${file}`)).matchAll(/'%(\w+)%'/g));
  return new Set(names.map(([, name]) => name ?? ''));
}

describe.skipIf(withoutCompiler)('app settings', () => {
  const given = {
    dockerHubLogin: true,
    dockerHubUsername: 'me',
    dockerHubToken: 'token',
    notify: true,
    notifyUrl: 'https://example.org/hook',
    secrets: { GHCR_TOKEN: 'token' },
    repositoryPrefixes: ['mirror/', 'base/'],
  };
  let settings: Readonly<Record<string, string>>;
  let siteConfig: object;
  beforeAll(async () => {
    const site = siteSchema.parse((await expand(given)).one('Microsoft.Web/sites').properties);
    siteConfig = site.siteConfig;
    settings = Object.fromEntries(site.siteConfig.appSettings.map(({ name, value }) => [name, value]));
  });

  it('are all read: by the code, by a binding, or by the host', async () => {
    const read = await settingsReadByCode();
    const known = (name: string) => read.has(name) || hostSettings.includes(name) || isPrefixed(name);
    expect(Object.keys(settings).filter((name) => !known(name))).toEqual([]);
  });

  it('are all set that the code, a binding or the host reads', async () => {
    const wanted = [...(await settingsReadByCode()), ...hostSettings].filter(
      (name) => !localSettings.includes(name),
    );
    expect(wanted.length).toBeGreaterThan(15);
    expect(wanted.filter((name) => settings[name] === undefined)).toEqual([]);
  });

  it('mean to the app what the parameters say', () => {
    const env = { ...settings, HubferryStorage__clientId: 'client' };
    for (const service of ['blob', 'queue']) {
      const name = `HubferryStorage__${service}ServiceUri`;
      expect(settings[name]).toMatch(new RegExp(`^\\[reference\\(.+\\)\\.primaryEndpoints\\.${service}\\]$`));
      Object.assign(env, { [name]: `https://account.${service}.example/` });
    }
    expect(readAppSettings(env)).toMatchObject({
      storage: { kind: 'identity', blobServiceUri: 'https://account.blob.example', clientId: 'client' },
      syncConfig: undefined,
      copyDeadline: parseDuration('8m'),
      pullReserve: 20,
      pruneLimit: 0.2,
      notifyOn: new Set(['failed', 'parked', 'recovered']),
      repositoryPrefixes: ['mirror/', 'base/'],
    });
  });

  it('hold no key, password or connection string', () => {
    for (const [name, value] of Object.entries(settings)) {
      expect(value, name).not.toMatch(/AccountKey|SharedAccess|listKeys|password/i);
    }
    expect(settings.AzureWebJobsStorage__credential).toBe('managedidentity');
    expect(settings.HubferryStorage__credential).toBe('managedidentity');
    expect(settings.APPLICATIONINSIGHTS_AUTHENTICATION_STRING).toContain(';Authorization=AAD');
  });

  it('contain none that Flex Consumption forbids', () => {
    expect(Object.keys(settings).filter((name) => forbiddenSettings.includes(name))).toEqual([]);
  });

  it('stand beside only what Flex Consumption takes: it refuses a whole site for one of the others', () => {
    expect(Object.keys(siteConfig).sort()).toEqual([
      'appSettings',
      'http20Enabled',
      'minTlsVersion',
      'scmMinTlsVersion',
    ]);
  });

  it('are the schedules that the example for local use has', async () => {
    const example = z
      .object({ Values: z.record(z.string(), z.string()) })
      .parse(JSON.parse(await read('local.settings.example.json')));
    for (const name of ['SYNC_SCHEDULE', 'VERIFY_SCHEDULE'])
      expect(settings[name]).toBe(example.Values[name]);
  });
});

describe('the limits of time', () => {
  const hostSchema = z.object({
    functionTimeout: z.string(),
    extensionBundle: z.object({ version: z.string() }),
    extensions: z.object({
      queues: z.looseObject({
        batchSize: z.number(),
        maxDequeueCount: z.number(),
        messageEncoding: z.string().optional(),
      }),
    }),
    logging: z.object({
      applicationInsights: z.object({
        samplingSettings: z.object({ isEnabled: z.boolean(), excludedTypes: z.string().optional() }),
      }),
    }),
  });
  const readHost = async () => hostSchema.parse(JSON.parse(await read('host.json')));
  const minutes = (span: string) => {
    const [hours = 0, minutes = 0, seconds = 0] = span.split(':').map(Number);
    return hours * 60 + minutes + seconds / 60;
  };

  it('stop a copier by itself, well before the host does and before the ten minutes of a platform update', async () => {
    const deadline =
      (parseDuration(/param copyDeadline string = '(\w+)'/.exec(await read('infra/main.bicep'))?.[1] ?? '') ??
        0) / 60_000;
    const { functionTimeout } = await readHost();
    expect(deadline).toBeGreaterThan(0);
    expect(deadline).toBeLessThanOrEqual(9);
    // A blob's last chunk and the saving of a checkpoint may take some minutes more.
    expect(minutes(functionTimeout)).toBeGreaterThanOrEqual(deadline + 5);
    // Scale-in grants sixty minutes.
    expect(minutes(functionTimeout)).toBeLessThan(60);
  });

  it('let messages fail some times before they are poison, in the encoding that the code sends', async () => {
    const { extensions, extensionBundle } = await readHost();
    expect(extensions.queues.maxDequeueCount).toBeGreaterThanOrEqual(5);
    expect(extensions.queues.messageEncoding ?? 'base64').toBe('base64');
    expect(extensionBundle.version).toBe('[4.*, 5.0.0)');
  });

  it('lose no line to sampling, since the queries and alerts count them', async () => {
    const { samplingSettings } = (await readHost()).logging.applicationInsights;
    const excluded = samplingSettings.excludedTypes?.split(';') ?? [];
    expect(samplingSettings.isEnabled ? excluded : ['Trace', 'Exception']).toEqual(
      expect.arrayContaining(['Trace', 'Exception']),
    );
  });
});
