package resource_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/resource/resourcetest"
)

// onDemandChain is a filter chain for TLS with a server name.
func onDemandChain(serverName string) string {
	return fmt.Sprintf(`{"name":"c","filterChainMatch":{"transportProtocol":"tls","serverNames":[%q]},
		"filters":[{"name":"tcp","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy","statPrefix":"x",
		"weightedClusters":{"clusters":[{"name":"one","weight":1},{"name":"two","weight":1},{"name":"one","weight":1}]}}}]}`, serverName)
}

const onDemandFilter = `{"name":"on_demand","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.on_demand.v3.OnDemand","odcds":{"source":{"ads":{}}}}},`

func TestOnDemandIsDecoded(t *testing.T) {
	l, err := resource.DecodeListener(resourcetest.Listener(t, inHCM("", onDemandFilter+routerFilter)))
	if err != nil {
		t.Fatal(err)
	}
	if h := l.FilterChains[0].HTTP; !h.OnDemand || !h.OnDemandClusters || l.OnDemand != "" {
		t.Errorf("connection manager: %+v", h)
	}
	l, err = resource.DecodeListener(resourcetest.Listener(t, `{"name":"l","address":{"socketAddress":{"address":"0.0.0.0","portValue":443}},"fcdsConfig":{"configSource":{"ads":{}}}}`))
	if err != nil || l.OnDemand != "l" {
		t.Errorf("a listener whose chains all come on demand: %+v, %v", l, err)
	}
	rc, err := resource.DecodeRouteConfiguration(resourcetest.Route(t, `{"name":"80","vhds":{"configSource":{"ads":{}}}}`))
	if err != nil || !rc.OnDemand {
		t.Errorf("route configuration: %+v, %v", rc, err)
	}
	if _, err = resource.DecodeListener(resourcetest.Listener(t, `{"name":"l","address":{"socketAddress":{"address":"0.0.0.0","portValue":443}},"fcdsConfig":{"configSource":{"apiConfigSource":{"apiType":"GRPC"}}}}`)); err == nil {
		t.Error("filter chains from elsewhere were accepted")
	}
}

func TestVirtualHostByHost(t *testing.T) {
	const routes = `"routes":[{"match":{"prefix":"/"},"route":{"cluster":"one","requestMirrorPolicies":[{"cluster":"two"}]}}]`
	for name, c := range map[string]struct{ text, host, err string }{
		"exact":            {`{"name":"v","domains":["a.com","a.com:80"],` + routes + `}`, "a.com", ""},
		"below a wildcard": {`{"name":"v","domains":["*.com"],` + routes + `}`, "x.a.com", ""},
		"of another host":  {`{"name":"v","domains":["b.com"],` + routes + `}`, "a.com", "not among its domains"},
		"without a name":   {`{"domains":["a.com"],` + routes + `}`, "a.com", "no name"},
		"not supported":    {`{"name":"v","domains":["a.com"],"routes":[{"match":{"prefix":"/"},"route":{"clusterHeader":"x"}}]}`, "a.com", "routes[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			vh, err := resource.Decoder{}.VirtualHost(nil, c.host, resourcetest.VirtualHost(t, c.text))
			switch {
			case c.err == "" && err != nil:
				t.Fatal(err)
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
				t.Fatalf("error %v, want %q", err, c.err)
			case c.err == "" && !slices.Equal(vh.Clusters(), []string{"one", "two"}):
				t.Errorf("clusters: %q", vh.Clusters())
			}
		})
	}
}

func TestFilterChainByServerName(t *testing.T) {
	chain, err := resource.Decoder{}.FilterChain("a.b", resourcetest.FilterChain(t, onDemandChain("*.b")))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(chain.Clusters(), []string{"one", "two"}) {
		t.Errorf("clusters: %q", chain.Clusters())
	}
	q := resource.ChainQuery{SNI: "a.b", Transport: "tls", Destination: netip.MustParseAddrPort("10.0.0.1:443")}
	if !chain.Takes(&q) {
		t.Error("it does not take what it was asked for")
	}
	if q.Transport = "raw_buffer"; chain.Takes(&q) {
		t.Error("it takes plain text")
	}
	if _, err := (resource.Decoder{}).FilterChain("a.c", resourcetest.FilterChain(t, onDemandChain("*.b"))); err == nil {
		t.Error("a chain for another name was accepted")
	}
}

// The domain "*" alone does not make a host one of the configuration's own.
func TestSpecial(t *testing.T) {
	rc, err := resource.DecodeRouteConfiguration(resourcetest.Route(t, `{"name":"80","virtualHosts":[{"name":"all","domains":["*","both.com"]},{"name":"w","domains":["*.com"]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{"both.com": "all", "x.com": "w", "x.org": "", "10.0.0.1": ""} {
		got := ""
		if vh := rc.Special(host); vh != nil {
			got = vh.Name
		}
		if got != want {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
	}
}
