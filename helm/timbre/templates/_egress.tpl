{{- define "timbre.egress.dns" -}}
- to: {{- toYaml .Values.networkPolicy.dns | nindent 4 }}
  ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
{{- end }}

{{/*
The port of an http or https address: the one that it names, or its scheme's own.
*/}}
{{- define "timbre.egress.port" -}}
{{ regexFind ":[0-9]+(/|$)" . | trimAll ":/" | default (ternary "80" "443" (hasPrefix "http://" .)) }}
{{- end }}

{{/*
The port a bundle is fetched from.
*/}}
{{- define "timbre.egress.bundlePort" -}}
{{- with .Values.bundle -}}
{{- if eq .source "registry" -}}
{{- $scheme := .registry.insecure | ternary "http://" "https://" -}}
{{ include "timbre.egress.port" (printf "%s%s" $scheme (trimPrefix "oci://" .registry.reference | splitList "/" | first)) }}
{{- else -}}
{{ include "timbre.egress.port" .s3.endpoint }}
{{- end -}}
{{- end -}}
{{- end }}
