package http

import (
	"bufio"
	"bytes"
	"net"
	"testing"

	"github.com/egret-mesh/egret/internal/data/record"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// deaf is a recorder that keeps nothing.
type deaf struct{ *record.Recorder }

func (deaf) Record(*record.Entry, []resource.AccessLog) {}

// steady is a client and an origin on kept connections that do not allocate themselves.
func steady(t testing.TB, w *world, request string) func() {
	c := w.dial()
	buf, raw := make([]byte, 4096), []byte(request)
	return func() {
		if _, err := c.Write(raw); err != nil {
			t.Fatal(err)
		}
		n, err := c.Read(buf)
		if err != nil || !bytes.HasPrefix(buf[:n], []byte("HTTP/1.1 200")) {
			t.Fatalf("%q %v", buf[:n], err)
		}
	}
}

func steadyOrigin(t testing.TB, response string) *origin {
	return newOrigin(t, func(_ int, c net.Conn, _ *bufio.Reader) {
		buf, raw := make([]byte, 4096), []byte(response)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
			if _, err := c.Write(raw); err != nil {
				return
			}
		}
	})
}

// TestForwardingDoesNotAllocate counts the allocations of the whole process per
// request: client, proxy and origin.
func TestForwardingDoesNotAllocate(t *testing.T) {
	if raceDetector {
		t.Skip("allocations cannot be counted under the race detector")
	}
	o := steadyOrigin(t, okHello)
	w := newWorld(t, o.addr)
	w.handler.recorder = deaf{}
	for name, request := range map[string]string{
		"GET":  get("/a/b?c", "User-Agent: test", "Accept: */*"),
		"POST": "POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 3\r\n\r\nabc",
	} {
		once := steady(t, w, request)
		for range 100 {
			once()
		}
		if n := testing.AllocsPerRun(500, once); n > 0 {
			t.Errorf("%s: %v allocations per request", name, n)
		}
	}
}

// BenchmarkForward is one request and its answer over loopback: client, proxy and
// origin in this process. Compare CPU time of the proxy alone with the bench folder.
func BenchmarkForward(b *testing.B) {
	o := steadyOrigin(b, okHello)
	w := newWorld(b, o.addr)
	w.handler.recorder = deaf{}
	once := steady(b, w, get("/a/b?c", "User-Agent: test", "Accept: */*"))
	b.ReportAllocs()
	for b.Loop() {
		once()
	}
}
