package http

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// mirrored is a world whose route also mirrors to the clusters at the addresses.
func mirrored(t *testing.T, origin string, to ...string) *world {
	w := newWorld(t, origin)
	w.mirrorTo(origin, to...)
	return w
}

func (w *world) mirrorTo(origin string, to ...string) {
	route := w.routeTo("origin")
	clusters := []*resource.Cluster{w.clusterOf("origin", origin)}
	for i, address := range to {
		name := fmt.Sprintf("mirror%d", i)
		clusters = append(clusters, w.clusterOf(name, address))
		route.Forward.Mirrors = append(route.Forward.Mirrors, resource.Mirror{Cluster: name})
	}
	route.RequestHeaders.Add = []resource.HeaderAdd{{Name: "x-edited", Value: "yes"}}
	w.configure(clusters[0], route)
	w.cfg.Store(config.Build(nil, nil, clusters, nil, nil))
}

// TestMirror: copies get the request as it goes upstream, with its body, and another
// host; the client sees the first answer only, and it is recorded once.
func TestMirror(t *testing.T) {
	o := answering(t, okHello)
	a := answering(t, "HTTP/1.1 500 No\r\nContent-Length: 6\r\n\r\nmirror")
	b := answering(t, okHello)
	w := mirrored(t, o.addr, a.addr, b.addr)
	for _, test := range []struct{ name, request, body string }{
		{"no body", get("/x?y", "Connection: close"), ""},
		{"small body", "POST /x HTTP/1.1\r\nHost: example.com:8080\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc", "abc"},
		{"large body", "POST /x HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\nContent-Length: 40000\r\n\r\n" + strings.Repeat("l", 40000), strings.Repeat("l", 40000)},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := w.send(test.request); !strings.HasSuffix(got, "hello") || strings.Contains(got, "mirror") {
				t.Errorf("%q", got)
			}
			up := o.head(t)
			for _, m := range []*origin{a, b} {
				got := m.head(t)
				want := strings.Replace(strings.Replace(up, "host: example.com:8080", "host: example.com-shadow:8080", 1), "host: example.com\r", "host: example.com-shadow\r", 1)
				if got != want || !hasLine(got, "x-edited: yes") || !strings.HasSuffix(got, "\r\n\r\n"+test.body) {
					t.Errorf("mirrored %.300q\nwant %.300q", got, want)
				}
			}
			if e := w.next(); e.Status != 200 || e.Cluster != "origin" {
				t.Errorf("recorded %+v", e)
			}
			w.nothingMore()
		})
	}
}

// TestMirrorOfChunks: a body without length is mirrored once it is complete.
func TestMirrorOfChunks(t *testing.T) {
	o := newOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if _, err := readHeadOf(r); err != nil {
			return
		}
		if _, err := r.Discard(len("3\r\nabc\r\n0\r\n\r\n")); err == nil {
			_, _ = io.WriteString(c, okHello)
		}
	})
	m := answering(t, okHello)
	w := mirrored(t, o.addr, m.addr)
	w.send("POST / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
	if got := m.head(t); !hasLine(got, "content-length: 3") || !strings.HasSuffix(got, "\r\n\r\nabc") {
		t.Errorf("%q", got)
	}
}

// TestMirrorDoesNotMatter: whatever the mirror does, requests are answered as without
// it; what is too much is not mirrored.
func TestMirrorDoesNotMatter(t *testing.T) {
	o := newOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			if _, err := readHeadOf(r); err != nil {
				return
			}
			if _, err := io.WriteString(c, okHello); err != nil {
				return
			}
		}
	})
	arrived := make(chan string, 1000)
	silent := newOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
		head, _ := readHeadOf(r)
		arrived <- head
		_, _ = r.ReadByte() // no answer
	})
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	w := mirrored(t, o.addr, silent.addr, dead.Addr().String())
	w.handler.mirrors.mu.Lock()
	w.handler.mirrors.room = 4
	w.handler.mirrors.mu.Unlock()
	for range 20 {
		if got := w.send(get("/", "Connection: close")); !strings.HasSuffix(got, "hello") {
			t.Fatalf("%q", got)
		}
	}
	<-arrived
	if n := len(arrived); n > 3 {
		t.Errorf("%d more mirrored requests at a time", n)
	}
	big := strings.Repeat("b", maxKept+1)
	if got := w.send("POST / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\nContent-Length: " + fmt.Sprint(len(big)) + "\r\n\r\n" + big); !strings.HasSuffix(got, "hello") {
		t.Errorf("%q", got)
	}
	route := w.routeTo("origin")
	route.Forward.Mirrors = []resource.Mirror{{Cluster: "not there"}, {Cluster: "origin", Share: resource.Fraction{Denominator: 100}}}
	w.configure(w.clusterOf("origin", o.addr), route)
	if got := w.send(get("/", "Connection: close")); !strings.HasSuffix(got, "hello") {
		t.Errorf("%q", got)
	}
	if m := w.handler.Mirrored(); m.Answered != 0 || m.LeftOut < 10 {
		t.Errorf("counted %+v", m)
	}
	// Closing the handler ends what the silent one holds: goleak looks.
}
