{{/*
What scales the pods of a track, as values have it: nothing, a HorizontalPodAutoscaler, or KEDA's
ScaledObject. Takes the track with the least number of its pods.
*/}}
{{- define "timbre.autoscaler" -}}
{{- if .root.Values.autoscaling.enabled }}
{{- include "timbre.hpa" . }}
{{- else if .root.Values.keda.enabled }}
{{- include "timbre.scaledobject" . }}
{{- end }}
{{- end }}

{{- define "timbre.hpa" -}}
{{- $argo := eq .root.Values.rollout.engine "argo" -}}
{{- $least := .least -}}
{{- $name := .name -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ $name }}
  labels: {{- include "timbre.labels" .root | nindent 4 }}
spec:
  scaleTargetRef:
    apiVersion: {{ $argo | ternary "argoproj.io/v1alpha1" "apps/v1" }}
    kind: {{ $argo | ternary "Rollout" "Deployment" }}
    name: {{ $name }}
  {{- with .root.Values.autoscaling }}
  minReplicas: {{ $least }}
  maxReplicas: {{ max $least .maxReplicas }}
  metrics:
    {{- with .cpuUtilization }}
    - type: Resource
      resource:
        name: cpu
        target:
          type: Utilization
          averageUtilization: {{ . }}
    {{- end }}
    {{- with .demand }}
    {{- if .enabled }}
    - type: Pods
      pods:
        metric:
          name: timbre_demand
        target:
          type: AverageValue
          averageValue: {{ .target | quote }}
    {{- end }}
    {{- end }}
  {{- with .behavior }}
  behavior: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
{{- end }}

{{- define "timbre.scaledobject" -}}
{{- $argo := eq .root.Values.rollout.engine "argo" -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ .name }}
  labels: {{- include "timbre.labels" .root | nindent 4 }}
spec:
  scaleTargetRef:
    {{- if $argo }}
    apiVersion: argoproj.io/v1alpha1
    kind: Rollout
    {{- end }}
    name: {{ .name }}
  minReplicaCount: {{ .least }}
  maxReplicaCount: {{ max .least .root.Values.keda.maxReplicas }}
  {{- with .root.Values.autoscaling.behavior }}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior: {{- toYaml . | nindent 8 }}
  {{- end }}
  triggers:
    - type: prometheus
      metricType: AverageValue
      metadata:
        serverAddress: {{ .root.Values.keda.prometheus.url }}
        # The sum over pods is how many there should be.
        query: sum(timbre_demand{namespace={{ .root.Release.Namespace | quote }},pod=~"{{ .name }}-[a-z0-9]+-[a-z0-9]+"})
        threshold: {{ .root.Values.keda.demand.target | quote }}
        # Without data nothing moves; taken for 0 it would scale down blindly.
        ignoreNullValues: "false"
{{- end }}
