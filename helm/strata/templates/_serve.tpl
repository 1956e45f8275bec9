{{- /*
From models and pipelines to Ray Serve's deploy config, as serve/deploy/applications.py makes it of strata.yaml; a
test holds the two together. Helpers return text alone, so trees go from one to the next as JSON.
*/ -}}

{{- define "strata.defaults" -}}
{{- .Files.Get "files/defaults.json" -}}
{{- end -}}

{{- /* A section with the given keys over the default ones. helm's own merge loses zeros and false. */ -}}
{{- define "strata.section" -}}
{{- $section := deepCopy (first .) -}}
{{- range $key, $value := default dict (last .) }}{{ $_ := set $section $key $value }}{{ end -}}
{{- toJson $section -}}
{{- end -}}

{{- define "strata.http" -}}
{{- $defaults := include "strata.defaults" . | fromJson -}}
{{- include "strata.section" (list $defaults.config.http .Values.http) -}}
{{- end -}}

{{- define "strata.ports" -}}
{{- $defaults := include "strata.defaults" . | fromJson -}}
{{- include "strata.section" (list $defaults.config.ports .Values.ports) -}}
{{- end -}}

{{- /* The repository as replicas see it: folders below the volume's mount, the home of the pods. */ -}}
{{- define "strata.repository" -}}
{{- $defaults := include "strata.defaults" . | fromJson -}}
{{- $repository := include "strata.section" (list $defaults.config.repository .Values.repository) | fromJson -}}
{{- if not (include "strata.hasObjectStore" .) -}}
{{- $_ := set $repository "root" (printf "/strata/%s" $repository.root) -}}
{{- end -}}
{{- $_ := set $repository "cache_dir" (regexReplaceAll "^~" $repository.cache_dir "/scratch") -}}
{{- toJson $repository -}}
{{- end -}}

{{- /* The names of a pipeline's members. */ -}}
{{- define "strata.members" -}}
{{- $members := concat (default list .steps) (default list .members) (default list .layers) -}}
{{- if .by }}{{ $members = append $members .by }}{{ end -}}
{{- range $_, $branch := default dict .branches }}{{ $members = append $members $branch }}{{ end -}}
{{- if .default }}{{ $members = append $members .default }}{{ end -}}
{{- $names := list -}}
{{- range $members }}{{ $names = append $names .model }}{{ end -}}
{{- toJson $names -}}
{{- end -}}

{{- /* Collects the pipelines below one in state.found, each once, the lowest first. */ -}}
{{- define "strata.collectNested" -}}
{{- $call := . -}}
{{- $path := append .above .pipeline.name -}}
{{- if has .pipeline.name .above -}}
{{- fail (printf "pipelines: %s goes round in a circle" (join " -> " $path)) -}}
{{- end -}}
{{- range include "strata.members" .pipeline | fromJsonArray -}}
{{- if hasKey $call.byName . -}}
{{- $nested := get $call.byName . -}}
{{- include "strata.collectNested" (dict "pipeline" $nested "byName" $call.byName "above" $path "state" $call.state) -}}
{{- if not (has $nested $call.state.found) }}{{ $_ := set $call.state "found" (append $call.state.found $nested) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "strata.nested" -}}
{{- $byName := dict -}}
{{- range .root.Values.pipelines }}{{ $_ := set $byName .name . }}{{ end -}}
{{- $state := dict "found" list -}}
{{- include "strata.collectNested" (dict "pipeline" .pipeline "byName" $byName "above" list "state" $state) -}}
{{- $pipelines := list -}}
{{- range $state.found }}{{ $pipelines = append $pipelines (omit . "autoscaling" "slo") }}{{ end -}}
{{- toJson $pipelines -}}
{{- end -}}

{{- /* What makes an application's replicas start anew when it changes. */ -}}
{{- define "strata.args" -}}
{{- $args := dict "repository" (include "strata.repository" .root | fromJson) -}}
{{- if .served.kind -}}
{{- $_ := set $args "served" (omit .served "autoscaling" "slo") -}}
{{- $_ := set $args "pipelines" (include "strata.nested" (dict "root" .root "pipeline" .served) | fromJsonArray) -}}
{{- $pools := dict -}}
{{- $called := include "strata.members" .served | fromJsonArray -}}
{{- range .root.Values.models }}{{ if and .pool (has .name $called) }}{{ $_ := set $pools .name .pool }}{{ end }}{{ end -}}
{{- if and $pools (eq (default "colocated" .served.placement) "deployment") }}{{ $_ := set $args "pools" $pools }}{{ end -}}
{{- else -}}
{{- $_ := set $args "served" (omit .served "autoscaling" "slo" "version_policy" "version_labels") -}}
{{- end -}}
{{- toJson $args -}}
{{- end -}}

