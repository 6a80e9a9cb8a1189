package proxy

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/upstream"
)

// named resolves every name to one address.
type named struct{ addr netip.Addr }

func (n named) Lookup(context.Context, string, upstream.Family) ([]netip.Addr, upstream.TTL, error) {
	return []netip.Addr{n.addr}, time.Hour, nil
}

// to dials one address, whatever is asked for, and tells what was.
type to struct {
	addr  netip.AddrPort
	asked chan string
}

func (d to) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	d.asked <- address
	return new(net.Dialer).DialContext(ctx, network, d.addr.String())
}

// A connection goes to the host that its TLS server name says, at the filter's port.
func TestForwardByServerName(t *testing.T) {
	chain := tcpChain("dynamic")
	chain.ForwardPort = 8443
	l := listenerOn(443, chain)
	l.InspectTLS = true
	cluster := &resource.Cluster{Name: "dynamic", Discovery: resource.DiscoveryDynamicForward, LB: resource.LBClusterProvided}
	d := to{serve(t, echo), make(chan string, 1)}
	r := startIn(t, upstream.Options{Resolver: named{netip.MustParseAddr("192.0.2.1")}, Dialer: d},
		configOf([]*resource.Listener{virtualOutbound(blackHole), l}, cluster), "10.1.2.3:443")
	c := r.dial()
	if _, err := c.Write(captureHello(t, &tls.Config{ServerName: "a.example"})); err != nil {
		t.Fatal(err)
	}
	if got := <-d.asked; got != "192.0.2.1:8443" {
		t.Errorf("dialled %s", got)
	}
}
