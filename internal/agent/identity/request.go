package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"
)

// newRequest makes a key and a certificate request for an identity, in PEM. The key does
// not leave the process.
func newRequest(id *url.URL) (key *ecdsa.PrivateKey, csr string, err error) {
	if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, "", err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{id}}, key)
	if err != nil {
		return nil, "", err
	}
	return key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), nil
}

// parseChain reads an authority's answer: the leaf first, the root last.
func parseChain(list []string) (out []*x509.Certificate, err error) {
	for _, text := range list {
		for rest := []byte(text); ; {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			if block.Type != "CERTIFICATE" || len(out) == maxChain {
				return nil, fmt.Errorf("a %s, or more than %d certificates", block.Type, maxChain)
			}
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, err
			}
			out = append(out, c)
		}
	}
	if len(out) < 2 {
		return nil, fmt.Errorf("%d certificates, but a leaf and a root are the least", len(out))
	}
	return out, nil
}

// accept judges an authority's answer to a request: the certificate must be for the key
// and the identity, and come from the root that it names. The root is not shown to peers.
func accept(chain []*x509.Certificate, key *ecdsa.PrivateKey, id *url.URL, now time.Time) (*tls.Certificate, *x509.CertPool, error) {
	leaf, root := chain[0], chain[len(chain)-1]
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return nil, nil, errors.New("it is for another key")
	}
	if !slices.ContainsFunc(leaf.URIs, func(u *url.URL) bool { return u.String() == id.String() }) {
		return nil, nil, fmt.Errorf("it is for %q", leaf.URIs)
	}
	if now.Before(leaf.NotBefore) {
		now = leaf.NotBefore // this machine's clock is slow; a peer's may not be
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	out := &tls.Certificate{PrivateKey: key, Leaf: leaf, Certificate: [][]byte{leaf.Raw}}
	for _, c := range chain[1 : len(chain)-1] {
		between.AddCert(c)
		out.Certificate = append(out.Certificate, c.Raw)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return out, roots, err
}
