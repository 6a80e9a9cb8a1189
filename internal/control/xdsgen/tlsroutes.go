package xdsgen

import (
	"net/netip"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
)

// l4Chains are the chains for one non-HTTP port of a service: those of the
// VirtualServices for its host, else one to the service itself. bySNI: the listener
// is shared, so TLS services are told apart by SNI.
func (b *builder) l4Chains(l *mesh.EgressListener, svc *mesh.Service, p mesh.Port, prefixes []netip.Prefix, bySNI bool) []chain {
	if p.Protocol.IsTLS() {
		return b.tlsChains(l, svc, p, prefixes, bySNI)
	}
	return b.tcpChains(l, svc, p, prefixes)
}

// tlsChains makes one chain for each tls match that applies to the node and port. Of
// several matches with the same SNI hosts and subnets the first one counts.
func (b *builder) tlsChains(l *mesh.EgressListener, svc *mesh.Service, p mesh.Port, prefixes []netip.Prefix, bySNI bool) []chain {
	var out []chain
	for _, v := range l.VirtualServices.Overlapping(svc.Host) {
		for _, route := range v.Spec.GetTls() {
			for _, m := range route.GetMatch() {
				if !b.l4Applies(v, tlsScope(m), mesh.MeshGateway, p.Number) {
					continue
				}
				c := b.routeChain(v, svc, b.l4Target(v, route.GetRoute(), p.Number))
				c.sni = lower(m.GetSniHosts())
				c.prefixes = prefixes
				if subnets := parsePrefixes(m.GetDestinationSubnets()); len(subnets) > 0 {
					c.prefixes = subnets
				}
				out = append(out, c)
			}
		}
	}
	if len(out) > 0 {
		return out
	}
	c := b.serviceChain(svc, p, prefixes)
	if bySNI {
		c.sni = []string{svc.Host}
	}
	return []chain{c}
}

// tcpChains makes the chains of the tcp routes, in order, up to the first match
// without destination subnets: nothing gets past it.
func (b *builder) tcpChains(l *mesh.EgressListener, svc *mesh.Service, p mesh.Port, prefixes []netip.Prefix) []chain {
	var out []chain
	for _, v := range l.VirtualServices.Overlapping(svc.Host) {
		for _, route := range v.Spec.GetTcp() {
			subnets, applies, catchAll := b.tcpMatches(v, route, p.Number)
			if !applies {
				continue
			}
			c := b.routeChain(v, svc, b.l4Target(v, route.GetRoute(), p.Number))
			if catchAll {
				c.prefixes = prefixes
				return append(out, c)
			}
			c.prefixes = subnets
			out = append(out, c)
			if slices.Equal(subnets, prefixes) {
				return out
			}
		}
	}
	return append(out, b.serviceChain(svc, p, prefixes))
}

// tcpMatches looks through all matches of a route: those with destination subnets are
// united; catchAll when one that applies has none.
func (b *builder) tcpMatches(v *mesh.VirtualService, route *networking.TCPRoute, port uint32) (subnets []netip.Prefix, applies, catchAll bool) {
	if len(route.GetMatch()) == 0 {
		return nil, true, true
	}
	for _, m := range route.GetMatch() {
		if !b.l4Applies(v, tcpScope(m), mesh.MeshGateway, port) {
			continue
		}
		list := parsePrefixes(m.GetDestinationSubnets())
		if len(list) == 0 {
			return nil, true, true
		}
		subnets, applies = append(subnets, list...), true
	}
	return subnets, applies, false
}

// l4Scope is what a tls or tcp match says about where it applies.
type l4Scope struct {
	port         uint32
	sourceLabels map[string]string
	namespace    string
	gateways     []string
}

func tlsScope(m *networking.TLSMatchAttributes) l4Scope {
	return l4Scope{m.GetPort(), m.GetSourceLabels(), m.GetSourceNamespace(), m.GetGateways()}
}

func tcpScope(m *networking.L4MatchAttributes) l4Scope {
	return l4Scope{m.GetPort(), m.GetSourceLabels(), m.GetSourceNamespace(), m.GetGateways()}
}

// l4Applies decides what does not depend on the connection: gateway, port, and the
// client's labels and namespace.
func (b *builder) l4Applies(v *mesh.VirtualService, m l4Scope, gateway string, port uint32) bool {
	return v.BoundTo(m.gateways, gateway) &&
		(m.port == 0 || m.port == port) &&
		mesh.SelectedBy(m.sourceLabels, b.node.Labels) &&
		(m.namespace == "" || m.namespace == b.node.Namespace)
}

func (b *builder) routeChain(v *mesh.VirtualService, svc *mesh.Service, t tcpTarget) chain {
	p := provenance{config: v.Ref, objects: refs([]istioapi.Ref{v.Ref}, svc.Sources)}
	return chain{target: t, metadata: p.metadata()}
}

func (b *builder) serviceChain(svc *mesh.Service, p mesh.Port, prefixes []netip.Prefix) chain {
	return chain{
		prefixes: prefixes,
		target:   singleTarget(clusterName(p.Number, "", svc.Host), svc),
		metadata: b.serviceMetadata(svc),
	}
}

func lower(names []string) []string {
	out := make([]string, 0, len(names))
	for _, n := range names {
		if n = strings.ToLower(n); !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// parsePrefixes reads addresses and CIDRs; what is neither was refused before.
func parsePrefixes(list []string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		if a, err := netip.ParseAddr(s); err == nil {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
		} else if p, err := netip.ParsePrefix(s); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out
}
