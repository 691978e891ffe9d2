{{/*
A serving pod. Takes a track.
*/}}
{{- define "timbre.pod" -}}
{{- $root := .root -}}
{{- $track := .track -}}
{{- with $root.Values -}}
metadata:
  labels: {{- include "timbre.labels" (dict "root" $root "extra" .podLabels) | nindent 4 }}
    track: {{ $track }}
    {{- with include "timbre.engineLabels" $root }}
    {{- . | nindent 4 }}
    {{- end }}
  annotations: {{- include "timbre.podAnnotations" $ | nindent 4 }}
spec:
  serviceAccountName: {{ include "timbre.serviceAccountName" $root | quote }}
  automountServiceAccountToken: false
  # Kubernetes would set TIMBRE_PORT and its like beside a Service called timbre.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "timbre.gracePeriod" $root }}
  securityContext: {{- include "timbre.podSecurityContext" . | nindent 4 }}
  {{- with .image.pullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  {{- with .nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range . }}
    {{- $ours := dict "labelSelector" (dict "matchLabels" (include "timbre.selectorLabels" $ | fromYaml)) "matchLabelKeys" (list "pod-template-hash") }}
    - {{ toYaml (hasKey . "labelSelector" | ternary . (merge (deepCopy .) $ours)) | nindent 6 | trim }}
    {{- end }}
  {{- end }}
  {{- with include "timbre.bundle.initContainers" $root | trim }}
  initContainers: {{- . | nindent 4 }}
  {{- end }}
  containers:
    - {{ include "timbre.container" $ | nindent 6 | trim }}
  volumes:
    - name: temporary
      emptyDir:
        sizeLimit: 512Mi
    {{- with include "timbre.bundle.volume" $root | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with include "timbre.tokensVolume" $root }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with .extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
{{- end }}

{{/*
Variables are read once, so pods are made anew when the ConfigMap changes. Takes a track.
*/}}
{{- define "timbre.podAnnotations" -}}
{{- $own := dict "checksum/config" (include "timbre.variables" .root | sha256sum) -}}
{{- with .beside -}}
{{- $_ := set $own "checksum/canary" . -}}
{{- end -}}
{{- with .root -}}
{{- if .Values.monitoring.annotations.enabled -}}
{{- $_ := set $own "prometheus.io/scrape" "true" -}}
{{- $_ := set $own "prometheus.io/port" "3001" -}}
{{- $_ := set $own "prometheus.io/path" "/metrics" -}}
{{- end -}}
{{ toYaml (merge $own .Values.podAnnotations) }}
{{- end }}
{{- end }}
