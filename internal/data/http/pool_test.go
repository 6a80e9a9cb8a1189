package http

import (
	"net"
	"testing"
	"time"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/http1"
	"github.com/egret-mesh/egret/internal/data/upstream"
)

// A workload that calls many names below a wildcard makes a pool for each: what is
// kept of all together is bounded, and counted down wherever a connection leaves.
func TestPoolsOfAllHostsAreBounded(t *testing.T) {
	var buffers http1.Pool
	p := &pool{limit: 8, most: 3}
	defer p.close()
	manager := upstream.NewManager(upstream.Options{})
	defer manager.Close()
	host, failed := manager.Pick(t.Context(), &config.Cluster{Cluster: new(world).clusterOf("c", "192.0.2.1:80")}, nil, nil)
	if failed != nil {
		t.Fatal(failed)
	}
	var far []net.Conn
	add := func(hp *hostPool) {
		near, other := net.Pipe()
		far = append(far, other)
		u := &upstreamConn{home: hp, host: host, idle: time.Hour}
		u.wire.init(near, &buffers)
		u.reader = http1.NewReader(u, &buffers, http1.Limits{})
		p.put(u, 0)
	}
	open := func() (n int) {
		for _, c := range far {
			if !closedForGood(c) {
				n++
			}
		}
		return n
	}
	var hosts []*hostPool
	for range 5 {
		hp := &hostPool{all: &p.idle}
		hosts = append(hosts, hp)
		add(hp)
	}
	if open() != 3 || p.idle.Load() != 3 {
		t.Fatalf("%d connections are open, %d counted, want 3", open(), p.idle.Load())
	}
	hosts[0].get("").close()
	hosts[1].retire()
	hosts[2].sweep(2 * time.Hour)
	if open() != 0 || p.idle.Load() != 0 {
		t.Errorf("%d connections are open, %d counted, want none", open(), p.idle.Load())
	}
	if add(hosts[3]); open() != 1 || p.idle.Load() != 1 {
		t.Errorf("%d connections are open, %d counted, want one", open(), p.idle.Load())
	}
}

// closedForGood says whether the other end of a pipe was closed.
func closedForGood(c net.Conn) bool {
	_ = c.SetReadDeadline(time.Now().Add(-time.Second))
	_, err := c.Read(make([]byte, 1))
	timeout, ok := err.(net.Error)
	return !ok || !timeout.Timeout()
}
