package mesh

import (
	"slices"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// VirtualService is the object with its names resolved.
type VirtualService struct {
	*istioapi.VirtualService
	Hosts    []string // fully qualified, lower case
	Gateways []string // "mesh" or "namespace/name"

	visible visibility
	order   int
}

// Host resolves a destination's host name in this object's namespace.
func (v *VirtualService) Host(name, domain string) string {
	return ResolveHost(name, v.Namespace, domain)
}

// BoundTo reports whether one of gateways (a match's list, as written) is gateway
// ("mesh" or "namespace/name"). An empty list means all of the object's gateways.
func (v *VirtualService) BoundTo(gateways []string, gateway string) bool {
	if len(gateways) == 0 {
		return true
	}
	for _, g := range gateways {
		if ResolveGateway(g, v.Namespace) == gateway {
			return true
		}
	}
	return false
}

func (s *Snapshot) indexVirtualServices(objects []*istioapi.VirtualService) {
	s.byGateway = map[string][]*VirtualService{}
	sorted := byAge(objects, func(v *istioapi.VirtualService) *istioapi.Meta { return &v.Meta })
	for i, o := range sorted {
		v := &VirtualService{
			VirtualService: o,
			Gateways:       []string{MeshGateway},
			visible:        newVisibility(o.Spec.GetExportTo(), s.config.GetDefaultVirtualServiceExportTo(), o.Namespace),
			order:          i,
		}
		for _, h := range o.Spec.GetHosts() {
			v.Hosts = append(v.Hosts, ResolveHost(h, o.Namespace, s.domain))
		}
		if len(v.Hosts) == 0 {
			continue // a delegate: it has no life of its own
		}
		if len(o.Spec.GetGateways()) > 0 {
			v.Gateways = nil
			for _, g := range o.Spec.GetGateways() {
				if g = ResolveGateway(g, o.Namespace); !slices.Contains(v.Gateways, g) {
					v.Gateways = append(v.Gateways, g)
				}
			}
		}
		s.virtual = append(s.virtual, v)
		for _, g := range v.Gateways {
			s.byGateway[g] = append(s.byGateway[g], v)
		}
	}
}

// VirtualServices that are bound to gateway ("mesh" or "namespace/name") and visible
// in namespace, in Istio's order: those private to the namespace first, then those
// exported to it by name, then public ones with the namespace's own before others';
// oldest first in each group.
func (s *Snapshot) VirtualServices(gateway, namespace string) []*VirtualService {
	var groups [4][]*VirtualService
	for _, v := range s.byGateway[gateway] {
		switch {
		case !v.visible.to(namespace):
		case v.visible.onlyTo(namespace) && v.Namespace == namespace:
			groups[0] = append(groups[0], v)
		case !v.visible.all:
			groups[1] = append(groups[1], v)
		case v.Namespace == namespace:
			groups[2] = append(groups[2], v)
		default:
			groups[3] = append(groups[3], v)
		}
	}
	return slices.Concat(groups[:]...)
}

// HostIndex finds VirtualServices by host without looking at each.
type HostIndex struct {
	list []*VirtualService
	// as written (also wildcards), and by each parent ("*.b.c" for "a.b.c").
	written map[string][]int
	under   map[string][]int
}

// NewHostIndex indexes list, whose order is kept in every answer.
func NewHostIndex(list []*VirtualService) *HostIndex {
	x := &HostIndex{list: list, written: map[string][]int{}, under: map[string][]int{}}
	for i, v := range list {
		for _, h := range v.Hosts {
			x.written[h] = append(x.written[h], i)
			parents(h, func(wildcard string) bool {
				x.under[wildcard] = append(x.under[wildcard], i)
				return false
			})
		}
	}
	return x
}

// Overlapping lists the VirtualServices of which a host overlaps with host.
func (x *HostIndex) Overlapping(host string) []*VirtualService {
	if len(x.list) == 0 {
		return nil
	}
	found := slices.Clone(x.written[host])
	parents(host, func(wildcard string) bool {
		found = append(found, x.written[wildcard]...)
		return false
	})
	if IsWildcard(host) {
		found = append(found, x.under[host]...)
	}
	if len(found) == 0 {
		return nil
	}
	slices.Sort(found)
	found = slices.Compact(found)
	out := make([]*VirtualService, len(found))
	for i, n := range found {
		out[i] = x.list[n]
	}
	return out
}

// Best lists the VirtualServices whose most specific host covers host: those that
// name it, else those with the longest wildcard.
func (x *HostIndex) Best(host string) []*VirtualService {
	if len(x.list) == 0 {
		return nil
	}
	found := x.written[host]
	if len(found) == 0 {
		parents(host, func(wildcard string) bool {
			found = x.written[wildcard]
			return len(found) > 0
		})
	}
	out := make([]*VirtualService, 0, len(found))
	for _, n := range found {
		out = append(out, x.list[n])
	}
	return out
}
