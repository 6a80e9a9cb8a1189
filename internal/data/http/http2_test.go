package http

import (
	"bufio"
	"bytes"
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
	"golang.org/x/net/http2/hpack"

	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/record"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// framed is one end of an HTTP/2 connection that sends frames by hand.
type framed struct {
	t testing.TB
	net.Conn
	*xhttp2.Framer
	block bytes.Buffer
	enc   *hpack.Encoder
	dec   *hpack.Decoder
}

func newFramed(t testing.TB, c net.Conn, r io.Reader) *framed {
	f := &framed{t: t, Conn: c, Framer: xhttp2.NewFramer(c, r), dec: hpack.NewDecoder(4096, nil)}
	f.SetReuseFrames()
	f.enc = hpack.NewEncoder(&f.block)
	return f
}

// dial2 opens an HTTP/2 connection to the world.
func (w *world) dial2() *framed {
	c := w.dial()
	f := newFramed(w.t, c, c)
	if _, err := io.WriteString(c, xhttp2.ClientPreface); err != nil {
		w.t.Fatal(err)
	}
	if err := f.WriteSettings(); err != nil {
		w.t.Fatal(err)
	}
	return f
}

// head sends a header block with fields "name", "value", ...
func (f *framed) head(stream uint32, end bool, fields ...string) {
	f.t.Helper()
	f.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		if err := f.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}); err != nil {
			f.t.Fatal(err)
		}
	}
	if err := f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: stream, BlockFragment: f.block.Bytes(), EndHeaders: true, EndStream: end}); err != nil {
		f.t.Error(err)
	}
}

// get sends a GET for example.com.
func (f *framed) get(stream uint32, fields ...string) {
	f.head(stream, true, append([]string{":method", "GET", ":scheme", "http", ":authority", "example.com", ":path", "/"}, fields...)...)
}

// until reads frames until one in words has the prefix: "HEADERS 1 :status=200 ...",
// "DATA 1 text", "RST_STREAM 1 CODE", "GOAWAY CODE". PINGs and SETTINGS are answered.
func (f *framed) until(prefix string) string {
	f.t.Helper()
	var seen []string
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			f.t.Errorf("%v instead of %q, after %q", err, prefix, seen)
			return ""
		}
		text := f.words(fr)
		if strings.HasPrefix(text, prefix) {
			return text
		}
		seen = append(seen, text)
	}
}

func (f *framed) words(fr xhttp2.Frame) string {
	id := fr.Header().StreamID
	switch fr := fr.(type) {
	case *xhttp2.HeadersFrame:
		fields, err := f.dec.DecodeFull(fr.HeaderBlockFragment())
		text := fmt.Sprintf("HEADERS %d", id)
		for _, h := range fields {
			text += " " + h.Name + "=" + h.Value
		}
		if fr.StreamEnded() {
			text += " END"
		}
		if err != nil {
			text += err.Error()
		}
		return text
	case *xhttp2.DataFrame:
		return fmt.Sprintf("DATA %d %s", id, fr.Data())
	case *xhttp2.RSTStreamFrame:
		return fmt.Sprintf("RST_STREAM %d %s", id, fr.ErrCode)
	case *xhttp2.GoAwayFrame:
		return fmt.Sprintf("GOAWAY %s", fr.ErrCode)
	case *xhttp2.SettingsFrame:
		if !fr.IsAck() {
			_ = f.WriteSettingsAck()
		}
	case *xhttp2.PingFrame:
		if !fr.IsAck() {
			_ = f.WritePing(true, fr.Data)
		}
	}
	return fr.Header().Type.String()
}

// origin2 is an HTTP/2 server of one's own: the script has the preface read.
func origin2(t testing.TB, settings []xhttp2.Setting, script func(n int, f *framed)) *origin {
	return newOrigin(t, func(n int, c net.Conn, r *bufio.Reader) {
		if _, err := io.CopyN(io.Discard, r, int64(len(xhttp2.ClientPreface))); err != nil {
			return
		}
		f := newFramed(t, c, r)
		if f.WriteSettings(settings...) == nil {
			script(n, f)
		}
	})
}

// requests reads frames and calls serve for each head of a request, until the end.
func (f *framed) requests(serve func(stream uint32, head string)) {
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			return
		}
		if text := f.words(fr); strings.HasPrefix(text, "HEADERS") {
			serve(fr.Header().StreamID, text)
		}
	}
}

// requests2 is requests without looking into the heads.
func (f *framed) requests2(serve func(stream uint32)) {
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			return
		}
		switch fr := fr.(type) {
		case *xhttp2.HeadersFrame:
			serve(fr.StreamID)
		default:
			_ = f.words(fr)
		}
	}
}

