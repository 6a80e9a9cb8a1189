package mesh

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// The ports of a sidecar's own listeners: what the workload sends, and what comes to it, is
// redirected there.
const (
	CapturePort = 15001
	InboundPort = 15006
)

// CodeReservedPort is the code of the problem that a service's port is one of these.
const CodeReservedPort = "reserved_port"

// Reserved: a listener for every address on the port would be in the place of the sidecar's
// own, so there is none, as in Istio (conflictWithReservedListener in istio/istio
// pilot/pkg/model).
func Reserved(port uint32) bool { return port == CapturePort || port == InboundPort }

// reservedProblems tells which services have a port that is not served for that.
func (s *Snapshot) reservedProblems() []istioapi.Problem {
	var out []istioapi.Problem
	for _, svc := range s.services {
		for _, p := range svc.Ports {
			if !Reserved(p.Number) || !svc.everyAddress(p) {
				continue
			}
			out = append(out, istioapi.Problem{
				Severity: istioapi.Warning, Code: CodeReservedPort, Object: svc.Source, Field: "spec.ports",
				Message: fmt.Sprintf("port %d is a sidecar's own: workloads that have one cannot call it there; use another number, or TCP at an address", p.Number),
			})
		}
	}
	return out
}

// everyAddress: the port is told from others by what is said, not by the address.
func (svc *Service) everyAddress(p Port) bool {
	if p.Protocol == ProtocolHTTP || len(svc.Addresses) == 0 && !svc.listensByEndpoint() {
		return true
	}
	return slices.ContainsFunc(svc.Addresses, func(a netip.Prefix) bool { return !a.IsSingleIP() })
}
