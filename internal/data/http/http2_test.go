package http

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	nethttp "net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/record"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// TestMalformedStream: a request that breaks a rule is reset and recorded; others on
// the connection go on.
func TestMalformedStream(t *testing.T) {
	w := newWorld(t, answering(t, okHello).addr)
	f := w.dial2()
	f.get(1, "connection", "close")
	f.until("RST_STREAM 1 PROTOCOL_ERROR")
	if e := w.next(); e.Reason != reason.BadRequest || e.Status != 0 || e.Flags != "DPE" || !strings.HasPrefix(e.Detail, "connection_field: ") || e.Protocol != record.ProtocolHTTP2 {
		t.Errorf("recorded %+v", e)
	}
	f.get(5)
	f.until("HEADERS 5 :status=200")
	f.until("DATA 5 hello")
}

// TestMalformedStreamThatHasEnded: whatever runs between the refusal and its record, the
// record says why, not that the stream is gone.
func TestMalformedStreamThatHasEnded(t *testing.T) {
	w := newWorld(t, answering(t, okHello).addr)
	others := func() {
		for range 1000 {
			runtime.Gosched()
		}
	}
	w.planning.Store(&others)
	f := w.dial2()
	for id := uint32(1); id < 40; id += 2 {
		f.get(id, "connection", "close")
		if e := w.next(); e.Reason != reason.BadRequest || !strings.HasPrefix(e.Detail, "connection_field: ") {
			t.Fatalf("recorded %+v", e)
		}
	}
}

// TestHeadTooLarge is answered with a status, for it is well-formed.
func TestHeadTooLarge(t *testing.T) {
	w := newWorld(t, answering(t, okHello).addr)
	f := w.dial2()
	var many []string
	for i := range 150 {
		many = append(many, fmt.Sprintf("x-%d", i), "y")
	}
	f.get(1, many...)
	if head := f.until("HEADERS 1"); !strings.Contains(head, ":status=431") || !strings.Contains(head, "x-egret-reason=headers_too_large") {
		t.Errorf("%q", head)
	}
	if e := w.next(); e.Reason != reason.HeadersTooLarge || e.Status != 431 {
		t.Errorf("recorded %+v", e)
	}
}

// TestBrokenConnection: what breaks the connection is told in GOAWAY, and recorded.
func TestBrokenConnection(t *testing.T) {
	w := newWorld(t, answering(t, okHello).addr)
	f := w.dial2()
	if err := f.WriteRawFrame(xhttp2.FrameData, 0, 1, []byte("x")); err != nil { // of an idle stream
		t.Fatal(err)
	}
	f.until("GOAWAY PROTOCOL_ERROR")
	if e := w.next(); e.Reason != reason.BadRequest || e.Flags != "DPE" || e.Detail == "" || e.Protocol != record.ProtocolHTTP2 || e.Method != "" {
		t.Errorf("recorded %+v", e)
	}
}

// TestResetEndsTheRequestAtOnce: nobody looks whether the client is still there, it says
// that it is not.
func TestResetEndsTheRequestAtOnce(t *testing.T) {
	o := silent(t)
	w := newWorld(t, o.addr)
	w.mu.Lock() // who accepts takes it too
	w.handler.checkEvery = time.Hour
	w.mu.Unlock()
	f := w.dial2()
	for stream := uint32(1); stream < 7; stream += 2 {
		f.get(stream)
		o.head(t)
		if err := f.WriteRSTStream(stream, xhttp2.ErrCodeCancel); err != nil {
			t.Fatal(err)
		}
		if h := o.head(t); h != "closed" {
			t.Errorf("the origin got %q", h)
		}
		if e := w.next(); e.Reason != reason.DownstreamClosed || e.Flags != "DR" || e.Status != 0 || e.Details != "http2.remote_reset" {
			t.Errorf("recorded %+v", e)
		}
	}
}

