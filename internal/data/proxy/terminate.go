package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/egret-mesh/egret/internal/data/credentials"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// defaultHandshakeTimeout bounds a handshake where the chain has no
// transport_socket_connect_timeout.
const defaultHandshakeTimeout = 10 * time.Second

// terminate ends the client's TLS as the chain says. From then on c.stream is what is
// inside of it. It returns false when that failed; the entry says why.
func (c *connection) terminate(spec *resource.DownstreamTLS) bool {
	timeout := defaultHandshakeTimeout
	if spec.HandshakeTimeout > 0 {
		timeout = spec.HandshakeTimeout
	}
	living, end := c.context()
	defer end()
	ctx, cancel := context.WithTimeout(living, timeout)
	defer cancel()
	if !c.hello(timeout) {
		return false
	}
	server, err := c.p.servers.get(spec)
	if err != nil {
		return c.handshakeFailed(err, "the proxy's own certificate: ")
	}
	conn := tls.Server(&replayed{Conn: c.net, first: c.seen.bytes}, server.configFor(c.plan.Chain.HTTP != nil))
	if err := conn.HandshakeContext(ctx); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("the handshake was not done within %s", timeout)
		}
		return c.handshakeFailed(err, "")
	}
	c.seen.bytes, c.stream = nil, conn
	c.session, c.handshake = credentials.NewSession(conn.ConnectionState(), server.own()), time.Since(c.start)
	c.info.Terminated, c.info.ALPN = true, c.session.NegotiatedProtocol
	v := *c.verdict.Load()
	v.info, v.tls = c.info, spec
	c.verdict.Store(&v)
	c.judge(c.p.source.Current()) // what has changed meanwhile
	return true
}

// hello makes sure that the client begins with a ClientHello that we can read, as
// everywhere: also behind a listener without a TLS inspector.
func (c *connection) hello(timeout time.Duration) bool {
	if !c.lookedTLS {
		c.lookedTLS = true
		c.seen.look(c.net, true, false, timeout, timeout)
	}
	switch {
	case c.seen.bad != nil:
		return c.handshakeFailed(c.seen.bad, "")
	case c.seen.closed:
		return c.handshakeFailed(io.ErrUnexpectedEOF, "")
	case c.seen.timedOut && !c.seen.tls:
		return c.handshakeFailed(errHelloTimeout, "")
	case !c.seen.tls:
		return c.handshakeFailed(errNotTLS, "")
	}
	return true
}

// handshakeFailed notes the end of a connection whose TLS could not be ended. Where
// crypto/tls has something to say to the client it has been said.
func (c *connection) handshakeFailed(err error, what string) bool {
	c.entry.DownstreamTransportFailure = err.Error()
	c.entry.Reason, c.entry.Detail = reason.DownstreamTLSFailed, "TLS with the client: "+what+err.Error()
	if errors.Is(err, errBadHello) || errors.Is(err, errHelloTimeout) {
		refuseTLS(c.net, reason.BadRequest)
	}
	return false
}

// replayed is a connection whose first bytes have been read already.
type replayed struct {
	net.Conn
	first []byte
}

func (r *replayed) Read(p []byte) (int, error) {
	if len(r.first) == 0 {
		return r.Conn.Read(p)
	}
	n := copy(p, r.first)
	if r.first = r.first[n:]; len(r.first) == 0 {
		r.first = nil
	}
	return n, nil
}

// NetConn is the connection itself, for who looks at the socket without reading.
func (r *replayed) NetConn() net.Conn { return r.Conn }

// CloseWrite ends the sending direction, where the connection can do that.
func (r *replayed) CloseWrite() error { return closeWrite(r.Conn) }
