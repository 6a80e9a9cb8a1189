{{- define "gateway.name" -}}
{{ .Values.name | default .Release.Name }}
{{- end }}

{{- define "gateway.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "gateway.name" .) "default") }}
{{- end }}

{{- define "gateway.revision" -}}
{{ .Values.revision | default "default" }}
{{- end }}

{{/* What Gateways and the Service select. */}}
{{- define "gateway.selector" -}}
app: {{ .Values.labels.app | default (include "gateway.name" .) | quote }}
istio: {{ .Values.labels.istio | default (include "gateway.name" . | trimPrefix "istio-") | quote }}
{{- end }}

{{- define "gateway.labels" -}}
{{ include "gateway.selector" . }}
{{- range $name, $value := omit .Values.labels "app" "istio" }}
{{ $name }}: {{ $value | quote }}
{{- end }}
istio.io/rev: {{ include "gateway.revision" . | quote }}
release: {{ .Release.Name | quote }}
install.operator.istio.io/owning-resource: {{ .Values.ownerName | default "unknown" | quote }}
app.kubernetes.io/name: {{ include "gateway.name" . | quote }}
app.kubernetes.io/part-of: istio
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
{{- end }}

{{/* What a pod is annotated with; that it is not injected is not to be changed. */}}
{{- define "gateway.podAnnotations" -}}
{{- $scraped := dict "prometheus.io/port" "15020" "prometheus.io/scrape" "true" "prometheus.io/path" "/stats/prometheus" -}}
{{- toYaml (merge (dict "sidecar.istio.io/inject" "false") (omit .Values.podAnnotations "inject.istio.io/templates") $scraped) }}
{{- end }}

{{/* Secrets to pull images with: names, as global.imagePullSecrets, or objects with a name. */}}
{{- define "gateway.imagePullSecrets" -}}
{{- range .Values.imagePullSecrets | default .Values.global.imagePullSecrets }}
- name: {{ kindIs "map" . | ternary . (dict "name" .) | dig "name" "" }}
{{- end }}
{{- end }}

{{- define "gateway.image" -}}
{{- if contains "/" .Values.global.proxy.image -}}
{{ .Values.global.proxy.image }}
{{- else -}}
{{ .Values.global.hub }}/{{ .Values.global.proxy.image }}:{{ .Values.global.tag }}
{{- end }}
{{- end }}
