package http

import (
	"bufio"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
)

// TestForward follows one plain request and its record.
func TestForward(t *testing.T) {
	o := answering(t, "HTTP/1.1 200 OK\r\nServer: nginx\r\nX-A: b\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nContent-Length: 5\r\n\r\nhello")
	w := newWorld(t, o.addr)
	got := w.send(get("/a?b=c", "User-Agent: test", "Connection: close, X-Hop", "X-Hop: secret", "Proxy-Authorization: x", "TE: trailers, deflate"))
	head, body, _ := strings.Cut(got, "\r\n\r\n")
	head += "\r\n"
	if body != "hello" || !strings.HasPrefix(head, "HTTP/1.1 200 OK\r\n") {
		t.Fatalf("%q", got)
	}
	for _, line := range []string{"X-A: b", "content-length: 5", "server: istio-envoy", "connection: close", "x-envoy-upstream-service-time: 0"} {
		if !hasLine(head, line) && !strings.HasPrefix(line, "x-envoy") {
			t.Errorf("no line %q in %q", line, head)
		}
	}
	if !regexp.MustCompile(`\r\nx-envoy-upstream-service-time: \d+\r\n`).MatchString(head) || !regexp.MustCompile(`\r\ndate: \w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT\r\n`).MatchString(head) {
		t.Errorf("%q", head)
	}
	if strings.Contains(head, "nginx") || strings.Contains(strings.ToLower(head), "keep-alive") {
		t.Errorf("hop-by-hop or replaced fields in %q", head)
	}
	up := o.head(t)
	want := regexp.MustCompile(`^GET /a\?b=c HTTP/1\.1\r\nhost: example\.com\r\nUser-Agent: test\r\nx-forwarded-proto: http\r\n` +
		`x-request-id: [0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\r\nconnection: te\r\nte: trailers\r\n\r\n$`)
	if !want.MatchString(up) {
		t.Errorf("upstream got %q", up)
	}
	e := w.next()
	if e.RequestID == "" || !strings.Contains(up, e.RequestID) {
		t.Errorf("recorded request id %q", e.RequestID)
	}
	e.RequestID = ""
	if want := (told{Method: "GET", Path: "/a?b=c", Authority: "example.com", Host: "example.com", Status: 200, Details: "via_upstream",
		Cluster: "origin", Upstream: o.addr, Sent: 5, Attempts: 1, Protocol: "HTTP/1.1", UpstreamProtocol: "HTTP/1.1", Logs: 1}); e != want {
		t.Errorf("recorded %+v\nwant %+v", e, want)
	}
	w.nothingMore()
}

// TestKeepAliveAndPipelining sends requests on one connection, one after another and
// all at once; one upstream connection serves them in order.
func TestKeepAliveAndPipelining(t *testing.T) {
	o := newOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			head, err := readHeadOf(r)
			if err != nil {
				return
			}
			path := strings.Fields(head)[1]
			if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"+path); err != nil {
				return
			}
		}
	})
	w := newWorld(t, o.addr)
	c := w.dial()
	r := bufio.NewReader(c)
	ask := func(raw string, paths ...string) {
		t.Helper()
		if _, err := io.WriteString(c, raw); err != nil {
			t.Fatal(err)
		}
		for _, p := range paths {
			if h := headOf(t, r); !strings.HasPrefix(h, "HTTP/1.1 200 ") || hasLine(h, "connection: close") {
				t.Fatalf("%q", h)
			}
			expect(t, r, p)
		}
	}
	ask(get("/1"), "/1")
	ask(get("/2"), "/2")
	post := "POST /3 HTTP/1.1\r\nHost: example.com\r\nContent-Length: 3\r\n\r\nabc"
	ask(post+get("/4")+get("/5"), "/3", "/4", "/5")
	for _, path := range []string{"/1", "/2", "/3", "/4", "/5"} {
		if e := w.next(); e.Path != path || e.Status != 200 {
			t.Errorf("recorded %+v, want %s", e, path)
		}
	}
	if n := o.conns.Load(); n != 1 {
		t.Errorf("%d upstream connections", n)
	}
}

// TestFramings carries bodies of all framings in both directions, for both versions.
func TestFramings(t *testing.T) {
	tests := []struct{ name, request, upstream, response, client string }{
		{"chunked response", get("/", "Connection: close"), "",
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nT: u\r\n\r\n",
			"trailer: T\r\n|transfer-encoding: chunked\r\n|\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nT: u\r\n\r\n"},
		{"chunked response to HTTP/1.0", "GET / HTTP/1.0\r\nHost: example.com\r\n\r\n", "",
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nT: u\r\n\r\n",
			"connection: close\r\n|\r\n\r\nabcde"},
		{"until close", get("/", "Connection: close"), "", "HTTP/1.1 200 OK\r\n\r\nabc\x00", "transfer-encoding: chunked|\r\n\r\n3\r\nabc\r\n0\r\n\r\n"},
		{"HEAD", "HEAD / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n", "HEAD / ",
			"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", "content-length: 1000\r\n"},
		{"304", get("/", "Connection: close"), "", "HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\nETag: x\r\n\r\n", "HTTP/1.1 304 Not Modified|content-length: 10\r\n"},
		{"204", get("/", "Connection: close"), "", "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 204 No Content\r\n"},
		{"empty", get("/", "Connection: close"), "", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "content-length: 0\r\n"},
		{"unknown status and reason", get("/", "Connection: close"), "", "HTTP/1.1 299 Fine Indeed\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 299 Fine Indeed\r\n"},
		{"interim response", get("/", "Connection: close"), "", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + okHello,
			"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n|hello"},
		{"100 that nobody asked for", get("/", "Connection: close"), "", "HTTP/1.1 100 Continue\r\n\r\n" + okHello, "HTTP/1.1 200 OK\r\n|hello"},
		{"POST without body", "POST / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n", "content-length: 0\r\n", okHello, "hello"},
		{"absolute form", "GET http://example.com/x HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n", "GET /x HTTP/1.1\r\nhost: example.com\r\n", okHello, "hello"},
		{"length body", "POST / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc", "content-length: 3\r\n|\r\n\r\nabc", okHello, "hello"},
		{"GET with body", "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc", "content-length: 3\r\n|\r\n\r\nabc", okHello, "hello"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			response, closes := strings.CutSuffix(test.response, "\x00")
			var o *origin
			o = newOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
				for {
					head, err := readHeadOf(r)
					if err != nil {
						return
					}
					o.got <- head
					if _, err := io.WriteString(c, response); err != nil || closes {
						return
					}
				}
			})
			w := newWorld(t, o.addr)
			got, up := w.send(test.request), o.head(t)
			for _, part := range strings.Split(test.client, "|") {
				if !strings.Contains(got, part) {
					t.Errorf("client got %q, want %q in it", got, part)
				}
			}
			for _, part := range strings.Split(test.upstream, "|") {
				if !strings.Contains(up, part) {
					t.Errorf("upstream got %q, want %q in it", up, part)
				}
			}
			if e := w.next(); e.Reason != "" || e.Flags != "" {
				t.Errorf("recorded %+v", e)
			}
		})
	}
}

