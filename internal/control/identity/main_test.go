package identity

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const mesh = "cluster.local"

// selfSigned is an authority that is there since a day.
func selfSigned(t testing.TB, now time.Time) (*Authority, map[string][]byte) {
	t.Helper()
	files, err := NewSelfSigned(mesh, 10*365*24*time.Hour, nil, now.Add(-24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return authorityOf(t, files, now), files
}

func authorityOf(t testing.TB, files map[string][]byte, now time.Time) *Authority {
	t.Helper()
	a, err := NewAuthority(files, now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func newKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func requestFor(t testing.TB, key crypto.Signer, template x509.CertificateRequest) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// plane is an authority with who may call it: tokens, and whose they are.
type plane struct {
	keeper  *Keeper
	callers *Callers
	tokens  map[string]Review
	asked   int
	away    bool
}

func newPlane(t testing.TB) *plane {
	t.Helper()
	p := &plane{keeper: &Keeper{}, tokens: map[string]Review{}}
	a, _ := selfSigned(t, time.Now())
	p.keeper.Put(a)
	p.callers = &Callers{
		Authority: p.keeper, TrustDomain: func() string { return mesh }, ClusterID: "Kubernetes", Counts: NewCounts(p.keeper),
		Logger: slog.New(slog.DiscardHandler),
		Tokens: NewReviews(func(_ context.Context, token string, _ []string) (Review, error) {
			if p.asked++; p.away {
				return Review{}, errors.New("connection refused")
			}
			return p.tokens[token], nil
		}, "istio-ca"),
	}
	p.tokens["good"] = Review{Authenticated: true, User: "system:serviceaccount:default:sleep", Audiences: []string{"istio-ca"}}
	return p
}

// calling is the context of a call with headers, and a client certificate unless nil.
func calling(cert *tls.Certificate, headers ...string) context.Context {
	p := &peer.Peer{}
	if cert != nil {
		state := tls.ConnectionState{}
		for _, der := range cert.Certificate {
			c, err := x509.ParseCertificate(der)
			if err != nil {
				return nil
			}
			state.PeerCertificates = append(state.PeerCertificates, c)
		}
		p.AuthInfo = credentials.TLSInfo{State: state}
	}
	return metadata.NewIncomingContext(peer.NewContext(context.Background(), p), metadata.Pairs(headers...))
}

// show is the certificate of an identity, to show to servers.
func show(t testing.TB, a *Authority, id ID, life time.Duration, now time.Time) *tls.Certificate {
	t.Helper()
	key := newKey(t, elliptic.P256())
	chain, err := a.Sign(id, key.Public(), life, now)
	if err != nil {
		t.Fatal(err)
	}
	out := &tls.Certificate{PrivateKey: key}
	for _, text := range chain[:1+len(a.between)] {
		block, _ := pem.Decode([]byte(text))
		out.Certificate = append(out.Certificate, block.Bytes)
	}
	return out
}
