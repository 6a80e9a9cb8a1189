package proxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/credentials"
	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/http"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/record"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// connection is one accepted connection. Its methods stand in the order of its life:
// work, identify, settle (sniff and decide), then one of refuse, serve and forward, and
// end, which records it.
type connection struct {
	p        *Proxy
	acceptor *acceptor
	net      net.Conn
	// stream is what the chain's filters see: net, or what is inside of its TLS.
	stream net.Conn
	start  time.Time

	id      uint64         // counts the connections of the proxy
	arrived netip.AddrPort // the address at which it was accepted
	called  netip.AddrPort // the address that the client called; set by identify

	// Of the connection's own goroutine.
	info       decide.Conn
	seen       sniffed
	lookedTLS  bool
	lookedHTTP bool
	plan       decide.ConnPlan // the verdict's; when refused, in the words for that
	entry      *record.Entry   // nil where the HTTP handler records
	// session is the client's TLS, where the proxy ends it; handshake the time from start.
	session   *credentials.Session
	handshake time.Duration

	// verdict is nil until the connection is decided, and while it is refused.
	verdict atomic.Pointer[verdict]

	mu       sync.Mutex
	upstream net.Conn           // of a TCP connection, once dialled
	cancel   context.CancelFunc // of what it waits for; see context
	serving  *http.Conn         // of an HTTP connection
	longest  *time.Timer        // drains it (max_connection_duration); nil: no limit
	ending   *ending            // why it was killed

	pinned *config.Held // of the chain; of the connection's own goroutine
}

// verdict is a decision with all that it came from. It never changes.
type verdict struct {
	cfg      *config.Config
	accepted *resource.Listener
	info     decide.Conn
	plan     decide.ConnPlan
	cluster  string                  // of a TCP connection that is forwarded
	subset   *resource.LabelMatch    // of the cluster's endpoints
	tls      *resource.DownstreamTLS // that the client's TLS was ended with
}

const rawBuffer = "raw_buffer"

// ending is why the proxy ends a connection before its time.
type ending struct {
	reason reason.Reason
	detail string
	flags  []string
}

var draining = ending{reason: reason.Draining, detail: "the proxy is shutting down"}

// begin starts the life of an accepted connection, or ends it at once when there are
// too many.
func (p *Proxy) begin(conn net.Conn, a *acceptor) {
	c := &connection{p: p, acceptor: a, net: conn, stream: conn, start: time.Now(), id: p.ids.Add(1)}
	c.arrived = addrPort(conn.LocalAddr())
	taken := p.count.Add(1)
	if p.scarce() {
		p.relieve()
	}
	if taken > int64(p.maxConnections) {
		c.tooMany()
		p.count.Add(-1)
		return
	}
	p.enter(c)
	p.handlers.Add(1)
	p.workers.Run(maxIdleWorkers, c, task.work)
}

// maxIdleWorkers bounds the goroutines that wait for a connection: a short one costs less
// where the stack has grown already.
const maxIdleWorkers = 64

// task is what a goroutine of the proxy does: a connection, or its way back.
type task interface{ work() }

// work is the whole life, but for what the HTTP handler does in its own time.
func (c *connection) work() {
	defer c.p.handlers.Done()
	c.live()
	if c.serving == nil {
		c.end()
	}
}

func (c *connection) live() {
	c.identify()
	c.settle()
	if ch := c.plan.Chain; c.plan.Verdict == decide.Forward && ch.HTTP != nil && ch.TLS == nil && !c.seen.closed {
		c.serve() // without an entry: most of these are idle most of the time
		return
	}
	c.entry = new(record.Entry)
	switch {
	case c.seen.closed && c.plan.Verdict == decide.Forward:
		c.entry.Reason, c.entry.Detail = reason.DownstreamClosed, "the client went away before it was known what it speaks"
		c.entry.Flags = []string{"DC"}
	case c.plan.Verdict != decide.Forward:
		c.refuse()
	case c.plan.Chain.TLS != nil && !c.terminate(c.plan.Chain.TLS):
	case c.plan.Chain.HTTP != nil:
		c.serve()
	default:
		c.forward()
	}
}

