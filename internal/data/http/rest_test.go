package http

import (
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
)

// restingWorld is a world whose connections rest after a moment; ended gets a value for
// each that has ended.
func restingWorld(t *testing.T, address string) (w *world, at string, conns chan *Conn, ended chan struct{}) {
	w = newWorld(t, address)
	w.handler.restAfter = 5 * time.Millisecond
	second, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { second.Close() })
	conns, ended = make(chan *Conn, 2000), make(chan struct{}, 2000)
	w.served.Go(func() {
		for {
			nc, err := second.Accept()
			if err != nil {
				return
			}
			c := w.conn(nc)
			w.served.Add(1)
			c.Ended = func() { ended <- struct{}{}; w.served.Done() }
			conns <- c
			w.served.Go(func() { w.handler.Serve(t.Context(), c) })
		}
	})
	return w, second.Addr().String(), conns, ended
}

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patient); !ok(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("not in time: ", what)
		}
	}
}

func resting(h *Handler) int {
	h.rests.mu.Lock()
	defer h.rests.mu.Unlock()
	return len(h.rests.all)
}

func ask(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := io.WriteString(c, get("/")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := c.Read(b)
	if err != nil || !strings.HasPrefix(string(b[:n]), "HTTP/1.1 200 ") {
		t.Fatalf("%q, %v", b[:n], err)
	}
}

// A connection without a request has no goroutine, and serves the next request when it
// comes.
func TestRest(t *testing.T) {
	o := steadyOrigin(t, okHello)
	w, at, _, ended := restingWorld(t, o.addr)
	const n = 50
	clients := make([]net.Conn, n)
	for i := range clients {
		c, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		clients[i] = c
	}
	until(t, "all rest before a request", func() bool { return resting(w.handler) == n })
	for range 2 {
		for _, c := range clients {
			ask(t, c)
		}
		until(t, "all rest", func() bool { return resting(w.handler) == n })
	}
	if g := runtime.NumGoroutine(); g > n {
		t.Errorf("%d goroutines for %d resting connections", g, n)
	}
	for _, c := range clients {
		_ = c.Close()
	}
	until(t, "all have ended", func() bool { return len(ended) == n })
}

// A resting connection ends when it is drained, when it is closed under it, and when it
// was idle for too long.
func TestRestEnds(t *testing.T) {
	o := steadyOrigin(t, okHello)
	for name, end := range map[string]func(w *world, c *Conn){
		"drained": func(_ *world, c *Conn) { c.Drain() },
		"closed":  func(_ *world, c *Conn) { _ = c.Net.Close(); c.Drain() },
		"idle":    func(*world, *Conn) {},
	} {
		t.Run(name, func(t *testing.T) {
			w, at, conns, ended := restingWorld(t, o.addr)
			if name == "idle" {
				w.hcm.IdleTimeout = 200 * time.Millisecond
				w.configure(w.clusterOf("origin", o.addr), w.routeTo("origin"))
			}
			c, err := net.Dial("tcp", at)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			ask(t, c)
			until(t, "it rests", func() bool { return resting(w.handler) == 1 || len(ended) == 1 })
			end(w, <-conns)
			select {
			case <-ended:
			case <-time.After(patient):
				t.Fatal("it does not end")
			}
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Error("more came")
			}
			if resting(w.handler) != 0 {
				t.Error("it still rests")
			}
		})
	}
}

// What a resting connection keeps is bounded, in heap and stacks: session, connection and
// the client's end, which is of this process here, too.
func TestRestingConnectionIsSmall(t *testing.T) {
	const n, most = 1000, 4 << 10
	o := steadyOrigin(t, okHello)
	w, at, _, ended := restingWorld(t, o.addr)
	memory := func() uint64 {
		runtime.GC()
		runtime.GC() // what is in pools is let go only by the second
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	before := memory()
	clients := make([]net.Conn, n)
	for i := range clients {
		c, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		clients[i] = c
		ask(t, c)
		w.next() // that it was recorded
	}
	until(t, "all rest", func() bool { return resting(w.handler) == n })
	if each := (int64(memory()) - int64(before)) / n; each > most {
		t.Errorf("%d bytes for each of %d resting connections, want at most %d", each, n, most)
	} else {
		t.Logf("%d bytes each", each)
	}
	for _, c := range clients {
		_ = c.Close()
	}
	until(t, "all have ended", func() bool { return len(ended) == n })
}
