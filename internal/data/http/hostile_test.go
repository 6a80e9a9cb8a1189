package http

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/egret-mesh/egret/internal/data/reason"
)

// When large heads that do not end hold too much memory the oldest is given up, and
// recorded; one that ends is served.
func TestUnfinishedHeadsAreBounded(t *testing.T) {
	o := answering(t, okHello)
	const large = 32 << 10 // the buffer that a head of 5 KiB needs
	w := newLimitedWorld(t, Limits{HeadMemory: 3 * large, LingerTime: 10 * time.Millisecond}, nil, o.addr)
	held := func() int {
		w.handler.heads.mu.Lock()
		defer w.handler.heads.mu.Unlock()
		return w.handler.heads.held
	}
	begin := "GET / HTTP/1.1\r\nHost: example.com\r\nA: " + strings.Repeat("a", 5<<10)
	var conns []net.Conn
	for i := range 3 {
		c := w.dial()
		if _, err := io.WriteString(c, begin); err != nil {
			t.Fatal(err)
		}
		waitUntil(t, func() bool { return held() == (i+1)*large })
		conns = append(conns, c)
	}
	last := w.dial()
	if _, err := io.WriteString(last, begin); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conns[0]); err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 408 ") || !hasLine(string(got), "connection: close") {
		t.Errorf("the oldest: %q, %v", got, err)
	}
	if e := w.next(); e.Status != 408 || e.Reason != reason.DownstreamTimeout {
		t.Errorf("recorded %+v", e)
	}
	for _, c := range []net.Conn{conns[1], conns[2], last} {
		if _, err := io.WriteString(c, "\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if h := headOf(t, bufio.NewReader(c)); !strings.HasPrefix(h, "HTTP/1.1 200") {
			t.Errorf("%q", h)
		}
		w.next()
	}
	if n := held(); n != 0 {
		t.Errorf("%d bytes are counted though no head is being read", n)
	}
}

func waitUntil(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patient)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal("it does not come")
		}
	}
}

// While connections are scarce a client that makes the proxy wait is given up, and one
// that waits for the upstream is not.
func TestScarceConnections(t *testing.T) {
	big := "HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n"
	release := make(chan struct{})
	o := newOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
		head, err := readHeadOf(r)
		switch {
		case err != nil:
		case strings.HasPrefix(head, "GET /big"):
			_, _ = io.WriteString(c, big)
			for b := make([]byte, 64<<10); err == nil; {
				_, err = c.Write(b)
			}
		case strings.HasPrefix(head, "GET /slow"):
			<-release
			_, _ = io.WriteString(c, okHello)
		default:
			_, _ = io.Copy(io.Discard, r)
		}
	})
	post := func(length int) string {
		return fmt.Sprintf("POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: %d\r\n\r\nab", length)
	}
	tests := []struct {
		name, raw string
		reads     bool
		why       reason.Reason
	}{
		{"a small body that does not come", post(10), true, reason.DownstreamTimeout},
		{"a large body that does not come", post(1 << 20), true, reason.DownstreamTimeout},
		{"an answer that is not read", get("/big"), false, reason.DownstreamTimeout},
		{"an upstream that is slow", get("/slow", "Connection: close"), true, ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			w := newLimitedWorld(t, Limits{ScarceTimeout: 50 * time.Millisecond, LingerTime: 10 * time.Millisecond}, func() bool { return true }, o.addr)
			c := w.dial()
			if _, err := io.WriteString(c, tc.raw); err != nil {
				t.Fatal(err)
			}
			if tc.why == "" {
				// It outlives several times what a client may take.
				timer := time.NewTimer(300 * time.Millisecond)
				defer timer.Stop()
				select {
				case e := <-w.recorder.entries:
					t.Errorf("recorded %+v", e)
				case <-timer.C:
				}
				close(release)
			}
			if tc.reads {
				_, _ = io.Copy(io.Discard, c)
			}
			if e := w.next(); e.Reason != tc.why {
				t.Errorf("recorded %+v", e)
			}
		})
	}
}

// What an upstream can do to the proxy: it costs the exchange, no more memory than a
// head, and ends when the route's timeout passes.
func TestHostileUpstreams(t *testing.T) {
	tests := map[string]struct {
		say func(c net.Conn)
		why reason.Reason
	}{
		"a head without end":        {func(c net.Conn) { endless(c, "HTTP/1.1 200 OK\r\nA: ", "a") }, reason.UpstreamProtocolError},
		"fields without end":        {func(c net.Conn) { endless(c, "HTTP/1.1 200 OK\r\n", "A: b\r\n") }, reason.UpstreamProtocolError},
		"interim answers":           {func(c net.Conn) { endless(c, "", "HTTP/1.1 103 Early Hints\r\n\r\n") }, reason.UpstreamProtocolError},
		"garbage":                   {func(c net.Conn) { endless(c, "", "\x00\xff\r\n") }, reason.UpstreamProtocolError},
		"a status line without end": {func(c net.Conn) { endless(c, "HTTP/1.1 200 ", "x") }, reason.UpstreamProtocolError},
		"a chunk line without end":  {func(c net.Conn) { endless(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;", "x") }, reason.UpstreamProtocolError},
		"chunk extensions without end": {func(c net.Conn) {
			endless(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1;"+strings.Repeat("x", 200)+"\r\na\r\n")
		}, reason.UpstreamProtocolError},
		"trailers without end": {func(c net.Conn) {
			endless(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "A: b\r\n")
		}, reason.UpstreamProtocolError},
		"nothing":            {func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, reason.UpstreamTimeout},
		"a head byte a time": {trickle, reason.UpstreamTimeout},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
				if _, err := readHeadOf(r); err == nil {
					tc.say(c)
				}
			})
			w := newWorld(t, o.addr)
			route := w.routeTo("origin")
			if tc.why == reason.UpstreamTimeout {
				route.Forward.Timeout = 100 * time.Millisecond
			}
			w.configure(w.clusterOf("origin", o.addr), route)
			c := w.dial()
			if _, err := io.WriteString(c, get("/", "Connection: close")); err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, c)
			if e := w.next(); e.Reason != tc.why {
				t.Errorf("recorded %+v", e)
			}
		})
	}
}

// endless writes until the proxy has had enough.
func endless(c net.Conn, first, then string) {
	if _, err := io.WriteString(c, first); err != nil {
		return
	}
	piece := strings.Repeat(then, 4096/len(then)+1)
	for {
		if _, err := io.WriteString(c, piece); err != nil {
			return
		}
	}
}

// trickle sends a head that never ends, slowly.
func trickle(c net.Conn) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for _, b := range []byte("HTTP/1.1 200 OK\r\nA: " + strings.Repeat("a", 10000)) {
		<-tick.C
		if _, err := c.Write([]byte{b}); err != nil {
			return
		}
	}
}
