package mesh

import (
	"net/netip"
	"strings"
	"sync"
)

// index finds services and VirtualServices by name. It is made when first asked for.
type index struct {
	once sync.Once
	// Places in Snapshot.services: by host, by address, and by each wildcard that the
	// host is under.
	byHost, byAddress, under map[string][]int
	virtual                  virtualIndex
}

// virtualIndex finds VirtualServices of the mesh gateway.
type virtualIndex struct {
	byHost, under, bySNI map[string][]*VirtualService
	// to has those that route to a host.
	to map[string][]*VirtualService
}

func (s *Snapshot) index() *index {
	s.indexed.once.Do(func() { s.indexed.fill(s) })
	return s.indexed
}

func (x *index) fill(s *Snapshot) {
	x.byHost, x.byAddress = make(map[string][]int, len(s.services)), map[string][]int{}
	x.under = map[string][]int{}
	x.virtual = virtualIndex{
		byHost: map[string][]*VirtualService{}, under: map[string][]*VirtualService{},
		bySNI: map[string][]*VirtualService{}, to: map[string][]*VirtualService{},
	}
	wildcards := false
	for _, v := range s.byGateway[MeshGateway] {
		x.virtual.add(v, s.domain)
		for _, h := range v.Hosts {
			wildcards = wildcards || IsWildcard(h)
		}
	}
	places := make([]int, len(s.services)) // so that a list of one costs nothing
	for i, svc := range s.services {
		places[i] = i
		if list := x.byHost[svc.Host]; list == nil {
			x.byHost[svc.Host] = places[i : i+1 : i+1]
		} else {
			x.byHost[svc.Host] = append(list, i)
		}
		for _, a := range addressesOf(svc) {
			x.byAddress[a] = append(x.byAddress[a], i)
		}
		if wildcards {
			parents(svc.Host, func(w string) bool {
				x.under[w] = append(x.under[w], i)
				return false
			})
		}
	}
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
