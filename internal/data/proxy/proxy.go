// Package proxy is the life of one connection, told in order: accept, original
// destination, binding, sniff, decide, dial, copy, record. It owns the listening
// sockets and the table of live connections, and judges these again whenever the
// configuration changes.
//
// It must not decide (that is data/decide), speak HTTP (data/http), choose endpoints
// (data/upstream) or know where the configuration comes from.
package proxy

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
	"github.com/egret-mesh/egret/internal/data/http"
	"github.com/egret-mesh/egret/internal/data/record"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/socket"
	"github.com/egret-mesh/egret/internal/data/upstream"
	"github.com/egret-mesh/egret/internal/data/workers"
)

// Sockets is the seam between ways to deploy: it opens the listening sockets and knows
// where an accepted connection wanted to go.
type Sockets interface {
	// Listen opens the sockets of a listener: one per address, or others that stand for them.
	Listen(ctx context.Context, l *resource.Listener) ([]net.Listener, error)
	// OriginalDestination is asked for connections of listeners with UseOriginalDst or
	// OriginalDst.
	OriginalDestination(net.Conn) (netip.AddrPort, error)
}

// Binder tells what the DNS proxy knows of an address.
type Binder interface {
	Binding(addr netip.Addr) decide.Binding
	// Destination is where a connection to dst leads under cfg: an address that was
	// handed out for a name may stand for another one that the name has by now.
	Destination(cfg *config.Config, dst netip.AddrPort) netip.AddrPort
}

// Upstreams connects to a cluster; *upstream.Manager does.
type Upstreams interface {
	Connect(ctx context.Context, c *config.Cluster, t *upstream.Target) (net.Conn, *upstream.Host, *upstream.Error)
}

// HTTP serves connections that speak HTTP, also those whose plan denies: it answers
// each request by the plan of its time. *http.Handler does.
type HTTP interface {
	Serve(ctx context.Context, c *http.Conn)
}

// Options of a Proxy. Source, Sockets, Upstreams, HTTP and Recorder are needed.
type Options struct {
	Source    config.Source
	Sockets   Sockets
	Upstreams Upstreams
	HTTP      HTTP
	Recorder  *record.Recorder
	OnDemand  config.OnDemand      // where filter chains and names are asked for; nil: nowhere
	Binder    Binder               // nil: no address was handed out by a DNS proxy
	Logger    *slog.Logger         // nil discards
	Secrets   *credentials.Secrets // what TLS contexts refer to by name; nil: there is no agent
	// MaxConnections bounds the live connections; more are closed at once and recorded
	// as too_many_connections. 0: 16384.
	MaxConnections int
	// DrainTimeout is how long Run waits for live connections after its context
	// ended, before it closes them. 0: 5 s; negative: not at all.
	DrainTimeout time.Duration
}

const (
	defaultMaxConnections = 16384
	defaultDrainTimeout   = 5 * time.Second
	// listenRetry is when a listener that could not be opened is tried again.
	listenRetry = time.Second
)

// Proxy accepts connections on the listeners of the configuration and carries each to
// where the configuration lets it go.
type Proxy struct {
	source         config.Source
	sockets        Sockets
	upstreams      Upstreams
	http           HTTP
	recorder       *record.Recorder
	binder         Binder
	onDemand       config.OnDemand
	log            *slog.Logger
	maxConnections int
	drainTimeout   time.Duration

	acceptors acceptors
	servers   servers
	count     atomic.Int64
	ids       atomic.Uint64
	handlers  sync.WaitGroup // one per connection
	relays    socket.Pool
	workers   workers.Pool[task]
	opened    atomic.Bool // see Ready
	retiring  struct{ all, inbound atomic.Bool }

	// serving ends when draining begins.
	serving context.Context

	judged *config.Config // that live connections were judged by last; of Run

	mu   sync.Mutex
	live map[*connection]struct{}
}

