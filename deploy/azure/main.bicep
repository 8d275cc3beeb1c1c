// A Spark cluster on AKS and the storage it works on, in two resource groups: deleting the first ends
// all that costs by the hour, and the data stay in the second.
//
//     az deployment sub create --location eastus --template-file main.bicep --parameters name=quadrat location=eastus

targetScope = 'subscription'

@description('Of the cluster; the groups are named NAME-cluster and NAME-data.')
@minLength(3)
@maxLength(16)
param name string

param location string

@description('Most virtual machines of the cpu pool, which starts with none.')
@minValue(0)
@maxValue(1000)
param cpuNodes int = 40

@description('Most virtual machines of the gpu pool, which starts with none.')
@minValue(0)
@maxValue(100)
param gpuNodes int = 2

@description('Four cores and 16 GB each: one of the workers of the chart.')
param cpuSize string = 'Standard_D4s_v5'

@description('One GPU each; needs quota in most subscriptions.')
param gpuSize string = 'Standard_NC4as_T4_v3'

@description('Spot machines cost a fraction and may be taken away; Spark does their parts elsewhere.')
param spot bool = true

@description('Addresses from which the cluster can be administered; empty: all (with a sign-in).')
param adminRanges array = []

var tags = {
  quadrat: name
}

resource clusterGroup 'Microsoft.Resources/resourceGroups@2024-03-01' = {
  name: '${name}-cluster'
  location: location
  tags: tags
}

resource dataGroup 'Microsoft.Resources/resourceGroups@2024-03-01' = {
  name: '${name}-data'
  location: location
  tags: tags
}

module cluster 'cluster.bicep' = {
  name: '${name}-cluster'
  scope: clusterGroup
  params: {
    name: name
    location: location
    tags: tags
    cpuNodes: cpuNodes
    gpuNodes: gpuNodes
    cpuSize: cpuSize
    gpuSize: gpuSize
    spot: spot
    adminRanges: adminRanges
    adminId: deployer().objectId
  }
}

module data 'data.bicep' = {
  name: '${name}-data'
  scope: dataGroup
  params: {
    name: name
    location: location
    tags: tags
    workerId: cluster.outputs.principalId
    ownerId: deployer().objectId
  }
}

output cluster string = cluster.outputs.cluster
output clientId string = cluster.outputs.clientId
output registry string = cluster.outputs.registry
output registryServer string = cluster.outputs.registryServer
output account string = data.outputs.account
output container string = data.outputs.container
