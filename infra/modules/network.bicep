// A network of its own: the app's subnet, private endpoints with their names, and one fixed address to the outside.

param name string
param location string
param tags { *: string }

@description('At least a /26: half for the app, half for the endpoints.')
param addressPrefix string
param hostStorageId string
param productStorageId string
param vaultId string

@description('Empty: the registry has no private endpoint, which takes the Premium tier.')
param registryId string

// The registry's name is of the cloud, the vault's private name is not the public one.
var zones = {
  blob: 'privatelink.blob.${environment().suffixes.storage}'
  queue: 'privatelink.queue.${environment().suffixes.storage}'
  vault: 'privatelink.vaultcore.azure.net'
  registry: 'privatelink${environment().suffixes.acrLoginServer}'
}

// Docker Hub counts pulls by address, and new subnets have no way out of their own.
resource address 'Microsoft.Network/publicIPAddresses@2025-05-01' = {
  name: 'pip-${name}'
  location: location
  tags: tags
  sku: { name: 'Standard' }
  properties: { publicIPAllocationMethod: 'Static' }
}

resource gateway 'Microsoft.Network/natGateways@2025-05-01' = {
  name: 'ng-${name}'
  location: location
  tags: tags
  sku: { name: 'Standard' }
  properties: { publicIpAddresses: [{ id: address.id }] }
}

resource network 'Microsoft.Network/virtualNetworks@2025-05-01' = {
  name: 'vnet-${name}'
  location: location
  tags: tags
  properties: {
    addressSpace: { addressPrefixes: [addressPrefix] }
    subnets: [
      {
        name: 'app'
        properties: {
          addressPrefix: cidrSubnet(addressPrefix, int(split(addressPrefix, '/')[1]) + 1, 0)
          defaultOutboundAccess: false
          natGateway: { id: gateway.id }
          // What Flex Consumption runs on.
          delegations: [{ name: 'app', properties: { serviceName: 'Microsoft.App/environments' } }]
        }
      }
      {
        name: 'endpoints'
        properties: {
          addressPrefix: cidrSubnet(addressPrefix, int(split(addressPrefix, '/')[1]) + 1, 1)
          defaultOutboundAccess: false
        }
      }
    ]
  }

  resource app 'subnets' existing = {
    name: 'app'
  }

  resource endpoints 'subnets' existing = {
    name: 'endpoints'
  }
}

var targets = [
  { name: 'host-blob', group: 'blob', id: hostStorageId }
  { name: 'product-blob', group: 'blob', id: productStorageId }
  { name: 'product-queue', group: 'queue', id: productStorageId }
  { name: 'vault', group: 'vault', id: vaultId }
  { name: 'registry', group: 'registry', id: registryId }
]

resource zone 'Microsoft.Network/privateDnsZones@2024-06-01' = [
  for entry in items(zones): {
    name: entry.value
    location: 'global'
    tags: tags
  }
]

resource link 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [
  for (entry, index) in items(zones): {
    parent: zone[index]
    name: network.name
    location: 'global'
    tags: tags
    properties: { registrationEnabled: false, virtualNetwork: { id: network.id } }
  }
]

module endpoint 'private-endpoint.bicep' = [
  for target in targets: if (!empty(target.id)) {
    params: {
      name: 'pep-${name}-${target.name}'
      location: location
      tags: tags
      subnetId: network::endpoints.id
      targetId: target.id
      group: target.group
      zoneId: resourceId('Microsoft.Network/privateDnsZones', zones[target.group])
    }
    dependsOn: [zone, link]
  }
]

output appSubnetId string = network::app.id
output outboundAddress string = address.properties.ipAddress
