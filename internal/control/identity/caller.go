package identity

import (
	"context"
	"crypto/tls"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// maxToken bounds a token, in bytes.
const maxToken = 16 << 10

const bearer = "Bearer "

// Callers finds out who calls. A caller proves its identity with a client certificate of the
// mesh, or with a token of its service account.
type Callers struct {
	Authority *Keeper
	Tokens    *Reviews
	// TrustDomain of the mesh.
	TrustDomain func() string
	// ClusterID is what callers call this cluster; others are refused.
	ClusterID string
	Counts    *Counts
	Logger    *slog.Logger
}

type callerKey struct{}

// From is who a stream's caller is; false where nobody has asked (see Stream).
func From(ctx context.Context) (ID, bool) {
	id, ok := ctx.Value(callerKey{}).(ID)
	return id, ok
}

// Stream lets only callers in that prove their identity, and tells handlers who it is (From).
func (c *Callers) Stream(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	id, err := c.Caller(s.Context())
	if err != nil {
		return err
	}
	return next(srv, &identified{s, context.WithValue(s.Context(), callerKey{}, id)})
}

type identified struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *identified) Context() context.Context { return s.ctx }

// Caller is who makes a call. Its errors are Refusals; they are told and counted here.
func (c *Callers) Caller(ctx context.Context) (ID, error) {
	id, refusal := c.find(ctx)
	if refusal != nil {
		c.Counts.authentication.Add(1)
		return ID{}, c.Refuse(ctx, refusal)
	}
	return id, nil
}

// Refuse tells and counts a refusal, and returns it.
func (c *Callers) Refuse(ctx context.Context, r *Refusal) error {
	c.Counts.refused(r.Reason)
	remote := ""
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		remote = p.Addr.String()
	}
	c.Logger.Warn("caller refused", "reason", string(r.Reason), "detail", r.Detail, "remote", remote)
	return r.GRPCStatus().Err()
}

func (c *Callers) find(ctx context.Context) (ID, *Refusal) {
	token, refusal := bearerToken(ctx)
	if state, ok := handshake(ctx); ok && len(state.PeerCertificates) > 0 {
		id, notOurs := c.byCertificate(state)
		if notOurs == nil || refusal != nil {
			return id, notOurs
		}
		// The certificate expired on an open connection, but there is a token.
	}
	if refusal != nil {
		return ID{}, refusal
	}
	md, _ := metadata.FromIncomingContext(ctx)
	for _, cluster := range md.Get("clusterid") {
		if cluster != "" && cluster != c.ClusterID {
			return ID{}, refuse(UnknownCluster, "%.100q; this is %q", cluster, c.ClusterID)
		}
	}
	user, refusal := c.Tokens.user(ctx, token)
	if refusal != nil {
		return ID{}, refusal
	}
	id, err := parseUser(c.TrustDomain(), user)
	if err != nil {
		return ID{}, refuse(NotAServiceAccount, "%.100q: %v", user, err)
	}
	return id, nil
}

func handshake(ctx context.Context) (tls.ConnectionState, bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return tls.ConnectionState{}, false
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	return info.State, ok
}

// byCertificate judges a client's certificate again: the connection may be older than the
// certificate's end, or than the roots of today.
func (c *Callers) byCertificate(state tls.ConnectionState) (ID, *Refusal) {
	authority := c.Authority.Get()
	if authority == nil {
		return ID{}, refuse(AuthorityNotReady, "there is no authority yet")
	}
	leaf, err := authority.verify(state.PeerCertificates, time.Now())
	if err != nil {
		return ID{}, refuse(NotAWorkload, "%v", err)
	}
	if len(leaf.URIs) != 1 {
		return ID{}, refuse(NotAWorkload, "the certificate has %d URIs, not one", len(leaf.URIs))
	}
	id, err := ParseID(leaf.URIs[0].String())
	if err != nil {
		return ID{}, refuse(NotAWorkload, "%v", err)
	}
	if mesh := c.TrustDomain(); id.TrustDomain != mesh {
		return ID{}, refuse(NotAWorkload, "the certificate is of trust domain %q; this is %q", id.TrustDomain, mesh)
	}
	return id, nil
}

// bearerToken is the one token of a call.
func bearerToken(ctx context.Context) (string, *Refusal) {
	md, _ := metadata.FromIncomingContext(ctx)
	token := ""
	for _, value := range md.Get("authorization") {
		rest, ok := strings.CutPrefix(value, bearer)
		if !ok {
			continue
		}
		if token != "" {
			return "", refuse(TokenMalformed, "more than one token")
		}
		if token = rest; token == "" {
			return "", refuse(TokenMalformed, "an empty token")
		}
	}
	if token == "" {
		return "", refuse(NoCredentials, "neither a token nor a certificate of the mesh")
	}
	return token, checkToken(token)
}

// checkToken refuses what cannot be a token (RFC 6750, 2.1: b64token) before anybody is
// asked about it.
func checkToken(token string) *Refusal {
	if len(token) > maxToken {
		return refuse(TokenMalformed, "%d bytes, at most %d are taken", len(token), maxToken)
	}
	for _, b := range []byte(token) {
		ok := b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || strings.IndexByte("-._~+/=", b) >= 0
		if !ok {
			return refuse(TokenMalformed, "the byte %q is in no token", b)
		}
	}
	return nil
}
