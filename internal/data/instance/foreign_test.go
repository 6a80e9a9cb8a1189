package instance

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	nethttp "net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/resource/resourcetest"
	"github.com/egret-mesh/egret/internal/data/upstream"
	"github.com/egret-mesh/egret/internal/xds"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// eventually waits until got gives what is wanted.
func eventually(t *testing.T, what, want string, got func() string) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	last := got()
	for ; !strings.HasPrefix(last, want); last = got() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s: %q, want %q", what, last, want)
		}
	}
}

// world is the machine of a test: names, and which socket stands for which address. A
// proxy's listeners are at free ports of loopback.
type world struct {
	names map[string]netip.Addr

	mu    sync.Mutex
	at    map[string]string         // address -> socket
	calls map[string]netip.AddrPort // listener's socket -> where its connections wanted to go
}

func (w *world) Lookup(_ context.Context, name string, _ upstream.Family) ([]netip.Addr, upstream.TTL, error) {
	if a, ok := w.names[name]; ok {
		return []netip.Addr{a}, time.Minute, nil
	}
	return nil, 0, fmt.Errorf("%q: %w", name, upstream.ErrNoSuchName)
}

func (w *world) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	w.mu.Lock()
	to := w.at[address]
	w.mu.Unlock()
	if to == "" {
		return nil, fmt.Errorf("nobody is at %s", address)
	}
	var d net.Dialer
	return d.DialContext(ctx, network, to)
}

// sockets are one proxy's in the world.
type sockets struct {
	*world
	host string // that the proxy's listeners are at
}

func (s sockets) Listen(_ context.Context, l *resource.Listener) ([]net.Listener, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	port := l.Address.Port()
	if s.host == gatewayHost {
		port += 8000 // the recorded listener has the port of the Gateway, the endpoint the targetPort
	}
	s.at[fmt.Sprintf("%s:%d", s.host, port)] = ln.Addr().String()
	return []net.Listener{ln}, nil
}

func (s sockets) OriginalDestination(c net.Conn) (netip.AddrPort, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[c.RemoteAddr().String()], nil
}

// call sends a request to an address, by a proxy that takes all connections at via, or
// straight where via is "".
func (w *world) call(via, address, host string) string {
	w.mu.Lock()
	to := w.at[address]
	if via != "" {
		to = w.at[via]
	}
	w.mu.Unlock()
	if to == "" {
		return "nobody is there"
	}
	// The connection's own address says where it wanted to go, before it is made.
	local, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err.Error()
	}
	from := local.Addr()
	if err := local.Close(); err != nil {
		return err.Error()
	}
	w.mu.Lock()
	w.calls[from.String()] = netip.MustParseAddrPort(address)
	w.mu.Unlock()
	d := net.Dialer{LocalAddr: from, Timeout: patience}
	c, err := d.Dial("tcp", to)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = c.Close() }()
	if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host); err != nil {
		return err.Error()
	}
	r, err := nethttp.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err.Error()
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d %s", r.StatusCode, body)
}

