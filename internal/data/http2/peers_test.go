package http2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/egret-mesh/egret/internal/data/http1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// served is a server of this package on a loopback port.
type served struct {
	addr   string
	cancel context.CancelFunc
	errs   chan error
}

// startServer serves every connection with the handler until the test ends.
func startServer(t testing.TB, o Options, handle func(*Stream)) *served {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	workers := &Workers{}
	o.Workers = workers
	ctx, cancel := context.WithCancel(context.Background())
	s := &served{addr: l.Addr().String(), cancel: cancel, errs: make(chan error, 1000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var wait []chan struct{}
		for {
			nc, err := l.Accept()
			if err != nil {
				break
			}
			ended := make(chan struct{})
			wait = append(wait, ended)
			go func() {
				defer close(ended)
				s.errs <- Serve(ctx, nc, nil, o, handle)
			}()
		}
		for _, ended := range wait {
			<-ended
		}
	}()
	t.Cleanup(func() {
		l.Close()
		cancel()
		<-done
		workers.Close()
	})
	return s
}

// echo answers with the request's method, path, authority and body, and trailers.
func echo(s *Stream) {
	var q http1.Request
	if err := s.ReadRequest(&q); err != nil {
		var e *Error
		if errors.As(err, &e) && e.Status != 0 {
			_ = s.WriteResponse(&http1.Response{Status: e.Status, Declared: -1}, true)
		}
		return
	}
	r := http1.Response{Status: 200, Declared: -1}
	r.Fields.Add("X-Method", q.Method)
	r.Fields.Add("x-path", q.Path)
	r.Fields.Add("x-authority", q.Authority)
	if c, ok := q.Fields.Get("cookie"); ok {
		r.Fields.Add("x-cookie", c)
	}
	if q.Framing == http1.NoBody && q.Method != "CONNECT" && q.Upgrade == "" {
		_ = s.WriteResponse(&r, true)
		return
	}
	if s.WriteResponse(&r, false) != nil {
		return
	}
	for {
		p, err := s.Next()
		if err == io.EOF {
			break
		}
		if err != nil || s.Write(p, false) != nil {
			return
		}
	}
	if s.Trailers().Len() > 0 {
		_ = s.WriteTrailers(s.Trailers())
		return
	}
	_ = s.Write(nil, true)
}

// transport is the standard library's client, which is golang.org/x/net's.
func transport(t testing.TB) *http.Client {
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

func TestServerWithTransport(t *testing.T) {
	s := startServer(t, Options{}, echo)
	c := transport(t)
	for _, size := range []int{0, 1, 1000, 100_000, 3 << 20} {
		body := strings.Repeat("x", size)
		req, _ := http.NewRequest("POST", "http://"+s.addr+"/path?q=1", strings.NewReader(body))
		req.Header.Add("Cookie", "a=1; b=2")
		req.Trailer = http.Header{"X-Trailer": nil}
		req.Trailer.Set("X-Trailer", "end")
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if string(got) != body {
			t.Errorf("%d bytes came back as %d", size, len(got))
		}
		if res.Header.Get("x-path") != "/path?q=1" || res.Header.Get("x-method") != "POST" || res.Header.Get("x-cookie") != "a=1; b=2" {
			t.Errorf("headers %v", res.Header)
		}
		if size > 0 && res.Trailer.Get("x-trailer") != "end" {
			t.Errorf("trailers %v", res.Trailer)
		}
	}
}

func TestClientWithServer(t *testing.T) {
	addr := standardServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(103)
		w.Header().Set("x-got", fmt.Sprint(r.Method, " ", r.URL, " ", r.Host, " ", r.Header))
		w.Header().Set("Trailer", "x-end")
		w.WriteHeader(200)
		_, _ = io.Copy(w, r.Body)
		w.Header().Set("x-end", "yes")
	})
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(nc, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	body := bytes.Repeat([]byte("0123456789"), 100_000)
	for range 3 {
		s, err := c.Open()
		if err != nil {
			t.Fatal(err)
		}
		q := http1.Request{Method: "POST", Path: "/p", Authority: "example.com"}
		q.Fields.Add("X-One", "1")
		if err := s.WriteRequest(&q, "http", false); err != nil {
			t.Fatal(err)
		}
		sent := make(chan error, 1)
		go func() { sent <- s.Write(body, true) }()
		var r http1.Response
		if err := s.ReadResponse(&r); err != nil || r.Status != 103 {
			t.Fatal(r.Status, err)
		}
		if err := s.ReadResponse(&r); err != nil || r.Status != 200 {
			t.Fatal(r.Status, err)
		}
		if got, _ := r.Fields.Get("x-got"); !strings.Contains(got, "POST /p example.com") || !strings.Contains(got, "X-One:[1]") {
			t.Error(got)
		}
		var got []byte
		for {
			p, err := s.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, p...)
		}
		if !bytes.Equal(got, body) {
			t.Errorf("%d bytes came back", len(got))
		}
		if end, _ := s.Trailers().Get("x-end"); end != "yes" {
			t.Error("no trailers")
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
		s.Release()
	}
}

// standardServer is the standard library's server, which is golang.org/x/net's.
func standardServer(t testing.TB, handle http.HandlerFunc) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: handle, Protocols: new(http.Protocols)}
	s.Protocols.SetUnencryptedHTTP2(true)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		<-ended
	})
	return l.Addr().String()
}