// identify finds out where the connection wanted to go. A connection that was not
// redirected wanted the address it arrived at.
func (c *connection) identify() {
	c.info.Source = addrPort(c.net.RemoteAddr())
	c.info.Destination = c.arrived
	c.info.Transport = rawBuffer // Envoy's default, until something else is found
	l := c.acceptor.listener.Load()
	c.info.Direct = !l.UseOriginalDst && !l.OriginalDst
	c.info.Inbound = l.Direction == resource.DirectionInbound
	if !c.info.Direct {
		dst, err := c.p.sockets.OriginalDestination(c.net)
		if err != nil {
			c.p.log.Debug("no original destination", "listener", l.Name, "source", c.info.Source, "error", err)
		} else {
			c.info.Destination = unmap(dst)
		}
	}
	c.called = c.info.Destination
}

// bind takes over what the DNS proxy knows, under one configuration, of the address
// that was called.
func (c *connection) bind(cfg *config.Config, info *decide.Conn) {
	if c.p.binder != nil && c.called.IsValid() && !info.Inbound {
		info.Binding = c.p.binder.Binding(c.called.Addr())
		info.Destination = c.p.binder.Destination(cfg, c.called)
	}
}

// settle sniffs as far as the configuration asks and decides, until that was done
// under the configuration that is current afterwards: so each connection is either
// decided under a new configuration or seen by the judging that follows it.
func (c *connection) settle() {
	for asked := 0; ; {
		cfg := c.p.source.Current()
		v := &verdict{cfg: cfg, accepted: c.acceptor.in(cfg)}
		c.bind(cfg, &c.info)
		v.plan = c.decide(cfg, v.accepted)
		if v.plan.Verdict == decide.Ask {
			if asked++; asked <= decide.MaxAsked && c.ask(v.plan.Need) {
				continue
			}
			v.plan = unsettled(v.plan)
		}
		v.info = c.info
		if v.plan.Verdict == decide.Forward && v.plan.Chain.HTTP == nil {
			v.cluster, v.subset = choose(v.plan.Clusters)
		}
		c.plan = v.plan
		c.pin(v.plan.Held)
		c.verdict.Store(v)
		if c.p.source.Current().DecidesAs(cfg) {
			return
		}
	}
}

// decide sniffs and decides under one configuration.
func (c *connection) decide(cfg *config.Config, accepted *resource.Listener) decide.ConnPlan {
	if accepted == nil {
		return gone
	}
	tls, http, timeout := decide.Inspect(cfg, accepted, c.info.Destination)
	if tls && !c.lookedTLS || http && !c.lookedHTTP {
		if timeout <= 0 || timeout > defaultSniffTimeout {
			timeout = defaultSniffTimeout
		}
		c.look(tls, http, timeout, timeout)
	}
	if plan, bad := c.unacceptable(accepted); bad {
		return plan
	}
	plan := decide.Connection(cfg, accepted, &c.info)
	if l := plan.Listener; c.seen.timedOut && l != nil && l.InspectorsTimeout > 0 && !l.ContinueOnTimeout {
		plan.Verdict, plan.Reason = decide.Deny, reason.DownstreamTimeout
		plan.Detail = fmt.Sprintf("the client said nothing within %s, as listener %q asks for", timeout, l.Name)
	}
	return plan
}

// pin keeps a chain that was asked for by name for as long as the connection lives.
func (c *connection) pin(h *config.Held) {
	h.Pin()
	h.Touch()
	c.pinned.Unpin()
	c.pinned = h
}

// look sniffs and takes what was found into what the decision sees.
func (c *connection) look(tls, http bool, first, rest time.Duration) {
	c.seen.look(c.net, tls, http, first, rest)
	c.lookedTLS, c.lookedHTTP = c.lookedTLS || tls, c.lookedHTTP || http
	if c.seen.tls {
		c.info.Transport, c.info.SNI, c.info.Application = "tls", c.seen.hello.sni, c.seen.hello.alpn
	} else if c.seen.http != "" {
		c.info.Application = []string{c.seen.http}
	}
}

