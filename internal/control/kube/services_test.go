package kube

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/control/source"
)

func aService(name string, spec corev1.ServiceSpec) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "apps", CreationTimestamp: metav1.Time{Time: time.Unix(1, 0)}},
		Spec:       spec,
	}
}

func TestServiceOf(t *testing.T) {
	app := "grpc"
	for _, test := range []struct {
		name string
		in   corev1.ServiceSpec
		want mesh.Service
	}{
		{"cluster IPs of both families", corev1.ServiceSpec{
			ClusterIP: "10.96.0.7", ClusterIPs: []string{"10.96.0.7", "fd00::7"}, Selector: map[string]string{"app": "web"},
			Ports: []corev1.ServicePort{
				{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)},
				{Name: "named", Port: 81, TargetPort: intstr.FromString("web"), AppProtocol: &app},
			},
		}, mesh.Service{
			Resolution: mesh.ResolutionStatic, Selector: map[string]string{"app": "web"},
			Addresses: []netip.Prefix{netip.MustParsePrefix("10.96.0.7/32"), netip.MustParsePrefix("fd00::7/128")},
			Ports: []mesh.Port{
				{Number: 80, TargetPort: 8080, Name: "http", Protocol: mesh.ProtocolHTTP, Declared: "HTTP"},
				{Number: 81, Name: "named", Protocol: mesh.ProtocolHTTP, Declared: "GRPC"},
			},
		}},
		{"headless", corev1.ServiceSpec{ClusterIP: "None", ClusterIPs: []string{"None"}}, mesh.Service{Resolution: mesh.ResolutionStatic, Headless: true}},
		{"another name", corev1.ServiceSpec{Type: "ExternalName", ExternalName: "db.example.com", Selector: map[string]string{"a": "b"}},
			mesh.Service{Resolution: mesh.ResolutionDNS, ExternalName: "db.example.com"}},
	} {
		want := test.want
		want.Host, want.Namespace, want.Internal, want.Registry = "web.apps.svc.example.org", "apps", true, mesh.RegistryKubernetes
		want.Source, want.ExportTo = istioapi.Ref{Kind: "Service", Namespace: "apps", Name: "web"}, []string{".", "other"}
		in := aService("web", test.in)
		in.Annotations = map[string]string{exportToAnnotation: "., other"}
		if diff := cmp.Diff(&want, meshService(serviceOf(in, nil), "example.org", nil), cmpopts.IgnoreUnexported(mesh.Service{}), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}

type fixedPlaces struct {
	pods  map[string]*pod
	nodes map[string]string
}

func (p fixedPlaces) pod(k key) *pod              { return p.pods[k.namespace+"/"+k.name] }
func (p fixedPlaces) locality(node string) string { return p.nodes[node] }

func pointer[T any](v T) *T { return &v }

func aSlice(name, family string, port int32, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Namespace: "apps", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressType(family), Endpoints: endpoints,
		Ports: []discoveryv1.EndpointPort{{Name: pointer("http"), Port: &port}},
	}
}

func anEndpoint(address, podName string, ready *bool) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{
		Addresses: []string{address}, NodeName: pointer("n1"), Conditions: discoveryv1.EndpointConditions{Ready: ready},
		TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "apps", Name: podName},
	}
}

