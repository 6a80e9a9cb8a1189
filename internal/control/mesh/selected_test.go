package mesh

import (
	"slices"
	"strings"
	"testing"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// WorkloadEntries and pods are one to who selects them; a Service of Kubernetes finds its pods
// by its EndpointSlices, and the WorkloadEntries here.
func TestWhoSelectsWorkloads(t *testing.T) {
	const entry = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: cache, namespace: apps}
spec:
  hosts: [cache.apps.example]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 6379, name: tcp, protocol: TCP}]
  workloadSelector: {labels: {app: cache}}
---
`
	const vm = `
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm, namespace: apps}
spec: {address: 192.0.2.7, labels: {app: cache}, ports: {tcp: 6380}}
`
	pods := []Endpoint{
		{Address: "10.1.0.1", Namespace: "apps", Labels: map[string]string{"app": "cache"}},
		{Address: "10.1.0.2", Namespace: "apps", Labels: map[string]string{"app": "web"}},
		{Address: "10.1.0.3", Namespace: "other", Labels: map[string]string{"app": "cache"}},
	}
	service := &Service{
		Host: "cache.apps.svc.cluster.local", Namespace: "apps", Registry: RegistryKubernetes, Selector: map[string]string{"app": "cache"}, Resolution: ResolutionStatic,
		Ports:     []Port{{Number: 6379, TargetPort: 6379, Name: "tcp", Protocol: ProtocolTCP}},
		Endpoints: []Endpoint{{Address: "10.1.0.1", Namespace: "apps", Bound: true, Ports: map[string]uint32{"tcp": 6379}}},
	}
	decode := func(yaml string) istioapi.Objects {
		objects, problems := istioapi.Rules{Pods: true}.Decode("f.yaml", []byte(yaml))
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		return objects
	}
	build := func(yaml string, previous *Snapshot) *Snapshot {
		s, _ := New(decode(yaml), Options{Pods: true, Workloads: pods, BuiltIn: []*Service{service}, Previous: previous})
		return s
	}
	addresses := func(s *Snapshot, host string) string {
		var out []string
		for _, svc := range s.Services() {
			for _, e := range svc.Endpoints {
				if n, ok := e.Port(svc.Ports[0]); ok && svc.Host == host {
					out = append(out, e.Address+" "+strings.Repeat("+", int(n-6379)))
				}
			}
		}
		return strings.TrimSpace(strings.Join(out, ", "))
	}
	both, none := build(entry+vm, nil), build("", nil)
	if got := addresses(both, "cache.apps.example"); got != "192.0.2.7 +, 10.1.0.1" {
		t.Errorf("the ServiceEntry has %q", got)
	}
	const host = "cache.apps.svc.cluster.local"
	if got := addresses(both, host); got != "10.1.0.1 , 192.0.2.7 +" {
		t.Errorf("the Service has %q", got)
	}
	if got := addresses(build("", both), host); got != "10.1.0.1" {
		t.Errorf("without the WorkloadEntry the Service has %q", got)
	}
	if s := build("", none); s.Services()[0] != none.Services()[0] {
		t.Error("a Service that nothing happened to was made again")
	}
	if d := Diff(both, build(entry+vm, both)); !d.None() {
		t.Errorf("nothing has changed: %v", d)
	}
	if d := Diff(none, both); !slices.Contains(d.Keys, host) {
		t.Errorf("the Service's endpoints have changed: %v", d)
	}
	n := Node{Type: NodeSidecar, Namespace: "apps", Labels: map[string]string{"app": "cache"}}
	entryAlone, _ := New(decode(entry), Options{Pods: true, Workloads: pods})
	if in := entryAlone.Inbound(n); len(in) != 1 || in[0].Target != 6379 {
		t.Errorf("a selected pod takes %v", in)
	}
}
