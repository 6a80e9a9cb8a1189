// Package standalone is the mesh on one machine: it puts the control plane, a
// sidecar, an egress gateway and the sandbox together, in one process. It has no
// policy and no forwarding of its own.
package standalone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/egret-mesh/egret/internal/control/discovery"
	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/control/source"
	"github.com/egret-mesh/egret/internal/control/xdsgen"
	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/dns"
	"github.com/egret-mesh/egret/internal/data/instance"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/record"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/upstream"
	"github.com/egret-mesh/egret/internal/host/intercept"
	"github.com/egret-mesh/egret/internal/host/sandbox"
	"github.com/egret-mesh/egret/internal/memory"
	"github.com/egret-mesh/egret/internal/xds"
)

// workloadAddress is the workload's own address inside its namespace.
var workloadAddress = sandbox.Address()

// meshDomain is Istio's default.
const meshDomain = "cluster.local"

// meshOptions are the parts that a mesh is made of.
type meshOptions struct {
	files     *source.Watcher
	workload  Workload
	logFolder string // of the access logs; "": none
	logger    *slog.Logger
	tell      func([]istioapi.Problem)
	// refused is told what a proxy cannot use of its configuration.
	refused func(proxy string, err error)
	lost    func(error)  // is told why lines of an access log are not written
	metrics net.Listener // nil: not served
	memory  *memory.Keeper
}

// running is a mesh at work.
type running struct {
	control  *discovery.Server
	pipe     *xds.Pipe
	sidecar  *instance.Instance
	gateway  *instance.Instance
	resolver *dns.Server
	inside   *network
	metrics  net.Listener
	memory   *memory.Keeper
}

func newRunning(o meshOptions) (*running, error) {
	r := &running{inside: newNetwork(), metrics: o.metrics, memory: o.memory}
	r.control = discovery.New(discovery.Options{
		Source: o.files, Mesh: Registry, Tell: o.tell, Logger: o.logger.With("part", "control"),
	})
	var err error
	if r.pipe, err = xds.NewPipe(r.control.ADS()); err != nil {
		return nil, err
	}
	lookup := upstream.NewResolver(upstream.ResolverOptions{Logger: o.logger})
	// The sidecar holds what the workload uses. The gateway has all that leads through it:
	// nobody waits for a name there.
	node := SidecarNode(o.workload)
	node.OnDemand = true
	r.sidecar, err = r.newProxy(o, "sidecar", lookup, node,
		record.Workload{Name: o.workload.Name, Namespace: o.workload.Namespace, App: o.workload.Labels["app"]})
	if err != nil {
		return nil, err
	}
	r.gateway, err = r.newProxy(o, gatewayName, lookup, GatewayNode(),
		record.Workload{Name: gatewayName, Namespace: gatewayNamespace, App: gatewayName})
	if err != nil {
		return nil, err
	}
	r.resolver = dns.New(dns.Options{
		Source: r.sidecar.Store(), OnDemand: r.sidecar.Store(), Resolver: lookup, Recorder: r.sidecar.Recorder(),
		Logger: o.logger.With("part", "dns"),
	})
	return r, nil
}

// newProxy makes one of the two; name is what people call it.
func (r *running) newProxy(o meshOptions, name string, lookup upstream.Resolver, node mesh.Node, w record.Workload) (*instance.Instance, error) {
	open, err := openLog(logFile(o.logFolder, name+".log"))
	if err != nil {
		return nil, fmt.Errorf("access log: %w", err)
	}
	return instance.New(instance.Options{
		ControlPlanes:  []grpc.ClientConnInterface{r.pipe},
		Node:           xdsgen.EncodeNode(node, meshDomain),
		Workload:       w,
		OpenLog:        open,
		Dialer:         r.inside,
		Resolver:       lookup,
		Logger:         o.logger.With("part", name),
		Refused:        func(err error) { o.refused(name, err) },
		Lost:           o.lost,
		OnDemand:       config.Limits{InFlight: 1024, Rate: 1000, Burst: 8192}, // the control plane is near
		MaxConnections: maxConnections(instance.OpenFiles()),
	})
}

func logFile(folder, name string) string {
	if folder == "" {
		return ""
	}
	return filepath.Join(folder, name)
}

// configure keeps the proxies' configuration up to date until ctx ends.
func (r *running) configure(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.control.Run(ctx) })
	for _, p := range []*instance.Instance{r.sidecar, r.gateway} {
		g.Go(func() error { return p.Configure(ctx) })
	}
	return g.Wait()
}

// serve carries what the command in jail says, until ctx ends.
func (r *running) serve(ctx context.Context, jail *sandbox.Sandbox) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.sidecar.Serve(ctx, sandboxSockets{jail}, r.resolver) })
	g.Go(func() error { return r.gateway.Serve(ctx, gatewaySockets{r.inside}, nil) })
	for _, pc := range jail.DNSPackets() {
		g.Go(func() error { return ignoreEnd(ctx, r.resolver.ServePacket(ctx, pc)) })
	}
	for _, ln := range jail.DNSStreams() {
		g.Go(func() error { return ignoreEnd(ctx, r.resolver.ServeStream(ctx, ln)) })
	}
	g.Go(func() error { r.recordPackets(ctx, jail.Packets()); return nil })
	if r.metrics != nil {
		g.Go(func() error {
			return serveMetrics(ctx, r.metrics, map[string]prometheus.Collector{
				"sidecar": r.sidecar.Recorder().Metrics(), gatewayName: r.gateway.Recorder().Metrics(),
			})
		})
	}
	return g.Wait()
}

// ready waits until both proxies have their first complete configuration, and the
// sidecar knows the names that its DNS answers.
func (r *running) ready(ctx context.Context) error {
	if err := r.sidecar.Ready(ctx, true); err != nil {
		return err
	}
	return r.gateway.Ready(ctx, false)
}

// close ends what is left after that; the error is about logs that were not written.
func (r *running) close() error {
	return errors.Join(r.sidecar.Close(), r.gateway.Close(), r.pipe.Close())
}

// recordPackets records what the packet filter refused.
func (r *running) recordPackets(ctx context.Context, packets <-chan sandbox.PacketDenied) {
	for {
		select {
		case <-ctx.Done():
			return
		case p, ok := <-packets:
			if !ok {
				return
			}
			host := p.Destination.Addr().String()
			if b := r.resolver.Binding(p.Destination.Addr()); b.Name != "" {
				host = b.Name
			}
			to := p.Destination.Addr().String()
			if p.Destination.Port() != 0 {
				to = p.Destination.String()
			}
			r.sidecar.Recorder().Record(&record.Entry{
				Start:            time.Now(),
				Protocol:         record.ProtocolPacket,
				Reason:           reason.ProtocolNotCaptured,
				Detail:           fmt.Sprintf("%s to %s was refused: only TCP and DNS can leave", p.ProtocolName(), to),
				DownstreamLocal:  p.Destination,
				DownstreamRemote: p.Source,
				Host:             host,
			}, nil)
		}
	}
}

// sandboxSockets hands out the listeners that were made inside the sandbox.
type sandboxSockets struct{ jail *sandbox.Sandbox }

func (s sandboxSockets) Listen(_ context.Context, l *resource.Listener) ([]net.Listener, error) {
	if l.Address.Port() != intercept.TCPPort {
		return nil, fmt.Errorf("the listener %q wants port %d; in a sandbox only %d is captured", l.Name, l.Address.Port(), intercept.TCPPort)
	}
	return s.jail.TCP(), nil
}

func (sandboxSockets) OriginalDestination(c net.Conn) (netip.AddrPort, error) {
	return intercept.OriginalDestination(c)
}
