package xdsgen

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// call is a connection, and a request when it speaks HTTP.
type call struct {
	to      string // address:port
	sni     string // TLS when not ""; "-" is TLS without a name
	host    string // HTTP when not ""
	path    string
	method  string
	headers map[string]string
	query   map[string]string
}

// outcome follows Envoy's rules: the listener by address, the chain by prefix, server
// name, transport and application protocol, the virtual host by domain, the first
// route that matches. It is a cluster (or "name=weight,..."), a status, "redirect X",
// "404" without a virtual host or route, "no chain", or "no listener".
func (g generated) outcome(t testing.TB, c call) string {
	t.Helper()
	dst := netip.MustParseAddrPort(c.to)
	l := g.listeners[fmt.Sprintf("%s_%d", dst.Addr(), dst.Port())]
	if l == nil {
		l = g.listeners[fmt.Sprintf("0.0.0.0_%d", dst.Port())]
	}
	if l == nil {
		l = g.listeners["virtualOutbound"]
	}
	if l == nil {
		return "no listener"
	}
	chain := pickChain(l, dst, c)
	if chain == nil {
		return "no chain"
	}
	config := chain.GetFilters()[0].GetTypedConfig()
	if strings.HasSuffix(config.GetTypeUrl(), "TcpProxy") {
		return tcpOutcome(unpackAny[*tcpproxyv3.TcpProxy](t, config))
	}
	if c.host == "" {
		return "not HTTP"
	}
	name := unpackAny[*hcmv3.HttpConnectionManager](t, config).GetRds().GetRouteConfigName()
	rc := g.routes[name]
	if rc == nil {
		return "no route configuration " + name
	}
	return httpOutcome(rc, c)
}

func pickChain(l *listenerv3.Listener, dst netip.AddrPort, c call) *listenerv3.FilterChain {
	transport, sni := "raw_buffer", c.sni
	if sni != "" && inspects(l, "tls_inspector") {
		transport = "tls"
	} else {
		sni = ""
	}
	if sni == "-" {
		sni = ""
	}
	protocols := []string(nil)
	if c.host != "" && c.sni == "" && inspects(l, "http_inspector") {
		protocols = []string{"http/1.1"}
	}
	// Envoy goes by prefix, server name and transport protocol, and then looks only among
	// the chains that are equal in these for the application protocol.
	var best *listenerv3.FilterChain
	bestRank := [3]int{-1}
	byApplication := false
	for _, f := range l.GetFilterChains() {
		m := f.GetFilterChainMatch()
		rank := [3]int{prefixRank(m, dst.Addr()), nameRank(m.GetServerNames(), sni), 0}
		if m.GetDestinationPort() != nil && m.GetDestinationPort().GetValue() != uint32(dst.Port()) ||
			rank[0] < 0 || rank[1] < 0 || m.GetTransportProtocol() != "" && m.GetTransportProtocol() != transport {
			continue
		}
		if m.GetTransportProtocol() != "" {
			rank[2] = 1
		}
		asks := len(m.GetApplicationProtocols()) > 0
		fits := !asks || slices.ContainsFunc(protocols, func(p string) bool { return slices.Contains(m.GetApplicationProtocols(), p) })
		switch better := slices.Compare(rank[:], bestRank[:]); {
		case better > 0:
			best, bestRank, byApplication = nil, rank, false
			if fits {
				best, byApplication = f, asks
			}
		case better == 0 && fits && (best == nil || asks && !byApplication):
			best, byApplication = f, asks
		}
	}
	if best == nil {
		return l.GetDefaultFilterChain()
	}
	return best
}

func inspects(l *listenerv3.Listener, name string) bool {
	return slices.ContainsFunc(l.GetListenerFilters(), func(f *listenerv3.ListenerFilter) bool {
		return f.GetName() == "envoy.filters.listener."+name
	})
}

func prefixRank(m *listenerv3.FilterChainMatch, a netip.Addr) int {
	if len(m.GetPrefixRanges()) == 0 {
		return 0
	}
	best := -1
	for _, r := range m.GetPrefixRanges() {
		p := netip.PrefixFrom(netip.MustParseAddr(r.GetAddressPrefix()), int(r.GetPrefixLen().GetValue()))
		if p.Contains(a) {
			best = max(best, p.Bits()+1)
		}
	}
	return best
}

func nameRank(names []string, sni string) int {
	if len(names) == 0 {
		return 0
	}
	best := -1
	for _, n := range names {
		switch {
		case n == sni:
			best = 1000
		case strings.HasPrefix(n, "*.") && strings.HasSuffix(sni, n[1:]):
			best = max(best, len(n))
		}
	}
	return best
}

