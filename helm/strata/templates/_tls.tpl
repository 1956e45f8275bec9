{{- /* HTTPS at the pods themselves. */ -}}

{{- /* http.tls of strata.yaml, whose files a Secret stands for. */ -}}
{{- define "strata.tls" -}}
{{- $defaults := include "strata.defaults" . | fromJson -}}
{{- include "strata.section" (list $defaults.tls (default dict .Values.http).tls) -}}
{{- end -}}

{{- /* The port of pods that speaks HTTP where that of requests speaks HTTPS. */ -}}
{{- define "strata.plainPort" -}}8080{{- end -}}

{{- /* The port of pods that answers /-/healthz in HTTP. */ -}}
{{- define "strata.healthPort" -}}
{{- if .Values.tls.existingSecret }}{{ include "strata.plainPort" . }}{{ else }}{{ (include "strata.http" . | fromJson).port }}{{ end -}}
{{- end -}}

{{- /* What a pod has of certificates: nothing, `tls`, or `client-ca` for those of clients' CAs, too. */ -}}
{{- define "strata.certificates" -}}
{{- if .Values.tls.existingSecret }}{{ ternary "client-ca" "tls" (not (empty (include "strata.tls" . | fromJson).client_ca)) }}{{ end -}}
{{- end -}}
