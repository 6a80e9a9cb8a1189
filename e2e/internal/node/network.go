package node

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Addresses of the node, and of the outside as the node sees it.
const (
	nodeAddr    = "10.200.0.1"
	outsideAddr = "10.200.0.2"
	nodeLink    = "node0"
	outsideLink = "outside0"
)

// connect gives the node its interface, whose other end is in the network namespace of
// the process pid, and the default route through it.
func connect(pid int) error {
	if err := loopbackUp(); err != nil {
		return err
	}
	pair := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: nodeLink}, PeerName: outsideLink, PeerNamespace: netlink.NsPid(pid),
	}
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("make the node's interface: %w", err)
	}
	if err := addressUp(nodeLink, nodeAddr); err != nil {
		return err
	}
	// A write to /proc/sys/net is the namespace's own.
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return err
	}
	return defaultRoute(outsideAddr)
}

// Outside is the other end, in the namespace of the caller: addresses are those that
// its services listen on.
func Outside(addresses []netip.Addr) error {
	if err := loopbackUp(); err != nil {
		return err
	}
	if err := addressUp(outsideLink, outsideAddr); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	for _, a := range addresses {
		addr := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}}
		if err := netlink.AddrAdd(lo, addr); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add %s to lo: %w", a, err)
		}
	}
	return defaultRoute(nodeAddr)
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

func addressUp(name, addr string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: ip(addr), Mask: net.CIDRMask(24, 32)}}
	if err := netlink.AddrAdd(link, address); err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	return netlink.LinkSetUp(link)
}

func defaultRoute(via string) error {
	return netlink.RouteAdd(&netlink.Route{Gw: ip(via)})
}

func ip(addr string) net.IP { return netip.MustParseAddr(addr).AsSlice() }
