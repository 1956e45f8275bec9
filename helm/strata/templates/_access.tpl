{{- /* Who may, how much, and how it is spoken: what HAProxy on every node is told, through its agent (serve/edge/haproxy/agent.py). */ -}}

{{- /* Whether it is told anything: empty for no. */ -}}
{{- define "strata.hasEdgeSettings" -}}
{{- if or .Values.accessKeys.existingSecret (default dict .Values.access).quotas .Values.tls.existingSecret (default dict .Values.http).cors }}true{{ end -}}
{{- end -}}

{{- /* The port at which HAProxys hand each other what they count. */ -}}
{{- define "strata.peersPort" -}}8990{{- end -}}

{{- define "strata.edgeName" -}}
{{- printf "%s-edge" (include "strata.fullname" .) -}}
{{- end -}}

{{- /* The Secret with the key of the pods that ask the ingress; empty where nobody is asked for one. */ -}}
{{- define "strata.probeSecret" -}}
{{- if .Values.accessKeys.existingSecret -}}
{{- default (printf "%s-probe-key" (include "strata.fullname" .)) .Values.accessKeys.probeSecret -}}
{{- end -}}
{{- end -}}

{{- /*
EdgeSettings of serve/edge/haproxy/settings.py as JSON; `keys` is the file, and `ownKey` a hash, or nil;
`certificates` is what a pod has of them.
*/ -}}
{{- define "strata.edgeSettings" -}}
{{- $defaults := include "strata.defaults" .root | fromJson -}}
{{- $tenants := include "strata.section" (list $defaults.config.tenants .root.Values.tenants) | fromJson -}}
{{- $quotas := list -}}
{{- $counted := list -}}
{{- range (default dict .root.Values.access).quotas -}}
{{- if not (and (kindIs "invalid" .requests_per_s) (kindIs "invalid" .concurrent_requests)) }}{{ $counted = append $counted . }}{{ end -}}
{{- $quotas = append $quotas (dict "tenant" (default "*" .tenant) "model" .model "requests_per_s" .requests_per_s "concurrent_requests" .concurrent_requests) -}}
{{- end -}}
{{- if not $counted }}{{ $quotas = list }}{{ end -}}
{{- $settings := dict "keys" .keys "tenant_header" (lower $tenants.header) "quotas" $quotas "own_key" .ownKey "tls" nil "cors" nil "jwt" nil -}}
{{- if .certificates -}}
{{- $tls := include "strata.tls" .root | fromJson -}}
{{- $shown := dict "certificate" "/etc/strata/tls/tls.crt" "key" "/etc/strata/tls/tls.key" "client_ca" nil "requires_client" false -}}
{{- if eq .certificates "client-ca" -}}
{{- $_ := set $shown "client_ca" "/etc/strata/tls/ca.crt" -}}
{{- $_ := set $shown "requires_client" (eq $tls.client_certificates "required") -}}
{{- end -}}
{{- $_ := set $shown "redirect_port" (include "strata.plainPort" .root | int) -}}
{{- $_ := set $shown "public_port" (default .root.Values.service.port $tls.public_port) -}}
{{- $_ := set $shown "hsts_max_age_s" $tls.hsts_max_age_s -}}
{{- $_ := set $settings "tls" $shown -}}
{{- end -}}
{{- with (default dict .root.Values.http).cors -}}
{{- $_ := set $settings "cors" (include "strata.section" (list $defaults.cors .) | fromJson) -}}
{{- end -}}
{{- $jwt := default dict (default dict .root.Values.access).jwt -}}
{{- /* Beside keys alone (validate.yaml): the pods of the release that ask the ingress have no token. */ -}}
{{- if and $jwt .keys -}}
{{- $_ := set $settings "jwt" (include "strata.section" (list $defaults.jwt $jwt) | fromJson) -}}
{{- end -}}
{{- toJson $settings -}}
{{- end -}}

