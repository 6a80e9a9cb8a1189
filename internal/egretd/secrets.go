package egretd

import (
	"context"

	"golang.org/x/sync/errgroup"

	authority "github.com/egret-mesh/egret/internal/control/identity"
	"github.com/egret-mesh/egret/internal/control/kube"
	"github.com/egret-mesh/egret/internal/control/sds"
	"github.com/egret-mesh/egret/internal/control/trust"
)

// newSecrets makes what gives proxies the Secrets that credentialName names: to who has
// proven to be of their namespace, and may list them. run keeps it going.
func newSecrets(c *cluster) (secrets *sds.Server, run func(context.Context) error) {
	followed := kube.NewSecrets(kube.Options{Client: c.client, Logger: c.log})
	secrets = sds.New(sds.Options{
		Secrets: followed, Review: trust.SecretsReviewer(c.client), Caller: account, Logger: c.log,
	})
	return secrets, func(ctx context.Context) error {
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return followed.Run(ctx) })
		g.Go(func() error { return secrets.Run(ctx) })
		return g.Wait()
	}
}

// account is who has proven to be at the other end of a stream. In plain text nobody has.
func account(ctx context.Context) (sds.Account, bool) {
	id, proven := authority.From(ctx)
	return sds.Account{Namespace: id.Namespace, Name: id.ServiceAccount}, proven
}
