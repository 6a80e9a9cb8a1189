package xds

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"google.golang.org/grpc/credentials"

	"github.com/egret-mesh/egret/internal/file"
)

// TLS says how the wire is secured, by PEM files that are read again when they change.
type TLS struct {
	// Cert and Key are the own certificate chain with its key. A server needs them, a
	// client only where the server asks for them.
	Cert, Key string
	// CA are the authorities that the peer's certificate must come from. At a client ""
	// are the system's; at a server "" lets everybody in.
	CA string
	// Names are what the server's certificate must be for, one of them: DNS names, IP
	// addresses or URIs (SPIFFE). A client needs at least one.
	Names []string
	// ServerName is what a client asks for (SNI); "": the name that it connects to.
	ServerName string
}

// ServerCredentials are a server's. The files are read at once, so that mistakes are told
// at the start, and again when they were changed; then what cannot be read leaves the
// last good certificate in force, but no authorities: then nobody is let in.
func (t TLS) ServerCredentials() (credentials.TransportCredentials, error) {
	if t.Cert == "" || t.Key == "" {
		return nil, errors.New("TLS: a server needs a certificate and its key")
	}
	pair := file.NewPair(t.Cert, t.Key)
	if _, err := pair.Get(); err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	config := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return lastGood(pair) },
	}
	if t.CA != "" {
		roots := file.New(t.CA, parseRoots)
		if _, err := roots.Get(); err != nil {
			return nil, fmt.Errorf("TLS: %w", err)
		}
		config.ClientAuth = tls.RequireAnyClientCert // judged below, by the file of that moment
		config.VerifyConnection = func(s tls.ConnectionState) error {
			return verify(s.PeerCertificates, roots, x509.ExtKeyUsageClientAuth)
		}
	}
	return credentials.NewTLS(config), nil
}

// ClientCredentials are a client's. The files are read at each handshake, when they were
// changed.
func (t TLS) ClientCredentials() (credentials.TransportCredentials, error) {
	if len(t.Names) == 0 {
		return nil, errors.New("TLS: no name that the server's certificate must be for")
	}
	if (t.Cert == "") != (t.Key == "") {
		return nil, errors.New("TLS: a certificate needs its key, and a key its certificate")
	}
	config := &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: t.ServerName,
		// The library would know the authorities of the start only, and one DNS name.
		InsecureSkipVerify: true,
	}
	var roots *file.Cached[*x509.CertPool]
	if t.CA != "" {
		roots = file.New(t.CA, parseRoots)
	}
	config.VerifyConnection = func(s tls.ConnectionState) error {
		if err := verify(s.PeerCertificates, roots, x509.ExtKeyUsageServerAuth); err != nil {
			return err
		}
		return matchName(s.PeerCertificates[0], t.Names)
	}
	if t.Cert != "" {
		pair := file.NewPair(t.Cert, t.Key)
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return lastGood(pair) }
	}
	return credentials.NewTLS(config), nil
}

// lastGood is the pair's certificate, also while its files are being replaced.
func lastGood(p *file.Pair) (*tls.Certificate, error) {
	cert, err := p.Get()
	if cert != nil {
		return cert, nil
	}
	return nil, err
}

func parseRoots(pem []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate in it")
	}
	return pool, nil
}

// verify judges a peer's chain, leaf first; nil roots are the system's.
func verify(chain []*x509.Certificate, roots *file.Cached[*x509.CertPool], use x509.ExtKeyUsage) error {
	if len(chain) == 0 {
		return errors.New("the peer has no certificate")
	}
	o := x509.VerifyOptions{Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{use}}
	if roots != nil {
		var err error
		if o.Roots, err = roots.Get(); err != nil {
			return err
		}
	}
	for _, c := range chain[1:] {
		o.Intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(o)
	return err
}

// matchName is nil when the certificate is for one of the names.
func matchName(leaf *x509.Certificate, names []string) error {
	var err error
	for _, name := range names {
		if err = leaf.VerifyHostname(name); err == nil {
			return nil
		}
		for _, u := range leaf.URIs {
			if u.String() == name {
				return nil
			}
		}
	}
	return err
}
