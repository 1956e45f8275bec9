{{- /* A pod that runs files/probe.py; `args` are its arguments. */ -}}
{{- define "strata.probePod" -}}
restartPolicy: Never
automountServiceAccountToken: false
{{ include "strata.podBasics" .root }}
containers:
  - name: probe
    image: {{ include "strata.image" .root | quote }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    command: [python, /probe/probe.py]
    args: {{ toJson .args }}
    {{- with include "strata.probeSecret" .root }}
    env:
      - name: STRATA_API_KEY
        valueFrom:
          secretKeyRef: {name: {{ . }}, key: key}
    {{- end }}
    resources:
      requests: {cpu: 10m, memory: 64Mi}
      limits: {memory: 256Mi}
    securityContext:
      {{- toYaml .root.Values.securityContext | nindent 6 }}
    volumeMounts:
      - {name: probe, mountPath: /probe}
volumes:
  - name: probe
    configMap: {name: {{ include "strata.fullname" .root }}-probe}
{{- end -}}
