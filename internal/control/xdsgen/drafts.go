package xdsgen

import (
	"net/netip"
	"slices"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/egret-mesh/egret/internal/control/mesh"
)

// wildcardBind is the address of listeners that take connections to any address.
const wildcardBind = "0.0.0.0"

type listenerKey struct {
	bind string
	port uint32
}

// draft is a listener while services are added to it.
type draft struct {
	listenerKey
	bindToPort bool
	// locked: a Sidecar listener with a port made it; the catch-all one adds nothing.
	locked bool
	// route names the route configuration of the HTTP chain; "" is no HTTP chain. It is
	// that of the port, or of only, when one service has this address for itself.
	route string
	only  *mesh.Service
	// detect: HTTP and TLS are to be told from other bytes.
	detect bool
	chains []chain
	// taken has the matches that a chain has already; Envoy refuses to have one twice.
	taken map[chainMatch]bool
	// services of listeners that are bound to one address.
	services []*mesh.Service
}

// chain is one TCP filter chain.
type chain struct {
	prefixes []netip.Prefix
	sni      []string
	target   tcpTarget
	metadata *corev3.Metadata
	// server, if not nil, is the Gateway server whose TLS the chain ends; route is its
	// route configuration where HTTP is inside.
	server *gatewayServer
	route  string
}

// chainMatch is one pair of what a chain matches; invalid prefix and "" match anything.
type chainMatch struct {
	prefix netip.Prefix
	sni    string
}

// add adds a chain with what is left of its match after those that came before it,
// as the older object wins. It is false when nothing is left.
func (d *draft) add(c chain) bool {
	prefixes := c.prefixes
	if len(prefixes) == 0 {
		prefixes = []netip.Prefix{{}}
	}
	if len(c.sni) == 0 {
		prefixes = slices.DeleteFunc(slices.Clone(prefixes), func(p netip.Prefix) bool { return d.taken[chainMatch{p, ""}] })
		if len(prefixes) == 0 {
			return false
		}
		if len(c.prefixes) > 0 {
			c.prefixes = prefixes
		}
		d.take(prefixes, []string{""})
	} else {
		c.sni = slices.DeleteFunc(slices.Clone(c.sni), func(name string) bool {
			return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return d.taken[chainMatch{p, name}] })
		})
		if len(c.sni) == 0 {
			return false
		}
		d.take(prefixes, c.sni)
	}
	d.chains = append(d.chains, c)
	return true
}

func (d *draft) take(prefixes []netip.Prefix, names []string) {
	if d.taken == nil {
		d.taken = make(map[chainMatch]bool, len(prefixes)*len(names))
	}
	for _, p := range prefixes {
		for _, n := range names {
			d.taken[chainMatch{p, n}] = true
		}
	}
}

// detectHTTP gives the listener an HTTP chain for a service whose protocol is not
// declared. On an address of its own only that service is routed, by the name that
// Istio gives such a route configuration.
func (d *draft) detectHTTP(svc *mesh.Service) {
	d.detect = true
	switch {
	case d.route != "" && d.only == nil:
	case d.bind == wildcardBind, d.only != nil && d.only != svc: // shared: the name decides
		d.only, d.route = nil, strconv.FormatUint(uint64(d.port), 10)
	default:
		d.route, d.only = svc.Host+":"+strconv.FormatUint(uint64(d.port), 10), svc
	}
}

// needsTLS: a chain is chosen by SNI.
func (d *draft) needsTLS() bool {
	return slices.ContainsFunc(d.chains, func(c chain) bool { return len(c.sni) > 0 })
}

// catchesAll: a TCP chain takes whatever no other chain matches.
func (d *draft) catchesAll() bool { return d.taken[chainMatch{}] }

// match is nil when the chain matches everything.
func (c *chain) match() *listenerv3.FilterChainMatch {
	if len(c.prefixes) == 0 && len(c.sni) == 0 {
		return nil
	}
	m := &listenerv3.FilterChainMatch{ServerNames: c.sni}
	if slices.Contains(c.sni, "*") { // Envoy has no "*": any TLS, with a name or without
		m.ServerNames, m.TransportProtocol = nil, "tls"
	}
	for _, p := range c.prefixes {
		m.PrefixRanges = append(m.PrefixRanges, &corev3.CidrRange{
			AddressPrefix: p.Addr().String(),
			PrefixLen:     wrapperspb.UInt32(uint32(p.Bits())),
		})
	}
	return m
}

// tcpChain is the resource of a chain, from the memo where no rule has a say in it.
func (b *builder) tcpChain(c *chain) *listenerv3.FilterChain {
	if b.memo == nil || c.target.service != nil && b.scope.DestinationRule(c.target.service) != nil {
		return b.newTCPChain(c)
	}
	k := b.key("chain")
	k.chain(c)
	return b.memo.chains.made(k.sum(), func() (*listenerv3.FilterChain, bool) {
		return frozen(b.newTCPChain(c)), b.err == nil
	})
}

func (b *builder) newTCPChain(c *chain) *listenerv3.FilterChain {
	return &listenerv3.FilterChain{
		FilterChainMatch:              c.match(),
		Filters:                       b.tcpFilters(c.target, true),
		TransportSocketConnectTimeout: b.shared.socketTimeout,
		Metadata:                      c.metadata,
	}
}

// name is Istio's "address_port".
func (k listenerKey) name() string { return k.bind + "_" + strconv.FormatUint(uint64(k.port), 10) }
