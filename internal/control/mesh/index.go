package mesh

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// index finds services and VirtualServices by name. It is made when first asked for.
type index struct {
	once    sync.Once
	virtual virtualIndex
	*serviceIndex
}

// serviceIndex has places in Snapshot.services: by host, by address, and by each wildcard
// that the host is under. Snapshots share it where each place has the same names.
type serviceIndex struct {
	byName, byWildcard          sync.Once
	byHost, byAddress, byParent map[string][]int
}

// newIndex is the index for services; previous may be nil.
func newIndex(previous *Snapshot, services []*Service) *index {
	if previous == nil || !slices.EqualFunc(previous.services, services, func(x, y *Service) bool {
		return x == y || slices.Equal(x.hosts(), y.hosts()) && slices.Equal(x.Addresses, y.Addresses) && slices.Equal(x.AutoAddresses, y.AutoAddresses)
	}) {
		return &index{serviceIndex: &serviceIndex{}}
	}
	return &index{serviceIndex: previous.indexed.serviceIndex}
}

// virtualIndex finds VirtualServices of the mesh gateway.
type virtualIndex struct {
	byHost, under, bySNI map[string][]*VirtualService
	// to has those that route to a host.
	to map[string][]*VirtualService
}

func (s *Snapshot) index() *index {
	s.indexed.once.Do(func() { s.indexed.virtual.fill(s) })
	s.indexed.byName.Do(func() { s.indexed.fill(s.services) })
	return s.indexed
}

func (x *virtualIndex) fill(s *Snapshot) {
	*x = virtualIndex{
		byHost: map[string][]*VirtualService{}, under: map[string][]*VirtualService{},
		bySNI: map[string][]*VirtualService{}, to: map[string][]*VirtualService{},
	}
	for _, v := range s.byGateway[MeshGateway] {
		x.add(v, s.domain)
	}
}

func (x *serviceIndex) fill(services []*Service) {
	x.byHost, x.byAddress = make(map[string][]int, len(services)), map[string][]int{}
	places := make([]int, len(services)) // so that a list of one costs nothing
	for i, svc := range services {
		places[i] = i
		for _, host := range svc.hosts() {
			if list := x.byHost[host]; list == nil {
				x.byHost[host] = places[i : i+1 : i+1]
			} else {
				x.byHost[host] = append(list, i)
			}
		}
		for _, a := range addressesOf(svc) {
			x.byAddress[a] = append(x.byAddress[a], i)
		}
	}
}

// hosts are the names that a service is found by: its host, its aliases, and for a headless
// Service those of its pods.
func (s *Service) hosts() []string {
	if !s.Headless {
		return append([]string{s.Host}, s.Aliases...)
	}
	out := append([]string{s.Host, "*." + s.Host}, s.Aliases...)
	if rest, _, ok := strings.Cut(s.Host, ".svc."); ok { // as a client's search path completes them
		name, _, _ := strings.Cut(rest, ".")
		out = append(out, "*."+name, "*."+rest, "*."+rest+".svc")
	}
	for i := range s.Endpoints {
		if h := s.Endpoints[i].Hostname; h != "" && !slices.Contains(out, h+"."+s.Host) {
			out = append(out, h+"."+s.Host)
		}
	}
	return out
}

// under are the places of the services that are under a wildcard.
func (x *serviceIndex) under(services []*Service, wildcard string) []int {
	x.byWildcard.Do(func() {
		x.byParent = map[string][]int{}
		for i, svc := range services {
			parents(svc.Host, func(w string) bool {
				x.byParent[w] = append(x.byParent[w], i)
				return false
			})
		}
	})
	return x.byParent[wildcard]
}

func (x *virtualIndex) add(v *VirtualService, domain string) {
	for _, h := range v.Hosts {
		x.byHost[h] = append(x.byHost[h], v)
		parents(h, func(w string) bool {
			x.under[w] = append(x.under[w], v)
			return false
		})
	}
	for _, n := range sniOf(v) {
		x.bySNI[n] = append(x.bySNI[n], v)
	}
	for _, d := range destinationsOf(v, domain) {
		x.to[d] = append(x.to[d], v)
	}
}

// sniOf are the server names that a VirtualService's tls matches have, in lower case.
func sniOf(v *VirtualService) []string {
	var out []string
	for _, r := range v.Spec.GetTls() {
		for _, m := range r.GetMatch() {
			for _, n := range m.GetSniHosts() {
				out = append(out, strings.ToLower(n))
			}
		}
	}
	return out
}

// addressesOf are the addresses that may stand for a service in a Host header.
func addressesOf(s *Service) []string {
	var out []string
	add := func(a netip.Addr) { out = append(out, a.String()) }
	for _, p := range s.Addresses {
		if p.IsSingleIP() {
			add(p.Addr())
		}
	}
	for _, a := range s.AutoAddresses {
		add(a)
	}
	return out
}
