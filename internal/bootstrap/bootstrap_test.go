package bootstrap

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/egret-mesh/egret/internal/xds"
)

// What is written is read again, also strings that look like something else in YAML.
func TestRoundTrip(t *testing.T) {
	node := &corev3.Node{Id: "sidecar~10.0.0.1~a.b~b.svc.cluster.local", Cluster: "a.b", Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{
		"EGRET_ON_DEMAND": structpb.NewStringValue("true"),
		"NAME":            structpb.NewStringValue("1.0"),
		"OWNER":           structpb.NewStringValue("a: \"b\"\n# c"),
		"EMPTY":           structpb.NewStringValue(""),
	}}}
	secured := &xds.TLS{CA: "ca.pem", Cert: "cert.pem", Key: "key.pem", Names: []string{"cp.example", "spiffe://d/ns/n/sa/s", "10.0.0.9"}, ServerName: "cp.example"}
	for name, want := range map[string]*Bootstrap{
		"plain": {Node: node, Delta: true, Servers: []Server{
			{Cluster: "xds-grpc", Address: "127.0.0.1:15010", ConnectTimeout: time.Second},
		}},
		"TLS, two addresses": {Node: node, Admin: netip.MustParseAddrPort("[::1]:15000"), Delta: true, Servers: []Server{
			{Cluster: "xds-grpc", Address: "cp.example:15012", TLS: secured, ConnectTimeout: time.Second},
			{Cluster: "xds-grpc", Address: "[2001:db8::1]:15012", TLS: secured, ConnectTimeout: time.Second},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{Node: node, Admin: want.Admin, TLS: want.Servers[0].TLS}
			for _, s := range want.Servers {
				o.Servers = append(o.Servers, s.Address)
			}
			m, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			text, err := YAML(m)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Parse(text)
			if err != nil {
				t.Fatalf("%v in\n%s", err, text)
			}
			got.LeftOut = nil
			want.Message = m
			if diff := cmp.Diff(want, got, protocmp.Transform(), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
				t.Errorf("(-want +got):\n%s\n%s", diff, text)
			}
		})
	}
}

const minimal = `
node: {id: a~b~c~d}
static_resources:
  clusters:
  - name: xds
    type: STATIC
    load_assignment: {endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: ./etc/istio/proxy/XDS}}}}]}]}
dynamic_resources:
  lds_config: {ads: {}}
  cds_config: {ads: {}}
  ads_config: {api_type: GRPC, grpc_services: [{envoy_grpc: {cluster_name: xds}}]}
`

func TestStateOfTheWorldOverASocket(t *testing.T) {
	b, err := Parse([]byte(minimal + "stats_config: {use_all_default_tags: false}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if b.Delta || len(b.Servers) != 1 || b.Servers[0].Address != "unix:./etc/istio/proxy/XDS" || b.Servers[0].TLS != nil {
		t.Errorf("%+v", b)
	}
	if diff := cmp.Diff([]string{"stats_config"}, b.LeftOut); diff != "" {
		t.Error(diff)
	}
}

// What cannot be honoured is refused with its name.
func TestRefusals(t *testing.T) {
	tls := func(validation string) string {
		return "type: STATIC\n    transport_socket: {name: tls, typed_config: {'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, common_tls_context: {validation_context: " + validation + "}}}"
	}
	for _, c := range []struct{ old, new, want string }{
		{"", "listener: {}\n", `unknown field "listener"`},
		{"", "hds_config: {api_type: GRPC}\n", "hds_config: egret-proxy cannot honour it"},
		{"", "flags_path: /x\n", "flags_path: egret-proxy cannot honour it"},
		{"static_resources:\n", "static_resources:\n  listeners: [{name: x}]\n", "static_resources.listeners: egret-proxy cannot honour it"},
		{"node: {id: a~b~c~d}", "node: {cluster: x}", "node.id: a control plane needs to know who asks"},
		{"lds_config: {ads: {}}", "lds_config: {path_config_source: {path: /x}}", "dynamic_resources.lds_config: only ads is possible"},
		{"api_type: GRPC", "api_type: REST", "dynamic_resources.ads_config.api_type: REST"},
		{"cluster_name: xds}", "cluster_name: none}", `there is no static cluster "none"`},
		{"{pipe: {path: ./etc/istio/proxy/XDS}}", "{socket_address: {address: x}}", "neither address with port_value nor pipe"},
		{"type: STATIC", "type: ORIGINAL_DST", "static_resources.clusters[xds].type: ORIGINAL_DST is not possible"},
		{"type: STATIC", "type: STATIC\n    health_checks: [{}]", "static_resources.clusters[xds].health_checks: egret-proxy cannot honour it"},
		{"type: STATIC", tls("{trusted_ca: {filename: ca}}"), "a name is needed"},
		{"type: STATIC", tls("{trusted_ca: {inline_string: ca}, match_typed_subject_alt_names: [{san_type: DNS, matcher: {exact: x}}]}"), "trusted_ca: only a filename is possible"},
		{"type: STATIC", tls("{match_typed_subject_alt_names: [{san_type: DNS, matcher: {exact: x}}]}"), "nobody checks who the control plane is"},
		{"type: STATIC", tls("{trusted_ca: {filename: ca}, match_typed_subject_alt_names: [{san_type: DNS, matcher: {prefix: x}}]}"), "only exact names are possible"},
		{"type: STATIC", tls("{trusted_ca: {filename: ca}, trust_chain_verification: ACCEPT_UNTRUSTED}"), "trust_chain_verification: egret-proxy cannot honour it"},
		{"", "admin: {address: {socket_address: {address: localhost, port_value: 1}}}\n", "admin.address"},
	} {
		text := minimal + c.new
		if c.old != "" {
			text = strings.Replace(minimal, c.old, c.new, 1)
		}
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.new, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(minimal))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := Parse(text)
		if err == nil && (b.Node.GetId() == "" || len(b.Servers) == 0) {
			t.Errorf("taken: %+v", b)
		}
	})
}
