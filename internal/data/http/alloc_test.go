package http

import (
	"bufio"
	"bytes"
	"net"
	"testing"

	xhttp2 "golang.org/x/net/http2"

	"github.com/egret-mesh/egret/internal/data/record"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// http2Budget is how many allocations a request may cost over HTTP/2, both ends of the
// test included.
const http2Budget = 8

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

// TestHTTP2Allocations bounds what a request costs over HTTP/2 on both sides: client and
// origin send frames that were made before.
func TestHTTP2Allocations(t *testing.T) {
	if raceDetector {
		t.Skip("allocations cannot be counted under the race detector")
	}
	o := origin2(t, nil, func(_ int, f *framed) {
		f.requests2(func(stream uint32) {
			f.head(stream, false, ":status", "200")
			_ = f.WriteData(stream, true, []byte("hello"))
		})
	})
	w := http2World(t, o)
	w.handler.recorder = deaf{}
	f := w.dial2()
	stream := uint32(1)
	once := func() {
		f.get(stream)
		for {
			fr, err := f.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			if d, ok := fr.(*xhttp2.DataFrame); ok && d.StreamEnded() && d.StreamID == stream {
				break
			}
		}
		stream += 2
	}
	for range 200 {
		once()
	}
	n := testing.AllocsPerRun(500, once)
	t.Logf("%v allocations per request", n)
	if n > http2Budget {
		t.Errorf("%v allocations per request, want at most %d", n, http2Budget)
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
