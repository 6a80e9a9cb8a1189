package xdsgen

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/xds"
)

// A generator that keeps parts must give, after every change, the same bytes as one that
// keeps nothing.
func TestKeptPartsChangeNothing(t *testing.T) {
	const entry = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: NAME, namespace: NAMESPACE}
spec: {hosts: [HOST], ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}, {number: 90, name: tcp, protocol: TCP}], REST}
---`
	se := func(name, namespace, host, rest string) string {
		return strings.NewReplacer("NAMESPACE", namespace, "NAME", name, "HOST", host, "REST", rest).Replace(entry)
	}
	a, b := se("a", "default", "a.example", "resolution: DNS"), se("b", "default", "b.example", "resolution: STATIC, endpoints: [{address: 192.0.2.1}]")
	states := []string{
		a, a + b, b + a,
		a + se("b", "default", "b.example", "resolution: STATIC, endpoints: [{address: 192.0.2.2, labels: {v: '1'}}]"),
		a + b + se("c", "default", "c.example", "addresses: [198.51.100.1], resolution: DNS"),
		a + se("c", "default", "c.example", "addresses: [198.51.100.2], resolution: NONE") + b,
		// The same host twice: the first stays, and what the second would be is not kept for it.
		a + se("a", "other", "a.example", "resolution: STATIC, endpoints: [{address: 192.0.2.9}]"),
		se("a", "other", "a.example", "resolution: STATIC, endpoints: [{address: 192.0.2.9}]"),
		// A domain that another virtual host has.
		a + se("d", "default", "d.example", "addresses: [198.51.100.7], resolution: DNS") + se("e", "default", "e.example", "addresses: [198.51.100.7, 198.51.100.8], resolution: DNS"),
		a + se("e", "default", "e.example", "addresses: [198.51.100.7, 198.51.100.8], resolution: DNS"),
		a + b + `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a, namespace: default}
spec: {host: a.example, trafficPolicy: {connectionPool: {tcp: {idleTimeout: 9s}}, tls: {mode: SIMPLE}}}
`,
		a + b + `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, namespace: default}
spec: {hosts: [a.example], http: [{route: [{destination: {host: b.example}}]}]}
`,
		a + b + `
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: "{connectTimeout: 3s, accessLogFile: /dev/stdout}"}
`,
		a + b, "", a,
	}
	empty, _ := mesh.New(istioapi.Objects{}, mesh.Options{})
	g := NewGenerator(empty, nil)
	for i, yaml := range states {
		snapshot := world{yaml: yaml}.snapshot(t)
		g.Set(snapshot)
		for _, node := range []mesh.Node{captured(), sidecarNode, gatewayNode} {
			want, err := Generate(snapshot, node)
			if err != nil {
				t.Fatal(err)
			}
			got, err := g.Generate(EncodeNode(node, "cluster.local"))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, protocmp.Transform(), cmp.AllowUnexported(xds.Resource{})); diff != "" {
				t.Fatalf("state %d, node %s (-nothing kept +kept):\n%s", i, node.ID, diff)
			}
		}
	}
}

func TestWhatNobodyNeedsIsForgotten(t *testing.T) {
	empty, _ := mesh.New(istioapi.Objects{}, mesh.Options{})
	g := NewGenerator(world{yaml: serviceEntries}.snapshot(t), nil)
	node := EncodeNode(captured(), "cluster.local")
	generate := func() {
		if _, err := g.Generate(node); err != nil {
			t.Fatal(err)
		}
	}
	generate()
	if len(g.memo.clusters.now) == 0 || len(g.memo.hosts.now) == 0 || len(g.memo.chains.now) == 0 {
		t.Fatalf("kept %d clusters, %d hosts, %d chains", len(g.memo.clusters.now), len(g.memo.hosts.now), len(g.memo.chains.now))
	}
	g.Set(empty)
	generate()
	g.Set(world{yaml: strings.ReplaceAll(serviceEntries, "example", "test")}.snapshot(t))
	generate()
	g.Set(empty)
	if n := len(g.memo.clusters.now); n != 0 {
		t.Errorf("%d clusters of old snapshots are kept as new", n)
	}
}

// Whatever field is added to a service must be part of the key, or of this list.
func TestEveryFieldIsInTheKey(t *testing.T) {
	without := map[string]bool{
		"ExportTo": true, "visible": true, // who sees a service: the scope decides that
		"Unprivileged": true, // what a gateway's own pod may open
	}
	base := func() *mesh.Service {
		return &mesh.Service{Sources: make([]istioapi.Ref, 1), Ports: make([]mesh.Port, 1), Endpoints: make([]mesh.Endpoint, 1)}
	}
	sumOf := func(s *mesh.Service) sum {
		var k key
		k.service(s)
		return k.sum()
	}
	check := func(path string, field reflect.StructField, set func(*mesh.Service) reflect.Value) {
		if without[field.Name] {
			return
		}
		s := base()
		change(t, set(s))
		if sumOf(s) == sumOf(base()) {
			t.Errorf("%s%s is not in the key", path, field.Name)
		}
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[mesh.Service]()) {
		check("Service.", f, func(s *mesh.Service) reflect.Value { return reflect.ValueOf(s).Elem().FieldByIndex(f.Index) })
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[mesh.Port]()) {
		check("Port.", f, func(s *mesh.Service) reflect.Value { return reflect.ValueOf(&s.Ports[0]).Elem().FieldByIndex(f.Index) })
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[mesh.Endpoint]()) {
		check("Endpoint.", f, func(s *mesh.Service) reflect.Value {
			return reflect.ValueOf(&s.Endpoints[0]).Elem().FieldByIndex(f.Index)
		})
	}
}

// change gives a value that differs from the zero value.
func change(t *testing.T, v reflect.Value) {
	t.Helper()
	switch x := v.Addr().Interface().(type) {
	case *[]netip.Prefix:
		*x = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		return
	case *[]netip.Addr:
		*x = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
		return
	case *istioapi.Ref:
		x.Name = "x"
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint32:
		v.SetUint(7)
	case reflect.Slice: // one element more
		v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
	case reflect.Map:
		m := reflect.MakeMap(v.Type())
		m.SetMapIndex(reflect.ValueOf("x"), reflect.Zero(v.Type().Elem()))
		v.Set(m)
	default:
		t.Fatalf("a field of kind %s: say here how to change it", v.Kind())
	}
}
