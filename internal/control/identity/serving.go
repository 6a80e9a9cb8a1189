package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"sync"
	"time"
)

// Serving is the control plane's own certificate. It is made when a handshake needs it: the
// first time, when half of its life is over, and when the authority is another. The key is
// in memory only.
type Serving struct {
	authority *Keeper
	names     []string
	life      time.Duration
	now       func() time.Time

	mu   sync.Mutex
	by   *Authority // who signed cert
	cert *tls.Certificate
}

// NewServing makes a Serving for DNS names, whose certificates are valid for a life.
func NewServing(authority *Keeper, names []string, life time.Duration) *Serving {
	return &Serving{authority: authority, names: names, life: life, now: time.Now}
}

// ServerNames are the DNS names by which proxies and the API server call a control plane of
// a namespace (istio.io/istio/pilot/pkg/bootstrap). The revision "default", and none, have no
// name of their own.
func ServerNames(namespace, revision, domain string) (out []string) {
	services := []string{"istiod", "istiod-remote", "istio-pilot"}
	if revision != "" && revision != "default" {
		services = append(services, "istiod-"+revision)
	}
	for _, s := range services {
		name := s + "." + namespace
		out = append(out, name+".svc", name+".svc."+domain, name)
	}
	return append(out, services[0])
}

// Certificate is the one of this moment.
func (s *Serving) Certificate() (*tls.Certificate, error) {
	authority := s.authority.Get()
	if authority == nil {
		return nil, errors.New("there is no authority yet")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if s.cert != nil && s.by == authority && now.Before(halfway(s.cert.Leaf)) {
		return s.cert, nil
	}
	cert, err := s.issue(authority, now)
	if err != nil {
		return nil, err
	}
	s.by, s.cert = authority, cert
	return cert, nil
}

func halfway(c *x509.Certificate) time.Time {
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) / 2)
}

func (s *Serving) issue(a *Authority, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := endEntity()
	template.DNSNames = slices.Clone(s.names)
	der, err := a.issue(template, key.Public(), s.life, now)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	cert := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	for _, c := range a.between {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return cert, nil
}

// TLS is for servers whose clients prove nothing by TLS: webhooks.
func (s *Serving) TLS() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.Certificate() },
	}
}

// MutualTLS is for servers whose clients may show a certificate of the mesh. One that is
// not of the mesh ends the handshake.
func (s *Serving) MutualTLS() *tls.Config {
	config := s.TLS()
	config.ClientAuth = tls.RequestClientCert // judged below, by the roots of that moment
	config.VerifyConnection = func(c tls.ConnectionState) error {
		if len(c.PeerCertificates) == 0 {
			return nil
		}
		authority := s.authority.Get()
		if authority == nil {
			return errors.New("there is no authority yet")
		}
		_, err := authority.verify(c.PeerCertificates, s.now())
		return err
	}
	return config
}

// verify judges a chain of a client, leaf first.
func (a *Authority) verify(chain []*x509.Certificate, now time.Time) (*x509.Certificate, error) {
	o := x509.VerifyOptions{Roots: a.pool, Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, c := range chain[1:] {
		o.Intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(o)
	return chain[0], err
}
