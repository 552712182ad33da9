/** The template as Azure Resource Manager would see it for given parameters: every loop, condition and module expanded. */
import { cp, glob, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as z from 'zod';
import { bicep, findBicep, infraFolder, runBicep } from '../../../infra/bicep.ts';

export const subscription = '00000000-0000-0000-0000-000000000001';

const resourceSchema = z.looseObject({
  id: z.string(),
  type: z.string(),
  name: z.string(),
  apiVersion: z.string(),
  location: z.string().optional(),
  tags: z.record(z.string(), z.string()).optional(),
  properties: z.record(z.string(), z.unknown()).optional(),
});
const expansionSchema = z.looseObject({
  predictedResources: z.array(resourceSchema),
  outputs: z.record(z.string(), z.unknown()).default({}),
  diagnostics: z.array(z.string()).default([]),
});

export type Resource = z.infer<typeof resourceSchema>;
export interface Expansion {
  readonly resources: readonly Resource[];
  readonly outputs: Readonly<Record<string, unknown>>;
  /** What could not be expanded, since it takes Azure's answer to know. */
  readonly open: readonly string[];
  of(type: string): readonly Resource[];
  one(type: string): Resource;
}

export const compiler = await findBicep();
export const withoutCompiler = compiler === undefined;
if (withoutCompiler)
  console.warn('The template is not checked: there is neither dotnet nor bicep on this machine.');

export const newRegistry = { kind: 'new', sku: 'Basic' };

/** The whole, for these parameters; those that are always needed have a value here. */
export async function expand(parameters: Readonly<Record<string, unknown>> = {}): Promise<Expansion> {
  return expandFile('main.bicep', {
    environmentName: 'test',
    location: 'westeurope',
    registry: newRegistry,
    ...parameters,
  });
}

const expansions = new Map<string, Promise<Expansion>>();

/** One file of infra/; a module lands in the group `rg-module`. */
export function expandFile(file: string, parameters: Readonly<Record<string, unknown>>): Promise<Expansion> {
  const key = JSON.stringify([file, parameters]);
  const expansion = expansions.get(key) ?? snapshot(file, parameters);
  expansions.set(key, expansion);
  return expansion;
}

async function snapshot(file: string, parameters: Readonly<Record<string, unknown>>): Promise<Expansion> {
  const folder = await mkdtemp(join(tmpdir(), 'hubferry-template-'));
  try {
    await cp(infraFolder, folder, { recursive: true });
    await revealSecureParameters(folder);
    await writeFile(join(folder, 'scenario.bicepparam'), parameterFile(file, parameters));
    const place = [
      '--subscription-id',
      subscription,
      '--location',
      'westeurope',
      '--deployment-name',
      'test',
    ];
    const group = file === 'main.bicep' ? [] : ['--resource-group', 'rg-module'];
    await runBicep(compiler ?? 'bicep', ['snapshot', 'scenario.bicepparam', ...place, ...group], folder);
    return await readExpansion(join(folder, 'scenario.snapshot.json'));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** The template as it is sent: with secure parameters, dependencies and expressions. */
export async function compile(): Promise<string> {
  return bicep(compiler ?? 'bicep', ['build', 'main.bicep', '--stdout']);
}

/** The compiler leaves open what depends on a secure parameter; a test wants to see it, and its linter does not. */
async function revealSecureParameters(folder: string): Promise<void> {
  await writeFile(join(folder, 'bicepconfig.json'), '{ "analyzers": { "core": { "enabled": false } } }');
  for await (const file of glob('**/*.bicep', { cwd: folder })) {
    const path = join(folder, file);
    await writeFile(path, (await readFile(path, 'utf8')).replaceAll('@secure()\n', ''));
  }
}

function parameterFile(file: string, parameters: Readonly<Record<string, unknown>>): string {
  const lines = Object.entries(parameters).map(
    ([name, value]) => `param ${name} = json('''${JSON.stringify(value)}''')`,
  );
  return [`using '${file}'`, ...lines, ''].join('\n');
}

async function readExpansion(path: string): Promise<Expansion> {
  const {
    predictedResources: resources,
    outputs,
    diagnostics,
  } = expansionSchema.parse(JSON.parse(await readFile(path, 'utf8')));
  const of = (type: string) => resources.filter((resource) => resource.type === type);
  return {
    resources,
    outputs,
    open: diagnostics,
    of,
    one(type) {
      const [first, ...others] = of(type);
      if (first === undefined || others.length > 0) throw new Error(`not one ${type} but ${of(type).length}`);
      return first;
    },
  };
}

const roleNames: Readonly<Record<string, string>> = {
  '7f951dda-4ed3-4680-a7ca-43fe172d538d': 'AcrPull',
  '8311e382-0749-4cb8-b61a-304f252e45ec': 'AcrPush',
  'c2f4ef07-c644-48eb-af81-4b1b4947fb11': 'AcrDelete',
  '2a1e307c-b015-4ebd-883e-5b7698a07328': 'Container Registry Repository Writer',
  '2efddaa5-3f1f-4df3-97df-af3f13818f4c': 'Container Registry Repository Contributor',
  '4633458b-17de-408a-b874-0445c86b69e6': 'Key Vault Secrets User',
  '3913510d-42f4-4e42-8a64-420c390055eb': 'Monitoring Metrics Publisher',
  'b7e6dc6d-f1e8-4753-8033-0f276bb0955b': 'Storage Blob Data Owner',
  'ba92f5b4-2d11-453d-a403-e96b0029c9fe': 'Storage Blob Data Contributor',
  '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1': 'Storage Blob Data Reader',
  '974c5e8b-45b9-4653-ba55-5f855dd0fb88': 'Storage Queue Data Contributor',
};

export interface Assignment {
  readonly role: string;
  /** From the provider on, without the names of accounts: `storageAccounts/host/…/containers/config`. */
  readonly scope: string;
  readonly subscription: string;
  readonly group: string;
  /** `app`, or the object ID. */
  readonly who: string;
  readonly condition: string | undefined;
}

/** Role assignments in words; a role that is not known here is its ID. */
export function assignments(expansion: Expansion): readonly Assignment[] {
  return expansion.of('Microsoft.Authorization/roleAssignments').map((resource) => {
    const { roleDefinitionId, principalId, condition } = z
      .looseObject({ roleDefinitionId: z.string(), principalId: z.string(), condition: z.string().nullish() })
      .parse(resource.properties);
    const roleId = roleDefinitionId.split('/').at(-1) ?? '';
    const place =
      /\/subscriptions\/([^/]+)\/resourceGroups\/([^/]+)\/providers\/(?!Microsoft\.Authorization)([^']+?)(?:\/providers\/Microsoft\.Authorization.*)?(?:'|$)/.exec(
        resource.id,
      );
    return {
      role: roleNames[roleId] ?? roleId,
      subscription: place?.[1] ?? '',
      group: place?.[2] ?? '',
      scope: withoutNames(place?.[3] ?? ''),
      who: principalId.includes('userAssignedIdentities/id-hubferry') ? 'app' : principalId,
      condition: condition ?? undefined,
    };
  });
}

const accounts: readonly [RegExp, string][] = [
  [/^Microsoft\.Storage\/storageAccounts\/sthost\w+/, 'host'],
  [/^Microsoft\.Storage\/storageAccounts\/stferry\w+/, 'product'],
  [/^Microsoft\.KeyVault\/vaults\/[\w-]+/, 'vault'],
  [/^Microsoft\.Insights\/components\/[\w-]+/, 'insights'],
  [/^Microsoft\.ContainerRegistry\/registries\/\w+/, 'registry'],
];

function withoutNames(scope: string): string {
  const [account] = accounts.filter(([shape]) => shape.test(scope));
  return account === undefined
    ? scope
    : scope.replace(...account).replace(/\/(?:blob|queue)Services\/default/, '');
}
