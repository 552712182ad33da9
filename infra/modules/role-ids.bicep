// The built-in roles that are assigned, by their names in the portal.

@export()
var roleIds = {
  acrDelete: 'c2f4ef07-c644-48eb-af81-4b1b4947fb11'
  acrPush: '8311e382-0749-4cb8-b61a-304f252e45ec'
  containerRegistryRepositoryContributor: '2efddaa5-3f1f-4df3-97df-af3f13818f4c'
  containerRegistryRepositoryWriter: '2a1e307c-b015-4ebd-883e-5b7698a07328'
  keyVaultSecretsUser: '4633458b-17de-408a-b874-0445c86b69e6'
  monitoringMetricsPublisher: '3913510d-42f4-4e42-8a64-420c390055eb'
  storageBlobDataContributor: 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
  storageBlobDataOwner: 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
  storageBlobDataReader: '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1'
  storageQueueDataContributor: '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
}
