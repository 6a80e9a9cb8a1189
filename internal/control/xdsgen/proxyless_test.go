package xdsgen

import (
	"maps"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"github.com/google/go-cmp/cmp"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/xds"
)

// proxylessNode is a gRPC client without a proxy.
var proxylessNode = mesh.Node{
	ID: "sidecar~10.0.0.1~test.default~default.svc.cluster.local", Type: mesh.NodeProxyless,
	Name: "test", Namespace: "default", Labels: map[string]string{"run": "test"},
}

func TestProxylessNode(t *testing.T) {
	n := EncodeNode(proxylessNode, "cluster.local")
	if id := n.GetId(); !strings.HasPrefix(id, "sidecar~") {
		t.Errorf("id %q: Istio knows such nodes as sidecars", id)
	}
	got, err := DecodeNode(n)
	if err != nil || got.Type != mesh.NodeProxyless {
		t.Errorf("type %q, %v", got.Type, err)
	}
}

const proxylessEntries = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: static, namespace: default}
spec:
  hosts: [static.example]
  ports: [{number: 80, name: grpc, protocol: GRPC}, {number: 5432, name: db, protocol: TCP}]
  resolution: STATIC
  endpoints:
  - {address: 192.0.2.1, labels: {version: v1}}
  - {address: 192.0.2.2, labels: {version: v2}, weight: 3}
  - {address: 192.0.2.2, labels: {version: v2}, weight: 2}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: static, namespace: default}
spec:
  host: static.example
  trafficPolicy:
    connectionPool: {http: {http2MaxRequests: 7}}
    loadBalancer: {consistentHash: {httpHeaderName: x-user}}
    tls: {mode: SIMPLE}
  subsets:
  - {name: v2, labels: {version: v2}, trafficPolicy: {loadBalancer: {simple: RANDOM}}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: names, namespace: default}
spec:
  hosts: [one.example, "*.wild.example"]
  ports: [{number: 80, name: grpc, protocol: GRPC}]
  resolution: NONE
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: several, namespace: default}
spec:
  hosts: [several.example]
  ports: [{number: 80, name: grpc, protocol: GRPC}]
  resolution: DNS
  endpoints: [{address: a.example}, {address: b.example}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: inside, namespace: default}
spec:
  hosts: [greeter.default.svc.cluster.local]
  location: MESH_INTERNAL
  ports: [{number: 80, name: grpc, protocol: GRPC}]
  resolution: STATIC
  endpoints: [{address: 192.0.2.9}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: inside, namespace: default}
