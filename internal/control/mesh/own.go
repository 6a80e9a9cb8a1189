package mesh

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// Inbound is a port on which a workload takes connections, with what says so.
type Inbound struct {
	Service *Service // nil: only a Sidecar's ingress says so
	Port    Port
	Target  uint32 // of the workload
	// Sidecar has the ingress that says how; nil: the service does.
	Sidecar *istioapi.Sidecar
	// Endpoint is its defaultEndpoint; not valid: where the connection was going.
	Endpoint netip.AddrPort
}

// Inbound lists the ports of the node's workload, one per target port, in the order of the
// ports: those of its Sidecar's ingress where there is one, which then says all, else those of
// the services that have the workload. As in Istio the oldest service decides what a port
// speaks. Sidecars on one machine take none.
func (s *Snapshot) Inbound(n Node) []Inbound {
	if !s.pods || n.Type != NodeSidecar {
		return nil
	}
	declared := s.declared(n)
	c := s.sidecar(n)
	if c == nil || len(c.Spec.GetIngress()) == 0 {
		return declared
	}
	var out []Inbound
	for _, l := range c.Spec.GetIngress() {
		number := l.GetPort().GetNumber()
		if Reserved(number) {
			continue
		}
		in := Inbound{Sidecar: c, Target: number, Port: Port{
			Number: number, Name: l.GetPort().GetName(), Protocol: ProtocolOf(l.GetPort().GetProtocol()), Declared: l.GetPort().GetProtocol(),
		}}
		if i := slices.IndexFunc(declared, func(d Inbound) bool { return d.Target == number }); i >= 0 {
			in.Service = declared[i].Service
		}
		in.Endpoint, _ = istioapi.IngressEndpoint(l.GetDefaultEndpoint()) // validated
		out = append(out, in)
	}
	slices.SortStableFunc(out, func(a, b Inbound) int { return cmp.Compare(a.Target, b.Target) })
	return out
}

// declared are the ports of the services that have the node's workload.
func (s *Snapshot) declared(n Node) []Inbound {
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
	switch {
	case p.TargetPort != 0:
		return p.TargetPort
	case svc.Registry == RegistryServiceEntry && len(svc.Selector) > 0:
		return p.Number
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
