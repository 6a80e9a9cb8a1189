package proxyconfig_test

import (
	"strings"
	"testing"
	"time"

	"github.com/egret-mesh/egret/internal/proxyconfig"
)

const dump = `{"configs":[
{"@type":"type.googleapis.com/envoy.admin.v3.BootstrapConfigDump","bootstrap":{"node":{"id":"n","metadata":{"ISTIO_VERSION":"1.26.0"},
 "user_agent_build_version":{"version":{"major_number":1,"minor_number":34,"patch":1},"metadata":{"build.type":"RELEASE"}}}}},
{"@type":"type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
 "static_clusters":[{"cluster":{"@type":"type.googleapis.com/envoy.config.cluster.v3.Cluster","name":"agent","type":"STATIC"}}],
 "dynamic_active_clusters":[
 {"cluster":{"@type":"type.googleapis.com/envoy.config.cluster.v3.Cluster","name":"outbound|443|v1|b.com","type":"STRICT_DNS",
  "metadata":{"filter_metadata":{"istio":{"config":"/apis/networking.istio.io/v1alpha3/namespaces/shop/destination-rule/b"}}}}},
 {"cluster":{"@type":"type.googleapis.com/envoy.config.cluster.v3.Cluster","name":"outbound|80||a.com","type":"EDS"}},
 {"cluster":{"@type":"type.googleapis.com/envoy.config.cluster.v3.Cluster","name":"outbound|9||a.com","type":"EDS","filters":[{"name":"x","typed_config":{"@type":"type.googleapis.com/nobody.Knows","a":1}}]}}]},
{"@type":"type.googleapis.com/envoy.admin.v3.ListenersConfigDump","dynamic_listeners":[
 {"name":"0.0.0.0_443","active_state":{"listener":{"@type":"type.googleapis.com/envoy.config.listener.v3.Listener","name":"0.0.0.0_443",
  "address":{"socket_address":{"address":"0.0.0.0","port_value":443}},
  "filter_chains":[{"filter_chain_match":{"server_names":["b.com"]},"filters":[{"name":"tcp","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy","cluster":"outbound|443||b.com"}}]}],
  "default_filter_chain":{"filters":[{"name":"tcp","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy","cluster":"BlackHoleCluster"}}]}}}},
 {"name":"0.0.0.0_80","active_state":{"listener":{"@type":"type.googleapis.com/envoy.config.listener.v3.Listener","name":"0.0.0.0_80",
  "address":{"socket_address":{"address":"0.0.0.0","port_value":80}},
  "filter_chains":[{"filter_chain_match":{"transport_protocol":"raw_buffer","application_protocols":["http/1.0","http/1.1","h2c"]},
   "filters":[{"name":"hcm","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager","rds":{"route_config_name":"80"}}}]}]}}}]},
{"@type":"type.googleapis.com/envoy.admin.v3.RoutesConfigDump","dynamic_route_configs":[{"route_config":{"@type":"type.googleapis.com/envoy.config.route.v3.RouteConfiguration","name":"80","virtual_hosts":[
 {"name":"a.com:80","domains":["a.com","a.com:80","10.0.0.1","10.0.0.2"],"routes":[{"match":{"prefix":"/"},"route":{"cluster":"outbound|80||a.com"},
  "metadata":{"filter_metadata":{"istio":{"config":"/apis/networking.istio.io/v1alpha3/namespaces/shop/virtual-service/a"}}}}]},
 {"name":"block_all","domains":["*"]}]}}]},
{"@type":"type.googleapis.com/envoy.admin.v3.EndpointsConfigDump","dynamic_endpoint_configs":[{"endpoint_config":{"@type":"type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment","cluster_name":"outbound|80||a.com",
 "endpoints":[{"locality":{"region":"r","zone":"z"},"lb_endpoints":[{"health_status":"HEALTHY","endpoint":{"address":{"socket_address":{"address":"10.0.0.1","port_value":80}}}},
  {"health_status":"UNHEALTHY","endpoint":{"address":{"socket_address":{"address":"10.0.0.2","port_value":80}}}}]}]}}]},
{"@type":"type.googleapis.com/envoy.admin.v3.SecretsConfigDump"},
{"@type":"type.googleapis.com/envoy.admin.v3.OfTheFuture","x":1}]}`