// unacceptable refuses bytes that no chain may have.
func (c *connection) unacceptable(accepted *resource.Listener) (decide.ConnPlan, bool) {
	plan := decide.ConnPlan{Verdict: decide.Deny, Listener: accepted}
	if c.seen.bad == nil {
		return plan, false
	}
	plan.Reason, plan.Detail = reason.BadRequest, c.seen.bad.Error()
	return plan, true
}

// serve hands an HTTP connection over; the handler records each request.
func (c *connection) serve() {
	c.entry = nil
	conn := &http.Conn{TLS: c.session, Handshake: c.handshake, Net: c.stream, Peeked: c.seen.bytes, Info: c.info, Plan: c.current,
		ID: c.id, Start: c.start, DirectLocal: c.arrived, Scarce: c.p.scarce}
	conn.Ended = c.served
	c.seen.bytes = nil
	c.p.handlers.Add(1)
	c.mu.Lock()
	c.serving = conn
	c.mu.Unlock()
	c.judge(c.p.source.Current()) // what has changed meanwhile
	if c.p.retires(c) {
		conn.Retire()
	}
	if c.p.serving.Err() != nil || c.plan.Verdict != decide.Forward && c.plan.Reason == reason.ConfigNotAvailable {
		conn.Drain() // the latter may be otherwise with the next connection
	}
	if ch := c.plan.Chain; ch != nil && ch.HTTP != nil && ch.HTTP.MaxDuration > 0 {
		c.longest = time.AfterFunc(ch.HTTP.MaxDuration, conn.Drain)
	}
	c.p.http.Serve(context.Background(), conn)
}

// served is the end of an HTTP connection.
func (c *connection) served() {
	if c.longest != nil {
		c.longest.Stop()
	}
	c.end()
	c.p.handlers.Done()
}

// drain lets an HTTP connection end after the request under way.
func (c *connection) drain() {
	c.mu.Lock()
	conn := c.serving
	c.mu.Unlock()
	if conn != nil {
		conn.Drain()
	}
}

// context ends when the connection is killed, at the latest with the function. It is for
// waits of the connection's own goroutine, one at a time: a connection that only serves
// has none, since it would cost memory for as long as it lives.
func (c *connection) context() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cancel = cancel
	if c.ending != nil {
		cancel()
	}
	return ctx, cancel
}

// current is the plan under the newest configuration, for the next request or for the
// one under way. It costs nothing while the configuration stays, and may be called
// from another goroutine than the connection's.
func (c *connection) current() (*config.Config, decide.ConnPlan) {
	v := c.verdict.Load()
	cfg := c.p.source.Current()
	if cfg.DecidesAs(v.cfg) {
		return cfg, v.plan
	}
	old := v.plan
	v = &verdict{cfg: cfg, accepted: c.acceptor.in(cfg), info: v.info, tls: v.tls}
	c.bind(cfg, &v.info)
	v.plan = c.planFor(v, old)
	c.verdict.Store(v)
	return v.cfg, v.plan
}

// planFor decides about an HTTP connection again, with what is known of it.
func (c *connection) planFor(v *verdict, old decide.ConnPlan) decide.ConnPlan {
	if v.accepted == nil {
		return gone
	}
	plan, ok := c.decideAgain(v.cfg, v.accepted, v.info)
	if !ok {
		return old
	}
	if plan.Verdict == decide.Forward && (plan.Chain.HTTP == nil || (plan.Chain.TLS != nil) != v.info.Terminated) {
		plan.Verdict, plan.Reason = decide.Deny, reason.PolicyChanged
		plan.Detail = "the configuration no longer routes this connection as HTTP"
	}
	return plan
}

// gone is the plan where the listener that accepted is no longer there.
var gone = decide.ConnPlan{Reason: reason.NoFilterChain, Detail: "the listener is no longer in the configuration"}

