package http

import (
	"bufio"
	"io"
	"net"
	nethttp "net/http"
	"strings"
	"testing"

	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// What has one meaning only when it is written anew, and what then goes upstream.
func TestTargetsWrittenAnew(t *testing.T) {
	for _, c := range []struct{ sent, line string }{
		{"GET /a?b#c HTTP/1.1", "GET /a?b HTTP/1.1"},
		{"GET http://example.com#@evil.com/x HTTP/1.1", "GET / HTTP/1.1"},
		{"GET /\xc3\xa9?\xff HTTP/1.1", "GET /%C3%A9?%FF HTTP/1.1"},
		{"GET  HTTP/1.1", "GET / HTTP/1.1"},
	} {
		o := answering(t, okHello)
		w := newWorld(t, o.addr)
		w.send(c.sent + "\r\nHost: example.com\r\nConnection: close\r\n\r\n")
		if head := o.head(t); !strings.HasPrefix(head, c.line+"\r\n") {
			t.Errorf("%q goes on as %q", c.sent, head)
		}
		if e := w.next(); " "+e.Path+" " != strings.TrimSuffix(strings.TrimPrefix(c.line, "GET"), "HTTP/1.1") {
			t.Errorf("%q is recorded with path %q", c.sent, e.Path)
		}
		c2 := w.dial2()
		if path := strings.Split(c.sent, " ")[1]; strings.HasPrefix(path, "/") {
			c2.head(1, true, ":method", "GET", ":scheme", "http", ":authority", "example.com", ":path", path)
			if head := o.head(t); !strings.HasPrefix(head, c.line+"\r\n") {
				t.Errorf("%q over HTTP/2 goes on as %q", c.sent, head)
			}
		}
	}
}

// What a route does not allow is not reached by writing it otherwise.
func TestTargetsWrittenAnewAreMatchedSo(t *testing.T) {
	w := newWorld(t, "127.0.0.1:1")
	denied := &resource.Route{Match: resource.RouteMatch{Path: "/%C3%A9"}, Direct: &resource.DirectResponse{Status: 418}}
	w.configure(w.clusterOf("origin", "127.0.0.1:1"), denied, w.routeTo("origin"))
	for _, target := range []string{"/\xc3\xa9", "/%C3%A9", "/\xc3\xa9#/", "/%C3%A9/a#b"} {
		if got := w.send(strings.Replace(get("/", "Connection: close"), " / ", " "+target+" ", 1)); !strings.HasPrefix(got, "HTTP/1.1 418 ") {
			t.Errorf("%q: %q", target, got)
		}
	}
}

// codedPost has a body that is a request for who does not see the chunks.
const codedPost = "POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: x-gzip, identity\r\nTransfer-Encoding: Chunked;a=b\r\n\r\n" +
	"1f\r\nGET / HTTP/1.1\r\nHost: a.example\r\n1\r\ne\r\n0\r\nX-T: u\r\n\r\n"

// A body with transfer codings goes on with them, on a connection that nothing follows on:
// who reads the list otherwise finds no request in the body.
func TestTransferCodings(t *testing.T) {
	got := make(chan string, 10)
	o := newOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
		head, err := readHeadOf(r)
		if err != nil {
			return
		}
		body := ""
		for !strings.HasSuffix(body, "\r\n\r\n") {
			b, err := r.ReadByte()
			if err != nil {
				return
			}
			body += string(b)
		}
		_, _ = io.WriteString(c, okHello)
		rest, _ := io.ReadAll(r)
		got <- head + body + "|" + string(rest)
	})
	w := newWorld(t, o.addr)
	w.hcm.GenerateRequestID = false
	route := w.routeTo("origin")
	route.Forward.Retry = &resource.RetryPolicy{On: []string{"reset"}, NumRetries: 2}
	w.configure(w.clusterOf("origin", o.addr), route)
	answer := w.send(codedPost + get("/never"))
	if !strings.HasPrefix(answer, "HTTP/1.1 200 ") || !hasLine(answer, "connection: close") || strings.Count(answer, "HTTP/1.1") != 1 {
		t.Errorf("answered %q", answer)
	}
	want := "POST / HTTP/1.1\r\nhost: example.com\r\nx-forwarded-proto: http\r\ntransfer-encoding: gzip, chunked\r\nconnection: close\r\n\r\n" +
		"1f\r\nGET / HTTP/1.1\r\nHost: a.example\r\n1\r\ne\r\n0\r\nX-T: u\r\n\r\n|"
	have := <-got
	if have != want {
		t.Errorf("upstream got %q\nwant         %q", have, want)
	}
	_, ignored, _ := strings.Cut(have, "\r\n\r\n")
	if r, err := nethttp.ReadRequest(bufio.NewReader(strings.NewReader(ignored))); err == nil {
		t.Errorf("who ignores the codings reads %+v", r)
	}
	if e := w.next(); e.Status != 200 || e.Attempts != 1 {
		t.Errorf("recorded %+v", e)
	}
	w.nothingMore()
}

// HTTP/2 has no transfer codings: what needs them is refused there, and harms no other.
func TestTransferCodingsToHTTP2(t *testing.T) {
	o := startServer(t, 2, func(rw nethttp.ResponseWriter, r *nethttp.Request) { _, _ = io.WriteString(rw, r.URL.Path) })
	w := newWorld(t)
	w.protocol = resource.UpstreamHTTP2
	w.configure(w.clusterOf("origin", o), w.routeTo("origin"))
	for range 2 {
		if got := w.send(codedPost); !strings.HasPrefix(got, "HTTP/1.1 501 ") || !hasLine(got, "x-egret-reason: not_supported") || !hasLine(got, "connection: close") {
			t.Errorf("answered %q", got)
		}
		if e := w.next(); e.Reason != reason.NotSupported || e.Status != 501 {
			t.Errorf("recorded %+v", e)
		}
		if got := w.send(get("/after", "Connection: close")); !strings.HasSuffix(got, "/after") {
			t.Errorf("then %q", got)
		}
		w.next()
	}
}
