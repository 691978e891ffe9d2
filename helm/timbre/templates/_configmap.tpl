{{/*
The variables of a track's servers. Takes a root.
*/}}
{{- define "timbre.variables" -}}
TIMBRE_DRAIN_S: {{ .Values.drainSeconds | quote }}
{{- with include "timbre.bundle.folder" . }}
TIMBRE_BUNDLE: {{ . }}
{{- end }}
{{- if include "timbre.tokensSecret" . }}
TIMBRE_TOKEN_FILE: /tokens/tokens
{{- end }}
{{- range $name, $value := .Values.settings }}
TIMBRE_{{ upper $name }}: {{ kindIs "slice" $value | ternary (join "," $value) $value | quote }}
{{- end }}
{{- end }}

{{/*
Their ConfigMap. Takes a track.
*/}}
{{- define "timbre.configmap" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .config }}
  labels: {{- include "timbre.labels" .root | nindent 4 }}
data: {{- include "timbre.variables" .root | nindent 2 }}
{{- end }}
