{{/*
What keeps a drain from taking all pods of a track at once, where there may be two or more of them.
Takes the track with the least number of its pods.
*/}}
{{- define "timbre.budget" -}}
{{- $budget := .root.Values.podDisruptionBudget -}}
{{- if and $budget.enabled (or (ge .least 2) .root.Values.autoscaling.enabled .root.Values.keda.enabled) -}}
{{- $selector := include "timbre.selectorLabels" . | fromYaml -}}
{{- if eq .root.Values.rollout.engine "flagger" -}}
{{- $_ := set $selector "app" (printf "%s-primary" $selector.app) -}}
{{- end -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .name }}
  labels: {{- include "timbre.labels" .root | nindent 4 }}
spec:
  maxUnavailable: {{ $budget.maxUnavailable }}
  # A pod that isn't ready serves nobody, and must not keep a node from being drained.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels: {{- toYaml $selector | nindent 6 }}
{{- end }}
{{- end }}
