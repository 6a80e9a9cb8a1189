package xdsgen

import (
	"slices"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"

	"net/netip"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/xds"
)

func TestDecodeNode(t *testing.T) {
	n := captured()
	n.Addresses = parseAddresses("10.0.0.1", "fd00::1")
	n.SystemCA = "/ca.pem"
	got, err := DecodeNode(EncodeNode(n, "cluster.local"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(n, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("node after encoding and decoding (-want +got):\n%s", diff)
	}
	for _, id := range []string{"", "sidecar", "pod~1.2.3.4~a.b~b.svc", "sidecar~x~a.b~b.svc", "sidecar~1.2.3.4~a~svc",
		"sidecar~~" + string(make([]byte, 2000)) + ".b~c"} {
		if _, err := DecodeNode(&corev3.Node{Id: id}); err == nil {
			t.Errorf("the id %.40q was taken", id)
		}
	}
}

func FuzzDecodeNode(f *testing.F) {
	seed, err := proto.Marshal(EncodeNode(captured(), "cluster.local"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		n := &corev3.Node{}
		if proto.Unmarshal(data, n) != nil {
			return
		}
		node, err := DecodeNode(n)
		if err == nil && (node.Namespace == "" || len(node.Labels) > maxNodeLabels || len(node.Addresses) > maxAddresses) {
			t.Errorf("node %v", node)
		}
	})
}

// The same objects, however they are ordered in memory, give the same bytes; and a
// change of one object changes only what it is in.
func TestVersionsAreStable(t *testing.T) {
	versions := func(yaml string) map[string]string {
		g := NewGenerator(world{yaml: yaml}.snapshot(t), nil)
		s, err := g.Generate(EncodeNode(captured(), "cluster.local"))
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for typeURL, resources := range s {
			for name, r := range resources {
				out[typeURL+" "+name] = r.Version
				if r.Version == "" || r.Body.GetTypeUrl() != typeURL || r.Name != name {
					t.Errorf("resource %v", r)
				}
			}
		}
		return out
	}
	before := versions(serviceEntries)
	for range 5 {
		if diff := cmp.Diff(before, versions(serviceEntries)); diff != "" {
			t.Fatalf("versions differ between generations:\n%s", diff)
		}
	}
	after := versions(serviceEntries + `
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: new, namespace: default}
spec: {hosts: [new.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}
`)
	var changed []string
	for key, v := range after {
		if before[key] != v {
			changed = append(changed, key)
		}
	}
	slices.Sort(changed)
	want := []string{
		xds.ClusterType + " outbound|80||new.example",
		xds.RouteType + " 80",
		xds.NameTableType + " ",
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, changed); diff != "" {
		t.Errorf("changed resources (-want +got):\n%s", diff)
	}
}

func TestSetReplacesTheSnapshot(t *testing.T) {
	empty, _ := mesh.New(istioapi.Objects{}, mesh.Options{})
	g := NewGenerator(empty, nil)
	node := EncodeNode(sidecarNode, "cluster.local")
	count := func() int {
		s, err := g.Generate(node)
		if err != nil {
			t.Fatal(err)
		}
		return len(s[xds.ListenerType])
	}
	if n := count(); n != 1 {
		t.Errorf("an empty mesh has %d listeners, want virtualOutbound alone", n)
	}
	g.Set(world{yaml: serviceEntries}.snapshot(t))
	if n := count(); n < 2 {
		t.Errorf("%d listeners after the snapshot was replaced", n)
	}
	if _, err := g.Generate(&corev3.Node{Id: "nonsense"}); err == nil {
		t.Error("a node that is none got resources")
	}
}
