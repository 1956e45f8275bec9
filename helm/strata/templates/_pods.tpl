{{- /* The parts that the head and the workers of Ray have in common. */ -}}

{{- /* What serve/deploy/environment.py sets, as JSON; extraEnv has the last word, and no name twice. */ -}}
{{- define "strata.rayVariables" -}}
{{- $environments := .Files.Get "files/environment.json" | fromJson -}}
{{- $http := include "strata.http" . | fromJson -}}
{{- $environment := ternary $environments.haproxy $environments.proxy $http.haproxy -}}
{{- if $http.haproxy -}}
{{- $_ := set $environment "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S" (int $http.idle_timeout_s | toString) -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- $_ := unset $environment .name -}}
{{- end -}}
{{- $environment | toJson -}}
{{- end -}}

{{- define "strata.rayEnv" -}}
{{- range $name, $value := include "strata.rayVariables" .root | fromJson }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
- {name: HOME, value: /scratch}
# HAProxy looks for the replicas' ports at each node's address.
- {name: RAY_SERVE_DEFAULT_HTTP_HOST, value: 0.0.0.0}
{{- if .drains }}
# What is left of the grace period, less what Ray needs to end its processes.
- {name: RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S, value: {{ include "strata.drainSeconds" .root | quote }}}
{{- else }}
# Without requests there is nothing to drain.
- {name: RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S, value: "0"}
{{- end }}
{{- if not .isHead }}
- {name: STRATA_READY_MARK, value: {{ include "strata.readyMark" . }}}
{{- end }}
{{- if not .root.Values.auth.enabled }}
- {name: RAY_AUTH_MODE, value: disabled}
{{- end }}
{{- if include "strata.hasEdgeSettings" .root }}
{{ include "strata.edgeEnv" .root }}
{{- end }}
{{- with include "strata.countsEnv" .root | trim }}
{{ . }}
{{- end }}
{{- with .root.Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* The file that says that a worker's probe has passed; serve/replica/pod_readiness.py waits for it. */ -}}
{{- define "strata.readyMark" -}}/tmp/strata-ready{{- end -}}

{{- define "strata.drainSeconds" -}}
{{- sub .Values.drain.terminationGracePeriodSeconds (add .Values.drain.preStopSeconds 15) -}}
{{- end -}}

{{- define "strata.objectStoreBytes" -}}
{{- mul .Values.objectStoreMemoryMiB 1048576 -}}
{{- end -}}

{{- /* An extra group, with what it leaves out from worker. */ -}}
{{- define "strata.extraGroup" -}}
{{- include "strata.section" (list (set (deepCopy .root.Values.worker) "minReplicas" 0) .group) -}}
{{- end -}}

{{- define "strata.rayContainer" -}}
{{- $ports := include "strata.ports" .root | fromJson -}}
{{- $http := include "strata.http" .root | fromJson -}}
name: ray
image: {{ include "strata.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
env:
  {{- include "strata.rayEnv" . | trim | nindent 2 }}
{{- if or .root.Values.objectStore.existingSecret .root.Values.extraEnvFrom }}
envFrom:
  {{- with .root.Values.objectStore.existingSecret }}
  - secretRef: {name: {{ . }}}
  {{- end }}
  {{- with .root.Values.extraEnvFrom }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
ports:
  {{- if .isHead }}
  - {name: gcs-server, containerPort: 6379}
  - {name: dashboard, containerPort: {{ $ports.dashboard }}}
  {{- end }}
  - {name: serve, containerPort: {{ $http.port }}}
  {{- if .root.Values.tls.existingSecret }}
  # A port has to be called so to be one of the Service.
  - {name: {{ ternary "serve-redirect" "health" (not (empty (include "strata.tls" .root | fromJson).redirect_port)) }}, containerPort: {{ include "strata.plainPort" .root }}}
  {{- end }}
  - {name: metrics, containerPort: {{ $ports.metrics }}}
  {{- if $http.haproxy }}
  - {name: haproxy-metrics, containerPort: 9101}
  {{- end }}
  {{- if include "strata.hasEdgeSettings" .root }}
  - {name: peers, containerPort: {{ include "strata.peersPort" .root }}}
  {{- end }}
  {{- if .isHead }}
  # Ray's names for the autoscaler's metrics, which has no ports of its own, and the dashboard's.
  {{- if .root.Values.autoscaler.enabled }}
  - {name: as-metrics, containerPort: 44217}
  {{- end }}
  - {name: dash-metrics, containerPort: 44227}
  {{- end }}
resources:
  {{- toYaml .resources | nindent 2 }}
securityContext:
  {{- toYaml .root.Values.securityContext | nindent 2 }}
{{- if .drains }}
lifecycle:
  # Services learn of the end first; then the ingress closes the connections that clients keep after
  # their next answer, since it may not be drained where the head is gone too.
  preStop:
    exec:
      command:
        - bash
        - -c
        - |
          sleep {{ .root.Values.drain.preStopSeconds }}
          for name in /proc/[0-9]*/comm; do
              [ "$(cat "$name" 2> /dev/null)" != haproxy ] || kill -USR1 "${name//[!0-9]/}"
          done
          sleep 5
{{- end }}
{{- if not .isHead }}
# KubeRay's own, asked every second: it moves the Service to a new cluster when the applications run,
# and until its workers are ready nobody would answer. Models run once it passed here, by the mark.
readinessProbe:
  exec:
    command:
      - bash
      - -c
      - wget --tries 1 -T 2 -q -O- http://localhost:52365/api/local_raylet_healthz | grep success && wget --tries 1 -T 2 -q -O- http://localhost:{{ include "strata.healthPort" .root }}/-/healthz | grep success && { [ -e {{ include "strata.readyMark" . }} ] || touch {{ include "strata.readyMark" . }}; }
  initialDelaySeconds: 1  # KubeRay's 10 are longer than applications take to run where cores are free
  periodSeconds: 1
  timeoutSeconds: 4
  failureThreshold: 3
{{- end }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  - {name: scratch, mountPath: /scratch}
  - {name: shared-memory, mountPath: /dev/shm}
  {{- if .root.Values.storage.enabled }}
  - {name: repository, mountPath: /strata, readOnly: true}
  {{- end }}
  {{- if include "strata.hasEdgeSettings" .root }}
  {{- include "strata.edgeMounts" .root | nindent 2 }}
  {{- end }}
  {{- with .root.Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "strata.rayVolumes" -}}
- name: tmp
  emptyDir: {sizeLimit: {{ .Values.scratchSize }}}
- name: scratch
  emptyDir: {sizeLimit: {{ .Values.scratchSize }}}
- name: shared-memory
  # A little more than the object store, or Ray would put that on the disk.
  emptyDir: {medium: Memory, sizeLimit: {{ add .Values.objectStoreMemoryMiB 64 }}Mi}
{{- if .Values.storage.enabled }}
- name: repository
  persistentVolumeClaim: {claimName: {{ include "strata.claimName" . }}}
{{- end }}
{{- if include "strata.hasEdgeSettings" . }}
{{ include "strata.edgeVolumes" . }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Where a pod may run, and how it is seen to; `group` is head, worker or one of the extra groups. */ -}}
{{- define "strata.placement" -}}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "priorityClassName" "runtimeClassName" }}
{{- with get $.group $key }}
{{ dict $key . | toYaml }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "strata.podBasics" -}}
# A release named ray would otherwise give every pod variables that Ray reads as its own.
enableServiceLinks: false
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "strata.workerGroup" -}}
{{- $ports := include "strata.ports" .root | fromJson -}}
{{- $gpus := int (default 0 .group.gpus) -}}
{{- $resources := deepCopy (default dict .group.resources) -}}
{{- if $gpus -}}
{{- $gpu := dict (default "nvidia.com/gpu" .group.gpuResource) $gpus -}}
{{- $_ := set $resources "limits" (merge $gpu (default dict $resources.limits)) -}}
{{- end -}}
groupName: {{ .name }}
replicas: {{ .group.minReplicas }}
minReplicas: {{ .group.minReplicas }}
maxReplicas: {{ .group.maxReplicas }}
# The operator writes these groups back with it and would own them then: every upgrade would conflict.
scaleStrategy: {}
{{- with .group.idleTimeoutSeconds }}
idleTimeoutSeconds: {{ . }}
{{- end }}
rayStartParams:
  metrics-export-port: {{ $ports.metrics | quote }}
  object-store-memory: {{ include "strata.objectStoreBytes" .root | quote }}
  {{- with .group.cpus }}
  num-cpus: {{ . | quote }}
  {{- end }}
  {{- if $gpus }}
  num-gpus: {{ $gpus | quote }}
  {{- end }}
  {{- with .group.customResources }}
  resources: {{ toJson . | quote | squote }}
  {{- end }}
template:
  metadata:
    labels:
      {{- include "strata.selectorLabels" .root | nindent 6 }}
      app.kubernetes.io/component: worker
      {{- with .group.podLabels }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- with .group.podAnnotations }}
    annotations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  spec:
    serviceAccountName: {{ include "strata.serviceAccountName" .root }}
    automountServiceAccountToken: false
    terminationGracePeriodSeconds: {{ .root.Values.drain.terminationGracePeriodSeconds }}
    {{- include "strata.podBasics" .root | nindent 4 }}
    {{- with include "strata.placement" . | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- if .root.Values.demo.enabled }}
    initContainers:
      - name: wait-for-demo
        image: {{ include "strata.image" .root | quote }}
        imagePullPolicy: {{ .root.Values.image.pullPolicy }}
        command: [bash, -c, "until [ -e /strata/.demo-trained ]; do sleep 2; done"]
        resources:
          requests: {cpu: 10m, memory: 16Mi}
          limits: {memory: 64Mi}
        securityContext:
          {{- toYaml .root.Values.securityContext | nindent 10 }}
        volumeMounts:
          - {name: repository, mountPath: /strata, readOnly: true}
    {{- end }}
    containers:
      - {{ include "strata.rayContainer" (dict "root" .root "isHead" false "drains" true "resources" $resources) | nindent 8 | trim }}
    volumes:
      {{- include "strata.rayVolumes" .root | nindent 6 }}
{{- end -}}
