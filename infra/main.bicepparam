using 'main.bicep'

// ---- Which installation, and which registry: change these three ----

param environmentName = readEnvironmentVariable('AZURE_ENV_NAME', 'prod')
param location = readEnvironmentVariable('AZURE_LOCATION', 'westeurope')

// The registry to fill. An existing one: { kind: 'existing', name: 'hagicode', resourceGroup: 'rg-registry' }
param registry = { kind: 'new', sku: 'Basic' }

// ---- Secrets come from the environment; one that is not there keeps the value that the vault has ----

// false: Docker Hub is read anonymously.
param dockerHubLogin = true
param dockerHubUsername = readEnvironmentVariable('DOCKERHUB_USERNAME', '')
param dockerHubToken = readEnvironmentVariable('DOCKERHUB_TOKEN', '')

// Posts what went wrong to Slack, Teams, or anything that takes JSON.
param notify = false
param notifyUrl = readEnvironmentVariable('NOTIFY_URL', '')

// For `${SECRET_GHCR_TOKEN}` in the rules file: { GHCR_TOKEN: readEnvironmentVariable('GHCR_TOKEN', '') }
param secrets = {}

// ---- Rights ----

// You, so that you can upload the rules: az ad signed-in-user show --query id -o tsv
param operatorPrincipalId = readEnvironmentVariable('AZURE_PRINCIPAL_ID', '')
param operatorPrincipalType = 'User'

// Only repositories that start so, such as ['mirror/']. Empty: all.
param repositoryPrefixes = []

// The right to delete; the guide says how it is taken back (infra/README.md, "Taking rights back").
param allowPrune = false

// ---- Who hears of trouble ----

param alertEmails = []
