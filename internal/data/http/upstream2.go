package http

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/egret-mesh/egret/internal/data/credentials"
	"github.com/egret-mesh/egret/internal/data/http1"
	"github.com/egret-mesh/egret/internal/data/http2"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/record"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/upstream"
)

// ALPN of requests, by what their cluster speaks.
var (
	alpnHTTP1 = []string{"http/1.1"}
	alpnHTTP2 = []string{"h2"}
	alpnAny   = []string{"h2", "http/1.1"}
)

// alpnOf is what to offer for a protocol.
func alpnOf(p resource.UpstreamProtocol) []string {
	switch p {
	case resource.UpstreamHTTP2:
		return alpnHTTP2
	case resource.UpstreamAuto:
		return alpnAny
	}
	return alpnHTTP1
}

// sharedConn is one HTTP/2 connection to an upstream host, which the pool lends to many
// exchanges at a time.
type sharedConn struct {
	client *http2.Client
	key    string
	// host and priority are those that the connection counts for.
	host     *upstream.Host
	priority resource.RoutingPriority
	limit    uint32        // of requests; 0: none
	age      time.Duration // after which it takes no new ones; 0: none
	requests uint32        // guarded by sharedPool.mu
	full     atomic.Bool   // there have been as many requests as there may be
	local    netip.AddrPort
	tls      *credentials.Session // nil: plain text
}

// newSharedConn begins HTTP/2 on a new connection.
func newSharedConn(x *exchange, conn net.Conn, key string) (*sharedConn, error) {
	c, o := x.cluster, x.cluster.HTTP2
	idle := c.UpstreamIdleTimeout
	if idle <= 0 {
		idle = defaultUpstreamIdle
	}
	client, err := http2.NewClient(conn, http2.Options{
		Limits: x.h.limits.Limits, Pool: &x.h.buffers, Workers: &x.h.workers, Now: x.h.now, IdleTimeout: idle,
		MaxConcurrentStreams: o.MaxConcurrentStreams, StreamWindow: o.StreamWindow, ConnWindow: o.ConnWindow,
	})
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &sharedConn{client: client, key: key, host: x.host, priority: x.target.Priority,
		limit: c.MaxRequestsPerConn, age: c.MaxConnectionAge, local: localOf(conn), tls: x.host.Session(conn)}, nil
}

// upstreamStream is the upstream's side of an attempt over HTTP/2.
type upstreamStream struct {
	stream2
	conn *sharedConn
	head http1.Request
}

var _ server = (*upstreamStream)(nil)

func (u *upstreamStream) localAddr() netip.AddrPort { return u.conn.local }
func (u *upstreamStream) protocol() record.Protocol { return record.ProtocolHTTP2 }

func (u *upstreamStream) session() *credentials.Session { return u.conn.tls }

// send opens the stream with the request's head.
func (u *upstreamStream) send(x *exchange, end bool) failure {
	if x.req.Codings != "" {
		return failure{kind: finalKind, status: 501, reason: reason.NotSupported, detail: "the upstream speaks HTTP/2, which has no transfer codings (RFC 9113, 8.2.2)"}
	}
	if x.upgrade != "" {
		u.settle(x)
	}
	u.head = x.req
	u.head.Path, u.head.Authority = x.path, x.upstreamAuthority()
	if x.req.Method == "CONNECT" {
		u.head.Authority = x.authority
	}
	scheme := "http"
	if x.host.TLS() {
		scheme = "https"
	}
	err := u.WriteRequest(&u.head, scheme, end)
	u.head = http1.Request{}
	u.ended, u.err = end, nil
	switch {
	case err == nil:
		return failure{}
	case errors.Is(err, http2.ErrGoingAway) && !upstream.RefusedTLS(err):
		return x.stale(failure{kind: resetKind, status: 503, flag: "UC", detail: resetDetail(true), reason: reason.UpstreamReset})
	case errors.Is(err, http2.ErrNoExtendedConnect):
		return failure{kind: finalKind, status: 503, reason: reason.NotSupported, detail: "the upstream's HTTP/2 does not take upgrades (RFC 8441)"}
	}
	return x.readFailure(err, true)
}

// settle waits until it is known whether the upstream takes upgrades.
func (u *upstreamStream) settle(x *exchange) {
	p := new(patience)
	if !x.watch.attach(p) {
		return
	}
	select {
	case <-u.conn.client.Settled():
	case <-u.conn.client.Done():
	case <-p.Done():
	}
	if !x.watch.attach(u) {
		_ = u.SetDeadline(longAgo)
	}
}

