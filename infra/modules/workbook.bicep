// What an operator asks: as queries saved in the workspace, and together on one page.

param location string
param tags { *: string }
param workspaceName string

var questions = [
  { name: 'in-step', title: 'Is everything in step?', query: loadTextContent('../queries/in-step.kql') }
  { name: 'behind', title: 'How far behind were we?', query: loadTextContent('../queries/behind.kql') }
  { name: 'runs', title: 'What happened in the last runs?', query: loadTextContent('../queries/runs.kql') }
  {
    name: 'failures'
    title: 'What failed, and from which cause?'
    query: loadTextContent('../queries/failures.kql')
  }
  { name: 'tag-history', title: 'Why is this tag not there?', query: loadTextContent('../queries/tag-history.kql') }
  { name: 'parked', title: 'What is parked, and until when?', query: loadTextContent('../queries/parked.kql') }
  { name: 'pulls-left', title: 'How many pulls are left?', query: loadTextContent('../queries/pulls-left.kql') }
  { name: 'traffic', title: 'How much moves, and how fast?', query: loadTextContent('../queries/traffic.kql') }
  {
    name: 'push-to-mirror'
    title: 'How long from a push to the mirror?'
    query: loadTextContent('../queries/push-to-mirror.kql')
  }
  {
    name: 'registry-access'
    title: 'Who uses the registry, and who was refused?'
    query: loadTextContent('../queries/registry-access.kql')
  }
  {
    name: 'registry-storage'
    title: 'How full is the registry?'
    query: loadTextContent('../queries/registry-storage.kql')
  }
]

var workspaceType = 'microsoft.operationalinsights/workspaces'
var parameters = {
  type: 9
  name: 'parameters'
  content: {
    version: 'KqlParameterItem/1.0'
    style: 'pills'
    parameters: [
      {
        id: guid('hubferry', 'range')
        version: 'KqlParameterItem/1.0'
        name: 'range'
        label: 'Time'
        type: 4
        isRequired: true
        value: { durationMs: 604800000 }
        typeSettings: {
          selectableValues: map([86400000, 259200000, 604800000, 2592000000], duration => { durationMs: duration })
          allowCustom: true
        }
      }
      {
        id: guid('hubferry', 'tag')
        version: 'KqlParameterItem/1.0'
        name: 'tag'
        label: 'Tag, or a part of its name'
        type: 1
        isRequired: true
        value: ':latest'
      }
    ]
  }
}
var answers = map(questions, question => {
  type: 3
  name: question.name
  content: {
    version: 'KqlItem/1.0'
    title: question.title
    // The sample name in the query gives way to what stands in the box above.
    query: replace(question.query, '"library/nginx:1.29"', '"{tag}"')
    size: 0
    queryType: 0
    resourceType: workspaceType
    timeContextFromParameter: 'range'
  }
})

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-07-01' existing = {
  name: workspaceName

  resource saved 'savedSearches' = [
    for question in questions: {
      name: 'hubferry-${question.name}'
      properties: {
        category: 'hubferry'
        displayName: question.title
        query: question.query
        // Written over, whatever is there: the service refuses an update without it. It is read here, and missing in
        // the compiler's types.
        #disable-next-line BCP037
        etag: '*'
      }
    }
  ]
}

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(workspace.id, 'hubferry')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: 'hubferry'
    category: 'workbook'
    sourceId: workspace.id
    serializedData: string({
      version: 'Notebook/1.0'
      fallbackResourceIds: [workspace.id]
      items: [parameters, ...answers]
    })
  }
}