{{- /* What a replica tells of each request. */ -}}
{{- define "strata.reports" -}}
{{- $defaults := include "strata.defaults" . | fromJson -}}
{{- $tracing := include "strata.section" (list $defaults.config.tracing .Values.tracing) | fromJson -}}
{{- toJson (dict "tracing" (ternary (omit $tracing "endpoint") $tracing (empty $tracing.endpoint)) "access_log" .Values.access_log) -}}
{{- end -}}

{{- /* What reaches running replicas. */ -}}
{{- define "strata.userConfig" -}}
{{- $policy := ternary (dict "all" true) (default .defaults.served.version_policy .served.version_policy) (hasKey .served "kind") -}}
{{- $config := dict "version_policy" $policy "version_labels" (default dict .served.version_labels) -}}
{{- $_ := set $config "slo" (default dict .served.slo) -}}
{{- $_ := set $config "tenants" (include "strata.section" (list .defaults.config.tenants .root.Values.tenants) | fromJson) -}}
{{- $_ := set $config "prices" (include "strata.section" (list .defaults.config.prices .root.Values.prices) | fromJson) -}}
{{- $scaling := include "strata.section" (list .defaults.served.autoscaling .served.autoscaling) | fromJson -}}
{{- $_ := set $config "max_replicas" $scaling.max_replicas -}}
{{- $_ := set $config "target_ongoing_requests" $scaling.target_ongoing_requests -}}
{{- $models := list .served.name -}}
{{- if .pool }}{{ $models = list }}{{ range .pool.members }}{{ $models = append $models .name }}{{ end }}{{ end -}}
{{- with include "strata.quotas" (dict "root" .root "defaults" .defaults "process" .served "models" $models) -}}
{{- $_ := set $config "quotas" (fromJson .) -}}
{{- end -}}
{{- toJson (merge $config (include "strata.reports" .root | fromJson)) -}}
{{- end -}}

{{- define "strata.maxOngoingRequests" -}}
{{- $batching := include "strata.section" (list .defaults.served.batching .served.batching) | fromJson -}}
{{- $limits := include "strata.section" (list .defaults.served.limits .served.limits) | fromJson -}}
{{- $extra := .defaults.max_ongoing_requests -}}
{{- add $limits.max_queued_requests (mul $extra.per_row $batching.max_batch_size) $extra.besides -}}
{{- end -}}

{{- /* The pools that models are in, each with its `members`; one without an entry has the defaults. */ -}}
{{- define "strata.pools" -}}
{{- $models := .Values.models -}}
{{- $known := dict -}}
{{- range .Values.pools }}{{ $_ := set $known .name . }}{{ end -}}
{{- $pools := list -}}
{{- $names := list -}}
{{- range $models }}{{ if .pool }}{{ $names = append $names .pool }}{{ end }}{{ end -}}
{{- range $name := uniq $names -}}
{{- $members := list -}}
{{- range $models }}{{ if eq (default "" .pool) $name }}{{ $members = append $members . }}{{ end }}{{ end -}}
{{- $pool := ternary (get $known $name) (dict "name" $name) (hasKey $known $name) -}}
{{- $pools = append $pools (set (deepCopy $pool) "members" $members) -}}
{{- end -}}
{{- toJson $pools -}}
{{- end -}}

{{- /* Everything that has replicas of its own: models that are in no pool, pools, pipelines. */ -}}
{{- define "strata.processes" -}}
{{- $alone := list -}}
{{- range .Values.models }}{{ if not .pool }}{{ $alone = append $alone . }}{{ end }}{{ end -}}
{{- toJson (concat $alone (include "strata.pools" . | fromJsonArray) .Values.pipelines) -}}
{{- end -}}

{{- /* A deployment with what a model, a pipeline or a pool says of its replicas. */ -}}
{{- define "strata.deployment" -}}
{{- $process := .process -}}
{{- $defaults := .defaults -}}
{{- $deployment := omit .deployment "num_replicas" -}}
{{- range $key, $_ := omit $deployment "name" -}}
{{- /* Keys that the deployment has from the model by the same name. */ -}}
{{- if and (hasKey $defaults.served $key) (hasKey $process $key) }}{{ $_ := set $deployment $key (get $process $key) }}{{ end -}}
{{- end -}}
{{- $options := include "strata.section" (list $defaults.served.ray_actor_options $process.ray_actor_options) | fromJson -}}
{{- $_ := set $deployment "ray_actor_options" $options -}}
{{- $scaling := include "strata.section" (list $defaults.served.autoscaling $process.autoscaling) | fromJson -}}
{{- if eq (int $scaling.min_replicas) (int $scaling.max_replicas) -}}
{{- $_ := set $deployment "num_replicas" $scaling.max_replicas -}}
{{- else -}}
{{- $_ := set $deployment "autoscaling_config" $scaling -}}
{{- end -}}
{{- toJson $deployment -}}
{{- end -}}

