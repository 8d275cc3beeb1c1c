// AKS with workload identity and pools that start with no machine, the registry, and the one identity
// of the pods.

param name string
param location string
param tags object
param cpuNodes int
param gpuNodes int
param cpuSize string
param gpuSize string
param spot bool
param adminRanges array

@description('Who may administer the cluster: whoever deploys it.')
param adminId string

var namespace = 'quadrat'
var serviceAccount = 'quadrat'

// roles that Azure defines, by their fixed numbers
var acrPull = '7f951dda-4ed3-4680-a7ca-43fe172d538d'
var clusterAdmin = 'b1ff04bb-8a4e-4dc4-8eb5-8693973ce19b'

resource aks 'Microsoft.ContainerService/managedClusters@2025-05-01' = {
  name: name
  location: location
  tags: tags
  sku: {
    name: 'Base'
    tier: 'Free'
  }
  identity: {
    type: 'SystemAssigned'
  }
  properties: {
    dnsPrefix: name
    enableRBAC: true
    disableLocalAccounts: true // no certificate or key that could be lost: people sign in
    aadProfile: {
      managed: true
      enableAzureRBAC: true
    }
    oidcIssuerProfile: {
      enabled: true
    }
    securityProfile: {
      workloadIdentity: {
        enabled: true
      }
    }
    apiServerAccessProfile: {
      authorizedIPRanges: adminRanges
      disableRunCommand: true
    }
    autoUpgradeProfile: {
      nodeOSUpgradeChannel: 'NodeImage'
      upgradeChannel: 'patch'
    }
    networkProfile: {
      networkPlugin: 'azure'
      networkPluginMode: 'overlay'
      networkDataplane: 'cilium'
      networkPolicy: 'cilium'
    }
    agentPoolProfiles: [
      {
        name: 'system'
        mode: 'System'
        vmSize: 'Standard_D4s_v5' // what runs all the time: Kubernetes' own, Spark's master, drivers
        count: 1
        osType: 'Linux'
        osSKU: 'AzureLinux'
      }
    ]
  }
}

// Pools of their own, so that the template can be deployed again when one of them changes.
resource cpu 'Microsoft.ContainerService/managedClusters/agentPools@2025-05-01' = {
  parent: aks
  name: 'cpu'
  properties: {
    mode: 'User'
    vmSize: cpuSize
    enableAutoScaling: true
    count: 0
    minCount: 0
    maxCount: cpuNodes
    scaleSetPriority: spot ? 'Spot' : 'Regular'
    scaleSetEvictionPolicy: spot ? 'Delete' : null
    spotMaxPrice: spot ? -1 : null
    osType: 'Linux'
    osSKU: 'AzureLinux'
    nodeLabels: {
      'quadrat-pool': 'cpu'
    }
    nodeTaints: spot ? ['kubernetes.azure.com/scalesetpriority=spot:NoSchedule'] : []
    tags: tags
  }
}

resource gpu 'Microsoft.ContainerService/managedClusters/agentPools@2025-05-01' = if (gpuNodes > 0) {
  parent: aks
  name: 'gpu'
  dependsOn: [cpu]
  properties: {
    mode: 'User'
    vmSize: gpuSize
    enableAutoScaling: true
    count: 0
    minCount: 0
    maxCount: gpuNodes
    osType: 'Linux'
    osSKU: 'Ubuntu'
    nodeLabels: {
      'quadrat-pool': 'gpu'
      'nvidia.com/gpu.present': 'true' // where NVIDIA's device plugin goes
    }
    nodeTaints: ['nvidia.com/gpu=present:NoSchedule']
    tags: tags
  }
}

resource registry 'Microsoft.ContainerRegistry/registries@2023-07-01' = {
  name: 'quadrat${uniqueString(resourceGroup().id)}'
  location: location
  tags: tags
  sku: {
    name: 'Basic'
  }
  properties: {
    adminUserEnabled: false
    anonymousPullEnabled: false
  }
}

resource pull 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: registry
  name: guid(registry.id, aks.id, acrPull)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', acrPull)
    principalId: aks.properties.identityProfile.kubeletidentity.objectId
    principalType: 'ServicePrincipal'
  }
}

resource admin 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: aks
  name: guid(aks.id, adminId, clusterAdmin)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', clusterAdmin)
    principalId: adminId
  }
}

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: '${name}-worker'
  location: location
  tags: tags
}

// The chart's service account, and no other, is this identity.
resource federated 'Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials@2023-01-31' = {
  parent: identity
  name: 'quadrat'
  properties: {
    issuer: aks.properties.oidcIssuerProfile.issuerURL
    subject: 'system:serviceaccount:${namespace}:${serviceAccount}'
    audiences: ['api://AzureADTokenExchange']
  }
}

output cluster string = aks.name
output registry string = registry.name
output registryServer string = registry.properties.loginServer
output clientId string = identity.properties.clientId
output principalId string = identity.properties.principalId
