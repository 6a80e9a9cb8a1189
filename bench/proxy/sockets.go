package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/egret-mesh/egret/internal/data/dns"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/socket"
)

// sockets stands for the capture. The listener that takes captured connections gets one
// loopback socket per original destination. Any other listener that is to be bound gets
// a socket at its own address.
type sockets struct {
	destinations map[netip.AddrPort]netip.AddrPort // by the address that was connected to
	captures     []capture
}

// newSockets asks the DNS proxy for the addresses of the captured names, as a workload
// does before it connects.
func newSockets(captures []capture, assign func(name string) dns.Answer) (*sockets, error) {
	s := &sockets{captures: captures, destinations: map[netip.AddrPort]netip.AddrPort{}}
	for _, c := range captures {
		address, err := netip.ParseAddr(c.host)
		if err != nil {
			answer := assign(c.host)
			if len(answer.Addresses) == 0 {
				return nil, fmt.Errorf("the name table has no address for %q", c.host)
			}
			address = answer.Addresses[0]
		}
		s.destinations[c.listen] = netip.AddrPortFrom(address, c.port)
	}
	return s, nil
}

// Listen opens the sockets of a listener.
func (s *sockets) Listen(ctx context.Context, l *resource.Listener) ([]net.Listener, error) {
	addresses := []netip.AddrPort{l.Address}
	if l.UseOriginalDst {
		addresses = nil
		for _, c := range s.captures {
			addresses = append(addresses, c.listen)
		}
	}
	var out []net.Listener
	for _, a := range addresses {
		ln, err := socket.Listen(ctx, a)
		if err != nil {
			for _, open := range out {
				_ = open.Close()
			}
			return nil, err
		}
		out = append(out, ln)
	}
	return out, nil
}

// OriginalDestination is what a connection to one of the capture's addresses is for.
func (s *sockets) OriginalDestination(c net.Conn) (netip.AddrPort, error) {
	local, err := netip.ParseAddrPort(c.LocalAddr().String())
	if err != nil {
		return netip.AddrPort{}, err
	}
	d, ok := s.destinations[local]
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("nothing is captured at %v", local)
	}
	return d, nil
}
