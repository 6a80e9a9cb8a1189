package egretd

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// Times of the Lease, those of Kubernetes' own controllers: when a leader vanished, another
// leads after leaseLife.
const (
	leaseLife  = 15 * time.Second
	leaseRenew = 10 * time.Second
	leaseRetry = 2 * time.Second
)

// lead calls work while this replica is the leader of its revision, until ctx ends; then it
// returns nil. work's context ends with the leadership; an error of it is told, and gives
// the leadership away.
func (c *cluster) lead(ctx context.Context, work func(context.Context) error) error {
	name := c.options.Pod
	if name == "" {
		name = "egretd"
	}
	lock := &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: c.options.Namespace, Name: "istio-leader-" + c.options.Revision},
		Client:     c.client.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: name + "-" + rand.String(8)},
	}
	for ctx.Err() == nil {
		if err := c.leadOnce(ctx, lock, work); err != nil {
			return err
		}
	}
	return nil
}

// leadOnce is one election, and the leadership that comes of it.
func (c *cluster) leadOnce(ctx context.Context, lock resourcelock.Interface, work func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	started := make(chan context.Context, 1)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock, Name: "egretd", LeaseDuration: leaseLife, RenewDeadline: leaseRenew, RetryPeriod: leaseRetry, ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) { started <- ctx },
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("leader election: %w", err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); elector.Run(ctx) }()
	select {
	case <-ended:
		return nil
	case leading := <-started:
		c.log.Info("this replica leads", "lease", lock.Describe())
		if err := work(leading); err != nil {
			c.log.Error("the leader's work ended", "error", err)
		}
		cancel()
		<-ended
		return nil
	}
}
