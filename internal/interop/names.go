package interop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/egret-mesh/egret/internal/control/xdsgen"
	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/dns"
	"github.com/egret-mesh/egret/internal/data/record"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/data/upstream"
	"github.com/egret-mesh/egret/internal/host/intercept"
	"github.com/egret-mesh/egret/internal/standalone"
	"github.com/egret-mesh/egret/internal/xds"
)

// meshDomain is Istio's default.
const meshDomain = "cluster.local"

// names answers the app's DNS beside an Envoy, as Istio's agent does: from the name table
// of the control plane.
type names struct {
	leave func() error // the control plane
	store *config.Store
	stop  context.CancelFunc
	work  sync.WaitGroup
}

func serveNames(p controlPlane, w standalone.Workload, ns *namespace) (*names, error) {
	conn, leave, err := p.names()
	if err != nil {
		return nil, err
	}
	n := &names{leave: leave, store: config.NewStore(config.StoreOptions{})}
	client := xds.NewClient(conn, xds.ClientOptions{
		Node: xdsgen.EncodeNode(standalone.SidecarNode(w), meshDomain), Delta: true, Handler: n.store,
	})
	n.store.Attach(client)
	var ctx context.Context
	ctx, n.stop = context.WithCancel(context.Background())
	n.work.Go(func() { _ = client.Run(ctx) }) // ends with ctx
	server := dns.New(dns.Options{
		Source: n.store, Recorder: unrecorded{}, NoBindings: true,
		Resolver: upstream.NewResolver(upstream.ResolverOptions{}),
	})
	if err := n.serve(ctx, ns, server); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

func (n *names) serve(ctx context.Context, ns *namespace, server *dns.Server) error {
	at := fmt.Sprintf(":%d", intercept.DNSPort)
	return ns.do(func() error {
		packets, err := net.ListenPacket("udp", at)
		if err != nil {
			return err
		}
		n.work.Go(func() { _ = server.ServePacket(ctx, packets) })
		streams, err := net.Listen("tcp", at)
		if err != nil {
			return err
		}
		n.work.Go(func() { _ = server.ServeStream(ctx, streams) })
		return nil
	})
}

// ready waits until there is a name table.
func (n *names) ready(ctx context.Context) error {
	changed, unsubscribe := n.store.Subscribe()
	defer unsubscribe()
	for c := n.store.Current(); c == nil || c.Names == nil; c = n.store.Current() {
		select {
		case <-ctx.Done():
			return errors.New("DNS got no name table")
		case <-changed:
		}
	}
	return nil
}

func (n *names) close() {
	n.stop()
	n.work.Wait()
	_ = n.leave()
}

// unrecorded is for refused names: Istio's agent has no log of them.
type unrecorded struct{}

func (unrecorded) Record(*record.Entry, []resource.AccessLog) {}