{{- /* What the replicas of `process` count for its `models`, as serve/deploy/applications.py has it; empty for nothing. */ -}}
{{- define "strata.quotas" -}}
{{- $models := .models -}}
{{- $defaults := .defaults -}}
{{- $access := default dict .root.Values.access -}}
{{- $quotas := list -}}
{{- $counted := list -}}
{{- range default list $access.quotas -}}
{{- if or (not .model) (has .model $models) -}}
{{- $quota := set (deepCopy .) "tenant" (default "*" .tenant) -}}
{{- $quotas = append $quotas $quota -}}
{{- if not (and (kindIs "invalid" .rows_per_s) (kindIs "invalid" .compute_s_per_day)) }}{{ $counted = append $counted $quota }}{{ end -}}
{{- end -}}
{{- end -}}
{{- if $counted -}}
{{- $all := 0 -}}
{{- range include "strata.processes" .root | fromJsonArray -}}
{{- $all = add $all (include "strata.section" (list $defaults.served.autoscaling .autoscaling) | fromJson).max_replicas -}}
{{- end -}}
{{- $scaling := include "strata.section" (list $defaults.served.autoscaling .process.autoscaling) | fromJson -}}
{{- $counts := include "strata.section" (list $defaults.config.access.counts $access.counts) | fromJson -}}
{{- toJson (dict "quotas" $quotas "counts" $counts "replicas" (dict "model" $scaling.max_replicas "all" $all)) -}}
{{- end -}}
{{- end -}}

{{- /* The password of the Redis in which quotas are counted. */ -}}
{{- define "strata.countsEnv" -}}
{{- with .Values.accessCounts -}}
{{- if .existingSecret }}
- name: STRATA_COUNTS_PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ .existingSecret }}, key: {{ .secretKey }}}
{{- end }}
{{- end -}}
{{- end -}}

{{- define "strata.edgeEnv" -}}
- {name: STRATA_EDGE_SETTINGS, value: /etc/strata/edge/{{ include "strata.settingsFile" (list .Values.accessKeys.existingSecret (include "strata.certificates" .)) }}}
- name: STRATA_NODE_ADDRESS
  valueFrom:
    fieldRef: {fieldPath: status.podIP}
- {name: STRATA_PEERS_PORT, value: {{ include "strata.peersPort" . | quote }}}
{{- end -}}

{{- /* Which file of the ConfigMap pods read, by whether they have keys, and by their certificates. */ -}}
{{- define "strata.settingsFile" -}}
settings{{ if first . }}-with-keys{{ end }}{{ with last . }}-with-{{ . }}{{ end }}.json
{{- end -}}

{{- /* Whole folders: what is mounted as a file alone is never renewed. */ -}}
{{- define "strata.edgeMounts" -}}
- {name: edge-settings, mountPath: /etc/strata/edge, readOnly: true}
{{- if .Values.accessKeys.existingSecret }}
- {name: access-keys, mountPath: /etc/strata/keys, readOnly: true}
{{- end }}
{{- if .Values.tls.existingSecret }}
- {name: certificates, mountPath: /etc/strata/tls, readOnly: true}
{{- end }}
{{- end -}}

{{- define "strata.edgeVolumes" -}}
- name: edge-settings
  configMap: {name: {{ include "strata.edgeName" . }}}
{{- with .Values.accessKeys.existingSecret }}
- name: access-keys
  # Optional, so that pods start before there is a key.
  secret: {secretName: {{ . }}, optional: true, items: [{key: keys.json, path: keys.json}]}
{{- end }}
{{- with .Values.tls.existingSecret }}
- name: certificates
  projected:
    sources:
      - secret: {name: {{ . }}, items: [{key: tls.crt, path: tls.crt}, {key: tls.key, path: tls.key}]}
      {{- if eq (include "strata.certificates" $) "client-ca" }}
      - secret: {name: {{ default . $.Values.tls.clientCaSecret }}, items: [{key: ca.crt, path: ca.crt}]}
      {{- end }}
{{- end }}
{{- end -}}
