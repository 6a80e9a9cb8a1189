package socket

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Keep-alive of TCP connections, as package net has it by default: a peer that went away
// without a word is found after two and a half minutes.
const (
	keepAliveIdle     = 15 // seconds
	keepAliveInterval = 15 // seconds
	keepAliveCount    = 9
)

// Listen listens on a TCP address, for its family only. What accepted connections need is set on the listening
// socket, once: they inherit it (tcp(7)), where package net would make four calls for
// each. It is plain TCP, not Multipath TCP: a connection of that kind could not be spliced
// or looked at, and accepting costs more also where clients do not speak it.
func Listen(ctx context.Context, address netip.AddrPort) (net.Listener, error) {
	lc := net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, c syscall.RawConn) error {
		return control(c, keepAlive)
	}}
	lc.SetMultipathTCP(false)
	network := "tcp6"
	if address.Addr().Unmap().Is4() {
		network = "tcp4"
	}
	return lc.Listen(ctx, network, address.String())
}

// Dial connects to a TCP address, IP and port, from source where that is valid.
//
// Package net begins to connect with a call around which the processor may be handed to
// another thread, and then sets five options. Here all that is done in calls that do not
// wait. A peer on this machine has often answered when the first of them returns; package
// net finds the socket connected then, and does not wait for it to become so.
func Dial(ctx context.Context, source netip.Addr, address string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, err // names are not resolved here
	}
	d := net.Dialer{KeepAlive: -1, Control: begin}
	if source.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
		d.Control = prepare // it is bound after that
	}
	return d.DialContext(ctx, "tcp", address)
}

func prepare(_, _ string, c syscall.RawConn) error { return control(c, keepAlive) }

// begin prepares a socket and begins to connect it.
func begin(_, address string, c syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	return control(c, func(fd uintptr) error {
		if err := keepAlive(fd); err != nil {
			return err
		}
		if to.Addr().Zone() != "" {
			return nil // package net knows the numbers of zones
		}
		switch errno := connect(fd, to); errno {
		case 0, unix.EINPROGRESS, unix.EINTR:
			return nil // package net asks how it stands, and waits
		default:
			return os.NewSyscallError("connect", errno)
		}
	})
}

func control(c syscall.RawConn, f func(fd uintptr) error) error {
	var failed error
	if err := c.Control(func(fd uintptr) { failed = f(fd) }); err != nil {
		return err
	}
	return failed
}

func keepAlive(fd uintptr) error {
	for _, o := range [...]struct{ level, name, value int }{
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepAliveIdle},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepAliveInterval},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepAliveCount},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
	} {
		value := int32(o.value)
		_, _, errno := syscall.RawSyscall6(syscall.SYS_SETSOCKOPT, fd, uintptr(o.level), uintptr(o.name), uintptr(unsafe.Pointer(&value)), unsafe.Sizeof(value), 0)
		if errno != 0 {
			return os.NewSyscallError("setsockopt", errno)
		}
	}
	return nil
}

// connect is connect(2) of a socket that does not wait.
func connect(fd uintptr, to netip.AddrPort) syscall.Errno {
	if at := to.Addr().Unmap(); at.Is4() {
		a := unix.RawSockaddrInet4{Family: unix.AF_INET, Port: networkOrder(to.Port()), Addr: at.As4()}
		_, _, errno := syscall.RawSyscall(syscall.SYS_CONNECT, fd, uintptr(unsafe.Pointer(&a)), unsafe.Sizeof(a))
		return errno
	}
	a := unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: networkOrder(to.Port()), Addr: to.Addr().As16()}
	_, _, errno := syscall.RawSyscall(syscall.SYS_CONNECT, fd, uintptr(unsafe.Pointer(&a)), unsafe.Sizeof(a))
	return errno
}

func networkOrder(port uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, port))
}
