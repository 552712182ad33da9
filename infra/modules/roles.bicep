// Who may do what, but for the registry. Each assignment has the narrowest scope that works.

import { roleIds } from 'role-ids.bicep'

param appPrincipalId string
param hostStorageName string
param productStorageName string
param vaultName string
param insightsName string

@description('Queues that the app sends to, receives from and keeps messages in.')
param queues string[]

@description('Containers that the app writes to.')
param writtenContainers string[]
param rulesContainer string
param reportsContainer string

@description('Writes the rules and reads the reports; empty: nobody beside the app.')
param operatorPrincipalId string
param operatorPrincipalType 'User' | 'Group' | 'ServicePrincipal'

resource hostStorage 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: hostStorageName
}

resource productStorage 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: productStorageName

  resource blobs 'blobServices' existing = {
    name: 'default'

    resource rules 'containers' existing = {
      name: rulesContainer
    }

    resource reports 'containers' existing = {
      name: reportsContainer
    }

    resource written 'containers' existing = [
      for container in writtenContainers: {
        name: container
      }
    ]
  }

  resource queueService 'queueServices' existing = {
    name: 'default'

    resource queue 'queues' existing = [
      for queue in queues: {
        name: queue
      }
    ]
  }
}

resource vault 'Microsoft.KeyVault/vaults@2025-05-01' existing = {
  name: vaultName
}

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: insightsName
}

// The host makes its own containers for locks, timers and function keys, and fetches the deployment package:
// the account is dedicated to it.
resource hostOwnsItsStorage 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(hostStorage.id, appPrincipalId, roleIds.storageBlobDataOwner)
  scope: hostStorage
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds.storageBlobDataOwner)
  }
}

resource appReadsRules 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(productStorage::blobs::rules.id, appPrincipalId, roleIds.storageBlobDataReader)
  scope: productStorage::blobs::rules
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds.storageBlobDataReader)
  }
}

resource appWritesState 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (container, index) in writtenContainers: {
    name: guid(productStorage::blobs::written[index].id, appPrincipalId, roleIds.storageBlobDataContributor)
    scope: productStorage::blobs::written[index]
    properties: {
      principalId: appPrincipalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId(
        'Microsoft.Authorization/roleDefinitions',
        roleIds.storageBlobDataContributor
      )
    }
  }
]

// Contributor, and not Message Processor with Message Sender: a message is renewed by updating it
// (queues/messages/write), and the trigger asks for its poison queue by creating it (queues/write).
resource appUsesQueues 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for (queue, index) in queues: {
    name: guid(productStorage::queueService::queue[index].id, appPrincipalId, roleIds.storageQueueDataContributor)
    scope: productStorage::queueService::queue[index]
    properties: {
      principalId: appPrincipalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId(
        'Microsoft.Authorization/roleDefinitions',
        roleIds.storageQueueDataContributor
      )
    }
  }
]

// The vault is dedicated to the app, and a reference must also reach a secret that is added to it by hand.
resource appReadsSecrets 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(vault.id, appPrincipalId, roleIds.keyVaultSecretsUser)
  scope: vault
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds.keyVaultSecretsUser)
  }
}

resource appSendsTelemetry 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(insights.id, appPrincipalId, roleIds.monitoringMetricsPublisher)
  scope: insights
  properties: {
    principalId: appPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId(
      'Microsoft.Authorization/roleDefinitions',
      roleIds.monitoringMetricsPublisher
    )
  }
}

resource operatorWritesRules 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(operatorPrincipalId)) {
  name: guid(productStorage::blobs::rules.id, operatorPrincipalId, roleIds.storageBlobDataContributor)
  scope: productStorage::blobs::rules
  properties: {
    principalId: operatorPrincipalId
    principalType: operatorPrincipalType
    roleDefinitionId: subscriptionResourceId(
      'Microsoft.Authorization/roleDefinitions',
      roleIds.storageBlobDataContributor
    )
  }
}

resource operatorReadsReports 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(operatorPrincipalId)) {
  name: guid(productStorage::blobs::reports.id, operatorPrincipalId, roleIds.storageBlobDataReader)
  scope: productStorage::blobs::reports
  properties: {
    principalId: operatorPrincipalId
    principalType: operatorPrincipalType
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds.storageBlobDataReader)
  }
}
