package proxy

import (
	"errors"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// quietFor asks the kernel how long a TCP connection has neither sent nor received
// data; false when it cannot tell.
func quietFor(conn net.Conn) (time.Duration, bool) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return 0, false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0, false
	}
	var info *unix.TCPInfo
	var infoErr error
	err = raw.Control(func(fd uintptr) { info, infoErr = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	if err != nil || infoErr != nil {
		return 0, false
	}
	return time.Duration(min(info.Last_data_recv, info.Last_data_sent)) * time.Millisecond, true
}

// isReset reports that the peer reset the connection.
func isReset(err error) bool {
	return errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)
}

// isNotConnected reports that a half close came after the peer's reset or close.
func isNotConnected(err error) bool { return errors.Is(err, unix.ENOTCONN) }
