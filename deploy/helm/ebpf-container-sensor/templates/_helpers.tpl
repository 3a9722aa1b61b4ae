{{- define "sensor.selector" -}}
app.kubernetes.io/name: ebpf-container-sensor
{{- end }}

{{- define "sensor.labels" -}}
{{ include "sensor.selector" . }}
app.kubernetes.io/component: sensor
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/instance: {{ .Release.Name }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "sensor.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- define "sensor.config" -}}
{{- $kubernetes := dict "containers" (dict "kubernetes" .Values.kubernetesApi) -}}
{{- toYaml (mergeOverwrite (deepCopy .Values.config) $kubernetes) }}
{{- end }}

{{- /* The folder of the runtime's socket: its name as a volume, where the node has it, where the sensor looks. */}}
{{- define "sensor.runtime" -}}
{{- if eq .Values.runtime "crio" -}}
{name: crio, node: /run/crio, pod: /run/crio}
{{- else if eq .Values.runtime "k3s" -}}
{name: containerd, node: /run/k3s/containerd, pod: /run/containerd}
{{- else -}}
{name: containerd, node: /run/containerd, pod: /run/containerd}
{{- end }}
{{- end }}
