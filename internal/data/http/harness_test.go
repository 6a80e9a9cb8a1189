package http

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/credentials"
	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/record"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patient is how long a test waits for what must happen.
const patient = 10 * time.Second

// told is what a test keeps of an entry.
type told struct {
	Method, Path, Authority, Host string
	Status                        int
	Reason                        reason.Reason
	Detail, Flags, Details        string
	Cluster, Upstream, RequestID  string
	Received, Sent                int64
	Attempts                      uint32
	Protocol, UpstreamProtocol    record.Protocol
	Messages                      [2]uint64 // gRPC: from and to the client
	TrailerStatus                 string    // grpc-status
	Logs                          int
}

// recorder keeps what was recorded.
type recorder struct {
	record.Recorder // for AppendValue
	entries         chan told
}

func (r *recorder) Record(e *record.Entry, logs []resource.AccessLog) {
	c := strings.Clone
	t := told{Method: c(e.Method), Path: c(e.Path), Authority: c(e.Authority), Host: c(e.Host), Status: e.Status,
		Reason: e.Reason, Detail: c(e.Detail), Flags: strings.Join(e.Flags, ","), Details: e.ResponseCodeDetails,
		Cluster: e.UpstreamCluster, Upstream: e.UpstreamHost, Received: e.BytesReceived, Sent: e.BytesSent,
		Attempts: e.Attempts, Protocol: e.Protocol, Logs: len(logs), UpstreamProtocol: e.UpstreamProtocol,
		Messages: [2]uint64{e.RequestMessages, e.ResponseMessages}}
	if e.ResponseTrailers != nil {
		status, _ := e.ResponseTrailers.Get("grpc-status")
		t.TrailerStatus = c(status)
	}
	if e.RequestHeaders != nil {
		id, _ := e.RequestHeaders.Get("x-request-id")
		t.RequestID = c(id)
	}
	r.entries <- t
}

// world is a handler on a loopback listener, with a configuration that can change.
type world struct {
	planning         atomic.Pointer[func()] // called when a plan is asked for
	mostSpecificWins bool                   // of route configurations that are made from now on
	t                testing.TB
	handler          *Handler
	recorder         *recorder
	manager          *upstream.Manager
	listener         net.Listener
	hcm              *resource.HTTPConnectionManager
	cfg              atomic.Pointer[config.Config]
	plan             atomic.Pointer[decide.ConnPlan]
	ctx              context.Context
	drain            context.CancelFunc
	info             decide.Conn
	tls              atomic.Pointer[credentials.Session] // of the client; nil: plain text
	protocol         resource.UpstreamProtocol           // of clusters
	scarce           func() bool
	served           sync.WaitGroup

	mu       sync.Mutex
	accepted []net.Conn
	conns    []*Conn
}

// newWorld makes a world whose virtual host "example.com" forwards to a cluster
// "origin" at the addresses.
func newWorld(t testing.TB, addresses ...string) *world {
	t.Helper()
	return newLimitedWorld(t, Limits{}, nil, addresses...)
}

// newLimitedWorld is newWorld with limits of the handler, and a say on whether
// connections are scarce.
func newLimitedWorld(t testing.TB, limits Limits, scarce func() bool, addresses ...string) *world {
	t.Helper()
	w := &world{t: t, scarce: scarce, recorder: &recorder{entries: make(chan told, 4000)},
		hcm: &resource.HTTPConnectionManager{Proxy100Continue: true, UpgradeTypes: []string{"websocket"}, GenerateRequestID: true,
			NormalizePath: true, ServerName: "istio-envoy", AccessLogs: []resource.AccessLog{{Path: "/dev/null"}}}}
	w.info = decide.Conn{Source: netip.MustParseAddrPort("10.0.0.5:40000"), Destination: netip.MustParseAddrPort("203.0.113.7:80")}
	w.configure(w.clusterOf("origin", addresses...), w.routeTo("origin"))
	w.manager = upstream.NewManager(upstream.Options{})
	w.handler = NewHandler(Options{Upstreams: w.manager, Recorder: w.recorder, Limits: limits})
	w.handler.checkEvery = 20 * time.Millisecond
	w.ctx, w.drain = context.WithCancel(context.Background())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.listener = l
	w.served.Go(w.accept)
	t.Cleanup(w.close)
	return w
}

