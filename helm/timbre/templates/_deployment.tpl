{{/*
The Deployment of one track. Takes the track with its replicas, which are left out where something
else scales it.
*/}}
{{- define "timbre.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .name }}
  labels:
    {{- include "timbre.labels" .root | nindent 4 }}
    track: {{ .track }}
spec:
  {{- if hasKey . "replicas" }}
  replicas: {{ .replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  strategy:
    type: RollingUpdate
    rollingUpdate:
      # A new pod is ready before an old one goes.
      maxUnavailable: 0
      maxSurge: 1
  selector:
    matchLabels: {{- include "timbre.selectorLabels" . | nindent 6 }}
  template: {{- include "timbre.pod" . | nindent 4 }}
{{- end }}
