package decide_test

import (
	"regexp"
	"testing"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/match"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

func to(cluster string) *resource.Forward {
	return &resource.Forward{Clusters: []resource.WeightedCluster{{Name: cluster, Weight: 1}}}
}

func routeMatch(kind resource.PathKind, path string) resource.RouteMatch {
	return resource.RouteMatch{Kind: kind, Path: path}
}

func TestRouteMatch(t *testing.T) {
	regex := routeMatch(resource.PathRegex, "")
	regex.Regex = regexp.MustCompile(`\A(?:/v[0-9]+)\z`)
	fold := routeMatch(resource.PathPrefix, "/Api")
	fold.IgnoreCase = true
	with := func(h ...match.Header) resource.RouteMatch {
		return resource.RouteMatch{Path: "/", Headers: h}
	}
	for _, tc := range []struct {
		name string
		m    resource.RouteMatch
		r    decide.Request
		want bool
	}{
		{"prefix", routeMatch(resource.PathPrefix, "/a"), decide.Request{Path: "/ab"}, true},
		{"prefix is without query", routeMatch(resource.PathPrefix, "/a?x"), decide.Request{Path: "/a?x"}, false},
		{"prefix without case", fold, decide.Request{Path: "/aPI/x"}, true},
		{"exact", routeMatch(resource.PathExact, "/a"), decide.Request{Path: "/a?q=1"}, true},
		{"exact not prefix", routeMatch(resource.PathExact, "/a"), decide.Request{Path: "/a/"}, false},
		{"separated prefix itself", routeMatch(resource.PathSeparatedPrefix, "/a"), decide.Request{Path: "/a"}, true},
		{"separated prefix below", routeMatch(resource.PathSeparatedPrefix, "/a"), decide.Request{Path: "/a/b"}, true},
		{"separated prefix beside", routeMatch(resource.PathSeparatedPrefix, "/a"), decide.Request{Path: "/ab"}, false},
		{"regex whole path without query", regex, decide.Request{Path: "/v2?x=1"}, true},
		{"regex not a part", regex, decide.Request{Path: "/v2/x"}, false},
		{"connect only by its matcher", routeMatch(resource.PathPrefix, "/"), decide.Request{Method: "CONNECT", Path: "/"}, false},
		{"connect matcher", routeMatch(resource.PathConnect, ""), decide.Request{Method: "CONNECT"}, true},
		{"connect matcher for GET", routeMatch(resource.PathConnect, ""), decide.Request{Path: "/"}, false},
		{"header", with(match.Header{Name: "x", Value: match.String{Value: "1"}}), decide.Request{Path: "/", Headers: headers{"x": "1"}}, true},
		{"header missing", with(match.Header{Name: "x", Value: match.String{Value: "1"}}), decide.Request{Path: "/", Headers: headers{}}, false},
		{"no headers at all", with(match.Header{Name: "x", Value: match.String{Value: "1"}}), decide.Request{Path: "/"}, false},
		{"method", with(match.Header{Name: ":method", Value: match.String{Value: "POST"}}), decide.Request{Path: "/", Method: "GET"}, false},
		{"authority", with(match.Header{Name: ":authority", Value: match.String{Kind: match.Prefix, Value: "www."}}), decide.Request{Path: "/", Authority: "www.example.com"}, true},
		{"scheme", with(match.Header{Name: ":scheme", Value: match.String{Value: "http"}}), decide.Request{Path: "/", Scheme: "http"}, true},
		{"query", resource.RouteMatch{Path: "/", Query: []match.Query{{Name: "a", Value: match.String{Value: "1"}}}}, decide.Request{Path: "/?a=1"}, true},
		{"query missing", resource.RouteMatch{Path: "/", Query: []match.Query{{Name: "a", Value: match.String{Value: "1"}}}}, decide.Request{Path: "/"}, false},
		{"fraction in", resource.RouteMatch{Path: "/", RuntimeNumerator: 10, RuntimeDenominator: 100}, decide.Request{Path: "/", Random: 1009}, true},
		{"fraction out", resource.RouteMatch{Path: "/", RuntimeNumerator: 10, RuntimeDenominator: 100}, decide.Request{Path: "/", Random: 1010}, false},
		{"fraction none", resource.RouteMatch{Path: "/", RuntimeNumerator: 0, RuntimeDenominator: 100}, decide.Request{Path: "/"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := to("c")
			f.Upgrades = []resource.Upgrade{{Type: "connect", Enabled: true}}
			hcm := inline(&resource.VirtualHost{Name: "v", Domains: []string{"*"}, Routes: []*resource.Route{{Match: tc.m, Forward: f}}})
			if tc.r.Authority == "" {
				tc.r.Authority = "example.com"
			}
			if tc.r.Method == "" {
				tc.r.Method = "GET"
			}
			if got := decide.Route(empty(), hcm, &tc.r); (got.Verdict == decide.Forward) != tc.want {
				t.Errorf("%+v", got)
			}
		})
	}
}

func empty() *config.Config { return config.Build(nil, nil, nil, nil, nil) }

func inline(vhs ...*resource.VirtualHost) *resource.HTTPConnectionManager {
	return &resource.HTTPConnectionManager{Inline: &resource.RouteConfiguration{Name: "r", VirtualHosts: vhs}, UpgradeTypes: []string{"websocket"}}
}

func TestRouteActions(t *testing.T) {
	noWebsocket := to("c")
	noWebsocket.Upgrades = []resource.Upgrade{{Type: "websocket"}}
	secure := &resource.Route{Redirect: &resource.Redirect{HTTPSRedirect: true, Status: 301}}
	hcm := inline(&resource.VirtualHost{Name: "v", Domains: []string{"a.com"}, Routes: []*resource.Route{
		{Name: "first", Match: routeMatch(resource.PathExact, "/first"), Forward: to("first")},
		{Name: "direct", Match: routeMatch(resource.PathExact, "/direct"), Direct: &resource.DirectResponse{Status: 503}},
		{Name: "redirect", Match: routeMatch(resource.PathExact, "/redirect"), Redirect: &resource.Redirect{Status: 302}},
		{Name: "hole", Match: routeMatch(resource.PathExact, "/hole"), Forward: to(resource.BlackHoleCluster)},
		{Name: "plain", Match: routeMatch(resource.PathExact, "/plain"), Forward: noWebsocket},
		{Name: "connect", Match: routeMatch(resource.PathConnect, ""), Forward: to("c")},
		{Name: "all", Match: routeMatch(resource.PathPrefix, "/f"), Forward: to("all")},
	}}, &resource.VirtualHost{Name: "secure", Domains: []string{"secure.com"}, TLSRedirect: secure, Routes: []*resource.Route{{Match: routeMatch(resource.PathPrefix, "/"), Forward: to("c")}}})
	for _, tc := range []struct {
		name    string
		r       decide.Request
		verdict decide.Verdict
		route   string
		reason  reason.Reason
		status  int
	}{
		{"the first that matches", decide.Request{Path: "/first"}, decide.Forward, "first", "", 0},
		{"a later one", decide.Request{Path: "/fir"}, decide.Forward, "all", "", 0},
		{"direct", decide.Request{Path: "/direct"}, decide.Direct, "direct", "", 0},
		{"redirect", decide.Request{Path: "/redirect"}, decide.Redirect, "redirect", "", 0},
		{"black hole", decide.Request{Path: "/hole"}, decide.Deny, "hole", reason.PortNotInRegistry, 502},
		{"no route", decide.Request{Path: "/x"}, decide.Deny, "", reason.NoRoute, 404},
		{"no virtual host", decide.Request{Path: "/", Authority: "b.com"}, decide.Deny, "", reason.NoRoute, 404},
		{"upgrade allowed", decide.Request{Path: "/f", Upgrade: "websocket"}, decide.Forward, "all", "", 0},
		{"upgrade not known", decide.Request{Path: "/f", Upgrade: "tls"}, decide.Deny, "all", reason.UpgradeNotAllowed, 502},
		{"upgrade off on the route", decide.Request{Path: "/plain", Upgrade: "websocket"}, decide.Deny, "plain", reason.UpgradeNotAllowed, 502},
		{"h2c is ignored", decide.Request{Path: "/f", Upgrade: "h2c"}, decide.Forward, "all", "", 0},
		{"connect without the upgrade type", decide.Request{Method: "CONNECT"}, decide.Deny, "connect", reason.ConnectNotAllowed, 502},
		{"connect without a route", decide.Request{Method: "CONNECT", Authority: "secure.com", Scheme: "https"}, decide.Deny, "", reason.ConnectNotAllowed, 502},
		{"require_tls", decide.Request{Path: "/", Authority: "secure.com", Scheme: "http"}, decide.Redirect, "", "", 0},
		{"require_tls fulfilled", decide.Request{Path: "/", Authority: "secure.com", Scheme: "https"}, decide.Forward, "", "", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.r.Authority == "" {
				tc.r.Authority = "a.com"
			}
			if tc.r.Method == "" {
				tc.r.Method = "GET"
			}
			cfg := config.Build(nil, []*resource.RouteConfiguration{hcm.Inline}, nil, nil, nil)
			got := decide.Route(cfg, hcm, &tc.r)
			name := ""
			if got.Route != nil {
				name = got.Route.Name
			}
			if got.Verdict != tc.verdict || name != tc.route || got.Reason != tc.reason || got.Status != tc.status {
				t.Errorf("%+v (route %q)", got, name)
			}
			if got.Verdict == decide.Deny && got.Detail == "" {
				t.Error("no detail")
			}
		})
	}
}

