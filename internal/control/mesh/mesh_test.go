package mesh

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

func TestHosts(t *testing.T) {
	for _, c := range []struct {
		a, b                    string
		overlap, within, inside bool // a overlaps b; a within b; b within a
	}{
		{"a.x", "a.x", true, true, true},
		{"a.x", "b.x", false, false, false},
		{"a.x", "*.x", true, true, false},
		{"x", "*.x", false, false, false},
		{"*.a.x", "*.x", true, true, false},
		{"*.x", "*", true, true, false},
		{"*.x", "*.y", false, false, false},
		{"xa.x", "*.a.x", false, false, false},
	} {
		if got := HostsOverlap(c.a, c.b); got != c.overlap || HostsOverlap(c.b, c.a) != got {
			t.Errorf("HostsOverlap(%q, %q) = %t", c.a, c.b, got)
		}
		if got := HostWithin(c.a, c.b); got != c.within {
			t.Errorf("HostWithin(%q, %q) = %t", c.a, c.b, got)
		}
		if got := HostWithin(c.b, c.a); got != c.inside {
			t.Errorf("HostWithin(%q, %q) = %t", c.b, c.a, got)
		}
	}
}

func TestResolveNames(t *testing.T) {
	for name, want := range map[string]string{
		"reviews": "reviews.ns.svc.cluster.local", "Reviews": "reviews.ns.svc.cluster.local",
		"a.B": "a.b", "*": "*", "10.0.0.1": "10.0.0.1", "::1": "::1", "": "",
	} {
		if got := ResolveHost(name, "ns", "cluster.local"); got != want {
			t.Errorf("ResolveHost(%q) = %q, want %q", name, got, want)
		}
	}
	for name, want := range map[string]string{
		"mesh": "mesh", "g": "ns/g", "./g": "ns/g", "o/g": "o/g", "g.o": "o/g", "g.o.svc.cluster.local": "o/g",
	} {
		if got := ResolveGateway(name, "ns"); got != want {
			t.Errorf("ResolveGateway(%q) = %q, want %q", name, got, want)
		}
	}
}

// entry is a ServiceEntry of namespace "ns".
func entry(i int, host string) *istioapi.ServiceEntry {
	return &istioapi.ServiceEntry{
		Meta: istioapi.Meta{Ref: istioapi.Ref{Kind: "ServiceEntry", Namespace: "ns", Name: fmt.Sprint("e", i)}, Order: i},
		Spec: &networking.ServiceEntry{
			Hosts: []string{host}, Resolution: networking.ServiceEntry_DNS,
			Ports: []*networking.ServicePort{{Number: 80, Name: "http", Protocol: "HTTP"}},
		},
	}
}

func allocated(s *Snapshot) map[string]netip.Addr {
	out := map[string]netip.Addr{}
	for _, svc := range s.Services() {
		if len(svc.AutoAddresses) == 1 {
			out[svc.Host] = svc.AutoAddresses[0]
		}
	}
	return out
}

func TestAutomaticAddresses(t *testing.T) {
	var objects istioapi.Objects
	for i := range 5000 {
		objects.ServiceEntries = append(objects.ServiceEntries, entry(i, fmt.Sprintf("h%d.example", i)))
	}
	s, problems := New(objects, Options{})
	if len(problems) != 0 {
		t.Fatalf("problems: %v", problems)
	}
	first := allocated(s)
	seen := map[netip.Addr]string{}
	for host, a := range first {
		if other := seen[a]; other != "" || !AutoRange.Contains(a) || a.As4()[3] == 0 || a.As4()[3] == 255 {
			t.Fatalf("%s has %s (also of %q)", host, a, other)
		}
		seen[a] = host
	}
	if len(first) != 5000 {
		t.Fatalf("%d addresses for 5000 hosts", len(first))
	}
	slices.Reverse(objects.ServiceEntries) // the order of the objects does not matter
	for i, e := range objects.ServiceEntries {
		e.Order = i
	}
	again, _ := New(objects, Options{})
	if diff := cmp.Diff(first, allocated(again), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("addresses depend on the order:\n%s", diff)
	}
	for i := range 5000 { // with Previous none moves, whoever comes
		objects.ServiceEntries = append(objects.ServiceEntries, entry(5000+i, fmt.Sprintf("a%d.example", i)))
	}
	later, _ := New(objects, Options{Previous: s})
	for host, a := range allocated(later) {
		if before, ok := first[host]; ok && before != a {
			t.Fatalf("%s moved from %s to %s", host, before, a)
		}
	}
}