// kill ends the connection from outside. The first reason counts.
func (c *connection) kill(e ending) {
	c.mu.Lock()
	first := c.ending == nil
	if first {
		c.ending = &e
	}
	up, cancel := c.upstream, c.cancel
	c.mu.Unlock()
	if !first {
		return
	}
	if cancel != nil {
		cancel()
	}
	defer c.drain() // it may rest, and then nobody waits for its end
	reset(c.net)
	if up != nil {
		reset(up)
	}
}

// end closes and records.
func (c *connection) end() {
	c.p.leave(c)
	c.pin(nil)
	_ = c.stream.Close()
	_ = c.net.Close()
	c.mu.Lock()
	why := c.ending
	c.mu.Unlock()
	if c.entry != nil {
		if why != nil {
			c.entry.Reason, c.entry.Detail, c.entry.Flags = why.reason, why.detail, why.flags
		}
		c.record()
	}
}

// record tells the connection; HTTP requests are told by the HTTP handler.
func (c *connection) record() {
	c.describe()
	c.entry.Objects = c.objects()
	c.p.recorder.Record(c.entry, c.accessLogs())
}

// describe tells the entry what is known of the connection so far.
func (c *connection) describe() {
	e := c.entry
	e.DownstreamTLS, e.DownstreamHandshake = c.session, c.handshake
	e.Start, e.Duration = c.start, time.Since(c.start)
	e.DownstreamLocal, e.DownstreamRemote = c.info.Destination, c.info.Source
	e.DownstreamDirectLocal, e.ConnectionID = c.arrived, c.id
	if c.plan.Chain != nil {
		e.FilterChain = c.plan.Chain.Name
	}
	e.SNI, e.Host, e.Inbound = c.info.SNI, c.info.Host(), c.info.Inbound
}

// tooMany ends a connection for which there is no place.
func (c *connection) tooMany() {
	reset(c.net)
	c.plan.Listener = c.acceptor.listener.Load()
	c.info.Source, c.info.Destination = addrPort(c.net.RemoteAddr()), addrPort(c.net.LocalAddr())
	c.entry = new(record.Entry)
	c.entry.Reason, c.entry.Flags = reason.TooManyConnections, []string{"UO"}
	c.entry.Detail = fmt.Sprintf("there are %d connections already", c.p.maxConnections)
	c.record()
}

func (c *connection) objects() []resource.Object {
	if c.plan.Chain != nil && len(c.plan.Chain.Objects) > 0 {
		return c.plan.Chain.Objects
	}
	if c.plan.Listener != nil {
		return c.plan.Listener.Objects
	}
	return nil
}

// accessLogs are those of the chain, and where no chain was found the listener's.
func (c *connection) accessLogs() []resource.AccessLog {
	switch ch := c.plan.Chain; {
	case ch != nil && ch.HTTP != nil:
		return ch.HTTP.AccessLogs
	case ch != nil && ch.TCP != nil:
		return ch.TCP.AccessLogs
	case c.plan.Listener != nil && len(c.plan.Listener.AccessLogs) > 0:
		return c.plan.Listener.AccessLogs
	}
	return c.acceptor.listener.Load().AccessLogs
}

// in finds the acceptor's listener in a configuration: by name, and when that names
// another one, by addresses. nil: it is not there any more.
func (a *acceptor) in(cfg *config.Config) *resource.Listener {
	l := a.listener.Load()
	if found := cfg.Listener(l.Name); found == l || found != nil && found.BindToPort && addressKey(found) == a.key {
		return found
	}
	for _, found := range cfg.Listeners {
		if found.BindToPort && addressKey(found) == a.key {
			return found
		}
	}
	return nil
}

// addrPort is the IP address of a; not valid for other kinds of address.
func addrPort(a net.Addr) netip.AddrPort {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return unmap(tcp.AddrPort())
	}
	if a == nil {
		return netip.AddrPort{}
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.AddrPort{}
	}
	return unmap(ap)
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
