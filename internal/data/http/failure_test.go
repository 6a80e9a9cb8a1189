package http

import (
	"bufio"
	"fmt"
	"io"
	"net"
	nethttp "net/http"
	"strings"
	"testing"
	"time"

	"github.com/egret-mesh/egret/internal/data/match"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// TestUpstreamFailures has what the client and the record are told when the allowed
// way does not work.
func TestUpstreamFailures(t *testing.T) {
	tests := []struct {
		name, response string // "" closes at once, "-" never answers
		status         string
		why            reason.Reason
		flags          string
		timeout        time.Duration
	}{
		{"closes", "", "503 Service Unavailable", reason.UpstreamReset, "UC", 0},
		{"closes in the head", "HTTP/1.1 200 OK\r\nA: b", "503 Service Unavailable", reason.UpstreamReset, "UC", 0},
		{"speaks nonsense", "SSH-2.0-OpenSSH\r\n\r\n", "502 Bad Gateway", reason.UpstreamProtocolError, "UPE", 0},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "502 Bad Gateway", reason.UpstreamProtocolError, "UPE", 0},
		{"switches unasked", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "502 Bad Gateway", reason.UpstreamProtocolError, "UPE", 0},
		{"interim for ever", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 20), "502 Bad Gateway", reason.UpstreamProtocolError, "UPE", 0},
		{"route timeout", "-", "504 Gateway Timeout", reason.UpstreamTimeout, "UT", 50 * time.Millisecond},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := newOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
				if _, err := readHeadOf(r); err != nil {
					return
				}
				if test.response == "-" {
					_, _ = r.ReadByte()
					return
				}
				_, _ = io.WriteString(c, test.response)
			})
			w := newWorld(t, o.addr)
			route := w.routeTo("origin")
			route.Forward.Timeout = test.timeout
			w.configure(w.clusterOf("origin", o.addr), route)
			c := w.dial()
			for range 2 { // the connection to the client goes on
				if _, err := io.WriteString(c, get("/")); err != nil {
					t.Fatal(err)
				}
				r := bufio.NewReader(c)
				head := headOf(t, r)
				if !strings.HasPrefix(head, "HTTP/1.1 "+test.status+"\r\n") || !hasLine(head, "x-egret-reason: "+string(test.why)) {
					t.Fatalf("%q", head)
				}
				body, err := r.ReadString('\n')
				if err != nil {
					t.Fatal(err)
				}
				e := w.next()
				if e.Reason != test.why || e.Flags != test.flags || e.Upstream != o.addr || e.Cluster != "origin" || !strings.Contains(body, string(test.why)) {
					t.Errorf("recorded %+v, body %q", e, body)
				}
			}
		})
	}
}

func TestConnectFailureAndNoHost(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	l.Close()
	w := newWorld(t, dead)
	if got := w.send(get("/", "Connection: close")); !strings.HasPrefix(got, "HTTP/1.1 503 ") || !hasLine(got, "x-egret-reason: upstream_connect_failed") {
		t.Errorf("%q", got)
	}
	if e := w.next(); e.Flags != "UF" || e.Upstream != dead || e.Attempts != 1 {
		t.Errorf("recorded %+v", e)
	}
	w.configure(w.clusterOf("empty"), w.routeTo("empty"))
	if got := w.send(get("/", "Connection: close")); !strings.HasPrefix(got, "HTTP/1.1 503 ") || !hasLine(got, "x-egret-reason: no_healthy_upstream") {
		t.Errorf("%q", got)
	}
	if e := w.next(); e.Flags != "UH" {
		t.Errorf("recorded %+v", e)
	}
}

// TestBrokenResponses: once the head was sent, the client must see that the body is
// not whole.
func TestBrokenResponses(t *testing.T) {
	for _, test := range []struct {
		name, response string
		why            reason.Reason
		flags          string
	}{
		{"length", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", reason.UpstreamReset, "UC"},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", reason.UpstreamReset, "UC"},
		{"bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nx\r\n", reason.UpstreamProtocolError, "UPE"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := newOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
				if _, err := readHeadOf(r); err == nil {
					_, _ = io.WriteString(c, test.response)
				}
			})
			w := newWorld(t, o.addr)
			c := w.dial()
			if _, err := io.WriteString(c, get("/")); err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(c)
			if strings.HasSuffix(string(b), "0\r\n\r\n") || !strings.HasPrefix(string(b), "HTTP/1.1 200") {
				t.Errorf("%q", b)
			}
			if e := w.next(); e.Reason != test.why || e.Flags != test.flags || e.Status != 200 || e.Sent != 3 {
				t.Errorf("recorded %+v", e)
			}
		})
	}
}

