// Command proxy is Egret's sidecar as a process of its own, for benchmarks: control
// plane and proxy as in "egret run", but with no sandbox. It accepts on loopback, and
// takes every connection as if the workload had called the origin's registered name.
//
// It must not shorten the way of a request: ServiceEntry to xDS, over gRPC, to the
// proxy's listener, route table, cluster and endpoint, metrics and access log.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
)

func main() {
	var o options
	origin := flag.String("origin", "", "`address:port` of the origin")
	flag.StringVar(&o.listen, "listen", "127.0.0.1:0", "`address:port` to accept on")
	flag.StringVar(&o.accessLog, "access-log", "", "`file` for the access log; empty for none")
	flag.IntVar(&o.entries, "entries", 100, "how many other services the registry has")
	profile := flag.String("cpuprofile", "", "`file` for a CPU profile")
	flag.Parse()
	o.log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if err := start(o, *origin, *profile); err != nil {
		fmt.Fprintln(os.Stderr, "proxy:", err)
		os.Exit(1)
	}
}

// start runs the proxy until SIGINT or SIGTERM.
func start(o options, origin, profile string) error {
	var err error
	if o.origin, err = netip.ParseAddrPort(origin); err != nil {
		return fmt.Errorf("-origin: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	return run(ctx, o, func(a netip.AddrPort) { fmt.Println("listening on", a) })
}
