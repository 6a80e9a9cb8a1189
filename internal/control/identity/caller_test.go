package identity

import (
	"context"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	security "istio.io/api/security/v1alpha1"
)

func TestCaller(t *testing.T) {
	now := time.Now()
	p := newPlane(t)
	stranger, _ := selfSigned(t, now)
	a, sleep := p.keeper.Get(), ID{mesh, "default", "sleep"}
	review := func(r Review) string {
		token := fmt.Sprintf("token-%d", len(p.tokens))
		p.tokens[token] = r
		return bearer + token
	}
	audience := []string{"istio-ca"}
	server := &tls.Certificate{Certificate: [][]byte{serverCertificate(t, p.keeper)}}
	for name, tc := range map[string]struct {
		ctx  context.Context
		id   ID
		want Reason
	}{
		"a token":                 {calling(nil, "authorization", "Bearer good", "clusterid", "Kubernetes"), sleep, ""},
		"without its cluster":     {calling(nil, "authorization", "Bearer good"), sleep, ""},
		"beside Basic":            {calling(nil, "authorization", "Basic eDp5", "authorization", "Bearer good"), sleep, ""},
		"of another cluster":      {calling(nil, "authorization", "Bearer good", "clusterid", "east"), ID{}, UnknownCluster},
		"nothing":                 {calling(nil), ID{}, NoCredentials},
		"no call at all":          {context.Background(), ID{}, NoCredentials},
		"only Basic":              {calling(nil, "authorization", "Basic eDp5"), ID{}, NoCredentials},
		"an empty token":          {calling(nil, "authorization", "Bearer "), ID{}, TokenMalformed},
		"two tokens":              {calling(nil, "authorization", "Bearer good", "authorization", "Bearer good"), ID{}, TokenMalformed},
		"a token with spaces":     {calling(nil, "authorization", "Bearer go od"), ID{}, TokenMalformed},
		"a token without end":     {calling(nil, "authorization", bearer+strings.Repeat("a", maxToken+1)), ID{}, TokenMalformed},
		"an unknown token":        {calling(nil, "authorization", "Bearer bad"), ID{}, TokenRejected},
		"an expired token":        {calling(nil, "authorization", review(Review{Error: "token has expired"})), ID{}, TokenRejected},
		"for the API server":      {calling(nil, "authorization", review(Review{Authenticated: true, User: "system:serviceaccount:a:b", Audiences: []string{"https://kubernetes.default.svc"}})), ID{}, TokenAudience},
		"for nobody":              {calling(nil, "authorization", review(Review{Authenticated: true, User: "system:serviceaccount:a:b"})), ID{}, TokenAudience},
		"a person":                {calling(nil, "authorization", review(Review{Authenticated: true, User: "admin", Audiences: audience})), ID{}, NotAServiceAccount},
		"a name with a path":      {calling(nil, "authorization", review(Review{Authenticated: true, User: "system:serviceaccount:a:b/sa/c", Audiences: audience})), ID{}, NotAServiceAccount},
		"a certificate":           {calling(show(t, a, ID{mesh, "x", "y"}, time.Hour, now)), ID{mesh, "x", "y"}, ""},
		"it before the token":     {calling(show(t, a, ID{mesh, "x", "y"}, time.Hour, now), "authorization", "Bearer good"), ID{mesh, "x", "y"}, ""},
		"expired since":           {calling(show(t, a, ID{mesh, "x", "y"}, time.Hour, now.Add(-2*time.Hour))), ID{}, NotAWorkload},
		"expired, with a token":   {calling(show(t, a, ID{mesh, "x", "y"}, time.Hour, now.Add(-2*time.Hour)), "authorization", "Bearer good"), sleep, ""},
		"of another authority":    {calling(show(t, stranger, ID{mesh, "x", "y"}, time.Hour, now)), ID{}, NotAWorkload},
		"of another domain":       {calling(show(t, a, ID{"other", "x", "y"}, time.Hour, now)), ID{}, NotAWorkload},
		"the control plane's own": {calling(server), ID{}, NotAWorkload},
	} {
		id, err := p.callers.Caller(tc.ctx)
		if id != tc.id || (err == nil) != (tc.want == "") || err != nil && !strings.HasPrefix(status.Convert(err).Message(), string(tc.want)+": ") {
			t.Errorf("%s: %v, %v; want %q", name, id, err, tc.want)
		}
		if tc.want != "" && (status.Code(err) != codes.Unauthenticated || p.callers.Counts.Refused(tc.want) == 0) {
			t.Errorf("%s: %s, counted %d", name, status.Code(err), p.callers.Counts.Refused(tc.want))
		}
	}
}