{{- define "strata.application" -}}
{{- $served := .served -}}
{{- $defaults := include "strata.defaults" .root | fromJson -}}
{{- $application := $defaults.application -}}
{{- $_ := set $application "name" $served.name -}}
{{- $_ := set $application "route_prefix" (printf "/v2/models/%s" $served.name) -}}
{{- $_ := set $application "args" (include "strata.args" . | fromJson) -}}
{{- $deployment := include "strata.deployment" (dict "process" $served "defaults" $defaults "deployment" (first $application.deployments)) | fromJson -}}
{{- $_ := set $deployment "user_config" (include "strata.userConfig" (dict "root" .root "served" $served "defaults" $defaults) | fromJson) -}}
{{- $_ := set $deployment "max_ongoing_requests" (include "strata.maxOngoingRequests" (dict "served" $served "defaults" $defaults) | int64) -}}
{{- $_ := set $application "deployments" (list $deployment) -}}
{{- toJson $application -}}
{{- end -}}

{{- /* A pool's application; all that concerns its models reaches running replicas. */ -}}
{{- define "strata.poolApplication" -}}
{{- $pool := .pool -}}
{{- $defaults := include "strata.defaults" .root | fromJson -}}
{{- $application := $defaults.pool_application -}}
{{- $_ := set $application "name" (printf "pool-%s" $pool.name) -}}
{{- $_ := set $application "route_prefix" (printf "/v2/pools/%s" $pool.name) -}}
{{- $deployment := include "strata.deployment" (dict "process" $pool "defaults" $defaults "deployment" (first $application.deployments)) | fromJson -}}
{{- $args := dict "pool" (dict "name" $pool.name "ray_actor_options" $deployment.ray_actor_options) -}}
{{- $_ := set $application "args" (set $args "repository" (include "strata.repository" .root | fromJson)) -}}
{{- $members := list -}}
{{- $requests := 0 -}}
{{- range $pool.members -}}
{{- $member := dict "served" (omit . "version_policy" "version_labels" "slo" "pool") -}}
{{- $_ := set $member "version_policy" (default $defaults.served.version_policy .version_policy) -}}
{{- $_ := set $member "version_labels" (default dict .version_labels) -}}
{{- $members = append $members (set $member "slo" (default dict .slo)) -}}
{{- $requests = add $requests (include "strata.maxOngoingRequests" (dict "served" . "defaults" $defaults) | int64) -}}
{{- end -}}
{{- $config := include "strata.userConfig" (dict "root" .root "served" $pool "pool" $pool "defaults" $defaults) | fromJson -}}
{{- $config = omit $config "version_policy" "version_labels" "slo" -}}
{{- $_ := set $config "members" $members -}}
{{- $_ := set $config "max_memory_bytes" (index $pool "max_memory_bytes") -}}
{{- $_ := set $deployment "user_config" $config -}}
{{- $_ := set $deployment "max_ongoing_requests" $requests -}}
{{- $_ := set $application "deployments" (list $deployment) -}}
{{- toJson $application -}}
{{- end -}}

{{- define "strata.serveConfig" -}}
{{- $root := . -}}
{{- $defaults := include "strata.defaults" . | fromJson -}}
{{- $config := $defaults.deploy -}}
{{- $http := include "strata.http" . | fromJson -}}
{{- /* Pods are reached by their own address, never by loopback alone. */ -}}
{{- $_ := set $config.http_options "host" "0.0.0.0" -}}
{{- $_ := set $config.http_options "port" $http.port -}}
{{- $served := concat .Values.models .Values.pipelines -}}
{{- $names := list -}}
{{- range $served -}}
{{- $limits := pick (default dict .limits) "max_body_bytes" "request_timeout_s" -}}
{{- $entry := merge (dict "name" .name) (ternary (dict "limits" $limits) dict (gt (len $limits) 0)) -}}
{{- if .pool }}{{ $_ := set $entry "pool" .pool }}{{ end -}}
{{- $names = append $names $entry -}}
{{- end -}}
{{- $gateway := first $config.applications -}}
{{- $_ := set (first $gateway.deployments) "user_config" (merge (dict "models" $names) (include "strata.reports" . | fromJson)) -}}
{{- $applications := list $gateway -}}
{{- range include "strata.processes" . | fromJsonArray -}}
{{- if hasKey . "members" | and (not .kind) -}}
{{- $applications = append $applications (include "strata.poolApplication" (dict "root" $root "pool" .) | fromJson) -}}
{{- else -}}
{{- $applications = append $applications (include "strata.application" (dict "root" $root "served" .) | fromJson) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $config "applications" $applications -}}
{{- toYaml $config -}}
{{- end -}}
