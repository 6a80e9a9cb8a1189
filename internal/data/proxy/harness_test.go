package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/http"
	"github.com/egret-mesh/egret/internal/data/record"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/upstream"
)

func TestMain(m *testing.M) {
	if os.Getenv(floodEnv) != "" {
		os.Exit(floodMain())
	}
	goleak.VerifyTestMain(m)
}

// patience bounds every wait of these tests.
const patience = 20 * time.Second

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s: does not come", what)
		}
	}
}

// source is a configuration source in memory.
type source struct {
	current atomic.Pointer[config.Config]
	mu      sync.Mutex
	subs    map[chan struct{}]bool
}

func (s *source) Current() *config.Config { return s.current.Load() }

func (s *source) Subscribe() (<-chan struct{}, func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := make(chan struct{}, 1)
	s.subs[c] = true
	return c, func() { s.mu.Lock(); defer s.mu.Unlock(); delete(s.subs, c) }
}

func (s *source) set(c *config.Config) {
	s.current.Store(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.subs {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// sockets opens loopback sockets for the listeners. Every connection has the original destination dst.
type sockets struct {
	mu     sync.Mutex
	dst    netip.AddrPort
	open   map[string]string // listener name -> address
	opened int
	fail   bool
}

func (s *sockets) Listen(ctx context.Context, l *resource.Listener) ([]net.Listener, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail {
		return nil, fmt.Errorf("no socket today")
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.opened++
	s.open[l.Name] = ln.Addr().String()
	return []net.Listener{ln}, nil
}

func (s *sockets) OriginalDestination(net.Conn) (netip.AddrPort, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dst, nil
}

func (s *sockets) address(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[name]
}

// bindings are what the DNS proxy would know.
type bindings map[string]decide.Binding

func (b bindings) Binding(a netip.Addr) decide.Binding { return b[a.String()] }

func (b bindings) Destination(_ *config.Config, dst netip.AddrPort) netip.AddrPort { return dst }

// logs collects access log lines.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.b.Write(b) }
func (l *logs) Close() error                { return nil }
func (l *logs) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(strings.TrimSuffix(l.b.String(), "\n"), "\n")
}

// logFormat: reason cluster received sent sni flags.
const logFormat = "%EGRET_REASON% %UPSTREAM_CLUSTER% %BYTES_RECEIVED% %BYTES_SENT% %REQUESTED_SERVER_NAME% %RESPONSE_FLAGS%\n"

var testLog = []resource.AccessLog{{Path: "log", Text: logFormat}}

// rig is a running proxy with its surroundings.
type rig struct {
	t        *testing.T
	source   *source
	sockets  *sockets
	bindings bindings
	logs     *logs
	recorder *record.Recorder
	manager  *upstream.Manager
	handler  *http.Handler
	proxy    *Proxy
	cancel   context.CancelFunc
	done     chan struct{}
}

// start runs a proxy with cfg; connections have dst as their original destination.
func start(t *testing.T, cfg *config.Config, dst string, change ...func(*Options)) *rig {
	t.Helper()
	return startIn(t, upstream.Options{}, cfg, dst, change...)
}

// startIn is start with a network of the test's own.
func startIn(t *testing.T, u upstream.Options, cfg *config.Config, dst string, change ...func(*Options)) *rig {
	t.Helper()
	r := &rig{t: t, source: &source{subs: map[chan struct{}]bool{}}, logs: &logs{}, bindings: bindings{},
		sockets: &sockets{dst: netip.MustParseAddrPort(dst), open: map[string]string{}}, done: make(chan struct{})}
	r.source.set(cfg)
	var err error
	r.recorder, err = record.New(record.Options{
		Open:      func(string) (io.WriteCloser, error) { return r.logs, nil },
		DenialLog: resource.AccessLog{Path: "log", Text: logFormat},
	})
	if err != nil {
		t.Fatal(err)
	}
	u.Source = r.source
	r.manager = upstream.NewManager(u)
	r.handler = http.NewHandler(http.Options{Upstreams: r.manager, Recorder: r.recorder, Route: decide.Route})
	o := Options{Source: r.source, Sockets: r.sockets, Upstreams: r.manager, HTTP: r.handler, Recorder: r.recorder,
		Binder: r.bindings, DrainTimeout: -1}
	for _, f := range change {
		f(&o)
	}
	r.proxy = New(o)
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() {
		defer close(r.done)
		if err := r.proxy.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(r.stop)
	return r
}

func (r *rig) stop() {
	r.cancel()
	<-r.done
	r.handler.Close()
	r.manager.Close()
	if err := r.recorder.Close(); err != nil {
		r.t.Error(err)
	}
}

// dial connects a client to the outbound listener.
func (r *rig) dial() *net.TCPConn {
	r.t.Helper()
	eventually(r.t, "the listener", func() bool { return r.sockets.address("virtualOutbound") != "" })
	c, err := net.Dial("tcp", r.sockets.address("virtualOutbound"))
	if err != nil {
		r.t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	r.t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

// closedAtOnce connects a client that is expected to be closed; the reset may come
// before Dial has looked.
func (r *rig) closedAtOnce() {
	r.t.Helper()
	eventually(r.t, "the listener", func() bool { return r.sockets.address("virtualOutbound") != "" })
	c, err := net.Dial("tcp", r.sockets.address("virtualOutbound"))
	if err == nil {
		_ = c.SetDeadline(time.Now().Add(patience))
		_, err = c.Read(make([]byte, 1))
		_ = c.Close()
	}
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		r.t.Errorf("not closed: %v", err)
	}
}

// logged waits for a line.
func (r *rig) logged(want string) {
	r.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		for _, l := range r.logs.lines() {
			if l == want {
				return
			}
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("no line %q in %q", want, r.logs.lines())
		}
		<-time.After(2 * time.Millisecond)
	}
}

func (r *rig) connections(n int) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("%d connections", n), func() bool { return r.proxy.Info().Connections == n })
}

// serve runs a TCP server; handle is called per connection, which is closed after it.
func serve(t *testing.T, handle func(*net.TCPConn)) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(patience))
				handle(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

func echo(c *net.TCPConn) { _, _ = io.Copy(c, c) }

// The configuration: a virtualOutbound that hands over, and listeners behind it.

func tcpChain(cluster string, names ...string) *resource.FilterChain {
	return &resource.FilterChain{Name: cluster, Match: resource.FilterChainMatch{ServerNames: names},
		TCP: &resource.TCPProxy{Clusters: []resource.WeightedCluster{{Name: cluster, Weight: 1}}, AccessLogs: testLog}}
}

func virtualOutbound(fallback string) *resource.Listener {
	return &resource.Listener{Name: "virtualOutbound", Address: netip.MustParseAddrPort("0.0.0.0:15001"), BindToPort: true,
		UseOriginalDst: true, AccessLogs: testLog, FilterChains: []*resource.FilterChain{tcpChain(fallback)}}
}

func listenerOn(port uint16, chains ...*resource.FilterChain) *resource.Listener {
	return &resource.Listener{Name: fmt.Sprintf("0.0.0.0_%d", port), Address: netip.AddrPortFrom(netip.IPv4Unspecified(), port),
		FilterChains: chains, ContinueOnTimeout: true}
}

func static(name string, to netip.AddrPort) *resource.Cluster {
	return &resource.Cluster{Name: name, ConnectTimeout: patience, Endpoints: &resource.Endpoints{ClusterName: name,
		Localities: []resource.Locality{{Endpoints: []resource.Endpoint{{Host: to.Addr().String(), Port: to.Port(), Address: to}}}}}}
}

func configOf(listeners []*resource.Listener, clusters ...*resource.Cluster) *config.Config {
	return config.Build(listeners, nil, clusters, nil, nil)
}

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
