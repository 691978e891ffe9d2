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
{{ include "timbre.contradictions.bundle" (dict "root" . "at" "bundle") }}
{{ include "timbre.contradictions.canary" . }}
{{ include "timbre.contradictions.judging" . }}
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
{{- if and .gateway.enabled (not .httpRoute.enabled) (ne .rollout.engine "flagger") }}
- gateway has no route to the server: enable httpRoute too.
{{- end }}
{{- if and .gateway.enabled .httpRoute.enabled .httpRoute.parentRefs }}
{{- $own := include "timbre.fullname" $ }}
{{- $others := list }}
{{- range .httpRoute.parentRefs }}
{{- $others = ne .name $own | ternary (append $others .name) $others }}
{{- end }}
{{- if eq (len $others) (len .httpRoute.parentRefs) }}
- gateway is made and has no route, for httpRoute.parentRefs names others: leave one of them out, or name {{ $own }} there too.
{{- end }}
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
{{- if and .judge.enabled (ne .rollout.engine "helm") (not .networkPolicy.rollouts) }}
- The network policy would shut {{ title .rollout.engine }} out: name its pods in networkPolicy.rollouts, or disable networkPolicy.
{{- end }}
{{- if and (or .httpRoute.enabled .ingress.enabled) (not .networkPolicy.gateway) }}
- The network policy would shut the gateway out: name its pods in networkPolicy.gateway, or disable networkPolicy.
{{- end }}
{{- if and (ne .service.type "ClusterIP") (ne .rollout.engine "flagger") (not (concat .networkPolicy.clients .networkPolicy.gateway | toYaml | contains "ipBlock")) }}
- The network policy would shut out who comes by service.type {{ .service.type }}: give their addresses as an ipBlock in networkPolicy.clients, or disable networkPolicy.
{{- end }}
{{- if and (or (include "timbre.scraped" $) (and .compare.prometheus.url (or .judge.enabled .compare.enabled))) (not .networkPolicy.prometheus) }}
- The network policy would shut Prometheus out: name its pods in networkPolicy.prometheus, or disable networkPolicy.
{{- end }}
{{- if and (has .bundle.source (list "registry" "s3")) (not .networkPolicy.registry) }}
- The network policy would shut the bundle's store out: name its addresses in networkPolicy.registry, or disable networkPolicy.
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/*
Of a bundle's values, and where they are: takes a root and that.
*/}}
{{- define "timbre.contradictions.bundle" }}
{{- $at := .at }}
{{- $kubernetes := .root.Capabilities.KubeVersion.Version }}
{{- with .root.Values.bundle }}
{{- if and (eq .source "registry") (not .registry.reference) }}
- {{ $at }}.source is registry: set {{ $at }}.registry.reference, such as oci://registry.example/team/model:1.2.0.
{{- end }}
{{- if and (eq .source "pvc") (not .pvc.claimName) }}
- {{ $at }}.source is pvc: set {{ $at }}.pvc.claimName to the claim that holds the bundle.
{{- end }}
{{- if and (eq .source "volume") (not .volume.reference) }}
- {{ $at }}.source is volume: set {{ $at }}.volume.reference to the image that holds the bundle.
{{- end }}
{{- if and (eq .source "volume") (semverCompare "<1.33.0-0" $kubernetes) }}
- {{ $at }}.source volume needs Kubernetes 1.33 or newer, and this is {{ $kubernetes }}: take registry or pvc.
{{- end }}
{{- if and (eq .source "s3") (not .s3.url) }}
- {{ $at }}.source is s3: set {{ $at }}.s3.url, such as s3://models/speech/1.2.0.
{{- end }}
{{- if and (eq .source "s3") (not .digest) }}
- Nothing vouches for what lies in a bucket: set {{ $at }}.digest, which `timbre bundle show --json` prints.
{{- end }}
{{- end }}
{{- end }}

