{{/* What the proxy is told of itself: Istio's environment of the istio-proxy container. */}}
{{- define "gateway.env" -}}
- name: PILOT_CERT_PROVIDER
  value: {{ .Values.global.pilotCertProvider }}
- name: CA_ADDR
  value: {{ .Values.global.caAddress | default (printf "%s.%s.svc:15012" (.Values.revision | empty | ternary "istiod" (printf "istiod-%s" .Values.revision)) .Values.global.istioNamespace) | quote }}
- name: NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: INSTANCE_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
- name: HOST_IP
  valueFrom:
    fieldRef:
      fieldPath: status.hostIP
- name: ISTIO_CPU_LIMIT
  valueFrom:
    resourceFieldRef:
      resource: limits.cpu
- name: SERVICE_ACCOUNT
  valueFrom:
    fieldRef:
      fieldPath: spec.serviceAccountName
- name: ISTIO_META_WORKLOAD_NAME
  value: {{ include "gateway.name" . }}
- name: ISTIO_META_OWNER
  value: kubernetes://apis/apps/v1/namespaces/{{ .Release.Namespace }}/deployments/{{ include "gateway.name" . }}
{{- with .Values.global.meshID | default .Values.meshConfig.trustDomain }}
- name: ISTIO_META_MESH_ID
  value: {{ . | quote }}
{{- end }}
{{- with .Values.meshConfig.trustDomain }}
- name: TRUST_DOMAIN
  value: {{ . | quote }}
{{- end }}
- name: ISTIO_META_UNPRIVILEGED_POD
  value: "true"
{{- with .Values.global.network }}
- name: ISTIO_META_NETWORK
  value: {{ . | quote }}
{{- end }}
- name: ISTIO_META_CLUSTER_ID
  value: {{ .Values.global.multiCluster.clusterName | default "Kubernetes" | quote }}
- name: ISTIO_META_NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
- name: PROXY_CONFIG
  value: {{ dig "defaultConfig" dict .Values.meshConfig | toJson | quote }}
{{- range $name, $value := .Values.env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- with .Values.envVarFrom }}
{{ toYaml . }}
{{- end }}
{{- end }}
