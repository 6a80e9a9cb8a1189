package record

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/egret-mesh/egret/internal/data/credentials"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// standardLabels are those of Istio's page "Istio Standard Metrics", and source_cluster
// and destination_cluster, which its proxies add.
var standardLabels = []string{
	"reporter", "source_workload", "source_workload_namespace", "source_principal", "source_app", "source_version",
	"source_cluster", "source_canonical_service", "source_canonical_revision",
	"destination_workload", "destination_workload_namespace", "destination_principal", "destination_app",
	"destination_version", "destination_service", "destination_service_name", "destination_service_namespace",
	"destination_cluster", "destination_canonical_service", "destination_canonical_revision",
	"request_protocol", "response_code", "connection_security_policy", "response_flags", "grpc_response_status",
}

func TestStandardMetrics(t *testing.T) {
	r := newRecorder(t, Options{Open: newFiles().open})
	r.Record(httpEntry(), nil)
	r.Record(&Entry{UpstreamCluster: "outbound|5432||db.example.com"}, nil)
	call := httpEntry()
	call.Protocol, call.RequestHeaders = ProtocolHTTP2, headers{"content-type": "application/grpc"}
	call.ResponseTrailers = headers{"grpc-status": "7"}
	call.RequestMessages, call.ResponseMessages = 3, 2
	call.UpstreamObjects = []resource.Object{{Kind: "VirtualService", Namespace: "x"}, {Kind: "ServiceEntry", Namespace: "prod", Name: "w"}}
	r.Record(call, nil)
	text := scrape(t, r)
	for _, name := range []string{
		"istio_requests_total", "istio_request_duration_milliseconds_bucket", "istio_request_bytes_sum", "istio_response_bytes_count",
		"istio_tcp_sent_bytes_total", "istio_tcp_received_bytes_total", "istio_tcp_connections_opened_total", "istio_tcp_connections_closed_total",
		"istio_request_messages_total", "istio_response_messages_total",
	} {
		line := ""
		for l := range strings.Lines(text) {
			if strings.HasPrefix(l, name+"{") {
				line = l
			}
		}
		for _, label := range standardLabels {
			if !strings.Contains(line, label+`="`) {
				t.Errorf("%s has no label %s: %q", name, label, line)
			}
		}
	}
	for _, c := range []struct {
		name   string
		labels []string
		want   string
	}{
		{"istio_requests_total", []string{`request_protocol="grpc"`, `grpc_response_status="7"`, `destination_service_namespace="prod"`}, "1"},
		{"istio_requests_total", []string{`request_protocol="http"`, `grpc_response_status=""`, `destination_service_namespace="unknown"`}, "1"},
		{"istio_request_messages_total", []string{`request_protocol="grpc"`}, "3"},
		{"istio_response_messages_total", []string{`request_protocol="grpc"`}, "2"},
		{"istio_request_messages_total", []string{`request_protocol="http"`}, "absent"},
		{"envoy_cluster_upstream_rq_total", []string{`cluster_name="outbound|80||www.wikipedia.org"`}, "2"},
		{"envoy_cluster_upstream_rq_xx", []string{`cluster_name="outbound|80||www.wikipedia.org"`, `response_code_class="3xx"`}, "2"},
	} {
		if got := metric(text, c.name, c.labels...); got != c.want {
			t.Errorf("%s%v = %s, want %s", c.name, c.labels, got, c.want)
		}
	}
}

