package decide_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// tcpChain is a chain to one cluster.
func tcpChain(cluster string, m resource.FilterChainMatch) *resource.FilterChain {
	return &resource.FilterChain{Name: cluster, Match: m, TCP: &resource.TCPProxy{Clusters: []resource.WeightedCluster{{Name: cluster, Weight: 1}}}}
}

func vhost(name, cluster string, domains ...string) *resource.VirtualHost {
	r := &resource.Route{Name: name, Match: resource.RouteMatch{Path: "/"}}
	if cluster == "" {
		r.Direct = &resource.DirectResponse{Status: 502}
	} else {
		r.Forward = &resource.Forward{Clusters: []resource.WeightedCluster{{Name: cluster, Weight: 1}}}
	}
	return &resource.VirtualHost{Name: name, Domains: domains, Routes: []*resource.Route{r}}
}

// strictConfig is a mesh with DNS capture: names with reserved addresses.
//
//	www.example.com   240.240.0.1   80 HTTP, 443 TLS
//	tls.example.com   240.240.0.2   443 TLS
//	db.example.com    (no address)  5432 TCP, resolution NONE
//	*.wild.com        (no address)  80 HTTP
//	svc.prod.svc.cluster.local  10.96.0.5  80 HTTP
func strictConfig(catchAll string) *config.Config {
	last := vhost("block_all", "", "*")
	if catchAll == resource.PassthroughCluster {
		last = vhost("allow_any", catchAll, "*")
	}
	routes := &resource.RouteConfiguration{Name: "80", IgnorePortInHostMatching: true, VirtualHosts: []*resource.VirtualHost{
		vhost("www.example.com:80", "outbound|80||www.example.com", "www.example.com", "240.240.0.1"),
		vhost("*.wild.com:80", "outbound|80||*.wild.com", "*.wild.com"),
		vhost("svc:80", "outbound|80||svc.prod.svc.cluster.local", "svc.prod.svc.cluster.local", "svc", "svc.prod", "10.96.0.5"),
		last,
	}}
	http := resource.FilterChainMatch{TransportProtocol: "raw_buffer", ApplicationProtocols: []string{"http/1.1", "h2c"}}
	listeners := []*resource.Listener{
		{Name: "virtualOutbound", Address: addrPort("0.0.0.0:15001"), BindToPort: true, UseOriginalDst: true,
			FilterChains: []*resource.FilterChain{tcpChain(catchAll, resource.FilterChainMatch{})}},
		{Name: "0.0.0.0_80", Address: addrPort("0.0.0.0:80"),
			FilterChains:       []*resource.FilterChain{{Match: http, HTTP: &resource.HTTPConnectionManager{RouteConfigName: "80", UpgradeTypes: []string{"websocket"}}}},
			DefaultFilterChain: tcpChain(catchAll, resource.FilterChainMatch{})},
		{Name: "0.0.0.0_443", Address: addrPort("0.0.0.0:443"),
			FilterChains: []*resource.FilterChain{
				tcpChain("outbound|443||www.example.com", resource.FilterChainMatch{ServerNames: []string{"www.example.com"}}),
				tcpChain("outbound|443||tls.example.com", resource.FilterChainMatch{ServerNames: []string{"tls.example.com"}}),
			},
			DefaultFilterChain: tcpChain(catchAll, resource.FilterChainMatch{})},
		{Name: "0.0.0.0_5432", Address: addrPort("0.0.0.0:5432"), FilterChains: []*resource.FilterChain{tcpChain("outbound|5432||db.example.com", resource.FilterChainMatch{})}},
	}
	var clusters []*resource.Cluster
	for _, name := range []string{"outbound|80||www.example.com", "outbound|443||www.example.com", "outbound|443||tls.example.com", "outbound|5432||db.example.com", "outbound|80||*.wild.com"} {
		clusters = append(clusters, &resource.Cluster{Name: name})
	}
	clusters[3].Discovery = resource.DiscoveryOriginalDst
	names := &resource.NameTable{Names: map[string]resource.NameInfo{
		"www.example.com":            {Addresses: []netip.Addr{netip.MustParseAddr("240.240.0.1")}},
		"tls.example.com":            {Addresses: []netip.Addr{netip.MustParseAddr("240.240.0.2")}},
		"db.example.com":             {},
		"*.wild.com":                 {},
		"svc.prod.svc.cluster.local": {Addresses: []netip.Addr{netip.MustParseAddr("10.96.0.5")}},
	}}
	if catchAll == resource.PassthroughCluster {
		names.Names["*"] = resource.NameInfo{}
	}
	return config.Build(listeners, []*resource.RouteConfiguration{routes}, clusters, nil, names)
}

