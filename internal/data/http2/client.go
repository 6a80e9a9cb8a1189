package http2

import (
	"errors"
	"net"
	"time"

	xhttp2 "golang.org/x/net/http2"
)

var errFutureDeadline = errors.New("http2: a stream's deadline is in the past or none")

// Client is a connection in the client's role.
type Client struct{ c *conn }

// NewClient starts HTTP/2 on a connection that has been made for it, by ALPN or prior
// knowledge. It does not wait for the server. End it with Close or Shutdown.
func NewClient(nc net.Conn, o Options) (*Client, error) {
	c := newConn(nc, o, true)
	c.greet()
	c.hurry(true)
	go c.readToEnd()
	return &Client{c}, nil
}

func (c *conn) readToEnd() {
	c.result = c.end(c.readFrames())
	close(c.done)
}

// Open reserves a stream. It returns ErrNoCapacity where as many are open as the server
// or Options allows, ErrGoingAway where there will be no more.
func (t *Client) Open() (*Stream, error) {
	c := t.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.usable():
		return nil, goingAway(c.err)
	case len(c.streams)+c.reserved >= int(min(c.peerStreams, c.o.MaxConcurrentStreams)):
		return nil, ErrNoCapacity
	}
	c.reserved++
	return newStream(c, 0), nil
}

func (c *conn) usable() bool {
	return c.err == nil && c.broken == nil && !c.leaving && !c.draining && c.nextID <= maxStreamID
}

// Usable reports whether the connection takes new streams, now or when others end.
func (t *Client) Usable() bool {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	return t.c.usable()
}

// Active is the number of streams that are open or reserved.
func (t *Client) Active() int {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	return len(t.c.streams) + t.c.reserved
}

// Settled is closed when the server's settings have come, which ExtendedConnect and the
// number of streams depend on. It is not where the connection ends before that.
func (t *Client) Settled() <-chan struct{} { return t.c.met }

// ExtendedConnect reports whether the server has offered extended CONNECT.
func (t *Client) ExtendedConnect() bool {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	return t.c.peerConnect
}

// Done is closed when the connection has ended.
func (t *Client) Done() <-chan struct{} { return t.c.done }

// Err is why the connection ended, when it is Done: an *Error where the server broke a
// rule, nil where it ended in order.
func (t *Client) Err() error {
	select {
	case <-t.c.done:
		return t.c.result
	default:
		return nil
	}
}

// Close ends the connection and its streams, and waits until it has ended.
func (t *Client) Close() {
	t.c.mu.Lock()
	t.c.stop(ErrClosed)
	t.c.mu.Unlock()
	<-t.c.done
}

// Shutdown takes no new streams and ends the connection when those that are open have
// ended.
func (t *Client) Shutdown() {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	t.c.draining = true
	t.c.nowIdle()
}

// suspect asks a server that let a stream wait in vain whether it is there: a connection
// whose peer has vanished would go on failing every request. c.mu is held.
func (c *conn) suspect(s *Stream) {
	heard := s.began
	if !c.client || c.probing || s.answered || c.in.at.Load() != heard {
		return
	}
	c.probing = true
	c.frame(xhttp2.FramePing, 0, 0, []byte("answer!?"))
	c.probe = time.AfterFunc(c.o.PingTimeout, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.probing = false
		if c.in.at.Load() == heard {
			c.stop(ErrSilent)
		}
	})
}
