package kube

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/egret-mesh/egret/internal/backoff"
)

// follow keeps a store at what the API server has of one resource.
type follow struct {
	name   string // for people: "serviceentries.networking.istio.io"
	client any    // that list and watch use
	list   cache.ListWithContextFunc
	watch  cache.WatchFuncWithContext
	store  store
	// optional: the resource may not be there at all (no such CRD); it is waited for.
	optional bool
	unread   bool // nobody misses it

	// settled is closed when the store has all, or it is known that there is no such
	// resource.
	settled chan struct{}
	once    sync.Once
}

// store is what a follow fills.
type store interface {
	cache.TransformingStore
	// whenFilled is called once, before run, with what to call at the first Replace.
	whenFilled(func())
}

// lister is what typed and dynamic clients have, for one resource.
type lister[L runtime.Object] interface {
	List(ctx context.Context, o metav1.ListOptions) (L, error)
	Watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error)
}

// newFollow follows what l lists, restricted by a field selector unless that is "".
func newFollow[L runtime.Object](name string, client any, l lister[L], selector string, s store) *follow {
	options := func(o metav1.ListOptions) metav1.ListOptions {
		o.FieldSelector = selector
		return o
	}
	f := &follow{
		name: name, client: client, store: s, settled: make(chan struct{}),
		list: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			list, err := l.List(ctx, options(o))
			if err != nil {
				return nil, err // not a list that is nil
			}
			return list, nil
		},
		watch: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return l.Watch(ctx, options(o))
		},
	}
	s.whenFilled(f.settle)
	return f
}

func (f *follow) settle() { f.once.Do(func() { close(f.settled) }) }

// least is the shortest pause before the API server is asked again.
const least = 200 * time.Millisecond

// run follows until ctx ends. The reflector itself takes up a watch that ended; what
// returns here is a list that failed, or a watch that cannot be taken up.
func (f *follow) run(ctx context.Context, o Options) {
	lw := cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{ListWithContextFunc: f.list, WatchFuncWithContext: f.watch}, f.client)
	r := cache.NewReflectorWithOptions(lw, nil, f.store, cache.ReflectorOptions{
		Name: f.name, TypeDescription: f.name,
		Backoff: &wait.Backoff{Duration: least, Cap: o.Retry, Factor: 2, Jitter: 0.5, Steps: 10},
	})
	last := ""
	for failures := 0; ctx.Err() == nil; {
		err := r.ListAndWatchWithContext(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			failures, last = 0, "" // the watch ended, as it does now and then
		case f.optional && apierrors.IsNotFound(err):
			if last != err.Error() && !f.unread {
				o.Logger.Info("not installed in the cluster; waiting for its CustomResourceDefinition", "resource", f.name)
			}
			last = err.Error()
			f.settle()
		default:
			if last != err.Error() && !errors.Is(err, context.Canceled) {
				o.Logger.Warn("cannot read from the API server; what is known stays in force", "resource", f.name, "error", err)
			}
			last = err.Error()
		}
		pause(ctx, backoff.Pause(failures, least, o.Retry, rand.Float64()))
		failures++
	}
}

// pause waits for a while, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