func serverCertificate(t *testing.T, k *Keeper) []byte {
	t.Helper()
	cert, err := NewServing(k, ServerNames("istio-system", "default", mesh), time.Hour).Certificate()
	if err != nil {
		t.Fatal(err)
	}
	return cert.Certificate[0]
}

// An API server that is away lets nobody in, but who it has just let in; when it is back the
// next call is answered anew.
func TestReviews(t *testing.T) {
	p := newPlane(t)
	now := time.Now()
	p.callers.Tokens.now = func() time.Time { return now }
	call := func(token string) codes.Code {
		_, err := p.callers.Caller(calling(nil, "authorization", bearer+token))
		return status.Code(err)
	}
	p.away = true
	if got := call("good"); got != codes.Unavailable {
		t.Errorf("while the API server is away: %s", got)
	}
	p.away = false
	for range 5 {
		if got := call("good"); got != codes.OK {
			t.Errorf("when it is back: %s", got)
		}
	}
	if p.asked != 2 {
		t.Errorf("asked %d times", p.asked)
	}
	p.away = true
	if got := call("good"); got != codes.OK {
		t.Errorf("what was just said: %s", got)
	}
	now = now.Add(reviewLife)
	if got := call("good"); got != codes.Unavailable {
		t.Errorf("what was said long ago: %s", got)
	}
	p.away = false
	for i := range maxReviews + 100 {
		call(fmt.Sprintf("guess%d", i))
	}
	if n := len(p.callers.Tokens.known); n != maxReviews || p.callers.Tokens.order.Len() != n {
		t.Errorf("%d answers are kept", n)
	}
	now = now.Add(reviewLife)
	call("good")
	if n := len(p.callers.Tokens.known); n != 1 {
		t.Errorf("%d answers are kept that are too old", n)
	}
}

