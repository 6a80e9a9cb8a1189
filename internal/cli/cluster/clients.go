package cluster

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"github.com/egret-mesh/egret/internal/control/kube"
)

// clients of a cluster whose API server answers.
type clients struct {
	typed   kubernetes.Interface
	dynamic dynamic.Interface
	// mapper knows the kinds by their short names, too.
	mapper meta.RESTMapper
	config *rest.Config
}

func (f *flags) clients(ctx context.Context) (*clients, error) {
	if _, err := f.connect(ctx); err != nil {
		return nil, err
	}
	config, err := f.config()
	if err != nil {
		return nil, err
	}
	typed, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	d, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	known, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	cached := memory.NewMemCacheClient(known)
	mapper := restmapper.NewShortcutExpander(restmapper.NewDeferredDiscoveryRESTMapper(cached), cached, nil)
	return &clients{typed: typed, dynamic: d, mapper: mapper, config: config}, nil
}

// readTimeout bounds how long a cluster may take to tell all that it has.
const readTimeout = time.Minute

// read gives what a control plane with these options, of which the clients are set here, would
// know of the cluster now.
func (c *clients) read(ctx context.Context, o kube.Options) (*kube.Cluster, error) {
	o.Client, o.Dynamic = c.typed, c.dynamic
	world := kube.New(o)
	ctx, stop := context.WithTimeout(ctx, readTimeout)
	defer stop()
	var g errgroup.Group
	g.Go(func() error { return world.Run(ctx) })
	select {
	case <-world.Synced():
		stop()
		return world, g.Wait()
	case <-ctx.Done():
		_ = g.Wait() // it ended because of ctx
		return nil, fmt.Errorf("the cluster did not tell all that it has within %s; does your user have the rights to list pods, services, nodes and Istio's objects?", readTimeout)
	}
}