func TestRouteConfigurationMissing(t *testing.T) {
	got := decide.Route(empty(), &resource.HTTPConnectionManager{RouteConfigName: "80"}, &decide.Request{Method: "GET", Path: "/", Authority: "a.com"})
	if got.Verdict != decide.Deny || got.Reason != reason.ConfigRejected || got.Status != 502 {
		t.Errorf("%+v", got)
	}
}

func TestPickCluster(t *testing.T) {
	clusters := []resource.WeightedCluster{{Name: "a", Weight: 90}, {Name: "off"}, {Name: "b", Weight: 10}}
	count := map[string]int{}
	for i := range uint32(1000) {
		count[decide.PickCluster(clusters, i).Name]++
	}
	if count["a"] != 900 || count["b"] != 100 || count["off"] != 0 {
		t.Errorf("%v", count)
	}
	if decide.PickCluster(nil, 1) != nil || decide.PickCluster([]resource.WeightedCluster{{Name: "x"}, {Name: "y"}}, 1) != nil {
		t.Error("picked from nothing")
	}
	if huge := []resource.WeightedCluster{{Name: "a", Weight: 1 << 31}, {Name: "b", Weight: 1 << 31}}; decide.PickCluster(huge, 1<<31).Name != "b" {
		t.Error("weights of 32 bits")
	}
}

