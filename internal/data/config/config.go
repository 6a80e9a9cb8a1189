package config

import (
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/egret-mesh/egret/internal/data/match"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// Build makes a Config from decoded resources as they are: every listener is in it,
// and endpoints go to the clusters that ask EDS for their name. It is for tests and
// for explaining; a proxy's Config comes from a Store.
func Build(listeners []*resource.Listener, routes []*resource.RouteConfiguration, clusters []*resource.Cluster, endpoints []*resource.Endpoints, names *resource.NameTable) *Config {
	c := &Config{
		Sequence: 1,
		Routes:   make(map[string]*resource.RouteConfiguration, len(routes)),
		Clusters: make(map[string]*Cluster, len(clusters)),
	}
	for _, rc := range routes {
		c.Routes[rc.Name] = rc
	}
	eds := make(map[string]*resource.Endpoints, len(endpoints))
	for _, e := range endpoints {
		eds[e.ClusterName] = e
	}
	for _, cl := range clusters {
		c.Clusters[cl.Name] = withEndpoints(cl, eds)
	}
	c.setListeners(listeners)
	c.setNames(names)
	return c
}

// withEndpoints joins a cluster with what EDS, or it itself, says.
func withEndpoints(cl *resource.Cluster, eds map[string]*resource.Endpoints) *Cluster {
	out := &Cluster{Cluster: cl, Endpoints: cl.Endpoints}
	if cl.Discovery == resource.DiscoveryEDS {
		out.Endpoints = eds[cl.EDSServiceName]
	}
	return out
}

// setListeners sorts the listeners by name and makes their indexes.
func (c *Config) setListeners(listeners []*resource.Listener) {
	c.Listeners = slices.SortedFunc(slices.Values(listeners), func(a, b *resource.Listener) int { return strings.Compare(a.Name, b.Name) })
	c.byName = make(map[string]*resource.Listener, len(listeners))
	c.byAddress = make(map[netip.AddrPort]*resource.Listener, len(listeners))
	c.bound = map[netip.AddrPort]*resource.Listener{}
	c.serverNames, c.onDemand = map[string][]uint16{}, nil
	for _, l := range c.Listeners {
		c.byName[l.Name] = l
		if l.OnDemand != "" {
			c.onDemand = append(c.onDemand, l)
		}
		index := c.byAddress
		if l.BindToPort {
			index = c.bound
		}
		for _, a := range append([]netip.AddrPort{l.Address}, l.AdditionalAddresses...) {
			if index[a] == nil {
				index[a] = l
			}
		}
		for _, chain := range l.FilterChains {
			for _, name := range chain.Match.ServerNames {
				if ports := c.serverNames[name]; !slices.Contains(ports, l.Address.Port()) {
					c.serverNames[name] = append(ports, l.Address.Port())
				}
			}
		}
	}
}

// setNames makes the reverse index of the name table. Where several names have one
// address the first in alphabetical order counts.
func (c *Config) setNames(names *resource.NameTable) {
	c.Names, c.byIP = names, nil
	if names == nil {
		return
	}
	c.byIP = make(map[netip.Addr]string)
	for name, info := range names.Names {
		for _, a := range info.Addresses {
			if old, ok := c.byIP[a]; !ok || name < old {
				c.byIP[a] = name
			}
		}
	}
}

// Listener is the listener of this name, or nil.
func (c *Config) Listener(name string) *resource.Listener { return c.byName[name] }

// ListenerFor is the listener that a connection to dst is handed to by a listener
// with use_original_dst: the one for exactly this address and port, else the one
// for any address and this port. Listeners that are bound to a port of their own
// are not looked at. Unlike in Envoy the any-address of the other family serves
// too: an IPv6 connection finds 0.0.0.0:80, so that the same rules hold for both
// families. It is nil where there is none.
func (c *Config) ListenerFor(dst netip.AddrPort) *resource.Listener {
	return lookup(c.byAddress, dst)
}

// BoundListener is the same for listeners that are bound to a port: the one that
// accepts a connection to dst, as at a gateway.
func (c *Config) BoundListener(dst netip.AddrPort) *resource.Listener { return lookup(c.bound, dst) }

func lookup(index map[netip.AddrPort]*resource.Listener, dst netip.AddrPort) *resource.Listener {
	addr := dst.Addr().Unmap().WithZone("")
	if l := index[netip.AddrPortFrom(addr, dst.Port())]; l != nil {
		return l
	}
	first, second := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	if addr.Is6() {
		first, second = second, first
	}
	if l := index[netip.AddrPortFrom(first, dst.Port())]; l != nil {
		return l
	}
	return index[netip.AddrPortFrom(second, dst.Port())]
}

// DecidesAs reports whether what was decided under old is decided in the same way under
// c: at most something was added that was asked for by name.
func (c *Config) DecidesAs(old *Config) bool {
	return c == old || old != nil && c.Revision != 0 && c.Revision == old.Revision
}

// Held is what was asked for by name, nil where it is not there.
func (c *Config) Held(n Need) *Held {
	h, _ := c.held.Get(n)
	return h
}

// Cluster is the cluster of this name, or nil.
func (c *Config) Cluster(name string) *Cluster {
	if cl := c.Clusters[name]; cl != nil {
		return cl
	}
	if h := c.Held(Need{Kind: NeedCluster, Name: name}); h != nil {
		return h.Cluster
	}
	return nil
}

// AllClusters gives each cluster, in no order.
func (c *Config) AllClusters() iter.Seq[*Cluster] {
	return func(yield func(*Cluster) bool) {
		for _, cl := range c.Clusters {
			if !yield(cl) {
				return
			}
		}
		for n, h := range c.held.All() {
			if n.Kind == NeedCluster && !yield(h.Cluster) {
				return
			}
		}
	}
}

// AllFilterChains gives each filter chain, in no order.
func (c *Config) AllFilterChains() iter.Seq[*resource.FilterChain] {
	return func(yield func(*resource.FilterChain) bool) {
		for _, l := range c.Listeners {
			for _, chain := range l.FilterChains {
				if !yield(chain) {
					return
				}
			}
			if l.DefaultFilterChain != nil && !yield(l.DefaultFilterChain) {
				return
			}
		}
		for n, h := range c.held.All() {
			if n.Kind == NeedFilterChain && !yield(h.FilterChain) {
				return
			}
		}
	}
}

// Name is what the name table has for a host (lower case, no final dot), by itself or by
// the longest wildcard. key is the table's key.
func (c *Config) Name(host string) (info resource.NameInfo, key string, ok bool) {
	if info, key, ok = c.Names.Lookup(host); ok {
		return info, key, true
	}
	if h := c.Held(Need{Kind: NeedName, Name: host}); h != nil {
		return h.Name.Info, h.Name.Key, true
	}
	return resource.NameInfo{}, "", false
}

// AnyName reports whether every name may be looked up outside (ALLOW_ANY).
func (c *Config) AnyName() bool {
	if c.Names == nil {
		return false
	}
	_, ok := c.Names.Names["*"]
	return ok
}

// NameOf is the registered name that has this address in the name table, or "".
func (c *Config) NameOf(addr netip.Addr) string {
	addr = addr.Unmap().WithZone("")
	if name := c.byIP[addr]; name != "" {
		return name
	}
	if names, _ := c.heldByIP.Get(addr); len(names) > 0 {
		return names[0]
	}
	return ""
}

// HeldNamesOf are the names with this address that were asked for, sorted.
func (c *Config) HeldNamesOf(addr netip.Addr) []string {
	names, _ := c.heldByIP.Get(addr.Unmap().WithZone(""))
	return names
}

// ServerNamePorts are the ports of listeners with a filter chain for this server
// name (lower case), exactly or by the longest wildcard.
func (c *Config) ServerNamePorts(name string) []uint16 {
	if ports := c.serverNames[name]; ports != nil {
		return ports
	}
	if ports := c.heldServerName(name); ports != nil {
		return ports
	}
	for i := 0; i < len(name); i++ {
		if name[i] == '.' && i > 0 {
			if ports := c.serverNames["*"+name[i:]]; ports != nil {
				return ports
			}
		}
	}
	return nil
}

// heldServerName is ServerNamePorts for filter chains that were asked for.
func (c *Config) heldServerName(name string) (ports []uint16) {
	for _, l := range c.onDemand {
		if c.Held(Need{Kind: NeedFilterChain, Of: l.OnDemand, Name: name}) != nil {
			ports = append(ports, l.Address.Port())
		}
	}
	return ports
}

// Registered reports whether the name table, a virtual host or a filter chain
// names this host. allow_any and block_all are not registrations.
func (c *Config) Registered(host string) bool {
	host = match.Lower(host)
	if _, _, ok := c.Name(host); ok || len(c.ServerNamePorts(host)) > 0 {
		return true
	}
	for _, rc := range c.Routes {
		if c.HasHost(rc, host) {
			return true
		}
	}
	return false
}

// HasHost reports whether a virtual host of rc names this host (lower case), as far as
// that is known. allow_any and block_all do not.
func (c *Config) HasHost(rc *resource.RouteConfiguration, host string) bool {
	vh := rc.VirtualHost(host)
	return vh != nil && !vh.CatchAll() || rc.OnDemand && c.Held(Need{Kind: NeedVirtualHost, Of: rc.Name, Name: host}) != nil
}

// clone is a copy that shares everything but the top level.
func (c *Config) clone() *Config {
	out := *c
	return &out
}

func cloneMap[K comparable, V any](m map[K]V) map[K]V {
	if m == nil {
		return map[K]V{}
	}
	return maps.Clone(m)
}
