package identity

import (
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Reason is why a caller is refused: in the log, in the metric and in the answer.
type Reason string

// The reasons, all of them.
const (
	NoCredentials       Reason = "no_credentials"         // neither a token nor a certificate
	TokenMalformed      Reason = "token_malformed"        // or more than one
	TokenRejected       Reason = "token_rejected"         // the API server does not know it
	TokenAudience       Reason = "token_audience"         // it is for somebody else
	TokenUnchecked      Reason = "token_unchecked"        // the API server did not answer
	NotAServiceAccount  Reason = "not_a_service_account"  // but another user of the cluster
	UnknownCluster      Reason = "unknown_cluster"        // the token is of another one
	NotAWorkload        Reason = "not_a_workload"         // the certificate names none of this mesh
	IdentityMismatch    Reason = "identity_mismatch"      // the node says that it is another
	ImpersonationDenied Reason = "impersonation_denied"   // a certificate for another is asked for
	UnknownSigner       Reason = "unknown_signer"         // CertSigner names one that is not here
	RequestTooLarge     Reason = "csr_too_large"          // see maxRequest
	RequestMalformed    Reason = "csr_malformed"          // not a certificate request
	RequestSignature    Reason = "csr_signature"          // the caller does not have the key
	RequestKey          Reason = "csr_key"                // of a kind or size that is not taken
	LifetimeTooLong     Reason = "lifetime_too_long"      // more than the maximum
	AuthorityNotReady   Reason = "authority_not_ready"    // expired, or there is none
	TooManyReviews      Reason = "too_many_token_reviews" // at a time
)

// Reasons are all reasons.
func Reasons() []Reason {
	return []Reason{
		NoCredentials, TokenMalformed, TokenRejected, TokenAudience, TokenUnchecked, NotAServiceAccount, UnknownCluster,
		NotAWorkload, IdentityMismatch, ImpersonationDenied, UnknownSigner, RequestTooLarge, RequestMalformed,
		RequestSignature, RequestKey, LifetimeTooLong, AuthorityNotReady, TooManyReviews,
	}
}

// code is the status that gRPC tells. Who should try again, because it is no fault of the
// caller's, gets Unavailable.
func (r Reason) code() codes.Code {
	switch r {
	case NoCredentials, TokenMalformed, TokenRejected, TokenAudience, NotAServiceAccount, UnknownCluster, NotAWorkload:
		return codes.Unauthenticated
	case IdentityMismatch, ImpersonationDenied:
		return codes.PermissionDenied
	case TokenUnchecked, AuthorityNotReady, TooManyReviews:
		return codes.Unavailable
	}
	return codes.InvalidArgument
}

// Refusal is the error of who is refused.
type Refusal struct {
	Reason Reason
	Detail string
}

func refuse(r Reason, format string, a ...any) *Refusal {
	return &Refusal{Reason: r, Detail: fmt.Sprintf(format, a...)}
}

// Error implements error.
func (r *Refusal) Error() string { return string(r.Reason) + ": " + r.Detail }

// GRPCStatus is how gRPC sends it.
func (r *Refusal) GRPCStatus() *status.Status { return status.New(r.Reason.code(), r.Error()) }
