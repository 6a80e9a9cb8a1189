package identity

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	security "istio.io/api/security/v1alpha1"
)

// Lifetimes of certificates of workloads, Istio's (WORKLOAD_CERT_TTL, MAX_WORKLOAD_CERT_TTL).
const (
	DefaultLifetime = 24 * time.Hour
	MaxLifetime     = 90 * 24 * time.Hour
)

// Names of fields of a request's metadata (istio.io/istio/pkg/security).
const (
	metadataSigner        = "CertSigner"
	metadataImpersonation = "ImpersonatedIdentity"
)

// Service signs for its callers. It implements istio.v1.auth.IstioCertificateService.
type Service struct {
	security.UnimplementedIstioCertificateServiceServer
	Callers *Callers
	// Lifetime is what a certificate gets whose request says nothing; MaxLifetime is the
	// most. 0: Istio's.
	Lifetime, MaxLifetime time.Duration
	Logger                *slog.Logger
}

// Register adds the service to a gRPC server. It asks for no interceptor: each call is
// authenticated here.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	security.RegisterIstioCertificateServiceServer(r, s)
}

// CreateCertificate signs the key of the request for the identity of the caller, whatever
// names the request has.
func (s *Service) CreateCertificate(ctx context.Context, r *security.IstioCertificateRequest) (*security.IstioCertificateResponse, error) {
	s.Callers.Counts.requests.Add(1)
	id, err := s.Callers.Caller(ctx)
	if err != nil {
		return nil, err
	}
	chain, life, refusal := s.sign(id, r, time.Now())
	if refusal != nil {
		refusal.Detail += " (asked by " + id.String() + ")"
		return nil, s.Callers.Refuse(ctx, refusal)
	}
	s.Callers.Counts.issued.Add(1)
	s.Logger.Debug("certificate issued", "id", id, "life", life)
	return &security.IstioCertificateResponse{CertChain: chain}, nil
}

func (s *Service) sign(id ID, r *security.IstioCertificateRequest, now time.Time) ([]string, time.Duration, *Refusal) {
	usual, most := s.Lifetime, s.MaxLifetime
	if usual == 0 {
		usual = DefaultLifetime
	}
	if most == 0 {
		most = MaxLifetime
	}
	fields := r.GetMetadata().GetFields()
	if signer := fields[metadataSigner].GetStringValue(); signer != "" {
		return nil, 0, refuse(UnknownSigner, "%.100q; the mesh's own authority is the only one", signer)
	}
	if other := fields[metadataImpersonation].GetStringValue(); other != "" {
		return nil, 0, refuse(ImpersonationDenied, "a certificate of %.300q is asked for", other)
	}
	life, refusal := lifetime(r.GetValidityDuration(), usual, most)
	if refusal != nil {
		return nil, 0, refusal
	}
	key, refusal := readRequest(r.GetCsr())
	if refusal != nil {
		return nil, 0, refusal
	}
	authority := s.Callers.Authority.Get()
	if authority == nil {
		return nil, 0, refuse(AuthorityNotReady, "there is no authority yet")
	}
	chain, err := authority.Sign(id, key, life, now)
	if err != nil {
		return nil, 0, refuse(AuthorityNotReady, "%v", err)
	}
	return chain, life, nil
}