// TestCodecType: HTTP1 does not take HTTP/2, and HTTP2 nothing else.
func TestCodecType(t *testing.T) {
	w := newWorld(t, answering(t, okHello).addr)
	set := func(c resource.Codec) {
		w.hcm.Codec = c
		w.configure(w.cluster(), w.routeTo("origin"))
	}
	set(resource.CodecHTTP1)
	if got := w.send(xhttp2.ClientPreface); !strings.HasPrefix(got, "HTTP/1.1 505 ") || !strings.Contains(got, "version_not_supported") {
		t.Errorf("%q", got)
	}
	if e := w.next(); e.Reason != reason.BadRequest || e.Status != 505 {
		t.Errorf("recorded %+v", e)
	}
	set(resource.CodecHTTP2)
	w.send(get("/"))
	if e := w.next(); e.Reason != reason.BadRequest || !strings.HasPrefix(e.Detail, "preface_invalid: ") {
		t.Errorf("recorded %+v", e)
	}
	f := w.dial2()
	f.get(1)
	f.until("HEADERS 1 :status=200")
}

// TestStreamsShareAConnection: many requests at the same time use one connection, as
// far as the server allows; then there is another.
func TestStreamsShareAConnection(t *testing.T) {
	var mu sync.Mutex
	open := map[int][]func(){}
	total, all := 0, make(chan struct{})
	o := origin2(t, []xhttp2.Setting{{ID: xhttp2.SettingMaxConcurrentStreams, Val: 3}}, func(n int, f *framed) {
		f.requests(func(stream uint32, _ string) {
			mu.Lock()
			defer mu.Unlock()
			answer := func() { f.head(stream, true, ":status", "200") }
			if total++; total == 1 {
				answer()
				return
			}
			open[n] = append(open[n], answer)
			if len(open[n]) > 3 {
				t.Errorf("%d streams at once", len(open[n]))
			}
			if total == 1+6 {
				close(all)
			}
		})
	})
	w := http2World(t, o)
	c := newCaller(t, w, 2)
	ask := func() {
		if s, err := c.Do(c.request("GET", "/", nil)); err != nil || s.StatusCode != 200 {
			t.Errorf("%v %v", s, err)
		}
	}
	ask() // with the answer the server's settings have come too
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(ask)
	}
	<-all
	mu.Lock()
	for _, list := range open {
		for _, answer := range list {
			answer()
		}
	}
	mu.Unlock()
	wg.Wait()
	if n := o.conns.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// TestGoAway: a request that the server left out goes to another connection, and new
