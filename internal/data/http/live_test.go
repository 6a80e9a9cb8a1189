package http

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	nethttp "net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// silent is an origin that reads requests and never answers; it tells when one came.
func silent(t *testing.T) *origin {
	var o *origin
	o = newOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			head, err := readHeadOf(r)
			if err != nil {
				o.got <- "closed"
				return
			}
			o.got <- head
		}
	})
	return o
}

// TestClientGone: a client that leaves while it waits ends the request upstream too.
func TestClientGone(t *testing.T) {
	o := silent(t)
	w := newWorld(t, o.addr)
	c := w.dial()
	if _, err := io.WriteString(c, get("/")); err != nil {
		t.Fatal(err)
	}
	o.head(t)
	c.Close()
	if e := w.next(); e.Reason != reason.DownstreamClosed || e.Flags != "DC" || e.Status != 0 || e.Details != "downstream_remote_disconnect" {
		t.Errorf("recorded %+v", e)
	}
	if h := o.head(t); h != "closed" {
		t.Errorf("%q", h)
	}
}

func TestClientGoneInsideTheBody(t *testing.T) {
	o := silent(t)
	w := newWorld(t, o.addr)
	for _, head := range []string{"Content-Length: 100000", "Content-Length: 10", "Transfer-Encoding: chunked"} {
		c := w.dial()
		if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: example.com\r\n"+head+"\r\n\r\n5"); err != nil {
			t.Fatal(err)
		}
		c.Close()
		if e := w.next(); e.Reason != reason.DownstreamClosed || e.Flags != "DC" || e.Status != 0 {
			t.Errorf("%s: recorded %+v", head, e)
		}
	}
}

// TestBadChunkInsideTheBody: what cannot be read is refused, and the upstream does
// not get the rest.
func TestBadChunkInsideTheBody(t *testing.T) {
	o := silent(t)
	w := newWorld(t, o.addr)
	got := w.send("POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0x1\r\na\r\n0\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 400 ") || !strings.Contains(got, "chunk_size_invalid") {
		t.Errorf("%q", got)
	}
	if e := w.next(); e.Reason != reason.BadRequest || e.Status != 400 || e.Flags != "DPE" {
		t.Errorf("recorded %+v", e)
	}
}

// TestPolicyChangesWhileWaiting: a request under way that is no longer allowed ends;
// one that still is goes on.
func TestPolicyChangesWhileWaiting(t *testing.T) {
	o := silent(t)
	w := newWorld(t, o.addr)
	c := w.dial()
	if _, err := io.WriteString(c, get("/", "X-Team: a")); err != nil {
		t.Fatal(err)
	}
	o.head(t)
	w.configure(w.clusterOf("origin", o.addr), w.routeTo("origin")) // as before
	w.configureHost(w.clusterOf("origin", o.addr), &resource.VirtualHost{Name: "other", Domains: []string{"other.com"}, Routes: []*resource.Route{w.routeTo("origin")}})
	head := headOf(t, bufio.NewReader(c))
	if !strings.HasPrefix(head, "HTTP/1.1 502 ") || !hasLine(head, "x-egret-reason: policy_changed") {
		t.Errorf("%q", head)
	}
	if e := w.next(); e.Reason != reason.PolicyChanged || !strings.Contains(e.Detail, "not_in_registry") {
		t.Errorf("recorded %+v", e)
	}
}

// TestDraining: idle connections are closed, requests under way are finished.
func TestDraining(t *testing.T) {
	began, release := make(chan struct{}), make(chan struct{})
	o := newOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			head, err := readHeadOf(r)
			if err != nil {
				return
			}
			if strings.Contains(head, "/slow") {
				close(began)
				<-release
			}
			_, _ = io.WriteString(c, okHello)
		}
	})
	w := newWorld(t, o.addr)
	idle, busy := w.dial(), w.dial()
	if _, err := io.WriteString(idle, get("/")); err != nil {
		t.Fatal(err)
	}
	headOf(t, bufio.NewReader(io.LimitReader(idle, 1000)))
	w.next()
	if _, err := io.WriteString(busy, get("/slow")); err != nil {
		t.Fatal(err)
	}
	<-began
	w.startDraining()
	_, _ = io.Copy(io.Discard, idle) // ends
	close(release)
	b, err := io.ReadAll(busy)
	if err != nil || !strings.HasSuffix(string(b), "hello") || !hasLine(string(b), "connection: close") {
		t.Errorf("%q %v", b, err)
	}
	if e := w.next(); e.Status != 200 {
		t.Errorf("recorded %+v", e)
	}
}

// TestClosedWhileDraining: who closes connections that take too long to drain is not
// taken for the client.
func TestClosedWhileDraining(t *testing.T) {
	o := silent(t)
	w := newWorld(t, o.addr)
	c := w.dial()
	if _, err := io.WriteString(c, get("/")); err != nil {
		t.Fatal(err)
	}
	o.head(t)
	w.drain()
	w.closeConns()
	if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
		t.Errorf("%q %v", b, err)
	}
	if e := w.next(); e.Reason != reason.Draining {
		t.Errorf("recorded %+v", e)
	}
}

