// Package tunnel asks an HTTP proxy for a tunnel over a connection that was made to it:
// by CONNECT (RFC 9110 section 9.3.6) or, as Envoy can, by a POST with the bytes as its
// body, over HTTP/1.1 or HTTP/2.
//
// It must not dial, nor decide where a tunnel may lead.
package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/egret-mesh/egret/internal/data/http1"
	"github.com/egret-mesh/egret/internal/data/http2"
)

// maxInterim bounds the interim responses (1xx) before the one that counts.
const maxInterim = 8

// Request is what the proxy is asked.
type Request struct {
	// Authority is the end of the tunnel, HOST:PORT.
	Authority string
	// Post asks by POST for Path; else by CONNECT, and Path is not used.
	Post bool
	Path string
	// Fields are further header fields.
	Fields http1.Fields
	// Secure: the connection is TLS. It is the :scheme of a POST over HTTP/2.
	Secure bool
}

// Options are what connections share. The zero value is ready to use.
type Options struct {
	Limits  http1.Limits
	Pool    *http1.Pool
	Workers *http2.Workers
	// HTTP2 are the options of the connection where HTTP/2 is spoken.
	HTTP2 http2.Options
}

// RefusedError is an answer that is no tunnel.
type RefusedError struct{ Status int }

// Error is for the access log.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("the proxy answered %d, not with a tunnel", e.Status)
}

// errAuthority: nothing that could split the request gets into it.
var errAuthority = errors.New("the end of the tunnel is not HOST:PORT")

// Open asks for a tunnel over conn, in HTTP/2 where h2 is set, and waits for the answer
// until ctx ends. What is written to the connection it returns comes out of the tunnel.
// first are bytes that came out of it with the answer. With an error conn is closed.
//
// Any 2xx makes a tunnel over HTTP/1.1, only 200 over HTTP/2, as in Envoy. An *http1.Error
// or *http2.Error is an answer that breaks the rules.
func Open(ctx context.Context, conn net.Conn, h2 bool, q *Request, o Options) (_ net.Conn, first []byte, err error) {
	if http1.CheckAuthority(q.Authority, true) != nil {
		_ = conn.Close()
		return nil, nil, errAuthority
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	var up net.Conn
	if h2 {
		up, err = open2(ctx, conn, q, o)
	} else {
		up, first, err = open1(conn, q, o)
	}
	if !stop() { // the deadline is set, or will be
		if err == nil {
			_ = up.Close()
		}
		return nil, nil, context.Cause(ctx)
	}
	return up, first, err
}

// method of the request.
func (q *Request) method() string {
	if q.Post {
		return "POST"
	}
	return "CONNECT"
}
