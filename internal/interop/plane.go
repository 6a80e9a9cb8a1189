package interop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"

	"google.golang.org/grpc"

	"github.com/egret-mesh/egret/internal/control/discovery"
	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/source"
	"github.com/egret-mesh/egret/internal/standalone"
	"github.com/egret-mesh/egret/internal/xds"
)

// controlPlane is what serves the proxies; each reaches it at a loopback address of its own
// namespace.
type controlPlane interface {
	// serve gives the address for each namespace.
	serve(all ...*namespace) ([]string, error)
	// names is a connection for the name table, and how to leave it.
	names() (grpc.ClientConnInterface, func() error, error)
	// refusals is an error for each thing that a proxy refuses of its configuration.
	refusals() error
	close()
}

// newControlPlane is egretd where its program is given, else one in this process.
func newControlPlane(ctx context.Context, o Options, scratch string) (controlPlane, error) {
	if o.Programs.Egretd == "" {
		return newPlane(o)
	}
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	return startDaemon(ctx, o, scratch)
}

// plane is a control plane in this process. Each proxy reaches it at a loopback address of its own
// namespace.
type plane struct {
	files  *source.Watcher
	server *discovery.Server
	grpc   *grpc.Server
	stop   context.CancelFunc
	work   sync.WaitGroup
	told   map[string]bool // problems
}

func newPlane(o Options) (*plane, error) {
	files, err := source.Files(o.Paths, source.Options{})
	if err != nil {
		return nil, err
	}
	p := &plane{files: files}
	for _, problem := range files.Current().Problems {
		if problem.Severity == istioapi.Error {
			err = errors.Join(err, errors.New(problem.String()))
		}
	}
	if err != nil {
		return nil, errors.Join(err, files.Close())
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	p.server = discovery.New(discovery.Options{Source: files, Mesh: standalone.Registry, Tell: p.tell, Logger: log})
	p.grpc = grpc.NewServer(xds.GRPCOptions()...)
	p.server.ADS().Register(p.grpc)
	return p, nil
}

// serve serves ADS on a free port of each namespace's loopback, and follows the files,
// until close. It returns the addresses.
func (p *plane) serve(all ...*namespace) ([]string, error) {
	var ctx context.Context
	ctx, p.stop = context.WithCancel(context.Background())
	var addresses []string
	for _, ns := range all {
		var ln net.Listener
		if err := ns.do(func() (err error) { ln, err = net.Listen("tcp", "127.0.0.1:0"); return err }); err != nil {
			return nil, err
		}
		addresses = append(addresses, ln.Addr().String())
		p.work.Go(func() { _ = p.grpc.Serve(ln) }) // ends with close
	}
	p.work.Go(func() { _ = p.server.Run(ctx) }) // ends with ctx
	return addresses, nil
}

// tell says on stderr what is newly wrong with the objects.
func (p *plane) tell(problems []istioapi.Problem) {
	told := map[string]bool{}
	for _, problem := range problems {
		line := problem.String()
		if problem.Severity >= istioapi.Warning && !p.told[line] {
			fmt.Fprintln(os.Stderr, "egret:", line)
		}
		told[line] = true
	}
	p.told = told
}

func (p *plane) names() (grpc.ClientConnInterface, func() error, error) {
	pipe, err := xds.NewPipe(p.server.ADS())
	if err != nil {
		return nil, nil, err
	}
	return pipe, pipe.Close, nil
}

// refusals is an error for each thing that a connected proxy refuses of its configuration.
func (p *plane) refusals() error {
	var errs []error
	for _, n := range p.server.ADS().Status() {
		for _, t := range n.Types {
			if t.Nack != nil {
				errs = append(errs, fmt.Errorf("%s refuses %s: %s", n.NodeID, t.TypeURL, t.Nack.Message))
			}
		}
	}
	return errors.Join(errs...)
}

func (p *plane) close() {
	if p.stop != nil {
		p.stop()
	}
	p.server.ADS().Close()
	p.grpc.Stop()
	p.work.Wait()
	_ = p.files.Close()
}
