package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// answerSize is what a short connection gets back, in bytes.
const answerSize = 1024

// Connect is the result of "connect".
type Connect struct {
	Connections int64   `json:"connections"`
	Seconds     float64 `json:"seconds"`
}

// connect opens short connections, one after the other by each worker. Both ends use
// blocking sockets in threads of their own: that is half the system calls of net, and
// what is to be measured is the proxy between them.
func connect(ctx context.Context, args []string) (*Connect, error) {
	o, err := parseTCP(flag.NewFlagSet("connect", flag.ContinueOnError), args)
	if err != nil {
		return nil, err
	}
	hello, err := o.hello()
	if err != nil {
		return nil, err
	}
	to, err := socketAddress(o.address)
	if err != nil {
		return nil, err
	}
	var count atomic.Int64
	start := time.Now()
	err = each(ctx, o.workers, func(ctx context.Context) error {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		own := *to // a call writes into it
		for time.Since(start) < o.duration && ctx.Err() == nil {
			if err := short(&own, hello); err != nil {
				return err
			}
			count.Add(1)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &Connect{Connections: count.Load(), Seconds: time.Since(start).Seconds()}, nil
}

func socketAddress(text string) (*unix.SockaddrInet4, error) {
	a, err := netip.ParseAddrPort(text)
	if err != nil {
		return nil, err
	}
	if !a.Addr().Is4() {
		return nil, fmt.Errorf("%v is not an IPv4 address", a.Addr())
	}
	return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}, nil
}

// newSocket is a blocking socket that waits at most answerTimeout.
func newSocket() (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	timeout := unix.NsecToTimeval(int64(answerTimeout))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// short is one connection: a question, an answer, the end.
func short(to unix.Sockaddr, hello []byte) error {
	fd, err := newSocket()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, to); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if _, err := unix.Write(fd, hello); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	var buffer [answerSize + 1]byte
	total := 0
	for total <= answerSize {
		n, err := unix.Read(fd, buffer[total:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if n == 0 {
			break
		}
		total += n
	}
	if total != answerSize {
		return fmt.Errorf("an answer that is not of %d bytes", answerSize)
	}
	return nil
}

// acceptors is how many threads of the origin answer.
const acceptors = 8

// shortOrigin answers each connection once and closes it. Its stop ends it.
func shortOrigin(address string) (at string, stop func(), err error) {
	to, err := socketAddress(address)
	if err != nil {
		return "", nil, err
	}
	fd, err := newSocket()
	if err != nil {
		return "", nil, err
	}
	if err := errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, to), unix.Listen(fd, 4096),
	); err != nil {
		_ = unix.Close(fd)
		return "", nil, err
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		_ = unix.Close(fd)
		return "", nil, err
	}
	if in, ok := name.(*unix.SockaddrInet4); ok {
		at = netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port)).String()
	}
	var work sync.WaitGroup
	for range acceptors {
		work.Go(func() { answerShort(fd) })
	}
	return at, func() {
		_ = unix.Shutdown(fd, unix.SHUT_RD) // ends accept
		work.Wait()
		_ = unix.Close(fd)
	}, nil
}

// answerShort serves until the socket is shut down.
func answerShort(fd int) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	answer := bytes.Repeat([]byte("x"), answerSize)
	var hello [16 << 10]byte
	for {
		conn, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC) // it waits as long as fd does
		switch {
		case err == nil:
			if n, err := unix.Read(conn, hello[:]); err == nil && n > 0 {
				_, _ = unix.Write(conn, answer) // the client counts
			}
			_ = unix.Close(conn)
		case errors.Is(err, unix.EINVAL): // shut down
			return
		}
	}
}
