{{- /* Who may, and how much: what HAProxy on every node is told, through its agent (serve/edge/haproxy/agent.py). */ -}}

{{- /* Whether requests are refused by who sends them, or by how many: empty for no. */ -}}
{{- define "strata.hasAccess" -}}
{{- if or .Values.accessKeys.existingSecret (default dict .Values.access).quotas }}true{{ end -}}
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

{{- /* EdgeSettings of serve/edge/haproxy/settings.py as JSON; `keys` is the file, and `ownKey` a hash, or nil. */ -}}
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
{{- toJson (dict "keys" .keys "tenant_header" (lower $tenants.header) "quotas" $quotas "own_key" .ownKey) -}}
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

{{- define "strata.accessEnv" -}}
- {name: STRATA_EDGE_SETTINGS, value: /etc/strata/edge/{{ include "strata.settingsFile" . }}}
- name: STRATA_NODE_ADDRESS
  valueFrom:
    fieldRef: {fieldPath: status.podIP}
- {name: STRATA_PEERS_PORT, value: {{ include "strata.peersPort" . | quote }}}
{{- end -}}

{{- /* The file of a ConfigMap has what a cluster with keys is told, another one what one without is. */ -}}
{{- define "strata.settingsFile" -}}
{{- if .Values.accessKeys.existingSecret }}settings-with-keys.json{{ else }}settings.json{{ end -}}
{{- end -}}

{{- /* Whole folders: what is mounted as a file alone is never renewed. */ -}}
{{- define "strata.accessMounts" -}}
- {name: edge-settings, mountPath: /etc/strata/edge, readOnly: true}
{{- if .Values.accessKeys.existingSecret }}
- {name: access-keys, mountPath: /etc/strata/keys, readOnly: true}
{{- end }}
{{- end -}}

{{- define "strata.accessVolumes" -}}
- name: edge-settings
  configMap: {name: {{ include "strata.edgeName" . }}}
{{- with .Values.accessKeys.existingSecret }}
- name: access-keys
  # Optional, so that pods start before there is a key.
  secret: {secretName: {{ . }}, optional: true, items: [{key: keys.json, path: keys.json}]}
{{- end }}
{{- end -}}
