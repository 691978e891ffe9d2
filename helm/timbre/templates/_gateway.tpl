{{/*
The Secret of the certificate; where it isn't named, cert-manager makes one of this name.
*/}}
{{- define "timbre.gateway.secretName" -}}
{{ .Values.gateway.https.secretName | default (printf "%s-tls" (include "timbre.fullname" .)) }}
{{- end }}

{{/*
Whether who comes by http is sent to https.
*/}}
{{- define "timbre.gateway.redirects" -}}
{{- with .Values.gateway }}
{{- if and .enabled .http.enabled .https.enabled .https.redirect (not $.Values.httpRoute.parentRefs) }}true{{ end }}
{{- end }}
{{- end }}

{{/*
The listeners a route of clips is attached to, one a line: https has one for each host name, because
a listener has one name and one certificate.
*/}}
{{- define "timbre.gateway.listeners" -}}
{{- if and .Values.gateway.http.enabled (not (include "timbre.gateway.redirects" .)) }}
- http
{{- end }}
{{- if .Values.gateway.https.enabled }}
{{- range $number, $_ := .Values.httpRoute.hostnames | default (list "") }}
- https{{ if $number }}-{{ $number }}{{ end }}
{{- end }}
{{- end }}
{{- end }}
