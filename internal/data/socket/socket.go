// Package socket opens sockets and moves their bytes with fewer system calls, and with
// less around them, than package net: listening and connecting with options that are set
// once, recv and send that never wait, and one direction of a connection relayed by copy
// while it says little and by splice(2) while it says much.
//
// It must not know protocols, decide, time or close anything: who waits here is woken
// by a deadline or a close of the net.Conn, as in package net.
package socket

import (
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Recv is recv(2) with MSG_DONTWAIT. Like Send it skips what Go does around system
// calls that may wait (hand the processor to another thread, which a monitor looks after
// every 20 microseconds): these never do.
func Recv(fd uintptr, p []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_DONTWAIT, 0, 0)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// Send is send(2) with MSG_DONTWAIT and without SIGPIPE.
func Send(fd uintptr, p []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// SendParts is Send of several parts, one behind the other, as one message: sendmsg(2).
func SendParts(fd uintptr, parts *[3][]byte) (int, syscall.Errno) {
	var iov [len(parts)]unix.Iovec
	for i, p := range parts {
		iov[i].Base = unsafe.SliceData(p)
		iov[i].SetLen(len(p))
	}
	m := unix.Msghdr{Iov: &iov[0]}
	m.SetIovlen(len(iov))
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&m)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// splice is splice(2) of at most n bytes, that does not wait. One of the two is a pipe.
func splice(to, from uintptr, n int) (int, syscall.Errno) {
	for {
		moved, _, errno := syscall.RawSyscall6(syscall.SYS_SPLICE, from, 0, to, 0, uintptr(n), unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		if errno != unix.EINTR {
			return int(moved), errno
		}
	}
}

// Raw is the descriptor of a connection that is a socket itself, TCP or Unix; nil for
// any other, also for those that have one below them and buffer or encrypt.
func Raw(conn net.Conn) syscall.RawConn {
	var sc syscall.Conn
	switch c := conn.(type) {
	case *net.TCPConn:
		sc = c
	case *net.UnixConn:
		sc = c
	default:
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}
