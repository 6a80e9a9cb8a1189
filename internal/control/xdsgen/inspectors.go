package xdsgen

import (
	"maps"
	"slices"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
)

// rawBufferTransport is what a connection has as its transport protocol until a TLS inspector
// says otherwise, also on ports that it leaves alone.
const rawBufferTransport = "raw_buffer"

// inspected says by port which listener filters have to look at a connection's bytes; 0 stands
// for all ports that are not named.
type inspected struct{ tls, http map[uint32]bool }

// newInspected has the proxy's own port, which nobody may call.
func newInspected() inspected {
	return inspected{map[uint32]bool{inboundPort: false}, map[uint32]bool{inboundPort: false}}
}

func (i inspected) add(port uint32, matches []inboundMatch) {
	i.tls[port] = slices.ContainsFunc(matches, func(m inboundMatch) bool { return m.transport != rawBufferTransport })
	i.http[port] = slices.ContainsFunc(matches, func(m inboundMatch) bool {
		return m.transport == rawBufferTransport && len(m.alpn) > 0
	})
}

// appendFilter adds a listener filter, unless no port needs it. Those that do not are left
// alone: where the ports that are not named do not, all but those that do.
func appendFilter(list []*listenerv3.ListenerFilter, f *listenerv3.ListenerFilter, ports map[uint32]bool) []*listenerv3.ListenerFilter {
	others := ports[0]
	var rules []*listenerv3.ListenerFilterChainMatchPredicate
	for _, p := range slices.Sorted(maps.Keys(ports)) {
		if p != 0 && ports[p] != others {
			rules = append(rules, onPort(p))
		}
	}
	if !others && len(rules) == 0 {
		return list
	}
	out := &listenerv3.ListenerFilter{Name: f.GetName(), ConfigType: f.GetConfigType(), FilterDisabled: anyOf(rules)}
	if !others {
		out.FilterDisabled = &listenerv3.ListenerFilterChainMatchPredicate{
			Rule: &listenerv3.ListenerFilterChainMatchPredicate_NotMatch{NotMatch: out.GetFilterDisabled()},
		}
	}
	return append(list, out)
}

func onPort(p uint32) *listenerv3.ListenerFilterChainMatchPredicate {
	return &listenerv3.ListenerFilterChainMatchPredicate{
		Rule: &listenerv3.ListenerFilterChainMatchPredicate_DestinationPortRange{
			DestinationPortRange: &typev3.Int32Range{Start: int32(p), End: int32(p) + 1},
		},
	}
}

func anyOf(rules []*listenerv3.ListenerFilterChainMatchPredicate) *listenerv3.ListenerFilterChainMatchPredicate {
	if len(rules) == 1 {
		return rules[0]
	}
	return &listenerv3.ListenerFilterChainMatchPredicate{
		Rule: &listenerv3.ListenerFilterChainMatchPredicate_OrMatch{
			OrMatch: &listenerv3.ListenerFilterChainMatchPredicate_MatchSet{Rules: rules},
		},
	}
}
