package egretproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/egret-mesh/egret/internal/bootstrap"
	"github.com/egret-mesh/egret/internal/data/dns"
	"github.com/egret-mesh/egret/internal/data/instance"
	"github.com/egret-mesh/egret/internal/data/proxy"
	"github.com/egret-mesh/egret/internal/data/upstream"
	"github.com/egret-mesh/egret/internal/xds"
)

// Run serves until ctx ends, and drains; then it returns nil.
func Run(ctx context.Context, o Options) error {
	servers, err := dial(o.Bootstrap.Servers)
	if err != nil {
		return err
	}
	defer func() {
		for _, c := range servers {
			_ = c.Close()
		}
	}()
	lookup := upstream.NewResolver(upstream.ResolverOptions{Logger: o.Logger})
	p, err := instance.New(instance.Options{
		ControlPlanes: controlPlanes(servers), Copy: o.Copy, SotW: !o.Bootstrap.Delta,
		Node: o.Bootstrap.Node, Workload: workload(o.Bootstrap.Node),
		Dialer: &upstream.NetDialer{}, Resolver: lookup, Logger: o.Logger,
		Refused: func(err error) {
			o.Logger.Error("config_rejected; what was there before stays in force", "error", err)
		},
		Lost:           func(err error) { o.Logger.Error("lines of the access log are lost", "error", err) },
		MaxConnections: maxConnections(openFilesLimit()),
		DrainTimeout:   o.DrainTimeout,
	})
	if err != nil {
		return err
	}
	return errors.Join(serve(ctx, o, p, lookup), p.Close())
}

// dial makes the connections to the control planes; nothing is sent before they are used.
func dial(servers []bootstrap.Server) (out []*grpc.ClientConn, err error) {
	for _, s := range servers {
		c, errDial := xds.Dial(s.Address, s.TLS, s.ConnectTimeout)
		if errDial != nil {
			err = errors.Join(err, fmt.Errorf("control plane %s: %w", s.Address, errDial))
			continue
		}
		out = append(out, c)
	}
	if err != nil {
		for _, c := range out {
			_ = c.Close()
		}
		return nil, err
	}
	return out, nil
}

func controlPlanes(servers []*grpc.ClientConn) (out []grpc.ClientConnInterface) {
	for _, s := range servers {
		out = append(out, s)
	}
	return out
}

func serve(ctx context.Context, o Options, p *instance.Instance, lookup *upstream.DNSResolver) error {
	g, ctx := errgroup.WithContext(ctx)
	var binder proxy.Binder
	if o.DNSAddress != "" {
		resolver := dns.New(dns.Options{Source: p.Store(), Resolver: lookup, Recorder: p.Recorder(), Logger: o.Logger})
		binder = resolver
		packets, streams, err := listenDNS(o.DNSAddress)
		if err != nil {
			return err
		}
		g.Go(func() error { return resolver.ServePacket(ctx, packets) })
		g.Go(func() error { return resolver.ServeStream(ctx, streams) })
	}
	if o.Bootstrap.Admin.IsValid() {
		ln, err := net.Listen("tcp", o.Bootstrap.Admin.String())
		if err != nil {
			return fmt.Errorf("admin: %w", err)
		}
		g.Go(func() error { return serveAdmin(ctx, ln, p) })
	}
	g.Go(func() error { return p.Configure(ctx) })
	g.Go(func() error { return p.Serve(ctx, machine{}, binder) })
	return g.Wait()
}

// listenDNS opens both sockets of the workload's DNS.
func listenDNS(address string) (net.PacketConn, net.Listener, error) {
	packets, err := net.ListenPacket("udp", address)
	if err != nil {
		return nil, nil, fmt.Errorf("DNS: %w", err)
	}
	streams, err := net.Listen("tcp", packets.LocalAddr().String())
	if err != nil {
		return nil, nil, fmt.Errorf("DNS: %w", errors.Join(err, packets.Close()))
	}
	return packets, streams, nil
}

// serveAdmin serves the operator until ctx ends: /ready is 200 when there is a complete
// configuration, 503 before, as Envoy's; /stats/prometheus has the metrics.
func serveAdmin(ctx context.Context, ln net.Listener, p *instance.Instance) error {
	metrics := prometheus.NewRegistry()
	if err := metrics.Register(p.Recorder().Metrics()); err != nil {
		return errors.Join(fmt.Errorf("metrics: %w", err), ln.Close())
	}
	mux := http.NewServeMux()
	mux.Handle("GET /stats/prometheus", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		if p.Store().Current() == nil {
			http.Error(w, "PRE_INITIALIZING", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("LIVE\n"))
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(ln); ctx.Err() == nil {
		return err
	}
	return nil
}
