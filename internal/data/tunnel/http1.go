package tunnel

import (
	"io"
	"net"
	"sync"

	"github.com/egret-mesh/egret/internal/data/http1"
)

// open1 asks over HTTP/1.1. After CONNECT the connection itself is the tunnel.
func open1(conn net.Conn, q *Request, o Options) (_ net.Conn, first []byte, err error) {
	pool := o.Pool
	if pool == nil {
		pool = &http1.Pool{}
	}
	r := http1.NewReader(conn, pool, o.Limits)
	var resp http1.Response
	defer func() {
		if err != nil {
			r.Close()
			_ = conn.Close()
		}
	}()
	if _, err = conn.Write(q.head()); err != nil {
		return nil, nil, err
	}
	for i := 0; ; i++ {
		if err = r.ReadResponse(&resp, q.method()); err != nil {
			return nil, nil, err
		}
		if !resp.Interim() {
			break
		}
		if i == maxInterim {
			return nil, nil, &RefusedError{resp.Status}
		}
		r.Release()
	}
	if resp.Status < 200 || resp.Status > 299 {
		return nil, nil, &RefusedError{resp.Status}
	}
	if q.Post {
		up := &chunked{Conn: conn, reader: r}
		up.body.Start(r, resp.Framing, resp.Length, false)
		return up, nil, nil
	}
	first = append(first, r.TakeBuffered()...)
	r.Close()
	return conn, first, nil
}

// head is the request. Its parts were judged: the authority by Open, the fields and the
// path where the configuration was read.
func (q *Request) head() []byte {
	target := q.Authority
	if q.Post {
		target = q.Path
	}
	b := http1.AppendRequestLine(nil, q.method(), target)
	b = http1.AppendField(b, "host", q.Authority)
	b = q.Fields.Append(b)
	if q.Post {
		b = append(b, "transfer-encoding: chunked\r\n"...)
	}
	return append(b, "\r\n"...)
}

// chunked is the tunnel of a POST: each direction is a body. One goroutine may read
// while another writes.
type chunked struct {
	net.Conn
	reader *http1.Reader
	body   http1.Body
	rest   []byte // of the piece read last

	writing sync.Mutex
	out     []byte
	ended   bool
}

func (c *chunked) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		piece, err := c.body.Next()
		if err != nil {
			return 0, err
		}
		c.rest = piece
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *chunked) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil // an empty chunk would be the end
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.ended {
		return 0, io.ErrClosedPipe
	}
	c.out = append(append(http1.AppendChunkHead(c.out[:0], len(p)), p...), "\r\n"...)
	if _, err := c.Conn.Write(c.out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// CloseWrite ends the request's body; the connection itself stays open for the answer's.
func (c *chunked) CloseWrite() error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.ended {
		return nil
	}
	c.ended = true
	_, err := c.Conn.Write(http1.AppendChunkEnd(c.out[:0], nil))
	return err
}