// TestTimeouts of the connection manager.
func TestTimeouts(t *testing.T) {
	short := 50 * time.Millisecond
	for _, test := range []struct {
		name   string
		set    func(m *resource.HTTPConnectionManager)
		raw    string
		status string // "" for none
		why    reason.Reason
		flags  string
	}{
		{"idle", func(m *resource.HTTPConnectionManager) { m.IdleTimeout = short }, get("/ok"), "200", "", ""},
		{"request head", func(m *resource.HTTPConnectionManager) { m.RequestHeadersTimeout = short }, "GET / HTTP/1.1\r\n", "408", reason.DownstreamTimeout, ""},
		{"stream idle", func(m *resource.HTTPConnectionManager) { m.StreamIdleTimeout = short }, get("/", "Connection: close"), "504", reason.UpstreamTimeout, "SI"},
		{"stream idle in the body", func(m *resource.HTTPConnectionManager) { m.StreamIdleTimeout = short },
			"POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 100000\r\nConnection: close\r\n\r\nabc", "504", reason.UpstreamTimeout, "SI"},
		{"stream idle in a small body", func(m *resource.HTTPConnectionManager) { m.StreamIdleTimeout = short },
			"POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 10\r\nConnection: close\r\n\r\nabc", "504", reason.UpstreamTimeout, "SI"},
		{"whole request", func(m *resource.HTTPConnectionManager) { m.RequestTimeout = short },
			"POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n", "408", reason.DownstreamTimeout, ""},
		{"whole small request", func(m *resource.HTTPConnectionManager) { m.RequestTimeout = short },
			"POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 3\r\n\r\na", "408", reason.DownstreamTimeout, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := newOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
				if head, _ := readHeadOf(r); strings.HasPrefix(head, "GET /ok") {
					_, _ = io.WriteString(c, okHello)
				}
				_, _ = io.Copy(io.Discard, r)
			})
			w := newWorld(t, o.addr)
			test.set(w.hcm)
			w.configure(w.clusterOf("origin", o.addr), w.routeTo("origin"))
			got := w.send(test.raw)
			for got == "" { // a busy machine: it was idle for too long before it had asked
				got = w.send(test.raw)
			}
			if !strings.HasPrefix(got, "HTTP/1.1 "+test.status) {
				t.Errorf("%q", got)
			}
			if e := w.next(); e.Reason != test.why || e.Flags != test.flags {
				t.Errorf("recorded %+v", e)
			}
		})
	}
}

// TestWebSocket opens a tunnel and talks both ways; bytes that come with the heads
// are not lost; each side may end first.
func TestWebSocket(t *testing.T) {
	o := newOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
		head, err := readHeadOf(r)
		if err != nil || !hasLine(head, "connection: upgrade") || !hasLine(head, "upgrade: WebSocket") || !hasLine(head, "sec-websocket-key: k") {
			_, _ = io.WriteString(c, "HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n")
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: a\r\n\r\nwelcome")
		_, _ = io.Copy(c, r) // echo, until the client's end
		_, _ = io.WriteString(c, "bye")
	})
	w := newWorld(t, o.addr)
	c := w.dial()
	r := bufio.NewReader(c)
	if _, err := io.WriteString(c, get("/ws", "Connection: Upgrade", "Upgrade: WebSocket", "Sec-WebSocket-Key: k")+"early"); err != nil {
		t.Fatal(err)
	}
	head := headOf(t, r)
	if !strings.HasPrefix(head, "HTTP/1.1 101 Switching Protocols\r\n") || !hasLine(head, "upgrade: websocket") || !hasLine(head, "connection: upgrade") || !hasLine(head, "sec-websocket-accept: a") {
		t.Fatalf("%q", head)
	}
	expect(t, r, "welcomeearly")
	big := strings.Repeat("x", 300<<10)
	go func() {
		for range 3 {
			_, _ = io.WriteString(c, big)
		}
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	expect(t, r, big+big+big+"bye")
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("after the end: %v", err)
	}
	size := int64(3 * len(big))
	if e := w.next(); e.Status != 101 || e.Received != size+5 || e.Sent != size+7+5+3 || e.Reason != "" {
		t.Errorf("recorded %+v", e)
	}
}

func TestTunnelEndsWithPolicy(t *testing.T) {
	o := newOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if _, err := readHeadOf(r); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")
			_, _ = io.Copy(c, r)
		}
	})
	w := newWorld(t, o.addr)
	c := w.dial()
	if _, err := io.WriteString(c, get("/ws", "Connection: Upgrade", "Upgrade: websocket")); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	headOf(t, r)
	w.configureHost(w.clusterOf("origin", o.addr), &resource.VirtualHost{Name: "other", Domains: []string{"other.com"}, Routes: []*resource.Route{w.routeTo("origin")}})
	if _, err := r.ReadByte(); err == nil {
		t.Error("the tunnel goes on")
	}
	if e := w.next(); e.Status != 101 || e.Reason != reason.PolicyChanged {
		t.Errorf("recorded %+v", e)
	}
}

