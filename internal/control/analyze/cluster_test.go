package analyze

import (
	"slices"
	"strings"
	"testing"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
)

// What only a cluster can tell: which pods a Gateway has, which ports they can open, and that
// there is no MeshConfig.
func TestInCluster(t *testing.T) {
	service := func(name string, port, target uint32, unprivileged bool) *mesh.Service {
		labels := map[string]string{"istio": name}
		return &mesh.Service{
			Host: name + ".istio-system.svc.cluster.local", Namespace: "istio-system", Registry: mesh.RegistryKubernetes, Selector: labels,
			Source: istioapi.Ref{Kind: "Service", Namespace: "istio-system", Name: name}, Resolution: mesh.ResolutionStatic, Internal: true,
			Ports:     []mesh.Port{{Number: port, TargetPort: target, Name: "http", Protocol: mesh.ProtocolHTTP}},
			Endpoints: []mesh.Endpoint{{Address: "10.244.0.5", Labels: labels, Namespace: "istio-system", Unprivileged: unprivileged}},
		}
	}
	services := []*mesh.Service{service("egressgateway", 80, 8080, true), service("root", 80, 80, false)}
	const config = "{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system}, data: {mesh: \"outboundTrafficPolicy: {mode: REGISTRY_ONLY}\"}}\n---\n"
	gateway := func(selector, port string) string {
		return "{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: g, namespace: default}, spec: {selector: {istio: " + selector +
			"}, servers: [{port: {number: " + port + ", name: http, protocol: HTTP}, hosts: [a.example.com]}]}}\n"
	}
	for name, c := range map[string]struct{ yaml, code, want string }{
		"a port that the Service maps": {config + gateway("egressgateway", "80"), "gateway_port_not_open", ""},
		"one that it does not":         {config + gateway("egressgateway", "82"), "gateway_port_not_open", "may not listen on port 82 (below 1024)"},
		"a high one":                   {config + gateway("egressgateway", "8082"), "gateway_port_not_open", ""},
		"of pods that may open it":     {config + gateway("root", "82"), "gateway_port_not_open", ""},
		"a gateway that is there":      {config + gateway("root", "80"), CodeNoGatewayWorkload, ""},
		"one that is not":              {config + gateway("nobody", "80"), CodeNoGatewayWorkload, "selects no pod"},
		"without MeshConfig":           {gateway("root", "80"), "no_mesh_config", "the policy is REGISTRY_ONLY"},
		"with MeshConfig":              {config, "no_mesh_config", ""},
	} {
		objects, problems := istioapi.Rules{Pods: true}.Decode("f.yaml", []byte(c.yaml))
		for _, p := range problems {
			if p.Severity == istioapi.Error {
				t.Fatal(p)
			}
		}
		found := InCluster(objects, mesh.Options{BuiltIn: services, Pods: true})
		i := slices.IndexFunc(found, func(p istioapi.Problem) bool { return p.Code == c.code })
		if (i >= 0) != (c.want != "") || i >= 0 && !strings.Contains(found[i].Message, c.want) {
			t.Errorf("%s: %v", name, found)
		}
	}
}
