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
    {{- $key := include "strata.probeSecret" .root }}
    {{- with .root.Values.tls }}
    {{- if or $key .existingSecret }}
    env:
      {{- with $key }}
      - name: STRATA_API_KEY
        valueFrom:
          secretKeyRef: {name: {{ . }}, key: key}
      {{- end }}
      {{- if .existingSecret }}
      - {name: STRATA_CERTIFICATE, value: /etc/strata/tls/tls.crt}
      {{- end }}
      {{- if .probeSecret }}
      - {name: STRATA_CLIENT_CERTIFICATE, value: /etc/strata/client/tls.crt}
      - {name: STRATA_CLIENT_KEY, value: /etc/strata/client/tls.key}
      {{- end }}
    {{- end }}
    {{- end }}
    resources:
      requests: {cpu: 10m, memory: 64Mi}
      limits: {memory: 256Mi}
    securityContext:
      {{- toYaml .root.Values.securityContext | nindent 6 }}
    volumeMounts:
      - {name: probe, mountPath: /probe}
      {{- with .root.Values.tls }}
      {{- if .existingSecret }}
      - {name: certificate, mountPath: /etc/strata/tls, readOnly: true}
      {{- end }}
      {{- if .probeSecret }}
      - {name: client-certificate, mountPath: /etc/strata/client, readOnly: true}
      {{- end }}
      {{- end }}
volumes:
  - name: probe
    configMap: {name: {{ include "strata.fullname" .root }}-probe}
  {{- with .root.Values.tls }}
  {{- with .existingSecret }}
  - name: certificate
    secret: {secretName: {{ . }}, items: [{key: tls.crt, path: tls.crt}]}
  {{- end }}
  {{- with .probeSecret }}
  - name: client-certificate
    secret: {secretName: {{ . }}, items: [{key: tls.crt, path: tls.crt}, {key: tls.key, path: tls.key}]}
  {{- end }}
  {{- end }}
{{- end -}}
