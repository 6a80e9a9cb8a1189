package proxyconfig

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
)

const blackHole = "BlackHoleCluster"

// addresses of a listener; one at least.
func addresses(l *listenerv3.Listener) []string {
	first := l.GetAddress().GetSocketAddress().GetAddress()
	out := []string{cmp.Or(first, l.GetAddress().GetPipe().GetPath())}
	for _, more := range l.GetAdditionalAddresses() {
		out = append(out, more.GetAddress().GetSocketAddress().GetAddress())
	}
	return out
}

func port(l *listenerv3.Listener) uint32 { return l.GetAddress().GetSocketAddress().GetPortValue() }

func chains(l *listenerv3.Listener) []*listenerv3.FilterChain {
	if l.GetDefaultFilterChain() == nil {
		return l.GetFilterChains()
	}
	return append(slices.Clone(l.GetFilterChains()), l.GetDefaultFilterChain())
}

// terminal is the filter of a chain that ends it; both are nil where it is another.
func terminal(chain *listenerv3.FilterChain) (*hcmv3.HttpConnectionManager, *tcpv3.TcpProxy) {
	for _, f := range chain.GetFilters() {
		http, tcp := &hcmv3.HttpConnectionManager{}, &tcpv3.TcpProxy{}
		switch {
		case f.GetTypedConfig().MessageIs(http) && f.GetTypedConfig().UnmarshalTo(http) == nil:
			return http, nil
		case f.GetTypedConfig().MessageIs(tcp) && f.GetTypedConfig().UnmarshalTo(tcp) == nil:
			return nil, tcp
		}
	}
	return nil, nil
}

// listenerType is istioctl's word for what a listener speaks. Chains that lead nowhere
// are not counted.
func listenerType(l *listenerv3.Listener) string {
	var hasHTTP, hasTCP bool
	for _, chain := range chains(l) {
		http, tcp := terminal(chain)
		hasHTTP = hasHTTP || http != nil
		hasTCP = hasTCP || tcp != nil && tcp.GetCluster() != blackHole
	}
	switch {
	case hasHTTP && hasTCP:
		return "HTTP+TCP"
	case hasHTTP:
		return "HTTP"
	case hasTCP:
		return "TCP"
	}
	return "UNKNOWN"
}

// printListeners prints a line per filter chain, or without verbose per listener.
func printListeners(out io.Writer, list []*listenerv3.Listener, verbose bool) {
	if !verbose {
		fmt.Fprintln(out, "ADDRESSES\tPORT\tTYPE")
		for _, l := range list {
			fmt.Fprintf(out, "%s\t%d\t%s\n", strings.Join(addresses(l), ","), port(l), listenerType(l))
		}
		return
	}
	fmt.Fprintln(out, "ADDRESSES\tPORT\tMATCH\tDESTINATION")
	for _, l := range list {
		type row struct{ match, destination string }
		var rows []row
		for _, chain := range chains(l) {
			rows = append(rows, row{chainMatch(chain.GetFilterChainMatch()), destination(chain)})
		}
		slices.SortStableFunc(rows, func(a, b row) int { return cmp.Compare(b.destination, a.destination) })
		for _, r := range rows {
			fmt.Fprintf(out, "%s\t%d\t%s\t%s\n", strings.Join(addresses(l), ","), port(l), r.match, r.destination)
		}
	}
}

// protocolNames are istioctl's names of Istio's lists of application protocols.
var protocolNames = map[string]string{
	"http/1.0,http/1.1,h2c,istio-http/1.0,istio-http/1.1,istio-h2": "HTTP TLS",
	"istio,istio-http/1.0,istio-http/1.1,istio-h2":                 "Istio HTTP Plain",
	"istio-peer-exchange,istio":                                    "TCP TLS",
	"http/1.0,http/1.1,h2c":                                        "HTTP",
}

func chainMatch(m *listenerv3.FilterChainMatch) string {
	var parts []string
	if names := m.GetServerNames(); len(names) > 0 {
		parts = append(parts, "SNI: "+strings.Join(names, ","))
	}
	if m.GetTransportProtocol() != "" {
		parts = append(parts, "Trans: "+m.GetTransportProtocol())
	}
	if protocols := strings.Join(m.GetApplicationProtocols(), ","); protocols != "" {
		parts = append(parts, "App: "+cmp.Or(protocolNames[protocols], protocols))
	}
	at := ""
	if m.GetDestinationPort() != nil {
		at = fmt.Sprintf(":%d", m.GetDestinationPort().GetValue())
	}
	var ranges []string
	for _, r := range m.GetPrefixRanges() {
		ranges = append(ranges, fmt.Sprintf("%s/%d", r.GetAddressPrefix(), r.GetPrefixLen().GetValue()))
	}
	if len(ranges) > 0 || at != "" {
		parts = append(parts, "Addr: "+cmp.Or(strings.Join(ranges, ","), "*")+at)
	}
	return cmp.Or(strings.Join(parts, "; "), "ALL")
}

// destination is where a chain leads.
func destination(chain *listenerv3.FilterChain) string {
	http, tcp := terminal(chain)
	switch {
	case http.GetRouteConfig() != nil:
		return inlineRoute(http.GetRouteConfig())
	case http.GetRds().GetRouteConfigName() != "":
		return "Route: " + http.GetRds().GetRouteConfigName()
	case http != nil:
		return "HTTP"
	case tcp != nil && len(tcp.GetWeightedClusters().GetClusters()) > 0:
		var names []string
		for _, c := range tcp.GetWeightedClusters().GetClusters() {
			names = append(names, c.GetName())
		}
		return "Cluster: " + strings.Join(names, ",")
	case tcp != nil && tcp.GetCluster() != blackHole:
		return clusterText(tcp.GetCluster())
	}
	return "Non-HTTP/Non-TCP"
}

// clusterText leaves names such as PassthroughCluster as they are.
func clusterText(name string) string {
	if strings.Contains(name, "Cluster") {
		return name
	}
	return "Cluster: " + name
}

func inlineRoute(rc *routev3.RouteConfiguration) string {
	if hosts := rc.GetVirtualHosts(); len(hosts) == 1 && slices.Equal(hosts[0].GetDomains(), []string{"*"}) && len(hosts[0].GetRoutes()) == 1 {
		r := hosts[0].GetRoutes()[0]
		if name := r.GetRoute().GetCluster(); name != "" && r.GetMatch().GetPrefix() == "/" {
			return clusterText(name)
		}
	}
	var hosts []string
	for _, vh := range rc.GetVirtualHosts() {
		var routes []string
		for _, r := range vh.GetRoutes() {
			routes = append(routes, routeMatch(r.GetMatch()))
		}
		domains := strings.Join(vh.GetDomains(), "/")
		if domains == "*" {
			domains = ""
		}
		hosts = append(hosts, strings.TrimSpace(domains+" "+strings.Join(routes, ", ")))
	}
	return "Inline Route: " + strings.Join(hosts, "; ")
}
