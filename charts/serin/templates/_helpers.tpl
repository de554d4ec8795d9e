{{- define "serin.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "serin.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "serin.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "serin.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Names of objects of the cluster: two releases may have one name in two namespaces. A namespace has
     dashes and no dot, so that no two of both make one text. */}}
{{- define "serin.clusterName" -}}
{{- printf "%s.%s" .Release.Namespace (include "serin.fullname" .) -}}
{{- end -}}

{{/* Two releases in one namespace must not share a lease. */}}
{{- define "serin.leaseName" -}}
{{- include "serin.fullname" . -}}
{{- end -}}

{{- define "serin.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "serin.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "serin.selectorLabels" -}}
app.kubernetes.io/name: {{ include "serin.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "serin.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "serin.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "serin.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Whether there is anything in the cluster's scope apart from the CustomResourceDefinitions. */}}
{{- define "serin.clusterRoles" -}}
{{- if and .Values.rbac.create (or .Values.rbac.clusterRoles (not .Values.namespaces)) -}}
true
{{- end -}}
{{- end -}}

{{/* The version by which the API server has MutatingAdmissionPolicies, where it stamps commands. */}}
{{- define "serin.stampVersion" -}}
{{- if .Values.commandPolicy.enabled -}}
{{- $kind := "admissionregistration.k8s.io/%s/MutatingAdmissionPolicy" -}}
{{- if .Capabilities.APIVersions.Has (printf $kind "v1") -}}
v1
{{- else if .Capabilities.APIVersions.Has (printf $kind "v1beta1") -}}
v1beta1
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "serin.subject" -}}
subjects:
  - kind: ServiceAccount
    name: {{ include "serin.serviceAccount" . | quote }}
    namespace: {{ .Release.Namespace | quote }}
{{- end -}}