func TestUpgradeRefusedByTheUpstream(t *testing.T) {
	o := answering(t, okHello)
	w := newWorld(t, o.addr)
	for range 2 { // an ordinary response: what follows is not read as a request
		got := w.send(get("/ws", "Connection: Upgrade", "Upgrade: websocket") + get("/smuggled"))
		if !strings.HasPrefix(got, "HTTP/1.1 200") || !hasLine(got, "connection: close") || !strings.HasSuffix(got, "\r\n\r\nhello") {
			t.Errorf("%q", got)
		}
		if e := w.next(); e.Path != "/ws" {
			t.Errorf("recorded %+v", e)
		}
	}
	w.nothingMore()
	if n := o.conns.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestLargeBodies sends bodies both ways through a real server, with and without a
// length, and compares every byte.
func TestLargeBodies(t *testing.T) {
	server := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			nethttp.Error(w, err.Error(), 500)
			return
		}
		w.Header().Set("X-Sum", fmt.Sprintf("%x", sha256.Sum256(b)))
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", fmt.Sprint(len(b)))
		}
		_, _ = w.Write(b)
	}))
	defer server.Close()
	w := newWorld(t, server.Listener.Addr().String())
	client := &nethttp.Client{Transport: &nethttp.Transport{Proxy: nil, MaxIdleConns: 10}}
	defer client.CloseIdleConnections()
	for _, size := range []int{0, 1, 5000, 16 << 10, 16<<10 + 1, 64 << 10, 100<<10 + 7, 10 << 20} {
		for _, path := range []string{"/length", "/chunked"} {
			for _, known := range []bool{true, false} {
				data := bytes.Repeat([]byte("0123456789abcdefghijklmnopqrstuvwxyz"), size/36+1)[:size]
				var body io.Reader = bytes.NewReader(data)
				if !known {
					body = struct{ io.Reader }{body}
				}
				q, err := nethttp.NewRequest("POST", "http://"+w.listener.Addr().String()+path, body)
				if err != nil {
					t.Fatal(err)
				}
				q.Host = "example.com"
				s, err := client.Do(q)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(s.Body)
				s.Body.Close()
				if err != nil || !bytes.Equal(got, data) || s.Header.Get("X-Sum") != fmt.Sprintf("%x", sha256.Sum256(data)) {
					t.Errorf("%d bytes, %s, length known %v: %d bytes back, %v", size, path, known, len(got), err)
				}
				if e := w.next(); e.Received != int64(size) || e.Sent != int64(size) || e.Status != 200 || e.Reason != "" {
					t.Errorf("recorded %+v", e)
				}
			}
		}
	}
}

// TestEarlyResponse: an upstream that answers before it has the body is heard, and
// the connections end.
func TestEarlyResponse(t *testing.T) {
	o := newOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			if line == "\r\n" {
				break
			}
		}
		_, _ = io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nhello")
		_, _ = io.Copy(io.Discard, r)
	})
	w := newWorld(t, o.addr)
	c := w.dial()
	if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 100000000\r\n\r\nabc"); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 413") || !strings.HasSuffix(string(b), "hello") || !hasLine(string(b), "connection: close") {
		t.Errorf("%q %v", b, err)
	}
	if e := w.next(); e.Status != 413 || e.Reason != "" {
		t.Errorf("recorded %+v", e)
	}
}

// TestStreamingBothWays: each piece of the body comes back before the next is sent.
func TestStreamingBothWays(t *testing.T) {
	o := newOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			if line == "\r\n" {
				break
			}
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		_, _ = io.Copy(c, r) // chunks as they are, with the last one
	})
	w := newWorld(t, o.addr)
	c := w.dial()
	r := bufio.NewReader(c)
	if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if h := headOf(t, r); !strings.HasPrefix(h, "HTTP/1.1 200") {
		t.Fatalf("%q", h)
	}
	for _, chunk := range []string{"3\r\nabc\r\n", "4\r\ndefg\r\n", "0\r\n\r\n"} {
		if _, err := io.WriteString(c, chunk); err != nil {
			t.Fatal(err)
		}
		expect(t, r, chunk)
	}
	if e := w.next(); e.Status != 200 || e.Received != 7 || e.Sent != 7 || e.Reason != "" {
		t.Errorf("recorded %+v", e)
	}
}

// TestHostGone: connections to an endpoint that left the configuration are closed.
func TestHostGone(t *testing.T) {
	closed := make(chan struct{})
	o := newOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if _, err := readHeadOf(r); err == nil {
			_, _ = io.WriteString(c, okHello)
		}
		_, _ = r.ReadByte()
		close(closed)
	})
	other := answering(t, okHello)
	w := newWorld(t, o.addr)
	w.send(get("/", "Connection: close"))
	w.configure(w.clusterOf("origin", other.addr), w.routeTo("origin"))
	w.send(get("/", "Connection: close"))
	select {
	case <-closed:
	case <-time.After(patient):
		t.Error("the connection to the old endpoint is still open")
	}
}
