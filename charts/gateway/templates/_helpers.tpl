{{- define "gateway.name" -}}
{{ .Values.name | default .Release.Name }}
{{- end }}

{{- define "gateway.serviceAccount" -}}
{{- if .Values.serviceAccount.name -}}
{{ .Values.serviceAccount.name }}
{{- else if .Values.serviceAccount.create -}}
{{ include "gateway.name" . }}-service-account
{{- else -}}
default
{{- end }}
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

{{- define "gateway.image" -}}
{{- if contains "/" .Values.global.proxy.image -}}
{{ .Values.global.proxy.image }}
{{- else -}}
{{ .Values.global.hub }}/{{ .Values.global.proxy.image }}:{{ .Values.global.tag }}
{{- end }}
{{- end }}