func TestWhoGetsAnAutomaticAddress(t *testing.T) {
	none, fixed := entry(1, "none.example"), entry(2, "fixed.example")
	none.Spec.Resolution = networking.ServiceEntry_NONE
	fixed.Spec.Addresses = []string{"192.0.2.1"}
	wild := entry(3, "*.wild.example")
	wild.Spec.Endpoints = []*networking.WorkloadEntry{{Address: "x.example"}}
	s, _ := New(istioapi.Objects{ServiceEntries: []*istioapi.ServiceEntry{none, fixed, wild, entry(4, "plain.example")}}, Options{})
	if got := allocated(s); len(got) != 1 || !got["plain.example"].IsValid() {
		t.Errorf("allocated %v, want one for plain.example", got)
	}
}

// Probing finds the last free address, wherever it is, and then tells that there is none.
func TestAddressesCanRunOut(t *testing.T) {
	used := make(map[netip.Addr]bool, autoSlots)
	for slot := range uint32(autoSlots) {
		used[slotAddress(slot)] = true
	}
	if len(used) != autoSlots {
		t.Fatalf("%d different addresses for %d slots", len(used), autoSlots)
	}
	for i, last := range []uint32{0, 126, 127, 32512, autoSlots - 1} {
		want := slotAddress(last)
		delete(used, want)
		if got, ok := freeSlot(fmt.Sprint("key", i), used); !ok || got != want {
			t.Errorf("got %s (%t), want the last free one, %s", got, ok, want)
		}
		used[want] = true
	}
	if a, ok := freeSlot("key", used); ok {
		t.Errorf("%s although all are used", a)
	}
}

func TestSidecarSelection(t *testing.T) {
	sidecar := func(ns, name string, order int, selector map[string]string) *istioapi.Sidecar {
		s := &istioapi.Sidecar{
			Meta: istioapi.Meta{Ref: istioapi.Ref{Kind: "Sidecar", Namespace: ns, Name: name}, Order: order},
			Spec: &networking.Sidecar{},
		}
		if selector != nil {
			s.Spec.WorkloadSelector = &networking.WorkloadSelector{Labels: selector}
		}
		return s
	}
	app := map[string]string{"app": "a"}
	all := []*istioapi.Sidecar{
		sidecar("istio-system", "root-selected", 0, app), sidecar("istio-system", "root", 1, nil),
		sidecar("ns", "default", 2, nil), sidecar("ns", "second-default", 3, nil),
		sidecar("ns", "selected", 4, app), sidecar("ns", "selected-later", 5, app),
	}
	s, _ := New(istioapi.Objects{Sidecars: all}, Options{})
	for _, c := range []struct {
		namespace string
		labels    map[string]string
		want      string
	}{
		{"ns", app, "selected"}, {"ns", nil, "default"}, {"other", app, "root"}, {"istio-system", app, "root-selected"},
	} {
		scope := s.Scope(Node{Type: NodeSidecar, Namespace: c.namespace, Labels: c.labels})
		if got := scope.Sidecar.Name; got != c.want {
			t.Errorf("workload %v of %s has Sidecar %s, want %s", c.labels, c.namespace, got, c.want)
		}
	}
	if scope := s.Scope(Node{Type: NodeRouter, Namespace: "ns"}); scope.Sidecar != nil {
		t.Error("a gateway has a Sidecar")
	}
}

// The same host in several namespaces: the node's own wins, else the oldest.
func TestOneServicePerHost(t *testing.T) {
	a, b := entry(1, "x.example"), entry(2, "X.example")
	b.Namespace = "mine"
	s, _ := New(istioapi.Objects{ServiceEntries: []*istioapi.ServiceEntry{b, a}}, Options{})
	for namespace, want := range map[string]string{"mine": "mine", "ns": "ns", "third": "ns"} {
		scope := s.Scope(Node{Type: NodeSidecar, Namespace: namespace})
		if len(scope.Services) != 1 || scope.Service("x.example").Namespace != want {
			t.Errorf("from %s: %v, want the one of %s", namespace, scope.Services, want)
		}
	}
}

