{{- define "strata.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name }}{{ .Release.Name }}{{ else }}{{ printf "%s-%s" .Release.Name $name }}{{ end -}}
{{- end -}}
{{- end -}}

{{- define "strata.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "strata.selectorLabels" . }}
{{- end -}}

{{- /* Without versions: in a pod template of Ray's they would make a new cluster of every chart. */ -}}
{{- define "strata.selectorLabels" -}}
app.kubernetes.io/name: strata
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "strata.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "strata.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "strata.image" -}}
{{- with .Values.image -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}{{ end -}}
{{- end -}}
{{- end -}}

{{- define "strata.claimName" -}}
{{- default (printf "%s-repository" (include "strata.fullname" .)) .Values.storage.existingClaim -}}
{{- end -}}

{{- define "strata.scheme" -}}
{{- if .Values.tls.existingSecret }}https{{ else }}http{{ end -}}
{{- end -}}

{{- define "strata.url" -}}
{{ include "strata.scheme" . }}://{{ include "strata.fullname" . }}:{{ .Values.service.port }}
{{- end -}}

{{- define "strata.isIncremental" -}}
{{- if eq .Values.upgradeStrategy.type "NewClusterWithIncrementalUpgrade" }}true{{ end -}}
{{- end -}}

{{- /* Whether requests come from outside of the cluster; KubeRay's incremental upgrade makes a Gateway. */ -}}
{{- define "strata.isExposed" -}}
{{- if or (ne .Values.service.type "ClusterIP") .Values.ingress.enabled .Values.httpRoute.enabled (include "strata.isIncremental" .) }}true{{ end -}}
{{- end -}}

{{- define "strata.hasNetworkPolicy" -}}
{{- if kindIs "bool" .Values.networkPolicy.enabled -}}
{{- if .Values.networkPolicy.enabled }}true{{ end -}}
{{- else -}}
{{- include "strata.isExposed" . -}}
{{- end -}}
{{- end -}}

{{- define "strata.hasObjectStore" -}}
{{- if contains "://" .Values.repository.root }}true{{ end -}}
{{- end -}}

{{- define "strata.redisAddress" -}}
{{- if .Values.redis.bundled.enabled -}}
{{- printf "%s-redis:6379" (include "strata.fullname" .) -}}
{{- else -}}
{{- .Values.redis.address -}}
{{- end -}}
{{- end -}}
