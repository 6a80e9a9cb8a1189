package upstream

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

func checkKeepAlive(t *testing.T, c *net.TCPConn, idle, interval, count int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) {
		for _, o := range []struct{ name, level, opt, want int }{
			{0, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			{1, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, idle},
			{2, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, interval},
			{3, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, count},
			{4, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		} {
			if got, err := unix.GetsockoptInt(int(fd), o.level, o.opt); err != nil || got != o.want {
				t.Errorf("socket option %d is %d (%v), want %d", o.name, got, err, o.want)
			}
		}
	})
}