func TestImportsOfVirtualServiceDestinations(t *testing.T) {
	v := &istioapi.VirtualService{
		Meta: istioapi.Meta{Ref: istioapi.Ref{Kind: "VirtualService", Namespace: "ns", Name: "v"}},
		Spec: &networking.VirtualService{Hosts: []string{"a.example"}, Http: []*networking.HTTPRoute{{
			Route: []*networking.HTTPRouteDestination{{Destination: &networking.Destination{Host: "b.example"}}},
		}}},
	}
	c := &istioapi.Sidecar{
		Meta: istioapi.Meta{Ref: istioapi.Ref{Kind: "Sidecar", Namespace: "ns", Name: "c"}},
		Spec: &networking.Sidecar{Egress: []*networking.IstioEgressListener{{Hosts: []string{"./a.example"}}}},
	}
	s, _ := New(istioapi.Objects{
		ServiceEntries:  []*istioapi.ServiceEntry{entry(1, "a.example"), entry(2, "b.example"), entry(3, "c.example")},
		VirtualServices: []*istioapi.VirtualService{v}, Sidecars: []*istioapi.Sidecar{c},
	}, Options{})
	scope := s.Scope(Node{Type: NodeSidecar, Namespace: "ns"})
	if scope.Service("b.example") == nil || scope.Service("c.example") != nil || len(scope.Egress[0].Services) != 1 {
		t.Errorf("scope has services %v, listener %v", scope.Services, scope.Egress[0].Services)
	}
}

func TestProblems(t *testing.T) {
	udp := entry(1, "u.example")
	udp.Spec.Ports = append(udp.Spec.Ports, &networking.ServicePort{Number: 53, Name: "dns", Protocol: "UDP"})
	udp.Spec.Endpoints = []*networking.WorkloadEntry{{Address: "unix:///run/x"}, {Address: "192.0.2.1"}}
	udp.Lines = map[string]int{"spec.ports[1].protocol": 12}
	g := &istioapi.Gateway{
		Meta: istioapi.Meta{Ref: istioapi.Ref{Kind: "Gateway", Namespace: "ns", Name: "g"}},
		Spec: &networking.Gateway{Servers: []*networking.Server{
			{Port: &networking.Port{Protocol: "TLS"}, Tls: &networking.ServerTLSSettings{Mode: networking.ServerTLSSettings_AUTO_PASSTHROUGH}},
			{Port: &networking.Port{Protocol: "HTTPS"}, Tls: &networking.ServerTLSSettings{Mode: networking.ServerTLSSettings_SIMPLE}},
			{Port: &networking.Port{Protocol: "HTTP"}},
		}},
	}
	s, problems := New(istioapi.Objects{
		ServiceEntries: []*istioapi.ServiceEntry{udp}, Gateways: []*istioapi.Gateway{g},
	}, Options{})
	var got []string
	for _, p := range problems {
		got = append(got, fmt.Sprintf("%s %s %s:%d", p.Severity, p.Code, p.Field, p.Line))
	}
	want := []string{
		"warning udp_not_captured spec.ports[1].protocol:12",
		"warning unix_endpoint_not_supported spec.endpoints[0].address:0",
		"error auto_passthrough_refused spec.servers[0].tls.mode:0",
		"error gateway_tls_not_supported spec.servers[1].tls.mode:0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	if svc := s.Services()[0]; len(svc.Ports) != 1 || len(svc.Endpoints) != 1 {
		t.Errorf("service %v: what was told is not left out", svc)
	}
}

func TestHostIndex(t *testing.T) {
	var list []*VirtualService
	for _, hosts := range [][]string{{"*.x.example"}, {"a.x.example"}, {"*"}, {"b.y.example", "a.x.example"}, {"*.a.x.example"}} {
		list = append(list, &VirtualService{Hosts: hosts})
	}
	index := NewHostIndex(list)
	numbers := func(found []*VirtualService) []int {
		out := []int{}
		for _, v := range found {
			out = append(out, slices.Index(list, v))
		}
		return out
	}
	for host, want := range map[string][2][]int{ // overlapping, best
		"a.x.example":   {{0, 1, 2, 3}, {1, 3}},
		"c.x.example":   {{0, 2}, {0}},
		"z.a.x.example": {{0, 2, 4}, {4}},
		"*.x.example":   {{0, 1, 2, 3, 4}, {0}},
		"*.y.example":   {{2, 3}, {2}},
		"other":         {{2}, {2}},
	} {
		if diff := cmp.Diff(want[0], numbers(index.Overlapping(host))); diff != "" {
			t.Errorf("Overlapping(%q) (-want +got):\n%s", host, diff)
		}
		if diff := cmp.Diff(want[1], numbers(index.Best(host))); diff != "" {
			t.Errorf("Best(%q) (-want +got):\n%s", host, diff)
		}
		for _, v := range list { // the index agrees with looking at each
			looked := slices.ContainsFunc(v.Hosts, func(h string) bool { return HostsOverlap(h, host) })
			if looked != slices.Contains(index.Overlapping(host), v) {
				t.Errorf("%q and %q: the index does not agree with HostsOverlap", host, v.Hosts)
			}
		}
	}
}
