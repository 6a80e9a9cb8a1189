package proxy

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/egret-mesh/egret/internal/data/resource"
)

// several is a static cluster with several endpoints.
func several(name string, to ...netip.AddrPort) *resource.Cluster {
	c := static(name, to[0])
	c.Endpoints.Localities[0].Endpoints = nil
	for _, a := range to {
		c.Endpoints.Localities[0].Endpoints = append(c.Endpoints.Localities[0].Endpoints,
			resource.Endpoint{Host: a.Addr().String(), Port: a.Port(), Address: a, Weight: 1})
	}
	return c
}

// saying is an origin that says a word and closes.
func saying(t *testing.T, word string) netip.AddrPort {
	return serve(t, func(c *net.TCPConn) { _, _ = io.WriteString(c, word) })
}

func TestConnectionsOfOneClientStayTogether(t *testing.T) {
	var words []netip.AddrPort
	for _, w := range []string{"a", "b", "c", "d"} {
		words = append(words, saying(t, w))
	}
	cluster := several("hashed", words...)
	cluster.LB = resource.LBRingHash
	chain := tcpChain("hashed")
	chain.TCP.HashSource = true
	r := start(t, configOf([]*resource.Listener{virtualOutbound(blackHole), listenerOn(1, chain)}, cluster), "10.1.2.3:1")
	seen := map[string]bool{}
	for range 10 {
		seen[string(must(io.ReadAll(r.dial()))(t))] = true
	}
	if len(seen) != 1 {
		t.Errorf("one client reached %v", seen)
	}
}

func TestSubsetOfATCPRoute(t *testing.T) {
	cluster := several("sub", saying(t, "one"), saying(t, "two"))
	endpoints := cluster.Endpoints.Localities[0].Endpoints
	endpoints[0].Labels = resource.Labels{{Key: "v", Value: "1"}}
	endpoints[1].Labels = resource.Labels{{Key: "v", Value: "2"}}
	cluster.Subsets = &resource.Subsets{Selectors: []resource.SubsetSelector{{Keys: []string{"v"}}}}
	chain := tcpChain("sub")
	chain.TCP.Clusters[0].Subset = resource.Labels{{Key: "v", Value: "2"}}.Match()
	r := start(t, configOf([]*resource.Listener{virtualOutbound(blackHole), listenerOn(1, chain)}, cluster), "10.1.2.3:1")
	for range 4 {
		if got := string(must(io.ReadAll(r.dial()))(t)); got != "two" {
			t.Errorf("%q", got)
		}
	}
}

func TestMaxConnectionDuration(t *testing.T) {
	chain := tcpChain("db")
	chain.TCP.MaxDuration = 20 * time.Millisecond
	r := start(t, configOf([]*resource.Listener{virtualOutbound(blackHole), listenerOn(1, chain)}, static("db", serve(t, echo))), "10.1.2.3:1")
	if b, err := io.ReadAll(r.dial()); err == nil && len(b) > 0 {
		t.Errorf("%q", b)
	}
	r.logged("downstream_timeout db 0 0 - DT")
}

func TestMaxConnectionsOfACluster(t *testing.T) {
	cluster := static("db", serve(t, echo))
	limits := resource.Thresholds{MaxConnections: 1, MaxPendingRequests: 1, MaxRequests: 1, MaxRetries: 1}
	cluster.Breakers = &[2]resource.Thresholds{limits, limits}
	r := start(t, configOf([]*resource.Listener{virtualOutbound(blackHole), listenerOn(1, tcpChain("db"))}, cluster), "10.1.2.3:1")
	for range 2 { // the place is free again after the first
		c := r.dial()
		buf := make([]byte, 2)
		_, _ = io.WriteString(c, "hi")
		if _, err := io.ReadFull(c, buf); err != nil {
			t.Fatal(err)
		}
		r.closedAtOnce()
		r.logged("upstream_overflow db 0 0 - UO")
		_ = c.CloseWrite()
		_, _ = io.ReadAll(c)
		r.logged("- db 2 2 - -")
	}
}
