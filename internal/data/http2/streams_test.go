package http2

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"github.com/egret-mesh/egret/internal/data/http1"
)

// TestResponseBeforeRequestEnds: RST_STREAM with NO_ERROR after a whole response takes
// nothing of it away.
func TestResponseBeforeRequestEnds(t *testing.T) {
	r, c := rawServer(t, Options{})
	s := open(t, c, getRequest, false)
	defer s.Release()
	next[*xhttp2.HeadersFrame](r)
	r.headers(1, false, ":status", "413")
	r.ok(r.WriteData(1, true, []byte("too large")))
	r.ok(r.WriteRSTStream(1, CodeNo))
	await(t, s.Gone)
	var a http1.Response
	if err := s.ReadResponse(&a); err != nil || a.Status != 413 {
		t.Fatal(a.Status, err)
	}
	got, err := io.ReadAll(reader{s})
	if err != nil || string(got) != "too large" {
		t.Errorf("%q, %v", got, err)
	}
	if err := s.Write([]byte("more"), true); err == nil {
		t.Error("written after a reset")
	}
}

// TestServerAnswersEarly: our server tells that the rest of the request is not wanted.
func TestServerAnswersEarly(t *testing.T) {
	r := rawClient(t, Options{}, func(s *Stream) {
		var q http1.Request
		_ = s.ReadRequest(&q)
		_ = s.WriteResponse(&http1.Response{Status: 403, Declared: -1}, true)
	})
	r.post(1)
	if f := next[*xhttp2.RSTStreamFrame](r); f.ErrCode != CodeNo {
		t.Error(f)
	}
	r.ok(r.WriteData(1, true, []byte("late"))) // no mistake
	r.get(3)
	if f := next[*xhttp2.HeadersFrame](r); f.StreamID != 3 {
		t.Error(f)
	}
}

// TestLengthMismatch: DATA must add up to Content-Length.
func TestLengthMismatch(t *testing.T) {
	for _, body := range []string{"", "sho", "too long"} {
		errs := make(chan error, 1)
		r := rawClient(t, Options{}, func(s *Stream) {
			var q http1.Request
			_ = s.ReadRequest(&q)
			_, err := io.ReadAll(reader{s})
			errs <- err
		})
		r.post(1, "content-length", "5")
		r.ok(r.WriteData(1, true, []byte(body)))
		var e *Error
		if err := <-errs; !errors.As(err, &e) || e.Rule != "content_length_mismatch" {
			t.Errorf("%q: %v", body, err)
		}
		if f := next[*xhttp2.RSTStreamFrame](r); f.ErrCode != CodeProtocol {
			t.Error(f)
		}
	}
}

// TestRefusedRequestReachesTheHandler: it is reset, and recorded by whom it concerns.
func TestRefusedRequestReachesTheHandler(t *testing.T) {
	type seen struct {
		err  error
		path string
	}
	got := make(chan seen, 1)
	r := rawClient(t, Options{}, func(s *Stream) {
		var q http1.Request
		err := s.ReadRequest(&q)
		got <- seen{err, strings.Clone(q.Path)}
		if err := s.WriteResponse(&http1.Response{Status: 400}, true); err == nil {
			t.Error("a reset stream was answered")
		}
	})
	r.headers(1, true, append(getFields, "connection", "close")...)
	if f := next[*xhttp2.RSTStreamFrame](r); f.ErrCode != CodeProtocol || f.StreamID != 1 {
		t.Error(f)
	}
	var e *Error
	if s := <-got; !errors.As(s.err, &e) || e.Rule != "connection_field" || s.path != "/" {
		t.Error(s)
	}
}

// TestTooLargeHeadWithBody: the answer to a head that is over a limit gets out, though the
// client has begun to send the body.
func TestTooLargeHeadWithBody(t *testing.T) {
	release := make(chan struct{})
	r := rawClient(t, Options{Limits: http1.Limits{HeaderBytes: 4000}}, func(s *Stream) {
		<-release
		echo(s)
	})
	r.post(1, "x-large", strings.Repeat("v", 5000))
	r.ok(r.WriteData(1, true, []byte("body")))
	r.ping(1)
	close(release)
	if f := next[*xhttp2.HeadersFrame](r); r.list(f)[":status"] != "431" {
		t.Error(f)
	}
}

