import { describe, expect, it } from 'vitest';
import { containers, queues } from '../../../lib/storage/ports.ts';
import { assignments, expand, expandFile, subscription, withoutCompiler } from './template.ts';

const person = '11111111-1111-1111-1111-111111111111';
const registryActions = 'Microsoft.ContainerRegistry/registries/repositories';

const registryParameters = {
  registryName: 'hagicode',
  principalId: 'app-object-id',
  diagnosticsName: 'hubferry-test',
  workspaceId: '/workspace',
  repositoryPrefixes: [],
  allowPrune: false,
};
const registryAccess = async (parameters: Readonly<Record<string, unknown>>) =>
  assignments(await expandFile('modules/registry-access.bicep', { ...registryParameters, ...parameters }));

describe.skipIf(withoutCompiler)('role assignments', () => {
  it('are exactly those that the app needs, each in the narrowest scope that works', async () => {
    const expansion = await expand();
    expect(expansion.open).toEqual([]);
    const written = containers.filter((container) => container !== 'config');
    const allQueues = [...queues, ...queues.map((queue) => `${queue}-poison`)];
    const given = assignments(expansion);
    expect(given.map(({ who, role, scope }) => `${who}: ${role} at ${scope}`).sort()).toEqual(
      [
        // The host makes its own containers, so no narrower scope exists when it starts.
        'app: Storage Blob Data Owner at host',
        'app: Storage Blob Data Reader at product/containers/config',
        ...written.map(
          (container) => `app: Storage Blob Data Contributor at product/containers/${container}`,
        ),
        ...allQueues.map((queue) => `app: Storage Queue Data Contributor at product/queues/${queue}`),
        'app: Key Vault Secrets User at vault',
        'app: Monitoring Metrics Publisher at insights',
        'app: Container Registry Repository Writer at registry',
      ].sort(),
    );
    expect(new Set(given.map(({ group }) => group))).toEqual(new Set(['rg-hubferry-test']));
  });

  it('let the operator write the rules and read the reports, and nothing else', async () => {
    const given = assignments(await expand({ operatorPrincipalId: person, operatorPrincipalType: 'Group' }));
    expect(given.filter(({ who }) => who === person).map(({ role, scope }) => `${role} at ${scope}`)).toEqual(
      [
        'Storage Blob Data Contributor at product/containers/config',
        'Storage Blob Data Reader at product/containers/runs',
      ],
    );
  });

  it('reach into the group and subscription of an existing registry', async () => {
    const elsewhere = '00000000-0000-0000-0000-000000000002';
    const registry = {
      kind: 'existing',
      name: 'hagicode',
      resourceGroup: 'rg-reg',
      subscriptionId: elsewhere,
    };
    const expansion = await expand({ registry });
    // Only Azure knows this registry's mode; so its module is left open, and named with its place.
    expect(expansion.open).toHaveLength(1);
    expect(expansion.open[0]).toContain(`'/subscriptions/${elsewhere}/resourceGroups/rg-reg/`);
    expect(expansion.of('Microsoft.ContainerRegistry/registries')).toEqual([]);
    const given = assignments(expansion);
    expect(given.filter(({ subscription: place }) => place !== subscription)).toEqual([]);
  });

  it('are the Acr roles for a registry without repository permissions, which knows no conditions', async () => {
    const roleAssignmentMode = 'LegacyRegistryPermissions';
    const given = await registryAccess({ roleAssignmentMode, repositoryPrefixes: ['mirror/'] });
    expect(given).toMatchObject([{ role: 'AcrPush', scope: 'registry' }]);
    expect(given[0]?.condition).toBeUndefined();
  });

  it('are the repository roles for a registry with repository permissions', async () => {
    const given = await registryAccess({ roleAssignmentMode: 'AbacRepositoryPermissions' });
    expect(given).toMatchObject([{ role: 'Container Registry Repository Writer', scope: 'registry' }]);
    expect(given[0]?.condition).toBeUndefined();
  });

  it('are narrowed to the prefixes for every data action of the role', async () => {
    const [access] = await registryAccess({
      roleAssignmentMode: 'AbacRepositoryPermissions',
      repositoryPrefixes: ['mirror/', 'base/'],
    });
    const actions = ['content/read', 'content/write', 'metadata/read', 'metadata/write'];
    const elsewhere = actions
      .map((action) => `!(ActionMatches{'${registryActions}/${action}'})`)
      .join(' AND ');
    const here = ['mirror/', 'base/']
      .map((prefix) => `@Request[${registryActions}:name] StringStartsWithIgnoreCase '${prefix}'`)
      .join(' OR ');
    expect(access?.condition).toBe(`((${elsewhere}) OR (${here}))`);
  });

  it('are written over where the prefixes are others, so that fewer of them take rights back', async () => {
    const access = async (repositoryPrefixes: readonly string[]) =>
      (
        await expandFile('modules/registry-access.bicep', {
          ...registryParameters,
          roleAssignmentMode: 'AbacRepositoryPermissions',
          repositoryPrefixes,
        })
      ).one('Microsoft.Authorization/roleAssignments');
    const [wide, narrow] = [await access(['mirror/', 'base/']), await access(['mirror/'])];
    expect(narrow.id).toBe(wide.id);
    expect(narrow.properties).not.toEqual(wide.properties);
  });

  it('contain the right to delete only where prune is allowed', async () => {
    const legacy = await registryAccess({
      roleAssignmentMode: 'LegacyRegistryPermissions',
      allowPrune: true,
    });
    expect(legacy.map(({ role }) => role)).toEqual(['AcrPush', 'AcrDelete']);
    const [byRepository, ...others] = await registryAccess({
      roleAssignmentMode: 'AbacRepositoryPermissions',
      repositoryPrefixes: ['mirror/'],
      allowPrune: true,
    });
    expect(others).toEqual([]);
    expect(byRepository?.role).toBe('Container Registry Repository Contributor');
    for (const action of ['content/delete', 'metadata/delete']) {
      expect(byRepository?.condition).toContain(`!(ActionMatches{'${registryActions}/${action}'})`);
    }
  });
});