spec:
  hosts: [greeter.default.svc.cluster.local]
  http:
  - timeout: 3s
    corsPolicy: {allowOrigins: [{exact: https://a.example}]}
    fault: {abort: {percentage: {value: 1}, httpStatus: 503}}
    route: [{destination: {host: greeter.default.svc.cluster.local}}]
`

// What gRPC asks for is there, in a form that it does not refuse.
func TestProxyless(t *testing.T) {
	g := world{yaml: proxylessEntries}.generate(t, proxylessNode)
	const inside = "outbound|80||greeter.default.svc.cluster.local"
	wantListeners := []string{
		"greeter.default.svc.cluster.local:80", "greeter.default.svc:80", "greeter.default:80", "greeter:80",
		"one.example:80", "several.example:80", "static.example:80",
	}
	if diff := cmp.Diff(wantListeners, slices.Sorted(maps.Keys(g.listeners))); diff != "" {
		t.Errorf("listeners (-want +got):\n%s", diff)
	}
	for cluster, want := range map[string]string{
		"outbound|80||static.example":   "EDS 192.0.2.1:80 192.0.2.2:80",
		"outbound|80|v2|static.example": "EDS 192.0.2.2:80",
		"outbound|80||one.example":      "LOGICAL_DNS one.example:80",
		"outbound|80||several.example":  "EDS a.example:80 b.example:80",
		inside:                          "EDS 192.0.2.9:80",
		"BlackHoleCluster":              "EDS",
		"outbound|5432||static.example": "none",
		"outbound|80||*.wild.example":   "none",
		"PassthroughCluster":            "none",
	} {
		if got := g.cluster(cluster); got != want {
			t.Errorf("%s: %s, want %s", cluster, got, want)
		}
	}
	if n := len(g.raw[xds.NameTableType]); n != 0 {
		t.Errorf("%d name tables", n)
	}
	checkProxylessRoute(t, g.routes[inside].GetVirtualHosts())
	checkProxylessPolicy(t, g.clusters["outbound|80||static.example"], g.clusters["outbound|80|v2|static.example"])
	if w := g.endpoints["outbound|80|v2|static.example"].GetEndpoints()[0].GetLbEndpoints()[0].GetLoadBalancingWeight().GetValue(); w != 5 {
		t.Errorf("an address that is there twice, with weights 3 and 2, has weight %d", w)
	}
}

func checkProxylessRoute(t *testing.T, hosts []*routev3.VirtualHost) {
	t.Helper()
	if len(hosts) != 1 || !slices.Contains(hosts[0].GetDomains(), "greeter:80") || len(hosts[0].GetRoutes()) != 1 {
		t.Fatalf("virtual hosts %v", hosts)
	}
	r := hosts[0].GetRoutes()[0]
	if filters := slices.Collect(maps.Keys(r.GetTypedPerFilterConfig())); !slices.Equal(filters, []string{faultFilter}) {
		t.Errorf("filters of the route: %q", filters)
	}
	if d := r.GetRoute().GetMaxStreamDuration().GetMaxStreamDuration(); d.GetSeconds() != 3 {
		t.Errorf("timeout %v", d)
	}
}

func checkProxylessPolicy(t *testing.T, plain, subset *clusterv3.Cluster) {
	t.Helper()
	if plain.GetLbPolicy() != clusterv3.Cluster_RING_HASH || subset.GetLbPolicy() != clusterv3.Cluster_ROUND_ROBIN {
		t.Errorf("balancing %v and %v", plain.GetLbPolicy(), subset.GetLbPolicy())
	}
	if n := plain.GetCircuitBreakers().GetThresholds()[0].GetMaxRequests().GetValue(); n != 7 {
		t.Errorf("at most %d requests", n)
	}
	if plain.GetTransportSocket() != nil {
		t.Errorf("TLS of the application's own: %v", plain.GetTransportSocket())
	}
}

// The mesh's own certificates come from the provider that is in gRPC's bootstrap.
func TestProxylessMeshIdentity(t *testing.T) {
	b := newBuilder(world{}.snapshot(t), proxylessNode, nil)
	c := &clusterv3.Cluster{}
	b.certificateProviders(c, &target{policy: clusterPolicy{tls: &networking.ClientTLSSettings{
		Mode: networking.ClientTLSSettings_ISTIO_MUTUAL, SubjectAltNames: []string{"spiffe://d/ns/n/sa/s"},
	}}})
	tls := unpackAny[*tlsv3.UpstreamTlsContext](t, c.GetTransportSocket().GetTypedConfig()).GetCommonTlsContext()
	v := tls.GetValidationContext()
	//lint:ignore SA1019 gRPC reads this field
	names := v.GetMatchSubjectAltNames()
	if tls.GetTlsCertificateProviderInstance().GetInstanceName() != "default" || v.GetCaCertificateProviderInstance().GetInstanceName() != "default" ||
		len(names) != 1 || names[0].GetExact() != "spiffe://d/ns/n/sa/s" {
		t.Errorf("TLS with the mesh's certificates: %v", tls)
	}
}

// A Sidecar hides hosts from a client without a proxy as it does from a sidecar.
func TestProxylessSidecar(t *testing.T) {
	g := world{yaml: proxylessEntries + `
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: default}
spec: {egress: [{hosts: ["./one.example"]}]}
`}.generate(t, proxylessNode)
	if got := slices.Sorted(maps.Keys(g.listeners)); !slices.Equal(got, []string{"one.example:80"}) {
		t.Errorf("listeners %q", got)
	}
}
