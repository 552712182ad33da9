import { readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import * as z from 'zod';
import { containers, queues } from '../../../lib/storage/ports.ts';
import { compile, type Expansion, expand, newRegistry, withoutCompiler } from './template.ts';

/** The one condition of an alert rule. */
const alarmSchema = z.object({
  windowSize: z.string(),
  evaluationFrequency: z.string(),
  criteria: z.object({
    allOf: z.tuple([
      z.object({
        operator: z.string(),
        threshold: z.union([z.number(), z.string()]),
        timeAggregation: z.string(),
      }),
    ]),
  }),
});
const workbookSchema = z.object({ serializedData: z.string() });
const siteSchema = z.object({ virtualNetworkSubnetId: z.string() });

const lastPart = (name: string) => name.split('/').at(-1) ?? '';

describe.skipIf(withoutCompiler)('the resources', () => {
  let template: Expansion;
  beforeAll(async () => {
    template = await expand({
      alertEmails: ['ops@example.org'],
      dockerHubLogin: true,
      dockerHubUsername: 'me',
    });
  });

  it('run the app on Flex Consumption with Node 24', () => {
    expect(template.one('Microsoft.Web/serverfarms')).toMatchObject({
      kind: 'functionapp',
      sku: { name: 'FC1', tier: 'FlexConsumption' },
      properties: { reserved: true },
    });
    expect(template.one('Microsoft.Web/sites')).toMatchObject({
      kind: 'functionapp,linux',
      properties: {
        httpsOnly: true,
        functionAppConfig: {
          runtime: { name: 'node', version: '24' },
          scaleAndConcurrency: { instanceMemoryMB: 2048, maximumInstanceCount: 40, alwaysReady: [] },
          deployment: { storage: { authentication: { type: 'UserAssignedIdentity' } } },
          siteUpdateStrategy: { type: 'Recreate' },
        },
      },
    });
  });

  it('keep instances ready for HTTP and pushes where the parameters ask for it', async () => {
    const { properties } = (await expand({ alwaysReadyHttp: 1, alwaysReadyPush: 2 })).one(
      'Microsoft.Web/sites',
    );
    expect(properties).toMatchObject({
      functionAppConfig: {
        scaleAndConcurrency: {
          alwaysReady: [
            { name: 'http', instanceCount: 1 },
            { name: 'function:push', instanceCount: 2 },
          ],
        },
      },
    });
  });

  it('hold every queue and container that the code uses, and their poison queues', () => {
    const names = (type: string) => template.of(type).map(({ name }) => name);
    const made = names('Microsoft.Storage/storageAccounts/blobServices/containers');
    const product = made.filter((name) => name.startsWith('stferry')).map(lastPart);
    expect(product.sort()).toEqual([...containers].sort());
    expect(made.filter((name) => name.startsWith('sthost')).map(lastPart)).toEqual(['deployment']);
    const madeQueues = names('Microsoft.Storage/storageAccounts/queueServices/queues').map(lastPart);
    expect(madeQueues.sort()).toEqual(queues.flatMap((queue) => [queue, `${queue}-poison`]).sort());
  });

  it('open storage to identities alone', () => {
    const accounts = template.of('Microsoft.Storage/storageAccounts');
    expect(accounts).toHaveLength(2);
    for (const { properties } of accounts) {
      expect(properties).toMatchObject({
        allowSharedKeyAccess: false,
        allowBlobPublicAccess: false,
        minimumTlsVersion: 'TLS1_2',
        supportsHttpsTrafficOnly: true,
      });
    }
    for (const { properties } of template.of('Microsoft.Storage/storageAccounts/blobServices/containers')) {
      expect(properties).toMatchObject({ publicAccess: 'None' });
    }
  });

  it('expire the reports of runs, and nothing else', () => {
    const { name, properties } = template.one('Microsoft.Storage/storageAccounts/managementPolicies');
    expect(name).toMatch(/^stferry/);
    expect(properties).toMatchObject({
      policy: {
        rules: [
          {
            definition: {
              filters: { blobTypes: ['blockBlob'], prefixMatch: ['runs/'] },
              actions: { baseBlob: { delete: { daysAfterModificationGreaterThan: 90 } } },
            },
          },
        ],
      },
    });
  });

  it('take telemetry from identities alone and keep it for thirty days', () => {
    expect(template.one('Microsoft.Insights/components').properties).toMatchObject({
      DisableLocalAuth: true,
    });
    const workspace = template.one('Microsoft.OperationalInsights/workspaces').properties;
    expect(workspace).toMatchObject({ retentionInDays: 30, features: { disableLocalAuth: true } });
  });

  it('refuse user names and passwords when something is published', () => {
    const policies = template.of('Microsoft.Web/sites/basicPublishingCredentialsPolicies');
    expect(policies.map(({ name, properties }) => [lastPart(name), properties])).toEqual([
      ['ftp', { allow: false }],
      ['scm', { allow: false }],
    ]);
  });

  it('make a registry without an admin user, whose rights go by repository', () => {
    expect(template.one('Microsoft.ContainerRegistry/registries').properties).toMatchObject({
      adminUserEnabled: false,
      anonymousPullEnabled: false,
      roleAssignmentMode: 'AbacRepositoryPermissions',
    });
  });

  it('log what the app, the rules, the vault and the registry see', () => {
    const settings = template.of('Microsoft.Insights/diagnosticSettings').map(({ id, properties }) => {
      const { logs } = z.object({ logs: z.array(z.object({ category: z.string() })) }).parse(properties);
      const of = /providers\/([^/]+\/[^/]+)\/[^/]+\/(?:blobServices|providers)/.exec(id)?.[1];
      return [of, logs.map(({ category }) => category)];
    });
    expect(Object.fromEntries(settings)).toEqual({
      'Microsoft.Web/sites': ['FunctionAppLogs'],
      'Microsoft.Storage/storageAccounts': ['StorageWrite', 'StorageDelete'],
      'Microsoft.KeyVault/vaults': ['AuditEvent'],
      'Microsoft.ContainerRegistry/registries': [
        'ContainerRegistryLoginEvents',
        'ContainerRegistryRepositoryEvents',
      ],
    });
  });

  it('tell people of seven troubles, each over its time and from its number on', () => {
    const people = template.one('Microsoft.Insights/actionGroups');
    expect(people.properties).toMatchObject({ emailReceivers: [{ emailAddress: 'ops@example.org' }] });
    const rules = template.of('Microsoft.Insights/scheduledQueryRules');
    const alarms = rules.map(({ name, properties }) => {
      expect(properties).toMatchObject({ enabled: true, actions: { actionGroups: [people.id] } });
      const { windowSize, evaluationFrequency, criteria } = alarmSchema.parse(properties);
      const [{ operator, threshold, timeAggregation }] = criteria.allOf;
      return [name, [windowSize, evaluationFrequency, `${timeAggregation} ${operator} ${threshold}`]];
    });
    expect(Object.fromEntries(alarms)).toEqual({
      'hubferry-test-poison': ['PT1H', 'PT15M', 'Count GreaterThan 0'],
      'hubferry-test-failed-run': ['PT1H', 'PT15M', 'Count GreaterThan 0'],
      // Longer than the 26 hours that its query looks back.
      'hubferry-test-no-plan': ['P2D', 'PT1H', 'Count GreaterThan 0'],
      'hubferry-test-exceptions': ['PT1H', 'PT15M', 'Count GreaterThan 0'],
      'hubferry-test-throttling': ['PT1H', 'PT15M', 'Count GreaterThan 20'],
      'hubferry-test-registry-logins': ['PT1H', 'PT15M', 'Count GreaterThan 5'],
      'hubferry-test-registry-storage': [
        'PT6H',
        'PT1H',
        expect.stringContaining("Maximum GreaterThan [createObject('Basic', 8,"),
      ],
    });
  });

  it('answer what an operator asks, as saved queries and on one page', () => {
    const saved = template.of('Microsoft.OperationalInsights/workspaces/savedSearches');
    expect(saved).toHaveLength(11);
    // Without it a second deployment is refused: 409.
    for (const { properties } of saved) expect(properties).toMatchObject({ etag: '*' });
    const page = z
      .object({
        items: z.array(
          z.object({ type: z.number(), content: z.looseObject({ query: z.string().optional() }) }),
        ),
      })
      .parse(
        JSON.parse(
          workbookSchema.parse(template.one('Microsoft.Insights/workbooks').properties).serializedData,
        ),
      );
    const answers = page.items.filter(({ type }) => type === 3);
    expect(answers).toHaveLength(11);
    const ofOneTag = answers.filter(({ content }) => content.query?.includes('let wanted = "{tag}";'));
    expect(ofOneTag).toHaveLength(1);
  });

  it('carry the tags by which azd finds them', async () => {
    const azure: unknown = parse(await readFile(new URL('../../../azure.yaml', import.meta.url), 'utf8'));
    const services = z.object({ services: z.record(z.string(), z.unknown()) }).parse(azure).services;
    const site = template.one('Microsoft.Web/sites');
    expect(Object.keys(services)).toEqual([site.tags?.['azd-service-name']]);
    const tagged = template.resources.filter(({ tags }) => tags !== undefined);
    expect(tagged.length).toBeGreaterThan(10);
    for (const { tags } of tagged) expect(tags).toMatchObject({ 'azd-env-name': 'test' });
  });

  it('stay out of reach of the network where that is asked for, but for the webhook', async () => {
    const hidden = await expand({ privateNetwork: true, registry: { kind: 'new', sku: 'Premium' } });
    expect(hidden.open).toEqual([]);
    for (const type of ['Microsoft.Storage/storageAccounts', 'Microsoft.KeyVault/vaults']) {
      for (const { properties } of hidden.of(type)) {
        expect(properties).toMatchObject({
          publicNetworkAccess: 'Disabled',
          networkAcls: { defaultAction: 'Deny' },
        });
      }
    }
    const endpoints = hidden
      .of('Microsoft.Network/privateEndpoints')
      .map(({ name }) => name.split(/-test-\w+-/)[1]);
    expect(endpoints).toEqual(['host-blob', 'product-blob', 'product-queue', 'vault', 'registry']);
    const site = hidden.one('Microsoft.Web/sites').properties;
    expect(site).toMatchObject({ publicNetworkAccess: 'Enabled' });
    expect(siteSchema.parse(site).virtualNetworkSubnetId).toMatch(/\/subnets\/app$/);
    expect(hidden.one('Microsoft.Network/virtualNetworks').properties).toMatchObject({
      subnets: [
        {
          name: 'app',
          properties: { delegations: [{ properties: { serviceName: 'Microsoft.App/environments' } }] },
        },
        { name: 'endpoints' },
      ],
    });
  });

  it('have no private endpoint for a registry below Premium, which cannot have one', async () => {
    const hidden = await expand({ privateNetwork: true, allowedIpRanges: ['203.0.113.7'] });
    const names = hidden.of('Microsoft.Network/privateEndpoints').map(({ name }) => name);
    expect(names.filter((name) => name.endsWith('-registry'))).toEqual([]);
    for (const { properties } of hidden.of('Microsoft.Storage/storageAccounts')) {
      expect(properties).toMatchObject({
        publicNetworkAccess: 'Enabled',
        networkAcls: { defaultAction: 'Deny', ipRules: [{ action: 'Allow', value: '203.0.113.7' }] },
      });
    }
  });

  it('name one or two addresses each by itself, since storage takes no smaller range than four', async () => {
    const ranges = ['203.0.113.7/32', '198.51.100.4/31', '192.0.2.0/30'];
    const hidden = await expand({ privateNetwork: true, allowedIpRanges: ranges });
    const values = ['203.0.113.7', '198.51.100.4', '198.51.100.5', '192.0.2.0/30'];
    for (const { properties } of hidden.of('Microsoft.Storage/storageAccounts')) {
      expect(properties).toMatchObject({ networkAcls: { ipRules: values.map((value) => ({ value })) } });
    }
  });

  it('of two installations in one group have no name in common', async () => {
    const ids = async (environmentName: string) => {
      const { resources } = await expand({ environmentName, resourceGroupName: 'rg-shared' });
      return resources
        .filter(({ type }) => type !== 'Microsoft.Resources/resourceGroups')
        .map(({ id }) => id);
    };
    const [one, two] = [await ids('one'), await ids('two')];
    expect(two.filter((id) => one.includes(id))).toEqual([]);
  });

  it.each([
    [{ environmentName: 'My_Env é' }, 'letters, digits and hyphens'],
    [{ networkAddressPrefix: '10.80.0.0/28' }, 'at least a /26'],
    [
      { privateNetwork: true, registry: { ...newRegistry, publicNetworkAccess: 'Disabled' } },
      'Premium registry',
    ],
    [{ registry: { kind: 'new', sku: 'Premium', publicNetworkAccess: 'Disabled' } }, 'privateNetwork'],
  ])('are refused as a whole, with the reason, for %o', async (parameters, reason) => {
    await expect(expand(parameters)).rejects.toThrow(reason);
  });

  it('come in an order in which the app finds its rights and secrets when it starts', async () => {
    const { resources } = z
      .object({
        resources: z.record(z.string(), z.looseObject({ dependsOn: z.array(z.string()).default([]) })),
      })
      .parse(JSON.parse(await compile()));
    const before = (name: string): readonly string[] => {
      const direct = resources[name]?.dependsOn ?? [];
      return [...direct, ...direct.flatMap(before)];
    };
    expect(before('app')).toEqual(expect.arrayContaining(['roles', 'keyVault', 'registryAccess', 'network']));
  });
});
