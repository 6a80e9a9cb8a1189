package xdsgen

import (
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/xds"
)

// A proxy that does not say where it is is where its pod is, so that what is near goes first.
func TestPlaceOfAProxy(t *testing.T) {
	near, far := kubeEndpoint("10.244.1.5", map[string]uint32{"http": 8000}, nil), kubeEndpoint("10.244.2.5", map[string]uint32{"http": 8000}, nil)
	near.Locality, far.Locality = "r1/z1", "r1/z2"
	w := world{options: mesh.Options{Pods: true, BuiltIn: []*mesh.Service{kubeService("default", "web", "10.96.7.7", []mesh.Port{kubePort(80, 8000, "http")}, far, near)}}, yaml: `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: default}
spec: {host: web, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 5}}}
`}
	places := map[string]string{"default/here": "r1/z1", "default/there": "r1/z2"}
	g := NewGenerator(w.snapshot(t), func(namespace, name string) string { return places[namespace+"/"+name] })
	for _, c := range []struct{ name, says, first string }{
		{"here", "", "10.244.1.5"}, {"there", "", "10.244.2.5"}, {"here", "r1/z2", "10.244.2.5"}, {"unknown", "", ""},
	} {
		n := EncodeNode(mesh.Node{Type: mesh.NodeSidecar, Name: c.name, Namespace: "default"}, "cluster.local")
		n.Locality = localityMessage(c.says)
		v, err := g.View(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		state, err := v.State()
		if err != nil {
			t.Fatal(err)
		}
		a := unpackAny[*endpointv3.ClusterLoadAssignment](t, state.All(xds.EndpointType)["outbound|80||web.default.svc.cluster.local"].Body)
		first, several := "", false
		for _, group := range a.GetEndpoints() {
			if group.GetPriority() == 0 {
				first, several = group.GetLbEndpoints()[0].GetEndpoint().GetAddress().GetSocketAddress().GetAddress(), first != ""
			}
		}
		if several {
			first = ""
		}
		if first != c.first {
			t.Errorf("%s, which says %q: %q goes first, want %q", c.name, c.says, first, c.first)
		}
		v.Leave()
	}
}

func localityMessage(text string) *corev3.Locality {
	parts := splitLocality(text)
	return &corev3.Locality{Region: parts[0], Zone: parts[1], SubZone: parts[2]}
}
