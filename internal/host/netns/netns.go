// Package netns has what an empty network namespace needs: netlink messages that
// bring its loopback interface to life, and the exchange that hands finished
// messages to the kernel of the calling thread's namespace.
//
// It is imported by the first stages of the sandbox, which must start fast: it must
// not import more than the system call packages.
package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Request is one finished netlink datagram (rtnetlink(7), or an nftables batch).
type Request struct {
	// Name says what it does, for errors ("add 192.0.0.2 to lo").
	Name     string
	Protocol int // unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER
	Data     []byte
	// Optional: an error is a note, not a failure (IPv6 may be switched off).
	Optional bool
	// Fallback is tried when Data is refused; nil: none.
	Fallback []byte
}

// loopbackIndex is the interface index that lo has in every network namespace.
const loopbackIndex = 1

// Loopback gives the requests that bring lo up, give it the addresses, and make it
// the default route of each address's family with that address as the source, so
// that every packet has a route and reaches the packet filter. IPv6 is optional.
func Loopback(addresses ...netip.Addr) []Request {
	requests := []Request{{Name: "set lo up", Protocol: unix.NETLINK_ROUTE, Data: linkUp()}}
	for _, a := range addresses {
		requests = append(requests,
			Request{Name: fmt.Sprintf("add %s to lo", a), Protocol: unix.NETLINK_ROUTE, Data: addAddress(a), Optional: a.Is6()},
			Request{Name: fmt.Sprintf("route all to lo from %s", a), Protocol: unix.NETLINK_ROUTE, Data: addRoute(a), Optional: a.Is6()})
	}
	return requests
}

func linkUp() []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], loopbackIndex)
	binary.NativeEndian.PutUint32(b[8:], unix.IFF_UP)
	binary.NativeEndian.PutUint32(b[12:], unix.IFF_UP)
	return message(unix.RTM_NEWLINK, 0, b)
}

func addAddress(a netip.Addr) []byte {
	b := make([]byte, unix.SizeofIfAddrmsg)
	b[0], b[1] = family(a), byte(a.BitLen())
	b[2] = unix.IFA_F_NODAD
	binary.NativeEndian.PutUint32(b[4:], loopbackIndex)
	b = attribute(b, unix.IFA_LOCAL, a.AsSlice())
	b = attribute(b, unix.IFA_ADDRESS, a.AsSlice())
	return message(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, b)
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
	return message(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, b)
}

func family(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func message(kind, flags uint16, body []byte) []byte {
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

// Exchange sends one datagram on a new socket in the calling thread's network
// namespace and returns the first error that the kernel answers with.
func Exchange(protocol int, datagram []byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return fmt.Errorf("open netlink socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	return ExchangeOn(fd, datagram)
}

// ExchangeOn is Exchange on an open netlink socket that has no other answers due.
// The kernel handles the messages and queues its answers before the send returns,
// so an empty queue means that there is nothing more to wait for.
func ExchangeOn(fd int, datagram []byte) error {
	// Fail rather than be answered in part when there are many messages.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1<<20)
	if err := unix.Sendto(fd, datagram, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	buf := make([]byte, 1<<16)
	answered := false
	for {
		n, from, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			if !answered {
				return errors.New("the kernel did not answer")
			}
			return nil
		case err != nil:
			return fmt.Errorf("receive: %w", err)
		}
		if sa, ok := from.(*unix.SockaddrNetlink); !ok || sa.Pid != 0 {
			continue // not the kernel
		}
		answered = true
		if err := firstError(buf[:n]); err != nil {
			return err
		}
	}
}

// firstError reads the NLMSG_ERROR messages of an answer (errno 0 is an
// acknowledgement).
func firstError(b []byte) error {
	for len(b) >= unix.SizeofNlMsghdr {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return errors.New("malformed netlink answer")
		}
		if binary.NativeEndian.Uint16(b[4:]) == unix.NLMSG_ERROR && size >= unix.SizeofNlMsghdr+4 {
			if code := int32(binary.NativeEndian.Uint32(b[unix.SizeofNlMsghdr:])); code < 0 {
				return unix.Errno(-code)
			}
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return nil
}
