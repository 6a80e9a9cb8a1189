package analyze

import (
	"fmt"
	"slices"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
)

// bound is a VirtualService as the mesh sees it, and the Gateways it is bound to.
type bound struct {
	*mesh.VirtualService
	gateways []string
}

func resolve(v *istioapi.VirtualService) bound {
	b := bound{VirtualService: &mesh.VirtualService{VirtualService: v}}
	for _, h := range v.Spec.GetHosts() {
		b.Hosts = append(b.Hosts, mesh.ResolveHost(h, v.Namespace, domain))
	}
	for _, g := range v.Spec.GetGateways() {
		b.gateways = append(b.gateways, mesh.ResolveGateway(g, v.Namespace))
	}
	if len(b.gateways) == 0 {
		b.gateways = []string{mesh.MeshGateway}
	}
	return b
}

func (a *analysis) gateways() {
	users := make(map[string][]bound)
	for _, v := range a.objects.VirtualServices {
		b := resolve(v)
		for _, g := range b.gateways {
			users[g] = append(users[g], b)
		}
	}
	for _, g := range a.objects.Gateways {
		a.gatewaySelector(g)
		for i, server := range g.Spec.GetServers() {
			for j, h := range mesh.ServerHosts(g, server) {
				routed := slices.ContainsFunc(users[g.Namespace+"/"+g.Name], func(v bound) bool {
					return len(mesh.Intersect([]mesh.ServerHost{h}, v.VirtualService)) > 0
				})
				if !routed {
					a.add(istioapi.Warning, &g.Meta, CodeUnboundGatewayHost, fmt.Sprintf("spec.servers[%d].hosts[%d]", i, j),
						"no VirtualService with gateway %q routes %q: what comes for it is refused", g.Name, h.Host)
				}
			}
		}
	}
}

func (a *analysis) gatewaySelector(g *istioapi.Gateway) {
	selector := g.Spec.GetSelector()
	if a.snapshot.Pods() {
		if !slices.ContainsFunc(a.services, func(s *mesh.Service) bool { return hasPod(s, selector) }) {
			a.add(istioapi.Warning, &g.Meta, CodeNoGatewayWorkload, "spec.selector", "selects no pod that is ready behind a Service")
		}
		return
	}
	if mesh.SelectedBy(selector, gatewayLabels()) {
		return
	}
	hint := ""
	if selector["istio"] == "ingressgateway" {
		hint = "; egret has no ingress gateway"
	}
	a.add(istioapi.Warning, &g.Meta, CodeNoGatewayWorkload, "spec.selector",
		"selects no gateway%s. The egress gateway has the label istio=egressgateway", hint)
}

// hasPod says whether a selector selects one of a Service's endpoints.
func hasPod(s *mesh.Service, selector map[string]string) bool {
	return s.Registry == mesh.RegistryKubernetes && slices.ContainsFunc(s.Endpoints, func(e mesh.Endpoint) bool { return mesh.SelectedBy(selector, e.Labels) })
}
