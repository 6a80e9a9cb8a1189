package control

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/egret-mesh/egret/internal/xds"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const origin = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: origin, namespace: default}
spec:
  hosts: [origin.bench.test]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 9999}]
  endpoints: [{address: 127.0.0.1}]
`

// got keeps what a proxy was sent.
type got struct {
	mu      sync.Mutex
	all     map[string]xds.Resource
	changed chan struct{}
}

func (g *got) Apply(u xds.Update) map[string]error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range u.Changed {
		g.all[u.TypeURL+" "+r.Name] = r
	}
	select {
	case g.changed <- struct{}{}:
	default:
	}
	return nil
}

// wait waits until something is there.
func (g *got) wait(t *testing.T, key string) xds.Resource {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		g.mu.Lock()
		r, ok := g.all[key]
		g.mu.Unlock()
		if ok {
			return r
		}
		select {
		case <-g.changed:
		case <-deadline:
			t.Fatalf("%q never comes", key)
		}
	}
}

func connect(t *testing.T, p *Plane) *got {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+p.Address(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	g := &got{all: map[string]xds.Resource{}, changed: make(chan struct{}, 1)}
	client := xds.NewClient(conn, xds.ClientOptions{Node: SidecarNode(), Delta: true, Handler: g})
	client.Subscribe(xds.ListenerType, nil)
	client.Subscribe(xds.ClusterType, nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = client.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended; conn.Close() })
	return g
}

func TestPlane(t *testing.T) {
	at := netip.MustParseAddrPort("127.0.0.1:18080")
	for name, binds := range map[string]map[string]netip.AddrPort{"captured": nil, "bound": {"0.0.0.0_80": at}} {
		t.Run(name, func(t *testing.T) {
			p, err := Start(Options{YAML: origin, Binds: binds})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(p.Close)
			g := connect(t, p)
			var l listenerv3.Listener
			if err := g.wait(t, xds.ListenerType+" 0.0.0.0_80").Body.UnmarshalTo(&l); err != nil {
				t.Fatal(err)
			}
			a := l.GetAddress().GetSocketAddress()
			if bound := a.GetAddress() == "127.0.0.1" && a.GetPortValue() == 18080 && l.GetBindToPort().GetValue(); bound != (binds != nil) {
				t.Errorf("the listener is bound to %v, %v", a, l.GetBindToPort())
			}
			if len(l.FilterChains) == 0 || l.DefaultFilterChain == nil {
				t.Error("it lost its chains")
			}
			more := strings.NewReplacer("name: origin", "name: more", "origin.", "more.").Replace(origin)
			if err := p.Change(origin + "---" + more); err != nil {
				t.Fatal(err)
			}
			g.wait(t, xds.ClusterType+" outbound|80||more.bench.test")
			if nacks := p.Nacks(); len(nacks) > 0 {
				t.Errorf("NACKs %q", nacks)
			}
		})
	}
}

func TestPlaneRefuses(t *testing.T) {
	if p, err := Start(Options{YAML: strings.Replace(origin, "number: 80", "number: 0", 1)}); err == nil {
		p.Close()
		t.Error("a port 0 is taken")
	}
}
