{{/*
Where compare and judge get their figures from, as arguments of either.
*/}}
{{- define "timbre.tools.arguments" -}}
{{- $name := include "timbre.fullname" . -}}
- --namespace={{ .Release.Namespace }}
- --name={{ $name }}
- --weight={{ .Values.canary.weight }}
- --block={{ .Values.compare.blockSeconds }}
{{- with .Values.compare.prometheus.url }}
- --prometheus={{ . }}
{{- end }}
{{- if .Values.compare.policy }}
- --policy=/policy/policy.toml
{{- end }}
{{- $pod := "[0-9a-f]{6,10}-[a-z0-9]{5}" }}
{{- if eq .Values.rollout.engine "flagger" }}
# Flagger has no fresh copy of stable: the primary stands for both.
- --stable-pods={{ $name }}-primary-{{ $pod }}
- --baseline-pods={{ $name }}-primary-{{ $pod }}
- --candidate-pods={{ $name }}-{{ $pod }}
{{- else if eq .Values.rollout.engine "argo" }}
# Of experiments: hash, revision, step and, where the step is tried again, a number; then the name
# that the template has in the step.
{{- $experiment := printf "%s-[0-9a-f]+(-[0-9]+){2,3}" $name }}
- --candidate-pods={{ $experiment }}-canary-[a-z0-9]{5}
- --baseline-pods={{ $experiment }}-baseline-[a-z0-9]{5}
{{- end }}
{{- end }}

{{/*
Who is asked about the golden set. Stable is Flagger's primary; by Argo it is the baseline, for NAME
has the canary among its pods, too, once that gets clips. With a canary of this chart nobody is asked
once clients' clips come to it: the set's would make it slower than the baseline.
*/}}
{{- define "timbre.tools.golden" -}}
{{- if and .Values.compare.golden.source (or (ne .Values.rollout.engine "helm") (eq (int .Values.canary.weight) 0)) -}}
{{- $name := include "timbre.fullname" . -}}
{{- $stable := index (dict "helm" "" "flagger" "-primary" "argo" "-baseline") .Values.rollout.engine -}}
- --golden=/golden/{{ .Values.compare.golden.manifest }}
- --stable-url=http://{{ $name }}{{ $stable }}:{{ .Values.service.port }}
- --candidate-url=http://{{ $name }}-canary:{{ .Values.service.port }}
{{- if include "timbre.tokensSecret" . }}
# A file and not a variable: it changes while the judge runs.
- --token-file=/tokens/tokens
{{- end }}
{{- end }}
{{- end }}

{{- define "timbre.toolsImage" -}}
{{ include "timbre.image" (dict "image" .Values.compare.image "tag" .Chart.AppVersion) }}
{{- end }}

{{/*
The pod of one of them: takes a dict of root, component, arguments, and what else the pod and its
container have, as YAML.
*/}}
{{- define "timbre.tools.pod" -}}
{{- $root := .root -}}
{{- $component := .component -}}
{{- $arguments := .arguments -}}
{{- $further := .container -}}
{{- $tokens := and $root.Values.compare.golden.source (include "timbre.tokensSecret" $root) -}}
{{- with $root.Values -}}
metadata:
  labels: {{- include "timbre.labels" (dict "root" $root "component" $component) | nindent 4 }}
  {{- with $.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with $.pod }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  serviceAccountName: {{ include "timbre.serviceAccountName" $root | quote }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: 5
  securityContext: {{- include "timbre.podSecurityContext" . | nindent 4 }}
  {{- with .image.pullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ $component }}
      image: {{ include "timbre.toolsImage" $root }}
      imagePullPolicy: {{ .image.pullPolicy }}
      command: [timbre, {{ $component }}]
      args:
        {{- $arguments | trim | nindent 8 }}
      {{- with $further }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
      resources: {{- toYaml .compare.resources | nindent 8 }}
      securityContext: {{- include "timbre.securityContext" . | nindent 8 }}
      volumeMounts:
        - name: temporary
          mountPath: /tmp
        {{- if .compare.golden.source }}
        - name: golden
          mountPath: /golden
          readOnly: true
        {{- end }}
        {{- if .compare.policy }}
        - name: policy
          mountPath: /policy
          readOnly: true
        {{- end }}
        {{- if $tokens }}
        - name: tokens
          mountPath: /tokens
          readOnly: true
        {{- end }}
  volumes:
    - name: temporary
      emptyDir:
        sizeLimit: 256Mi
    {{- if eq .compare.golden.source "pvc" }}
    - name: golden
      persistentVolumeClaim:
        claimName: {{ .compare.golden.pvc.claimName | quote }}
        readOnly: true
    {{- else if eq .compare.golden.source "volume" }}
    - name: golden
      image:
        reference: {{ .compare.golden.volume.reference | quote }}
        pullPolicy: {{ .compare.golden.volume.pullPolicy }}
    {{- end }}
    {{- if .compare.policy }}
    - name: policy
      configMap:
        name: {{ include "timbre.fullname" $root }}-policy
    {{- end }}
    {{- if $tokens }}
    {{- include "timbre.tokensVolume" $root | nindent 4 }}
    {{- end }}
{{- end }}
{{- end }}
