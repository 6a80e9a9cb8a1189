package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// perSource is how many connections are opened from one address of loopback, so that
// ports do not run out.
const perSource = 10_000

// openers is how many connections are opened at a time.
const openers = 32

// idle opens connections, makes one request on each, says "ready", and holds them until
// in ends or ctx does.
func idle(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	flags := flag.NewFlagSet("idle", flag.ContinueOnError)
	address := flags.String("address", "", "`address:port` to connect to")
	host := flags.String("host", "", "Host of the requests")
	n := flags.Int("connections", 20_000, "how many connections")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := allowOpenFiles(uint64(*n) + 100); err != nil {
		return err
	}
	next := make(chan int, *n)
	for i := range *n {
		next <- i
	}
	close(next)
	var mu sync.Mutex
	var all []*h1Asker
	defer func() {
		for _, a := range all {
			a.close()
		}
	}()
	err := each(ctx, openers, func(ctx context.Context) error {
		for i := range next {
			source := netip.AddrFrom4([4]byte{127, 0, 1, byte(1 + i/perSource)})
			d := &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0)), KeepAlive: -1}
			a, err := newH1Asker(ctx, d, *address, *host, "/", 2048)
			if err != nil {
				return err
			}
			if err := a.ask(ctx); err != nil {
				a.close()
				return fmt.Errorf("connection %d: %w", i+1, err)
			}
			a.in = nil
			mu.Lock()
			all = append(all, a)
			mu.Unlock()
		}
		return nil
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "ready")
	ended := make(chan struct{})
	go func() { defer close(ended); _, _ = io.Copy(io.Discard, in) }()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	return nil
}

// allowOpenFiles raises the limit of open files to n, for which more than the hard limit
// needs the privilege CAP_SYS_RESOURCE.
func allowOpenFiles(n uint64) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if limit.Cur >= n {
		return nil
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: max(n, limit.Max)}); err != nil {
		return fmt.Errorf("%d open files are not allowed here: %w", n, err)
	}
	return nil
}
