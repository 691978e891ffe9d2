{{/*
The server. Three probes that mean different things: loaded, able to take clips, alive. Takes a track.
*/}}
{{- define "timbre.container" -}}
{{- $config := .config -}}
{{- $track := .track -}}
{{- with .root -}}
name: timbre
image: {{ include "timbre.serverImage" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
ports:
  - name: http
    containerPort: 3000
  - name: internal
    containerPort: 3001
{{- if ne .Values.rollout.engine "argo" }}
envFrom:
  - configMapRef:
      name: {{ $config }}
{{- end }}
env:
  {{- if eq .Values.rollout.engine "argo" }}
  # Here and not in a ConfigMap: pods of two versions are made while a rollout is under way, each with
  # its own, of templates that one upgrade after the other left.
  {{- range $name, $value := include "timbre.variables" . | fromYaml }}
  - name: {{ $name }}
    value: {{ $value | quote }}
  {{- end }}
  {{- end }}
  # Of the pod's own label: what moves a pod to another track needs no other template.
  - name: TIMBRE_TRACK
    valueFrom:
      fieldRef:
        fieldPath: metadata.labels['track']
  {{- if and .Values.shadow.enabled (eq $track "stable") }}
  {{- include "timbre.shadow.env" . | nindent 2 }}
  {{- end }}
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
# The port refuses until the model is loaded, and readiness starts when this has passed.
startupProbe:
  httpGet:
    path: /readyz
    port: http
  periodSeconds: 1
  timeoutSeconds: 2
  failureThreshold: 120
readinessProbe:
  httpGet:
    path: /readyz
    port: http
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
# Stays green while the server drains, and fails where one engine call is stuck.
livenessProbe:
  httpGet:
    path: /livez
    port: http
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
resources: {{- include "timbre.resources" . | nindent 2 }}
securityContext: {{- include "timbre.securityContext" . | nindent 2 }}
volumeMounts:
  - name: temporary
    mountPath: /tmp
  {{- if include "timbre.bundle.folder" . }}
  - name: bundle
    mountPath: /bundle
    readOnly: true
  {{- end }}
  {{- if include "timbre.tokensSecret" . }}
  - name: tokens
    mountPath: /tokens
    readOnly: true
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}