// Who asks gets a certificate for itself, whatever it asks for.
func TestCreateCertificate(t *testing.T) {
	p := newPlane(t)
	s := &Service{Callers: p.callers, Logger: p.callers.Logger}
	key := newKey(t, elliptic.P256())
	admin := ID{mesh, "istio-system", "admin"}
	csr := requestFor(t, key, x509.CertificateRequest{URIs: []*url.URL{admin.url()}, DNSNames: []string{"istiod.istio-system.svc"}})
	meta := func(k string) *structpb.Struct {
		return &structpb.Struct{Fields: map[string]*structpb.Value{k: structpb.NewStringValue(admin.String())}}
	}
	good := calling(nil, "authorization", "Bearer good")
	for name, tc := range map[string]struct {
		ctx  context.Context
		r    *security.IstioCertificateRequest
		life time.Duration
		code codes.Code
		want Reason
	}{
		"another's name":   {good, &security.IstioCertificateRequest{Csr: csr}, 24 * time.Hour, codes.OK, ""},
		"an hour":          {good, &security.IstioCertificateRequest{Csr: csr, ValidityDuration: 3600}, time.Hour, codes.OK, ""},
		"a year":           {good, &security.IstioCertificateRequest{Csr: csr, ValidityDuration: 365 * 24 * 3600}, 0, codes.InvalidArgument, LifetimeTooLong},
		"for another":      {good, &security.IstioCertificateRequest{Csr: csr, Metadata: meta("ImpersonatedIdentity")}, 0, codes.PermissionDenied, ImpersonationDenied},
		"another signer":   {good, &security.IstioCertificateRequest{Csr: csr, Metadata: meta("CertSigner")}, 0, codes.InvalidArgument, UnknownSigner},
		"not a request":    {good, &security.IstioCertificateRequest{Csr: "x"}, 0, codes.InvalidArgument, RequestMalformed},
		"nobody":           {calling(nil), &security.IstioCertificateRequest{Csr: csr}, 0, codes.Unauthenticated, NoCredentials},
		"by a certificate": {calling(show(t, p.keeper.Get(), ID{mesh, "default", "sleep"}, time.Hour, time.Now())), &security.IstioCertificateRequest{Csr: csr}, 24 * time.Hour, codes.OK, ""},
	} {
		before := p.callers.Counts.Refused(tc.want)
		r, err := s.CreateCertificate(tc.ctx, tc.r)
		if status.Code(err) != tc.code {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err != nil {
			if !strings.HasPrefix(status.Convert(err).Message(), string(tc.want)+": ") || p.callers.Counts.Refused(tc.want) != before+1 {
				t.Errorf("%s: %v, want %s", name, err, tc.want)
			}
			continue
		}
		leaf := mustBeFor(t, r.CertChain, ID{mesh, "default", "sleep"})
		if !key.PublicKey.Equal(leaf.PublicKey) || time.Until(leaf.NotAfter).Round(time.Hour) != tc.life {
			t.Errorf("%s: until %s", name, leaf.NotAfter)
		}
	}
	p.keeper.Put(nil)
	if _, err := s.CreateCertificate(good, &security.IstioCertificateRequest{Csr: csr}); status.Code(err) != codes.Unavailable {
		t.Errorf("without an authority: %v", err)
	}
}

// The control plane shows a certificate for its names, another one when the authority is
// another or half of its life is over, and takes clients of the mesh only.
func TestServing(t *testing.T) {
	now := time.Now()
	p := newPlane(t)
	s := NewServing(p.keeper, ServerNames("istio-system", "canary", mesh), 24*time.Hour)
	s.now = func() time.Time { return now }
	first := mustServe(t, s)
	if again := mustServe(t, s); again != first {
		t.Error("each handshake makes a certificate")
	}
	for _, name := range []string{"istiod.istio-system.svc", "istiod.istio-system.svc.cluster.local", "istiod-canary.istio-system.svc", "istio-pilot.istio-system.svc", "istiod"} {
		if _, err := first.Leaf.Verify(x509.VerifyOptions{Roots: p.keeper.Get().Pool(), DNSName: name, CurrentTime: now}); err != nil {
			t.Error(err)
		}
	}
	now = now.Add(13 * time.Hour)
	second := mustServe(t, s)
	if second == first || !second.Leaf.NotAfter.After(first.Leaf.NotAfter) {
		t.Error("not renewed at half of its life")
	}
	old := p.keeper.Get()
	changed := p.keeper.Changed()
	a, _ := selfSigned(t, now)
	p.keeper.Put(a)
	<-changed
	if third := mustServe(t, s); third == second || a.pool.Equal(old.pool) || third.Leaf.CheckSignatureFrom(a.cert) != nil {
		t.Error("not renewed when the authority is another")
	}
	for name, tc := range map[string]struct {
		cert *tls.Certificate
		ok   bool
	}{
		"nothing":                  {nil, true},
		"ours":                     {show(t, a, ID{mesh, "a", "b"}, time.Hour, now), true},
		"of the authority before":  {show(t, old, ID{mesh, "a", "b"}, time.Hour, now), false},
		"ours, but of a past time": {show(t, a, ID{mesh, "a", "b"}, time.Minute, now.Add(-time.Hour)), false},
	} {
		err := shake(t, s.MutualTLS(), tc.cert)
		if (err == nil) != tc.ok {
			t.Errorf("a client that shows %s: %v", name, err)
		}
	}
}

func mustServe(t *testing.T, s *Serving) *tls.Certificate {
	t.Helper()
	c, err := s.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// shake is what a server says of a handshake.
func shake(t *testing.T, config *tls.Config, cert *tls.Certificate) error {
	t.Helper()
	ours, theirs := net.Pipe()
	client := &tls.Config{InsecureSkipVerify: true} // the server is what is tested
	if cert != nil {
		client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c := tls.Client(theirs, client)
		_ = c.Handshake()
		_, _ = c.Read(make([]byte, 1)) // what the server says last
	}()
	server := tls.Server(ours, config)
	err := server.Handshake()
	_, _ = ours.Close(), theirs.Close()
	<-ended
	return err
}

// Who the reader of headers takes for a token's bearer is who sent the token, and nothing
// else of a call can be a token.
func FuzzToken(f *testing.F) {
	f.Add("Bearer good", "Basic x")
	f.Add("Bearer  good", "")
	f.Add("bearer good", "Bearer \x00")
	f.Fuzz(func(t *testing.T, one, two string) {
		md := metadata.MD{"authorization": {one, two}}
		token, refusal := bearerToken(metadata.NewIncomingContext(context.Background(), md))
		if refusal != nil {
			return
		}
		if token == "" || len(token) > maxToken || strings.ContainsAny(token, " \t\r\n\x00,;") || one != bearer+token && two != bearer+token {
			t.Errorf("%q and %q give %q", one, two, token)
		}
	})
}

func TestReasonsAreAllTold(t *testing.T) {
	seen := map[Reason]bool{}
	for _, r := range Reasons() {
		if seen[r] || refuse(r, "x").GRPCStatus().Code() == codes.OK {
			t.Errorf("%s", r)
		}
		seen[r] = true
	}
	if diff := cmp.Diff(codes.PermissionDenied, status.Code(refuse(IdentityMismatch, "x").GRPCStatus().Err())); diff != "" {
		t.Error(diff)
	}
}
