{{- /* What the bundled Prometheus and the objects of prometheus-operator have in common. */ -}}

{{- define "strata.rules" -}}
{{- $rules := .Files.Get "files/rules.yaml" -}}
{{- if not $rules }}{{ fail "the chart lacks files/rules.yaml: take it from a whole checkout or package" }}{{ end -}}
{{- $rules -}}
{{- end -}}

{{- /*
What is scraped of Ray's pods, by the names of the ports: as-metrics and dash-metrics are the head's
alone. Of HAProxy's own page only what rules and dashboards use; its series of each server come and go with
the replicas. Its agent's page is there where it is told something.
*/ -}}
{{- define "strata.metricsPages" -}}
{{- $ports := list "metrics" "dash-metrics" -}}
{{- if .Values.autoscaler.enabled }}{{ $ports = append $ports "as-metrics" }}{{ end -}}
{{- $pages := list (dict "job" "strata" "ports" $ports) -}}
{{- if (include "strata.http" . | fromJson).haproxy -}}
{{- $defaults := include "strata.defaults" . | fromJson -}}
{{- $pages = append $pages (merge (dict "job" "strata-haproxy" "ports" (list "haproxy-metrics")) $defaults.haproxy_metrics) -}}
{{- if include "strata.hasEdgeSettings" . -}}
{{- $pages = append $pages (merge (dict "job" "strata-access" "ports" (list "haproxy-metrics")) $defaults.access_metrics) -}}
{{- end -}}
{{- end -}}
{{- toJson $pages -}}
{{- end -}}

{{- define "strata.grafanaEnabled" -}}
{{- if and .Values.monitoring.bundled .Values.monitoring.grafana.enabled }}true{{ end -}}
{{- end -}}

{{- define "strata.grafanaSecret" -}}
{{- default (printf "%s-grafana" (include "strata.fullname" .)) .Values.monitoring.grafana.existingSecret -}}
{{- end -}}

{{- /* The name of a dashboard's ConfigMap, of its file. */ -}}
{{- define "strata.dashboardName" -}}
{{- printf "%s-dashboard-%s" (include "strata.fullname" .root) (base .path | trimSuffix ".json") -}}
{{- end -}}

{{- define "strata.prometheusConfig" -}}
global:
  scrape_interval: {{ .Values.monitoring.interval }}
  evaluation_interval: {{ .Values.monitoring.interval }}
rule_files: [/config/rules.yaml]
{{- with .Values.monitoring.prometheus.alertmanagers }}
alerting:
  alertmanagers:
    - static_configs:
        - targets: {{ toJson . }}
{{- end }}
scrape_configs:
  {{- range include "strata.metricsPages" . | fromJsonArray }}
  - job_name: {{ .job }}
    {{- with .path }}
    metrics_path: {{ . }}
    {{- end }}
    {{- with .scope }}
    params: {scope: {{ toJson . }}}
    {{- end }}
    kubernetes_sd_configs:
      - role: pod
        namespaces: {own_namespace: true}
        selectors:
          - role: pod
            label: app.kubernetes.io/instance={{ $.Release.Name }},ray.io/is-ray-node=yes
    # As prometheus-operator does for a PodMonitor, so that dashboards find the same labels.
    relabel_configs:
      - {source_labels: [__meta_kubernetes_pod_phase], regex: Failed|Succeeded, action: drop}
      - {source_labels: [__meta_kubernetes_pod_container_port_name], regex: {{ join "|" .ports }}, action: keep}
      - {source_labels: [__meta_kubernetes_namespace], target_label: namespace}
      - {source_labels: [__meta_kubernetes_pod_name], target_label: pod}
      - {source_labels: [__meta_kubernetes_pod_container_name], target_label: container}
      - {source_labels: [__meta_kubernetes_pod_container_port_name], target_label: endpoint}
      - {source_labels: [__meta_kubernetes_pod_node_name], target_label: node}
      - {source_labels: [__meta_kubernetes_pod_label_ray_io_cluster], target_label: ray_io_cluster}
    {{- with .kept }}
    metric_relabel_configs:
      - {source_labels: [__name__], regex: {{ . | quote }}, action: keep}
    {{- end }}
  {{- end }}
{{- with .Values.monitoring.prometheus.extraScrapeConfigs }}
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* Grafana's files by their keys in its ConfigMap. */ -}}
{{- define "strata.grafanaConfig" -}}
grafana.ini: |
  [auth.anonymous]
  enabled = false
  [users]
  allow_sign_up = false
  [analytics]
  reporting_enabled = false
  check_for_updates = false
  check_for_plugin_updates = false
  [news]
  news_feed_enabled = false
  [plugins]
  # Else it would fetch some when it starts.
  preinstall_disabled = true
  [dashboards]
  default_home_dashboard_path = /dashboards/strata-overview.json
  {{- with .Values.monitoring.grafana.url }}
  [server]
  root_url = {{ . }}
  {{- end }}
datasources.yaml: |
  apiVersion: 1
  datasources:
    - name: Prometheus
      uid: prometheus
      type: prometheus
      access: proxy
      url: http://{{ include "strata.fullname" . }}-prometheus:9090
      isDefault: true
      editable: false
      jsonData: {timeInterval: {{ .Values.monitoring.interval }}, httpMethod: POST}
dashboards.yaml: |
  apiVersion: 1
  providers:
    - name: strata
      folder: Strata
      type: file
      allowUiUpdates: false
      updateIntervalSeconds: 30
      options: {path: /dashboards}
{{- end -}}
