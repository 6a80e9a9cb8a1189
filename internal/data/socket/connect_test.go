package socket

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// accepted is what a client of Listen and Dial gets, at both ends.
func accepted(t *testing.T, listen string, source netip.Addr) (near, far net.Conn) {
	t.Helper()
	ln, err := Listen(t.Context(), netip.MustParseAddrPort(listen))
	if err != nil {
		if errors.Is(err, unix.EADDRNOTAVAIL) {
			t.Skip("no such address here: ", err)
		}
		t.Fatal(err)
	}
	defer ln.Close()
	if near, err = Dial(t.Context(), source, ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = near.Close() })
	if far, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = far.Close() })
	return near, far
}

// Both ends carry bytes, know their addresses, and have the options that package net sets
// by default.
func TestConnection(t *testing.T) {
	for name, tc := range map[string]struct {
		listen string
		source netip.Addr
	}{
		"IPv4":            {"127.0.0.1:0", netip.Addr{}},
		"IPv6":            {"[::1]:0", netip.Addr{}},
		"from a source":   {"127.0.0.1:0", netip.MustParseAddr("127.0.0.3")},
		"IPv4, as mapped": {"[::ffff:127.0.0.1]:0", netip.Addr{}},
	} {
		t.Run(name, func(t *testing.T) {
			near, far := accepted(t, tc.listen, tc.source)
			if near.LocalAddr().String() != far.RemoteAddr().String() || near.RemoteAddr().String() != far.LocalAddr().String() {
				t.Errorf("%v to %v, and %v to %v", near.LocalAddr(), near.RemoteAddr(), far.RemoteAddr(), far.LocalAddr())
			}
			if got := netip.MustParseAddrPort(far.RemoteAddr().String()).Addr(); tc.source.IsValid() && got != tc.source {
				t.Errorf("it comes from %v", got)
			}
			for end, conn := range map[string]net.Conn{"near": near, "far": far} {
				checkOptions(t, end, conn.(*net.TCPConn))
			}
			go func() { _, _ = near.Write([]byte("hello")); _ = near.Close() }()
			if got, err := io.ReadAll(far); err != nil || string(got) != "hello" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

func checkOptions(t *testing.T, end string, conn *net.TCPConn) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) {
		for name, o := range map[string]struct{ level, name, want int }{
			"SO_PROTOCOL":   {unix.SOL_SOCKET, unix.SO_PROTOCOL, unix.IPPROTO_TCP},
			"SO_KEEPALIVE":  {unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			"TCP_KEEPIDLE":  {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15},
			"TCP_KEEPINTVL": {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15},
			"TCP_KEEPCNT":   {unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9},
			"TCP_NODELAY":   {unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		} {
			if got, err := unix.GetsockoptInt(int(fd), o.level, o.name); err != nil || got != o.want {
				t.Errorf("%s: %s is %d (%v), want %d", end, name, got, err, o.want)
			}
		}
	})
}

// A port that nobody listens on is refused at once.
func TestDialRefused(t *testing.T) {
	ln, err := Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	_ = ln.Close()
	if conn, err := Dial(t.Context(), netip.Addr{}, address); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("%v, %v", conn, err)
	}
}

// A peer that does not answer keeps nobody longer than the context.
func TestDialGivesUp(t *testing.T) {
	address := silent(t)
	for name, limit := range map[string]func(context.Context) (context.Context, context.CancelFunc){
		"canceled": func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(20*time.Millisecond, cancel)
			return ctx, cancel
		},
		"too late": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 20*time.Millisecond)
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := limit(t.Context())
			defer cancel()
			if conn, err := Dial(ctx, netip.Addr{}, address); err == nil {
				t.Errorf("%v, %v", conn, err)
			}
		})
	}
	if conn, err := Dial(t.Context(), netip.Addr{}, "nowhere:80"); err == nil {
		t.Errorf("a name is resolved: %v", conn.RemoteAddr())
	}
}

// silent is an address that answers no connection any more: its queue is full.
func silent(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(name.(*unix.SockaddrInet4).Port)).String()
	for range 8 {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		cancel()
		if err != nil {
			return address
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	t.Skip("the queue of a socket that listens is never full here")
	return ""
}