func (w *world) close() {
	w.listener.Close()
	w.drain()
	w.closeConns()
	w.served.Wait()
	w.handler.Close()
	w.manager.Close()
}

// closeConns closes the proxy's side of all connections.
func (w *world) closeConns() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.accepted {
		c.Close()
	}
}

func (w *world) accept() {
	for {
		c, err := w.listener.Accept()
		if err != nil {
			return
		}
		w.mu.Lock()
		w.accepted = append(w.accepted, c)
		w.mu.Unlock()
		w.served.Go(func() { w.handler.Serve(w.ctx, w.conn(c)) })
	}
}

func (w *world) conn(c net.Conn) *Conn {
	conn := &Conn{Net: c, Info: w.info, TLS: w.tls.Load(), Scarce: w.scarce, Plan: func() (*config.Config, decide.ConnPlan) {
		if during := w.planning.Load(); during != nil {
			(*during)()
		}
		return w.cfg.Load(), *w.plan.Load()
	}}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns = append(w.conns, conn)
	return conn
}

// startDraining drains, and waits until every connection knows.
func (w *world) startDraining() {
	w.t.Helper()
	w.drain()
	w.mu.Lock()
	defer w.mu.Unlock()
	deadline := time.Now().Add(patient)
	for _, c := range w.conns {
		for !c.draining.Load() {
			if time.Now().After(deadline) {
				w.t.Fatal("a connection does not drain")
			}
			runtime.Gosched()
		}
	}
}

func (w *world) clusterOf(name string, addresses ...string) *resource.Cluster {
	var eps []resource.Endpoint
	for _, a := range addresses {
		ap := netip.MustParseAddrPort(a)
		eps = append(eps, resource.Endpoint{Host: ap.Addr().String(), Port: ap.Port(), Address: ap, Weight: 1})
	}
	return &resource.Cluster{Name: name, ConnectTimeout: patient, Protocol: w.protocol,
		Endpoints: &resource.Endpoints{ClusterName: name, Localities: []resource.Locality{{Weight: 1, Endpoints: eps}}}}
}

func (w *world) routeTo(cluster string) *resource.Route {
	return &resource.Route{Name: "default", Match: resource.RouteMatch{Path: "/"},
		Forward: &resource.Forward{Clusters: []resource.WeightedCluster{{Name: cluster, Weight: 1}}}}
}

// configure publishes one cluster and routes of the virtual host example.com; other
// hosts are denied.
func (w *world) configure(c *resource.Cluster, routes ...*resource.Route) {
	w.configureHost(c, &resource.VirtualHost{Name: "example.com:80", Domains: []string{"example.com"}, Routes: routes})
}

func (w *world) configureHost(c *resource.Cluster, vh *resource.VirtualHost) {
	w.t.Helper()
	m := *w.hcm
	m.Inline = &resource.RouteConfiguration{Name: "80", IgnorePortInHostMatching: true, MostSpecificWins: w.mostSpecificWins, VirtualHosts: []*resource.VirtualHost{
		vh,
		{Name: "block_all", Domains: []string{"*"}, Routes: []*resource.Route{{Name: "block_all", Match: resource.RouteMatch{Path: "/"}, Direct: &resource.DirectResponse{Status: 502}}}},
	}}
	if err := m.Inline.Index(); err != nil {
		w.t.Fatal(err)
	}
	l := &resource.Listener{Name: "0.0.0.0_80", Address: netip.MustParseAddrPort("0.0.0.0:80")}
	w.plan.Store(&decide.ConnPlan{Verdict: decide.Forward, Listener: l, Chain: &resource.FilterChain{Name: "http", HTTP: &m}})
	w.cfg.Store(config.Build([]*resource.Listener{l}, nil, []*resource.Cluster{c}, nil, nil))
}