func http2World(t *testing.T, o *origin) *world {
	w := newWorld(t, o.addr)
	w.speak(2)
	w.configure(w.clusterOf("origin", o.addr), w.routeTo("origin"))
	return w
}

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
		if e := w.next(); e.Reason != reason.DownstreamClosed || e.Flags != "DC" || e.Status != 0 {
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

// TestTunnels: WebSocket over any pairing of versions, and CONNECT. In HTTP/2 it is
// extended CONNECT (RFC 8441).
func TestTunnels(t *testing.T) {
	for _, p := range []pairing{{1, 2}, {2, 1}, {2, 2}} {
		t.Run(p.String(), func(t *testing.T) {
			w := newWorld(t, tunnelOrigin(t, p.up).addr)
			addr := w.cluster().Endpoints.Localities[0].Endpoints[0].Address.String()
			w.hcm.HTTP2.AllowConnect = true
			w.speak(p.up)
			w.configure(w.clusterOf("origin", addr), w.routeTo("origin"))
			if p.down == 1 {
				c := w.dial()
				r := bufio.NewReader(c)
				if _, err := io.WriteString(c, get("/ws", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")); err != nil {
					t.Fatal(err)
				}
				if h := headOf(t, r); !strings.HasPrefix(h, "HTTP/1.1 101 ") || !hasLine(h, "upgrade: websocket") {
					t.Fatalf("%q", h)
				}
				for _, m := range []string{"abc", "defg"} {
					if _, err := io.WriteString(c, m); err != nil {
						t.Fatal(err)
					}
					expect(t, r, m)
				}
				_ = c.(*net.TCPConn).CloseWrite()
				expect(t, r, "bye")
			} else {
				f := w.dial2()
				f.head(1, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "example.com", ":path", "/ws", "sec-websocket-version", "13")
				f.until("HEADERS 1 :status=200")
				for _, m := range []string{"abc", "defg"} {
					if err := f.WriteData(1, false, []byte(m)); err != nil {
						t.Fatal(err)
					}
					f.until("DATA 1 " + m)
				}
				if err := f.WriteData(1, true, nil); err != nil {
					t.Fatal(err)
				}
				f.until("DATA 1 bye")
			}
			if e := w.next(); e.Status != 101 || e.Received != 7 || e.Sent != 10 || e.Reason != "" {
				t.Errorf("recorded %+v", e)
			}
		})
	}
}

// tunnelOrigin takes a WebSocket upgrade in its version, sends everything back, and
// "bye" at the end.
func tunnelOrigin(t *testing.T, version int) *origin {
	if version == 1 {
		return newOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
			head, err := readHeadOf(r)
			if err != nil || !hasLine(head, "connection: upgrade") || !hasLine(head, "upgrade: websocket") || !strings.HasPrefix(head, "GET /ws HTTP/1.1\r\n") {
				_, _ = io.WriteString(c, "HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n")
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
			_, _ = io.Copy(c, r)
			_, _ = io.WriteString(c, "bye")
		})
	}
	return origin2(t, []xhttp2.Setting{{ID: xhttp2.SettingEnableConnectProtocol, Val: 1}}, func(_ int, f *framed) {
		f.echo(func(stream uint32, text string) {
			if strings.HasPrefix(text, "HEADERS") {
				status := "400"
				if strings.Contains(text, ":method=CONNECT :protocol=websocket") && strings.Contains(text, ":path=/ws") {
					status = "200"
				}
				f.head(stream, status != "200", ":status", status)
			}
		})
	})
}

// echo sends back the bytes of tunnels, and says "bye" at their end. Other frames are
// for answer, in words.
func (f *framed) echo(answer func(stream uint32, text string)) {
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			return
		}
		d, ok := fr.(*xhttp2.DataFrame)
		if !ok {
			answer(fr.Header().StreamID, f.words(fr))
			continue
		}
		if len(d.Data()) > 0 {
			_ = f.WriteData(d.StreamID, false, d.Data())
		}
		if d.StreamEnded() {
			_ = f.WriteData(d.StreamID, true, []byte("bye"))
		}
	}
}

// TestConnect: CONNECT through a route that allows it, over all pairings.
func TestConnect(t *testing.T) {
	for _, p := range []pairing{{1, 1}, {1, 2}, {2, 1}, {2, 2}} {
		t.Run(p.String(), func(t *testing.T) {
			o := connectOrigin(t, p.up)
			w := newWorld(t, o.addr)
			w.speak(p.up)
			route := w.routeTo("origin")
			route.Match = resource.RouteMatch{Kind: resource.PathConnect}
			route.Forward.Upgrades = []resource.Upgrade{{Type: "connect", Enabled: true}}
			w.configureHost(w.clusterOf("origin", o.addr), &resource.VirtualHost{Name: "v", Domains: []string{"far.example"}, Routes: []*resource.Route{route}})
			if p.down == 1 {
				c := w.dial()
				r := bufio.NewReader(c)
				if _, err := io.WriteString(c, "CONNECT far.example:443 HTTP/1.1\r\nHost: far.example:443\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
				if h := headOf(t, r); !strings.HasPrefix(h, "HTTP/1.1 200 ") || hasLine(h, "content-length: 0") {
					t.Fatalf("%q", h)
				}
				if _, err := io.WriteString(c, "abc"); err != nil {
					t.Fatal(err)
				}
				expect(t, r, "abc")
				_ = c.(*net.TCPConn).CloseWrite()
				expect(t, r, "bye")
			} else {
				f := w.dial2()
				f.head(1, false, ":method", "CONNECT", ":authority", "far.example:443")
				f.until("HEADERS 1 :status=200")
				if err := f.WriteData(1, false, []byte("abc")); err != nil {
					t.Fatal(err)
				}
				f.until("DATA 1 abc")
				if err := f.WriteData(1, true, nil); err != nil {
					t.Fatal(err)
				}
				f.until("DATA 1 bye")
			}
			if e := w.next(); e.Status != 200 || e.Received != 3 || e.Sent != 6 || e.Reason != "" || e.Authority != "far.example:443" {
				t.Errorf("recorded %+v", e)
			}
		})
	}
}

func connectOrigin(t *testing.T, version int) *origin {
	if version == 1 {
		return newOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
			if head, err := readHeadOf(r); err != nil || !strings.HasPrefix(head, "CONNECT far.example:443 HTTP/1.1\r\n") {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			_, _ = io.Copy(c, r)
			_, _ = io.WriteString(c, "bye")
		})
	}
	return origin2(t, nil, func(_ int, f *framed) {
		f.echo(func(stream uint32, text string) {
			if strings.HasPrefix(text, "HEADERS 1 :method=CONNECT :authority=far.example:443") {
				f.head(stream, false, ":status", "200")
			}
		})
	})
}
