{{/*
What a gateway may pass on: never /metrics, /livez, /readyz or what BentoML adds of its own.
*/}}
{{- define "timbre.publicPaths" -}}
exact: [/, /docs, /openapi.json]
prefixes: [/v1, /web, /reference]
{{- end }}
