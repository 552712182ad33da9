// The app's rights in the registry, and the registry's logs. Runs in the registry's own group.

import { roleIds } from 'role-ids.bicep'

param registryName string
param principalId string
param workspaceId string

@description('Other installations may fill the registry too, each with a setting of its own.')
param diagnosticsName string

@description('`AbacRepositoryPermissions` honours only the repository roles, every other mode only the Acr roles.')
param roleAssignmentMode string
param repositoryPrefixes string[]
param allowPrune bool

var byRepository = roleAssignmentMode == 'AbacRepositoryPermissions'
var repositoryRole = allowPrune
  ? roleIds.containerRegistryRepositoryContributor
  : roleIds.containerRegistryRepositoryWriter
var registryRoles = allowPrune ? [roleIds.acrPush, roleIds.acrDelete] : [roleIds.acrPush]
var roles = byRepository ? [repositoryRole] : registryRoles

// A condition binds only the actions that it names: all data actions of the role must be here.
var repository = 'Microsoft.ContainerRegistry/registries/repositories'
var writerActions = ['content/read', 'content/write', 'metadata/read', 'metadata/write']
var contributorActions = [...writerActions, 'content/delete', 'metadata/delete']
var otherAction = join(
  map(allowPrune ? contributorActions : writerActions, action => '!(ActionMatches{\'${repository}/${action}\'})'),
  ' AND '
)
var allowedRepository = join(
  map(repositoryPrefixes, prefix => '@Request[${repository}:name] StringStartsWithIgnoreCase \'${prefix}\''),
  ' OR '
)
var condition = byRepository && !empty(repositoryPrefixes) ? '((${otherAction}) OR (${allowedRepository}))' : null

resource registry 'Microsoft.ContainerRegistry/registries@2025-11-01' existing = {
  name: registryName
}

resource access 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for role in roles: {
    name: guid(registry.id, principalId, role)
    scope: registry
    properties: {
      principalId: principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role)
      condition: condition
      conditionVersion: condition == null ? null : '2.0'
    }
  }
]

// No stable version has this resource type's categories.
#disable-next-line use-recent-api-versions
resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: diagnosticsName
  scope: registry
  properties: {
    workspaceId: workspaceId
    logs: [
      { category: 'ContainerRegistryLoginEvents', enabled: true }
      { category: 'ContainerRegistryRepositoryEvents', enabled: true }
    ]
    // The alert on storage used reads these.
    metrics: [{ category: 'AllMetrics', enabled: true }]
  }
}
