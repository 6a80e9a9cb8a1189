package identity

import (
	"bytes"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// plugged are the files of an authority that an operator's root has signed.
func plugged(t *testing.T, root *Authority, change func(*x509.Certificate), now time.Time) map[string][]byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048) // as openssl in Istio's documentation makes them
	if err != nil {
		t.Fatal(err)
	}
	serial, err := newSerial()
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Intermediate CA"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, root.cert, key.Public(), root.key)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		FileCert: encode(der), FileRoot: root.Roots(), FileChain: slices.Concat(encode(der), root.Roots()),
		FileKey: pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}),
	}
}

// What is signed is valid to who knows the roots only, under each kind of authority.
func TestSign(t *testing.T) {
	now := time.Now()
	id := ID{mesh, "default", "sleep"}
	root, own := selfSigned(t, now)
	other, _ := selfSigned(t, now)
	intermediate := plugged(t, root, nil, now)
	two := maps.Clone(intermediate)
	two[FileRoot] = slices.Concat(root.Roots(), other.Roots())
	for name, tc := range map[string]struct {
		files map[string][]byte
		chain int // certificates of the answer
	}{
		"self-signed":                {own, 2},
		"cacerts":                    {intermediate, 3},
		"cacerts with two roots":     {two, 4},
		"as older Istio has written": {map[string][]byte{FileCert: own[FileCert], FileKey: own[FileKey], FileRoot: nil, FileChain: {}}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			a := authorityOf(t, tc.files, now)
			chain, err := a.Sign(id, newKey(t, elliptic.P256()).Public(), time.Hour, now)
			if err != nil || len(chain) != tc.chain {
				t.Fatalf("%d certificates, %v", len(chain), err)
			}
			leaf := mustBeFor(t, chain, id)
			between := x509.NewCertPool()
			between.AppendCertsFromPEM([]byte(strings.Join(chain[1:], "")))
			anchor := x509.NewCertPool() // the last one of the answer
			anchor.AppendCertsFromPEM([]byte(chain[len(chain)-1]))
			for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
				if _, err := leaf.Verify(x509.VerifyOptions{Roots: anchor, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
					t.Error(err)
				}
			}
			if got := leaf.NotAfter.Sub(now).Round(time.Minute); got != time.Hour {
				t.Errorf("valid for %s", got)
			}
			if !leaf.NotBefore.Before(now.Add(-time.Minute)) {
				t.Errorf("not valid for a clock that is a minute slow: %s", leaf.NotBefore)
			}
		})
	}
}

func TestCertificatesDoNotOutliveTheAuthority(t *testing.T) {
	now := time.Now()
	root, _ := selfSigned(t, now)
	a := authorityOf(t, plugged(t, root, nil, now), now)
	for _, later := range []time.Duration{0, 47 * time.Hour} {
		chain, err := a.Sign(ID{mesh, "a", "b"}, newKey(t, elliptic.P256()).Public(), MaxLifetime, now.Add(later))
		if err != nil {
			t.Fatal(err)
		}
		if leaf := mustBeFor(t, chain, ID{mesh, "a", "b"}); !leaf.NotAfter.Equal(a.NotAfter()) {
			t.Errorf("until %s, the authority until %s", leaf.NotAfter, a.NotAfter())
		}
	}
	if _, err := a.Sign(ID{mesh, "a", "b"}, newKey(t, elliptic.P256()).Public(), time.Hour, now.Add(49*time.Hour)); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("an expired authority signs: %v", err)
	}
}

// What an operator gets wrong in cacerts is told by the key of the Secret.
func TestAuthoritiesThatAreRefused(t *testing.T) {
	now := time.Now()
	root, rootFiles := selfSigned(t, now)
	other, otherFiles := selfSigned(t, now)
	good := plugged(t, root, nil, now)
	with := func(change map[string][]byte) map[string][]byte {
		out := maps.Clone(good)
		maps.Copy(out, change)
		return out
	}
	for want, files := range map[string]map[string][]byte{
		"ca-cert.pem is missing":                        with(map[string][]byte{FileCert: nil}),
		"ca-cert.pem: not a certificate in PEM":         with(map[string][]byte{FileCert: []byte("hello")}),
		"ca-cert.pem: certificate 1":                    with(map[string][]byte{FileCert: encode([]byte("x"))}),
		"ca-key.pem: missing":                           with(map[string][]byte{FileKey: nil}),
		"ca-key.pem: not a private key in PEM":          with(map[string][]byte{FileKey: []byte("hello")}),
		"ca-key.pem: a private key is expected":         with(map[string][]byte{FileKey: good[FileCert]}),
		"ca-key.pem is not the key of ca-cert.pem":      with(map[string][]byte{FileKey: rootFiles[FileKey]}),
		"ca-cert.pem: a certificate is expected":        with(map[string][]byte{FileCert: good[FileKey]}),
		"cert-chain.pem: not a certificate":             with(map[string][]byte{FileChain: []byte("hello")}),
		"root-cert.pem is missing":                      with(map[string][]byte{FileRoot: nil}),
		"ca-cert.pem does not come from root-cert.pem":  with(map[string][]byte{FileRoot: other.Roots()}),
		"root-cert.pem by cert-chain.pem":               with(map[string][]byte{FileRoot: otherFiles[FileRoot], FileChain: nil}),
		"ca-cert.pem: the certificate is no authority":  plugged(t, root, func(c *x509.Certificate) { c.IsCA, c.MaxPathLenZero = false, false }, now),
		"ca-cert.pem: the certificate may not sign":     plugged(t, root, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }, now),
		"ca-cert.pem: the certificate expired at":       plugged(t, root, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) }, now),
		"ca-cert.pem: the certificate is not valid bef": plugged(t, root, func(c *x509.Certificate) { c.NotBefore = now.Add(time.Minute) }, now),
	} {
		if _, err := NewAuthority(files, now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// A root that is replaced before it expires keeps its key and name: what either of the two
// signed is valid under the other.
func TestSelfSignedIsRenewed(t *testing.T) {
	start := time.Now()
	old, _ := selfSigned(t, start)
	now := old.DueAt(0.2)
	if left := old.NotAfter().Sub(now).Hours() / 24 / 365; left < 1.9 || left > 2.1 {
		t.Errorf("due with %.1f years left of ten", left)
	}
	files, err := NewSelfSigned(mesh, 10*365*24*time.Hour, old, now)
	if err != nil {
		t.Fatal(err)
	}
	renewed := authorityOf(t, files, now)
	if !renewed.NotAfter().After(old.NotAfter()) || bytes.Equal(renewed.Roots(), old.Roots()) {
		t.Error("it is the same")
	}
	for _, pair := range [][2]*Authority{{old, renewed}, {renewed, old}} {
		cert := show(t, pair[0], ID{mesh, "a", "b"}, time.Hour, now)
		leaf, err := x509.ParseCertificate(cert.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pair[1].verify([]*x509.Certificate{leaf}, now); err != nil {
			t.Error(err)
		}
	}
}
