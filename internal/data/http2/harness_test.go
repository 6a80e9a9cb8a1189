package http2

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/test/bufconn"
)

// loopback returns both ends of a TCP connection.
func loopback(t testing.TB) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled := make(chan error, 1)
	go func() {
		var err error
		near, err = net.Dial("tcp", l.Addr().String())
		dialled <- err
	}()
	far, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := <-dialled; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		near.Close()
		far.Close()
	})
	return near, far
}

// raw is a peer that sends what a test wants and hides nothing.
type raw struct {
	*xhttp2.Framer
	t      testing.TB
	nc     net.Conn
	enc    *hpack.Encoder
	block  bytes.Buffer
	dec    *hpack.Decoder
	served chan error // what Serve returned
	cancel context.CancelFunc
}

// bufferedPipe is a connection without a socket, for tests that have a time of their own.
func bufferedPipe(t testing.TB) (near, far net.Conn) {
	t.Helper()
	l := bufconn.Listen(1 << 16)
	defer l.Close()
	dialled := make(chan error, 1)
	go func() {
		var err error
		near, err = l.Dial()
		dialled <- err
	}()
	far, err := l.Accept()
	if err := errors.Join(err, <-dialled); err != nil {
		t.Fatal(err)
	}
	return near, far
}

// rawClient serves a raw client. It has sent its preface, unless plain.
func rawClient(t testing.TB, o Options, handle func(*Stream)) *raw {
	t.Helper()
	r := plainClient(t, o, handle)
	r.must(io.WriteString(r.nc, xhttp2.ClientPreface))
	r.ok(r.WriteSettings())
	return r
}

func plainClient(t testing.TB, o Options, handle func(*Stream)) *raw {
	t.Helper()
	near, far := loopback(t)
	return clientOn(t, near, far, o, handle)
}

// clientOn serves the far end of a connection; the near one is the client's.
func clientOn(t testing.TB, near, far net.Conn, o Options, handle func(*Stream)) *raw {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := newRaw(t, near)
	r.cancel, r.served = cancel, make(chan error, 1)
	go func() {
		r.served <- Serve(ctx, far, nil, o, handle)
		close(r.served)
	}()
	t.Cleanup(func() {
		near.Close()
		cancel()
		for range r.served { // wait until it has ended
		}
	})
	return r
}

// rawServer is the peer of a Client.
func rawServer(t testing.TB, o Options, settings ...xhttp2.Setting) (*raw, *Client) {
	t.Helper()
	near, far := loopback(t)
	return serverOn(t, near, far, o, settings...)
}

// serverOn has the client at the near end of a connection; the far one is the server's.
func serverOn(t testing.TB, near, far net.Conn, o Options, settings ...xhttp2.Setting) (*raw, *Client) {
	t.Helper()
	c, err := NewClient(near, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	r := newRaw(t, far)
	r.must(io.ReadFull(r.nc, make([]byte, len(xhttp2.ClientPreface))))
	r.ok(r.WriteSettings(settings...))
	return r, c
}

func newRaw(t testing.TB, nc net.Conn) *raw {
	_ = nc.SetDeadline(time.Now().Add(30 * time.Second))
	r := &raw{Framer: xhttp2.NewFramer(nc, nc), t: t, nc: nc, dec: hpack.NewDecoder(4096, nil)}
	r.AllowIllegalWrites = true
	r.enc = hpack.NewEncoder(&r.block)
	return r
}

func (r *raw) ok(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *raw) must(_ int, err error) {
	r.t.Helper()
	r.ok(err)
}

// fields encodes name, value, name, value, ...
func (r *raw) fields(nv ...string) []byte {
	r.block.Reset()
	for i := 0; i < len(nv); i += 2 {
		r.ok(r.enc.WriteField(hpack.HeaderField{Name: nv[i], Value: nv[i+1]}))
	}
	return r.block.Bytes()
}

var getFields = []string{":method", "GET", ":scheme", "http", ":authority", "example.com", ":path", "/"}

func (r *raw) headers(stream uint32, end bool, nv ...string) {
	r.t.Helper()
	r.ok(r.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: stream, EndStream: end, EndHeaders: true, BlockFragment: r.fields(nv...)}))
}

// get is a request without a body.
func (r *raw) get(stream uint32) {
	r.t.Helper()
	r.headers(stream, true, getFields...)
}

// post is a request with one.
func (r *raw) post(stream uint32, more ...string) {
	r.t.Helper()
	nv := append([]string{":method", "POST"}, getFields[2:]...)
	r.headers(stream, false, append(nv, more...)...)
}

// next reads frames until one of the type.
func next[F xhttp2.Frame](r *raw) F {
	r.t.Helper()
	for {
		f, err := r.ReadFrame()
		if err != nil {
			r.t.Fatalf("no %T: %v", *new(F), err)
		}
		if f, ok := f.(F); ok {
			return f
		}
	}
}

// list decodes the block of a HEADERS frame.
func (r *raw) list(f *xhttp2.HeadersFrame) map[string]string {
	r.t.Helper()
	all, err := r.dec.DecodeFull(f.HeaderBlockFragment())
	r.ok(err)
	m := map[string]string{}
	for _, f := range all {
		m[f.Name] = f.Value
	}
	return m
}

// refused expects that the connection ends for the rule, as the peer and Serve see it.
func (r *raw) refused(code Code, rule string) {
	r.t.Helper()
	var told *xhttp2.GoAwayFrame
	for {
		f, err := r.ReadFrame()
		if err != nil {
			break
		}
		if g, ok := f.(*xhttp2.GoAwayFrame); ok {
			if string(g.DebugData()) != rule || g.ErrCode != code {
				r.t.Errorf("GOAWAY with %v and %q, want %v and %q", g.ErrCode, g.DebugData(), code, rule)
			}
			told = g
		}
	}
	if told == nil {
		r.t.Error("no GOAWAY came")
	}
	r.nc.Close()
	var e *Error
	if err := <-r.served; !errors.As(err, &e) || e.Rule != rule || e.Code != code {
		r.t.Errorf("Serve returned %v, want the rule %s", err, rule)
	}
}

// frames is the bytes of n copies of what f writes, for floods: sent as one.
func frames(n int, f func(*xhttp2.Framer, int)) []byte {
	var b bytes.Buffer
	fr := xhttp2.NewFramer(&b, nil)
	fr.AllowIllegalWrites = true
	for i := range n {
		f(fr, i)
	}
	return b.Bytes()
}

// flood sends bytes while the answers are read by who called; errors are the end.
func (r *raw) flood(p []byte) { go func() { _, _ = r.nc.Write(p) }() }

// ping waits until the peer has handled what was sent before.
func (r *raw) ping(n uint64) {
	r.t.Helper()
	var p [8]byte
	binary.BigEndian.PutUint64(p[:], n)
	r.ok(r.WritePing(false, p))
	for {
		if f := next[*xhttp2.PingFrame](r); f.IsAck() && f.Data == p {
			return
		}
	}
}
