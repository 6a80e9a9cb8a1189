package discovery_test

import (
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/egret-mesh/egret/internal/control/discovery"
	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/control/source"
)

type fixed struct{ state *source.State }

func (f fixed) Current() *source.State { return f.state }

func (f fixed) Subscribe() (<-chan *source.State, func()) {
	return make(chan *source.State), func() {}
}

// What /debug tells is what is in force, in istiod's names.
func TestDebug(t *testing.T) {
	objects, problems := istioapi.Decode("one.yaml", []byte(`
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: one, namespace: apps, labels: {team: a}}
spec:
  hosts: [one.example.com]
  ports: [{number: 443, name: tls, protocol: TLS}]
  resolution: STATIC
  endpoints: [{address: 192.0.2.1, locality: r1/z1, labels: {v: "1"}}]
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	web := &mesh.Service{
		Host: "web.apps.svc.cluster.local", Namespace: "apps", Registry: mesh.RegistryKubernetes, Internal: true,
		Source: istioapi.Ref{Kind: "Service", Namespace: "apps", Name: "web"}, Resolution: mesh.ResolutionStatic,
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.96.0.7/32")}, Ports: []mesh.Port{{Number: 80, Name: "http", Protocol: mesh.ProtocolHTTP, Declared: "HTTP"}},
		Endpoints: []mesh.Endpoint{{Address: "10.1.0.1", Ports: map[string]uint32{"http": 8080}, ServiceAccount: "web", Namespace: "apps", Bound: true}},
	}
	s := discovery.New(discovery.Options{
		Source: fixed{&source.State{Objects: objects, Sequence: 1}},
		Mesh:   func(istioapi.Objects) mesh.Options { return mesh.Options{BuiltIn: []*mesh.Service{web}} },
	})
	configs, err := s.Configs()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		told any
		want string
	}{
		{"registryz", s.Registry(), `[{"Attributes":{"ServiceRegistry":"Kubernetes","Name":"web","Namespace":"apps"},"ports":[{"name":"http","port":80,"protocol":"HTTP"}],` +
			`"hostname":"web.apps.svc.cluster.local","defaultAddress":"10.96.0.7","Resolution":0,"MeshExternal":false},` +
			`{"Attributes":{"ServiceRegistry":"External","Name":"one","Namespace":"apps"},"ports":[{"name":"tls","port":443,"protocol":"TLS"}],` +
			`"hostname":"one.example.com","defaultAddress":"0.0.0.0","autoAllocatedIPv4Address":"` + s.Registry()[1].AutoAllocatedIPv4Address + `","Resolution":0,"MeshExternal":true}]`},
		{"endpointz", s.Endpoints(), `[{"svc":"web.apps.svc.cluster.local:http","ep":[{"Addresses":["10.1.0.1"],"EndpointPort":8080,"ServicePortName":"http",` +
			`"ServiceAccount":"web","Namespace":"apps","Locality":{"Label":""},"LbWeight":1}]},` +
			`{"svc":"one.example.com:tls","ep":[{"Addresses":["192.0.2.1"],"EndpointPort":443,"ServicePortName":"tls","Labels":{"v":"1"},"Locality":{"Label":"r1/z1"},"LbWeight":1}]}]`},
		{"adsz", s.Clients(), `{"totalClients":0,"clients":[]}`},
	} {
		got, err := json.Marshal(test.told)
		if err != nil || string(got) != test.want {
			t.Errorf("%s:\n%s, %v; want\n%s", test.name, got, err, test.want)
		}
	}
	if len(configs) != 1 || configs[0].Kind != "ServiceEntry" || configs[0].Metadata.Labels["team"] != "a" {
		t.Errorf("configz: %+v", configs)
	}
	var spec struct{ Hosts []string }
	if err := json.Unmarshal(configs[0].Spec, &spec); err != nil || len(spec.Hosts) != 1 || spec.Hosts[0] != "one.example.com" {
		t.Errorf("configz: %s, %v", configs[0].Spec, err)
	}
}
