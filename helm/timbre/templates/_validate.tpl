{{/*
Values that contradict each other: everything that is wrong, a sentence a line, which says what to do.
*/}}
{{- define "timbre.validate" -}}
{{- with include "timbre.contradictions" . | trim -}}
{{ fail (printf "\n\nThese values cannot be installed:\n\n%s\n" (regexReplaceAll "\n\\s*" . "\n")) }}
{{- end -}}
{{- end }}

{{- define "timbre.contradictions" -}}
{{ include "timbre.contradictions.traffic" . }}
{{ include "timbre.contradictions.scaling" . }}
{{ include "timbre.contradictions.network" . }}
{{ include "timbre.contradictions.bundle" . }}
{{ include "timbre.contradictions.pod" . }}
{{- end }}

{{- define "timbre.contradictions.traffic" }}
{{- with .Values }}
{{- if and .httpRoute.enabled .ingress.enabled }}
- httpRoute and ingress are two ways to the same paths: enable one of them.
{{- end }}
{{- if and .httpRoute.enabled (not .httpRoute.parentRefs) (not .gateway.enabled) }}
- httpRoute needs a Gateway: name one in httpRoute.parentRefs, or enable gateway.
{{- end }}
{{- if and .gateway.enabled (not .httpRoute.enabled) }}
- gateway has no route to the server: enable httpRoute too.
{{- end }}
{{- if and .gateway.enabled (not .gateway.className) }}
- gateway needs a class: set gateway.className to one that `kubectl get gatewayclass` lists.
{{- end }}
{{- if and .gateway.enabled (not .gateway.http.enabled) (not .gateway.https.enabled) }}
- gateway has no listener: enable gateway.http or gateway.https.
{{- end }}
{{- if and .gateway.enabled .gateway.https.enabled (not .gateway.https.secretName) }}
{{- if not (regexMatch "(^| )cert-manager\\.io/" (keys .gateway.annotations | join " ")) }}
- gateway.https needs a certificate: set gateway.https.secretName, or name a cert-manager issuer in gateway.annotations.
{{- else if not .httpRoute.hostnames }}
- cert-manager needs a name to make a certificate for: set httpRoute.hostnames.
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "timbre.contradictions.scaling" }}
{{- with .Values }}
{{- if and .autoscaling.enabled .keda.enabled }}
- autoscaling and keda would scale the same pods: enable one of them.
{{- end }}
{{- if and .autoscaling.enabled (not .autoscaling.cpuUtilization) (not .autoscaling.demand.enabled) }}
- autoscaling has nothing to scale on: set autoscaling.cpuUtilization, or enable autoscaling.demand.
{{- end }}
{{- if and .autoscaling.enabled (gt (int .autoscaling.minReplicas) (int .autoscaling.maxReplicas)) }}
- autoscaling.minReplicas is above autoscaling.maxReplicas: lower the one or raise the other.
{{- end }}
{{- if and .keda.enabled (gt (int .keda.minReplicas) (int .keda.maxReplicas)) }}
- keda.minReplicas is above keda.maxReplicas: lower the one or raise the other.
{{- end }}
{{- if and .keda.enabled (not .keda.prometheus.url) }}
- keda asks Prometheus: set keda.prometheus.url, such as http://prometheus.monitoring:9090.
{{- end }}
{{- end }}
{{- end }}

{{- define "timbre.contradictions.network" }}
{{- if .Values.networkPolicy.enabled }}
{{- with .Values }}
{{- if and (or .httpRoute.enabled .ingress.enabled) (not .networkPolicy.gateway) }}
- The network policy would shut the gateway out: name its pods in networkPolicy.gateway, or disable networkPolicy.
{{- end }}
{{- if and (include "timbre.scraped" $) (not .networkPolicy.prometheus) }}
- The network policy would shut Prometheus out: name its pods in networkPolicy.prometheus, or disable networkPolicy.
{{- end }}
{{- if and (has .bundle.source (list "registry" "s3")) (not .networkPolicy.registry) }}
- The network policy would shut the bundle's store out: name its addresses in networkPolicy.registry, or disable networkPolicy.
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "timbre.contradictions.bundle" }}
{{- with .Values.bundle }}
{{- if and (eq .source "registry") (not .registry.reference) }}
- bundle.source is registry: set bundle.registry.reference, such as oci://registry.example/team/model:1.2.0.
{{- end }}
{{- if and (eq .source "pvc") (not .pvc.claimName) }}
- bundle.source is pvc: set bundle.pvc.claimName to the claim that holds the bundle.
{{- end }}
{{- if and (eq .source "volume") (not .volume.reference) }}
- bundle.source is volume: set bundle.volume.reference to the image that holds the bundle.
{{- end }}
{{- if and (eq .source "volume") (semverCompare "<1.33.0-0" $.Capabilities.KubeVersion.Version) }}
- bundle.source volume needs Kubernetes 1.33 or newer, and this is {{ $.Capabilities.KubeVersion.Version }}: take registry or pvc.
{{- end }}
{{- if and (eq .source "s3") (not .s3.url) }}
- bundle.source is s3: set bundle.s3.url, such as s3://models/speech/1.2.0.
{{- end }}
{{- if and (eq .source "s3") (not .digest) }}
- Nothing vouches for what lies in a bucket: set bundle.digest, which `timbre bundle show --json` prints.
{{- end }}
{{- end }}
{{- end }}

{{- define "timbre.contradictions.pod" }}
{{- with .Values }}
{{- if regexMatch "^[0-9]" (include "timbre.fullname" $) }}
- A Service's name begins with a letter, and {{ include "timbre.fullname" $ }} doesn't: set fullnameOverride.
{{- end }}
{{- if and .tokens.existingSecret .tokens.values }}
- tokens.existingSecret and tokens.values are two sources of one file: take one of them.
{{- end }}
{{- if gt (int (include "timbre.gracePeriod" $)) 600 }}
- drainSeconds and settings.deadline_s keep a pod for more than the 600 s that cluster autoscalers wait for: shorten one of them.
{{- end }}
{{- if and .resources (not (dig "limits" "cpu" "" .resources)) }}
- The server takes its threads from the CPU limit: set resources.limits.cpu, or use size.
{{- end }}
{{- range $label := keys .commonLabels .podLabels | uniq | sortAlpha }}
{{- if or (has $label (list "helm.sh/chart" "track")) (hasPrefix "app.kubernetes.io/" $label) }}
- commonLabels or podLabels sets {{ $label }}, which the chart sets: choose a name of your own.
{{- end }}
{{- end }}
{{- $owned := list "TIMBRE_BUNDLE" "TIMBRE_TRACK" "TIMBRE_TOKEN_FILE" "TIMBRE_INTERNAL_PORT" "TIMBRE_INTERNAL_HOST" "TIMBRE_DRAIN_S" "TIMBRE_DEADLINE_S" "TIMBRE_SHADOW_URLS" "TIMBRE_SHADOW_SAMPLE" }}
{{- range .extraEnv }}
{{- if has .name $owned }}
- extraEnv sets {{ .name }}, which the chart sets: use the value that stands for it.
{{- end }}
{{- end }}
{{- end }}
{{- end }}