func (u *upstreamStream) ask(x *exchange) failure {
	if f := u.send(x, len(x.small) == 0 && !x.tunnel); f.kind != answeredKind || len(x.small) == 0 {
		return f
	}
	if err := u.add(x.small, true); err != nil && x.watch.interrupted() != causeNone {
		return *x.interruption()
	}
	return failure{} // if it does not want the body, the response says why
}

func (u *upstreamStream) begin(x *exchange) (sink, failure) {
	return &u.stream2, u.send(x, false)
}

func (u *upstreamStream) readResponse(x *exchange) error {
	if err := u.ReadResponse(&x.resp); err != nil {
		return err
	}
	x.respBody = &u.stream2
	return nil
}

func (u *upstreamStream) tunnel(*exchange) (body, sink) { return &u.stream2, &u.stream2 }

func (u *upstreamStream) abandon() { u.Reset(http2.CodeCancel) }

func (u *upstreamStream) release(x *exchange, _ bool) {
	conn := u.conn
	u.Release()
	*u = upstreamStream{}
	x.h.pool.returned(conn)
}

// openShared takes a stream of a connection that is there, or makes one. Those who
// want a connection to the same host at the same time wait for one of them to make it.
func (x *exchange) openShared(home *hostPool, key string, any bool) *upstream.Error {
	for !any || !home.speaks1.Load() {
		if x.takeShared(home, key) {
			return nil
		}
		done, mine := home.shared.claim(key)
		if mine {
			err := x.dialShared(home, key, any)
			home.shared.disclaim(key)
			return err
		}
		p := new(patience)
		if !x.watch.attach(p) {
			_ = p.SetDeadline(longAgo)
		}
		select {
		case <-done:
		case <-p.Done():
			return &upstream.Error{Reason: reason.UpstreamConnectFailed, Detail: "interrupted"} // the caller asks the watch first
		}
	}
	return x.dialShared(home, key, any)
}

// dialShared makes a connection and takes a stream of it. any: what the server chooses
// by ALPN is spoken.
func (x *exchange) dialShared(home *hostPool, key string, any bool) *upstream.Error {
	conn, err := x.dial(func() bool { return x.takeShared(home, key) || any && x.takeIdle(home, key) })
	if conn == nil {
		return err
	}
	if any && negotiated(conn) != "h2" {
		home.speaks1.Store(true)
		x.up, x.reused = newUpstreamConn(x, conn, home, key), false
		return nil
	}
	c, failed := newSharedConn(x, conn, key)
	var s *http2.Stream
	if failed == nil {
		if s, failed = c.client.Open(); failed != nil {
			c.client.Close()
		}
	}
	if failed != nil {
		x.host.Closed(x.target.Priority)
		why := reason.UpstreamConnectFailed
		if upstream.RefusedTLS(failed) {
			why = reason.UpstreamTLSFailed
		}
		return &upstream.Error{Reason: why, Flag: "UF", Detail: "HTTP/2 with " + x.host.String() + " failed", Err: failed, Host: x.host.String()}
	}
	c.requests = 1
	x.h.pool.share(home, c)
	x.useStream(s, c)
	x.reused = false
	return nil
}

func (x *exchange) takeShared(home *hostPool, key string) bool {
	s, c := home.shared.open(key)
	if s != nil {
		x.useStream(s, c)
	}
	return s != nil
}

func (x *exchange) useStream(s *http2.Stream, c *sharedConn) {
	u := &x.stream
	u.Stream, u.conn = s, c
	x.up, x.reused = u, true
}

// negotiated is the protocol that ALPN chose; "" without TLS.
func negotiated(conn net.Conn) string {
	if t, ok := conn.(*tls.Conn); ok {
		return t.ConnectionState().NegotiatedProtocol
	}
	return ""
}

// stale is a failure on a connection that was kept and has ended meanwhile without
// looking at the request: that is as if it had not been. A server that ends each
// connection so is not believed for ever.
func (x *exchange) stale(f failure) failure {
	if x.stales < maxStales && x.reused {
		x.stales++
		return failure{kind: staleKind}
	}
	return f
}

// maxStales bounds how often one request finds an HTTP/2 connection at its end, and a
// mirrored one any kept connection.
const maxStales = 3
