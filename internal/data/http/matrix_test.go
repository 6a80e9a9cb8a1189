package http

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	nethttp "net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/record"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// TestVersionsForward: one request through each pairing of versions.
func TestVersionsForward(t *testing.T) {
	matrix(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		w.Header().Set("X-Got", fmt.Sprint(r.Method, " ", r.Host, " ", r.URL, " ", r.Proto, " ", r.Header.Get("X-A"), " ", r.Header["Cookie"], r.Header.Get("Connection"), r.Header.Get("X-Hop")))
		w.Header().Add("Set-Cookie", "a=1")
		w.Header().Add("Set-Cookie", "b=2")
		w.Header().Set("Connection", "X-Private")
		w.Header().Set("X-Private", "1")
		_, _ = io.WriteString(w, "hello")
	}, func(t *testing.T, p pairing, w *world, c *caller) {
		for range 3 {
			q := c.request("GET", "/a?b=c", nil, "X-A", "b", "Cookie", "x=1; y=2")
			if p.down == 1 {
				q.Header.Set("Connection", "X-Hop")
				q.Header.Set("X-Hop", "1")
			}
			s, body := c.do(q)
			proto := "HTTP/1.1"
			if p.up == 2 {
				proto = "HTTP/2.0"
			}
			if want := "GET example.com /a?b=c " + proto + " b [x=1; y=2]"; s.Header.Get("X-Got") != want {
				t.Errorf("the origin got %q, want %q", s.Header.Get("X-Got"), want)
			}
			if s.StatusCode != 200 || s.ProtoMajor != p.down || body != "hello" || s.ContentLength != 5 || len(s.Header["Set-Cookie"]) != 2 {
				t.Errorf("%v %v %q", s, s.ContentLength, body)
			}
			if p.up == 1 && s.Header.Get("X-Private") != "" {
				t.Error("a field of the upstream's connection came through")
			}
			if e := w.next(); e.Protocol != p.protocol() || e.Status != 200 || e.Reason != "" || e.Sent != 5 || e.Path != "/a?b=c" || e.Authority != "example.com" || e.Details != "via_upstream" {
				t.Errorf("recorded %+v", e)
			}
		}
	})
}

// TestVersionsBodies sends bodies both ways and compares every byte.
func TestVersionsBodies(t *testing.T) {
	matrix(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			nethttp.Error(w, err.Error(), 500)
			return
		}
		w.Header().Set("X-Sum", fmt.Sprintf("%x %d", sha256.Sum256(b), r.ContentLength))
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", fmt.Sprint(len(b)))
		}
		_, _ = w.Write(b)
	}, func(t *testing.T, p pairing, w *world, c *caller) {
		for _, size := range []int{0, 1, 5000, 16 << 10, 64<<10 + 1, 3 << 20} {
			for _, path := range []string{"/length", "/unknown"} {
				for _, known := range []bool{true, false} {
					data := bytes.Repeat([]byte("0123456789abcdefghijklmnopqrstuvwxyz"), size/36+1)[:size]
					var body io.Reader = bytes.NewReader(data)
					length := int64(size)
					if !known {
						body, length = struct{ io.Reader }{body}, -1
					}
					s, got := c.do(c.request("POST", path, body))
					if got != string(data) {
						t.Errorf("%d bytes, %s, known %v: %d bytes back", size, path, known, len(got))
					}
					sum := fmt.Sprintf("%x %d", sha256.Sum256(data), length)
					if size == 0 && !known {
						sum = s.Header.Get("X-Sum") // an empty body may have its length found out
					}
					if s.Header.Get("X-Sum") != sum {
						t.Errorf("%d bytes, %s, known %v: the origin got %q", size, path, known, s.Header.Get("X-Sum"))
					}
					if path == "/length" && s.ContentLength != int64(size) {
						t.Errorf("Content-Length %d, want %d", s.ContentLength, size)
					}
					if e := w.next(); e.Received != int64(size) || e.Sent != int64(size) || e.Status != 200 || e.Reason != "" {
						t.Errorf("recorded %+v", e)
					}
				}
			}
		}
	})
}

