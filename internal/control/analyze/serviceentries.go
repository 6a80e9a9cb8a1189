package analyze

import (
	"fmt"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
)

func (a *analysis) serviceEntries() {
	a.duplicateHosts()
	shared := make(map[uint32]*istioapi.ServiceEntry)
	for _, e := range a.objects.ServiceEntries {
		a.endpoints(e)
		for i, p := range e.Spec.GetPorts() {
			at := fmt.Sprintf("spec.ports[%d]", i)
			a.portProtocol(e, p, at)
			a.tcpPort(e, p, at, shared)
		}
	}
}

// duplicateHosts finds hosts that two ServiceEntries of a namespace have. Istio unites
// them when they agree, and otherwise takes the older one.
func (a *analysis) duplicateHosts() {
	first := make(map[string]*istioapi.ServiceEntry)
	for _, e := range a.objects.ServiceEntries {
		for i, h := range e.Spec.GetHosts() {
			key := e.Namespace + "/" + strings.ToLower(h)
			other := first[key]
			switch {
			case other == nil:
				first[key] = e
			case other == e:
			case other.Spec.GetResolution() == e.Spec.GetResolution():
				a.add(istioapi.Info, &e.Meta, CodeDuplicateHost, fmt.Sprintf("spec.hosts[%d]", i),
					"%q is also a host of %s (%s): their ports and endpoints are united", h, other.Ref, other.Position)
			default:
				a.add(istioapi.Warning, &e.Meta, CodeDuplicateHost, fmt.Sprintf("spec.hosts[%d]", i),
					"%q is also a host of %s (%s), with resolution %s instead of %s: only one of them is in force",
					h, other.Ref, other.Position, other.Spec.GetResolution(), e.Spec.GetResolution())
			}
		}
	}
}

func (a *analysis) endpoints(e *istioapi.ServiceEntry) {
	selector := e.Spec.GetWorkloadSelector().GetLabels()
	if len(selector) == 0 {
		return
	}
	for _, s := range a.byHost[strings.ToLower(e.Spec.GetHosts()[0])] {
		if s.Namespace == e.Namespace && len(s.Endpoints) > 0 {
			return
		}
	}
	a.add(istioapi.Warning, &e.Meta, CodeNoEndpoints, "spec.workloadSelector",
		"selects no WorkloadEntry, and no ready pod, in namespace %q: every call fails with no_healthy_upstream", e.Namespace)
}

func (a *analysis) portProtocol(e *istioapi.ServiceEntry, p *networking.ServicePort, at string) {
	protocol := mesh.ProtocolOf(p.GetProtocol())
	switch {
	case p.GetNumber() == 443 && protocol == mesh.ProtocolHTTP:
		a.add(istioapi.Warning, &e.Meta, CodePortProtocol, at+".protocol",
			"port 443 is declared %s, plain text: a client that speaks TLS there is refused. Declare HTTPS or TLS, unless a DestinationRule adds TLS to plain requests", p.GetProtocol())
	case p.GetNumber() == 80 && protocol.IsTLS():
		a.add(istioapi.Warning, &e.Meta, CodePortProtocol, at+".protocol",
			"port 80 is declared %s: plain HTTP there is refused. Declare HTTP", p.GetProtocol())
	}
}

// tcpPort finds TCP ports that nothing but the address tells apart.
func (a *analysis) tcpPort(e *istioapi.ServiceEntry, p *networking.ServicePort, at string, shared map[uint32]*istioapi.ServiceEntry) {
	if !mesh.ProtocolOf(p.GetProtocol()).MayBeTCP() || len(e.Spec.GetAddresses()) > 0 {
		return
	}
	if e.Spec.GetResolution() == networking.ServiceEntry_NONE {
		a.add(istioapi.Warning, &e.Meta, CodeTCPAnyAddress, at,
			"TCP port %d with resolution NONE and without addresses is open to every address, as in Istio: nothing in the bytes names the host. Give addresses, or declare HTTP or TLS", p.GetNumber())
		return
	}
	other := shared[p.GetNumber()]
	if other == nil {
		shared[p.GetNumber()] = e
		return
	}
	a.add(istioapi.Info, &e.Meta, CodeTCPPortShared, at,
		"TCP port %d without addresses is also in %s (%s): only the addresses that egret's DNS hands out keep them apart; where DNS is not captured, the one would be reached as the other",
		p.GetNumber(), other.Ref, other.Position)
}

// reserved passes on which services have a port that is a sidecar's own.
func (a *analysis) reserved(problems []istioapi.Problem) {
	for _, p := range problems {
		if p.Code != mesh.CodeReservedPort {
			continue
		}
		for _, e := range a.objects.ServiceEntries {
			if e.Ref == p.Object {
				p.Position = e.At(p.Field)
			}
		}
		a.problems = append(a.problems, p)
	}
}
