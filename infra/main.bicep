// hubferry in Azure: one resource group with all it needs, and its rights in the registry that it fills.
targetScope = 'subscription'

@description('Names this installation: letters, digits and hyphens. Every resource\'s name has it, or a hash of it.')
@minLength(1)
@maxLength(16)
param environmentName string

@description('A region with Flex Consumption: `az functionapp list-flexconsumption-locations`.')
param location string
param resourceGroupName string = 'rg-hubferry-${environmentName}'
param tags { *: string } = {}

// ---- The registry that is filled ----

@description('An existing registry, in this or another group or subscription; or a new one.')
@discriminator('kind')
type registryType = newRegistryType | existingRegistryType

type newRegistryType = {
  kind: 'new'
  @description('Default: made from the environment\'s name.')
  name: string?
  sku: 'Basic' | 'Standard' | 'Premium'
  @description('Default: AbacRepositoryPermissions, which can narrow rights to `repositoryPrefixes`.')
  roleAssignmentMode: ('AbacRepositoryPermissions' | 'LegacyRegistryPermissions')?
  @description('Default: Enabled. Disabled takes Premium and `privateNetwork`.')
  publicNetworkAccess: ('Enabled' | 'Disabled')?
}

type existingRegistryType = {
  kind: 'existing'
  name: string
  resourceGroup: string
  @description('Default: the subscription that is deployed to.')
  subscriptionId: string?
}

param registry registryType

@description('Only repositories that start with one of these are written, such as `mirror/`. Empty: all.')
param repositoryPrefixes string[] = []

@description('The right to delete, for rules with `prune: true`. It ends by hand: the guide, "Taking rights back".')
param allowPrune bool = false

// ---- Secrets: kept in the vault; an empty value leaves what the vault has ----

@description('Whether Docker Hub is logged in to. Read anonymously, it has an allowance that others share.')
param dockerHubLogin bool = false
param dockerHubUsername string = ''

@description('A personal or organization access token that may read.')
@secure()
param dockerHubToken string = ''

@description('Whether runs are posted to `NOTIFY_URL`.')
param notify bool = false

@secure()
param notifyUrl string = ''

@description('More secrets for the rules file: `{ NAME: value }` is `$SECRET_NAME` there.')
@secure()
param secrets { *: string } = {}

// ---- What the app does ----

@description('When all rules are planned: NCRONTAB, UTC.')
param syncSchedule string = '0 0 0 * * *'

@description('When everything is checked in depth: NCRONTAB, UTC.')
param verifySchedule string = '0 0 6 * * 0'

@description('A copier stops by itself after this time (10s to 9m) and goes on in a new invocation.')
param copyDeadline string = '8m'

@description('Pulls of Docker Hub\'s allowance kept back for pushes.')
@minValue(0)
param pullReserve int = 20

@description('Largest share of a rule\'s tags that one prune may delete.')
param pruneLimit string = '20%'

@description('What is posted to `NOTIFY_URL`.')
param notifyOn ('failed' | 'parked' | 'changed' | 'recovered')[] = ['failed', 'parked', 'recovered']

// ---- The function app ----

param nodeVersion '22' | '24' = '24'
param instanceMemoryMB 512 | 2048 | 4096 = 2048

@description('Instances of each function at most. Some regions take no less than 40.')
@minValue(1)
@maxValue(1000)
param maximumInstanceCount int = 40

@description('Instances always ready for the HTTP functions, the webhook among them; each has its price.')
@minValue(0)
param alwaysReadyHttp int = 0

@description('Instances always ready for pushes; each has its price.')
@minValue(0)
param alwaysReadyPush int = 0

@description('`RollingUpdate` lets running copies end when a new version is published (preview).')
param siteUpdateStrategy 'Recreate' | 'RollingUpdate' = 'Recreate'

// ---- Operation ----

@description('Object ID of who writes the rules and reads the reports, beside those that had it before. Empty: nobody.')
param operatorPrincipalId string = ''
param operatorPrincipalType 'User' | 'Group' | 'ServicePrincipal' = 'User'

@description('Who is told by the alerts.')
param alertEmails string[] = []

@description('0: four fifths of what the registry\'s tier includes.')
@minValue(0)
param registryStorageAlertGiB int = 0

@description('Days that logs are kept.')
@minValue(30)
@maxValue(730)
param logRetentionDays int = 30

@description('Days that reports of runs are kept.')
@minValue(1)
param reportRetentionDays int = 90
param storageSku 'Standard_LRS' | 'Standard_ZRS' = 'Standard_LRS'

// ---- The network ----

@description('Storage, vault and a Premium registry behind private endpoints; the webhook stays public.')
param privateNetwork bool = false

@description('At least a /26.')
param networkAddressPrefix string = '10.80.0.0/24'

@description('Public addresses (CIDR) from which storage and vault are reached in spite of `privateNetwork`.')
param allowedIpRanges string[] = []

// ---- What cannot work is refused before anything is made ----

