package upstream

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/egret-mesh/egret/internal/data/config"
)

// queue is the requests of a cluster that wait because max_connections is reached.
// Those that came first are woken first.
type queue struct {
	waiting atomic.Int64
	mu      sync.Mutex
	list    []*waiter
}

type waiter struct {
	host *Host
	wake chan struct{} // holds one
}

// join adds a waiter; leave takes it out again.
func (q *queue) join(h *Host) *waiter {
	w := &waiter{h, make(chan struct{}, 1)}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.list = append(q.list, w)
	q.waiting.Add(1)
	return w
}

// leave passes on a call that the waiter did not make use of.
func (q *queue) leave(w *waiter, served bool) {
	q.mu.Lock()
	for i, each := range q.list {
		if each == w {
			q.list = append(q.list[:i], q.list[i+1:]...)
			q.waiting.Add(-1)
			break
		}
	}
	q.mu.Unlock()
	select {
	case <-w.wake:
		if !served {
			q.call(nil)
		}
	default:
	}
}

// call wakes the first waiter; with a host the first one that waits for it.
func (q *queue) call(h *Host) {
	if q.waiting.Load() == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, w := range q.list {
		if h != nil && w.host != h {
			continue
		}
		select {
		case w.wake <- struct{}{}:
			return
		default: // called already
		}
	}
}

// await takes the place of a connection for h, waiting where max_connections is
// reached. It reports true where idle did in the meantime: then no place is taken.
func (h *Host) await(ctx context.Context, c *config.Cluster, t *Target, idle func() bool) (reused bool, err *Error) {
	always := func() bool { return h.connections.Load() == 0 }
	if h.reserve(c, t.priority(), always()) {
		return false, nil
	}
	q := &h.cluster.queue
	w := q.join(h)
	served := false
	defer func() { q.leave(w, served) }()
	for {
		switch {
		case idle != nil && idle():
			served = true
			return true, nil
		case h.reserve(c, t.priority(), always()):
			served = true
			return false, nil
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			return false, h.cluster.overflow("connections")
		}
	}
}

// Idle tells that a connection to the host is free for another request.
func (h *Host) Idle() { h.cluster.queue.call(h) }