func TestEndpointsOf(t *testing.T) {
	at := fixedPlaces{
		pods: map[string]*pod{
			"apps/a": {labels: map[string]string{"app": "web"}, account: "web"},
			"apps/b": {labels: map[string]string{"app": "web"}, account: "web", locality: "elsewhere"},
		},
		nodes: map[string]string{"n1": "r1/z1"},
	}
	web := map[string]uint32{"http": 8080}
	a := mesh.Endpoint{Address: "10.1.0.1", Ports: web, Labels: map[string]string{"app": "web"}, Locality: "r1/z1", ServiceAccount: "web", Namespace: "apps", Bound: true}
	b := a
	b.Address, b.Locality = "10.1.0.2", "elsewhere"
	unknown := mesh.Endpoint{Address: "10.1.0.3", Ports: web, Locality: "r1/z1", Namespace: "apps", Bound: true}
	for _, test := range []struct {
		name   string
		s      service
		slices []*discoveryv1.EndpointSlice
		want   []mesh.Endpoint
	}{
		{"ready, not ready, not known", service{}, []*discoveryv1.EndpointSlice{aSlice("s", "IPv4", 8080,
			anEndpoint("10.1.0.2", "b", nil), anEndpoint("10.1.0.1", "a", pointer(true)), anEndpoint("10.1.0.9", "c", pointer(false)))},
			[]mesh.Endpoint{a, b}},
		{"not ready ones are wanted", service{notReady: true}, []*discoveryv1.EndpointSlice{aSlice("s", "IPv4", 8080, anEndpoint("10.1.0.1", "a", pointer(false)))},
			[]mesh.Endpoint{a}},
		{"a pod that is not known yet", service{}, []*discoveryv1.EndpointSlice{aSlice("s", "IPv4", 8080, anEndpoint("10.1.0.3", "new", nil))},
			[]mesh.Endpoint{unknown}},
		{"in two slices while it moves", service{}, []*discoveryv1.EndpointSlice{
			aSlice("s", "IPv4", 8080, anEndpoint("10.1.0.1", "a", nil)), aSlice("t", "IPv4", 8080, anEndpoint("10.1.0.1", "a", nil))},
			[]mesh.Endpoint{a}},
		{"the other family", service{family: "IPv4"}, []*discoveryv1.EndpointSlice{
			aSlice("s", "IPv4", 8080, anEndpoint("10.1.0.1", "a", nil)), aSlice("t", "IPv6", 8080, anEndpoint("fd00::1", "a", nil))},
			[]mesh.Endpoint{a}},
	} {
		var parts []*slice
		for _, s := range test.slices {
			parts = append(parts, sliceOf(s, nil))
		}
		test.s.key = key{"apps", "web"}
		if diff := cmp.Diff(test.want, endpointsOf(&test.s, parts, at)); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}

// What a change does not concern stays the same in memory: nothing of it is made again.
func TestServicesFollow(t *testing.T) {
	ctx := context.Background()
	other := aService("other", corev1.ServiceSpec{ClusterIP: "10.96.0.8"})
	web := aService("web", corev1.ServiceSpec{ClusterIP: "10.96.0.7", Ports: []corev1.ServicePort{{Name: "http", Port: 80}}})
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{corev1.LabelTopologyRegion: "r1", corev1.LabelTopologyZone: "z1"}}}
	one := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "apps", Labels: map[string]string{"version": "v1"}, ResourceVersion: "1"}, Spec: corev1.PodSpec{ServiceAccountName: "web", NodeName: "n1",
		Containers: []corev1.Container{{Name: "istio-proxy", Env: []corev1.EnvVar{{Name: "ISTIO_META_UNPRIVILEGED_POD", Value: "true"}}}}}}
	w := startWorld(t, other, web, node, one, aSlice("s", "IPv4", 8080, anEndpoint("10.1.0.1", "a", nil)))

	first := w.cluster.Services()
	if len(first) != 2 || first[0].Host != "other.apps.svc.cluster.local" || first[1].Host != "web.apps.svc.cluster.local" {
		t.Fatalf("services: %v", first)
	}
	if e := first[1].Endpoints; len(e) != 1 || e[0].Locality != "r1/z1" || e[0].Labels["version"] != "v1" || !e[0].Unprivileged || e[0].ServiceAccount != "web" {
		t.Fatalf("endpoints: %+v", e)
	}
	sequence := w.cluster.Current().Sequence

	busy := one.DeepCopy() // its status changes: nothing follows from it
	busy.ResourceVersion, busy.Status.Message = "2", "busy"
	relabelled := one.DeepCopy()
	relabelled.ResourceVersion, relabelled.Labels = "3", map[string]string{"version": "v2", "security.istio.io/tlsMode": "istio"}
	for _, p := range []*corev1.Pod{busy, relabelled} {
		if _, err := w.client.CoreV1().Pods("apps").Update(ctx, p, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	w.untilServices("the pod's new label", func(s []*mesh.Service) bool {
		return s[1].Endpoints[0].Labels["version"] == "v2" && s[1].Endpoints[0].MutualTLS
	})
	if now := w.cluster.Services(); now[0] != first[0] {
		t.Error("a service that nothing happened to was made again")
	}
	if got := w.cluster.Current().Sequence; got != sequence+1 {
		t.Errorf("%d states for one change that matters", got-sequence)
	}

	if _, err := w.client.DiscoveryV1().EndpointSlices("apps").Update(ctx, aSlice("s", "IPv4", 9090, anEndpoint("10.1.0.1", "a", nil)), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.untilServices("the new port", func(s []*mesh.Service) bool { return s[1].Endpoints[0].Ports["http"] == 9090 })
	if err := w.client.DiscoveryV1().EndpointSlices("apps").Delete(ctx, "s", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.untilServices("no endpoint is left", func(s []*mesh.Service) bool { return len(s[1].Endpoints) == 0 })
	if err := w.client.CoreV1().Services("apps").Delete(ctx, "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.untilServices("the service is gone", func(s []*mesh.Service) bool { return len(s) == 1 && s[0] == first[0] })
	r := w.cluster.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.users)+len(r.bySvc) != 0 {
		t.Errorf("something of what is gone is kept: %v, %v", r.users, r.bySvc)
	}
}

// A ServiceEntry may select pods: those that are ready, and their changes matter then.
func TestPodsOfServiceEntries(t *testing.T) {
	ctx := context.Background()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{corev1.LabelTopologyRegion: "r1", corev1.LabelTopologyZone: "z1"}}}
	ready := []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	aPod := func(name string, conditions []corev1.PodCondition) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "apps", Labels: map[string]string{"app": "cache", "security.istio.io/tlsMode": "istio"}, ResourceVersion: "1"},
			Spec:       corev1.PodSpec{ServiceAccountName: "cache", NodeName: "n1"},
			Status:     corev1.PodStatus{Conditions: conditions, PodIPs: []corev1.PodIP{{IP: "10.1.0.9"}}},
		}
	}
	late := aPod("late", nil)
	w := startWorld(t, node, aPod("a", ready), late)
	if got := w.cluster.Mesh(w.cluster.Current().Objects).Workloads; len(got) != 0 {
		t.Errorf("nobody selects them: %v", got)
	}
	if got := w.cluster.Place("apps", "a"); got != "r1/z1" {
		t.Errorf("the pod is at %q", got)
	}
	if got := w.cluster.Place("apps", "none"); got != "" {
		t.Errorf("a pod that is not there is at %q", got)
	}
	w.apply(`
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: cache, namespace: apps}
spec:
  hosts: [cache.apps.example]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 6379, name: tcp, protocol: TCP}]
  workloadSelector: {labels: {app: cache}}
`)
	endpoints := func(s *source.State) []mesh.Endpoint {
		m, _ := mesh.New(s.Objects, w.cluster.Mesh(s.Objects))
		if len(m.Services()) != 1 {
			return nil
		}
		return m.Services()[0].Endpoints
	}
	state := w.until("the pod that is ready", func(s *source.State) bool { return len(endpoints(s)) == 1 })
	if e := endpoints(state)[0]; e.Address != "10.1.0.9" || !e.MutualTLS || e.ServiceAccount != "cache" || e.Locality != "r1/z1" || e.Namespace != "apps" {
		t.Errorf("endpoint: %+v", e)
	}
	late.Status.Conditions, late.ResourceVersion = ready, "2"
	if _, err := w.client.CoreV1().Pods("apps").Update(ctx, late, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.until("the other one", func(s *source.State) bool { return len(endpoints(s)) == 2 })
}
