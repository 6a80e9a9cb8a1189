package intercept

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// Socket options that return where a redirected connection was going
// (linux/netfilter_ipv4.h, linux/netfilter_ipv6/ip6_tables.h). They have the same value.
const (
	soOriginalDst     = unix.SO_ORIGINAL_DST
	ip6tSoOriginalDst = 80
)

// OriginalDestination is where an accepted connection was going before the ruleset
// redirected it. For a connection that was made to the listener itself it is the
// listener's own address: a caller must refuse that one, or it calls itself.
// It fails for a connection that conntrack does not know.
func OriginalDestination(c net.Conn) (netip.AddrPort, error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("original destination: %T is not a socket", c)
	}
	local, ok := c.LocalAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("original destination: %T is not TCP", c)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("original destination: %w", err)
	}
	query := destination6
	if local.AddrPort().Addr().Unmap().Is4() {
		query = destination4
	}
	var dst netip.AddrPort
	var inner error
	err = raw.Control(func(fd uintptr) { dst, inner = query(int(fd)) })
	if err = errors.Join(err, inner); err != nil {
		return netip.AddrPort{}, fmt.Errorf("original destination: %w", err)
	}
	return dst, nil
}

// destination4 reads a sockaddr_in: x/sys/unix has no call for it, but one for a
// struct that begins with 16 bytes, as long as sockaddr_in.
func destination4(fd int) (netip.AddrPort, error) {
	v, err := unix.GetsockoptIPv6Mreq(fd, unix.SOL_IP, soOriginalDst)
	if err != nil {
		return netip.AddrPort{}, err
	}
	b := v.Multiaddr
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:4])), nil
}

// destination6 reads a sockaddr_in6, with which struct ip6_mtuinfo begins.
func destination6(fd int) (netip.AddrPort, error) {
	v, err := unix.GetsockoptIPv6MTUInfo(fd, unix.SOL_IPV6, ip6tSoOriginalDst)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port := binary.NativeEndian.AppendUint16(nil, v.Addr.Port) // network order in memory
	return netip.AddrPortFrom(netip.AddrFrom16(v.Addr.Addr), binary.BigEndian.Uint16(port)), nil
}
