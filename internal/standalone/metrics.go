package standalone

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metricsPath is where Istio's agents have the metrics.
const metricsPath = "/stats/prometheus"

// listenMetrics opens the address of the metrics: "127.0.0.1:15090", "[::1]:15090",
// "localhost:15090" or ":15090". Only loopback addresses are taken: the metrics name
// whom the command called.
func listenMetrics(address string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("metrics: %q is not ADDRESS:PORT, such as 127.0.0.1:15090", address)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return nil, fmt.Errorf("metrics: the port of %q must be a number up to 65535 (0: a free one)", address)
	} else if host == "" || strings.EqualFold(host, "localhost") {
		host = "127.0.0.1"
		port = strconv.FormatUint(n, 10)
	}
	if a, err := netip.ParseAddr(host); err != nil || !a.IsLoopback() {
		return nil, fmt.Errorf("metrics: %q is not a loopback address, such as 127.0.0.1", host)
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return ln, nil
}

// serveMetrics serves what the proxies counted, until ctx ends. Each sample has the
// label "proxy", by which the two can be told apart.
func serveMetrics(ctx context.Context, ln net.Listener, proxies map[string]prometheus.Collector) error {
	all := prometheus.NewRegistry()
	for name, metrics := range proxies {
		if err := prometheus.WrapRegistererWith(prometheus.Labels{"proxy": name}, all).Register(metrics); err != nil {
			return fmt.Errorf("metrics of %s: %w", name, err)
		}
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+metricsPath, promhttp.HandlerFor(all, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	return ignoreEnd(ctx, server.Serve(ln))
}
