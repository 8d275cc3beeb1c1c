{{- define "quadrat.labels" -}}
app.kubernetes.io/name: quadrat
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end -}}

{{- define "quadrat.selector" -}}
app.kubernetes.io/name: quadrat
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}

{{- define "quadrat.podMetadata" -}}
labels:
  {{- include "quadrat.labels" . | nindent 2 }}
  {{- with .root.Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  quadrat/spark-conf: {{ include "quadrat.sparkConf" .root | sha256sum | trunc 16 | quote }}
  cluster-autoscaler.kubernetes.io/safe-to-evict: {{ eq .part "worker" | quote }}
{{- end -}}

{{/* What every pod is: an unprivileged user who writes to scratch only and has no rights here. */}}
{{- define "quadrat.pod" -}}
serviceAccountName: {{ .root.Release.Name }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile:
    type: RuntimeDefault
{{- with .own.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .own.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "quadrat.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{- define "quadrat.env" -}}
env:
  {{- if ne .part "finetune" }}
  - name: QUADRAT_MASTER
    value: spark://{{ .root.Release.Name }}-master:7077
  - name: NODE_SPARK_CONF
    value: /etc/quadrat/spark-defaults.conf
  - name: NODE_SPARK_SECRET
    value: /run/quadrat/secret
  {{- end }}
  {{- range $name, $value := .root.Values.env }}
  - name: {{ $name }}
    value: {{ $value | quote }}
  {{- end }}
  {{- range $name, $value := .more }}
  - name: {{ $name }}
    value: {{ $value | quote }}
  {{- end }}
{{- with .root.Values.credentialsSecret }}
envFrom:
  - secretRef:
      name: {{ . }}
{{- end }}
{{- end -}}

{{- define "quadrat.mounts" -}}
volumeMounts:
  - {name: scratch, mountPath: /scratch}
  - {name: tmp, mountPath: /tmp}
  {{- if eq .part "finetune" }}
  - {name: shm, mountPath: /dev/shm}
  {{- else }}
  - {name: settings, mountPath: /etc/quadrat, readOnly: true}
  - {name: spark-secret, mountPath: /run/quadrat, readOnly: true}
  {{- end }}
{{- end -}}

{{- define "quadrat.volumes" -}}
volumes:
  - name: scratch
    emptyDir: {sizeLimit: {{ .scratch }}}
  - name: tmp
    emptyDir: {sizeLimit: 1Gi}
  {{- if eq .part "finetune" }}
  - name: shm                           # what GPUs of one node talk through
    emptyDir: {medium: Memory, sizeLimit: 1Gi}
  {{- else }}
  - name: settings
    configMap: {name: {{ .root.Release.Name }}-spark}
  - name: spark-secret
    secret:
      secretName: {{ .root.Values.sparkSecret }}
      defaultMode: 0440
      items:
        - {key: secret, path: secret}
  {{- end }}
{{- end -}}

{{- define "quadrat.sparkConf" -}}
spark.network.crypto.enabled true
spark.master.rest.enabled false
spark.ui.killEnabled false
spark.decommission.enabled true
spark.worker.cleanup.enabled true
spark.executor.memory {{ .Values.worker.heap }}
{{- range $key, $value := .Values.sparkConf }}
{{ $key }} {{ $value }}
{{- end }}
{{- end -}}