// dial connects to the handler.
func (w *world) dial() net.Conn {
	w.t.Helper()
	c, err := net.Dial("tcp", w.listener.Addr().String())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patient)); err != nil {
		w.t.Fatal(err)
	}
	return c
}

// send writes raw on a new connection and reads until the handler closes it.
func (w *world) send(raw string) string {
	w.t.Helper()
	c := w.dial()
	if _, err := io.WriteString(c, raw); err != nil {
		w.t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil {
		w.t.Fatalf("%v after %q", err, b)
	}
	return string(b)
}

// next is the next recorded entry.
func (w *world) next() told {
	w.t.Helper()
	select {
	case e := <-w.recorder.entries:
		return e
	case <-time.After(patient):
		w.t.Fatal("nothing was recorded")
		return told{}
	}
}

// nothingMore fails when something else was recorded.
func (w *world) nothingMore() {
	w.t.Helper()
	select {
	case e := <-w.recorder.entries:
		w.t.Errorf("recorded too: %+v", e)
	default:
	}
}

// origin is a server whose connections run a script.
type origin struct {
	addr  string
	conns atomic.Int32
	got   chan string // request heads, where the script tells them
}

// newOrigin serves each connection with the script, which is told the number of the
// connection, from 1.
func newOrigin(t testing.TB, script func(n int, c net.Conn, r *bufio.Reader)) *origin {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &origin{addr: l.Addr().String(), got: make(chan string, 1000)}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			n := int(o.conns.Add(1))
			wg.Go(func() {
				defer c.Close()
				script(n, c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return o
}

// answering is an origin that answers each request head, with its body of a
// Content-Length read, with the same bytes.
func answering(t *testing.T, response string) *origin {
	t.Helper()
	var o *origin
	o = newOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			head, err := readHeadOf(r)
			if err != nil {
				return
			}
			o.got <- head
			if _, err := io.WriteString(c, response); err != nil {
				return
			}
		}
	})
	return o
}

// readHeadOf reads one message: the head, and the body if it has a length.
func readHeadOf(r *bufio.Reader) (string, error) {
	var b strings.Builder
	length := 0
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return b.String(), err
		}
		b.WriteString(line)
		if v, ok := strings.CutPrefix(strings.ToLower(line), "content-length:"); ok {
			if _, err := fmt.Sscan(v, &length); err != nil {
				return "", err
			}
		}
		if line == "\r\n" {
			break
		}
	}
	_, err := io.CopyN(&b, r, int64(length))
	return b.String(), err
}

func (o *origin) head(t *testing.T) string {
	t.Helper()
	select {
	case h := <-o.got:
		return h
	case <-time.After(patient):
		t.Fatal("the origin got no request")
		return ""
	}
}

const okHello = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

func get(path string, lines ...string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: example.com\r\n" + strings.Join(append(lines, ""), "\r\n") + "\r\n"
}

// expect reads from c exactly want, or fails.
func expect(t *testing.T, c io.Reader, want string) {
	t.Helper()
	b := make([]byte, len(want))
	n, err := io.ReadFull(c, b)
	if got := string(b[:n]); got != want {
		t.Fatalf("got %q (%v), want %q", got, err, want)
	}
}

// headOf reads a response head.
func headOf(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		b.WriteString(line)
		if err != nil {
			t.Fatalf("%v after %q", err, b.String())
		}
		if line == "\r\n" {
			return b.String()
		}
	}
}

// hasLine reports whether a head has the line, without regard to case.
func hasLine(head, line string) bool {
	return strings.Contains(strings.ToLower(head), "\r\n"+strings.ToLower(line)+"\r\n")
}
