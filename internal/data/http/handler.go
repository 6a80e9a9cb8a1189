// Package http is the life of HTTP requests on one downstream connection: read the
// head, ask for the plan, route, edit, forward with retries and timeouts, answer,
// record. An exchange is one request and does not know which version of HTTP its two
// sides speak: see the interfaces client and server. They are implemented with the
// codecs data/http1 (session, upstreamConn) and data/http2 (clientStream,
// upstreamStream), in any pairing. The package keeps the pools of upstream connections.
//
// It must not accept connections (data/proxy), decide (data/decide), choose or dial
// endpoints (data/upstream), or use net/http.
package http

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/credentials"
	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/http1"
	"github.com/egret-mesh/egret/internal/data/http2"
	"github.com/egret-mesh/egret/internal/data/record"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/socket"
	"github.com/egret-mesh/egret/internal/data/upstream"
)

// Conn is one downstream connection that speaks HTTP.
type Conn struct {
	Net net.Conn
	// Peeked is what was read while sniffing.
	Peeked []byte
	Info   decide.Conn
	// ID counts connections, and Start is when this one was accepted, for the record.
	ID    uint64
	Start time.Time
	// DirectLocal is the address at which it was accepted.
	DirectLocal netip.AddrPort
	// TLS is the session that the proxy ended, and Handshake the time from Start to its
	// handshake's end; nil: plain text.
	TLS       *credentials.Session
	Handshake time.Duration
	// Plan is called once per request, when its first bytes are there. A plan that
	// denies, or whose chain does not serve HTTP, refuses the request.
	Plan func() (*config.Config, decide.ConnPlan)

	// Scarce, if not nil, reports that connections are scarce: then a client that makes
	// the proxy wait (a body that does not come, an answer that is not read) is given up
	// after Limits.ScarceTimeout.
	Scarce func() bool
	// Ended, if it is set, is called once, when the connection has ended.
	Ended func()

	draining atomic.Bool
	retiring atomic.Bool
	asked    atomic.Bool   // of HTTP/2: there was a request
	streams  atomic.Uint32 // of HTTP/2, where their number is limited
	cert     atomic.Pointer[clientCert]
	mu       sync.Mutex
	onDrain  func() // of the session; nil before Serve and after it
	polite   bool   // onDrain loses no request that is on its way
}

// Drain makes the request under way the last one, and closes a connection that is idle.
// It may be called at any time, from any goroutine.
func (c *Conn) Drain() {
	c.draining.Store(true)
	c.mu.Lock()
	f := c.onDrain
	c.mu.Unlock()
	if f != nil {
		f()
	}
}

// Retire makes the request that comes next the last one. Unlike Drain it leaves an idle
// connection of HTTP/1 open: a request may be on its way already, and would be lost (RFC
// 9112 section 9.6). HTTP/2 has GOAWAY for that, once there was a request: a client that
// gets it before takes the connection for one that could not be made, and may fail its
// first request (net/http does). It may be called at any time, from any goroutine.
func (c *Conn) Retire() {
	c.retiring.Store(true)
	c.mu.Lock()
	f := c.onDrain
	if !c.polite || !c.asked.Load() {
		f = nil
	}
	c.mu.Unlock()
	if f != nil {
		f()
	}
}

// Draining reports whether Drain has been called.
func (c *Conn) Draining() bool { return c.draining.Load() }

// leaving reports that an answer that begins now is the last one.
func (c *Conn) leaving() bool { return c.draining.Load() || c.retiring.Load() }

// whenDrained has Drain call f; nil: nothing more. Where f is polite Retire calls it, too.
func (c *Conn) whenDrained(f func(), polite bool) {
	c.mu.Lock()
	c.onDrain, c.polite = f, polite
	c.mu.Unlock()
	if f != nil && (c.draining.Load() || polite && c.asked.Load() && c.retiring.Load()) {
		f()
	}
}

// begins notes that there is a request on a connection of HTTP/2.
func (c *Conn) begins() {
	if !c.asked.Load() && !c.asked.Swap(true) && c.retiring.Load() {
		c.Retire()
	}
}

// Upstreams chooses and dials; *upstream.Manager does.
type Upstreams interface {
	Pick(ctx context.Context, c *config.Cluster, t *upstream.Target, avoid []*upstream.Host) (*upstream.Host, *upstream.Error)
	Dial(ctx context.Context, c *config.Cluster, h *upstream.Host, t *upstream.Target, idle func() bool) (net.Conn, *upstream.Error)
	ConnKey(h *upstream.Host, t *upstream.Target) string
	AdmitRetry(c *config.Cluster, p resource.RoutingPriority) (upstream.RetrySlot, bool)
}

// Recorder takes finished requests; *record.Recorder does.
type Recorder interface {
	Record(e *record.Entry, logs []resource.AccessLog)
	// AppendValue appends a header value with command operators, for a request whose
	// entry is filled in so far.
	AppendValue(dst []byte, value string, e *record.Entry) []byte
}

// RouteFunc decides for one request, as decide.Route does. It must not allocate where
// the request is forwarded, and is also called while the request runs.
type RouteFunc func(cfg *config.Config, hcm *resource.HTTPConnectionManager, r *decide.Request) decide.RoutePlan

