package http

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// TestAnswersOfOurOwn has what is answered without an upstream: status, reason and
// whether the connection goes on.
func TestAnswersOfOurOwn(t *testing.T) {
	const close, stays = true, false
	post := func(lines string) string { return "POST / HTTP/1.1\r\nHost: evil.com\r\n" + lines }
	tests := []struct {
		name, raw string
		status    string
		why       reason.Reason
		closes    bool
	}{
		{"not registered", "GET / HTTP/1.1\r\nHost: evil.com\r\n\r\n", "502 Bad Gateway", reason.NotInRegistry, stays},
		{"HEAD", "HEAD / HTTP/1.1\r\nHost: evil.com\r\n\r\n", "502 Bad Gateway", reason.NotInRegistry, stays},
		{"HTTP/1.0", "GET / HTTP/1.0\r\nHost: evil.com\r\n\r\n", "502 Bad Gateway", reason.NotInRegistry, close},
		{"small body", post("Content-Length: 3\r\n\r\nabc"), "502 Bad Gateway", reason.NotInRegistry, stays},
		{"chunked body", post("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), "502 Bad Gateway", reason.NotInRegistry, stays},
		{"large body", post("Content-Length: 1000000\r\n\r\nabc"), "502 Bad Gateway", reason.NotInRegistry, close},
		{"body that waits for 100", post("Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"), "502 Bad Gateway", reason.NotInRegistry, close},
		{"upgrade not allowed", get("/", "Connection: upgrade", "Upgrade: other"), "403 Forbidden", reason.UpgradeNotAllowed, close},
		{"CONNECT", "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n", "502 Bad Gateway", reason.ConnectNotAllowed, close},
		{"no route", get("/", "x-no-route: 1"), "404 Not Found", reason.NoRoute, stays},
		{"no cluster", get("/nowhere"), "503 Service Unavailable", reason.NoCluster, stays},
		{"bad request", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400 Bad Request", reason.BadRequest, close},
		{"smuggling", get("/", "Content-Length: 3", "Transfer-Encoding: chunked") + "0\r\n\r\nGET /evil HTTP/1.1\r\n", "400 Bad Request", reason.BadRequest, close},
		{"an escaped NUL", get("/a%00b"), "400 Bad Request", reason.BadRequest, close},
		{"bad version", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", "505 HTTP Version Not Supported", reason.BadRequest, close},
		{"large header", get("/", "A: "+strings.Repeat("b", 61<<10)), "431 Request Header Fields Too Large", reason.HeadersTooLarge, close},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, "127.0.0.1:1")
			no := w.routeTo("origin")
			nowhere := w.routeTo("gone")
			nowhere.Match.Path = "/nowhere"
			no.Match.Path = "/never"
			w.configure(w.clusterOf("origin", "127.0.0.1:1"), nowhere, no, &resource.Route{Name: "up", Match: resource.RouteMatch{Path: "/"}, Forward: no.Forward})
			if test.why == reason.NoRoute {
				w.configure(w.clusterOf("origin", "127.0.0.1:1"), no)
			}
			c := w.dial()
			if _, err := io.WriteString(c, test.raw); err != nil {
				t.Fatal(err)
			}
			r := bufio.NewReader(c)
			head := headOf(t, r)
			if !strings.HasPrefix(head, "HTTP/1.1 "+test.status+"\r\n") || !hasLine(head, "x-egret-reason: "+string(test.why)) ||
				!hasLine(head, "content-type: text/plain") || hasLine(head, "connection: close") != test.closes {
				t.Fatalf("%q", head)
			}
			e := w.next()
			if e.Reason != test.why || e.Detail == "" || !strings.HasPrefix(test.status, fmt.Sprint(e.Status)) {
				t.Errorf("recorded %+v", e)
			}
			if !strings.HasPrefix(test.raw, "HEAD") {
				line, err := r.ReadString('\n')
				if err != nil || !strings.HasPrefix(line, "egret: "+string(test.why)+": ") || e.Sent != int64(len(line)) {
					t.Errorf("body %q (%v), recorded %d", line, err, e.Sent)
				}
			}
			if test.closes {
				if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
					t.Errorf("after the answer: %q, %v", rest, err)
				}
				return
			}
			if _, err := io.WriteString(c, "GET /2 HTTP/1.1\r\nHost: evil.com\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			headOf(t, r)
			if e := w.next(); e.Path != "/2" {
				t.Errorf("recorded %+v", e)
			}
			w.nothingMore()
		})
	}
}

func TestRefusedConnection(t *testing.T) {
	w := newWorld(t, "127.0.0.1:1")
	client, server := net.Pipe()
	defer client.Close()
	plan := decide.ConnPlan{Reason: reason.NotInRegistry, Detail: "evil.com is not in the registry"}
	plan.Listener = &resource.Listener{AccessLogs: []resource.AccessLog{{}, {}}}
	conn := &Conn{Net: server, Peeked: []byte("GET / HT"), Info: w.info, Plan: func() (*config.Config, decide.ConnPlan) { return nil, plan }}
	w.served.Go(func() { w.handler.Serve(w.ctx, conn) })
	go func() { _, _ = io.WriteString(client, "TP/1.1\r\nHost: evil.com\r\nConnection: close\r\n\r\n") }()
	b, _ := io.ReadAll(client)
	if !strings.HasPrefix(string(b), "HTTP/1.1 502 ") || !strings.HasSuffix(string(b), "egret: not_in_registry: evil.com is not in the registry\n") {
		t.Errorf("%q", b)
	}
	if e := w.next(); e.Reason != reason.NotInRegistry || e.Host != "evil.com" || e.Logs != 2 {
		t.Errorf("recorded %+v", e)
	}
}

// A client cannot keep a refusal from the record by not finishing its request.
func TestRefusedConnectionClosedInsideTheHead(t *testing.T) {
	w := newWorld(t, "127.0.0.1:1")
	client, server := net.Pipe()
	plan := decide.ConnPlan{Reason: reason.AddressNotInRegistry, Detail: "192.0.2.1 is not in the registry"}
	conn := &Conn{Net: server, Peeked: []byte("GET / HTTP/1.1\r\nHost: ev"), Info: w.info, Plan: func() (*config.Config, decide.ConnPlan) { return nil, plan }}
	w.served.Go(func() { w.handler.Serve(w.ctx, conn) })
	_ = client.Close()
	if e := w.next(); e.Reason != reason.AddressNotInRegistry || e.Flags != "DC" {
		t.Errorf("recorded %+v", e)
	}
}

// TestNothingRecordedForNothing: connections that say nothing are not requests.
func TestNothingRecordedForNothing(t *testing.T) {
	w := newWorld(t, "127.0.0.1:1")
	c := w.dial()
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
		t.Errorf("%q %v", b, err)
	}
	w.nothingMore()
}

