package egretd_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/control/xdsgen"
	"github.com/egret-mesh/egret/internal/egretd"
	"github.com/egret-mesh/egret/internal/runtest"
	"github.com/egret-mesh/egret/internal/xds"
)

// controlPlane is egretd in a cluster; addresses by the names of its ports.
type controlPlane struct {
	mu        sync.Mutex
	addresses map[string]string
}

func (p *controlPlane) address(name string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addresses[name]
}

func (p *controlPlane) ready() bool {
	at := p.address("http-monitoring")
	if at == "" {
		return false
	}
	r, err := http.Get("http://" + at + "/ready")
	if err != nil {
		return false
	}
	defer r.Body.Close()
	return r.StatusCode == http.StatusOK
}

// startInCluster runs egretd against an API server until the test ends.
func startInCluster(t *testing.T, a *apiServer) *controlPlane {
	t.Helper()
	p := &controlPlane{addresses: map[string]string{}}
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	runtest.Run(t, "egretd", func(ctx context.Context) error {
		return egretd.RunCluster(ctx, egretd.ClusterOptions{
			Config: a.config, PlainAddress: "127.0.0.1:0", SecureAddress: "127.0.0.1:0", WebhookAddress: "127.0.0.1:0",
			HTTPAddress: "127.0.0.1:0", MonitoringAddress: "127.0.0.1:0", Pod: "istiod-test", Statuses: true,
			Logger: runtest.Logger(t, "egretd"),
			Listening: func(name string, at net.Addr) {
				if forProxies := name == "grpc-xds" || name == "https-dns"; forProxies && p.ready() {
					t.Errorf("it says that it is ready before %s is open", name)
				}
				p.mu.Lock()
				defer p.mu.Unlock()
				p.addresses[name] = at.String()
			},
		})
	})
	return p
}

// held are the names of the clusters that a sidecar holds.
type held struct {
	mu    sync.Mutex
	names map[string]bool
	err   error
}

func (h *held) has(names ...string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !slices.ContainsFunc(names, func(n string) bool { return !h.names[n] })
}

// connect asks for a sidecar's clusters, and keeps what is told of them.
func connect(t *testing.T, address string) *held {
	t.Helper()
	cc, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(cc).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	node := mesh.Node{
		Type: mesh.NodeSidecar, ID: "sidecar~10.1.0.1~web.apps~apps.svc.cluster.local", Name: "web", Namespace: "apps",
		Labels: map[string]string{"app": "web"},
	}
	h := &held{names: map[string]bool{}}
	if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: xdsgen.EncodeNode(node, "cluster.local"), TypeUrl: xds.ClusterType}); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			r, err := stream.Recv()
			h.mu.Lock()
			if h.err = err; err != nil {
				h.mu.Unlock()
				return
			}
			for _, x := range r.GetResources() {
				h.names[x.GetName()] = true
			}
			for _, n := range r.GetRemovedResources() {
				delete(h.names, n)
			}
			h.mu.Unlock()
			if stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()}) != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		_ = cc.Close()
	})
	return h
}

func hostEntry(name string, port int) string {
	return fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: %[1]s, namespace: apps}
spec:
  hosts: [%[1]s.example.com]
  ports: [{number: %[2]d, name: tls, protocol: TLS}]
  resolution: DNS
`, name, port)
}

// A control plane against a real API server: it waits for CustomResourceDefinitions, follows
// objects, keeps the last good version of a bad one, and goes on while the API server is
// away.
func TestInCluster(t *testing.T) {
	a := startAPIServer(t)
	a.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: apps}")
	a.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: istio-system}")
	a.apply(`
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: "outboundTrafficPolicy: {mode: REGISTRY_ONLY}"}
`)
	a.define("Gateway")
	p := startInCluster(t, a)
	runtest.Eventually(t, "it is ready without most CustomResourceDefinitions", p.ready)
	web := connect(t, p.address("grpc-xds"))
	runtest.Eventually(t, "what every sidecar has", func() bool { return web.has("BlackHoleCluster") })

	for kind := range istioKinds {
		a.define(kind)
	}
	a.apply(hostEntry("one", 443))
	runtest.Eventually(t, "a host", func() bool { return web.has("outbound|443||one.example.com") })
	a.apply(`
apiVersion: v1
kind: Service
metadata: {name: web, namespace: apps}
spec: {selector: {app: web}, ports: [{name: http, port: 80}]}
`)
	runtest.Eventually(t, "a Service", func() bool { return web.has("outbound|80||web.apps.svc.cluster.local") })
	a.apply(hostEntry("one", 99999))
	a.apply(hostEntry("two", 443))
	runtest.Eventually(t, "another host", func() bool { return web.has("outbound|443||two.example.com") })
	if !web.has("outbound|443||one.example.com") {
		t.Error("the last good version of a bad object is not in force")
	}

	runtest.Eventually(t, "the status of objects", func() bool {
		return a.reconciled("apps", "one") == "False 2" && a.reconciled("apps", "two") == "True 1"
	})

	a.Down()
	late := connect(t, p.address("grpc-xds"))
	runtest.Eventually(t, "a proxy that comes while the API server is away", func() bool {
		return late.has("outbound|443||one.example.com", "outbound|443||two.example.com", "outbound|80||web.apps.svc.cluster.local")
	})
	if !p.ready() {
		t.Error("it is not ready while the API server is away")
	}
	a.Up()
	a.remove("ServiceEntry", "apps", "one")
	a.apply(hostEntry("three", 443))
	runtest.Eventually(t, "what changed since", func() bool {
		return web.has("outbound|443||three.example.com") && !web.has("outbound|443||one.example.com")
	})
	web.mu.Lock()
	defer web.mu.Unlock()
	if web.err != nil {
		t.Errorf("the proxy's stream ended: %v", web.err)
	}
	if !web.names["outbound|443||two.example.com"] {
		t.Errorf("what stayed is gone: %s", strings.Join(slices.Sorted(maps.Keys(web.names)), " "))
	}
}
