package tunnel

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/egret-mesh/egret/internal/data/http1"
	"github.com/egret-mesh/egret/internal/data/http2"
)

// open2 asks over HTTP/2, in a connection of the tunnel's own.
func open2(ctx context.Context, conn net.Conn, q *Request, o Options) (net.Conn, error) {
	options := o.HTTP2
	options.Limits, options.Pool, options.Workers = o.Limits, o.Pool, o.Workers
	client, err := http2.NewClient(conn, options)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	s, err := client.Open()
	if err != nil {
		client.Close()
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { s.Reset(http2.CodeCancel) })
	defer stop()
	t := &stream{Stream: s, client: client, conn: conn}
	if err := t.ask(q); err != nil {
		_ = t.Close()
		return nil, err
	}
	return t, nil
}

// stream is a tunnel that is a stream of HTTP/2. One goroutine may read while another
// writes, and any may close it.
type stream struct {
	*http2.Stream
	client *http2.Client
	conn   net.Conn
	resp   http1.Response
	rest   []byte // of the piece read last

	closing sync.Once
	ended   bool // END_STREAM was written; of the writer
}

var _ net.Conn = (*stream)(nil)

func (t *stream) ask(q *Request) error {
	scheme := "http"
	if q.Secure {
		scheme = "https"
	}
	head := http1.Request{Method: q.method(), Authority: q.Authority, Path: q.Path, Fields: q.Fields}
	if err := t.WriteRequest(&head, scheme, false); err != nil {
		return err
	}
	for range maxInterim + 1 {
		if err := t.ReadResponse(&t.resp); err != nil {
			return err
		}
		if !t.resp.Interim() {
			break
		}
	}
	if t.resp.Status != 200 {
		return &RefusedError{t.resp.Status}
	}
	return nil
}

func (t *stream) Read(p []byte) (int, error) {
	for len(t.rest) == 0 {
		piece, err := t.Next()
		if err != nil {
			return 0, err
		}
		t.rest = piece
	}
	n := copy(p, t.rest)
	t.rest = t.rest[n:]
	return n, nil
}

func (t *stream) Write(p []byte) (int, error) {
	if err := t.Stream.Write(p, false); err != nil {
		return 0, err
	}
	return len(p), nil
}

// CloseWrite ends our direction of the stream.
func (t *stream) CloseWrite() error {
	if t.ended {
		return nil
	}
	t.ended = true
	if err := t.Stream.Write(nil, true); err != nil && !t.Done() {
		return err
	}
	return nil // a peer that has said everything need not hear ours
}

// Close ends the stream and its connection. A reader or writer is woken.
func (t *stream) Close() error {
	t.closing.Do(func() {
		t.Reset(http2.CodeCancel)
		t.client.Close()
	})
	return nil
}

func (t *stream) LocalAddr() net.Addr  { return t.conn.LocalAddr() }
func (t *stream) RemoteAddr() net.Addr { return t.conn.RemoteAddr() }

// errNoDeadline: a stream of HTTP/2 has no clock; who waits closes it.
var errNoDeadline = errors.New("tunnel: a stream takes no deadline but the zero time")

// SetDeadline takes the zero time, which is none, and times that have passed.
func (t *stream) SetDeadline(at time.Time) error {
	if !at.IsZero() && time.Until(at) > 0 {
		return errors.Join(errNoDeadline, os.ErrNoDeadline)
	}
	return t.Stream.SetDeadline(at)
}

func (t *stream) SetReadDeadline(at time.Time) error  { return t.SetDeadline(at) }
func (t *stream) SetWriteDeadline(at time.Time) error { return t.SetDeadline(at) }