{{- define "timbre.contradictions.canary" }}
{{- with .Values }}
{{- if .canary.enabled }}
{{- if ne .rollout.engine "helm" }}
- rollout.engine {{ .rollout.engine }} makes canaries itself, of what is upgraded: disable canary, or take engine helm.
{{- end }}
{{- if and (int .canary.weight) (not .httpRoute.enabled) }}
- canary.weight needs an HTTPRoute, since an Ingress and a Service split nothing: enable httpRoute, or leave it at 0, where shadow and golden set judge.
{{- end }}
{{- if .canary.bundle }}
{{- $canary := dict "root" $ "track" "canary" }}
{{- include "timbre.track" $canary }}
{{- include "timbre.contradictions.bundle" (dict "root" $canary.root "at" "canary.bundle") }}
{{- if and $.Values.networkPolicy.enabled (not (has $.Values.bundle.source (list "registry" "s3"))) (has $canary.root.Values.bundle.source (list "registry" "s3")) (not $.Values.networkPolicy.registry) }}
- The network policy would shut the bundle's store out: name its addresses in networkPolicy.registry, or disable networkPolicy.
{{- end }}
{{- end }}
{{- if and .canary.sticky.by (eq (lower .canary.sticky.name) "x-timbre-track") }}
- canary.sticky.name is the header by which a client asks for a track, whose clips don't count: choose another name.
{{- end }}
{{- end }}
{{- if and (eq .rollout.engine "flagger") .httpRoute.enabled }}
- rollout.engine flagger makes the HTTPRoute itself: disable httpRoute, and give gatewayRefs and hosts to the Canary of k8s/rollouts/flagger.
{{- end }}
{{- if and (eq .rollout.engine "flagger") .keda.enabled }}
- rollout.engine flagger gives the primary a copy of what scales, in which KEDA's query would name no metric: enable autoscaling for keda.
{{- end }}
{{- if and (ne .rollout.engine "helm") (not .autoscaling.enabled) (not .keda.enabled) (ne (int .replicaCount) 1) }}
- rollout.engine {{ .rollout.engine }} says how many pods there are: enable autoscaling{{ if eq .rollout.engine "argo" }} or keda{{ end }}, or leave replicaCount at 1.
{{- end }}
{{- end }}
{{- end }}

{{- define "timbre.contradictions.judging" }}
{{- with .Values }}
{{- range $which := list "compare" "judge" }}
{{- if and (index $.Values $which).enabled (not $.Values.compare.prometheus.url) (not $.Values.compare.golden.source) }}
- {{ $which }} has nothing to look at: set compare.prometheus.url or compare.golden.source.
{{- end }}
{{- end }}
{{- if and (or .compare.enabled .judge.enabled) (eq .rollout.engine "helm") .canary.enabled (int .canary.weight) .compare.golden.source (not .compare.prometheus.url) }}
- Above a canary.weight of 0 no golden set is sent, and compare and judge have nothing to look at: set compare.prometheus.url.
{{- end }}
{{- if and (eq .compare.golden.source "pvc") (not .compare.golden.pvc.claimName) }}
- compare.golden.source is pvc: set compare.golden.pvc.claimName to the claim that holds the golden set.
{{- end }}
{{- if and (eq .compare.golden.source "volume") (not .compare.golden.volume.reference) }}
- compare.golden.source is volume: set compare.golden.volume.reference to the image that holds the golden set.
{{- end }}
{{- if and (eq .compare.golden.source "volume") (semverCompare "<1.33.0-0" $.Capabilities.KubeVersion.Version) }}
- compare.golden.source volume needs Kubernetes 1.33 or newer, and this is {{ $.Capabilities.KubeVersion.Version }}: take pvc.
{{- end }}
{{- end }}
{{- end }}

{{- define "timbre.contradictions.pod" }}
{{- with .Values }}
{{- if regexMatch "^[0-9]" (include "timbre.fullname" $) }}
- A Service's name begins with a letter, and {{ include "timbre.fullname" $ }} doesn't: set fullnameOverride.
{{- end }}
{{- if has (include "timbre.fullname" $) (list "y" "yes" "n" "no" "on" "off" "true" "false" "null") }}
- {{ include "timbre.fullname" $ }} is no name to YAML, but a truth value or none: set fullnameOverride to another.
{{- end }}
{{- if and .tokens.existingSecret .tokens.values }}
- tokens.existingSecret and tokens.values are two sources of one file: take one of them.
{{- end }}
{{- if gt (int (include "timbre.gracePeriod" $)) 600 }}
- drainSeconds and settings.deadline_s keep a pod for more than the 600 s that cluster autoscalers wait for: shorten one of them.
{{- end }}
{{- range $where, $settings := dict "settings" .settings "canary.settings" (include "timbre.canary.values" $ | fromYaml).settings }}
{{- if ge (float64 ($settings.body_timeout_s | default 15)) (float64 ($settings.deadline_s | default 30)) }}
- {{ $where }}.body_timeout_s, 15 by default, must be below {{ $where }}.deadline_s, or the server doesn't start: set both.
{{- end }}
{{- end }}
{{- if and .resources (not (dig "limits" "cpu" "" .resources)) }}
- The server takes its threads from the CPU limit: set resources.limits.cpu, or use size.
{{- end }}
{{- range $label := keys .commonLabels .podLabels | uniq | sortAlpha }}
{{- if or (has $label (list "helm.sh/chart" "track")) (hasKey (include "timbre.engineLabels" $ | fromYaml) $label) (hasPrefix "app.kubernetes.io/" $label) }}
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
