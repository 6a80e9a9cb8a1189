// Package trust is where a cluster keeps what the mesh trusts: the authority's key in a
// Secret, its roots in a ConfigMap of each namespace and in the configurations of the
// webhooks; and it has the API server review tokens.
//
// It must not decide who is trusted, or sign: that is identity's.
package trust

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/egret-mesh/egret/internal/backoff"
	"github.com/egret-mesh/egret/internal/control/identity"
)

// Options of the package's parts. Client, Keeper and Logger are needed; Dynamic by Webhooks.
type Options struct {
	Client  kubernetes.Interface
	Dynamic dynamic.Interface
	// Namespace has the control plane and the authority's Secret; Revision says which
	// webhooks are its own.
	Namespace, Revision string
	// Organization is the name of an authority that signs itself: Istio has the trust domain.
	Organization string
	// Keeper gets the authority, and tells what is to be written.
	Keeper *identity.Keeper
	Logger *slog.Logger
	// MinPause and MaxPause bound the pause after the API server has failed; 0: 200 ms and
	// 10 s.
	MinPause, MaxPause time.Duration
}

// pause waits before the API server is asked again.
func (o Options) pause(ctx context.Context, failures int) {
	least, most := o.MinPause, o.MaxPause
	if least == 0 {
		least = 200 * time.Millisecond
	}
	if most == 0 {
		most = 10 * time.Second
	}
	wait(ctx, backoff.Pause(failures, least, most, rand.Float64()))
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
