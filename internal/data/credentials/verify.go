// Package credentials judges what a peer proves its identity with in TLS, for either side
// of a connection, and holds what the proxy proves its own with, where that has a name
// (SDS).
//
// It must not open connections, or decide whether a peer must be verified, and knows
// nothing of where secrets come from.
package credentials

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/egret-mesh/egret/internal/data/match"
)

// ParseCA reads the authorities of a PEM file.
func ParseCA(pem []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate in it")
	}
	return pool, nil
}

// VerifyChain judges a peer's chain, leaf first, for one use. Nil roots are the system's.
func VerifyChain(chain []*x509.Certificate, roots *x509.CertPool, use x509.ExtKeyUsage) error {
	opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{use}}
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(opts)
	return err
}

// MatchNames is nil when one of the matchers matches one of the certificate's subject
// alternative names.
func MatchNames(leaf *x509.Certificate, sans []match.String) error {
	for i := range sans {
		if nameMatches(leaf, &sans[i]) {
			return nil
		}
	}
	return fmt.Errorf("no subject alternative name of the certificate matches: it is for %s", strings.Join(names(leaf), ", "))
}

// nameMatches compares one matcher with all names of a certificate. An exact matcher
// takes a wildcard name of the certificate as Envoy does for DNS names.
func nameMatches(leaf *x509.Certificate, m *match.String) bool {
	if m.Kind == match.Exact && len(leaf.DNSNames) > 0 {
		if _, err := netip.ParseAddr(m.Value); err != nil && leaf.VerifyHostname(m.Value) == nil {
			return true
		}
	}
	return slices.ContainsFunc(names(leaf), m.Match)
}

func names(leaf *x509.Certificate) []string {
	out := slices.Clone(leaf.DNSNames)
	for _, u := range leaf.URIs {
		out = append(out, u.String())
	}
	for _, ip := range leaf.IPAddresses {
		out = append(out, ip.String())
	}
	return append(out, leaf.EmailAddresses...)
}