// TestVersionsTrailers: trailers of requests and responses come through.
func TestVersionsTrailers(t *testing.T) {
	matrix(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Trailer", "X-Sum, Grpc-Status")
		_, _ = io.WriteString(w, "hello")
		w.Header().Set("X-Sum", "got "+r.Trailer.Get("X-Request-Trailer"))
		w.Header().Set("Grpc-Status", "0")
	}, func(t *testing.T, p pairing, w *world, c *caller) {
		q := c.request("POST", "/", struct{ io.Reader }{strings.NewReader("body")}, "TE", "trailers")
		q.Trailer = nethttp.Header{"X-Request-Trailer": {"t"}}
		s, body := c.do(q)
		if body != "hello" || s.Trailer.Get("X-Sum") != "got t" || s.Trailer.Get("Grpc-Status") != "0" {
			t.Errorf("%q, trailers %v", body, s.Trailer)
		}
		w.next()
	})
}

// TestVersionsWithoutBody: HEAD, 204 and 304 have none, whatever Content-Length says.
func TestVersionsWithoutBody(t *testing.T) {
	matrix(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		switch r.URL.Path {
		case "/204":
			w.WriteHeader(204)
		case "/304":
			w.WriteHeader(304)
		default:
			w.Header().Set("Content-Length", "5")
			if r.Method != "HEAD" {
				_, _ = io.WriteString(w, "hello")
			}
		}
	}, func(t *testing.T, p pairing, w *world, c *caller) {
		for _, test := range []struct {
			method, path string
			status       int
			length       int64
		}{{"HEAD", "/", 200, 5}, {"GET", "/204", 204, 0}, {"GET", "/304", 304, 0}, {"GET", "/", 200, 5}} {
			s, body := c.do(c.request(test.method, test.path, nil))
			if s.StatusCode != test.status || s.ContentLength != test.length && s.ContentLength != -1 || test.path != "/" && body != "" {
				t.Errorf("%s %s: %d, length %d, %q", test.method, test.path, s.StatusCode, s.ContentLength, body)
			}
			w.next()
		}
	})
}

// TestVersionsInterim: 103 comes through, 100 when the client waits for it.
func TestVersionsInterim(t *testing.T) {
	matrix(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		if r.Method == "GET" {
			w.Header().Set("Link", "</a>; rel=preload")
			w.WriteHeader(103)
		}
		b, _ := io.ReadAll(r.Body)
		_, _ = w.Write(b)
	}, func(t *testing.T, p pairing, w *world, c *caller) {
		var interim []string
		continued := false
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				interim = append(interim, fmt.Sprint(code, h.Get("Link")))
				return nil
			},
			Got100Continue: func() { continued = true },
		})
		if s, _ := c.do(c.request("GET", "/", nil).WithContext(ctx)); s.StatusCode != 200 || !slices.Contains(interim, "103</a>; rel=preload") {
			t.Errorf("%v, interim %q", s, interim)
		}
		w.next()
		s, body := c.do(c.request("PUT", "/", strings.NewReader(strings.Repeat("x", 20<<10)), "Expect", "100-continue").WithContext(ctx))
		if s.StatusCode != 200 || len(body) != 20<<10 || !continued {
			t.Errorf("%d, %d bytes, continued %v", s.StatusCode, len(body), continued)
		}
		if e := w.next(); e.Reason != "" {
			t.Errorf("recorded %+v", e)
		}
	})
}

// TestVersionsStreaming: each piece goes through before the next is sent, both ways at
// the same time.
func TestVersionsStreaming(t *testing.T) {
	matrix(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		rc := nethttp.NewResponseController(w)
		_ = rc.EnableFullDuplex()
		w.WriteHeader(200)
		_ = rc.Flush()
		buf := make([]byte, 100)
		for {
			n, err := r.Body.Read(buf)
			_, _ = w.Write(buf[:n])
			_ = rc.Flush()
			if err != nil {
				return
			}
		}
	}, func(t *testing.T, p pairing, w *world, c *caller) {
		r, body := io.Pipe()
		s, err := c.Do(c.request("POST", "/", r))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Body.Close()
		for _, piece := range []string{"abc", "defg", strings.Repeat("x", 99)} {
			if _, err := io.WriteString(body, piece); err != nil {
				t.Fatal(err)
			}
			expect(t, s.Body, piece)
		}
		body.Close()
		if rest, err := io.ReadAll(s.Body); err != nil || len(rest) > 0 {
			t.Errorf("%q %v", rest, err)
		}
		if e := w.next(); e.Received != 106 || e.Sent != 106 || e.Reason != "" {
			t.Errorf("recorded %+v", e)
		}
	})
}

