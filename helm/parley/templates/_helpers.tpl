{{/* Labels of one part: (list . "chat") */}}
{{- define "parley.selector" -}}
app.kubernetes.io/name: parley
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}
{{- define "parley.labels" -}}
{{ include "parley.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
{{- end }}

{{/* What every container may do: nothing but run. */}}
{{- define "parley.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}
{{- define "parley.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Settings of one service: (list . "chat" $service) */}}
{{- define "parley.env" -}}
{{- $root := index . 0 }}{{ $name := index . 1 }}{{ $service := index . 2 }}
{{- $prefix := printf "PARLEY_%s_" ($name | upper | replace "-" "_") }}
- {name: {{ $prefix }}LISTEN, value: "0.0.0.0:9100"}
- {name: {{ $prefix }}METRICS_LISTEN, value: "0.0.0.0:9150"}
- {name: {{ $prefix }}LOG_LEVEL, value: {{ $root.Values.logLevel }}}
{{- range $other := list "auth" "registry" "billing" }}
- {name: {{ $prefix }}{{ upper $other }}_ADDRESS, value: "dns:///{{ $root.Release.Name }}-{{ $other }}:9100"}
{{- end }}
{{- if eq $name "auth" }}
- {name: {{ $prefix }}SIGNING_KEYS_DIR, value: /secrets/signing-key}
- {name: {{ $prefix }}SEALING_KEY_FILE, value: /secrets/sealing-key/sealing-key}
{{- if $root.Values.identityProviders }}
- {name: {{ $prefix }}OIDC_PROVIDERS_FILE, value: /etc/parley/identity-providers/providers.yaml}
{{- end }}
- {name: {{ $prefix }}SERVICE_SECRETS_DIR, value: /secrets/services}
{{- with $root.Values.mail }}
- {name: {{ $prefix }}MAIL_SMTP_HOST, value: {{ .host | quote }}}
- {name: {{ $prefix }}MAIL_SMTP_PORT, value: {{ .port | int | quote }}}
- {name: {{ $prefix }}MAIL_SMTP_SECURITY, value: {{ .security | quote }}}
- {name: {{ $prefix }}MAIL_SENDER, value: {{ .sender | quote }}}
- {name: {{ $prefix }}APP_URL, value: {{ .appUrl | quote }}}
{{- if .user }}
- {name: {{ $prefix }}MAIL_SMTP_USER, value: {{ .user | quote }}}
{{- end }}
{{- end }}
{{- if $root.Values.secrets.mail }}
- {name: {{ $prefix }}MAIL_SMTP_PASSWORD_FILE, value: /secrets/mail/password}
{{- end }}
{{- else }}
- {name: {{ $prefix }}SERVICE_SECRET_FILE, value: /secrets/services/{{ $name }}}
{{- end }}
{{- if has $name (list "auth" "billing") }}
{{- range $other := list "chat" "inference-image" }}
- {name: {{ $prefix }}{{ $other | upper | replace "-" "_" }}_ADDRESS, value: "dns:///{{ $root.Release.Name }}-{{ $other }}:9100"}
{{- end }}
{{- end }}
{{- with $service.schema }}
- name: {{ $prefix }}DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ $root.Values.secrets.database }}, key: {{ . | replace "_" "-" }}-app}}
{{- end }}
{{- if eq $name "billing" }}
{{- if $root.Values.secrets.stripe }}
- {name: {{ $prefix }}STRIPE_API_KEY_FILE, value: /secrets/stripe/api-key}
- {name: {{ $prefix }}STRIPE_WEBHOOK_SECRET_FILE, value: /secrets/stripe/webhook-secret}
{{- end }}
{{- if $root.Values.secrets.revenuecat }}
- {name: {{ $prefix }}REVENUECAT_AUTHORIZATION_FILE, value: /secrets/revenuecat/authorization}
- {name: {{ $prefix }}REVENUECAT_SIGNING_SECRET_FILE, value: /secrets/revenuecat/signing-secret}
{{- end }}
{{- end }}
{{- if hasPrefix "inference-" $name }}
- {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
- {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: {{ $prefix }}ADVERTISE_ADDRESS, value: "$(POD_IP):9100"}
- {name: {{ $prefix }}REPLICA_ID, value: "$(POD_NAME)"}
- {name: HF_HOME, value: /tmp/huggingface}
{{- end }}
{{- with $root.Values.otlpEndpoint }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- range $key, $value := $service.env }}
- {name: {{ $prefix }}{{ $key }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{/* Which requests the rate-limit service counts together, and how many it lets pass: the descriptors of files/global_limit.yaml. */}}
{{- define "parley.rateLimitConfig" -}}
{{- with .Values.rateLimit.limits -}}
domain: parley
descriptors:
  - key: class
    value: others
    descriptors:
      - {key: masked_remote_address, rate_limit: {unit: minute, requests_per_unit: {{ int .addressPerMinute }}}}
      - {key: user, rate_limit: {unit: minute, requests_per_unit: {{ int .userPerMinute }}}}
  - key: class
    value: resumption
    descriptors:
      - {key: masked_remote_address, rate_limit: {unit: minute, requests_per_unit: {{ int .addressPerMinute }}}}
      - {key: user, rate_limit: {unit: minute, requests_per_unit: {{ int .userPerMinute }}}}
  - key: class
    value: credentials
    descriptors:
      - {key: masked_remote_address, rate_limit: {unit: minute, requests_per_unit: {{ int .credentialsPerMinute }}}}
{{- end }}
{{- end }}

{{/* envoy/envoy.yaml with its placeholders filled in: the same file that `make run` uses. */}}
{{- define "parley.envoyConfig" -}}
{{- $text := .Files.Get "files/envoy.yaml" }}
{{- $otlp := dict "host" "127.0.0.1" "port" "4317" }}
{{- $tracing := "# Tracing is off." }}
{{- with .Values.otlpEndpoint }}
{{- $parts := . | trimPrefix "http://" | splitList ":" }}
{{- $otlp = dict "host" (index $parts 0) "port" (index $parts 1) }}
{{- $tracing = $.Files.Get "files/tracing.yaml" | trim | indent 16 | trim }}
{{- end }}
{{- $global := "# Not here." }}
{{- if .Values.rateLimit.enabled }}
{{- $global = $.Files.Get "files/global_limit.yaml" | trim | indent 18 | trim }}
{{- end }}
{{- $text = $text | replace "${GLOBAL_LIMIT}" $global | replace "${RATE_LIMIT_PORT}" "8081" }}
{{- $text = $text | replace "${RATE_LIMIT_HOST}" (ternary (printf "%s-rate-limit" .Release.Name) "127.0.0.1" .Values.rateLimit.enabled) }}
{{- $text = $text | replace "${TRACING}" $tracing | replace "${OTLP_HOST}" $otlp.host | replace "${OTLP_PORT}" $otlp.port }}
{{- $text = $text | replace "${BIND_ADDRESS}" "0.0.0.0" | replace "${EDGE_PORT}" "8080" | replace "${INTERNAL_PORT}" "9090" }}
{{- $text = $text | replace "${ADMIN_PORT}" "9901" | replace "${DESCRIPTOR_SET}" "/etc/parley/parley.binpb" }}
{{- $hops := ternary 1 0 (eq .Values.envoy.edgeService.type "ClusterIP") }}
{{- if not (kindIs "invalid" .Values.envoy.trustedHops) }}{{ $hops = int .Values.envoy.trustedHops }}{{ end }}
{{- $text = $text | replace "${TRUSTED_HOPS}" (toString $hops) }}
{{- range $name, $value := .Values.envoy.limits }}
{{- $text = $text | replace (printf "${%s}" ($name | snakecase | upper)) ($value | int | toString) }}
{{- end }}
{{- range $name, $_ := .Values.services }}
{{- $key := $name | upper | replace "-" "_" }}
{{- $text = $text | replace (printf "${%s_HOST}" $key) (printf "%s-%s" $.Release.Name $name) | replace (printf "${%s_PORT}" $key) "9100" }}
{{- end }}
{{- $text | replace "$$" "$" }}
{{- end }}
