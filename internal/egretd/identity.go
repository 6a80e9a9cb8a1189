package egretd

import (
	"cmp"
	"context"
	"crypto/tls"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	authority "github.com/egret-mesh/egret/internal/control/identity"
	"github.com/egret-mesh/egret/internal/control/kube"
	"github.com/egret-mesh/egret/internal/control/trust"
	"github.com/egret-mesh/egret/internal/control/xdsgen"
)

// servingLife is how long the control plane's own certificate is valid; it is renewed at
// half of that.
const servingLife = 24 * time.Hour

// identity is who the control plane is to others, and what it says about who they are.
type identity struct {
	// webhooks and proxies have the certificate for the webhooks, and for xDS, whose clients
	// may show theirs.
	webhooks, proxies *tls.Config
	keeper            *authority.Keeper
	service           *authority.Service
	counts            *authority.Counts
	options           trust.Options
}

// newIdentity makes the control plane's identity in the cluster. run gives it its key.
func newIdentity(c *cluster) *identity {
	keeper := &authority.Keeper{}
	o := c.options
	serving := authority.NewServing(keeper, authority.ServerNames(o.Namespace, o.Revision, o.Domain), servingLife)
	counts := authority.NewCounts(keeper)
	callers := &authority.Callers{
		Authority: keeper, Tokens: authority.NewReviews(trust.Reviewer(c.client), trust.Audience),
		TrustDomain: func() string { return trustDomain(c.world) }, ClusterID: o.ClusterID, Counts: counts, Logger: c.log,
	}
	return &identity{
		webhooks: serving.TLS(), proxies: serving.MutualTLS(), keeper: keeper, counts: counts,
		service: &authority.Service{Callers: callers, Logger: c.log},
		options: trust.Options{
			Client: c.client, Dynamic: c.dynamic, Namespace: o.Namespace, Revision: o.Revision,
			Organization: "cluster.local", Keeper: keeper, Logger: c.log,
		},
	}
}

// trustDomain is MeshConfig's; Istio's default is cluster.local.
func trustDomain(world *kube.Cluster) string {
	if m := world.Current().Objects.MeshConfig; m != nil {
		return cmp.Or(m.Spec.GetTrustDomain(), "cluster.local")
	}
	return "cluster.local"
}

// run keeps the authority until ctx ends, and what the cluster has of it.
func (i *identity) run(ctx context.Context, c *cluster) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return trust.Authority(ctx, i.options) })
	g.Go(func() error {
		// Each revision has webhooks of its own; what several write into namespaces is the same.
		election := kube.Election{Name: "istio-leader-" + c.options.Revision, Identity: c.options.Pod}
		return c.world.Lead(ctx, election, func(ctx context.Context) {
			g, ctx := errgroup.WithContext(ctx)
			g.Go(func() error { return trust.RootsConfigMaps(ctx, i.options) })
			g.Go(func() error { return trust.Webhooks(ctx, i.options) })
			if err := g.Wait(); err != nil {
				c.log.Error("the roots cannot be written into the cluster", "error", err)
			}
		})
	})
	return g.Wait()
}

// ready waits until there is an authority; false: ctx ended before.
func (i *identity) ready(ctx context.Context) bool {
	for {
		changed := i.keeper.Changed()
		if i.keeper.Get() != nil {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// serverOptions let proxies in that prove their identity.
func (i *identity) serverOptions() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.Creds(credentials.NewTLS(i.proxies)), grpc.StreamInterceptor(i.service.Callers.Stream)}
}

// admit says whether a stream may have a node's configuration. Where nobody has asked who
// calls, in plain text, everybody may, as in Istio.
func (i *identity) admit(ctx context.Context, n *corev3.Node) error {
	id, known := authority.From(ctx)
	if !known {
		return nil
	}
	node, err := xdsgen.DecodeNode(n)
	if err == nil {
		err = id.Authorize(node.Namespace, n.GetMetadata().GetFields()["SERVICE_ACCOUNT"].GetStringValue())
	}
	if err != nil {
		return i.service.Callers.Refuse(ctx, &authority.Refusal{Reason: authority.IdentityMismatch, Detail: err.Error()})
	}
	return nil
}
