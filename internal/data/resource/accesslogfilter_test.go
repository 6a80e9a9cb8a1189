package resource_test

import (
	"testing"

	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/resource/resourcetest"
)

func TestAccessLogFilters(t *testing.T) {
	const cel = `{"extensionFilter":{"name":"cel","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter","expression":"response.code >= 400"}}}`
	for text, check := range map[string]func(f *resource.AccessLogFilter) bool{
		cel: func(f *resource.AccessLogFilter) bool { return f.Expression.String() == "response.code >= 400" },
		`{"orFilter":{"filters":[{"responseFlagFilter":{}},` + cel + `]}}`: func(f *resource.AccessLogFilter) bool {
			return len(f.Or) == 2 && f.Or[0].AnyFlag && f.Or[1].Expression != nil
		},
		`{"grpcStatusFilter":{"statuses":["NOT_FOUND"],"exclude":true}}`: func(f *resource.AccessLogFilter) bool { return f.GRPC[0] == 5 && f.GRPCExclude },
		`{"logTypeFilter":{"types":["TcpConnectionEnd"]}}`:               func(f *resource.AccessLogFilter) bool { return f.LogTypes[0] == "TcpConnectionEnd" },
		`{"runtimeFilter":{"runtimeKey":"k","percentSampled":{"numerator":5,"denominator":"TEN_THOUSAND"}}}`: func(f *resource.AccessLogFilter) bool {
			return *f.Sampled == resource.Fraction{Numerator: 5, Denominator: 10_000}
		},
		`{"traceableFilter":{}}`: func(f *resource.AccessLogFilter) bool { return f.Nothing },
		`{"metadataFilter":{"matcher":{"filter":"x","path":[{"key":"y"}],"value":{"boolMatch":true}}}}`:                            func(f *resource.AccessLogFilter) bool { return !f.Nothing },
		`{"metadataFilter":{"matchIfKeyNotFound":false,"matcher":{"filter":"x","path":[{"key":"y"}],"value":{"boolMatch":true}}}}`: func(f *resource.AccessLogFilter) bool { return f.Nothing },
	} {
		l, err := resource.DecodeListener(resourcetest.Listener(t, `{"name":"l","address":{"socketAddress":{"address":"0.0.0.0","portValue":80}},
			"filterChains":[{"filters":[{"name":"tcp","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy","statPrefix":"x","cluster":"c"}}]}],
			"accessLog":[{"name":"f","filter":`+text+`,"typedConfig":{"@type":"type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog","path":"/dev/stdout"}}]}`))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if f := l.AccessLogs[0].Filter; !check(f) {
			t.Errorf("%s: %+v", text, f)
		}
	}
}