const wantAll = `Istio Version: 1.26.0
Envoy Version: 1.34.1/RELEASE

SERVICE FQDN     PORT     SUBSET     DIRECTION     TYPE           DESTINATION RULE
a.com            9        -          outbound      EDS            
a.com            80       -          outbound      EDS            
agent            -        -          -             STATIC         
b.com            443      v1         outbound      STRICT_DNS     b.shop

ADDRESSES PORT MATCH                        DESTINATION
0.0.0.0   80   Trans: raw_buffer; App: HTTP Route: 80
0.0.0.0   443  ALL                          Non-HTTP/Non-TCP
0.0.0.0   443  SNI: b.com                   Cluster: outbound|443||b.com

NAME     VHOST NAME     DOMAINS                       MATCH     VIRTUAL SERVICE
80       a.com:80       a.com, 10.0.0.1 + 1 more...     /*        a.shop
80       block_all      *                             /*        404

No active or warming secrets found.

ENDPOINT        STATUS        LOCALITY     CLUSTER
10.0.0.1:80     HEALTHY       r/z          outbound|80||a.com
10.0.0.2:80     UNHEALTHY     r/z          outbound|80||a.com
`

func printed(t *testing.T, kind string, f proxyconfig.Filter, o proxyconfig.Options) string {
	t.Helper()
	d, err := proxyconfig.Read(strings.NewReader(dump))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := proxyconfig.Print(&out, f.Select(d), kind, o); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestTables(t *testing.T) {
	// The widths are the tabwriter's; what is in the columns is what is judged.
	got := printed(t, "all", proxyconfig.Filter{}, proxyconfig.Options{Format: "short", Verbose: true, Now: time.Now()})
	if columns(got) != columns(wantAll) {
		t.Errorf("got\n%s\nwant\n%s", got, wantAll)
	}
}

func columns(s string) string {
	var out strings.Builder
	for line := range strings.Lines(s) {
		out.WriteString(strings.Join(strings.Fields(line), " ") + "\n")
	}
	return out.String()
}

func TestFilters(t *testing.T) {
	for _, c := range []struct {
		kind        string
		filter      proxyconfig.Filter
		lines       int // without the heading
		has, hasNot string
	}{
		{"listeners", proxyconfig.Filter{Port: 80}, 1, "Route: 80", "443"},
		{"listeners", proxyconfig.Filter{Type: "tcp"}, 2, "b.com", "Route"},
		{"listeners", proxyconfig.Filter{Address: "1.1.1.1"}, 0, "", "0.0.0.0"},
		{"clusters", proxyconfig.Filter{FQDN: "a.com", Port: 80, Direction: "outbound"}, 1, "a.com", "b.com"},
		{"clusters", proxyconfig.Filter{Subset: "v1"}, 1, "b.com", "a.com"},
		{"clusters", proxyconfig.Filter{Direction: "inbound"}, 0, "", "a.com"},
		{"endpoints", proxyconfig.Filter{Status: "healthy"}, 1, "10.0.0.1", "10.0.0.2"},
		{"endpoints", proxyconfig.Filter{Address: "10.0.0.2", Port: 80, Cluster: "outbound|80||a.com"}, 1, "10.0.0.2", "10.0.0.1"},
		{"endpoints", proxyconfig.Filter{Cluster: "x"}, 0, "", "10.0.0.1"},
		{"routes", proxyconfig.Filter{Name: "80"}, 2, "a.shop", ""},
		{"routes", proxyconfig.Filter{Name: "81"}, 0, "", "a.shop"},
	} {
		got := printed(t, c.kind, c.filter, proxyconfig.Options{Format: "short", Verbose: true})
		if n := strings.Count(got, "\n") - 1; n != c.lines || !strings.Contains(got, c.has) || c.hasNot != "" && strings.Contains(got, c.hasNot) {
			t.Errorf("%s %+v: %d lines\n%s", c.kind, c.filter, n, got)
		}
	}
}

// JSON has istioctl's names, and what is of a type that is not known here.
func TestJSON(t *testing.T) {
	got := printed(t, "clusters", proxyconfig.Filter{Port: 9}, proxyconfig.Options{Format: "json"})
	for _, want := range []string{`"name": "outbound|9||a.com"`, `"typedConfig": {`, `"type.googleapis.com/nobody.Knows"`, `"a": 1`} {
		if !strings.Contains(strings.ReplaceAll(got, ":  ", ": "), want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(dump)
	f.Add(`{"configs":[{"@type":"type.googleapis.com/envoy.admin.v3.ListenersConfigDump","dynamic_listeners":[{"active_state":{"listener":{"@type":"type.googleapis.com/envoy.config.listener.v3.Listener"}}}]}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		d, err := proxyconfig.Read(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, format := range []string{"short", "json", "yaml"} {
			if err := proxyconfig.Print(&strings.Builder{}, (proxyconfig.Filter{}).Select(d), "all", proxyconfig.Options{Format: format, Verbose: true}); err != nil {
				t.Fatal(err)
			}
		}
	})
}
