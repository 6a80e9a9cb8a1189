package http2

import (
	"bytes"
	"context"
	"io"
	"net"
	"time"

	xhttp2 "golang.org/x/net/http2"
)

var errPreface = &Error{CodeProtocol, "preface_invalid", "the connection does not begin with the HTTP/2 preface", 0}

// Serve serves a connection until it ends, then closes it. peeked are bytes that were
// read before. handle is run for each request on a goroutine of its own, also for those
// that break a rule (Stream.ReadRequest says so); the Stream must not be used after it
// returns. Serve returns when all handlers have.
//
// When ctx ends the client is told to open no more streams, those that it has are
// served, and the connection is closed.
//
// It returns an *Error where the client broke a rule of the connection, nil where either
// side ended it in order, or the connection's error. Of what a client sends only the
// preface and heads have a timeout (Options.HeadTimeout): for bodies set a deadline on
// the Stream; one on the connection ends Serve.
func Serve(ctx context.Context, nc net.Conn, peeked []byte, o Options, handle func(*Stream)) error {
	c := newConn(nc, o, false)
	c.handle = handle
	if len(peeked) > 0 {
		c.in.feed(peeked)
	}
	c.greet()
	c.hurry(true)
	stop := context.AfterFunc(ctx, c.drain)
	defer stop()
	err := c.readPreface()
	if err == nil {
		err = c.readFrames()
	}
	return c.end(err)
}

func (c *conn) readPreface() error {
	var p [len(xhttp2.ClientPreface)]byte
	if _, err := io.ReadFull(&c.in, p[:]); err != nil {
		return err
	}
	if !bytes.Equal(p[:], []byte(xhttp2.ClientPreface)) {
		return errPreface
	}
	return nil
}

// drain begins the graceful end of a server (RFC 9113 section 6.8): a GOAWAY that names
// no stream, and when the peer has seen it, which the PING tells, or does not answer soon,
// one that does.
func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil || c.draining {
		return
	}
	c.draining = true
	c.sendGoAway(maxStreamID, CodeNo, "draining")
	c.frame(xhttp2.FramePing, 0, 0, drainPing[:])
	c.drainer = time.AfterFunc(closeTimeout, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.finalGoAway()
	})
}

// finalGoAway names the last stream that is served. c.mu is held.
func (c *conn) finalGoAway() {
	if c.err != nil || c.final <= maxStreamID {
		return
	}
	c.final = c.last
	c.sendGoAway(c.last, CodeNo, "draining")
	c.nowIdle()
}