var nameCharacters = map(range(0, length(environmentName)), index => toLower(substring(environmentName, index, 1)))
var strangers = filter(nameCharacters, character => !contains('abcdefghijklmnopqrstuvwxyz0123456789-', character))
var checkedName = empty(strangers)
  ? environmentName
  : fail('environmentName may hold letters, digits and hyphens, and nothing else.')
var checkedAddressPrefix = int(last(split(networkAddressPrefix, '/'))) <= 26
  ? networkAddressPrefix
  : fail('networkAddressPrefix must be at least a /26: half for the app, half for the endpoints.')
var registryPublicAccess = registry.?publicNetworkAccess ?? 'Enabled'
var checkedPublicAccess = registryPublicAccess == 'Enabled' || (privateNetwork && registry.?sku == 'Premium')
  ? registryPublicAccess
  : fail('Without public access only a Premium registry can be reached, and only with privateNetwork = true.')

// ---- Names ----

var token = uniqueString(subscription().id, environmentName, location)
var baseName = 'hubferry-${checkedName}-${token}'
var allTags = { ...tags, 'azd-env-name': environmentName }
var hostStorageName = 'sthost${token}'
var productStorageName = 'stferry${token}'
var vaultName = 'kv-ferry-${token}'
var workspaceName = 'log-${baseName}'
var insightsName = 'appi-${baseName}'
var newRegistryName = registry.?name ?? 'crhubferry${token}'
var registryName = registry.kind == 'existing' ? registry.name : newRegistryName
var registryGroupName = registry.kind == 'existing' ? registry.resourceGroup : resourceGroupName
var registrySubscriptionId = registry.?subscriptionId ?? subscription().subscriptionId

// ---- What the code uses; the tests compare these with it ----

var deploymentContainer = 'deployment'
var rulesContainer = 'config'
var reportsContainer = 'runs'
var writtenContainers = ['checkpoints', 'state', reportsContainer]
var requestQueues = ['plan-requests', 'push-requests', 'copy-requests']
var queues = [...requestQueues, ...map(requestQueues, queue => '${queue}-poison')]

var dockerHubSecrets = dockerHubLogin ? { DOCKERHUB_USERNAME: dockerHubUsername, DOCKERHUB_TOKEN: dockerHubToken } : {}
var notifySecrets = notify ? { NOTIFY_URL: notifyUrl } : {}
var ruleSecrets = toObject(items(secrets), entry => 'SECRET_${entry.key}', entry => entry.value)
var secretValues = { ...dockerHubSecrets, ...notifySecrets, ...ruleSecrets }

resource group 'Microsoft.Resources/resourceGroups@2025-04-01' = {
  name: resourceGroupName
  location: location
  tags: allTags
}

module identity 'modules/identity.bicep' = {
  scope: group
  params: {
    name: 'id-${baseName}'
    location: location
    tags: allTags
  }
}

module monitoring 'modules/monitoring.bicep' = {
  scope: group
  params: {
    workspaceName: workspaceName
    insightsName: insightsName
    location: location
    tags: allTags
    retentionDays: logRetentionDays
  }
}

module workbook 'modules/workbook.bicep' = {
  scope: group
  params: {
    location: location
    tags: allTags
    workspaceName: workspaceName
  }
  dependsOn: [monitoring]
}

module hostStorage 'modules/storage.bicep' = {
  scope: group
  params: {
    name: hostStorageName
    location: location
    tags: allTags
    sku: storageSku
    containers: [deploymentContainer]
    queues: []
    expiry: []
    publicAccess: !privateNetwork
    allowedIpRanges: allowedIpRanges
    // The host renews its locks by writing, several times a minute.
    logWrites: false
    workspaceId: monitoring.outputs.workspaceId
  }
}

module productStorage 'modules/storage.bicep' = {
  scope: group
  params: {
    name: productStorageName
    location: location
    tags: allTags
    sku: storageSku
    containers: [rulesContainer, ...writtenContainers]
    queues: queues
    expiry: [{ container: reportsContainer, days: reportRetentionDays }]
    publicAccess: !privateNetwork
    allowedIpRanges: allowedIpRanges
    logWrites: true
    workspaceId: monitoring.outputs.workspaceId
  }
}

module keyVault 'modules/key-vault.bicep' = {
  scope: group
  params: {
    name: vaultName
    location: location
    tags: allTags
    secrets: secretValues
    publicAccess: !privateNetwork
    allowedIpRanges: allowedIpRanges
    workspaceId: monitoring.outputs.workspaceId
  }
}

module roles 'modules/roles.bicep' = {
  scope: group
  params: {
    // Part of the assignments' names: an identity made anew gets assignments of its own.
    #disable-next-line what-if-short-circuiting
    appPrincipalId: identity.outputs.principalId
    hostStorageName: hostStorageName
    productStorageName: productStorageName
    vaultName: vaultName
    insightsName: insightsName
    queues: queues
    writtenContainers: writtenContainers
    rulesContainer: rulesContainer
    reportsContainer: reportsContainer
    operatorPrincipalId: operatorPrincipalId
    operatorPrincipalType: operatorPrincipalType
  }
  dependsOn: [hostStorage, productStorage, keyVault, monitoring]
}

