package egretd

import (
	"context"
	"net/http"

	"golang.org/x/sync/errgroup"
)

// Admission is the part of the control plane that the API server asks, for tests.
type Admission struct{ *admission }

// NewAdmission makes it, with a view of the cluster of its own.
func NewAdmission(o ClusterOptions) (*Admission, error) {
	c, err := newCluster(o)
	if err != nil {
		return nil, err
	}
	return &Admission{newAdmission(c)}, nil
}

// Mux has the webhooks' paths.
func (a *Admission) Mux() *http.ServeMux { return a.mux() }

// Ready reports whether pods can be injected.
func (a *Admission) Ready() bool { return a.handler.Ready() }

// Run follows the cluster until ctx ends.
func (a *Admission) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.world.Run(ctx) })
	g.Go(func() error { return a.run(ctx) })
	return g.Wait()
}
