{{- define "timbre.egress.dns" -}}
- to: {{- toYaml .Values.networkPolicy.dns | nindent 4 }}
  ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
{{- end }}

{{/*
The port a bundle is fetched from: the one that its address names, or its scheme's own.
*/}}
{{- define "timbre.egress.bundlePort" -}}
{{- with .Values.bundle -}}
{{- $named := "" -}}
{{- $plain := false -}}
{{- if eq .source "registry" -}}
{{- $named = regexFind ":[0-9]+/" (trimPrefix "oci://" .registry.reference) -}}
{{- $plain = .registry.insecure -}}
{{- else -}}
{{- $named = regexFind ":[0-9]+(/|$)" .s3.endpoint -}}
{{- $plain = hasPrefix "http://" .s3.endpoint -}}
{{- end -}}
{{ trimAll ":/" $named | default (ternary "80" "443" $plain) }}
{{- end -}}
{{- end }}