func tcpOutcome(p *tcpproxyv3.TcpProxy) string {
	if p.GetCluster() != "" {
		return p.GetCluster()
	}
	var parts []string
	for _, c := range p.GetWeightedClusters().GetClusters() {
		parts = append(parts, fmt.Sprintf("%s=%d", c.GetName(), c.GetWeight()))
	}
	return strings.Join(parts, ",")
}

func httpOutcome(rc *routev3.RouteConfiguration, c call) string {
	var best *routev3.VirtualHost
	bestRank := -1
	host, _, _ := strings.Cut(c.host, ":")
	for _, v := range rc.GetVirtualHosts() {
		for _, d := range v.GetDomains() {
			rank := -1
			switch {
			case d == host:
				rank = 1000
			case d == "*":
				rank = 0
			case strings.HasPrefix(d, "*") && strings.HasSuffix(host, d[1:]):
				rank = len(d)
			}
			if rank > bestRank {
				best, bestRank = v, rank
			}
		}
	}
	if best == nil {
		return "404"
	}
	if best.GetRequireTls() == routev3.VirtualHost_ALL {
		return "redirect https"
	}
	for _, r := range best.GetRoutes() {
		if routeMatches(r.GetMatch(), c) {
			return routeOutcome(r)
		}
	}
	return "404"
}

func routeMatches(m *routev3.RouteMatch, c call) bool {
	path := c.path
	if path == "" {
		path = "/"
	}
	fold := func(s string) string { return s }
	if m.GetCaseSensitive() != nil && !m.GetCaseSensitive().GetValue() {
		fold = strings.ToLower
	}
	switch p := m.GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Prefix:
		if !strings.HasPrefix(fold(path), fold(p.Prefix)) {
			return false
		}
	case *routev3.RouteMatch_Path:
		if fold(path) != fold(p.Path) {
			return false
		}
	case *routev3.RouteMatch_SafeRegex:
		if !regexp.MustCompile("^(?:" + p.SafeRegex.GetRegex() + ")$").MatchString(path) {
			return false
		}
	}
	for _, h := range m.GetHeaders() {
		if !headerHolds(h, c) {
			return false
		}
	}
	for _, q := range m.GetQueryParameters() {
		v, ok := c.query[q.GetName()]
		if !ok || q.GetStringMatch() != nil && !stringMatches(q.GetStringMatch(), v) {
			return false
		}
	}
	return true
}

func headerHolds(h *routev3.HeaderMatcher, c call) bool {
	values := map[string]string{":method": c.method, ":authority": c.host, ":scheme": "http"}
	if c.method == "" {
		values[":method"] = "GET"
	}
	for k, v := range c.headers {
		values[k] = v
	}
	v, ok := values[h.GetName()]
	matched := ok || h.GetTreatMissingHeaderAsEmpty()
	if matched && h.GetStringMatch() != nil {
		matched = stringMatches(h.GetStringMatch(), v)
	}
	return matched != h.GetInvertMatch()
}

func stringMatches(m *matcherv3.StringMatcher, v string) bool {
	switch p := m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		return v == p.Exact
	case *matcherv3.StringMatcher_Prefix:
		return strings.HasPrefix(v, p.Prefix)
	case *matcherv3.StringMatcher_SafeRegex:
		return regexp.MustCompile("^(?:" + p.SafeRegex.GetRegex() + ")$").MatchString(v)
	}
	return false
}

func routeOutcome(r *routev3.Route) string {
	switch a := r.GetAction().(type) {
	case *routev3.Route_DirectResponse:
		return fmt.Sprint(a.DirectResponse.GetStatus())
	case *routev3.Route_Redirect:
		return "redirect " + a.Redirect.GetSchemeRedirect() + "://" + a.Redirect.GetHostRedirect()
	case *routev3.Route_Route:
		if w := a.Route.GetWeightedClusters(); w != nil {
			var parts []string
			for _, c := range w.GetClusters() {
				parts = append(parts, fmt.Sprintf("%s=%d", c.GetName(), c.GetWeight().GetValue()))
			}
			return strings.Join(parts, ",")
		}
		return a.Route.GetCluster()
	}
	return "no action"
}

// step is one row of a table.
type step struct {
	call call
	want string
}

func (g generated) check(t *testing.T, steps []step) {
	t.Helper()
	for _, s := range steps {
		if got := g.outcome(t, s.call); got != s.want {
			t.Errorf("%+v:\n got %s\nwant %s", s.call, got, s.want)
		}
	}
}
