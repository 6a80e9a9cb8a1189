package record

import (
	"testing"
	"time"

	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/expression"
)

func TestExpressionFilter(t *testing.T) {
	denied := httpEntry()
	denied.Reason, denied.Status, denied.Flags, denied.ResponseCodeDetails = reason.NotInRegistry, 502, []string{"NR", "UH"}, ""
	denied.UpstreamCluster, denied.UpstreamHost = resource.BlackHoleCluster, ""
	tcp := &Entry{SNI: "a.example", UpstreamCluster: "outbound|443||a.example", ConnectionID: 3, DownstreamLocal: httpEntry().DownstreamLocal}
	mutual := httpEntry()
	mutual.UpstreamTLS, mutual.DownstreamTLS = sessionPair(t)
	for text, want := range map[string][4]bool{ // HTTP, denied, TCP, mutual TLS
		"response.code >= 400":                                                               {false, true, false, false},
		"!has(response.code) || response.code >= 400":                                        {false, true, true, false},
		"response.code_details == 'egret:not_in_registry'":                                   {false, true, false, false},
		"response.flags == 258":                                                              {false, true, false, false}, // NR is bit 8, UH bit 1
		"xds.cluster_name == 'BlackHoleCluster'":                                             {false, true, false, false},
		"connection.mtls && request.url_path.contains('wiki')":                               {false, false, false, true},
		"connection.requested_server_name.endsWith('.example')":                              {false, false, true, false},
		"request.headers['User-Agent'].startsWith('curl')":                                   {true, true, false, true},
		"request.url_path == '/wiki' && request.query == 'q=1'":                              {true, true, false, true},
		"request.host == 'www.wikipedia.org' && 'host' in request.headers":                   {true, true, false, true},
		"request.duration > duration('200ms')":                                               {true, true, false, true},
		"upstream.port == 80 && upstream.request_attempt_count == 1":                         {true, false, false, true},
		"destination.port == 80 && source.address == '10.0.0.5:40000'":                       {true, true, false, true},
		"response.headers['server'] == 'envoy' && response.size > 100":                       {true, true, false, true},
		"connection.uri_san_peer_certificate == 'spiffe://cluster.local/ns/default/sa/test'": {false, false, false, true},
		"connection.tls_version == 'TLSv1.2'":                                                {false, false, false, true},
		"xds.route_name == 'default' || connection.id == 3":                                  {true, true, true, true},
	} {
		x, err := expression.Compile(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		for i, e := range []*Entry{httpEntry(), denied, tcp, mutual} {
			if got := passes(&resource.AccessLogFilter{Expression: x}, e, 0); got != want[i] {
				t.Errorf("%s: entry %d: %v", text, i, got)
			}
		}
	}
}

// Each attribute that is known has a value for some entry.
func TestEveryAttributeHasAValue(t *testing.T) {
	e := httpEntry()
	e.Protocol, e.RequestHeaders = ProtocolHTTP2, headers{"content-type": "application/grpc", "referer": "x", "user-agent": "x", "x-request-id": "x", "x-forwarded-proto": "http"}
	e.UpstreamTLS, e.DownstreamTLS = sessionPair(t)
	e.SNI, e.ConnectionTerminationDetails, e.DownstreamTransportFailure, e.UpstreamTransportFailure, e.FilterChain = "x", "x", "x", "x", "x"
	for name, kind := range expression.Known() {
		if kind != expression.Headers && (*attributes)(e).Attribute(name) == expression.Missing() {
			t.Errorf("%s has no value", name)
		}
	}
}

func TestRareFilters(t *testing.T) {
	call := httpEntry()
	call.Protocol, call.RequestHeaders, call.ResponseTrailers = ProtocolHTTP2, headers{"content-type": "application/grpc"}, headers{"grpc-status": "5"}
	tcp := &Entry{Duration: time.Second}
	for name, c := range map[string]struct {
		filter resource.AccessLogFilter
		want   [3]bool // HTTP, gRPC with NotFound, TCP
	}{
		"gRPC status":         {resource.AccessLogFilter{GRPC: []int{5, 7}}, [3]bool{false, true, false}},
		"gRPC status exclude": {resource.AccessLogFilter{GRPC: []int{0}, GRPCExclude: true}, [3]bool{false, true, false}},
		"log type":            {resource.AccessLogFilter{LogTypes: []string{"TcpConnectionEnd"}}, [3]bool{false, false, true}},
		"log type exclude":    {resource.AccessLogFilter{LogTypes: []string{"TcpConnectionEnd"}, LogTypesExclude: true}, [3]bool{true, true, false}},
		"nothing sampled":     {resource.AccessLogFilter{Sampled: &resource.Fraction{Denominator: 100}}, [3]bool{}},
		"all sampled":         {resource.AccessLogFilter{Sampled: &resource.Fraction{Numerator: 100, Denominator: 100}}, [3]bool{true, true, true}},
		"a trace":             {resource.AccessLogFilter{Nothing: true}, [3]bool{}},
	} {
		for i, e := range []*Entry{httpEntry(), call, tcp} {
			if got := passes(&c.filter, e, 0); got != c.want[i] {
				t.Errorf("%s: entry %d: %v", name, i, got)
			}
		}
	}
}
