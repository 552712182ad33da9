// The vault and what it holds. A secret is written only where its value is given: deploying again without it keeps it.

@minLength(3)
@maxLength(24)
param name string
param location string
param tags { *: string }

@description('App setting to secret value; an empty value leaves the secret as it is.')
@secure()
param secrets { *: string }

param publicAccess bool
param allowedIpRanges string[]
param workspaceId string

resource vault 'Microsoft.KeyVault/vaults@2025-05-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    tenantId: tenant().tenantId
    sku: { family: 'A', name: 'standard' }
    enableRbacAuthorization: true
    enablePurgeProtection: true
    enableSoftDelete: true
    softDeleteRetentionInDays: 7
    publicNetworkAccess: publicAccess || !empty(allowedIpRanges) ? 'Enabled' : 'Disabled'
    networkAcls: {
      bypass: 'AzureServices'
      defaultAction: publicAccess ? 'Allow' : 'Deny'
      ipRules: [for range in allowedIpRanges: { value: range }]
    }
  }
}

resource secret 'Microsoft.KeyVault/vaults/secrets@2025-05-01' = [
  for entry in items(secrets): if (!empty(entry.value)) {
    parent: vault
    name: toLower(replace(entry.key, '_', '-'))
    properties: { value: entry.value }
  }
]

// No stable version has this resource type's categories.
#disable-next-line use-recent-api-versions
resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'hubferry'
  scope: vault
  properties: {
    workspaceId: workspaceId
    logs: [{ category: 'AuditEvent', enabled: true }]
  }
}

output id string = vault.id
