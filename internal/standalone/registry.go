package standalone

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/data/instance"
)

const (
	gatewayHost      = "istio-egressgateway.istio-system.svc.cluster.local"
	gatewayName      = "istio-egressgateway"
	gatewayNamespace = "istio-system"
)

var gatewayLabels = map[string]string{"istio": "egressgateway", "app": gatewayName}

// Registry is what the mesh on one machine adds to the objects of the user: the
// egress gateway's service. It has the ports 80 and 443 of Istio's demo profile, and
// each further port that a Gateway of the user opens on it.
func Registry(objects istioapi.Objects) mesh.Options {
	ports := []mesh.Port{
		{Number: 80, TargetPort: 8080, Name: "http", Protocol: mesh.ProtocolHTTP, Declared: "HTTP"},
		{Number: 443, TargetPort: 8443, Name: "https", Protocol: mesh.ProtocolHTTPS, Declared: "HTTPS"},
	}
	for _, g := range objects.Gateways {
		if !mesh.SelectedBy(g.Spec.GetSelector(), gatewayLabels) {
			continue
		}
		for _, s := range g.Spec.GetServers() {
			p := s.GetPort()
			if p == nil || slices.ContainsFunc(ports, func(have mesh.Port) bool {
				return have.Number == p.GetNumber() || have.TargetPort == p.GetNumber()
			}) {
				continue
			}
			ports = append(ports, mesh.Port{
				Number: p.GetNumber(), Name: fmt.Sprintf("port-%d", p.GetNumber()),
				Protocol: mesh.ProtocolOf(p.GetProtocol()), Declared: p.GetProtocol(),
			})
		}
	}
	return mesh.Options{AccessLogFile: instance.StandardLog, FilterGatewayClusters: true, BuiltIn: []*mesh.Service{{
		Host:       gatewayHost,
		Namespace:  gatewayNamespace,
		Source:     istioapi.Ref{Kind: "Service", Namespace: gatewayNamespace, Name: gatewayName},
		Ports:      ports,
		Resolution: mesh.ResolutionStatic,
		Addresses:  []netip.Prefix{netip.PrefixFrom(gatewayServiceAddress, 32)},
		Endpoints:  []mesh.Endpoint{{Address: gatewayAddress.String(), Labels: gatewayLabels, Weight: 1}},
		Internal:   true,
		// The gateway is a proxy too: gRPC must reach it as HTTP/2, and HTTP/1 costs less as it is.
		ClientProtocol: true,
	}}}
}

// SidecarNode is the workload's proxy.
func SidecarNode(w Workload) mesh.Node {
	return mesh.Node{
		ID:         fmt.Sprintf("sidecar~%s~%s.%s~%s.svc.cluster.local", workloadAddress, w.Name, w.Namespace, w.Namespace),
		Type:       mesh.NodeSidecar,
		Name:       w.Name,
		Namespace:  w.Namespace,
		Labels:     w.Labels,
		Addresses:  []netip.Addr{workloadAddress},
		DNSCapture: true,
	}
}

// GatewayNode is the egress gateway.
func GatewayNode() mesh.Node {
	return mesh.Node{
		ID:        fmt.Sprintf("router~%s~%s.%s~%s.svc.cluster.local", gatewayAddress, gatewayName, gatewayNamespace, gatewayNamespace),
		Type:      mesh.NodeRouter,
		Name:      gatewayName,
		Namespace: gatewayNamespace,
		Labels:    gatewayLabels,
		Addresses: []netip.Addr{gatewayAddress},
	}
}
