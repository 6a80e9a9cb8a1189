package http

import (
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMaxConnectionDuration: an HTTP/2 connection of that age gets no new streams, those
// that it has end in peace, and it ends by itself.
func TestMaxConnectionDuration(t *testing.T) {
	held, release := make(chan uint32, 1), make(chan struct{})
	ended := make(chan struct{}, 8)
	var writing sync.Mutex
	o := origin2(t, nil, func(_ int, f *framed) {
		answer := func(stream uint32) {
			writing.Lock()
			defer writing.Unlock()
			f.head(stream, true, ":status", "200")
		}
		f.requests(func(stream uint32, head string) {
			if !strings.Contains(head, "/held") {
				answer(stream)
				return
			}
			held <- stream
			go func() { <-release; answer(stream) }()
		})
		ended <- struct{}{}
	})
	w := http2World(t, o)
	cluster := w.cluster()
	cluster.MaxConnectionAge = 20 * time.Millisecond
	w.configure(cluster, w.routeTo("origin"))
	c := newCaller(t, w, 2)
	done := make(chan int, 1)
	go func() { s, _ := c.do(c.request("GET", "/held", nil)); done <- s.StatusCode }()
	<-held
	for o.conns.Load() < 2 { // the first connection grows old under its stream
		c.do(c.request("GET", "/", nil))
		w.next()
	}
	close(release)
	if s := <-done; s != 200 {
		t.Errorf("status %d of the stream of the old connection", s)
	}
	w.next()
	<-ended // without another request
	<-ended
}

// TestMaxRequestsDownstream: the HTTP/2 client is told to go after as many requests.
func TestMaxRequestsDownstream(t *testing.T) {
	w := http2World(t, origin2(t, nil, func(_ int, f *framed) {
		f.requests(func(stream uint32, _ string) { f.head(stream, true, ":status", "200") })
	}))
	w.hcm.MaxRequestsPerConn = 2
	w.configure(w.cluster(), w.routeTo("origin"))
	c := newCaller(t, w, 2)
	conns := map[string]int{}
	for range 5 {
		q := c.request("GET", "/", nil)
		q = q.WithContext(httptrace.WithClientTrace(q.Context(), &httptrace.ClientTrace{
			GotConn: func(i httptrace.GotConnInfo) { conns[i.Conn.LocalAddr().String()]++ }}))
		if s, _ := c.do(q); s.StatusCode != 200 {
			t.Errorf("%v", s)
		}
		w.next()
	}
	if len(conns) != 3 {
		t.Errorf("requests per connection: %v", conns)
	}
}