// Calls to the workload are told as the destination tells them.
func TestInboundMetrics(t *testing.T) {
	r := newRecorder(t, Options{Open: newFiles().open, Workload: Workload{Name: "web-1", Namespace: "default", App: "web"}})
	call := func(change func(*Entry)) {
		e := httpEntry()
		e.Inbound, e.UpstreamCluster, e.Host = true, "inbound|8000||", "whatever.the.client.says"
		e.UpstreamObjects = []resource.Object{{Kind: "Service", Namespace: "default", Name: "web"}}
		change(e)
		r.Record(e, nil)
	}
	call(func(*Entry) {})
	call(func(e *Entry) {
		e.DownstreamTLS = credentials.NewSession(tls.ConnectionState{PeerCertificates: []*x509.Certificate{{}}}, nil)
	})
	client, server := sessionPair(t)
	call(func(e *Entry) { e.DownstreamTLS = server })
	call(func(e *Entry) { e.DownstreamTLS, e.Protocol = server, ProtocolTCP })
	out := httpEntry()
	out.UpstreamTLS = client
	r.Record(out, nil)
	call(func(e *Entry) { e.UpstreamCluster, e.UpstreamObjects = "InboundPassthroughCluster", nil })
	call(func(e *Entry) { e.Protocol = ProtocolTCP })
	r.Record(httpEntry(), nil)
	text := scrape(t, r)
	account := func(side string) string { return side + `_principal="spiffe://cluster.local/ns/default/sa/test"` }
	own := []string{`reporter="destination"`, `source_workload="unknown"`, `destination_workload="web-1"`, `destination_app="web"`}
	for _, c := range []struct {
		name   string
		labels []string
		want   string
	}{
		{"istio_requests_total", append(own, `destination_service="web.default"`, `destination_service_name="web"`, `connection_security_policy="none"`, `source_principal="unknown"`, `destination_principal="unknown"`), "1"},
		{"istio_requests_total", append(own, `connection_security_policy="mutual_tls"`, account("source"), account("destination")), "1"},
		{"istio_tcp_connections_closed_total", append(own, `connection_security_policy="mutual_tls"`, account("source"), account("destination")), "1"},
		{"istio_requests_total", []string{`reporter="source"`, `connection_security_policy="unknown"`, account("source"), account("destination")}, "1"},
		{"istio_requests_total", append(own, `destination_service="web.default"`, `connection_security_policy="mutual_tls"`, `source_principal="unknown"`), "1"},
		{"istio_requests_total", append(own, `destination_service="unknown"`, `destination_service_name="InboundPassthroughCluster"`), "1"},
		{"istio_tcp_connections_closed_total", append(own, `destination_service="web.default"`, `source_principal="unknown"`), "1"},
		{"istio_requests_total", []string{`reporter="source"`, `source_workload="web-1"`, `destination_workload="unknown"`, `connection_security_policy="unknown"`, `source_principal="unknown"`}, "1"},
	} {
		if got := metric(text, c.name, c.labels...); got != c.want {
			t.Errorf("%s%v = %s, want %s", c.name, c.labels, got, c.want)
		}
	}
	if strings.Contains(text, "whatever") {
		t.Error("a client's word is a label")
	}
}