// TestVersionsDenied: what no route allows is answered with its reason; the connection
// goes on.
func TestVersionsDenied(t *testing.T) {
	matrix(t, func(nethttp.ResponseWriter, *nethttp.Request) {}, func(t *testing.T, p pairing, w *world, c *caller) {
		used := map[string]bool{} // net/http may open a connection more, and ask nothing there
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			GotConn: func(i httptrace.GotConnInfo) { used[i.Conn.LocalAddr().String()] = true }})
		for range 4 {
			q := c.request("GET", "/", nil).WithContext(ctx)
			q.Host = "other.example"
			s, body := c.do(q)
			if s.StatusCode != 502 || s.Header.Get("X-Egret-Reason") != "not_in_registry" || !strings.Contains(body, "not_in_registry") {
				t.Errorf("%v %q", s, body)
			}
			if e := w.next(); e.Reason != reason.NotInRegistry || e.Protocol != p.protocol() || e.Status != 502 {
				t.Errorf("recorded %+v", e)
			}
		}
		if len(used) != 1 {
			t.Errorf("asked on %d connections", len(used))
		}
	})
}

// TestVersionsUpstreamBreaks: a response that ends early cannot be taken for a whole one.
func TestVersionsUpstreamBreaks(t *testing.T) {
	matrix(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		if r.URL.Path == "/head" {
			panic(nethttp.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, "hello")
		_ = nethttp.NewResponseController(w).Flush()
		panic(nethttp.ErrAbortHandler)
	}, func(t *testing.T, p pairing, w *world, c *caller) {
		flag := "UC"
		if p.up == 2 {
			flag = "UR"
		}
		s, err := c.Do(c.request("GET", "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(s.Body); err == nil {
			t.Errorf("%q and no error", b)
		}
		s.Body.Close()
		if e := w.next(); e.Reason != reason.UpstreamReset || e.Flags != flag || e.Status != 200 {
			t.Errorf("recorded %+v", e)
		}
		s, _ = c.do(c.request("POST", "/head", nil))
		if s.StatusCode != 503 {
			t.Errorf("%v", s)
		}
		if e := w.next(); e.Reason != reason.UpstreamReset || e.Flags != flag || e.Status != 503 {
			t.Errorf("recorded %+v", e)
		}
	})
}

// TestVersionsClientGone: a client that gives up ends the request upstream.
func TestVersionsClientGone(t *testing.T) {
	began, ended := make(chan struct{}, 1), make(chan struct{}, 1)
	matrix(t, func(_ nethttp.ResponseWriter, r *nethttp.Request) {
		began <- struct{}{}
		<-r.Context().Done()
		ended <- struct{}{}
	}, func(t *testing.T, p pairing, w *world, c *caller) {
		q := c.request("GET", "/", nil)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-began
			cancel()
		}()
		if s, err := c.Do(q.WithContext(ctx)); err == nil {
			t.Errorf("%v", s)
		}
		<-ended
		flag := "DC"
		if p.down == 2 {
			flag = "DR" // of a connection that lives on
		}
		if e := w.next(); e.Reason != reason.DownstreamClosed || e.Flags != flag || e.Status != 0 {
			t.Errorf("recorded %+v", e)
		}
	})
}

// TestVersionsTimeouts: the route's timeout, and a stream on which nothing moves.
func TestVersionsTimeouts(t *testing.T) {
	matrix(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		if r.URL.Path == "/half" {
			_, _ = io.WriteString(w, "hello")
			_ = nethttp.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
	}, func(t *testing.T, p pairing, w *world, c *caller) {
		route := w.routeTo("origin")
		route.Forward.Timeout = 50 * time.Millisecond
		w.configure(w.cluster(), route)
		if s, _ := c.do(c.request("GET", "/", nil)); s.StatusCode != 504 {
			t.Errorf("%v", s)
		}
		if e := w.next(); e.Reason != reason.UpstreamTimeout || e.Flags != "UT" {
			t.Errorf("recorded %+v", e)
		}
		route.Forward.Timeout, route.Forward.IdleTimeout = 0, 50*time.Millisecond
		w.configure(w.cluster(), route)
		s, err := c.Do(c.request("GET", "/half", nil))
		for err == nil && s.StatusCode == 504 { // a busy machine: not even the head came in time
			s.Body.Close()
			w.next()
			s, err = c.Do(c.request("GET", "/half", nil))
		}
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(s.Body); err == nil {
			t.Errorf("%q and no error", b)
		}
		s.Body.Close()
		if e := w.next(); e.Reason != reason.UpstreamTimeout || e.Flags != "SI" || e.Status != 200 {
			t.Errorf("recorded %+v", e)
		}
	})
}

