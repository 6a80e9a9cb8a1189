package intercept

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/egret-mesh/egret/internal/host/netns"
)

// loopbackIndex is the interface index that lo has in every network namespace.
const loopbackIndex = 1

// Loopback gives the requests that bring lo up, give it the addresses, and make it
// the default route of each address's family with that address as the source, so
// that every packet has a route and reaches the packet filter. IPv6 is optional.
func Loopback(addresses ...netip.Addr) []netns.Request {
	requests := []netns.Request{{Name: "set lo up", Protocol: unix.NETLINK_ROUTE, Data: linkUp()}}
	for _, a := range addresses {
		requests = append(requests,
			netns.Request{Name: fmt.Sprintf("add %s to lo", a), Protocol: unix.NETLINK_ROUTE, Data: addAddress(a), Optional: a.Is6()},
			netns.Request{Name: fmt.Sprintf("route all to lo from %s", a), Protocol: unix.NETLINK_ROUTE, Data: addRoute(a), Optional: a.Is6()})
	}
	return requests
}

func linkUp() []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], loopbackIndex)
	binary.NativeEndian.PutUint32(b[8:], unix.IFF_UP)
	binary.NativeEndian.PutUint32(b[12:], unix.IFF_UP)
	return rtMessage(unix.RTM_NEWLINK, 0, b)
}

func addAddress(a netip.Addr) []byte {
	b := make([]byte, unix.SizeofIfAddrmsg)
	b[0], b[1] = family(a), byte(a.BitLen())
	b[2] = unix.IFA_F_NODAD
	binary.NativeEndian.PutUint32(b[4:], loopbackIndex)
	b = attribute(b, unix.IFA_LOCAL, a.AsSlice())
	b = attribute(b, unix.IFA_ADDRESS, a.AsSlice())
	return rtMessage(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, b)
}

func addRoute(source netip.Addr) []byte {
	b := make([]byte, unix.SizeofRtMsg)
	b[0] = family(source)
	b[4], b[5], b[7] = unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, unix.RTN_UNICAST
	if source.Is4() {
		b[6] = unix.RT_SCOPE_LINK
	}
	b = attribute(b, unix.RTA_OIF, binary.NativeEndian.AppendUint32(nil, loopbackIndex))
	b = attribute(b, unix.RTA_PREFSRC, source.AsSlice())
	return rtMessage(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, b)
}

func family(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func rtMessage(kind, flags uint16, body []byte) []byte {
	b := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(body))
	binary.NativeEndian.PutUint32(b[0:], uint32(unix.SizeofNlMsghdr+len(body)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint16(b[6:], flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	return append(b, body...)
}

func attribute(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofNlAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	for len(b)%unix.NLMSG_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}