// TestStaleConnection: a connection that the upstream closed while idle costs the
// client nothing, whatever the method.
func TestStaleConnection(t *testing.T) {
	closed := make(chan struct{}, 10)
	o := newOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if _, err := readHeadOf(r); err == nil {
			_, _ = io.WriteString(c, okHello)
		}
		c.Close()
		closed <- struct{}{}
	})
	w := newWorld(t, o.addr)
	c := w.dial()
	r := bufio.NewReader(c)
	for i, raw := range []string{get("/"), get("/"), "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 3\r\n\r\nabc",
		"POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n"} {
		if _, err := io.WriteString(c, raw); err != nil {
			t.Fatal(err)
		}
		if h := headOf(t, r); !strings.HasPrefix(h, "HTTP/1.1 200") {
			t.Fatalf("request %d: %q", i, h)
		}
		expect(t, r, "hello")
		if e := w.next(); e.Attempts != 1 || e.Flags != "" {
			t.Errorf("recorded %+v", e)
		}
		<-closed
	}
	if n := o.conns.Load(); n != 4 {
		t.Errorf("%d connections", n)
	}
}

// TestUnaskedBytes: an upstream that sends a second response to one request must not
// have it given to the next request, be that sent in one piece or with a body that follows.
func TestUnaskedBytes(t *testing.T) {
	for name, second := range map[string]string{
		"in one piece": get("/"),
		"streamed":     "POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) { unasked(t, second) })
	}
}

func unasked(t *testing.T, second string) {
	sent := make(chan struct{})
	o := newOrigin(t, func(n int, c net.Conn, r *bufio.Reader) {
		for {
			if _, err := readHeadOf(r); err != nil {
				return
			}
			_, _ = io.WriteString(c, okHello)
			if n == 1 {
				<-sent
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nEVIL!")
				sent <- struct{}{}
			}
		}
	})
	w := newWorld(t, o.addr)
	c := w.dial()
	r := bufio.NewReader(c)
	for i, raw := range []string{get("/"), second} {
		if _, err := io.WriteString(c, raw); err != nil {
			t.Fatal(err)
		}
		headOf(t, r)
		expect(t, r, "hello")
		w.next()
		if i == 0 {
			sent <- struct{}{}
			<-sent
		}
	}
	if n := o.conns.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// TestRetries has the predicates of the retry policy.
func TestRetries(t *testing.T) {
	unavailable := "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
	small := "POST / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc"
	tests := []struct {
		name, on, request string
		responses         []string // per connection; "" closes after the head, the last is repeated
		codes             []uint32
		status            int
		attempts          uint32
		flags             string
	}{
		{"5xx", "5xx", "", []string{unavailable, okHello}, nil, 200, 2, ""},
		{"5xx with a body that can be sent again", "5xx", small, []string{unavailable, okHello}, nil, 200, 2, ""},
		{"5xx, too often", "5xx", "", []string{unavailable}, nil, 503, 3, "URX"},
		{"gateway-error", "gateway-error", "", []string{"HTTP/1.1 500 E\r\nContent-Length: 0\r\n\r\n"}, nil, 500, 1, ""},
		{"not asked for", "connect-failure", "", []string{unavailable}, nil, 503, 1, ""},
		{"reset", "reset", "", []string{"", okHello}, nil, 200, 2, ""},
		{"reset, too often", "reset", "", []string{""}, nil, 503, 3, "URX,UC"},
		{"reset, not asked for", "connect-failure", "", []string{""}, nil, 503, 1, "UC"},
		{"status codes", "retriable-status-codes", "", []string{"HTTP/1.1 429 Later\r\nContent-Length: 0\r\n\r\n", okHello}, []uint32{429}, 200, 2, ""},
		{"409", "retriable-4xx", "", []string{"HTTP/1.1 409 C\r\nContent-Length: 0\r\n\r\n", okHello}, nil, 200, 2, ""},
		{"a bare status", "503", "", []string{unavailable, okHello}, nil, 200, 2, ""},
		{"rate limited is not retried", "5xx", "", []string{"HTTP/1.1 503 S\r\nx-envoy-ratelimited: true\r\nContent-Length: 0\r\n\r\n"}, nil, 503, 1, ""},
		{"rate limited, asked for", "envoy-ratelimited", "", []string{"HTTP/1.1 429 S\r\nx-envoy-ratelimited: true\r\nContent-Length: 0\r\n\r\n", okHello}, nil, 200, 2, ""},
		{"overloaded is not retried", "5xx", "", []string{"HTTP/1.1 503 S\r\nx-envoy-overloaded: true\r\nContent-Length: 0\r\n\r\n"}, nil, 503, 1, ""},
		{"retriable headers", "retriable-headers", "", []string{"HTTP/1.1 200 OK\r\nx-again: 1\r\nContent-Length: 0\r\n\r\n", okHello}, nil, 200, 2, ""},
		{"grpc unavailable", "unavailable", "", []string{"HTTP/1.1 200 OK\r\ngrpc-status: 14\r\nContent-Length: 0\r\n\r\n", okHello}, nil, 200, 2, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var o *origin
			o = newOrigin(t, func(n int, c net.Conn, r *bufio.Reader) {
				head, err := readHeadOf(r)
				if err != nil {
					return
				}
				o.got <- head
				_, _ = io.WriteString(c, test.responses[min(n, len(test.responses))-1])
			})
			w := newWorld(t, o.addr)
			route := w.routeTo("origin")
			route.Forward.Retry = &resource.RetryPolicy{On: []string{test.on}, NumRetries: 2, StatusCodes: test.codes, BackOffBase: time.Millisecond,
				Headers: []match.Header{{Name: "x-again", Value: match.String{Kind: match.Present}}}}
			w.configureHost(w.clusterOf("origin", o.addr), &resource.VirtualHost{Name: "v", Domains: []string{"example.com"},
				Routes: []*resource.Route{route}, IncludeAttemptCount: true})
			request := test.request
			if request == "" {
				request = get("/", "Connection: close")
			}
			w.send(request)
			e := w.next()
			if e.Status != test.status || e.Attempts != test.attempts || e.Flags != test.flags {
				t.Errorf("recorded %+v", e)
			}
			for i := range test.attempts {
				up := o.head(t)
				if !hasLine(up, "x-envoy-attempt-count: "+fmt.Sprint(i+1)) || request == small && !strings.HasSuffix(up, "abc") {
					t.Errorf("attempt %d: %q", i+1, up)
				}
			}
			w.nothingMore()
		})
	}
}

