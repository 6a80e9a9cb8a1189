package http

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/upstream"
)

// openWorld resolves every name to one address but "local.example", which is the
// machine itself, and dials one address whatever is asked for.
type openWorld struct {
	to    string
	asked chan string
}

func (e openWorld) Lookup(_ context.Context, name string, _ upstream.Family) ([]netip.Addr, upstream.TTL, error) {
	if name == "local.example.com" {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, time.Hour, nil
	}
	return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, time.Hour, nil
}

func (e openWorld) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	e.asked <- address
	return new(net.Dialer).DialContext(ctx, network, e.to)
}

// Requests go to the host that they name, and to no address of the machine.
func TestDynamicForwardProxy(t *testing.T) {
	o := answering(t, okHello)
	w := newWorld(t, o.addr)
	e := openWorld{o.addr, make(chan string, 10)}
	manager := upstream.NewManager(upstream.Options{Resolver: e, Dialer: e})
	defer manager.Close()
	w.handler.upstreams = manager
	cluster := &resource.Cluster{Name: "dynamic", Discovery: resource.DiscoveryDynamicForward, LB: resource.LBClusterProvided, ConnectTimeout: patient}
	w.configureHost(cluster, &resource.VirtualHost{Name: "any", Domains: []string{"*.example.com"}, Routes: []*resource.Route{w.routeTo("dynamic")}})
	for _, tt := range []struct{ host, dialled, reason string }{
		{"a.example.com", "192.0.2.1:80", ""},
		{"a.example.com:8080", "192.0.2.1:8080", ""},
		{"local.example.com", "", "address_forbidden"},
	} {
		got := w.send("GET / HTTP/1.1\r\nHost: " + tt.host + "\r\nConnection: close\r\n\r\n")
		if tt.reason != "" {
			if !hasLine(got, "x-egret-reason: "+tt.reason) {
				t.Errorf("%s: %q", tt.host, got)
			}
			continue
		}
		if !strings.HasSuffix(got, "hello") {
			t.Fatalf("%s: %q", tt.host, got)
		}
		if asked := <-e.asked; asked != tt.dialled {
			t.Errorf("%s: dialled %s, want %s", tt.host, asked, tt.dialled)
		}
	}
	if len(e.asked) != 0 {
		t.Errorf("dialled %s too", <-e.asked)
	}
}
