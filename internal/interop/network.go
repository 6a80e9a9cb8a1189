package interop

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/egret-mesh/egret/internal/host/intercept"
	"github.com/egret-mesh/egret/internal/standalone"
)

// network is the way of a call:
//
//	app ── sidecar ── world
//	          │         │
//	          └─ gateway ┘
//
// The sidecar's namespace is the app's router: all TCP that comes from there is
// redirected to port 15001, DNS to 15053, and everything else refused.
type network struct{ app, sidecar, gateway *namespace }

// Names of interfaces in the namespaces.
const (
	appLink   = "app0"
	worldLink = "world0"
	gateLink  = "gate0"
)

// Links that are the same in each run.
func appEnds() ends { return ends{"192.0.0.1/29", "fd65::1/64", "192.0.0.2/29", "fd65::2/64"} }

func gatewayEnds() ends {
	gateway := standalone.GatewayNode().Addresses[0]
	return ends{"240.243.0.5/29", "fd66::1/64", gateway.String() + "/29", "fd66::2/64"}
}

func newNetwork() (*network, error) {
	n := &network{}
	for _, to := range []**namespace{&n.app, &n.sidecar, &n.gateway} {
		made, err := newNamespace()
		if err != nil {
			n.close()
			return nil, err
		}
		*to = made
	}
	if err := n.connect(); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

func (n *network) close() {
	for _, ns := range []*namespace{n.app, n.sidecar, n.gateway} {
		if ns != nil {
			ns.close()
		}
	}
}

func (n *network) connect() error {
	world, err := thisNamespace()
	if err != nil {
		return err
	}
	defer world.close()
	for _, ns := range []*namespace{n.app, n.sidecar, n.gateway} {
		if err := ns.do(func() error { return up("lo") }); err != nil {
			return err
		}
	}
	steps := []func() error{
		func() error { return link(n.sidecar, appLink, n.app, "eth0", appEnds()) },
		func() error { return link(n.sidecar, gateLink, n.gateway, "eth0", gatewayEnds()) },
		func() error { return linkToWorld(world, n.sidecar, n.gateway) },
		func() error { return defaultRoutes(n.app, appEnds().near4, appEnds().near6) },
		func() error { return n.sidecar.do(capture) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// capture makes the calling thread's namespace the router that lets nothing through.
func capture() error {
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		return err // what is not captured is then dropped without a word
	}
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0) // IPv6 may be switched off
	return intercept.Ruleset{
		Table: "interop", TCPPort: intercept.TCPPort, DNSPort: intercept.DNSPort, Incoming: appLink,
	}.Apply()
}

// ends are the addresses of a link's two ends, with their prefixes.
type ends struct{ near4, near6, far4, far6 string }

// worldLinks is how many runs at a time have addresses in the world.
const worldLinks = 1 << 14

// linkToWorld connects each namespace with the world, which all runs share, by addresses
// that no other run has.
func linkToWorld(world *namespace, all ...*namespace) error {
	number := os.Getpid() % worldLinks
	for i, ns := range all {
		for tries := 0; ; tries++ {
			side := worldEnds(number, i, number*len(all)+i)
			err := link(world, fmt.Sprintf("run%d-%d", number, i), ns, worldLink, side)
			if errors.Is(err, unix.EEXIST) && tries < worldLinks {
				number = (number + 1) % worldLinks
				continue
			}
			if err != nil {
				return err
			}
			if err := defaultRoutes(ns, side.near4, side.near6); err != nil {
				return err
			}
			break
		}
	}
	return nil
}

// worldEnds are those of one link of a run: four addresses of 100.64.0.0/10 (RFC 6598).
func worldEnds(run, link, place int) ends {
	at := func(host byte) string {
		b := [4]byte{100, 64 | byte(place>>14), byte(place >> 6), byte(place<<2) | host}
		return netip.AddrFrom4(b).String() + "/30"
	}
	return ends{at(1), fmt.Sprintf("fd67:%x:%x::1/64", run, link), at(2), fmt.Sprintf("fd67:%x:%x::2/64", run, link)}
}

// link makes a pair of interfaces that are up and have the addresses.
func link(near *namespace, nearName string, far *namespace, farName string, e ends) error {
	if err := near.do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = nearName
		pair := &netlink.Veth{LinkAttrs: attrs, PeerName: farName, PeerNamespace: netlink.NsFd(int(far.file.Fd()))}
		if err := netlink.LinkAdd(pair); err != nil {
			return fmt.Errorf("connect %s with %s: %w", nearName, farName, err)
		}
		return address(nearName, e.near4, e.near6)
	}); err != nil {
		return err
	}
	return far.do(func() error { return address(farName, e.far4, e.far6) })
}

// address gives an interface its addresses and sets it up. IPv6 is optional.
func address(name, v4, v6 string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, text := range []string{v4, v6} {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return err
		}
		a := &netlink.Addr{
			IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())},
			Flags: unix.IFA_F_NODAD,
		}
		if err := netlink.AddrAdd(l, a); err != nil && p.Addr().Is4() {
			return fmt.Errorf("add %s to %s: %w", p, name, err)
		}
	}
	return netlink.LinkSetUp(l)
}

func up(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(l)
}

// defaultRoutes makes the addresses (with their prefixes) the namespace's gateways.
func defaultRoutes(ns *namespace, gateways ...string) error {
	return ns.do(func() error {
		for _, text := range gateways {
			p, err := netip.ParsePrefix(text)
			if err != nil {
				return err
			}
			all := &net.IPNet{IP: make([]byte, p.Addr().BitLen()/8), Mask: net.CIDRMask(0, p.Addr().BitLen())}
			if err := netlink.RouteAdd(&netlink.Route{Dst: all, Gw: p.Addr().AsSlice()}); err != nil && p.Addr().Is4() {
				return fmt.Errorf("default route by %s: %w", p.Addr(), err)
			}
		}
		return nil
	})
}