// TestVersionsPolicyChanges: a response under way that is no longer allowed ends.
func TestVersionsPolicyChanges(t *testing.T) {
	matrix(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		_, _ = io.WriteString(w, "hello")
		_ = nethttp.NewResponseController(w).Flush()
		<-r.Context().Done()
	}, func(t *testing.T, p pairing, w *world, c *caller) {
		s, err := c.Do(c.request("GET", "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Body.Close()
		expect(t, s.Body, "hello")
		w.configureHost(w.cluster(), &resource.VirtualHost{Name: "other", Domains: []string{"other.com"}, Routes: []*resource.Route{w.routeTo("origin")}})
		if b, err := io.ReadAll(s.Body); err == nil {
			t.Errorf("%q and no error", b)
		}
		if e := w.next(); e.Reason != reason.PolicyChanged || e.Status != 200 {
			t.Errorf("recorded %+v", e)
		}
	})
}

// TestVersionsEarlyResponse: an answer before the end of the request is heard.
func TestVersionsEarlyResponse(t *testing.T) {
	matrix(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(413)
		_, _ = io.WriteString(w, "hello")
	}, func(t *testing.T, p pairing, w *world, c *caller) {
		r, body := io.Pipe()
		defer body.Close()
		s, got := c.do(c.request("POST", "/", r))
		if s.StatusCode != 413 || got != "hello" {
			t.Errorf("%v %q", s, got)
		}
		if e := w.next(); e.Status != 413 || e.Reason != "" {
			t.Errorf("recorded %+v", e)
		}
	})
}

// TestVersionsDraining: requests under way are finished, then the connection ends.
func TestVersionsDraining(t *testing.T) {
	began, release := make(chan struct{}), make(chan struct{})
	matrix(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		began <- struct{}{}
		<-release
		_, _ = io.WriteString(w, "hello")
	}, func(t *testing.T, p pairing, w *world, c *caller) {
		go func() {
			<-began
			w.drain()
			release <- struct{}{}
		}()
		if s, body := c.do(c.request("GET", "/", nil)); s.StatusCode != 200 || body != "hello" {
			t.Errorf("%v %q", s, body)
		}
		if e := w.next(); e.Status != 200 || e.Reason != "" {
			t.Errorf("recorded %+v", e)
		}
		w.listener.Close()
		w.served.Wait()
	})
}

// TestVersionsGRPC: messages of a gRPC call are counted, and its status is known.
func TestVersionsGRPC(t *testing.T) {
	const message = "\x00\x00\x00\x00\x05hello"
	matrix(t, func(w nethttp.ResponseWriter, r *nethttp.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		_, _ = io.WriteString(w, message+message)
		w.Header().Set("Grpc-Status", "5")
	}, func(t *testing.T, p pairing, w *world, c *caller) {
		for name, body := range map[string]io.Reader{
			"a length": strings.NewReader(message + message + message), "no length": struct{ io.Reader }{strings.NewReader(message + message + message)},
		} {
			c.do(c.request("POST", "/pkg.Service/Method", body, "Content-Type", "application/grpc", "TE", "trailers"))
			want := [2]uint64{3, 2}
			if p.down == 1 {
				want = [2]uint64{} // gRPC needs HTTP/2
			}
			e := w.next()
			if e.Messages != want || e.TrailerStatus != "5" || (e.UpstreamProtocol == record.ProtocolHTTP2) != (p.up == 2) {
				t.Errorf("%s: messages %v, want %v; status %q, upstream %q", name, e.Messages, want, e.TrailerStatus, e.UpstreamProtocol)
			}
		}
	})
}
