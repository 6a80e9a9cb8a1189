package standalone

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/http"
	"github.com/egret-mesh/egret/internal/data/proxy"
	"github.com/egret-mesh/egret/internal/data/record"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/upstream"
	"github.com/egret-mesh/egret/internal/xds"
)

// proxyOptions say what differs between the sidecar and the gateway.
type proxyOptions struct {
	node *corev3.Node
	// workload is whose calls the metrics tell.
	workload record.Workload
	// logFile is where the access log goes that the configuration calls /dev/stdout;
	// "": nowhere.
	logFile  string
	dialer   upstream.Dialer
	resolver upstream.Resolver
	logger   *slog.Logger
	// refused is told what the proxy cannot use of its configuration.
	refused func(error)
	// lost is told why lines of the access log are not written.
	lost func(error)
	// connections bounds those that are served, and those that are kept idle.
	connections int
}

// instance is one proxy of the data half, with all its parts.
type instance struct {
	store    *config.Store
	client   *xds.Client
	manager  *upstream.Manager
	recorder *record.Recorder
	handler  *http.Handler
	options  proxyOptions
	serving  atomic.Pointer[proxy.Proxy] // nil before serve
}

func newInstance(conn grpc.ClientConnInterface, o proxyOptions) (*instance, error) {
	open, err := openLog(o.logFile)
	if err != nil {
		return nil, fmt.Errorf("access log: %w", err)
	}
	p := &instance{options: o, store: config.NewStore(config.StoreOptions{Logger: o.logger})}
	p.client = xds.NewClient(conn, xds.ClientOptions{Node: o.node, Delta: true, Handler: refusals{p.store, o.refused}, Logger: o.logger})
	p.store.Attach(p.client)
	p.recorder, err = record.New(record.Options{
		Open:      open,
		DenialLog: resource.AccessLog{Path: standardLog},
		Workload:  o.workload,
		Hostname:  o.workload.Name,
		Getenv:    os.Getenv,
		State:     p.state,
		Logger:    o.logger,
		Lost:      o.lost,
	})
	if err != nil {
		return nil, err
	}
	p.manager = upstream.NewManager(upstream.Options{Source: p.store, Dialer: o.dialer, Resolver: o.resolver, Logger: o.logger})
	p.handler = http.NewHandler(http.Options{Upstreams: p.manager, Recorder: p.recorder, Logger: o.logger,
		Limits: http.Limits{IdleTotal: o.connections}})
	return p, nil
}

// refusals tells what of an update the proxy refuses, as NACKs are read by nobody here.
type refusals struct {
	*config.Store
	tell func(error)
}

// Apply is the store's.
func (r refusals) Apply(u xds.Update) map[string]error {
	errs := r.Store.Apply(u)
	for _, name := range slices.Sorted(maps.Keys(errs)) {
		if errs[name] != nil {
			r.tell(errs[name])
		}
	}
	return errs
}

// serve serves until ctx ends, and drains.
func (p *instance) serve(ctx context.Context, sockets proxy.Sockets, binder proxy.Binder) error {
	server := proxy.New(proxy.Options{
		Source: p.store, Sockets: sockets, Upstreams: p.manager, HTTP: p.handler,
		Recorder: p.recorder, Binder: binder, Logger: p.options.logger,
		MaxConnections: p.options.connections,
	})
	p.serving.Store(server)
	return ignoreEnd(ctx, server.Run(ctx))
}

// close ends what outlives run: pools, names, the log.
func (p *instance) close() error {
	p.handler.Close()
	p.manager.Close()
	return p.recorder.Close()
}

// state is what the parts count, for metrics.
func (p *instance) state() record.State {
	s := record.State{Skipped: p.store.Skipped(), Clusters: p.manager.Clusters(), Mirrored: p.handler.Mirrored(), Draining: true}
	if server := p.serving.Load(); server != nil {
		s.Listeners, s.Draining = server.Listeners(), server.Draining()
	}
	return s
}

// ignoreEnd drops the error of something that ended because it was told to.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// standardLog is the path by which Istio's configuration names the proxy's standard
// output.
const standardLog = "/dev/stdout"

// openLog opens the log files of one proxy. What the configuration calls standard
// output is file, which exists from the start, so that it can be followed; other paths
// are not opened: the YAML's author decides what is recorded, the operator where to.
func openLog(file string) (func(string) (io.WriteCloser, error), error) {
	if file == "" {
		return func(string) (io.WriteCloser, error) { return discard{}, nil }, nil
	}
	open := func(string) (io.WriteCloser, error) {
		return os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	}
	first, err := open(file)
	if err != nil {
		return nil, err
	}
	return open, first.Close()
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) Close() error                { return nil }

// gatewaySockets listens on the gateway's address in the network of this process.
type gatewaySockets struct{ network *network }

func (s gatewaySockets) Listen(_ context.Context, l *resource.Listener) ([]net.Listener, error) {
	ln, err := s.network.listen(netip.AddrPortFrom(gatewayAddress, l.Address.Port()))
	if err != nil {
		return nil, err
	}
	return []net.Listener{ln}, nil
}

func (gatewaySockets) OriginalDestination(c net.Conn) (netip.AddrPort, error) {
	return netip.ParseAddrPort(c.LocalAddr().String())
}

// noBinder is for proxies whose clients have another resolver.
type noBinder struct{}

func (noBinder) Binding(netip.Addr) decide.Binding { return decide.Binding{} }

func (noBinder) Destination(_ *config.Config, dst netip.AddrPort) netip.AddrPort { return dst }
