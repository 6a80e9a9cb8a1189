package mesh

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Part is the snapshot with only what has to do with a name: a host, as a workload calls
// it, or an address. What is generated for the name is the same as from all of it. Keys
// is what was looked up: the part stays the same until a change touches one of them
// (Changes.Keys). What a Sidecar has to say is not judged: it applies to the part as it
// does to the whole.
func (s *Snapshot) Part(n Node, name string) (part *Snapshot, keys []string) {
	g := gathering{
		snapshot: s, index: s.index(), namespace: n.Namespace,
		keys: map[string]bool{}, services: map[int]bool{}, virtual: map[*VirtualService]bool{},
	}
	g.name(name)
	if s.sidecar(n) != nil {
		g.to(name)
		parents(name, func(w string) bool { g.to(w); return false })
	}
	p := *s
	p.entries, p.indexed = nil, newIndex(nil, nil)
	p.services = make([]*Service, 0, len(g.services))
	for _, at := range slices.Sorted(maps.Keys(g.services)) {
		p.services = append(p.services, s.services[at])
	}
	p.virtual = slices.SortedFunc(maps.Keys(g.virtual), func(a, b *VirtualService) int { return cmp.Compare(a.order, b.order) })
	p.byGateway = map[string][]*VirtualService{MeshGateway: p.virtual}
	return &p, slices.Collect(maps.Keys(g.keys))
}

// Elsewhere says of a part whether its names may be on ports that only other services open:
// those of VirtualServices, and of services whose port has an address for itself.
func (s *Snapshot) Elsewhere() bool {
	return len(s.virtual) > 0 || slices.ContainsFunc(s.services, func(svc *Service) bool {
		return slices.ContainsFunc(svc.Ports, func(p Port) bool { return p.Protocol == ProtocolAuto })
	})
}

// Prefixes of keys that are no hosts: what is under a wildcard, the DestinationRules for a
// host, and the VirtualServices that route to one.
const (
	underKey = "under "
	ruleKey  = "rule "
	toKey    = "to "
)

// gathering collects a part: from a name to what it may mean, from there to what that
// shares a name or an address with, or leads to, and so on.
type gathering struct {
	snapshot  *Snapshot
	index     *index
	namespace string // of the node
	keys      map[string]bool
	services  map[int]bool
	virtual   map[*VirtualService]bool
}

// name adds what a name that is called may mean: itself, or a wildcard that it is under.
func (g *gathering) name(name string) {
	g.host(name)
	if _, err := netip.ParseAddr(name); err == nil {
		return
	}
	parents(name, func(w string) bool { g.host(w); return false })
}

// host adds all that has exactly this host, address or server name, also as the short form
// of a name in the mesh.
func (g *gathering) host(h string) {
	if g.keys[h] {
		return
	}
	g.keys[h] = true
	for _, at := range g.index.byHost[h] {
		g.service(at)
	}
	for _, at := range g.index.byAddress[h] {
		g.service(at)
	}
	for _, v := range g.index.virtual.byHost[h] {
		g.virtualService(v)
	}
	for _, v := range g.index.virtual.bySNI[h] {
		g.virtualService(v)
	}
	domain := g.snapshot.domain
	switch n := strings.Count(h, "."); {
	case n == 0:
		g.host(h + "." + g.namespace + ".svc." + domain)
	case n == 1:
		g.host(h + ".svc." + domain)
	case n == 2 && strings.HasSuffix(h, ".svc"):
		g.host(h + "." + domain)
	}
}

// service adds a service, what may take one of its names from it, and the
// VirtualServices that overlap with it.
func (g *gathering) service(at int) {
	if g.services[at] {
		return
	}
	g.services[at] = true
	s := g.snapshot.services[at]
	for _, a := range addressesOf(s) {
		g.host(a)
	}
	for _, host := range s.hosts() {
		for _, short := range shortForms(host, g.snapshot.domain) {
			g.host(short)
		}
		g.host(host)
	}
	g.keys[ruleKey+s.Host] = true
	parents(s.Host, func(w string) bool {
		g.keys[ruleKey+w] = true
		g.host(w)
		return false
	})
	if IsWildcard(s.Host) {
		g.keys[underKey+s.Host] = true
		for _, v := range g.index.virtual.under[s.Host] {
			g.virtualService(v)
		}
	}
}

// virtualService adds a VirtualService, the services that its hosts overlap with, and
// those that it routes to.
func (g *gathering) virtualService(v *VirtualService) {
	if g.virtual[v] {
		return
	}
	g.virtual[v] = true
	for _, h := range slices.Concat(v.Hosts, sniOf(v), destinationsOf(v, g.snapshot.domain)) {
		g.host(h)
		parents(h, func(w string) bool { g.host(w); return false })
	}
	for _, h := range v.Hosts {
		for _, short := range shortForms(h, g.snapshot.domain) {
			g.host(short)
		}
		if !IsWildcard(h) {
			continue
		}
		g.keys[underKey+h] = true
		for _, at := range g.index.under(g.snapshot.services, h) {
			g.service(at)
		}
	}
}

// to adds the VirtualServices that route to a host, without what they lead to: a service
// that a Sidecar does not import has clusters where one of them routes to it.
func (g *gathering) to(host string) {
	g.keys[toKey+host] = true
	for _, v := range g.index.virtual.to[host] {
		g.virtual[v] = true
	}
}

// shortForms are the shorter names of a host of the mesh that clients may use.
func shortForms(host, domain string) []string {
	rest, ok := strings.CutSuffix(host, ".svc."+domain)
	if !ok || IsWildcard(host) {
		return nil
	}
	name, _, _ := strings.Cut(rest, ".")
	return []string{name, rest, rest + ".svc"}
}
