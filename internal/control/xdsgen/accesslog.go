package xdsgen

import (
	"encoding/json"
	"strings"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	fileaccesslogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	"google.golang.org/protobuf/types/known/structpb"
	meshconfig "istio.io/api/mesh/v1alpha1"
)

// DefaultTextFormat is Istio's default access log line
// (https://istio.io/latest/docs/tasks/observability/logs/access-log/).
const DefaultTextFormat = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" " +
	"%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% " +
	"\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% " +
	"%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" " +
	"\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% " +
	"%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% " +
	"%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"

// defaultJSONFormat has Istio's default keys.
func defaultJSONFormat() map[string]any {
	return map[string]any{
		"start_time":                        "%START_TIME%",
		"route_name":                        "%ROUTE_NAME%",
		"method":                            "%REQ(:METHOD)%",
		"path":                              "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
		"protocol":                          "%PROTOCOL%",
		"response_code":                     "%RESPONSE_CODE%",
		"response_flags":                    "%RESPONSE_FLAGS%",
		"response_code_details":             "%RESPONSE_CODE_DETAILS%",
		"connection_termination_details":    "%CONNECTION_TERMINATION_DETAILS%",
		"bytes_received":                    "%BYTES_RECEIVED%",
		"bytes_sent":                        "%BYTES_SENT%",
		"duration":                          "%DURATION%",
		"upstream_service_time":             "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
		"x_forwarded_for":                   "%REQ(X-FORWARDED-FOR)%",
		"user_agent":                        "%REQ(USER-AGENT)%",
		"request_id":                        "%REQ(X-REQUEST-ID)%",
		"authority":                         "%REQ(:AUTHORITY)%",
		"upstream_host":                     "%UPSTREAM_HOST%",
		"upstream_cluster":                  "%UPSTREAM_CLUSTER_RAW%",
		"upstream_local_address":            "%UPSTREAM_LOCAL_ADDRESS%",
		"downstream_local_address":          "%DOWNSTREAM_LOCAL_ADDRESS%",
		"downstream_remote_address":         "%DOWNSTREAM_REMOTE_ADDRESS%",
		"requested_server_name":             "%REQUESTED_SERVER_NAME%",
		"upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
	}
}

// accessLogs are the logs that resources have; both are nil when logging is off.
type accessLogs struct {
	traffic []*accesslogv3.AccessLog
	// listener logs connections for which there was no filter chain (flag NR).
	listener []*accesslogv3.AccessLog
}

func (b *builder) newAccessLogs() accessLogs {
	path := b.mesh.AccessLogFile()
	if path == "" {
		return accessLogs{}
	}
	config := &accesslogv3.AccessLog_TypedConfig{TypedConfig: b.pack(&fileaccesslogv3.FileAccessLog{
		Path: path,
		AccessLogFormat: &fileaccesslogv3.FileAccessLog_LogFormat{
			LogFormat: logFormat(b.mesh.Config()),
		},
	})}
	const name = "envoy.access_loggers.file"
	return accessLogs{
		traffic: []*accesslogv3.AccessLog{frozen(&accesslogv3.AccessLog{Name: name, ConfigType: config})},
		listener: []*accesslogv3.AccessLog{{Name: name, ConfigType: config, Filter: &accesslogv3.AccessLogFilter{
			FilterSpecifier: &accesslogv3.AccessLogFilter_ResponseFlagFilter{
				ResponseFlagFilter: &accesslogv3.ResponseFlagFilter{Flags: []string{"NR"}},
			},
		}}},
	}
}

func logFormat(c *meshconfig.MeshConfig) *corev3.SubstitutionFormatString {
	if c.GetAccessLogEncoding() == meshconfig.MeshConfig_JSON {
		return &corev3.SubstitutionFormatString{Format: &corev3.SubstitutionFormatString_JsonFormat{
			JsonFormat: jsonFormat(c.GetAccessLogFormat()),
		}}
	}
	text := c.GetAccessLogFormat()
	switch {
	case text == "":
		text = DefaultTextFormat
	case !strings.HasSuffix(text, "\n"):
		text += "\n"
	}
	return &corev3.SubstitutionFormatString{Format: &corev3.SubstitutionFormatString_TextFormatSource{
		TextFormatSource: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: text}},
	}}
}

// jsonFormat is the written object, or Istio's default where nothing, or no JSON
// object, is written.
func jsonFormat(text string) *structpb.Struct {
	fields := defaultJSONFormat()
	if text != "" {
		var written map[string]any
		if json.Unmarshal([]byte(text), &written) == nil && len(written) > 0 {
			fields = written
		}
	}
	s, err := structpb.NewStruct(fields)
	if err != nil { // only with text that is not UTF-8
		s, _ = structpb.NewStruct(defaultJSONFormat())
	}
	return s
}