func TestStrict(t *testing.T) {
	bound := func(name string) decide.Binding { return decide.Binding{Name: name, Strict: true} }
	sink := func(name string) decide.Binding {
		return decide.Binding{Name: name, Unregistered: true, Strict: true}
	}
	literal := decide.Binding{Strict: true}
	deny := func(r reason.Reason) outcome { return outcome{Reason: r} }
	deny502 := func(r reason.Reason) outcome { return outcome{Reason: r, Status: 502} }
	www := outcome{Cluster: "outbound|80||www.example.com"}
	pass := outcome{Cluster: resource.PassthroughCluster}
	for _, tc := range []struct {
		name          string
		conn          *decide.Conn
		authority     string
		registry, any outcome
	}{
		{"the name itself", httpConn("240.240.0.1:80", bound("www.example.com")), "www.example.com", www, www},
		{"case, port and final dot do not matter to the check", httpConn("240.240.0.1:80", bound("www.example.com")), "WWW.Example.com:80", www, www},
		{"the address itself", httpConn("240.240.0.1:80", bound("www.example.com")), "240.240.0.1", www, www},
		{"the name by the table, without a binding", httpConn("240.240.0.1:80", literal), "www.example.com", www, www},
		{"another registered name", httpConn("240.240.0.2:80", bound("tls.example.com")), "www.example.com", deny502(reason.HostMismatch), deny502(reason.HostMismatch)},
		{"an unregistered name on a registered address", httpConn("240.240.0.1:80", bound("www.example.com")), "evil.com", deny502(reason.HostMismatch), deny502(reason.HostMismatch)},
		{"the same without a binding", httpConn("240.240.0.1:80", literal), "evil.com", deny502(reason.HostMismatch), deny502(reason.HostMismatch)},
		{"a registered name on a foreign address", httpConn("198.51.100.66:80", literal), "www.example.com", deny502(reason.HostMismatch), deny502(reason.HostMismatch)},
		{"a wildcard's name on a foreign address", httpConn("198.51.100.66:80", literal), "a.wild.com", deny502(reason.HostMismatch), deny502(reason.HostMismatch)},
		{"a wildcard's name on its binding", httpConn("240.241.0.7:80", bound("a.wild.com")), "a.wild.com", outcome{Cluster: "outbound|80||*.wild.com"}, outcome{Cluster: "outbound|80||*.wild.com"}},
		{"a sibling below the wildcard", httpConn("240.241.0.7:80", bound("a.wild.com")), "b.wild.com", deny502(reason.HostMismatch), deny502(reason.HostMismatch)},
		{"a registered name on a sinkhole", httpConn("240.242.0.1:80", sink("evil.com")), "www.example.com", deny502(reason.HostMismatch), deny502(reason.HostMismatch)},
		{"a sinkhole's own name", httpConn("240.242.0.1:80", sink("evil.com")), "evil.com", deny502(reason.NotInRegistry), pass},
		{"an unregistered name on its real address", httpConn("198.51.100.66:80", literal), "evil.com", deny502(reason.NotInRegistry), pass},
		{"an address as host", httpConn("198.51.100.66:80", literal), "198.51.100.66", deny502(reason.AddressNotInRegistry), pass},
		{"another address as host", httpConn("198.51.100.66:80", literal), "240.240.0.1", deny502(reason.HostMismatch), deny502(reason.HostMismatch)},
		{"registered for another port", httpConn("240.240.0.2:80", bound("tls.example.com")), "tls.example.com", deny502(reason.PortNotInRegistry), pass},
		{"a short name", httpConn("10.96.0.5:80", bound("svc.prod.svc.cluster.local")), "svc.prod", outcome{Cluster: "outbound|80||svc.prod.svc.cluster.local"}, outcome{Cluster: "outbound|80||svc.prod.svc.cluster.local"}},
		{"a short name on another binding", httpConn("240.240.0.1:80", bound("www.example.com")), "svc.prod", deny502(reason.HostMismatch), deny502(reason.HostMismatch)},
		{"not strict: any address", httpConn("198.51.100.66:80", decide.Binding{}), "www.example.com", www, www},

		{"SNI of the binding", tlsConn("240.240.0.1:443", "www.example.com", bound("www.example.com")), "", outcome{Cluster: "outbound|443||www.example.com"}, outcome{Cluster: "outbound|443||www.example.com"}},
		{"SNI of another name", tlsConn("240.240.0.1:443", "tls.example.com", bound("www.example.com")), "", deny(reason.SNIMismatch), deny(reason.SNIMismatch)},
		{"SNI of a registered name on a foreign address", tlsConn("198.51.100.66:443", "www.example.com", literal), "", deny(reason.SNIMismatch), deny(reason.SNIMismatch)},
		{"SNI unregistered on a registered address", tlsConn("240.240.0.1:443", "evil.com", bound("www.example.com")), "", deny(reason.SNIMismatch), deny(reason.SNIMismatch)},
		{"no SNI", tlsConn("240.240.0.1:443", "", bound("www.example.com")), "", deny(reason.SNIMissing), pass},
		{"no SNI, without a binding", tlsConn("240.240.0.1:443", "", literal), "", deny(reason.SNIMissing), pass},
		{"no SNI to a foreign address", tlsConn("198.51.100.66:443", "", literal), "", deny(reason.AddressNotInRegistry), pass},
		{"no SNI to a sinkhole", tlsConn("240.242.0.1:443", "", sink("evil.com")), "", deny(reason.NotInRegistry), pass},
		{"SNI of a sinkhole", tlsConn("240.242.0.1:443", "evil.com", sink("evil.com")), "", deny(reason.NotInRegistry), pass},
		{"TLS to a name that has no port 443", tlsConn("240.241.0.9:443", "db.example.com", bound("db.example.com")), "", deny(reason.PortNotInRegistry), pass},

		{"TCP to its port", tcpConn("240.241.0.9:5432", bound("db.example.com")), "", outcome{Cluster: "outbound|5432||db.example.com"}, outcome{Cluster: "outbound|5432||db.example.com"}},
		{"TCP to a foreign address on a port that is open to a name", tcpConn("198.51.100.66:5432", literal), "", deny(reason.AddressNotInRegistry), outcome{Cluster: "outbound|5432||db.example.com"}},
		{"TCP to it, not strict", tcpConn("198.51.100.66:5432", decide.Binding{}), "", outcome{Cluster: "outbound|5432||db.example.com"}, outcome{Cluster: "outbound|5432||db.example.com"}},
		{"TCP to another name's port", tcpConn("240.240.0.1:5432", bound("www.example.com")), "", deny(reason.PortNotInRegistry), deny(reason.PortNotInRegistry)},
		{"TCP to a sinkhole on a port that is open", tcpConn("240.242.0.1:5432", sink("evil.com")), "", deny(reason.NotInRegistry), deny(reason.NotInRegistry)},
		{"TCP to a port nobody has", tcpConn("240.240.0.1:25", bound("www.example.com")), "", deny(reason.PortNotInRegistry), pass},
		{"TCP to a sinkhole", tcpConn("240.242.0.1:25", sink("evil.com")), "", deny(reason.NotInRegistry), pass},
	} {
		for catchAll, want := range map[string]outcome{resource.BlackHoleCluster: tc.registry, resource.PassthroughCluster: tc.any} {
			t.Run(catchAll+"/"+tc.name, func(t *testing.T) {
				cfg := strictConfig(catchAll)
				got, detail := judge(t, cfg, cfg.Listener("virtualOutbound"), tc.conn, tc.authority)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Error(diff, detail)
				}
			})
		}
	}
}

// What the proxy sniffs on a connection that was refused already names the host.
func TestRefusal(t *testing.T) {
	cfg := strictConfig(resource.BlackHoleCluster)
	c := tcpConn("240.240.0.1:8080", decide.Binding{Name: "www.example.com", Strict: true})
	r, detail, _ := decide.Refusal(cfg, c, "www.example.com", "HTTP")
	if r != reason.PortNotInRegistry || !strings.Contains(detail, "port 8080") || !strings.Contains(detail, "80, 443") {
		t.Errorf("%s: %s", r, detail)
	}
	r, detail, _ = decide.Refusal(cfg, tcpConn("198.51.100.66:8080", decide.Binding{Strict: true}), "ev\r\nil.com"+strings.Repeat("x", 1000), "HTTP")
	if r != reason.NotInRegistry || strings.ContainsAny(detail, "\r\n") || len(detail) > 1200 {
		t.Errorf("%s: %q", r, detail)
	}
	if r, _, _ = decide.Refusal(cfg, tcpConn("240.242.0.1:8080", decide.Binding{Name: "evil.com", Unregistered: true, Strict: true}), "www.example.com", "HTTP"); r != reason.HostMismatch {
		t.Errorf("%s", r)
	}
}
