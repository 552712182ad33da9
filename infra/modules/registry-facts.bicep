// What the rest must know of the registry before it can give rights in it: new or existing, in any group.

param name string

resource registry 'Microsoft.ContainerRegistry/registries@2025-11-01' existing = {
  name: name
}

output id string = registry.id
output loginServer string = registry.properties.loginServer
output sku string = registry.sku.name
output roleAssignmentMode string = registry.properties.?roleAssignmentMode ?? 'LegacyRegistryPermissions'
