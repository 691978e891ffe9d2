{{/*
Memory has one figure for both, so that a pod never finds that the node has given it away. CPU has a
limit because the server takes its number of threads from it.
*/}}
{{- define "timbre.resources" -}}
{{- $sizes := dict
  "small" (dict "requests" (dict "cpu" "500m" "memory" "768Mi") "limits" (dict "cpu" "1" "memory" "768Mi"))
  "medium" (dict "requests" (dict "cpu" "1500m" "memory" "1Gi") "limits" (dict "cpu" "2" "memory" "1Gi"))
  "large" (dict "requests" (dict "cpu" "3" "memory" "2Gi") "limits" (dict "cpu" "4" "memory" "2Gi"))
-}}
{{ toYaml (.Values.resources | default (get $sizes .Values.size)) }}
{{- end }}
