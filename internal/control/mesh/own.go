package mesh

import (
	"cmp"
	"net/netip"
	"slices"
)

// Inbound is a port on which a workload takes connections, with the service that says so.
type Inbound struct {
	Service *Service
	Port    Port
	Target  uint32 // of the workload
}

// Inbound lists the ports of the services that have the node's workload, one per target
// port, in the order of the ports: as in Istio the oldest service decides what a port
// speaks. Sidecars on one machine take none.
func (s *Snapshot) Inbound(n Node) []Inbound {
	if !s.pods || n.Type != NodeSidecar {
		return nil
	}
	var out []Inbound
	taken := map[uint32]bool{}
	for _, svc := range s.services {
		if !svc.selects(n) {
			continue
		}
		for _, p := range svc.Ports {
			target := svc.target(n, p)
			if target == 0 || taken[target] || Reserved(target) {
				continue
			}
			taken[target] = true
			out = append(out, Inbound{Service: svc, Port: p, Target: target})
		}
	}
	slices.SortStableFunc(out, func(a, b Inbound) int { return cmp.Compare(a.Target, b.Target) })
	return out
}

// selects: the node's workload is one of the service's pods.
func (svc *Service) selects(n Node) bool {
	return len(svc.Selector) > 0 && svc.Namespace == n.Namespace && subset(svc.Selector, n.Labels)
}

// target is the workload's port behind a service port; 0 where it is not known: a port with
// a name means what the pods' containers call so, which their endpoints tell.
func (svc *Service) target(n Node, p Port) uint32 {
	if p.TargetPort != 0 {
		return p.TargetPort
	}
	found := uint32(0)
	for i := range svc.Endpoints {
		e := &svc.Endpoints[i]
		port, ok := e.Port(p)
		if !ok {
			continue
		}
		if a, err := netip.ParseAddr(e.Address); err == nil && slices.Contains(n.Addresses, a) {
			return port
		}
		found = cmp.Or(found, port)
	}
	return found
}
