{{/*
Where the server finds its bundle; nothing where it is the image's own.
*/}}
{{- define "timbre.bundle.folder" -}}
{{- with .Values.bundle -}}
{{- if has .source (list "registry" "s3") }}/bundle/model
{{- else if eq .source "pvc" }}/bundle/{{ .pvc.path | trimAll "/" }}
{{- else if eq .source "volume" }}/bundle/{{ .volume.path | trimAll "/" }}
{{- end -}}
{{- end -}}
{{- end }}

{{/*
The volume it is in, and that of what is needed to fetch it.
*/}}
{{- define "timbre.bundle.volume" -}}
{{- with .Values.bundle -}}
{{- if has .source (list "registry" "s3") -}}
- name: bundle
  emptyDir:
    sizeLimit: {{ .sizeLimit }}
{{- else if eq .source "pvc" -}}
- name: bundle
  persistentVolumeClaim:
    claimName: {{ .pvc.claimName | quote }}
    readOnly: true
{{- else if eq .source "volume" -}}
- name: bundle
  image:
    reference: {{ .volume.reference | quote }}
    pullPolicy: {{ .volume.pullPolicy }}
{{- end }}
{{- if and (eq .source "registry") .registry.credentialsSecret }}
- name: registry
  secret:
    secretName: {{ .registry.credentialsSecret | quote }}
    items:
      - key: .dockerconfigjson
        path: config.json
{{- end }}
{{- if and (eq .source "s3") .s3.credentialsSecret }}
- name: s3
  secret:
    secretName: {{ .s3.credentialsSecret | quote }}
    items:
      - key: credentials
        path: credentials
{{- end }}
{{- end -}}
{{- end }}

{{/*
What fetches it, and what checks it where a digest is given and fetching doesn't.
*/}}
{{- define "timbre.bundle.initContainers" -}}
{{- if eq .Values.bundle.source "registry" }}
{{- include "timbre.bundle.pull" . }}
{{- else if eq .Values.bundle.source "s3" }}
{{- include "timbre.bundle.download" . }}
{{- end }}
{{- if and .Values.bundle.digest (ne .Values.bundle.source "registry") }}
{{ include "timbre.bundle.verify" . }}
{{- end }}
{{- end }}

{{/*
--force, because an init container may run again in a pod that has the bundle already. The server's
variables and mounts are its too: a proxy, or the certificate of who signed the store's.
*/}}
{{- define "timbre.bundle.pull" -}}
{{- $bundle := .Values.bundle -}}
- name: pull-bundle
  image: {{ include "timbre.serverImage" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command: [timbre, bundle, pull]
  args:
    - {{ $bundle.registry.reference }}
    - {{ include "timbre.bundle.folder" . }}
    - --force
    {{- if $bundle.registry.insecure }}
    - --insecure
    {{- end }}
    {{- if $bundle.digest }}
    - --digest={{ $bundle.digest }}
    {{- end }}
  {{- if or $bundle.registry.credentialsSecret .Values.extraEnv }}
  env:
    {{- if $bundle.registry.credentialsSecret }}
    - name: DOCKER_CONFIG
      value: /registry
    {{- end }}
    {{- with .Values.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  resources: {{- include "timbre.resources" . | nindent 4 }}
  securityContext: {{- include "timbre.securityContext" . | nindent 4 }}
  volumeMounts:
    - name: temporary
      mountPath: /tmp
    - name: bundle
      mountPath: /bundle
    {{- if $bundle.registry.credentialsSecret }}
    - name: registry
      mountPath: /registry
      readOnly: true
    {{- end }}
    {{- with .Values.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{- define "timbre.bundle.download" -}}
{{- $s3 := .Values.bundle.s3 -}}
- name: download-bundle
  image: {{ include "timbre.image" (dict "image" $s3.image) }}
  imagePullPolicy: IfNotPresent
  command: [aws, s3, sync, --no-progress, --delete]
  args:
    - {{ $s3.url }}
    - {{ include "timbre.bundle.folder" . }}
  env:
    - name: HOME
      value: /tmp
    {{- if $s3.endpoint }}
    - name: AWS_ENDPOINT_URL_S3
      value: {{ $s3.endpoint }}
    {{- end }}
    {{- if $s3.region }}
    - name: AWS_REGION
      value: {{ $s3.region | quote }}
    {{- end }}
    {{- if $s3.credentialsSecret }}
    - name: AWS_SHARED_CREDENTIALS_FILE
      value: /s3/credentials
    {{- end }}
    {{- with .Values.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  resources: {{- include "timbre.resources" . | nindent 4 }}
  securityContext: {{- include "timbre.securityContext" . | nindent 4 }}
  volumeMounts:
    - name: temporary
      mountPath: /tmp
    - name: bundle
      mountPath: /bundle
    {{- if $s3.credentialsSecret }}
    - name: s3
      mountPath: /s3
      readOnly: true
    {{- end }}
    {{- with .Values.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{- define "timbre.bundle.verify" -}}
{{- $folder := include "timbre.bundle.folder" . -}}
- name: verify-bundle
  image: {{ include "timbre.serverImage" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command: [timbre, bundle, verify]
  args:
    {{- if $folder }}
    - {{ $folder }}
    {{- end }}
    - --digest={{ .Values.bundle.digest }}
  resources: {{- include "timbre.resources" . | nindent 4 }}
  securityContext: {{- include "timbre.securityContext" . | nindent 4 }}
  volumeMounts:
    - name: temporary
      mountPath: /tmp
    {{- if $folder }}
    - name: bundle
      mountPath: /bundle
      readOnly: true
    {{- end }}
{{- end }}