module newRegistry 'modules/registry.bicep' = if (registry.kind == 'new') {
  scope: group
  params: {
    name: registryName
    location: location
    tags: allTags
    sku: registry.kind == 'new' ? registry.sku : 'Basic'
    roleAssignmentMode: registry.?roleAssignmentMode ?? 'AbacRepositoryPermissions'
    publicNetworkAccess: checkedPublicAccess
  }
}

module registryFacts 'modules/registry-facts.bicep' = {
  scope: resourceGroup(registrySubscriptionId, registryGroupName)
  params: { name: registryName }
  dependsOn: [newRegistry]
}

module registryAccess 'modules/registry-access.bicep' = {
  scope: resourceGroup(registrySubscriptionId, registryGroupName)
  params: {
    registryName: registryName
    // Known only when the registry is read; the identity is part of the assignments' names.
    #disable-next-line what-if-short-circuiting
    roleAssignmentMode: registryFacts.outputs.roleAssignmentMode
    #disable-next-line what-if-short-circuiting
    principalId: identity.outputs.principalId
    repositoryPrefixes: repositoryPrefixes
    allowPrune: allowPrune
    diagnosticsName: 'hubferry-${environmentName}'
    workspaceId: monitoring.outputs.workspaceId
  }
}

module network 'modules/network.bicep' = if (privateNetwork) {
  scope: group
  params: {
    name: baseName
    location: location
    tags: allTags
    addressPrefix: checkedAddressPrefix
    #disable-next-line what-if-short-circuiting
    hostStorageId: hostStorage.outputs.id
    #disable-next-line what-if-short-circuiting
    productStorageId: productStorage.outputs.id
    #disable-next-line what-if-short-circuiting
    vaultId: keyVault.outputs.id
    #disable-next-line what-if-short-circuiting
    registryId: (registry.kind == 'new' ? registry.sku : registryFacts.outputs.sku) == 'Premium'
      ? registryFacts.outputs.id
      : ''
  }
}

module app 'modules/app.bicep' = {
  scope: group
  params: {
    name: 'func-${baseName}'
    planName: 'asp-${baseName}'
    location: location
    tags: allTags
    identityId: identity.outputs.id
    nodeVersion: nodeVersion
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    alwaysReady: { http: alwaysReadyHttp, push: alwaysReadyPush }
    siteUpdateStrategy: siteUpdateStrategy
    deploymentContainerUrl: '${hostStorage.outputs.blobEndpoint}${deploymentContainer}'
    settings: {
      APPLICATIONINSIGHTS_CONNECTION_STRING: monitoring.outputs.connectionString
      APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identity.outputs.clientId};Authorization=AAD'
      AZURE_CLIENT_ID: identity.outputs.clientId
      AzureWebJobsStorage__blobServiceUri: hostStorage.outputs.blobEndpoint
      AzureWebJobsStorage__queueServiceUri: hostStorage.outputs.queueEndpoint
      AzureWebJobsStorage__credential: 'managedidentity'
      AzureWebJobsStorage__clientId: identity.outputs.clientId
      HubferryStorage__blobServiceUri: productStorage.outputs.blobEndpoint
      HubferryStorage__queueServiceUri: productStorage.outputs.queueEndpoint
      HubferryStorage__credential: 'managedidentity'
      HubferryStorage__clientId: identity.outputs.clientId
      SYNC_SCHEDULE: syncSchedule
      VERIFY_SCHEDULE: verifySchedule
      COPY_DEADLINE: copyDeadline
      PULL_RESERVE: string(pullReserve)
      PRUNE_LIMIT: pruneLimit
      NOTIFY_ON: join(notifyOn, ',')
      REPOSITORY_PREFIXES: join(repositoryPrefixes, ',')
    }
    secretSettings: map(items(secretValues), entry => entry.key)
    vaultName: vaultName
    subnetId: privateNetwork ? network!.outputs.appSubnetId : ''
    workspaceId: monitoring.outputs.workspaceId
  }
  // A reference is resolved, and the package fetched, as soon as the app exists.
  dependsOn: [roles, registryAccess]
}

module alerts 'modules/alerts.bicep' = {
  scope: group
  params: {
    environmentName: environmentName
    location: location
    tags: allTags
    workspaceId: monitoring.outputs.workspaceId
    emails: alertEmails
    registryStorageAlertGiB: registryStorageAlertGiB > 0
      ? registryStorageAlertGiB
      : { Basic: 8, Standard: 80, Premium: 400 }[registryFacts.outputs.sku]
  }
}

output resourceGroupName string = group.name
output functionAppName string = app.outputs.name
output functionAppUrl string = 'https://${app.outputs.hostName}'
output webhookUrl string = 'https://${app.outputs.hostName}/api/webhook'
output registryLoginServer string = registryFacts.outputs.loginServer
output productStorageName string = productStorageName
output keyVaultName string = vaultName
output identityClientId string = identity.outputs.clientId
output outboundAddress string = privateNetwork ? network!.outputs.outboundAddress : ''