func TestClosedInsideTheHead(t *testing.T) {
	w := newWorld(t, "127.0.0.1:1")
	c := w.dial()
	if _, err := io.WriteString(c, "GET / HT"); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
		t.Errorf("%q %v", b, err)
	}
	if e := w.next(); e.Reason != reason.DownstreamClosed || e.Flags != "DC" || e.Status != 0 {
		t.Errorf("recorded %+v", e)
	}
}

func TestDirectAndRedirect(t *testing.T) {
	w := newWorld(t, "127.0.0.1:1")
	w.configure(w.clusterOf("origin", "127.0.0.1:1"),
		&resource.Route{Name: "teapot", Match: resource.RouteMatch{Path: "/tea"}, Direct: &resource.DirectResponse{Status: 418, Body: []byte("short")},
			ResponseHeaders: resource.HeaderEdits{Add: []resource.HeaderAdd{{Name: "x-a", Value: "%PROTOCOL% %REQ(:path)%", Dynamic: true}}}},
		&resource.Route{Name: "move", Match: resource.RouteMatch{Path: "/"}, Redirect: &resource.Redirect{HTTPSRedirect: true, Status: 301}})
	if got := w.send(get("/tea", "Connection: close")); !strings.HasPrefix(got, "HTTP/1.1 418 I'm a teapot\r\n") ||
		!hasLine(got, "x-a: HTTP/1.1 /tea") || !strings.HasSuffix(got, "\r\n\r\nshort") {
		t.Errorf("%q", got)
	}
	if e := w.next(); e.Status != 418 || e.Details != "direct_response" || e.Reason != "" {
		t.Errorf("recorded %+v", e)
	}
	if got := w.send(get("/x?y", "Connection: close")); !strings.HasPrefix(got, "HTTP/1.1 301 ") || !hasLine(got, "location: https://example.com/x?y") {
		t.Errorf("%q", got)
	}
}

// A client that asks for what is refused and never reads the answers must not hold
// the connection.
func TestRefusedClientThatDoesNotRead(t *testing.T) {
	w := newWorld(t)
	w.handler.limits.LingerTime = 50 * time.Millisecond
	near, far := tcpPair(t)
	defer near.Close()
	for _, err := range []error{near.SetReadBuffer(4 << 10), far.SetWriteBuffer(4 << 10)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		defer far.Close()
		w.handler.Serve(w.ctx, w.conn(far))
	}()
	go func() { // until the connection is closed
		for {
			if _, err := io.WriteString(near, "GET / HTTP/1.1\r\nHost: nowhere.example\r\n\r\n"); err != nil {
				return
			}
		}
	}()
	for limit := time.After(patient); ; {
		select {
		case <-served:
			return
		case <-w.recorder.entries: // the recorder must not be what holds it up
		case <-limit:
			t.Fatal("the connection was not given up")
		}
	}
}

// tcpPair is both ends of a connection over loopback.
func tcpPair(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if near, err = net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr)); err != nil {
		t.Fatal(err)
	}
	if far, err = l.AcceptTCP(); err != nil {
		t.Fatal(err)
	}
	return near, far
}
