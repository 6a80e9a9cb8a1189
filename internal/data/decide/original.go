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
// and, where a name must be resolved for it, that name. A connection that was addressed
// to the proxy itself has no original destination (Envoy then has no host for it): it
// goes to the name that the client gave (SNI, or Host without port), if that is a name of
// the cluster's host, at the cluster's port. So a gateway passes a wildcard host on.
// What name may be used otherwise, and when, is for the caller to know.
func Original(c *Conn, cluster *config.Cluster, name string) (netip.AddrPort, string, bool) {
	if !c.Direct || cluster == nil || cluster.Cluster == nil || cluster.Discovery != resource.DiscoveryOriginalDst {
		return c.Destination, "", false
	}
	port, host, ok := outboundOf(cluster.Name)
	if !ok || name == "" || !covers(host, match.Lower(strings.TrimSuffix(name, "."))) {
		return c.Destination, "", false
	}
	return netip.AddrPortFrom(c.Destination.Addr(), port), match.Lower(strings.TrimSuffix(name, ".")), true
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
