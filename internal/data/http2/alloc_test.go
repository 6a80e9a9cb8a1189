package http2

import (
	"net"
	"runtime"
	"runtime/debug"
	"testing"
)

// TestAllocations: a round trip costs one small allocation per head that is read, which
// is golang.org/x/net's frame; client and server are counted together.
func TestAllocations(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection empties pools
	s := startServer(t, Options{}, answer1K())
	c := dial(t, s.addr, Options{})
	defer c.Close()
	x := &exchange{}
	n := testing.AllocsPerRun(500, func() {
		if err := get(c, x); err != nil {
			t.Fatal(err)
		}
	})
	if n > 2 {
		t.Errorf("%v allocations per round trip", n)
	}
}

// dial connects a Client.
func dial(t testing.TB, addr string, o Options) *Client {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(nc, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestIdleConnectionsAreSmall: after a request and 64 KiB of body a connection gives its
// buffers back. Both ends are counted, and the sockets' own memory in the process.
func TestIdleConnectionsAreSmall(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector needs memory")
	}
	const n = 200
	s := startServer(t, Options{}, echo)
	before := memory()
	var all []*Client
	defer func() {
		for _, c := range all {
			c.Close()
		}
	}()
	for range n {
		c := dial(t, s.addr, Options{})
		all = append(all, c)
		st := open(t, c, postRequest, false)
		if err := st.Write(make([]byte, 64<<10), true); err != nil {
			t.Fatal(err)
		}
		for {
			if _, err := st.Next(); err != nil {
				break
			}
		}
		st.Release()
	}
	if each := (memory() - before) / (2 * n); each > 12<<10 {
		t.Errorf("%d bytes for each end of an idle connection", each)
	} else {
		t.Logf("%d bytes for each end of an idle connection", each)
	}
}

// memory is what is in use of heap and stacks, after a collection.
func memory() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapInuse + m.StackInuse)
}
