{{- define "crypto-lake.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 48 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 48 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 48 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "crypto-lake.operator" -}}
{{- printf "%s-operator" (include "crypto-lake.fullname" .) -}}
{{- end -}}

{{- /* Cluster-wide objects of two releases of one name, in two namespaces, must not meet. */ -}}
{{- define "crypto-lake.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "crypto-lake.operator" .) -}}
{{- end -}}

{{- define "crypto-lake.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "crypto-lake.operator" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.create is false: serviceAccount.name must name one" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "crypto-lake.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- /* The lakes' own pods bear the name crypto-lake: a collector's NetworkPolicy tells the operator by this one. */ -}}
{{- define "crypto-lake.selector" -}}
app.kubernetes.io/name: crypto-lake-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "crypto-lake.labels" -}}
{{ include "crypto-lake.commonLabels" . }}
app.kubernetes.io/name: crypto-lake-operator
{{- end -}}

{{- /* Hooks are no operator: neither its Service nor its budget may count them. */ -}}
{{- define "crypto-lake.hookLabels" -}}
{{ include "crypto-lake.commonLabels" . }}
app.kubernetes.io/name: crypto-lake-hook
{{- end -}}

{{- define "crypto-lake.dashboard" -}}
{{- printf "%s-dashboard" (include "crypto-lake.fullname" .) -}}
{{- end -}}

{{- define "crypto-lake.dashboardAccount" -}}
{{- if .Values.dashboard.serviceAccount.create -}}
{{- default (include "crypto-lake.dashboard" .) .Values.dashboard.serviceAccount.name -}}
{{- else -}}
{{- required "dashboard.serviceAccount.create is false: dashboard.serviceAccount.name must name one" .Values.dashboard.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- /* By this name the lakes' NetworkPolicies let it ask their collectors. */ -}}
{{- define "crypto-lake.dashboardSelector" -}}
app.kubernetes.io/name: crypto-lake-dashboard
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "crypto-lake.dashboardLabels" -}}
{{ include "crypto-lake.commonLabels" . }}
app.kubernetes.io/name: crypto-lake-dashboard
{{- end -}}

{{- /* TCP ports of the bucket, as JSON, with that of an emulator. */ -}}
{{- define "crypto-lake.dashboardPorts" -}}
{{- $ports := .Values.dashboard.networkPolicy.egressPorts -}}
{{- range .Values.dashboard.env -}}
{{- if eq .name "STORAGE_EMULATOR_HOST" -}}
{{- with regexFind ":[0-9]+$" (trimSuffix "/" (default "" .value)) -}}
{{- $ports = append $ports (trimPrefix ":" . | int64) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $ports | uniq | toJson -}}
{{- end -}}

{{- define "crypto-lake.commonLabels" -}}
{{- with .Values.commonLabels }}{{ toYaml . }}
{{ end -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: crypto-lake
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "crypto-lake.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "crypto-lake.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
runAsNonRoot: true
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- /* Whose lakes are looked after, as JSON. Empty: all. */ -}}
{{- define "crypto-lake.namespaces" -}}
{{- if .Values.watch.all -}}
{{- list | toJson -}}
{{- else -}}
{{- default (list .Release.Namespace) .Values.watch.namespaces | uniq | sortAlpha | toJson -}}
{{- end -}}
{{- end -}}

{{- define "crypto-lake.lakeName" -}}
{{- default .Release.Name .Values.lake.name -}}
{{- end -}}

{{- /* A Role's rules, of files/access.yaml. Call with (dict "root" $ "of" "lakes"). */ -}}
{{- define "crypto-lake.rules" -}}
{{- $access := .root.Files.Get "files/access.yaml" | fromYaml -}}
{{- toYaml (get $access .of) -}}
{{- end -}}

{{- define "crypto-lake.hookPod" -}}
restartPolicy: Never
enableServiceLinks: false
securityContext:
  {{- include "crypto-lake.podSecurity" . | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "crypto-lake.hookContainer" -}}
image: {{ include "crypto-lake.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
command: [crypto-lake-operator]
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  {{- include "crypto-lake.containerSecurity" . | nindent 2 }}
resources:
  requests: {cpu: 20m, memory: 96Mi}
  limits: {memory: 256Mi}
{{- end -}}