func TestConnectionRefusals(t *testing.T) {
	chain := tcpChain("c", resource.FilterChainMatch{ServerNames: []string{"a.com"}})
	broken := tcpChain("c", resource.FilterChainMatch{DestinationPort: 82})
	broken.Unsupported = "terminating TLS"
	gateway := &resource.Listener{Name: "gw", Address: addrPort("0.0.0.0:443"), BindToPort: true, FilterChains: []*resource.FilterChain{chain, broken}}
	rejected := &resource.Listener{Name: "bad", Address: addrPort("0.0.0.0:81"), Rejected: "RBAC is not supported"}
	outbound := &resource.Listener{Name: "virtualOutbound", Address: addrPort("0.0.0.0:15001"), BindToPort: true, UseOriginalDst: true,
		FilterChains: []*resource.FilterChain{tcpChain(resource.PassthroughCluster, resource.FilterChainMatch{})}}
	cfg := config.Build([]*resource.Listener{gateway, rejected, outbound}, nil, nil, nil, nil)
	for _, tc := range []struct {
		name     string
		accepted *resource.Listener
		c        *decide.Conn
		want     reason.Reason
	}{
		{"its server name", gateway, tlsConn("10.0.0.1:443", "a.com", decide.Binding{}), ""},
		{"another server name", gateway, tlsConn("10.0.0.1:443", "b.com", decide.Binding{}), reason.NoFilterChain},
		{"no server name", gateway, tlsConn("10.0.0.1:443", "", decide.Binding{}), reason.NoFilterChain},
		{"a chain that cannot be served", gateway, tcpConn("10.0.0.1:82", decide.Binding{}), reason.NotSupported},
		{"a rejected listener does not fall to the one that passes all", outbound, tcpConn("10.0.0.1:81", decide.Binding{}), reason.ConfigRejected},
		{"beside it", outbound, tcpConn("10.0.0.1:83", decide.Binding{}), ""},
		{"an older version of the listener was accepted", &resource.Listener{Name: "virtualOutbound"}, tcpConn("10.0.0.1:83", decide.Binding{}), ""},
	} {
		got := decide.Connection(cfg, tc.accepted, tc.c)
		if got.Reason != tc.want || (got.Verdict == decide.Deny) != (tc.want != "") || (got.Detail == "") != (tc.want == "") {
			t.Errorf("%s: %+v", tc.name, got)
		}
		if tc.want != "" && !tc.want.Denied() {
			t.Errorf("%s is no denial", tc.want)
		}
	}
}

// Whatever a client sends, the decision is made, and a denial has a sentence.
func FuzzDecide(f *testing.F) {
	f.Add("www.example.com", "GET", "/a?b=c", "websocket", "www.example.com", uint32(1))
	f.Add("[::1]:80", "CONNECT", "", "", "evil.com", uint32(2))
	cfg := strictConfig(resource.BlackHoleCluster)
	f.Fuzz(func(t *testing.T, authority, method, path, upgrade, sni string, random uint32) {
		for _, b := range []decide.Binding{{}, {Strict: true}, {Name: "www.example.com", Strict: true}, {Name: sni, Unregistered: true, Strict: true}} {
			c := httpConn("240.240.0.1:80", b)
			plan := decide.Connection(cfg, cfg.Listener("virtualOutbound"), c)
			r := &decide.Request{Method: method, Scheme: "http", Authority: authority, Path: path, Upgrade: upgrade, Random: random, Headers: headers{}, Conn: c}
			rp := decide.Route(cfg, plan.Chain.HTTP, r)
			if rp.Verdict == decide.Deny && (rp.Detail == "" || rp.Reason == "" || rp.Status == 0) || len(rp.Detail) > 2000 {
				t.Fatalf("%+v", rp)
			}
			if b.Strict && rp.Verdict == decide.Forward && rp.VirtualHost.Name == "*.wild.com:80" {
				t.Fatalf("%q reached a wildcard on the address of another name", authority)
			}
			cp := decide.Connection(cfg, cfg.Listener("virtualOutbound"), tlsConn("240.240.0.1:443", sni, b))
			if cp.Verdict == decide.Deny && cp.Detail == "" {
				t.Fatalf("%+v", cp)
			}
		}
	})
}
