package resource_test

import (
	"testing"

	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/resource/resourcetest"
)

const dnsCache = `"dnsCacheConfig":{"name":"x","dnsLookupFamily":"V4_ONLY","maxHosts":10}`

func dynamicCluster(more, conf string) string {
	return `{"name":"c",` + more + `"clusterType":{"name":"envoy.clusters.dynamic_forward_proxy","typedConfig":
		{"@type":"type.googleapis.com/envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig",` + conf + `}}}`
}

func TestDynamicForwardProxyDecodes(t *testing.T) {
	c, err := resource.DecodeCluster(resourcetest.Cluster(t, dynamicCluster(`"lbPolicy":"CLUSTER_PROVIDED",`, dnsCache)))
	if err != nil {
		t.Fatal(err)
	}
	if c.Discovery != resource.DiscoveryDynamicForward || c.DNSFamily != resource.DNSV4Only {
		t.Errorf("%+v", c)
	}
	for name, tt := range map[string]struct{ text, want string }{
		"policy":         {dynamicCluster("", dnsCache), "lb_policy"},
		"sub-clusters":   {dynamicCluster(`"lbPolicy":"CLUSTER_PROVIDED",`, `"subClustersConfig":{}`), "sub_clusters_config"},
		"address filter": {dynamicCluster(`"lbPolicy":"CLUSTER_PROVIDED",`, `"dnsCacheConfig":{"name":"x","resolvedAddressFilter":{}}`), "resolved_address_filter"},
		"no cache":       {dynamicCluster(`"lbPolicy":"CLUSTER_PROVIDED",`, `"allowCoalescedConnections":true`), "dns_cache_config"},
	} {
		_, err := resource.DecodeCluster(resourcetest.Cluster(t, tt.text))
		t.Run(name, func(t *testing.T) { checkRefused(t, err, tt.want) })
	}
}

func TestSNIForwardProxyDecodes(t *testing.T) {
	for port, want := range map[string]uint16{"": 443, `"portValue":8443,`: 8443} {
		l, err := resource.DecodeListener(resourcetest.Listener(t, `{"name":"l","address":{"socketAddress":{"address":"0.0.0.0","portValue":443}},"filterChains":[{"filters":[
			{"name":"sni","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig",`+port+dnsCache+`}},
			{"name":"tcp","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy","statPrefix":"x","cluster":"c"}}]}]}`))
		if err != nil {
			t.Fatal(err)
		}
		if got := l.FilterChains[0].ForwardPort; got != want {
			t.Errorf("port %d, want %d", got, want)
		}
	}
}

func TestHTTPForwardFilterIsTaken(t *testing.T) {
	_, err := resource.DecodeListener(resourcetest.Listener(t, `{"name":"l","address":{"socketAddress":{"address":"0.0.0.0","portValue":80}},"filterChains":[{"filters":[
		{"name":"http","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager","statPrefix":"x",
			"routeConfig":{"name":"r","virtualHosts":[{"name":"v","domains":["*"],"routes":[{"match":{"prefix":"/"},"route":{"cluster":"c"}}]}]},"httpFilters":[
			{"name":"dfp","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig",`+dnsCache+`}},
			{"name":"router","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
}