// website answers at an address with its name.
func (w *world) website(t *testing.T, name, address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &nethttp.Server{Handler: nethttp.HandlerFunc(func(out nethttp.ResponseWriter, r *nethttp.Request) {
		fmt.Fprint(out, name)
	})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := server.Serve(ln); !errors.Is(err, nethttp.ErrServerClosed) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	w.at[address] = ln.Addr().String()
}

// foreign is go-control-plane's own server, over TCP.
func foreign(t *testing.T) (cachev3.SnapshotCache, *grpc.ClientConn) {
	t.Helper()
	cache := cachev3.NewSnapshotCache(false, cachev3.IDHash{}, nil)
	ctx, cancel := context.WithCancel(context.Background())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, serverv3.NewServer(ctx, cache, serverv3.CallbackFuncs{
		StreamRequestFunc: func(_ int64, r *discoveryv3.DiscoveryRequest) error {
			if r.ErrorDetail != nil {
				t.Errorf("NACK of %s: %s", r.TypeUrl, r.ErrorDetail.Message)
			}
			return nil
		},
		StreamDeltaRequestFunc: func(_ int64, r *discoveryv3.DeltaDiscoveryRequest) error {
			if r.ErrorDetail != nil {
				t.Errorf("NACK of %s: %s", r.TypeUrl, r.ErrorDetail.Message)
			}
			return nil
		},
	}))
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	t.Cleanup(func() {
		cancel()
		server.Stop()
		<-served
	})
	conn, err := xds.Dial(ln.Addr().String(), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return cache, conn
}

// send gives a node what was recorded, as edit leaves it.
func send(t *testing.T, cache cachev3.SnapshotCache, node, version string, rec resourcetest.Recorded, edit func(proto.Message)) {
	t.Helper()
	resources := map[string][]types.Resource{}
	for _, list := range [][]*anypb.Any{rec.Clusters, rec.Endpoints, rec.Listeners, rec.Routes} {
		for _, body := range list {
			m, err := body.UnmarshalNew()
			if err != nil {
				t.Fatal(err)
			}
			edit(m)
			resources[body.TypeUrl] = append(resources[body.TypeUrl], m)
		}
	}
	snapshot, err := cachev3.NewSnapshot(version, resources)
	if err != nil {
		t.Fatal(err)
	}
	if err := cache.SetSnapshot(t.Context(), node, snapshot); err != nil {
		t.Fatal(err)
	}
}

// start starts a proxy under a control plane.
func start(t *testing.T, w *world, conn grpc.ClientConnInterface, node, host string, sotw bool) {
	t.Helper()
	i, err := New(Options{
		ControlPlanes: []grpc.ClientConnInterface{conn}, SotW: sotw, Node: &corev3.Node{Id: node},
		OpenLog: func(string) (io.WriteCloser, error) { return discard{}, nil },
		Dialer:  w, Resolver: w, DrainTimeout: -1,
		Refused: func(err error) { t.Errorf("%s refuses %v", node, err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := i.Configure(ctx); err != nil {
			t.Error(err)
		}
	})
	running.Go(func() {
		if err := i.Serve(ctx, sockets{w, host}, nil); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	})
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) Close() error                { return nil }

const (
	wikipedia, google = "198.51.100.7:80", "198.51.100.8:80"
	gatewayHost       = "10.244.0.20" // as recorded
)

// The rows of the lab's table, by proxies under somebody else's control plane that sends
// what a stock istiod sends. What was recorded is the last row; those before it are made
// of it by taking back what the lab adds.
func TestLabUnderAForeignControlPlane(t *testing.T) {
	for _, policy := range []string{"registry_only", "allow_any"} {
		for form, sotw := range map[string]bool{"sotw": true, "delta": false} {
			t.Run(policy+" "+form, func(t *testing.T) { labUnder(t, policy, sotw) })
		}
	}
}

func labUnder(t *testing.T, policy string, sotw bool) {
	sidecar, gateway := resourcetest.Reference(t, policy, "sidecar"), resourcetest.Reference(t, policy, "egressgateway")
	w := &world{
		names: map[string]netip.Addr{"www.wikipedia.org": netip.MustParseAddr("198.51.100.7"), "www.google.com": netip.MustParseAddr("198.51.100.8")},
		at:    map[string]string{}, calls: map[string]netip.AddrPort{},
	}
	w.website(t, "wikipedia", wikipedia)
	w.website(t, "google", google)
	const via = "sidecar:15001"
	row := func(name, by, wantWikipedia, wantGoogle string) {
		t.Helper()
		eventually(t, name+": wikipedia", wantWikipedia, func() string { return w.call(by, wikipedia, "www.wikipedia.org") })
		eventually(t, name+": google", wantGoogle, func() string { return w.call(by, google, "www.google.com") })
	}
	row("no sidecar", "", "200 wikipedia", "200 google")

	refused, unknown := "200 wikipedia", "200 google"
	if policy == "registry_only" {
		refused, unknown = "502 egret: not_in_registry: www.wikipedia.org", "502 egret: not_in_registry: www.google.com"
	}
	cache, conn := foreign(t)
	send(t, cache, "sidecar", "1", sidecar, withoutWikipedia)
	start(t, w, conn, "sidecar", "sidecar", sotw)
	row("sidecar", via, refused, unknown)

	send(t, cache, "sidecar", "2", sidecar, pastTheGateway)
	row("ServiceEntry only", via, "200 wikipedia", unknown)

	// Without a gateway the way through it leads nowhere; with one it does.
	send(t, cache, "sidecar", "3", sidecar, asRecorded)
	eventually(t, "no gateway yet", "503 egret: upstream_connect_failed", func() string { return w.call(via, wikipedia, "www.wikipedia.org") })
	send(t, cache, "gateway", "1", gateway, asRecorded)
	start(t, w, conn, "gateway", gatewayHost, sotw)
	row("egress gateway", via, "200 wikipedia", unknown)
}

func asRecorded(proto.Message) {}

func isWikipedia(v *routev3.VirtualHost) bool { return slices.Contains(v.Domains, "www.wikipedia.org") }

// withoutWikipedia takes the ServiceEntry back.
func withoutWikipedia(m proto.Message) {
	switch m := m.(type) {
	case *routev3.RouteConfiguration:
		m.VirtualHosts = slices.DeleteFunc(m.VirtualHosts, isWikipedia)
	case *listenerv3.Listener:
		m.FilterChains = slices.DeleteFunc(m.FilterChains, func(c *listenerv3.FilterChain) bool {
			return slices.Contains(c.GetFilterChainMatch().GetServerNames(), "www.wikipedia.org")
		})
	}
}

// pastTheGateway takes the VirtualService back.
func pastTheGateway(m proto.Message) {
	rc, ok := m.(*routev3.RouteConfiguration)
	if !ok {
		return
	}
	for _, v := range rc.VirtualHosts {
		if isWikipedia(v) {
			v.Routes = []*routev3.Route{{
				Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
				Action: &routev3.Route_Route{Route: &routev3.RouteAction{
					ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: "outbound|80||www.wikipedia.org"},
				}},
			}}
		}
	}
}
