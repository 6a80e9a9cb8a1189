package egretproxy_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/egret-mesh/egret/internal/bootstrap"
	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/control/xdsgen"
	"github.com/egret-mesh/egret/internal/egretd"
	"github.com/egret-mesh/egret/internal/egretproxy"
	"github.com/egret-mesh/egret/internal/runtest"
	"github.com/egret-mesh/egret/internal/xds"
)

// spoiler generates what the mesh says, but for one cluster, which asks for what
// egret-proxy does not have.
type spoiler struct {
	mu      sync.Mutex
	mesh    *mesh.Snapshot
	cluster string // "": all is well
}

func (s *spoiler) Generate(n *corev3.Node) (xds.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	node, err := xdsgen.DecodeNode(n)
	if err != nil {
		return nil, err
	}
	all, err := xdsgen.Generate(s.mesh, node)
	if err != nil || s.cluster == "" {
		return all, err
	}
	c := &clusterv3.Cluster{}
	if err := all[xds.ClusterType][s.cluster].Body.UnmarshalTo(c); err != nil {
		return nil, err
	}
	c.HealthChecks = []*corev3.HealthCheck{{
		Timeout: durationpb.New(time.Second), Interval: durationpb.New(time.Second),
		UnhealthyThreshold: wrapperspb.UInt32(1), HealthyThreshold: wrapperspb.UInt32(1),
		HealthChecker: &corev3.HealthCheck_TcpHealthCheck_{TcpHealthCheck: &corev3.HealthCheck_TcpHealthCheck{}},
	}}
	body, err := anypb.New(c)
	if err != nil {
		return nil, err
	}
	all[xds.ClusterType] = maps.Clone(all[xds.ClusterType])
	all[xds.ClusterType][s.cluster] = xds.Resource{Name: s.cluster, Version: xds.BodyVersion(body), Body: body}
	return all, nil
}

// set gives two hosts an address each, and says which cluster is spoiled.
func (s *spoiler) set(t *testing.T, listener, one, other netip.AddrPort, cluster string) {
	t.Helper()
	objects, problems := istioapi.Decode("policy.yaml", []byte(fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: egress-gateway, namespace: istio-system}
spec:
  hosts: [istio-egressgateway.istio-system.svc.cluster.local]
  location: MESH_INTERNAL
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: %[1]d}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1, labels: {istio: egressgateway}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: one}
spec:
  hosts: [one.example.com]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: %[2]d}]
  resolution: DNS
  endpoints: [{address: 127.0.0.1}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: other}
spec:
  hosts: [other.example.com]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: %[3]d}]
  resolution: DNS
  endpoints: [{address: 127.0.0.1}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: egress}
