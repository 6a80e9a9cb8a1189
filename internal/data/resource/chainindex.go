package resource

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/egret-mesh/egret/internal/data/match"
)

// chainIndex finds filter chains. It is a tree of one level per criterion, in
// Envoy's order (envoy.config.listener.v3.FilterChainMatch): destination port,
// destination address, server name, transport protocol, application protocols,
// source address, source port. On each level the most specific entry that matches
// is taken, and later levels never come back to a less specific one.
type chainIndex struct {
	ports map[uint16]*rangeNode[*nameNode] // 0: any port
}

// rangeNode is a level that is looked up by address. The longest range is first.
type rangeNode[T any] struct {
	entries []rangeEntry[T]
}

type rangeEntry[T any] struct {
	prefix netip.Prefix // the zero value: any address
	next   T
}

type nameNode struct {
	names map[string]*protocolNode // exact, ".suffix" for wildcards, "" for any
}

type protocolNode struct {
	transports map[string]map[string]*rangeNode[map[uint16]*FilterChain] // "" for any
}

// maxChainLeaves bounds what one listener's chains multiply out to.
const maxChainLeaves = 1 << 20

// Index prepares the filter chain lookup; the decoder calls it. Chains that match
// the same connections are an error, as in Envoy.
func (l *Listener) Index() error {
	index := &chainIndex{ports: map[uint16]*rangeNode[*nameNode]{}}
	leaves := 0
	for i, chain := range l.FilterChains {
		m := &chain.Match
		leaves += max(1, len(m.PrefixRanges)) * max(1, len(m.ServerNames)) * max(1, len(m.ApplicationProtocols)) *
			max(1, len(m.SourcePrefixRanges)) * max(1, len(m.SourcePorts))
		if leaves > maxChainLeaves {
			return fmt.Errorf("filter chain matches multiply out to more than %d", maxChainLeaves)
		}
		if err := index.add(chain); err != nil {
			return fmt.Errorf("filter chain %d (%q): %w", i, clip(chain.Name), err)
		}
	}
	l.index = index
	return nil
}

func (x *chainIndex) add(chain *FilterChain) error {
	m := &chain.Match
	port := x.ports[m.DestinationPort]
	if port == nil {
		port = &rangeNode[*nameNode]{}
		x.ports[m.DestinationPort] = port
	}
	for _, prefix := range orAny(m.PrefixRanges) {
		names := port.entry(prefix, func() *nameNode { return &nameNode{names: map[string]*protocolNode{}} })
		for _, name := range orAny(m.ServerNames) {
			if err := names.add(strings.TrimPrefix(name, "*"), chain); err != nil {
				return err
			}
		}
	}
	return nil
}

func (n *nameNode) add(name string, chain *FilterChain) error {
	m := &chain.Match
	p := n.names[name]
	if p == nil {
		p = &protocolNode{transports: map[string]map[string]*rangeNode[map[uint16]*FilterChain]{}}
		n.names[name] = p
	}
	apps := p.transports[m.TransportProtocol]
	if apps == nil {
		apps = map[string]*rangeNode[map[uint16]*FilterChain]{}
		p.transports[m.TransportProtocol] = apps
	}
	for _, app := range orAny(m.ApplicationProtocols) {
		if apps[app] == nil {
			apps[app] = &rangeNode[map[uint16]*FilterChain]{}
		}
		for _, prefix := range orAny(m.SourcePrefixRanges) {
			ports := apps[app].entry(prefix, func() map[uint16]*FilterChain { return map[uint16]*FilterChain{} })
			for _, port := range orAny(m.SourcePorts) {
				if other := ports[port]; other != nil {
					return fmt.Errorf("matches the same connections as filter chain %q", clip(other.Name))
				}
				ports[port] = chain
			}
		}
	}
	return nil
}

// orAny is the list, or the one zero value that stands for "any".
func orAny[T any](list []T) []T {
	if len(list) == 0 {
		return make([]T, 1)
	}
	return list
}

// entry is the next level for prefix, made when it is not there.
func (n *rangeNode[T]) entry(prefix netip.Prefix, fresh func() T) T {
	bits := prefix.Bits() // -1 for the zero value: after 0.0.0.0/0
	i, found := slices.BinarySearchFunc(n.entries, bits, func(e rangeEntry[T], bits int) int { return bits - e.prefix.Bits() })
	for ; found && i < len(n.entries) && n.entries[i].prefix.Bits() == bits; i++ {
		if n.entries[i].prefix == prefix {
			return n.entries[i].next
		}
	}
	e := rangeEntry[T]{prefix: prefix, next: fresh()}
	n.entries = slices.Insert(n.entries, i, e)
	return e.next
}

func (n *rangeNode[T]) find(a netip.Addr) (T, bool) {
	for i := range n.entries {
		if e := &n.entries[i]; !e.prefix.IsValid() || e.prefix.Contains(a) {
			return e.next, true
		}
	}
	var none T
	return none, false
}

// ChainQuery is what is known of a connection when its chain is chosen.
type ChainQuery struct {
	Source, Destination netip.AddrPort
	SNI                 string // lower case
	Transport           string
	Application         []string
}

// FindChain is the filter chain for a connection, the default chain where none
// matches, and nil where there is no default chain.
func (l *Listener) FindChain(q *ChainQuery) *FilterChain {
	index := l.index
	if index == nil { // made by hand, not decoded
		made := *l
		if made.Index() != nil {
			return nil
		}
		index = made.index
	}
	if chain := index.find(q); chain != nil {
		return chain
	}
	return l.DefaultFilterChain
}

func (x *chainIndex) find(q *ChainQuery) *FilterChain {
	port := x.ports[q.Destination.Port()]
	if port == nil {
		if port = x.ports[0]; port == nil {
			return nil
		}
	}
	names, ok := port.find(q.Destination.Addr().Unmap().WithZone(""))
	if !ok {
		return nil
	}
	protocol := names.find(q.SNI)
	if protocol == nil {
		return nil
	}
	apps := protocol.transports[q.Transport]
	if apps == nil {
		if apps = protocol.transports[""]; apps == nil {
			return nil
		}
	}
	sources := apps[""]
	for _, app := range q.Application {
		if n := apps[app]; n != nil && app != "" {
			sources = n
			break
		}
	}
	if sources == nil {
		return nil
	}
	ports, ok := sources.find(q.Source.Addr().Unmap().WithZone(""))
	if !ok {
		return nil
	}
	if chain := ports[q.Source.Port()]; chain != nil {
		return chain
	}
	return ports[0]
}

// find is the exact server name, then the longest wildcard, then "any".
func (n *nameNode) find(sni string) *protocolNode {
	if sni != "" {
		sni = match.Lower(sni)
		if p := n.names[sni]; p != nil && sni[0] != '.' {
			return p
		}
		for i := 1; i < len(sni); i++ {
			if sni[i] != '.' {
				continue
			}
			if p := n.names[sni[i:]]; p != nil && i < len(sni)-1 {
				return p
			}
		}
	}
	return n.names[""]
}

// HasServerName reports whether a chain of l names this server, exactly or by a
// wildcard, whatever else it matches on.
func (l *Listener) HasServerName(name string) bool {
	for _, chain := range l.FilterChains {
		for _, pattern := range chain.Match.ServerNames {
			if match.Host(pattern, name) {
				return true
			}
		}
	}
	return false
}
