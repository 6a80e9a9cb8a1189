package identity

import (
	"crypto"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestReadRequest(t *testing.T) {
	key := newKey(t, elliptic.P256())
	good := requestFor(t, key, x509.CertificateRequest{})
	big, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(good))
	broken := append([]byte(nil), block.Bytes...)
	broken[len(broken)-1] ^= 1
	for name, tc := range map[string]struct {
		text string
		want Reason
	}{
		"ECDSA P-256":    {good, ""},
		"ECDSA P-384":    {requestFor(t, newKey(t, elliptic.P384()), x509.CertificateRequest{}), ""},
		"RSA 2048":       {requestFor(t, big, x509.CertificateRequest{}), ""},
		"ECDSA P-224":    {requestFor(t, newKey(t, elliptic.P224()), x509.CertificateRequest{}), RequestKey},
		"Ed25519":        {requestFor(t, edwards, x509.CertificateRequest{}), RequestKey},
		"nothing":        {"", RequestMalformed},
		"no PEM":         {"hello", RequestMalformed},
		"a certificate":  {string(encode(block.Bytes)), RequestMalformed},
		"garbage in PEM": {string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: []byte("x")})), RequestMalformed},
		"two":            {good + good, RequestMalformed},
		"too large":      {good + strings.Repeat("\n", maxRequest), RequestTooLarge},
		"of another key": {string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: broken})), RequestSignature},
	} {
		public, refusal := readRequest(tc.text)
		switch {
		case tc.want == "" && (refusal != nil || public == nil):
			t.Errorf("%s: %v", name, refusal)
		case tc.want != "" && (refusal == nil || refusal.Reason != tc.want || public != nil):
			t.Errorf("%s: %v, want %s", name, refusal, tc.want)
		}
	}
}

func TestLifetime(t *testing.T) {
	for seconds, want := range map[int64]time.Duration{
		0: time.Hour, -1: time.Hour, -1 << 63: time.Hour, 60: time.Minute, 7200: 2 * time.Hour,
		7201: -1, 1<<63 - 1: -1, 1 << 55: -1,
	} {
		got, refusal := lifetime(seconds, time.Hour, 2*time.Hour)
		if want < 0 && (refusal == nil || refusal.Reason != LifetimeTooLong) || want >= 0 && (refusal != nil || got != want) {
			t.Errorf("%d s: %s, %v", seconds, got, refusal)
		}
	}
}

// Whatever a request is, what is signed is for its key and the caller, is no authority, and
// has nothing else of the request.
func FuzzRequest(f *testing.F) {
	key := newKey(f, elliptic.P256())
	f.Add(requestFor(f, key, x509.CertificateRequest{}))
	f.Add(requestFor(f, key, x509.CertificateRequest{DNSNames: []string{"istiod.istio-system.svc"}, URIs: []*url.URL{{Scheme: "spiffe", Host: "x"}}}))
	f.Add("-----BEGIN CERTIFICATE REQUEST-----\nMA==\n-----END CERTIFICATE REQUEST-----\n")
	now := time.Now()
	authority, _ := selfSigned(f, now)
	id := ID{mesh, "default", "sleep"}
	f.Fuzz(func(t *testing.T, text string) {
		public, refusal := readRequest(text)
		if refusal != nil {
			return
		}
		chain, err := authority.Sign(id, public, time.Hour, now)
		if err != nil {
			t.Fatal(err)
		}
		leaf := mustBeFor(t, chain, id)
		if k, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !k.Equal(public) {
			t.Errorf("signed for the key %v, asked for %v", leaf.PublicKey, public)
		}
		if leaf.NotAfter.After(authority.NotAfter()) {
			t.Errorf("until %v, the authority until %v", leaf.NotAfter, authority.NotAfter())
		}
	})
}

func mustBeFor(t *testing.T, chain []string, id ID) *x509.Certificate {
	t.Helper()
	list, err := parseCertificates("chain", []byte(strings.Join(chain, "")))
	if err != nil {
		t.Fatal(err)
	}
	leaf := list[0]
	if leaf.IsCA || len(leaf.URIs) != 1 || leaf.URIs[0].String() != id.String() || len(leaf.DNSNames)+len(leaf.IPAddresses)+len(leaf.EmailAddresses) > 0 || leaf.Subject.String() != "" {
		t.Errorf("CA %v, URIs %v, DNS %v, subject %v", leaf.IsCA, leaf.URIs, leaf.DNSNames, leaf.Subject)
	}
	return leaf
}
