package egretd

import (
	"context"
	"log/slog"
	"net"
	"sync"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/egret-mesh/egret/internal/control/discovery"
	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/control/source"
	"github.com/egret-mesh/egret/internal/xds"
)

// Run serves until ctx ends; then it returns nil. YAML that cannot be used is told and
// left out: proxies that wait get what can be used.
func Run(ctx context.Context, o Options) error {
	if err := o.check(); err != nil {
		return err
	}
	var secure []grpc.ServerOption
	if o.TLSAddress != "" {
		creds, err := o.TLS.ServerCredentials()
		if err != nil {
			return err
		}
		secure = append(secure, grpc.Creds(creds))
	}
	files, err := source.Files(o.Paths, source.Options{Logger: o.Logger})
	if err != nil {
		return err
	}
	defer func() { _ = files.Close() }()
	problems := &problems{log: o.Logger}
	control := discovery.New(discovery.Options{Source: files, Mesh: meshOptions, Tell: problems.tell, Logger: o.Logger})
	at, err := o.listen()
	if err != nil {
		return err
	}
	defer at.close()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return control.Run(ctx) })
	if at.plain != nil {
		g.Go(func() error { return serveADS(ctx, at.plain, control.ADS(), nil) })
	}
	if at.secure != nil {
		g.Go(func() error { return serveADS(ctx, at.secure, control.ADS(), nil, secure...) })
	}
	if at.monitoring != nil {
		g.Go(func() error { return serveMonitoring(ctx, at.monitoring, control, problems) })
	}
	at.tell(o.Listening)
	return g.Wait()
}

// meshOptions are those of egret run, but that there is no service that nobody wrote: an
// egress gateway's is a ServiceEntry (see the README), or a Service later.
func meshOptions(istioapi.Objects) mesh.Options {
	return mesh.Options{AccessLogFile: "/dev/stdout", FilterGatewayClusters: true}
}

// serveADS serves ADS, and what more adds, until ctx ends.
func serveADS(ctx context.Context, ln net.Listener, ads *xds.Server, more func(grpc.ServiceRegistrar), options ...grpc.ServerOption) error {
	server := grpc.NewServer(append(xds.GRPCOptions(), options...)...)
	ads.Register(server)
	if more != nil {
		more(server)
	}
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	if err := server.Serve(ln); ctx.Err() == nil {
		return err
	}
	return nil
}

// problems tells what is wrong with the YAML, each thing once until it is mended.
type problems struct {
	log *slog.Logger

	mu     sync.Mutex
	last   map[string]bool
	counts map[istioapi.Severity]int
}

func (p *problems) tell(all []istioapi.Problem) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := map[string]bool{}
	p.counts = map[istioapi.Severity]int{}
	for _, problem := range all {
		p.counts[problem.Severity]++
		line := problem.String()
		if now[line] = true; p.last[line] {
			continue
		}
		level := slog.LevelInfo
		switch problem.Severity {
		case istioapi.Error:
			level = slog.LevelError
		case istioapi.Warning:
			level = slog.LevelWarn
		}
		p.log.Log(context.Background(), level, line)
	}
	p.last = now
}

func (p *problems) count(s istioapi.Severity) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts[s]
}
