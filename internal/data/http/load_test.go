package http

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/egret-mesh/egret/internal/data/resource"
)

// TestMixedLoad has many clients at once that send all kinds of requests, some of
// which break off, to an origin that closes connections at random. Every answer must
// be the one to its request, and every request is recorded once.
func TestMixedLoad(t *testing.T) {
	o := newOrigin(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			head, err := readHeadOf(r)
			if err != nil {
				return
			}
			path := strings.Fields(head)[1]
			if _, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(path), path); err != nil || rand.IntN(10) == 0 {
				return
			}
		}
	})
	w := newWorld(t, o.addr)
	route := w.routeTo("origin")
	route.Forward.Timeout = patient
	route.Forward.Retry = &resource.RetryPolicy{On: []string{"reset"}, NumRetries: 5, BackOffBase: time.Millisecond}
	w.configure(w.clusterOf("origin", o.addr), route)
	var sent atomic.Int64
	var wg sync.WaitGroup
	for client := range 20 {
		wg.Go(func() {
			for i := 0; i < 5; i++ {
				mixedClient(t, w, fmt.Sprintf("/%d/%d/", client, i), &sent)
			}
		})
	}
	wg.Wait()
	for range sent.Load() {
		w.next()
	}
}

// mixedClient sends up to 20 requests on one connection.
func mixedClient(t *testing.T, w *world, prefix string, sent *atomic.Int64) {
	c, err := net.Dial("tcp", w.listener.Addr().String())
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patient))
	r := bufio.NewReader(c)
	for i := range 20 {
		path := fmt.Sprintf("%s%d", prefix, i)
		raw := get(path)
		switch rand.IntN(4) {
		case 0:
			raw = fmt.Sprintf("POST %s HTTP/1.1\r\nHost: example.com\r\nContent-Length: 3\r\n\r\nabc", path)
		case 1:
			raw = fmt.Sprintf("GET %s HTTP/1.1\r\nHost: evil.com\r\n\r\n", path)
		}
		sent.Add(1)
		if _, err := io.WriteString(c, raw); err != nil {
			t.Error(err)
			return
		}
		if rand.IntN(40) == 0 {
			return // without waiting for the answer
		}
		head := headOf(t, r)
		if strings.Contains(raw, "evil") {
			if !strings.HasPrefix(head, "HTTP/1.1 502") {
				t.Errorf("%q", head)
			}
			_, _ = r.ReadString('\n')
			continue
		}
		if !strings.HasPrefix(head, "HTTP/1.1 200") {
			t.Errorf("%q", head)
			return
		}
		expect(t, r, path)
	}
}

// lastWords is a connection whose client sends another request and no more as soon as it
// has its first answer; the proxy sees that it says no more before it is back from Write.
type lastWords struct {
	net.Conn
	client    net.Conn
	wrote     sync.Once
	seen      sync.Once
	interrupt chan struct{}
}

func (c *lastWords) NetConn() net.Conn { return c.Conn }

func (c *lastWords) SetDeadline(t time.Time) error {
	if t.Equal(longAgo) {
		c.seen.Do(func() { close(c.interrupt) })
	}
	return c.Conn.SetDeadline(t)
}

func (c *lastWords) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.wrote.Do(func() {
		_, _ = io.WriteString(c.client, get("/2"))
		_ = c.client.(*net.TCPConn).CloseWrite()
		<-c.interrupt
	})
	return n, err
}

// A request that was sent after an answer is served although the client was seen to close
// before the proxy had finished with that answer.
func TestLastRequestOfAClientThatCloses(t *testing.T) {
	o := answering(t, okHello)
	w := newWorld(t, o.addr)
	near, far := tcpPair(t)
	defer near.Close()
	c := &lastWords{Conn: far, client: near, interrupt: make(chan struct{})}
	if _, err := io.WriteString(near, get("/1")); err != nil {
		t.Fatal(err)
	}
	w.served.Go(func() {
		defer far.Close()
		w.handler.Serve(w.ctx, w.conn(c))
	})
	for _, path := range []string{"/1", "/2"} {
		if e := w.next(); e.Path != path {
			t.Errorf("recorded %+v, want %s", e, path)
		}
	}
}
