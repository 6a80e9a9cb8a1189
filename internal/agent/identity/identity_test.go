package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	security "istio.io/api/security/v1alpha1"
)

// The messages are those of Istio's own contract.
func TestContract(t *testing.T) {
	meta := &structpb.Struct{Fields: map[string]*structpb.Value{"CertSigner": structpb.NewStringValue("a")}}
	b, err := (&certificateRequest{csr: "PEM", seconds: 86400, metadata: meta}).encode()
	if err != nil {
		t.Fatal(err)
	}
	var got security.IstioCertificateRequest
	if err := proto.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if want := (&security.IstioCertificateRequest{Csr: "PEM", ValidityDuration: 86400, Metadata: meta}); !proto.Equal(want, &got) {
		t.Errorf("request: %v", &got)
	}
	if b, err = proto.Marshal(&security.IstioCertificateResponse{CertChain: []string{"leaf", "", "root"}}); err != nil {
		t.Fatal(err)
	}
	var r certificateResponse
	if err := r.decode(b); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"leaf", "", "root"}, r.chain); diff != "" {
		t.Error(diff)
	}
}

// What a control plane may answer with neither panics nor grows.
func FuzzAnswer(f *testing.F) {
	good, err := proto.Marshal(&security.IstioCertificateResponse{CertChain: []string{"-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{10, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var r certificateResponse
		if r.decode(b) != nil {
			return
		}
		var want security.IstioCertificateResponse
		if proto.Unmarshal(b, &want) == nil && !cmp.Equal(want.CertChain, r.chain) {
			t.Errorf("%q, protobuf reads %q", r.chain, want.CertChain)
		}
		if chain, err := parseChain(r.chain); err == nil && (len(chain) < 2 || len(chain) > maxChain) {
			t.Errorf("%d certificates", len(chain))
		}
	})
}

func TestDue(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	o := Options{Grace: 0.5, Jitter: 0.01, MinBackoff: time.Second}
	for name, tc := range map[string]struct {
		life   time.Duration
		random float64
		want   time.Duration
	}{
		"at half of its life":        {24 * time.Hour, 0.5, 12 * time.Hour},
		"as early as jitter has it":  {100 * time.Minute, 1, 49 * time.Minute},
		"as late as jitter has it":   {100 * time.Minute, 0, 51 * time.Minute},
		"not without end":            {time.Millisecond, 0.5, time.Second},
		"one that is at its end now": {-time.Hour, 0.5, time.Second},
	} {
		if got := o.due(now, now.Add(tc.life), tc.random).Sub(now); got.Round(time.Millisecond) != tc.want {
			t.Errorf("%s: after %s, want %s", name, got, tc.want)
		}
	}
}

// An authority may be wrong: what was not asked for is not taken.
func TestAccept(t *testing.T) {
	id, other := mustURL(t, "spiffe://cluster.local/ns/a/sa/b"), mustURL(t, "spiffe://cluster.local/ns/a/sa/admin")
	key, csr, err := newRequest(id)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(csr))
	if request, err := x509.ParseCertificateRequest(block.Bytes); err != nil || len(request.URIs) != 1 || request.URIs[0].String() != id.String() {
		t.Fatalf("request: %v, %v", request, err)
	}
	now := time.Now()
	root, signer := certify(t, nil, nil, nil, id, now)
	strange, _ := certify(t, nil, nil, nil, id, now)
	good, _ := certify(t, root, signer, key, id, now)
	anotherKey, _ := certify(t, root, signer, nil, id, now)
	anotherID, _ := certify(t, root, signer, key, other, now)
	for name, tc := range map[string]struct {
		chain []*x509.Certificate
		now   time.Time
		want  string
	}{
		"as asked":                {[]*x509.Certificate{good, root}, now, ""},
		"of a clock that is fast": {[]*x509.Certificate{good, root}, now.Add(-3 * time.Hour), ""},
		"for another key":         {[]*x509.Certificate{anotherKey, root}, now, "another key"},
		"for another identity":    {[]*x509.Certificate{anotherID, root}, now, "sa/admin"},
		"of another root":         {[]*x509.Certificate{good, strange}, now, "unknown authority"},
		"expired":                 {[]*x509.Certificate{good, root}, now.Add(2 * time.Hour), "expired"},
	} {
		cert, roots, err := accept(tc.chain, key, id, tc.now)
		if tc.want == "" && (err != nil || len(cert.Certificate) != 1 || roots == nil) {
			t.Errorf("%s: %v, %v", name, cert, err)
		}
		if tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func mustURL(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// certify makes a certificate for an hour around now, for a new key where none is given.
// Without an issuer it is an authority.
func certify(t *testing.T, issuer *x509.Certificate, signer, key *ecdsa.PrivateKey, id *url.URL, now time.Time) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	var err error
	if key == nil {
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), URIs: []*url.URL{id}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	if issuer == nil {
		template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
		issuer, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}
