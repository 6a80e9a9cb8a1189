package trust

import (
	"context"
	"errors"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

// errAgain makes a worker look again a little later, without telling anybody.
var errAgain = errors.New("changed meanwhile")

// worker makes things so, one name at a time: when the API server tells that something of
// that name has changed, when the authority has, and again after a failure.
type worker struct {
	options Options
	queue   workqueue.TypedRateLimitingInterface[string]
	watched []watched
	failed  error
}

type watched struct {
	informer cache.SharedIndexInformer
	key      func(metav1.Object) string
}

func newWorker(name string, o Options) *worker {
	return &worker{options: o, queue: workqueue.NewTypedRateLimitingQueueWithConfig(
		workqueue.NewTypedItemExponentialFailureRateLimiter[string](50*time.Millisecond, 5*time.Second),
		workqueue.TypedRateLimitingQueueConfig[string]{Name: name},
	)}
}

// watch makes changes of what an informer has wake the worker; key says for which name.
func (w *worker) watch(i cache.SharedIndexInformer, key func(metav1.Object) string) {
	add := func(obj any) {
		if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = gone.Obj
		}
		if m, ok := obj.(metav1.Object); ok {
			w.queue.Add(key(m))
		}
	}
	_, err := i.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: add, DeleteFunc: add, UpdateFunc: func(_, obj any) { add(obj) }})
	w.failed = errors.Join(w.failed, err)
	w.watched = append(w.watched, watched{i, key})
}

// run calls make for each name that wakes it until ctx ends, when all that is watched is
// known. Failures are told and tried again.
func (w *worker) run(ctx context.Context, reconcile func(context.Context, string) error) error {
	if w.failed != nil {
		return w.failed
	}
	running := make(chan struct{}, len(w.watched)+1)
	for _, i := range w.watched {
		go func() { i.informer.RunWithContext(ctx); running <- struct{}{} }()
	}
	go func() { w.wake(ctx); running <- struct{}{} }()
	defer func() {
		for range cap(running) {
			<-running
		}
	}()
	stop := context.AfterFunc(ctx, w.queue.ShutDown)
	defer stop()
	for _, i := range w.watched {
		if !cache.WaitForCacheSync(ctx.Done(), i.informer.HasSynced) {
			w.queue.ShutDown()
			return nil
		}
	}
	for w.next(ctx, reconcile) {
	}
	return nil
}

func (w *worker) next(ctx context.Context, reconcile func(context.Context, string) error) bool {
	name, ended := w.queue.Get()
	if ended {
		return false
	}
	defer w.queue.Done(name)
	err := reconcile(ctx, name)
	if err == nil {
		w.queue.Forget(name)
		return true
	}
	if !errors.Is(err, errAgain) && ctx.Err() == nil {
		w.options.Logger.Warn("not written; will try again", "name", name, "error", err)
	}
	w.queue.AddRateLimited(name)
	return true
}

// wake looks at everything again when the authority is another.
func (w *worker) wake(ctx context.Context) {
	for {
		changed := w.options.Keeper.Changed()
		for _, i := range w.watched {
			for _, name := range keysOf(i.informer, i.key) {
				w.queue.Add(name)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// keysOf are the names of all that an informer has.
func keysOf(i cache.SharedIndexInformer, key func(metav1.Object) string) (out []string) {
	for _, obj := range i.GetStore().List() {
		if m, ok := obj.(metav1.Object); ok {
			out = append(out, key(m))
		}
	}
	return out
}
