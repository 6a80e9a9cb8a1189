// Package kube is a cluster as a source of objects: it follows what a Kubernetes API
// server has, and gives Istio's objects, decoded by istioapi as those of files are, and the
// services of the cluster as the mesh has them.
//
// It must not know what objects mean to proxies, which is mesh's and xdsgen's; nor does it
// write to the cluster, except the status of Istio's objects (see Statuses). While the API
// server is away what was known stays.
package kube

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/control/source"
)

// Options of New. Client and Dynamic are needed.
type Options struct {
	Client  kubernetes.Interface
	Dynamic dynamic.Interface
	// SystemNamespace has the control plane and its ConfigMap; default "istio-system".
	SystemNamespace string
	// Revision of the control plane; with one that is not "default" MeshConfig is in the
	// ConfigMap istio-REVISION, as Istio has it.
	Revision string
	// Domain of the cluster; default "cluster.local".
	Domain string
	Logger *slog.Logger // nil discards
	// Quiet is how long nothing must change before a new state is made, Latest the longest
	// time that changes can put it off. Defaults: Istio's PILOT_DEBOUNCE_AFTER, 100 ms; 1 s.
	Quiet, Latest time.Duration
	// Retry is the longest pause before the API server is asked again; default 5 s.
	Retry time.Duration
}

// Cluster follows a cluster. It is a discovery.Source; its methods can be used at the same
// time. Run makes it work.
type Cluster struct {
	options  Options
	istio    *istioObjects
	registry *registry
	synced   chan struct{}

	changes  chan struct{} // holds one when something changed
	state    atomic.Pointer[source.State]
	services atomic.Pointer[[]*mesh.Service] // never older than state

	mu          sync.Mutex // guards what follows
	subscribers map[chan *source.State]bool
}

func (o Options) withDefaults() Options {
	o.SystemNamespace = cmp.Or(o.SystemNamespace, "istio-system")
	o.Domain = cmp.Or(o.Domain, "cluster.local")
	o.Quiet, o.Latest = cmp.Or(o.Quiet, 100*time.Millisecond), cmp.Or(o.Latest, time.Second)
	o.Retry = cmp.Or(o.Retry, 5*time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// New makes a Cluster that knows nothing yet.
func New(o Options) *Cluster {
	o = o.withDefaults()
	c := &Cluster{
		options: o, synced: make(chan struct{}), changes: make(chan struct{}, 1),
		subscribers: map[chan *source.State]bool{},
	}
	c.state.Store(&source.State{})
	c.services.Store(&[]*mesh.Service{})
	c.istio = newIstioObjects(c)
	c.registry = newRegistry(c)
	return c
}

// Synced is closed when all that the cluster has was read once, and Current has it.
func (c *Cluster) Synced() <-chan struct{} { return c.synced }

// Run follows the cluster until ctx ends; then it returns nil. An API server that does not
// answer is asked again and again.
func (c *Cluster) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	follows := slices.Concat(c.istio.follows(), c.registry.follows())
	for _, f := range follows {
		g.Go(func() error { f.run(ctx, c.options); return nil })
	}
	g.Go(func() error {
		for _, f := range follows {
			select {
			case <-f.settled:
			case <-ctx.Done():
				return nil
			}
		}
		c.publish()
		close(c.synced)
		c.publishChanges(ctx)
		return nil
	})
	if err := g.Wait(); err != nil {
		return fmt.Errorf("following the cluster: %w", err)
	}
	return nil
}

// changed says that something is not as it was.
func (c *Cluster) changed() {
	signal(c.changes)
}

// publishChanges makes a state of the changes, when they have come to rest.
func (c *Cluster) publishChanges(ctx context.Context) {
	quiet := time.NewTimer(time.Hour)
	quiet.Stop()
	defer quiet.Stop()
	var latest time.Time // zero: nothing has happened
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.changes:
			now := time.Now()
			if latest.IsZero() {
				latest = now.Add(c.options.Latest)
			}
			quiet.Reset(min(c.options.Quiet, latest.Sub(now)))
		case <-quiet.C:
			latest = time.Time{}
			c.publish()
		}
	}
}

// publish makes a state of what is known now. A subscriber that has not read the last one
// gets this one instead.
func (c *Cluster) publish() {
	select {
	case <-c.changes: // it is read now
	default:
	}
	objects, problems := c.istio.all()
	c.registry.selects(objects.ServiceEntries)
	services := c.registry.all()
	c.services.Store(&services)
	c.mu.Lock()
	defer c.mu.Unlock()
	state := &source.State{Objects: objects, Problems: problems, Sequence: c.state.Load().Sequence + 1}
	c.state.Store(state)
	for ch := range c.subscribers {
		select {
		case <-ch:
		default:
		}
		ch <- state
	}
}

// Current is the newest state; never nil. Before Synced it is empty.
func (c *Cluster) Current() *source.State { return c.state.Load() }

// Services are the cluster's, the oldest first, at least as new as the newest state. Each is
// the same in memory as long as nothing of it changes. The caller must not change them.
func (c *Cluster) Services() []*mesh.Service { return *c.services.Load() }

// Mesh is what the cluster adds to Istio's objects.
func (c *Cluster) Mesh(istioapi.Objects) mesh.Options {
	return mesh.Options{
		RootNamespace: c.options.SystemNamespace, Domain: c.options.Domain, FilterGatewayClusters: true,
		BuiltIn: c.Services(), Workloads: c.registry.workloads(), Pods: true,
	}
}

// Place is where a pod is, "region/zone/subzone": as its label says, else as its Node's labels
// say; "": not known.
func (c *Cluster) Place(namespace, name string) string { return c.registry.place(key{namespace, name}) }

// Subscribe gives the current state at once and then each new one. A slow reader misses
// states in between, never the newest. The function ends the subscription.
func (c *Cluster) Subscribe() (<-chan *source.State, func()) {
	ch := make(chan *source.State, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	ch <- c.state.Load()
	c.subscribers[ch] = true
	return ch, sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.subscribers, ch)
		close(ch)
	})
}
