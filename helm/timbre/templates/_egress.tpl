{{- define "timbre.egress.dns" -}}
- to: {{- toYaml .Values.networkPolicy.dns | nindent 4 }}
  ports:
    {{- range .Values.networkPolicy.dnsPorts }}
    - port: {{ . }}
      protocol: UDP
    - port: {{ . }}
      protocol: TCP
    {{- end }}
{{- end }}

{{/*
The port of an http or https address: the one that it names, or its scheme's own.
*/}}
{{- define "timbre.egress.port" -}}
{{ regexFind ":[0-9]+(/|$)" . | trimAll ":/" | default (ternary "80" "443" (hasPrefix "http://" .)) }}
{{- end }}

{{/*
Where a bundle is fetched from. Beside the port of its address 443 is open, since a registry may send
whoever comes to another host for a token or for the files themselves.
*/}}
{{- define "timbre.egress.bundle" -}}
- to: {{- toYaml .Values.networkPolicy.registry | nindent 4 }}
  ports:
    {{- range .Values.networkPolicy.registryPorts | default (list (include "timbre.egress.bundlePort" .) "443" | uniq) }}
    - port: {{ . }}
    {{- end }}
{{- end }}

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