func TestState(t *testing.T) {
	r := newRecorder(t, Options{Open: newFiles().open, State: func() State {
		return State{
			Listeners: []ListenerState{{Address: "0.0.0.0_15001", Active: 4, Total: 9}, {Address: "::_8080", Active: 1, Total: 1}},
			Clusters: []ClusterState{{Name: "outbound|80||a.example", ActiveConnections: 2, Connections: 5, ConnectFailures: 1,
				ActiveRequests: 3, Hosts: 4, Healthy: 2}},
			Mirrored: MirrorState{Answered: 7, Failed: 2, LeftOut: 1},
			Skipped:  map[string]int{"envoy.config.cluster.v3.Cluster.alt_stat_name": 12, "stats.\xffPluginConfig": 1},
		}
	}})
	text := scrape(t, r)
	for _, c := range []struct{ name, label, want string }{
		{"envoy_server_live", "", "1"},
		{"envoy_server_state", "", "0"},
		{"envoy_server_total_connections", "", "5"},
		{"envoy_listener_manager_total_listeners_active", "", "2"},
		{"envoy_listener_downstream_cx_active", `listener_address="0.0.0.0_15001"`, "4"},
		{"envoy_listener_downstream_cx_total", `listener_address="0.0.0.0_15001"`, "9"},
		{"envoy_cluster_upstream_cx_active", `cluster_name="outbound|80||a.example"`, "2"},
		{"envoy_cluster_upstream_cx_total", `cluster_name="outbound|80||a.example"`, "5"},
		{"envoy_cluster_upstream_cx_connect_fail", `cluster_name="outbound|80||a.example"`, "1"},
		{"envoy_cluster_upstream_rq_active", `cluster_name="outbound|80||a.example"`, "3"},
		{"envoy_cluster_membership_total", `cluster_name="outbound|80||a.example"`, "4"},
		{"envoy_cluster_membership_healthy", `cluster_name="outbound|80||a.example"`, "2"},
		{"egret_config_skipped_total", `field="envoy.config.cluster.v3.Cluster.alt_stat_name"`, "12"},
		{"egret_mirrored_total", `outcome="answered"`, "7"},
		{"egret_mirrored_total", `outcome="left_out"`, "1"},
		{"egret_config_skipped_total", `field="stats.?PluginConfig"`, "1"},
	} {
		if got := metric(text, c.name, c.label); got != c.want {
			t.Errorf("%s{%s} = %s, want %s", c.name, c.label, got, c.want)
		}
	}
	for _, name := range []string{"envoy_server_memory_allocated", "envoy_server_memory_heap_size"} {
		if got := metric(text, name); got == "absent" || got == "0" {
			t.Errorf("%s = %s", name, got)
		}
	}
}

func seriesOf(c prometheus.Collector) int {
	all := make(chan prometheus.Metric)
	go func() {
		defer close(all)
		c.Collect(all)
	}()
	n := 0
	for range all {
		n++
	}
	return n
}

// A server that invents gRPC statuses, and a client that invents hosts, do not make
// the metrics grow without end.
func TestSeriesAreBounded(t *testing.T) {
	r := newRecorder(t, Options{Open: newFiles().open})
	e := httpEntry()
	e.Protocol, e.RequestHeaders = ProtocolHTTP2, headers{"content-type": "application/grpc"}
	for i := range 1000 {
		e.ResponseTrailers = headers{"grpc-status": string(rune('0'+i%10)) + string(rune('0'+i/10%10)) + string(rune('0'+i/100))}
		r.Record(e, nil)
	}
	if n := seriesOf(r.metrics.source.requests); n > len(grpcNames)+1 {
		t.Errorf("%d series by gRPC status", n)
	}
	e = httpEntry()
	e.UpstreamCluster, e.Reason = "", reason.NotInRegistry
	for i := range 3 * maxHosts {
		e.Host = strings.Repeat("h", i%200) + string(rune('a'+i/200)) + ".example"
		r.Record(e, nil)
	}
	if n := seriesOf(r.metrics.source.requests); n > maxHosts+len(grpcNames)+2 {
		t.Errorf("%d series", n)
	}
}

// Counting a series that is known allocates nothing, whatever the protocol.
func TestCountingDoesNotAllocate(t *testing.T) {
	r := newRecorder(t, Options{Open: func(string) (io.WriteCloser, error) { return unclosed{io.Discard}, nil }})
	call := httpEntry()
	call.Protocol, call.RequestHeaders = ProtocolHTTP2, headers{"content-type": "application/grpc"}
	call.ResponseTrailers = headers{"grpc-status": "0"}
	passthrough := httpEntry()
	passthrough.UpstreamCluster = resource.PassthroughCluster
	secured := httpEntry()
	secured.UpstreamTLS, secured.DownstreamTLS = sessionPair(t)
	secured.Inbound = true
	for name, e := range map[string]*Entry{
		"HTTP": httpEntry(), "mutual TLS": secured, "gRPC": call, "passthrough": passthrough, "TCP": {UpstreamCluster: "outbound|5432||db.example.com"},
	} {
		r.metrics.count(e, "")
		if n := testing.AllocsPerRun(100, func() { r.metrics.count(e, "") }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
