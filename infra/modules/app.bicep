// The function app on Flex Consumption.

param name string
param planName string
param location string
param tags { *: string }
param identityId string

param nodeVersion '22' | '24'
param instanceMemoryMB 512 | 2048 | 4096

@minValue(1)
@maxValue(1000)
param maximumInstanceCount int

@description('Instances that are always there: for all HTTP functions, and for pushes.')
param alwaysReady { http: int, push: int }
param siteUpdateStrategy 'Recreate' | 'RollingUpdate'

@description('URL of the container that the deployment package is put into.')
param deploymentContainerUrl string

@description('App settings: names and values, never a secret itself.')
param settings { *: string }

@description('Names of app settings that are read from the vault.')
param secretSettings string[]
param vaultName string

@description('Empty: the app is in no network.')
param subnetId string
param workspaceId string

// Without a version: a rotated secret is taken at the next refresh.
var references = toObject(
  secretSettings,
  setting => setting,
  setting => '@Microsoft.KeyVault(VaultName=${vaultName};SecretName=${toLower(replace(setting, '_', '-'))})'
)
var alwaysReadyGroups = [
  { name: 'http', instanceCount: alwaysReady.http }
  { name: 'function:push', instanceCount: alwaysReady.push }
]

resource plan 'Microsoft.Web/serverfarms@2025-03-01' = {
  name: planName
  location: location
  tags: tags
  kind: 'functionapp'
  sku: { name: 'FC1', tier: 'FlexConsumption' }
  properties: { reserved: true }
}

resource site 'Microsoft.Web/sites@2025-03-01' = {
  name: name
  location: location
  // azd finds what to publish to by this tag.
  tags: { ...tags, 'azd-service-name': 'app' }
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identityId}': {} }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    publicNetworkAccess: 'Enabled'
    keyVaultReferenceIdentity: identityId
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    // Flex Consumption refuses most of what a site can be configured with, `ftpsState` too.
    siteConfig: {
      http20Enabled: true
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
      appSettings: [for setting in items({ ...settings, ...references }): { name: setting.key, value: setting.value }]
    }
    functionAppConfig: {
      runtime: { name: 'node', version: nodeVersion }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstanceCount
        alwaysReady: filter(alwaysReadyGroups, group => group.instanceCount > 0)
      }
      deployment: {
        storage: {
          type: 'blobContainer'
          value: deploymentContainerUrl
          authentication: { type: 'UserAssignedIdentity', userAssignedIdentityResourceId: identityId }
        }
      }
      // Known to the service since 2024-11-01, missing in the compiler's types.
      #disable-next-line BCP037
      siteUpdateStrategy: { type: siteUpdateStrategy }
    }
  }

  // Publishing is done with Entra tokens.
  resource ftp 'basicPublishingCredentialsPolicies' = {
    name: 'ftp'
    properties: { allow: false }
  }

  resource scm 'basicPublishingCredentialsPolicies' = {
    name: 'scm'
    properties: { allow: false }
  }
}

// No stable version has this resource type's categories.
#disable-next-line use-recent-api-versions
resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'hubferry'
  scope: site
  properties: {
    workspaceId: workspaceId
    // What the host says, also when nothing reaches Application Insights.
    logs: [{ category: 'FunctionAppLogs', enabled: true }]
  }
}

output name string = site.name
output hostName string = site.properties.defaultHostName