// ones do too.
func TestGoAway(t *testing.T) {
	o := origin2(t, nil, func(n int, f *framed) {
		f.requests(func(stream uint32, _ string) {
			if n == 1 && stream == 3 {
				_ = f.WriteGoAway(1, xhttp2.ErrCodeNo, nil)
				return
			}
			f.head(stream, true, ":status", "200")
		})
	})
	w := http2World(t, o)
	c := newCaller(t, w, 1)
	for range 4 {
		if s, _ := c.do(c.request("POST", "/", nil)); s.StatusCode != 200 {
			t.Errorf("%v", s)
		}
		if e := w.next(); e.Attempts != 1 || e.Reason != "" {
			t.Errorf("recorded %+v", e)
		}
	}
	if n := o.conns.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// TestRefusedStream: retry_on refused-stream sends any request again, for the server
// promises that it did nothing.
func TestRefusedStream(t *testing.T) {
	o := origin2(t, nil, func(_ int, f *framed) {
		f.requests(func(stream uint32, _ string) {
			if stream == 1 || stream > 3 {
				_ = f.WriteRSTStream(stream, xhttp2.ErrCodeRefusedStream)
				return
			}
			f.head(stream, true, ":status", "200")
		})
	})
	w := http2World(t, o)
	route := w.routeTo("origin")
	route.Forward.Retry = &resource.RetryPolicy{On: []string{"refused-stream"}, NumRetries: 1}
	w.configure(w.cluster(), route)
	c := newCaller(t, w, 2)
	if s, _ := c.do(c.request("POST", "/", strings.NewReader("abc"))); s.StatusCode != 200 {
		t.Errorf("%v", s)
	}
	if e := w.next(); e.Attempts != 2 || e.Reason != "" {
		t.Errorf("recorded %+v", e)
	}
	if s, _ := c.do(c.request("POST", "/", strings.NewReader("abc"))); s.StatusCode != 503 {
		t.Errorf("%v", s)
	}
	if e := w.next(); e.Attempts != 2 || e.Reason != reason.UpstreamReset || e.Flags != "UR,URX" && e.Flags != "URX,UR" {
		t.Errorf("recorded %+v", e)
	}
}

// TestMaxRequestsPerConnection also counts streams.
func TestMaxRequestsPerConnection(t *testing.T) {
	o := origin2(t, nil, func(_ int, f *framed) {
		f.requests(func(stream uint32, _ string) { f.head(stream, true, ":status", "200") })
	})
	w := http2World(t, o)
	cluster := w.cluster()
	cluster.MaxRequestsPerConn = 2
	w.configure(cluster, w.routeTo("origin"))
	c := newCaller(t, w, 2)
	for range 5 {
		c.do(c.request("GET", "/", nil))
		w.next()
	}
	if n := o.conns.Load(); n != 3 {
		t.Errorf("%d connections", n)
	}
}

// TestUpstreamBreaksHTTP2: what the upstream may not send is a failure with its rule.
func TestUpstreamBreaksHTTP2(t *testing.T) {
	o := origin2(t, nil, func(_ int, f *framed) {
		f.requests(func(stream uint32, _ string) { f.head(stream, true, ":status", "200", "Upper", "x") })
	})
	w := http2World(t, o)
	c := newCaller(t, w, 1)
	if s, body := c.do(c.request("GET", "/", nil)); s.StatusCode != 502 || !strings.Contains(body, "field_name_uppercase") {
		t.Errorf("%v %q", s, body)
	}
	if e := w.next(); e.Reason != reason.UpstreamProtocolError || e.Flags != "UPE" {
		t.Errorf("recorded %+v", e)
	}
}

// TestNotHTTP2: a server that speaks HTTP/1 only.
func TestNotHTTP2(t *testing.T) {
	w := http2World(t, newOrigin(t, func(_ int, c net.Conn, _ *bufio.Reader) {
		_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
	}))
	c := newCaller(t, w, 1)
	if s, _ := c.do(c.request("GET", "/", nil)); s.StatusCode != 502 && s.StatusCode != 503 {
		t.Errorf("%v", s)
	}
	switch e := w.next(); e.Reason { // by how soon its bytes come
	case reason.UpstreamProtocolError, reason.UpstreamReset, reason.UpstreamConnectFailed:
	default:
		t.Errorf("recorded %+v", e)
	}
}

// TestClientProtocol: use_downstream_protocol_config follows each request.
func TestClientProtocol(t *testing.T) {
	server := startServerBoth(t)
	w := newWorld(t, server)
	w.protocol = resource.UpstreamDownstream
	w.configure(w.clusterOf("origin", server), w.routeTo("origin"))
	for version, want := range map[int]string{1: "HTTP/1.1", 2: "HTTP/2.0"} {
		c := newCaller(t, w, version)
		if _, body := c.do(c.request("GET", "/", nil)); body != want {
			t.Errorf("the origin got %s, want %s", body, want)
		}
	}
}

func startServerBoth(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := new(nethttp.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	s := &nethttp.Server{Protocols: p, Handler: nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) { _, _ = io.WriteString(w, r.Proto) })}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		_ = s.Shutdown(context.Background())
		_ = s.Close()
		<-done
	})
	return l.Addr().String()
}
