{{/*
The names of a track's objects: stable has the release's own.
*/}}
{{- define "timbre.trackName" -}}
{{ include "timbre.fullname" .root }}{{ if ne .track "stable" }}-{{ .track }}{{ end }}
{{- end }}

{{/*
One track: adds to a dict of root and track what its objects are made of. name is theirs, config that
of their ConfigMap, and root has the values of the track: the canary's are stable's with its own laid
over them. The baseline is stable under another name.
*/}}
{{- define "timbre.track" -}}
{{- $_ := set . "name" (include "timbre.trackName" .) -}}
{{- $_ := set . "config" (include "timbre.fullname" .root) -}}
{{- if eq .track "canary" -}}
{{- $_ := set . "config" .name -}}
{{- $laid := dict "Values" (include "timbre.canary.values" .root | fromYaml) -}}
{{- range list "Chart" "Release" "Capabilities" "Template" "Files" -}}
{{- $_ := set $laid . (index $.root .) -}}
{{- end -}}
{{- $_ := set . "root" $laid -}}
{{- end -}}
{{- end }}

{{/*
The canary's values. A tag or a digest of the image, and the bundle's digest, are of one version: what
the canary says of either replaces all that stable says of it.
*/}}
{{- define "timbre.canary.values" -}}
{{- $values := deepCopy .Values -}}
{{- $image := .Values.canary.image -}}
{{- if $image.repository -}}
{{- $_ := set $values.image "repository" $image.repository -}}
{{- end -}}
{{- if or $image.tag $image.digest -}}
{{- $_ := set $values.image "tag" $image.tag -}}
{{- $_ := set $values.image "digest" $image.digest -}}
{{- end -}}
{{- with .Values.canary.bundle -}}
{{- $_ := set $values.bundle "digest" "" -}}
{{- include "timbre.lay" (dict "over" $values.bundle "what" .) -}}
{{- end -}}
{{- include "timbre.lay" (dict "over" $values.settings "what" .Values.canary.settings) -}}
{{ toYaml $values }}
{{- end }}

{{/*
Lays a map over another; unlike sprig's mergeOverwrite it takes false, 0 and "" for values.
*/}}
{{- define "timbre.lay" -}}
{{- range $key, $value := .what -}}
{{- if and (kindIs "map" $value) (kindIs "map" (index $.over $key)) -}}
{{- include "timbre.lay" (dict "over" (index $.over $key) "what" $value) -}}
{{- else -}}
{{- $_ := set $.over $key $value -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/*
Percent of the clips: the baseline gets what the canary gets while there is as much left.
*/}}
{{- define "timbre.weights" -}}
{{- $canary := int .Values.canary.weight -}}
{{- $baseline := ternary $canary 0 (and .Values.canary.baseline.enabled (le $canary 50)) -}}
stable: {{ sub (sub 100 $canary) $baseline }}
canary: {{ $canary }}
baseline: {{ $baseline }}
{{- end }}

{{/*
How many pods the canary has at least: of as many as stable has, the share that its clips need. A
number of values.yaml is true in Helm 3 even where it is 0, hence int.
*/}}
{{- define "timbre.canary.replicas" -}}
{{- $share := div (add (mul (include "timbre.minReplicas" .) .Values.canary.weight) 99) 100 -}}
{{ int .Values.canary.replicas | default (max 1 $share) }}
{{- end }}

{{- define "timbre.baseline.replicas" -}}
{{ int .Values.canary.baseline.replicas | default (include "timbre.canary.replicas" .) }}
{{- end }}

{{/*
Where stable's pods send copies of clips. Always the same, whether or not anybody is there, so that a
canary that comes or goes never makes stable anew.
*/}}
{{- define "timbre.shadow.env" -}}
{{- $name := include "timbre.fullname" . -}}
{{- if eq .Values.rollout.engine "flagger" -}}
# Flagger copies this template and rewrites one label on the copy. There the name below is that of a
# Service; here it is nobody's, so that only the primary's pods send copies.
- name: APP
  valueFrom:
    fieldRef:
      fieldPath: metadata.labels['app']
- name: TIMBRE_SHADOW_URLS
  value: canary=http://$(APP)-shadow:3001
{{- else -}}
- name: TIMBRE_SHADOW_URLS
  value: canary=http://{{ $name }}-canary:3001,baseline=http://{{ $name }}-baseline:3001
{{- end }}
- name: TIMBRE_SHADOW_SAMPLE
  value: {{ .Values.shadow.sample | quote }}
{{- end }}

{{/*
Selectors of the pods that copies of clips come from, and of those that they go to.
*/}}
{{- define "timbre.shadow.selectors" -}}
{{- $servers := dict "app.kubernetes.io/component" "server" -}}
{{- $_ := merge $servers (include "timbre.instanceLabels" . | fromYaml) -}}
{{- $name := include "timbre.fullname" . -}}
{{- if eq .Values.rollout.engine "flagger" -}}
from:
  matchLabels: {{- merge (dict "app" (printf "%s-primary" $name)) $servers | toYaml | nindent 4 }}
to:
  matchLabels: {{- merge (dict "app" $name) $servers | toYaml | nindent 4 }}
{{- else -}}
from:
  matchLabels: {{- merge (dict "track" "stable") $servers | toYaml | nindent 4 }}
to:
  matchLabels: {{- toYaml $servers | nindent 4 }}
  matchExpressions:
    - {key: track, operator: In, values: [canary, baseline]}
{{- end -}}
{{- end }}