// Limits are the bounds that configuration does not give. Zero means the default.
type Limits struct {
	http1.Limits
	// HeadTimeout is how long a request head may take once it has begun, where the
	// configuration has no request_headers_timeout. Default 60 s.
	HeadTimeout time.Duration
	// HeadMemory bounds the memory of unfinished request heads of more than 4 KiB, of
	// all connections together; over it the oldest is given up. Default 32 MiB.
	HeadMemory int
	// ScarceTimeout is how long a client may make the proxy wait while connections are
	// scarce (Conn.Scarce). Default 10 s.
	ScarceTimeout time.Duration
	// DrainBytes is how much of a refused request's body is read so that the
	// connection can be used again. Default 64 KiB.
	DrainBytes int64
	// LingerTime bounds how long a connection is read after its last response, so
	// that the response is not lost. Default 1 s.
	LingerTime time.Duration
	// Mirrors bounds the mirrored requests under way; more are left out. Default 256.
	Mirrors int
	// IdlePerHost bounds the idle connections kept for one upstream host. Default 1024.
	IdlePerHost int
	// IdleTotal bounds those of all hosts together: a workload can call any number of
	// names below a wildcard. Default 4096.
	IdleTotal int
}

func (l Limits) withDefaults() Limits {
	if l.HeadTimeout <= 0 {
		l.HeadTimeout = 60 * time.Second
	}
	if l.HeadMemory <= 0 {
		l.HeadMemory = 32 << 20
	}
	if l.ScarceTimeout <= 0 {
		l.ScarceTimeout = 10 * time.Second
	}
	if l.DrainBytes <= 0 {
		l.DrainBytes = 64 << 10
	}
	if l.LingerTime <= 0 {
		l.LingerTime = time.Second
	}
	if l.Mirrors <= 0 {
		l.Mirrors = 256
	}
	if l.IdlePerHost <= 0 {
		l.IdlePerHost = 1024
	}
	if l.IdleTotal <= 0 {
		l.IdleTotal = 4096
	}
	return l
}

// Options of a Handler. Upstreams and Recorder are needed.
type Options struct {
	Upstreams Upstreams
	Recorder  Recorder
	Route     RouteFunc // nil: decide.Route
	// OnDemand is where hosts and clusters are asked for by name; nil: nowhere.
	OnDemand config.OnDemand
	Logger   *slog.Logger // nil discards
	Limits   Limits
}

// Handler serves connections. It is safe for concurrent use; Close it when no
// connection is served any more.
type Handler struct {
	upstreams Upstreams
	recorder  Recorder
	route     RouteFunc
	onDemand  config.OnDemand
	log       *slog.Logger
	limits    Limits
	started   time.Time // zero of the monotonic clock of all deadlines
	buffers   http1.Pool
	pipes     socket.Pool // of large bodies
	workers   http2.Workers
	exchanges sync.Pool
	streams   sync.Pool // of *clientStream
	heads     heads
	pool      pool
	faults    atomic.Int64 // requests that a fault was injected into, under way
	mirrors   mirrors
	date      atomic.Pointer[datestamp]
	// checkEvery is how often a waiting request looks whether its client is still
	// there and still allowed.
	checkEvery time.Duration
	rests      rests
	// restAfter is when a connection without a request gives up its goroutine.
	restAfter time.Duration
}

// NewHandler makes a handler. It starts nothing before the first connection.
func NewHandler(o Options) *Handler {
	h := &Handler{
		upstreams: o.Upstreams, recorder: o.Recorder, route: o.Route, log: o.Logger,
		limits: o.Limits.withDefaults(), started: time.Now(), checkEvery: time.Second / 2, restAfter: time.Second,
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if h.onDemand = o.OnDemand; h.onDemand == nil {
		h.onDemand = config.Offline{}
	}
	if h.route == nil {
		h.route = decide.Route
	}
	h.pool.limit, h.pool.most = h.limits.IdlePerHost, int64(h.limits.IdleTotal)
	h.mirrors.init(h.limits.Mirrors)
	h.heads.most = h.limits.HeadMemory
	h.exchanges.New = func() any { return new(exchange) }
	h.streams.New = h.newClientStream
	return h
}

// Close ends mirrored requests and closes the upstream connections.
func (h *Handler) Close() {
	h.mirrors.close()
	h.pool.close()
	h.workers.Close()
	h.rests.close()
	h.pipes.Close()
}

// Serve serves one downstream connection to its end and closes it. When ctx ends, the
// connection is drained. Who does not want to wait for that closes c.Net. Where c.Ended is
// set, Serve may return earlier: a connection that waits for a request needs no goroutine.
func (h *Handler) Serve(ctx context.Context, c *Conn) {
	s := newSession(h, c)
	c.whenDrained(s.drain, false)
	if ctx.Done() != nil { // where it is nil, not even a little memory for that
		s.detach = context.AfterFunc(ctx, c.Drain)
	}
	s.run()
}

// planOf asks for the plan; there is a connection manager where it serves HTTP.
func planOf(c *Conn) (*config.Config, decide.ConnPlan, *resource.HTTPConnectionManager) {
	cfg, plan := c.Plan()
	if plan.Verdict != decide.Forward || plan.Chain == nil {
		return cfg, plan, nil
	}
	return cfg, plan, plan.Chain.HTTP
}

// now is the time since the handler was made.
func (h *Handler) now() time.Duration { return time.Since(h.started) }

// datestamp is a Date field value (RFC 9110 section 5.6.7) and the second it is for.
type datestamp struct {
	second int64
	text   string
}

// dateAt formats a time as Date; within one second the same string is given.
func (h *Handler) dateAt(t time.Time) string {
	second := t.Unix()
	if d := h.date.Load(); d != nil && d.second == second {
		return d.text
	}
	d := &datestamp{second, t.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")}
	h.date.Store(d)
	return d.text
}
