// A new registry, for those who have none.

@minLength(5)
@maxLength(50)
param name string
param location string
param tags { *: string }
param sku 'Basic' | 'Standard' | 'Premium'
param roleAssignmentMode 'AbacRepositoryPermissions' | 'LegacyRegistryPermissions'
param publicNetworkAccess 'Enabled' | 'Disabled'

resource registry 'Microsoft.ContainerRegistry/registries@2025-11-01' = {
  name: name
  location: location
  tags: tags
  sku: { name: sku }
  properties: {
    adminUserEnabled: false
    anonymousPullEnabled: false
    publicNetworkAccess: publicNetworkAccess
    // Tokens that were issued for ARM are taken, as by default: App Service and Container Apps pull with them.
    roleAssignmentMode: roleAssignmentMode
  }
}
