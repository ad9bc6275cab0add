{{- /* The controller's environment: readable values on the right, the controller's variables on the left. */ -}}
{{- define "kairay.settings" -}}
{{- $settings := dict
  "KAIRAY_RAY_IMAGE" .Values.ray.image
  "KAIRAY_RAY_VERSION" .Values.ray.version
  "KAIRAY_HEAD_SIZE" .Values.ray.head
  "KAIRAY_WORKER_SIZE" .Values.ray.worker
  "KAIRAY_WORKER_IDLE_SECONDS" .Values.ray.workerIdleSeconds
  "KAIRAY_RUN_STORAGE" .Values.ray.runStorage
  "KAIRAY_STORAGE_CLASS" .Values.ray.storageClass
  "KAIRAY_ADVERTISED_GPUS" .Values.ray.advertisedGpus
  "KAIRAY_INSECURE_REGISTRIES" (join "," .Values.insecureRegistries)
  "KAIRAY_SERVE_BY_DEFAULT" .Values.tuning.serveByDefault
  "KAIRAY_ATTEMPTS" .Values.tuning.attempts
  "KAIRAY_IDLE_SECONDS" .Values.inference.idleSeconds
  "KAIRAY_NAMESPACES" (join "," .Values.watchNamespaces)
  "KAIRAY_MODEL_HUB" .Values.models.hub
  "KAIRAY_MODEL_REGISTRIES" (join "," .Values.models.registries)
  "HF_ENDPOINT" .Values.models.endpoint
  "KAIRAY_PRICES" (ternary "/etc/kairay/prices/prices.csv" "" (not (empty .Values.prices)))
  "KAIRAY_NODES_PROVIDER" .Values.nodes.provider
  "KAIRAY_NODES_IDLE_SECONDS" .Values.nodes.idleSeconds
  "KAIRAY_NODES_EMPTY_POOL_SECONDS" .Values.nodes.emptyPoolSeconds
  "KAIRAY_NODES_SHARING" .Values.nodes.sharing
  "KAIRAY_AKS_SUBSCRIPTION" .Values.aks.subscription
  "KAIRAY_AKS_RESOURCE_GROUP" .Values.aks.resourceGroup
  "KAIRAY_AKS_CLUSTER" .Values.aks.cluster
  "KAIRAY_AKS_LOCATION" .Values.aks.location
  "KAIRAY_AKS_SUBNET" .Values.aks.subnet
  "KAIRAY_AKS_ENDPOINT" .Values.aks.endpoint
  "KAIRAY_KARPENTER_NODE_CLASS_GROUP" .Values.karpenter.nodeClassGroup
  "KAIRAY_KARPENTER_NODE_CLASS_KIND" .Values.karpenter.nodeClassKind
  "KAIRAY_KARPENTER_NODE_CLASS_NAME" .Values.karpenter.nodeClassName
  "KAIRAY_KARPENTER_NODE_CLASS_UBUNTU" .Values.karpenter.nodeClassUbuntu
  "KAIRAY_KARPENTER_NODE_CLASS_AZURELINUX" .Values.karpenter.nodeClassAzureLinux
-}}
{{- range $name, $value := $settings }}
{{- if not (has $value (list nil "")) }}
{{ $name }}: {{ $value | toString | quote }}
{{- end }}
{{- end }}
{{- end }}
