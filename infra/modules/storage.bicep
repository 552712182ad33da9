// A storage account that only identities open: no shared keys, no public blobs.

@minLength(3)
@maxLength(24)
param name string
param location string
param tags { *: string }
param sku 'Standard_LRS' | 'Standard_ZRS'
param containers string[]
param queues string[]

@description('Days after their last change until the blobs of a container are deleted.')
param expiry { container: string, days: int }[]

@description('False: reached through private endpoints only, and from `allowedIpRanges`.')
param publicAccess bool
param allowedIpRanges string[]

@description('Whether writes and deletes of blobs are logged.')
param logWrites bool
param workspaceId string

// Storage takes ranges of four addresses and more; fewer are named one by one.
var addresses = flatten(map(
  allowedIpRanges,
  range =>
    endsWith(range, '/32') || endsWith(range, '/31')
      ? union([parseCidr(range).network], [parseCidr(range).broadcast])
      : [range]
))

resource account 'Microsoft.Storage/storageAccounts@2025-06-01' = {
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: sku }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: publicAccess || !empty(allowedIpRanges) ? 'Enabled' : 'Disabled'
    networkAcls: {
      bypass: 'AzureServices'
      defaultAction: publicAccess ? 'Allow' : 'Deny'
      ipRules: [for address in addresses: { action: 'Allow', value: address }]
    }
  }

  resource blobs 'blobServices' = {
    name: 'default'
    properties: {
      // A checkpoint is written over at every chunk; soft delete would keep, and bill, each of its versions.
      deleteRetentionPolicy: { enabled: false }
    }

    resource container 'containers' = [
      for container in containers: {
        name: container
        properties: { publicAccess: 'None' }
      }
    ]
  }

  resource queueService 'queueServices' = if (!empty(queues)) {
    name: 'default'

    resource queue 'queues' = [
      for queue in queues: {
        name: queue
      }
    ]
  }

  resource lifecycle 'managementPolicies' = if (!empty(expiry)) {
    name: 'default'
    properties: {
      policy: {
        rules: [
          for rule in expiry: {
            name: 'expire-${rule.container}'
            type: 'Lifecycle'
            definition: {
              filters: { blobTypes: ['blockBlob'], prefixMatch: ['${rule.container}/'] }
              actions: { baseBlob: { delete: { daysAfterModificationGreaterThan: rule.days } } }
            }
          }
        ]
      }
    }
  }
}

// Blobs only: each poll of a queue would be a line, some gigabytes a month of them.
// No stable version has this resource type's categories.
#disable-next-line use-recent-api-versions
resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = if (logWrites) {
  name: 'hubferry'
  scope: account::blobs
  properties: {
    workspaceId: workspaceId
    logs: [
      { category: 'StorageWrite', enabled: true }
      { category: 'StorageDelete', enabled: true }
    ]
  }
}

output id string = account.id
output blobEndpoint string = account.properties.primaryEndpoints.blob
output queueEndpoint string = account.properties.primaryEndpoints.queue
