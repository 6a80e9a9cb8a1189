{{/* Istio takes what is below pilot at the top, too: it is moved there. */}}
{{- define "istiod.flatten" -}}
{{- range $name := keys .Values.pilot }}
{{- if hasKey $.Values $name }}
{{- $value := get $.Values $name }}
{{- if kindIs "map" $value }}{{ $value = mergeOverwrite (deepCopy (get $.Values.pilot $name)) $value }}{{ end }}
{{- $_ := set $.Values.pilot $name $value }}
{{- end }}
{{- end }}
{{- end }}

{{/* istiod's name: the revision is a part of it where there is one. */}}
{{- define "istiod.name" -}}
istiod{{ with .Values.revision }}-{{ . }}{{ end }}
{{- end }}

{{- define "istiod.revision" -}}
{{ .Values.revision | default "default" }}
{{- end }}

{{/* What a pod of istiod is selected by. */}}
{{- define "istiod.selector" -}}
app: istiod
{{- if .Values.revision }}
istio.io/rev: {{ .Values.revision }}
{{- else }}
istio: pilot
{{- end }}
{{- end }}

{{/* Labels of every object. */}}
{{- define "istiod.labels" -}}
app: istiod
istio.io/rev: {{ include "istiod.revision" . | quote }}
release: {{ .Release.Name | quote }}
operator.istio.io/component: Pilot
install.operator.istio.io/owning-resource: {{ .Values.ownerName | default "unknown" | quote }}
app.kubernetes.io/name: istiod
app.kubernetes.io/part-of: istio
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
{{- end }}

{{- define "istiod.image" -}}
{{- if contains "/" .Values.pilot.image -}}
{{ .Values.pilot.image }}
{{- else -}}
{{ .Values.pilot.hub | default .Values.global.hub }}/{{ .Values.pilot.image }}:{{ .Values.pilot.tag | default .Values.global.tag }}
{{- end }}
{{- end }}

{{/* MeshConfig: what the mesh is by itself, and what was set. */}}
{{- define "istiod.mesh" -}}
{{- $own := dict
  "rootNamespace" .Values.global.istioNamespace
  "trustDomain" "cluster.local"
  "enablePrometheusMerge" true
  "defaultProviders" (dict "metrics" (list "prometheus"))
  "defaultConfig" (dict "discoveryAddress" (printf "%s.%s.svc:15012" (include "istiod.name" .) .Release.Namespace)) -}}
{{- toYaml (mergeOverwrite $own (deepCopy .Values.meshConfig)) }}
{{- end }}

{{/* One webhook of the injector, without its selectors. */}}
{{- define "istiod.webhook" }}
- name: {{ .name }}.sidecar-injector.istio.io
  clientConfig:
    # istiod writes the caBundle.
    service:
      name: {{ include "istiod.name" .root }}
      namespace: {{ .root.Release.Namespace }}
      path: /inject
      port: 443
  sideEffects: None
  rules:
  - operations: [CREATE]
    apiGroups: [""]
    apiVersions: [v1]
    resources: [pods]
  # A pod that should have a sidecar does not start without.
  failurePolicy: Fail
  reinvocationPolicy: {{ .root.Values.sidecarInjectorWebhook.reinvocationPolicy | quote }}
  admissionReviewVersions: [v1]
{{- end }}
