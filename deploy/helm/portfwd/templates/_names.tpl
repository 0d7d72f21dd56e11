{{- define "portfwd.name" -}}
{{- if contains "portfwd" .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-portfwd{{ end -}}
{{- end }}
{{- define "portfwd.selector" -}}
app.kubernetes.io/name: portfwd
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "portfwd.labels" -}}
{{ include "portfwd.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}
