package kube

import (
	"context"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// Election is how replicas agree which one of them does something: by a Lease.
type Election struct {
	// Name of the Lease in the system namespace, Identity of the replica (its pod's name).
	Name, Identity string
	// Lease is how long a leader that is gone stays it; default 30 s. It must be over three
	// times Retry, which is how often one asks; default 2 s.
	Lease, Retry time.Duration
}

// Lead calls lead whenever this replica is the one, until ctx ends. The context of lead ends
// when it is no longer; Lead waits for it to return.
func (c *Cluster) Lead(ctx context.Context, e Election, lead func(context.Context)) error {
	if e.Lease == 0 {
		e.Lease, e.Retry = 30*time.Second, 2*time.Second
	}
	for ctx.Err() == nil {
		t := &term{ended: make(chan struct{})}
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: &resourcelock.LeaseLock{
				LeaseMeta: metav1.ObjectMeta{Namespace: c.options.SystemNamespace, Name: e.Name},
				Client:    c.options.Client.CoordinationV1(), LockConfig: resourcelock.ResourceLockConfig{Identity: e.Identity},
			},
			LeaseDuration: e.Lease, RenewDeadline: e.Lease / 2, RetryPeriod: e.Retry, ReleaseOnCancel: true, Name: e.Name,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(ctx context.Context) {
					if t.begin() {
						defer close(t.ended)
						c.options.Logger.Info("leading", "election", e.Name, "identity", e.Identity)
						lead(ctx)
					}
				},
				OnStoppedLeading: func() {},
			},
		})
		if err != nil {
			return fmt.Errorf("election %s: %w", e.Name, err)
		}
		elector.Run(ctx)
		t.wait()
		pause(ctx, e.Retry)
	}
	return nil
}

// term is one time of leading. The elector begins it on a goroutine that it does not wait
// for, and that may be late.
type term struct {
	mu          sync.Mutex
	begun, over bool
	ended       chan struct{}
}

// begin is false when the term is over already.
func (t *term) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.begun = !t.over
	return t.begun
}

// wait waits for the end of a term that has begun, and lets none begin.
func (t *term) wait() {
	t.mu.Lock()
	t.over = true
	begun := t.begun
	t.mu.Unlock()
	if begun {
		<-t.ended
	}
}