func TestChunkedRequestWithTrailers(t *testing.T) {
	body := make(chan string, 1)
	o := newOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
		var b strings.Builder
		for !strings.HasSuffix(b.String(), "\r\n0\r\nT: u\r\n\r\n") {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			b.WriteString(line)
		}
		body <- b.String()
		_, _ = io.WriteString(c, okHello)
	})
	w := newWorld(t, o.addr)
	c := w.dial()
	r := bufio.NewReader(c)
	// In pieces, each only after the one before has been taken: the body is streamed.
	for _, piece := range []string{"POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n", "3\r\nab", "c\r\n", "2\r\nde\r\n0\r", "\nT: u\r\n\r\n"} {
		if _, err := io.WriteString(c, piece); err != nil {
			t.Fatal(err)
		}
	}
	if h := headOf(t, r); !strings.HasPrefix(h, "HTTP/1.1 200") {
		t.Fatalf("%q", h)
	}
	expect(t, r, "hello")
	got := <-body
	if !strings.Contains(got, "transfer-encoding: chunked\r\n") || !strings.Contains(got, "trailer: T\r\n") {
		t.Errorf("upstream got %q", got)
	}
	if e := w.next(); e.Received != 5 || e.Status != 200 {
		t.Errorf("recorded %+v", e)
	}
}

func TestExpectContinue(t *testing.T) {
	o := newOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
		head := ""
		for !strings.HasSuffix(head, "\r\n\r\n") {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			head += line
		}
		if !hasLine(head, "expect: 100-continue") {
			_, _ = io.WriteString(c, "HTTP/1.1 500 No Expectation\r\nContent-Length: 0\r\n\r\n")
			return
		}
		if strings.HasPrefix(head, "PUT /refused ") {
			_, _ = io.WriteString(c, "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n")
			_, _ = io.Copy(io.Discard, r)
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
		if _, err := io.CopyN(io.Discard, r, 3); err == nil {
			_, _ = io.WriteString(c, strings.Replace(okHello, "\r\n", "\r\nConnection: close\r\n", 1)) // as this script serves one
		}
	})
	w := newWorld(t, o.addr)
	c := w.dial()
	r := bufio.NewReader(c)
	const put = " HTTP/1.1\r\nHost: example.com\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
	if _, err := io.WriteString(c, "PUT /"+put); err != nil {
		t.Fatal(err)
	}
	if h := headOf(t, r); h != "HTTP/1.1 100 Continue\r\n\r\n" {
		t.Fatalf("%q", h)
	}
	if _, err := io.WriteString(c, "abc"); err != nil {
		t.Fatal(err)
	}
	if h := headOf(t, r); !strings.HasPrefix(h, "HTTP/1.1 200") || hasLine(h, "connection: close") {
		t.Fatalf("%q", h)
	}
	expect(t, r, "hello")
	if e := w.next(); e.Received != 3 || e.Status != 200 {
		t.Errorf("recorded %+v", e)
	}
	// The same, refused: the body never comes, so the connection ends.
	if _, err := io.WriteString(c, "PUT /refused"+put); err != nil {
		t.Fatal(err)
	}
	if h := headOf(t, r); !strings.HasPrefix(h, "HTTP/1.1 417") || !hasLine(h, "connection: close") {
		t.Fatalf("%q", h)
	}
	if e := w.next(); e.Status != 417 || e.Reason != "" {
		t.Errorf("recorded %+v", e)
	}
}

func TestExpectContinueAnsweredHere(t *testing.T) {
	o := answering(t, okHello)
	w := newWorld(t, o.addr)
	w.hcm.Proxy100Continue = false
	w.configure(w.clusterOf("origin", o.addr), w.routeTo("origin"))
	c := w.dial()
	r := bufio.NewReader(c)
	if _, err := io.WriteString(c, "PUT / HTTP/1.1\r\nHost: example.com\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if h := headOf(t, r); h != "HTTP/1.1 100 Continue\r\n\r\n" {
		t.Fatalf("%q", h)
	}
	if _, err := io.WriteString(c, "abc"); err != nil {
		t.Fatal(err)
	}
	headOf(t, r)
	expect(t, r, "hello")
	if up := o.head(t); strings.Contains(strings.ToLower(up), "expect") || !strings.HasSuffix(up, "\r\n\r\nabc") {
		t.Errorf("upstream got %q", up)
	}
}