// New makes a proxy. It opens nothing before Run.
func New(o Options) *Proxy {
	p := &Proxy{
		source: o.Source, sockets: o.Sockets, upstreams: o.Upstreams, http: o.HTTP, recorder: o.Recorder,
		binder: o.Binder, log: o.Logger, maxConnections: o.MaxConnections, drainTimeout: o.DrainTimeout,
		live: map[*connection]struct{}{},
	}
	if p.onDemand = o.OnDemand; p.onDemand == nil {
		p.onDemand = config.Offline{}
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if p.maxConnections <= 0 {
		p.maxConnections = defaultMaxConnections
	}
	if p.drainTimeout == 0 {
		p.drainTimeout = defaultDrainTimeout
	}
	p.acceptors.byKey = map[string]*acceptor{}
	p.servers = servers{log: p.log, secrets: o.Secrets, all: map[*resource.DownstreamTLS]*tlsServer{}}
	return p
}

// Run opens the listeners of the configuration, follows its changes, and serves until
// ctx ends. Then it stops accepting, lets live connections end for DrainTimeout, and
// closes the rest. It returns when every connection is recorded. Call it once.
func (p *Proxy) Run(ctx context.Context) error {
	var stopServing context.CancelFunc
	p.serving, stopServing = context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()

	changed, unsubscribe := p.source.Subscribe()
	defer unsubscribe()
	retry := time.NewTimer(listenRetry)
	defer retry.Stop()
	for {
		p.follow(p.source.Current(), retry)
		select {
		case <-changed:
		case <-retry.C:
		case <-ctx.Done():
			p.acceptors.closeAll()
			stopServing()
			p.drain()
			p.relays.Close()
			p.workers.Close()
			return nil
		}
	}
}

// follow brings listeners and live connections in line with a configuration.
func (p *Proxy) follow(cfg *config.Config, retry *time.Timer) {
	if cfg == nil {
		return
	}
	failed := p.acceptors.set(p.serving, cfg, p)
	p.servers.keep(cfg)
	if !cfg.DecidesAs(p.judged) {
		p.judgeAll(cfg)
		p.judged = cfg
	}
	retry.Stop()
	if failed {
		retry.Reset(listenRetry)
		return
	}
	p.opened.Store(true)
}

// drain waits for the connections to end, and closes them when that takes too long.
func (p *Proxy) drain() {
	for _, c := range p.snapshot() {
		c.drain()
	}
	done := make(chan struct{})
	go func() {
		p.handlers.Wait()
		close(done)
	}()
	timer := time.NewTimer(max(p.drainTimeout, 0))
	defer timer.Stop()
	select {
	case <-done:
		return
	case <-timer.C:
	}
	for _, c := range p.snapshot() {
		c.kill(draining)
	}
	<-done
}

// Info is what a proxy is doing.
type Info struct {
	// Connections is the number of live connections, refused ones included while
	// they are being told so.
	Connections int
	// Listeners are the names of the configuration's listeners that are open, sorted.
	Listeners []string
}

// Info tells what the proxy is doing now.
func (p *Proxy) Info() Info {
	return Info{Connections: int(p.count.Load()), Listeners: p.acceptors.names()}
}

// Listeners are the listeners that are open, and their connections.
func (p *Proxy) Listeners() []record.ListenerState { return p.acceptors.states() }

// Ready reports that there was a configuration all of whose listeners could be opened.
func (p *Proxy) Ready() bool { return p.opened.Load() }

// Draining reports that the proxy is to end: after Retire(false), or when no connections
// are accepted any more.
func (p *Proxy) Draining() bool { return p.retiring.all.Load() || p.acceptors.isClosed() }

// snapshot is the live connections now.
func (p *Proxy) snapshot() []*connection {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]*connection, 0, len(p.live))
	for c := range p.live {
		all = append(all, c)
	}
	return all
}

// enter puts a connection into the table; leave takes it out.
func (p *Proxy) enter(c *connection) {
	p.mu.Lock()
	p.live[c] = struct{}{}
	c.acceptor.active.Add(1)
	p.mu.Unlock()
}

func (p *Proxy) leave(c *connection) {
	p.mu.Lock()
	delete(p.live, c)
	c.acceptor.active.Add(-1)
	p.mu.Unlock()
	p.count.Add(-1)
}
