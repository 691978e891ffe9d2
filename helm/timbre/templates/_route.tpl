{{/*
The public paths, for a rule of a route; with a name and a value, of requests that have that header.
*/}}
{{- define "timbre.route.matches" -}}
{{- $paths := include "timbre.publicPaths" . | fromYaml -}}
{{- $header := .header -}}
{{- range $type, $values := dict "Exact" $paths.exact "PathPrefix" $paths.prefixes }}
{{- range $values }}
- path:
    type: {{ $type }}
    value: {{ . }}
  {{- with $header }}
  headers:
    - {{ toYaml . | nindent 6 | trim }}
  {{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/*
The tracks that a route knows: those that have pods.
*/}}
{{- define "timbre.route.tracks" -}}
stable
{{- if .Values.canary.enabled }} canary{{ if .Values.canary.baseline.enabled }} baseline{{ end }}{{ end }}
{{- end }}

{{/*
What a client shows, so that it stays where it was sent: the track and the weight. With another
weight it is sent anew, or each step would keep the clients of the one before.
*/}}
{{- define "timbre.sticky.value" -}}
{{ .track }}-{{ .root.Values.canary.weight }}
{{- end }}

{{/*
The header by which a client that shows it is known. Takes a track.
*/}}
{{- define "timbre.sticky.header" -}}
{{- $value := include "timbre.sticky.value" . -}}
{{- with .root.Values.canary.sticky -}}
{{- if eq .by "cookie" -}}
type: RegularExpression
name: cookie
value: {{ printf "^(.*; *)?%s=%s(;.*)?$" .name $value | quote }}
{{- else -}}
name: {{ .name | quote }}
value: {{ $value }}
{{- end -}}
{{- end -}}
{{- end }}

{{/*
What tells a client where it was sent. Takes a track.
*/}}
{{- define "timbre.sticky.filter" -}}
{{- $value := include "timbre.sticky.value" . -}}
type: ResponseHeaderModifier
responseHeaderModifier:
  add:
    {{- with .root.Values.canary.sticky }}
    {{- if eq .by "cookie" }}
    - name: set-cookie
      value: {{ .name }}={{ $value }}; Path=/; Max-Age={{ int .maxAgeSeconds }}; HttpOnly; SameSite=Lax
    {{- else }}
    - name: {{ .name | quote }}
      value: {{ $value }}
    {{- end }}
    {{- end }}
{{- end }}
