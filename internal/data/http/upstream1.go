package http

import (
	"net"
	"net/netip"
	"time"

	"github.com/egret-mesh/egret/internal/data/credentials"
	"github.com/egret-mesh/egret/internal/data/http1"
	"github.com/egret-mesh/egret/internal/data/record"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/upstream"
)

// upstreamConn is one HTTP/1 connection to an upstream host. It belongs to one
// exchange, or to the pool while idle.
type upstreamConn struct {
	wire
	reader *http1.Reader
	home   *hostPool
	// host and priority are those that the connection counts for.
	host     *upstream.Host
	priority resource.RoutingPriority
	// key tells connections to the same host apart (upstream.Manager.ConnKey).
	key      string
	requests uint32
	idle     time.Duration        // how long it may be idle
	since    time.Duration        // idle since, on the handler's clock
	expires  time.Duration        // when it has reached its age, on the handler's clock; 0: never
	local    netip.AddrPort       // %UPSTREAM_LOCAL_ADDRESS%
	tls      *credentials.Session // nil: plain text
}

var _ server = (*upstreamConn)(nil)

func newUpstreamConn(x *exchange, conn net.Conn, home *hostPool, key string) *upstreamConn {
	u := &upstreamConn{home: home, host: x.host, priority: x.target.Priority, key: key, idle: x.cluster.UpstreamIdleTimeout, local: localOf(conn), tls: x.host.Session(conn)}
	if u.idle <= 0 {
		u.idle = defaultUpstreamIdle
	}
	if age := x.cluster.MaxConnectionAge; age > 0 {
		u.expires = x.h.now() + age
	}
	u.wire.init(conn, &x.h.buffers)
	u.reader = http1.NewReader(u, &x.h.buffers, x.h.limits.Limits)
	return u
}

func localOf(conn net.Conn) netip.AddrPort {
	a, ok := conn.LocalAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
}

// Read is for the reader: later reads than the first.
func (u *upstreamConn) Read(p []byte) (int, error) { return u.wire.read(p) }

// close ends the connection; there is nothing to do about an error.
func (u *upstreamConn) close() {
	_ = u.conn.Close()
	u.host.Closed(u.priority)
	u.reader.Close()
}

func (u *upstreamConn) localAddr() netip.AddrPort { return u.local }
func (u *upstreamConn) protocol() record.Protocol { return record.ProtocolHTTP11 }

func (u *upstreamConn) session() *credentials.Session { return u.tls }

// SetDeadline is for the watch.
func (u *upstreamConn) SetDeadline(t time.Time) error { return u.conn.SetDeadline(t) }

// ask sends the request in one write and waits for the first bytes of the answer. A
// kept connection that the peer has closed meanwhile is stale: nothing was sent.
func (u *upstreamConn) ask(x *exchange) failure {
	u.buildRequest(x)
	m := &x.reqMessage
	m.out = append(m.out, x.small...)
	buf, n, unasked, err := u.wire.ask(m.out)
	m.out = m.out[:0]
	if err == nil && !unasked {
		u.reader.Adopt(buf, n)
		return failure{}
	}
	if buf != nil {
		u.pool.Return(buf)
	}
	if unasked && x.reused {
		return failure{kind: staleKind}
	}
	return x.readFailure(upstream.Refusal(u.conn, err), true)
}

func (u *upstreamConn) begin(x *exchange) (sink, failure) {
	if x.reused && !u.quiet() {
		return nil, failure{kind: staleKind}
	}
	u.buildRequest(x)
	return &x.reqMessage, failure{}
}

// buildRequest writes the request's head anew.
func (u *upstreamConn) buildRequest(x *exchange) {
	u.requests++
	m := &x.reqMessage
	m.wire, m.chunked = &u.wire, x.req.Framing == http1.Chunked
	authority := x.upstreamAuthority()
	target := x.path
	if x.req.Method == "CONNECT" {
		target = x.authority
	}
	b := http1.AppendRequestLine(m.out[:0], x.req.Method, target)
	b = http1.AppendField(b, "host", authority)
	b = x.req.Fields.Append(b)
	switch {
	case x.req.Framing == http1.Length:
		b = http1.AppendLength(b, x.req.Length)
	case x.req.Framing == http1.Chunked:
		b = append(append(append(b, "transfer-encoding: "...), x.req.Codings...), "chunked\r\n"...)
	case x.req.Method == "POST" || x.req.Method == "PUT" || x.req.Method == "PATCH":
		b = append(b, "content-length: 0\r\n"...) // RFC 9110 section 8.6
	}
	switch {
	case x.req.Codings != "":
		// Who does not know such a list may take the body for requests: none may follow,
		// and the first line of our own chunks is no request line.
		b = append(b, "connection: close\r\n"...)
	case x.upgrade != "":
		b = append(append(append(b, "connection: upgrade\r\nupgrade: "...), x.req.Upgrade...), "\r\n"...)
	case x.req.TETrailers:
		b = append(b, "connection: te\r\nte: trailers\r\n"...)
	}
	m.out = append(b, "\r\n"...)
}

func (u *upstreamConn) readResponse(x *exchange) error {
	u.reader.Release() // of an interim response
	if err := u.reader.ReadResponse(&x.resp, x.req.Method); err != nil {
		return err
	}
	if !x.resp.Interim() {
		x.respStream.Start(u.reader, x.resp.Framing, x.resp.Length, false)
		x.respStream.wire = &u.wire
	}
	return nil
}

func (u *upstreamConn) tunnel(x *exchange) (body, sink) {
	x.reqMessage = message{wire: &u.wire, tunnel: true, out: x.reqMessage.out[:0]}
	x.respRaw = rawBody{wire: &u.wire, reader: u.reader}
	return &x.respRaw, &x.reqMessage
}

// old: it has been there as long as the cluster lets connections be.
func (u *upstreamConn) old(now time.Duration) bool { return u.expires > 0 && now >= u.expires }

func (u *upstreamConn) abandon() { _ = u.conn.Close() }

func (u *upstreamConn) release(x *exchange, usable bool) {
	limit := x.cluster.MaxRequestsPerConn
	old := u.old(x.ended())
	if !usable || x.resp.Close || x.req.Codings != "" || old || limit > 0 && u.requests >= limit || u.reader.Buffered() > 0 {
		u.close()
		return
	}
	u.reader.Release()
	x.h.pool.put(u, x.ended())
}