spec:
  selector: {istio: egressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*.example.com"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: one}
spec: {hosts: [one.example.com], gateways: [egress], http: [{route: [{destination: {host: one.example.com}}]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: other}
spec: {hosts: [other.example.com], gateways: [egress], http: [{route: [{destination: {host: other.example.com}}]}]}
`, listener.Port(), one.Port(), other.Port())))
	for _, p := range problems {
		t.Log(p)
	}
	snapshot, _ := mesh.New(objects, mesh.Options{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mesh, s.cluster = snapshot, cluster
}

// serveADS serves over TCP on loopback until the test ends.
func serveADS(t *testing.T, ads *xds.Server) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(xds.GRPCOptions()...)
	ads.Register(server)
	runtest.Run(t, "ADS server", func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, server.Stop)
		defer stop()
		return server.Serve(ln)
	})
	return ln.Addr().String()
}

// One resource of a push is refused: the others take effect, the refused one stays as it
// was, and the control plane knows which proxy refused what, and in what words. When it is
// mended, nothing is left of it.
func TestRefusedResource(t *testing.T) {
	for name, delta := range map[string]bool{"state of the world": false, "delta": true} {
		t.Run(name, func(t *testing.T) {
			const spoiled = "outbound|80||one.example.com"
			before, after := website(t, "before"), website(t, "after")
			gateway := runtest.FreeAddress(t)
			source := &spoiler{}
			source.set(t, gateway, before, before, "")
			ads := xds.NewServer(source, xds.ServerOptions{Logger: runtest.Logger(t, "ADS server")})
			b, err := bootstrap.Parse(writeBootstrap(t, gatewayNode, runtest.FreeAddress(t), nil, serveADS(t, ads)))
			if err != nil {
				t.Fatal(err)
			}
			b.Delta = delta
			runtest.Run(t, "egret-proxy", func(ctx context.Context) error {
				return egretproxy.Run(ctx, egretproxy.Options{Bootstrap: b, Logger: runtest.Logger(t, "egret-proxy"), DrainTimeout: -1})
			})
			says := func(host, want string) func() bool {
				return func() bool { return ask(gateway.String(), host) == "200 "+want+": "+host }
			}
			runtest.Eventually(t, "both are served", func() bool {
				return says("one.example.com", "before")() && says("other.example.com", "before")()
			})

			source.set(t, gateway, after, after, spoiled)
			ads.Changed()
			runtest.Eventually(t, "the rest of the push is in force", says("other.example.com", "after"))
			if got := ask(gateway.String(), "one.example.com"); got != "200 before: one.example.com" {
				t.Errorf("what was refused did not stay as it was: %s", got)
			}
			runtest.Eventually(t, "the control plane is told", func() bool {
				nack := clusters(ads).Nack
				return nack != nil && strings.Contains(nack.Message, spoiled) && strings.Contains(nack.Message, "health_checks")
			})
			if refused := strings.Join(clusters(ads).Refused, " "); !strings.Contains(refused, spoiled) {
				t.Errorf("refused, as the control plane knows it: %q", refused)
			}

			source.set(t, gateway, after, after, "")
			ads.Changed()
			runtest.Eventually(t, "it is mended", says("one.example.com", "after"))
			runtest.Eventually(t, "nothing is left of it", func() bool {
				of := clusters(ads)
				return of.Nack == nil && len(of.Refused) == 0
			})
		})
	}
}

// clusters is what a control plane knows of its only proxy's clusters.
func clusters(ads *xds.Server) xds.TypeStatus {
	for _, n := range ads.Status() {
		for _, of := range n.Types {
			if of.TypeURL == xds.ClusterType && strings.Contains(n.NodeID, gatewayNode.Name) {
				return of
			}
		}
	}
	return xds.TypeStatus{}
}

// Two control planes that disagree: a proxy has its configuration from one at a time, and
// stays with it as long as it is there, also when the other comes back.
func TestControlPlanesThatDisagree(t *testing.T) {
	first, second, third := website(t, "first"), website(t, "second"), website(t, "third")
	gateway, oneAt := runtest.FreeAddress(t), runtest.FreeAddress(t).String()
	host := "api.example.com"
	dirs := []string{t.TempDir(), t.TempDir()}
	policy(t, dirs[0], host, first, gateway)
	policy(t, dirs[1], host, second, gateway)
	start := func(dir, at string) *plane {
		return startPlane(t, egretd.Options{Paths: []string{dir}, XDSAddress: at, MonitoringAddress: "127.0.0.1:0"})
	}
	one, two := start(dirs[0], oneAt), start(dirs[1], "127.0.0.1:0")
	startProxy(t, writeBootstrap(t, gatewayNode, runtest.FreeAddress(t), nil, one.xds, two.xds))
	says := func(want string) func() bool {
		return func() bool { return ask(gateway.String(), host) == "200 "+want+": "+host }
	}
	nobody := func(p *plane) bool { return strings.TrimSpace(p.status(t)) == "[]" }

	runtest.Eventually(t, "the first is in force", says("first"))
	if !nobody(two) {
		t.Errorf("the proxy is at the second as well: %s", two.status(t))
	}
	one.stop()
	runtest.Eventually(t, "the second is in force", says("second"))
	one = start(dirs[0], oneAt)
	policy(t, dirs[0], host, first, gateway)
	policy(t, dirs[1], host, third, gateway)
	runtest.Eventually(t, "changes of the second take effect", says("third"))
	if !nobody(one) {
		t.Errorf("the proxy went back while the second was there: %s", one.status(t))
	}
	two.stop()
	runtest.Eventually(t, "the first is in force again", says("first"))
}
