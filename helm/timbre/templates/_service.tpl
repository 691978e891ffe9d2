{{/*
The Service of a track beside stable: its public port for the route, and the internal one, to which
stable's pods send copies of clips. Takes a track.
*/}}
{{- define "timbre.trackService" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "timbre.trackName" . }}
  labels:
    {{- include "timbre.labels" .root | nindent 4 }}
    track: {{ .track }}
spec:
  type: ClusterIP
  selector:
    {{- include "timbre.instanceLabels" .root | nindent 4 }}
    app.kubernetes.io/component: server
    track: {{ .track }}
  ports:
    - name: http
      port: {{ .root.Values.service.port }}
      targetPort: http
      appProtocol: http
    - name: internal
      port: 3001
      targetPort: internal
{{- end }}
