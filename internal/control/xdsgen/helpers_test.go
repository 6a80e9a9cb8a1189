package xdsgen

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/xds"
)

// world is what a table test generates from.
type world struct {
	yaml    string
	options mesh.Options
}

func (w world) snapshot(t testing.TB) *mesh.Snapshot {
	t.Helper()
	objects, problems := istioapi.Rules{Pods: w.options.Pods}.Decode("test.yaml", []byte(w.yaml))
	for _, p := range problems {
		if p.Severity == istioapi.Error {
			t.Fatalf("test objects: %s", p)
		}
	}
	s, _ := mesh.New(objects, w.options)
	return s
}

// generated are the decoded resources of one node.
type generated struct {
	raw       xds.Snapshot
	listeners map[string]*listenerv3.Listener
	routes    map[string]*routev3.RouteConfiguration
	clusters  map[string]*clusterv3.Cluster
	endpoints map[string]*endpointv3.ClusterLoadAssignment
}

func (w world) generate(t testing.TB, n mesh.Node) generated {
	t.Helper()
	raw, err := Generate(w.snapshot(t), n)
	if err != nil {
		t.Fatal(err)
	}
	return generated{
		raw:       raw,
		listeners: unpack[*listenerv3.Listener](t, raw[xds.ListenerType]),
		routes:    unpack[*routev3.RouteConfiguration](t, raw[xds.RouteType]),
		clusters:  unpack[*clusterv3.Cluster](t, raw[xds.ClusterType]),
		endpoints: unpack[*endpointv3.ClusterLoadAssignment](t, raw[xds.EndpointType]),
	}
}

func (g generated) names(t testing.TB) NameTable {
	t.Helper()
	table, err := DecodeNameTable(g.raw[xds.NameTableType][""].Body.GetValue())
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func unpack[M proto.Message](t testing.TB, resources map[string]xds.Resource) map[string]M {
	t.Helper()
	out := map[string]M{}
	for name, r := range resources {
		out[name] = unpackAny[M](t, r.Body)
	}
	return out
}

func unpackAny[M proto.Message](t testing.TB, a *anypb.Any) M {
	t.Helper()
	m, err := a.UnmarshalNew()
	if err != nil {
		t.Fatal(err)
	}
	return m.(M)
}

var (
	sidecarNode = mesh.Node{
		ID: "sidecar~10.0.0.1~test.default~default.svc.cluster.local", Type: mesh.NodeSidecar,
		Name: "test", Namespace: "default", Labels: map[string]string{"run": "test"},
	}
	gatewayNode = mesh.Node{
		ID: "router~10.0.0.9~egw.istio-system~istio-system.svc.cluster.local", Type: mesh.NodeRouter,
		Name: "egw", Namespace: "istio-system", Labels: map[string]string{"istio": "egressgateway"},
	}
)

// captured is the sidecar of a workload whose DNS the proxy answers.
func captured() mesh.Node {
	n := sidecarNode
	n.DNSCapture = true
	return n
}

// sharedDir is the folder of test data that is shared between projects: named by
// EGRET_TESTDATA_SHARED, else "shared" beside the repository. The test is skipped
// where there is none.
func sharedDir(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("EGRET_TESTDATA_SHARED"); dir != "" {
		return dir
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			shared := filepath.Join(filepath.Dir(dir), "shared")
			if _, err := os.Stat(shared); err != nil {
				t.Skip("no shared test data: set EGRET_TESTDATA_SHARED to its folder")
			}
			return shared
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod above the working directory")
		}
		dir = parent
	}
}

// cluster is a cluster's type and the endpoints that are known.
func (g generated) cluster(name string) string {
	c := g.clusters[name]
	if c == nil {
		return "none"
	}
	out := c.GetType().String()
	a := c.GetLoadAssignment()
	if a == nil {
		a = g.endpoints[name]
	}
	for _, l := range a.GetEndpoints() {
		for _, e := range l.GetLbEndpoints() {
			s := e.GetEndpoint().GetAddress().GetSocketAddress()
			out += fmt.Sprintf(" %s:%d", s.GetAddress(), s.GetPortValue())
		}
	}
	return out
}

func parseAddresses(list ...string) []netip.Addr {
	out := make([]netip.Addr, len(list))
	for i, s := range list {
		out[i] = netip.MustParseAddr(s)
	}
	return out
}
