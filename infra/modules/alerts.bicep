// What a person is told of, by a rule on the logs each. A rule fires on rows, or on a column above a threshold.

param environmentName string
param location string
param tags { *: string }
param workspaceId string
param emails string[]
param registryStorageAlertGiB int

resource people 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: 'ag-hubferry-${environmentName}'
  location: 'global'
  tags: tags
  properties: {
    enabled: true
    groupShortName: 'hubferry'
    emailReceivers: [for email in emails: { name: email, emailAddress: email, useCommonAlertSchema: true }]
  }
}

var rules = [
  {
    name: 'poison'
    title: 'A request failed again and again'
    severity: 1
    query: loadTextContent('../alerts/poison.kql')
    window: 'PT1H'
    measure: null
    threshold: 0
  }
  {
    name: 'failed-run'
    title: 'A run was closed with failures, or a check with findings'
    severity: 2
    query: loadTextContent('../alerts/failed-run.kql')
    window: 'PT1H'
    measure: null
    threshold: 0
  }
  {
    name: 'no-plan'
    title: 'No plan was finished in 26 hours'
    severity: 1
    query: loadTextContent('../alerts/no-plan.kql')
    window: 'P2D'
    measure: null
    threshold: 0
  }
  {
    name: 'exceptions'
    title: 'A function threw'
    severity: 2
    query: loadTextContent('../alerts/exceptions.kql')
    window: 'PT1H'
    measure: null
    threshold: 0
  }
  {
    name: 'throttling'
    title: 'Registries ask to wait again and again'
    severity: 3
    query: loadTextContent('../alerts/throttling.kql')
    window: 'PT1H'
    measure: null
    threshold: 20
  }
  {
    name: 'registry-logins'
    title: 'The registry refuses logins'
    severity: 2
    query: loadTextContent('../alerts/registry-logins.kql')
    window: 'PT1H'
    measure: null
    threshold: 5
  }
  {
    name: 'registry-storage'
    title: 'The registry fills up'
    severity: 2
    query: loadTextContent('../alerts/registry-storage.kql')
    window: 'PT6H'
    measure: 'UsedGiB'
    threshold: registryStorageAlertGiB
  }
]

resource rule 'Microsoft.Insights/scheduledQueryRules@2026-03-01' = [
  for rule in rules: {
    name: 'hubferry-${environmentName}-${rule.name}'
    location: location
    tags: tags
    kind: 'LogAlert'
    properties: {
      displayName: 'hubferry ${environmentName}: ${rule.title}'
      severity: rule.severity
      enabled: true
      scopes: [workspaceId]
      windowSize: rule.window
      evaluationFrequency: rule.window == 'PT1H' ? 'PT15M' : 'PT1H'
      autoMitigate: true
      // A new workspace has no such tables until the first line arrives.
      skipQueryValidation: true
      criteria: {
        allOf: [
          {
            query: rule.query
            operator: 'GreaterThan'
            threshold: rule.threshold
            timeAggregation: rule.measure == null ? 'Count' : 'Maximum'
            metricMeasureColumn: rule.measure
          }
        ]
      }
      actions: { actionGroups: [people.id] }
    }
  }
]