// TestExtendedConnect: WebSocket through both roles (RFC 8441).
func TestExtendedConnect(t *testing.T) {
	s := startServer(t, Options{ExtendedConnect: true}, func(s *Stream) {
		var q http1.Request
		if s.ReadRequest(&q) != nil || q.Upgrade != "websocket" || q.Method != "GET" || q.Framing != http1.NoBody {
			return
		}
		if s.WriteResponse(&http1.Response{Status: 101, Declared: -1}, false) != nil {
			return
		}
		p, err := s.Next()
		if err == nil {
			_ = s.Write(append([]byte("got "), p...), true)
		}
	})
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(nc, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	await(t, c.ExtendedConnect)
	st := open(t, c, http1.Request{Method: "GET", Path: "/chat", Authority: "a", Upgrade: "websocket"}, false)
	defer st.Release()
	var a http1.Response
	if err := st.ReadResponse(&a); err != nil || a.Status != 101 || a.Upgrade != "websocket" {
		t.Fatal(a.Status, err)
	}
	if err := st.Write([]byte("hello"), true); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(reader{st}); err != nil || string(got) != "got hello" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestExtendedConnectNotOffered: then it is not sent.
func TestExtendedConnectNotOffered(t *testing.T) {
	_, c := rawServer(t, Options{})
	s, err := c.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	q := http1.Request{Method: "GET", Path: "/", Authority: "a", Upgrade: "websocket"}
	if err := s.WriteRequest(&q, "http", false); err != ErrNoExtendedConnect {
		t.Error(err)
	}
}

// TestManyBodies: streams with bodies of all sizes, through the smallest windows, in both
// directions at once.
func TestManyBodies(t *testing.T) {
	o := Options{StreamWindow: initialWindow, ConnWindow: initialWindow}
	srv := startServer(t, o, echo)
	nc, err := net.Dial("tcp", srv.addr)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(nc, o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 1))
			body := make([]byte, rnd.IntN(200_000))
			for k := range body {
				body[k] = byte(rnd.Uint32())
			}
			s := open(t, c, http1.Request{Method: "POST", Path: "/", Authority: "a", Framing: http1.Chunked}, false)
			defer s.Release()
			var w sync.WaitGroup
			w.Go(func() {
				for rest := body; ; {
					n := min(rnd.IntN(30_000), len(rest))
					if err := s.Write(rest[:n], n == len(rest)); err != nil {
						t.Error(err)
						return
					}
					if rest = rest[n:]; len(rest) == 0 {
						return
					}
				}
			})
			var a http1.Response
			if err := s.ReadResponse(&a); err != nil {
				t.Error(err)
			}
			var got []byte
			for {
				p, err := s.Next()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Error(err)
					break
				}
				got = append(got, p...)
			}
			w.Wait()
			if !bytes.Equal(got, body) {
				t.Errorf("%d bytes became %d", len(body), len(got))
			}
		})
	}
	wg.Wait()
}

// A stream whose connection fails before it ends is forgotten when it is released: its
// storage goes to another, and a frame that is still read must not touch that.
func TestStreamOfAFailedConnectionIsForgotten(t *testing.T) {
	s := startServer(t, Options{}, echo)
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	workers := &Workers{}
	defer workers.Close()
	c, err := NewClient(nc, Options{Workers: workers})
	if err != nil {
		t.Fatal(err)
	}
	stream := open(t, c, postRequest, false)
	c.c.mu.Lock()
	c.c.fail(io.ErrClosedPipe)
	c.c.mu.Unlock()
	stream.Release()
	c.c.mu.Lock()
	left := len(c.c.streams)
	c.c.mu.Unlock()
	if left != 0 {
		t.Errorf("%d streams are kept", left)
	}
	c.Close()
	<-c.Done()
}
