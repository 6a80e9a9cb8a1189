package xdsgen

import (
	"cmp"
	"encoding/json"
	"strings"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	fileaccesslogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	celfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	"google.golang.org/protobuf/types/known/structpb"
	meshconfig "istio.io/api/mesh/v1alpha1"

	"github.com/egret-mesh/egret/internal/control/mesh"
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
	var out accessLogs
	for _, l := range b.mesh.AccessLogs(b.node) {
		file := &fileaccesslogv3.FileAccessLog{Path: b.mesh.AccessLogFile(), AccessLogFormat: &fileaccesslogv3.FileAccessLog_LogFormat{
			LogFormat: logFormat(b.mesh.Config()),
		}}
		if l.File != nil {
			file.Path = cmp.Or(l.File.GetPath(), "/dev/stdout")
			file.AccessLogFormat = &fileaccesslogv3.FileAccessLog_LogFormat{LogFormat: providerFormat(l.File)}
		}
		const name = "envoy.access_loggers.file"
		config := &accesslogv3.AccessLog_TypedConfig{TypedConfig: b.pack(file)}
		noRoute := &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ResponseFlagFilter{
			ResponseFlagFilter: &accesslogv3.ResponseFlagFilter{Flags: []string{"NR"}},
		}}
		filter := b.expressionFilter(l.Expression)
		out.traffic = append(out.traffic, frozen(&accesslogv3.AccessLog{Name: name, ConfigType: config, Filter: filter}))
		if filter != nil {
			noRoute = &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_AndFilter{
				AndFilter: &accesslogv3.AndFilter{Filters: []*accesslogv3.AccessLogFilter{noRoute, filter}},
			}}
		}
		out.listener = append(out.listener, &accesslogv3.AccessLog{Name: name, ConfigType: config, Filter: noRoute})
	}
	return out
}

// expressionFilter is Istio's filter of an access log; nil without an expression.
func (b *builder) expressionFilter(expression string) *accesslogv3.AccessLogFilter {
	if expression == "" {
		return nil
	}
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ExtensionFilter{
		ExtensionFilter: &accesslogv3.ExtensionFilter{
			Name:       "envoy.access_loggers.extension_filters.cel",
			ConfigType: &accesslogv3.ExtensionFilter_TypedConfig{TypedConfig: b.pack(&celfilterv3.ExpressionFilter{Expression: expression})},
		},
	}}
}

// providerFormat is the format of a provider; Istio's default text without one.
func providerFormat(p *mesh.LogProvider) *corev3.SubstitutionFormatString {
	if labels := p.GetLogFormat().GetLabels(); labels != nil {
		if len(labels.GetFields()) == 0 { // "labels: {}" asks for the default
			labels = jsonFormat("")
		}
		return &corev3.SubstitutionFormatString{
			Format:          &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: labels},
			OmitEmptyValues: p.GetOmitEmptyValues(),
		}
	}
	f := textFormat(p.GetLogFormat().GetText())
	f.OmitEmptyValues = p.GetOmitEmptyValues()
	return f
}

func logFormat(c *meshconfig.MeshConfig) *corev3.SubstitutionFormatString {
	if c.GetAccessLogEncoding() == meshconfig.MeshConfig_JSON {
		return &corev3.SubstitutionFormatString{Format: &corev3.SubstitutionFormatString_JsonFormat{
			JsonFormat: jsonFormat(c.GetAccessLogFormat()),
		}}
	}
	return textFormat(c.GetAccessLogFormat())
}

// textFormat ends the line where the text does not.
func textFormat(text string) *corev3.SubstitutionFormatString {
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
