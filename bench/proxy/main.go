// Command proxy is Egret's proxy as a process of its own, for benchmarks: as in
// "egret run", but its control plane is another process, and no sandbox captures for it.
// It takes a connection to one of its loopback addresses as if the workload had opened it
// to the name and port that belong to that address. As an egress gateway it listens where
// its configuration says.
//
// It must not shorten the way of a request: xDS over gRPC, listener, route table, cluster
// and endpoint, host binding, metrics and access log are those of "egret run".
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protojson"
)

func main() {
	o := options{log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	flag.StringVar(&o.xds, "xds", "", "`address:port` of the control plane's ADS")
	node := flag.String("node", "", "envoy.config.core.v3.Node as `JSON`")
	flag.Func("capture", "`address:port=name:port`: connections to the first are taken as calls of the second; may be repeated", func(s string) error {
		c, err := parseCapture(s)
		o.captures = append(o.captures, c)
		return err
	})
	flag.IntVar(&o.connections, "connections", 0, "how many connections may be open; 0: the proxy's default")
	flag.StringVar(&o.admin, "admin", "", "`address:port` for metrics and net/http/pprof; empty for none")
	profile := flag.String("cpuprofile", "", "`file` for a CPU profile")
	flag.Parse()
	if err := start(o, *node, *profile); err != nil {
		fmt.Fprintln(os.Stderr, "proxy:", err)
		os.Exit(1)
	}
}

// start runs the proxy until SIGINT or SIGTERM.
func start(o options, node, profile string) error {
	o.node = &corev3.Node{}
	if err := protojson.Unmarshal([]byte(node), o.node); err != nil {
		return fmt.Errorf("-node: %w", err)
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
	return run(ctx, o)
}

// capture is a loopback address and what a connection to it is for.
type capture struct {
	listen netip.AddrPort
	host   string // a name that the registry has, or an address
	port   uint16
}

func parseCapture(s string) (capture, error) {
	listen, target, _ := strings.Cut(s, "=")
	address, err := netip.ParseAddrPort(listen)
	if err != nil {
		return capture{}, err
	}
	host, portText, err := net.SplitHostPort(target)
	if err != nil {
		return capture{}, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || host == "" || port == 0 {
		return capture{}, fmt.Errorf("%q is not name:port", target)
	}
	return capture{listen: address, host: host, port: uint16(port)}, nil
}
