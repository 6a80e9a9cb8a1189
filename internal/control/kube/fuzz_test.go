package kube

import (
	"encoding/json"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/control/xdsgen"
	"github.com/egret-mesh/egret/internal/xdstest"
)

// Whatever a Service, its slices and pods are, what proxies are told is taken by them, and has
// no endpoint that is no address.
func FuzzServices(f *testing.F) {
	const onePod = `{"metadata":{"name":"a","namespace":"apps","labels":{"app":"web"}},"spec":{"serviceAccountName":"web","nodeName":"n1"}}`
	f.Add(`{"metadata":{"name":"web","namespace":"apps"},"spec":{"clusterIP":"10.96.0.7","ports":[{"name":"http","port":80,"targetPort":8080}]}}`,
		`{"metadata":{"name":"s","namespace":"apps","labels":{"kubernetes.io/service-name":"web"}},"addressType":"IPv4","ports":[{"name":"http","port":8080}],
			"endpoints":[{"addresses":["10.1.0.1"],"conditions":{"ready":true},"nodeName":"n1","targetRef":{"kind":"Pod","namespace":"apps","name":"a"}}]}`, onePod)
	f.Add(`{"metadata":{"name":"db","namespace":"apps","annotations":{"networking.istio.io/exportTo":"., other"}},"spec":{"clusterIP":"None","publishNotReadyAddresses":true,
			"ipFamilies":["IPv6"],"ports":[{"port":5432,"appProtocol":"kubernetes.io/h2c"},{"name":"udp","port":53,"protocol":"UDP"}]}}`,
		`{"metadata":{"name":"s","namespace":"apps","labels":{"kubernetes.io/service-name":"db"}},"addressType":"IPv6","ports":[{"port":5432}],
			"endpoints":[{"addresses":["fd00::1"],"hostname":"db-0"},{"addresses":["fd00::2"],"conditions":{"ready":false}}]}`, onePod)
	// An API server without StrictIPCIDRValidation (KEP-4858) takes leading zeros, and what they
	// mean depends on who reads them.
	f.Add(`{"metadata":{"name":"web","namespace":"apps"},"spec":{"clusterIP":"10.96.0.7","ports":[{"name":"http","port":80}]}}`,
		`{"metadata":{"name":"s","namespace":"apps","labels":{"kubernetes.io/service-name":"web"}},"addressType":"IPv4","ports":[{"name":"http","port":8080}],
			"endpoints":[{"addresses":["010.001.000.001"]}]}`, onePod)
	f.Add(`{"metadata":{"name":"away","namespace":"apps"},"spec":{"type":"ExternalName","externalName":"db.example.com","ports":[{"name":"tls","port":443}]}}`, `{}`, `{}`)
	f.Fuzz(func(t *testing.T, serviceText, sliceText, podText string) {
		var s corev1.Service
		var e discoveryv1.EndpointSlice
		var p corev1.Pod
		if json.Unmarshal([]byte(serviceText), &s) != nil || json.Unmarshal([]byte(sliceText), &e) != nil || json.Unmarshal([]byte(podText), &p) != nil {
			t.Skip()
		}
		if !isName(s.Name) || !isName(s.Namespace) {
			t.Skip() // the API server sees to names
		}
		at := fixedPlaces{pods: map[string]*pod{p.Namespace + "/" + p.Name: podOf(&p, nil)}, nodes: map[string]string{"n1": "r1/z1"}}
		made := serviceOf(&s, nil)
		var parts []*slice
		if one := sliceOf(&e, nil); one != nil {
			parts = append(parts, one)
		}
		m := meshService(made, "cluster.local", endpointsOf(made, parts, at))
		for _, endpoint := range m.Endpoints {
			if _, err := netip.ParseAddr(endpoint.Address); err != nil {
				t.Errorf("the endpoint %q", endpoint.Address)
			}
		}
		if m.Host != s.Name+"."+s.Namespace+".svc.cluster.local" {
			t.Errorf("the host %q", m.Host)
		}
		snapshot, _ := mesh.New(istioapi.Objects{}, mesh.Options{BuiltIn: []*mesh.Service{m}, Pods: true})
		for _, node := range []mesh.Node{
			{ID: "sidecar~10.1.0.1~a.apps~apps.svc.cluster.local", Type: mesh.NodeSidecar, Name: "a", Namespace: "apps", Labels: p.Labels, Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.1")}, DNSCapture: true},
			{ID: "router~10.1.0.9~g.istio-system~istio-system.svc.cluster.local", Type: mesh.NodeRouter, Name: "g", Namespace: "istio-system"},
		} {
			all, err := xdsgen.Generate(snapshot, node)
			if err != nil {
				t.Fatal(err)
			}
			for _, refused := range xdstest.Refused(all) {
				t.Errorf("%s: %s", node.ID, refused)
			}
		}
	})
}

func isName(s string) bool { return len(validation.IsDNS1123Label(s)) == 0 }