// TestRetryOfStreamedBodies: a body that came in chunks is sent again where it had gone
// upstream as a whole and is not too large.
func TestRetryOfStreamedBodies(t *testing.T) {
	for _, test := range []struct {
		name, body, trailers string
		status               int
		attempts             uint32
	}{
		{"small", "abc", "", 200, 2},
		{"as large as what is kept", strings.Repeat("k", maxKept), "", 200, 2},
		{"larger", strings.Repeat("k", maxKept+1), "", 503, 1},
		{"empty", "", "", 200, 2},
		{"with trailers", "abc", "x-sum: 1\r\n", 503, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := make(chan string, 4)
			o := newOrigin(t, func(n int, c net.Conn, r *bufio.Reader) {
				q, err := nethttp.ReadRequest(r)
				if err != nil {
					return
				}
				body, err := io.ReadAll(q.Body)
				if err != nil {
					return
				}
				got <- string(body)
				status := "503 Later"
				if n > 1 {
					status = "200 OK"
				}
				_, _ = io.WriteString(c, "HTTP/1.1 "+status+"\r\nContent-Length: 0\r\n\r\n")
			})
			w := newWorld(t, o.addr)
			route := w.routeTo("origin")
			route.Forward.Retry = &resource.RetryPolicy{On: []string{"5xx"}, NumRetries: 2, BackOffBase: time.Millisecond}
			w.configure(w.clusterOf("origin", o.addr), route)
			chunks := ""
			if test.body != "" {
				chunks = fmt.Sprintf("%x\r\n%s\r\n", len(test.body), test.body)
			}
			w.send("POST / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + "0\r\n" + test.trailers + "\r\n")
			if e := w.next(); e.Status != test.status || e.Attempts != test.attempts || e.Received != int64(len(test.body)) {
				t.Errorf("recorded %+v", e)
			}
			for i := range test.attempts {
				if body := <-got; body != test.body {
					t.Errorf("attempt %d: %d bytes", i+1, len(body))
				}
			}
		})
	}
}

// TestRetryAvoidsThePreviousHost: with two hosts, of which one refuses, every request
// succeeds, streamed bodies too: a connection that was never made took nothing of them.
func TestRetryAvoidsThePreviousHost(t *testing.T) {
	o := answering(t, okHello)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	l.Close()
	w := newWorld(t)
	route := w.routeTo("origin")
	route.Forward.Retry = &resource.RetryPolicy{On: []string{"connect-failure"}, NumRetries: 2, AvoidPrevious: true, BackOffBase: time.Millisecond}
	w.configure(w.clusterOf("origin", dead, o.addr), route)
	twice := 0
	for range 4 {
		got := w.send("POST / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc")
		if !strings.HasPrefix(got, "HTTP/1.1 200") {
			t.Errorf("%q", got)
		}
		if e := w.next(); e.Attempts == 2 {
			twice++
		}
	}
	if twice == 0 {
		t.Error("no request needed a second attempt")
	}
}

func TestPerTryTimeout(t *testing.T) {
	o := newOrigin(t, func(n int, c net.Conn, r *bufio.Reader) {
		if _, err := readHeadOf(r); err != nil {
			return
		}
		if n == 1 {
			_, _ = r.ReadByte() // until the proxy gives up
			return
		}
		_, _ = io.WriteString(c, okHello)
	})
	w := newWorld(t, o.addr)
	route := w.routeTo("origin")
	route.Forward.Retry = &resource.RetryPolicy{On: []string{"5xx"}, NumRetries: 1, PerTryTimeout: 100 * time.Millisecond, BackOffBase: time.Millisecond}
	w.configure(w.clusterOf("origin", o.addr), route)
	if got := w.send(get("/", "Connection: close")); !strings.HasSuffix(got, "hello") {
		t.Errorf("%q", got)
	}
	if e := w.next(); e.Status != 200 || e.Attempts != 2 {
		t.Errorf("recorded %+v", e)
	}
}
