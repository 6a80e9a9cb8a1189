package egretd

import (
	"context"
	"crypto/tls"

	"google.golang.org/grpc"
)

// identity is who the control plane is to others, and what it says about who they are.
type identity struct {
	// tls has the certificate for xDS and webhooks, and may ask clients for theirs; nil:
	// neither is served.
	tls *tls.Config
	// options are further ones for xDS with TLS: interceptors that say who may connect.
	options []grpc.ServerOption
	// register adds what is served beside ADS (IstioCertificateService); may be nil.
	register func(grpc.ServiceRegistrar)
	// run keeps it up to date until ctx ends; may be nil.
	run func(ctx context.Context) error
}

// newIdentity makes the control plane's identity in the cluster.
func newIdentity(context.Context, *cluster) (*identity, error) { return &identity{}, nil }
