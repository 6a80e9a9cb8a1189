// Package netns changes the calling thread's network namespace: it hands finished
// netlink messages to the kernel and reads the answer. It does not make messages.
//
// It is imported by the first stages of the sandbox, which must start fast: it must
// not import more than the system call packages.
package netns

import (
	"encoding/binary"
	"errors"
	"fmt"

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
