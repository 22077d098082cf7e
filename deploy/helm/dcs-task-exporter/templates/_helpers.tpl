{{- define "exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* Room is left for the ending of the longest name, and for the number of a pod. */}}
{{- define "exporter.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "exporter.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "exporter.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "exporter.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "exporter.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "exporter.serviceAccountName" -}}
{{- default (ternary (include "exporter.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name }}
{{- end }}

{{- define "exporter.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- define "exporter.configMap" -}}
{{- default (include "exporter.fullname" .) .Values.existingConfigMap }}
{{- end }}

{{- define "exporter.scheme" -}}
{{- ternary "https" "http" (and (ne .Values.webConfig.existingSecret "") .Values.webConfig.tls) }}
{{- end }}

{{- define "exporter.pods" -}}
{{- max (int .Values.replicas) (int .Values.shards) }}
{{- end }}

{{- /* What does not fit together is refused, with the way out. */}}
{{- define "exporter.check" -}}
{{- if and (not .Values.existingConfigMap) (not .Values.config.projects) }}
{{- fail "config.projects is empty: name a project with its region and credentials, or set existingConfigMap" }}
{{- end }}
{{- if and .Values.webConfig.tls (not .Values.webConfig.existingSecret) }}
{{- fail "webConfig.tls needs webConfig.existingSecret: the certificate is in it" }}
{{- end }}
{{- if and (gt (int .Values.shards) 1) (gt (int .Values.replicas) 1) }}
{{- fail "shards and replicas exclude each other: for two copies of each shard, install the chart twice" }}
{{- end }}
{{- if and (gt (int .Values.shards) 1) (ne .Values.kind "StatefulSet") }}
{{- fail "shards needs kind: StatefulSet: the number in a pod's name is its shard" }}
{{- end }}
{{- if and .Values.persistence.existingClaim (gt (int (include "exporter.pods" .)) 1) }}
{{- fail "persistence.existingClaim is for one pod: two would count into one state file" }}
{{- end }}
{{- if and .Values.scrapeConfig.enabled (eq .Values.kind "Deployment") (gt (int .Values.replicas) 1) }}
{{- fail "scrapeConfig needs kind: StatefulSet, or replicas: 1: an instance must stay with one pod" }}
{{- end }}
{{- if and .Values.scrapeConfig.enabled (not .Values.serviceMonitor.enabled) }}
{{- fail "scrapeConfig needs serviceMonitor.enabled: it scrapes the exporters' own metrics, which the alerts need" }}
{{- end }}
{{- end }}

{{- define "exporter.probe" -}}
{{- if .root.Values.webConfig.existingSecret }}
exec:
  command:
    - dcs-task-exporter
    - ready
    - --web.config.file=/etc/dcs-task-exporter/web/{{ .root.Values.webConfig.key }}
    {{- if eq .question "healthy" }}
    - --healthy
    {{- end }}
{{- else }}
httpGet:
  path: /-/{{ .question }}
  port: http
{{- end }}
{{ toYaml .settings }}
{{- end }}

{{- define "exporter.podTemplate" -}}
metadata:
  annotations:
    kubectl.kubernetes.io/default-container: exporter
    {{- if not (or .Values.existingConfigMap .Values.reloadInterval) }}
    checksum/config: {{ toYaml .Values.config | sha256sum }}
    {{- end }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  labels:
    {{- include "exporter.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "exporter.serviceAccountName" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  containers:
    - name: exporter
      image: {{ include "exporter.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        - serve
        - --config.file=/etc/dcs-task-exporter/config/dcs-task-exporter.yml
        - --log.level={{ .Values.log.level }}
        - --log.format={{ .Values.log.format }}
        {{- with .Values.reloadInterval }}
        - --config.auto-reload-interval={{ . }}
        {{- end }}
        {{- if .Values.webConfig.existingSecret }}
        - --web.config.file=/etc/dcs-task-exporter/web/{{ .Values.webConfig.key }}
        {{- end }}
        {{- if gt (int .Values.shards) 1 }}
        - --total-shards={{ .Values.shards }}
        {{- end }}
        {{- with .Values.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      env:
        - name: POD_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with .Values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - name: http
          containerPort: 39327
          protocol: TCP
      # Not whether it is ready: that takes until each instance was read once.
      startupProbe:
        {{- include "exporter.probe" (dict "root" . "question" "healthy" "settings" .Values.probes.startup) | trim | nindent 8 }}
      livenessProbe:
        {{- include "exporter.probe" (dict "root" . "question" "healthy" "settings" .Values.probes.liveness) | trim | nindent 8 }}
      readinessProbe:
        {{- include "exporter.probe" (dict "root" . "question" "ready" "settings" .Values.probes.readiness) | trim | nindent 8 }}
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - name: config
          mountPath: /etc/dcs-task-exporter/config
          readOnly: true
        - name: state
          mountPath: /var/lib/dcs-task-exporter
        {{- if .Values.credentials.existingSecret }}
        - name: credentials
          mountPath: /etc/dcs-task-exporter/credentials
          readOnly: true
        {{- end }}
        {{- if .Values.webConfig.existingSecret }}
        - name: web
          mountPath: /etc/dcs-task-exporter/web
          readOnly: true
        {{- end }}
        - name: tmp
          mountPath: /tmp
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "exporter.configMap" . }}
    {{- if .Values.persistence.existingClaim }}
    - name: state
      persistentVolumeClaim:
        claimName: {{ .Values.persistence.existingClaim }}
    {{- else if not (and .Values.persistence.enabled (eq .Values.kind "StatefulSet")) }}
    - name: state
      emptyDir:
        sizeLimit: {{ .Values.persistence.size }}
    {{- end }}
    {{- with .Values.credentials.existingSecret }}
    - name: credentials
      secret:
        secretName: {{ . }}
        defaultMode: 0440
    {{- end }}
    {{- with .Values.webConfig.existingSecret }}
    - name: web
      secret:
        secretName: {{ . }}
        defaultMode: 0440
    {{- end }}
    - name: tmp
      emptyDir:
        sizeLimit: 64Mi
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- range $key := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "priorityClassName" "runtimeClassName" "dnsPolicy" "dnsConfig" "hostAliases" }}
  {{- with get $.Values $key }}
  {{ $key }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
{{- end }}

{{- /* The metadata of an object: its name with an ending, in the namespace of the release or another. */}}
{{- define "exporter.metadata" -}}
{{- $values := default dict .values }}
{{- $labels := merge (fromYaml (include "exporter.labels" .root)) (default dict .labels) (default dict $values.labels) }}
name: {{ include "exporter.fullname" .root }}{{ .ending }}
namespace: {{ default .root.Release.Namespace $values.namespace }}
labels:
  {{- toYaml $labels | nindent 2 }}
{{- with $values.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
