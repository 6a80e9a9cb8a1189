package decide

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/match"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// Original is where a cluster of type ORIGINAL_DST leads a connection: the destination
// and, where a name must be resolved for it, that name.
//
// An address of 240.0.0.0/4 stands for the name that the connection was opened to
// (nothing answers there, RFC 1112 section 4). A connection that was addressed to the
// proxy itself has no original destination (Envoy then has no host for it): it goes to
// the name that the client gave (SNI, or Host without port), if that is a name of the
// cluster's host, at the cluster's port. So a gateway passes a wildcard host on.
func Original(c *Conn, cluster *config.Cluster, name string) (netip.AddrPort, string) {
	if c.Direct {
		return originalByName(c, cluster, match.CanonicalName(name))
	}
	if a := c.Destination.Addr().Unmap(); a.Is4() && a.As4()[0] >= 240 {
		return c.Destination, c.Binding.Name
	}
	return c.Destination, ""
}

func originalByName(c *Conn, cluster *config.Cluster, name string) (netip.AddrPort, string) {
	if cluster == nil || cluster.Cluster == nil || cluster.Discovery != resource.DiscoveryOriginalDst {
		return c.Destination, ""
	}
	port, host, ok := outboundOf(cluster.Name)
	if !ok || name == "" || !covers(host, name) {
		return c.Destination, ""
	}
	return netip.AddrPortFrom(c.Destination.Addr(), port), name
}

// ForwardPort is where a dynamic forward proxy connects to at a request's host: the port
// of the authority ("" is none), else that of the scheme which the cluster speaks. It is
// 0 for other clusters, and for what is no port.
func ForwardPort(cluster *config.Cluster, port string) uint16 {
	switch {
	case cluster == nil || cluster.Cluster == nil || cluster.Discovery != resource.DiscoveryDynamicForward:
		return 0
	case port != "":
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return 0
		}
		return uint16(n)
	case cluster.TLS != nil:
		return 443
	}
	return 80
}

// outboundOf reads Istio's "outbound|port|subset|host".
func outboundOf(cluster string) (port uint16, host string, ok bool) {
	parts := strings.SplitN(cluster, "|", 4)
	if len(parts) != 4 || parts[0] != "outbound" {
		return 0, "", false
	}
	n, err := strconv.ParseUint(parts[1], 10, 16)
	return uint16(n), parts[3], err == nil && n != 0
}

// covers: name is host, or below it where host is "*.suffix" or "*". An address literal
// is not a name.
func covers(host, name string) bool {
	if _, literal := match.LiteralAddress(name); literal {
		return false
	}
	if suffix, wild := strings.CutPrefix(host, "*"); wild {
		return len(name) > len(suffix) && strings.HasSuffix(name, suffix)
	}
	return name == host
}
