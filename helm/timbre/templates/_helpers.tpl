{{- define "timbre.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 48 | trimSuffix "-" }}
{{- end }}

{{/*
The name of everything; of one that is too long the end becomes a hash, so that two of them stay two.
Kubernetes cuts what a pod's name begins with to 58 characters, and a pod without its hash and dash is
none of a track's to who compares: 37 leave 21 for -baseline-HASH-. By Argo Rollouts 29 leave 29 for
-HASH-REVISION-STEP-TRY-baseline-, up to revision 999. A release's name may have dots, a Service's
may not.
*/}}
{{- define "timbre.fullname" -}}
{{- $most := ternary 29 37 (eq .Values.rollout.engine "argo") -}}
{{- $chart := include "timbre.name" . -}}
{{- $release := contains $chart .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $chart) -}}
{{- $name := .Values.fullnameOverride | default $release | replace "." "-" -}}
{{- if gt (len $name) $most -}}
{{- $name = printf "%s-%s" ($name | trunc (int (sub $most 9)) | trimSuffix "-") ($name | sha256sum | trunc 8) -}}
{{- end -}}
{{ $name }}
{{- end }}

{{/*
Labels of every object. Takes the root, or a dict of root and what differs: component, or extra
labels. The chart's own win, for selectors count on them.
*/}}
{{- define "timbre.labels" -}}
{{- $root := .root | default . -}}
{{- $version := $root.Values.image.tag | default $root.Chart.AppVersion | trunc 63 -}}
{{- $own := dict
  "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63)
  "app.kubernetes.io/name" (include "timbre.name" $root)
  "app.kubernetes.io/instance" $root.Release.Name
  "app.kubernetes.io/version" (regexReplaceAll "^[^A-Za-z0-9]+|[^A-Za-z0-9]+$" $version "")
  "app.kubernetes.io/component" (.component | default "server")
  "app.kubernetes.io/part-of" "timbre"
  "app.kubernetes.io/managed-by" $root.Release.Service
-}}
{{ toYaml (merge $own (.extra | default dict) $root.Values.commonLabels) }}
{{- end }}

{{/*
What selects every pod of the release, whatever it does. Takes the root.
*/}}
{{- define "timbre.instanceLabels" -}}
app.kubernetes.io/name: {{ include "timbre.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/*
What selects the serving pods of one track, and no others. Takes a track. Argo Rollouts moves pods of
one template through its steps, and experiments of its have tracks of their own.
*/}}
{{- define "timbre.selectorLabels" -}}
{{ include "timbre.instanceLabels" .root }}
app.kubernetes.io/component: server
{{- if ne .root.Values.rollout.engine "argo" }}
track: {{ .track }}
{{- end }}
{{- if eq .root.Values.rollout.engine "flagger" }}
{{ include "timbre.engineLabels" .root }}
{{- end }}
{{- end }}

{{/*
The label that an engine works by. Flagger selects by app alone, of which it gives its copy another
value; an experiment of Argo's takes pods out of the Service by another value of traffic.
*/}}
{{- define "timbre.engineLabels" -}}
{{- if eq .Values.rollout.engine "flagger" -}}
app: {{ include "timbre.fullname" . }}
{{- else if eq .Values.rollout.engine "argo" -}}
traffic: live
{{- end -}}
{{- end }}

{{- define "timbre.serviceAccountName" -}}
{{ .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "timbre.fullname" .) "default") }}
{{- end }}

{{- define "timbre.tokensSecret" -}}
{{- if or .Values.tokens.existingSecret .Values.tokens.values -}}
{{ .Values.tokens.existingSecret | default (printf "%s-tokens" (include "timbre.fullname" .)) }}
{{- end -}}
{{- end }}

{{/*
The volume of the tokens' file: its folder, for a file that is mounted alone never changes.
*/}}
{{- define "timbre.tokensVolume" -}}
{{- with include "timbre.tokensSecret" . -}}
- name: tokens
  secret:
    secretName: {{ . | quote }}
    items:
      - key: {{ ternary $.Values.tokens.key "tokens" (not (empty $.Values.tokens.existingSecret)) | quote }}
        path: tokens
{{- end -}}
{{- end }}

{{/*
An image by its digest where there is one. Takes a dict of image and the tag it has by default.
*/}}
{{- define "timbre.image" -}}
{{- with .image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.tag }}{{ end }}
{{- end -}}
{{- end }}

{{- define "timbre.serverImage" -}}
{{ include "timbre.image" (dict "image" .Values.image "tag" .Chart.AppVersion) }}
{{- end }}

{{/*
How many pods there are at least.
*/}}
{{- define "timbre.minReplicas" -}}
{{- if .Values.keda.enabled }}{{ .Values.keda.minReplicas }}
{{- else if .Values.autoscaling.enabled }}{{ .Values.autoscaling.minReplicas }}
{{- else }}{{ .Values.replicaCount }}
{{- end }}
{{- end }}

{{/*
Whether something other than the chart says how many pods there are.
*/}}
{{- define "timbre.scaled" -}}
{{- if or .Values.autoscaling.enabled .Values.keda.enabled (ne .Values.rollout.engine "helm") }}true{{ end }}
{{- end }}

{{/*
Whether anything scrapes the pods by this chart's doing.
*/}}
{{- define "timbre.scraped" -}}
{{- if or .Values.monitoring.annotations.enabled .Values.monitoring.podMonitor.enabled }}true{{ end }}
{{- end }}

{{/*
What the pod's ends are allowed: the drain, then the last request's deadline, then some for leaving.
*/}}
{{- define "timbre.gracePeriod" -}}
{{ add (ceil .Values.drainSeconds) (ceil (.Values.settings.deadline_s | default 30)) 10 }}
{{- end }}

{{/*
Of the address in NOTES.txt. Of a Gateway of others only the name of a listener tells.
*/}}
{{- define "timbre.scheme" -}}
{{- if or (toYaml .Values.httpRoute.parentRefs | regexMatch "sectionName: [\"']?https") (and .Values.gateway.enabled .Values.gateway.https.enabled) (and .Values.ingress.enabled .Values.ingress.tls.secretName) }}https{{ else }}http{{ end }}
{{- end }}

{{- define "timbre.curl.token" -}}
{{- if include "timbre.tokensSecret" . }}--header "Authorization: Bearer $TIMBRE_TOKEN" {{ end }}
{{- end }}
