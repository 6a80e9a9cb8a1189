package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/credentials"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/file"
)

// servers are the TLS servers of the filter chains that end TLS, one for each context:
// its session tickets are good as long as the context stays.
type servers struct {
	log     *slog.Logger
	secrets *credentials.Secrets
	mu      sync.Mutex
	all     map[*resource.DownstreamTLS]*tlsServer
}

// get returns the server of a context. It fails where there is no certificate to use.
func (s *servers) get(spec *resource.DownstreamTLS) (*tlsServer, error) {
	s.mu.Lock()
	server := s.all[spec]
	if server == nil {
		var err error
		if server, err = newTLSServer(spec, s.secrets, s.log); err != nil {
			s.mu.Unlock()
			return nil, err
		}
		s.all[spec] = server
	}
	s.mu.Unlock()
	return server, server.ready()
}

// keep forgets the servers of contexts that cfg does not have any more.
func (s *servers) keep(cfg *config.Config) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) == 0 {
		return
	}
	used := map[*resource.DownstreamTLS]bool{}
	for _, l := range cfg.Listeners {
		for _, chain := range l.FilterChains {
			used[chain.TLS] = true
		}
		if l.DefaultFilterChain != nil {
			used[l.DefaultFilterChain.TLS] = true
		}
	}
	for spec := range s.all {
		if !used[spec] {
			delete(s.all, spec)
		}
	}
}

// certSource is a certificate with its key that may be another one later: of files, or
// of Secrets. With an error it may still give the last good one.
type certSource interface {
	Get() (*tls.Certificate, error)
}

// tlsServer ends TLS with one DownstreamTLS.
type tlsServer struct {
	spec    *resource.DownstreamTLS
	log     *slog.Logger
	secrets *credentials.Secrets
	certs   []certSource
	roots   func() (*x509.CertPool, error)

	mu        sync.Mutex
	http, tcp *tls.Config
	shown     []*tls.Certificate    // the secrets that the configurations were made with
	failed    map[certSource]string // what was logged last
}

func newTLSServer(spec *resource.DownstreamTLS, secrets *credentials.Secrets, log *slog.Logger) (*tlsServer, error) {
	s := &tlsServer{spec: spec, secrets: secrets, log: log, failed: map[certSource]string{}}
	for i := range spec.Certificates {
		c := &spec.Certificates[i]
		if c.Secret != "" {
			s.certs = append(s.certs, credentials.Held{Secrets: secrets, Name: c.Secret})
			continue
		}
		if c.CertFile != "" {
			s.certs = append(s.certs, file.NewPair(c.CertFile, c.KeyFile))
			continue
		}
		pair, err := file.FixedPair(c.InlineCert, c.InlineKey)
		if err != nil {
			return nil, err
		}
		s.certs = append(s.certs, pair)
	}
	if err := s.setRoots(); err != nil {
		return nil, err
	}
	s.configure()
	return s, nil
}

func (s *tlsServer) setRoots() error {
	v := s.spec.Verify
	switch {
	case v == nil || v.Skip || v.SystemCA:
		s.roots = func() (*x509.CertPool, error) { return nil, nil }
	case v.CASecret != "":
		s.roots = func() (*x509.CertPool, error) { return s.secrets.Roots(v.CASecret) }
	case len(v.InlineCA) > 0:
		pool, err := credentials.ParseCA(v.InlineCA)
		if err != nil {
			return fmt.Errorf("the inline CA: %w", err)
		}
		s.roots = func() (*x509.CertPool, error) { return pool, nil }
	default:
		s.roots = file.New(v.CAFile, credentials.ParseCA).Get
	}
	return nil
}

// servedProtocols are what can be spoken inside of TLS that is ended here.
var servedProtocols = [...]string{"h2", "http/1.1", "http/1.0"}

// httpALPN is what is offered for a chain that speaks HTTP: Istio's own names
// (istio-http/1.1, istio-peer-exchange, ...) mean exchanges that are not made here.
func httpALPN(list []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(p string) bool { return !slices.Contains(servedProtocols[:], p) })
}

// tcpALPN is what is offered for a chain that forwards bytes. "istio" says no more than
// that both ends are of the mesh.
func tcpALPN(list []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(p string) bool { return strings.HasPrefix(p, "istio-") })
}

// configure makes the configurations, with new keys for session tickets; s.mu is held, or
// s is new.
func (s *tlsServer) configure() {
	s.http, s.tcp = s.config(httpALPN(s.spec.ALPN)), s.config(tcpALPN(s.spec.ALPN))
}

// config makes the configuration for one list of protocols. A client that offers none
// of them is served without, as Envoy does, where crypto/tls would refuse it.
func (s *tlsServer) config(alpn []string) *tls.Config {
	base := &tls.Config{
		MinVersion: s.spec.MinVersion, MaxVersion: s.spec.MaxVersion, CipherSuites: s.spec.CipherSuites,
		SessionTicketsDisabled: s.spec.NoSessionTickets,
		GetCertificate:         s.certificate,
		VerifyConnection:       s.verify,
	}
	switch {
	case s.spec.RequireClientCertificate:
		base.ClientAuth = tls.RequireAnyClientCert // verify looks at it
	case s.spec.Verify != nil:
		base.ClientAuth = tls.RequestClientCert
	}
	if len(alpn) == 0 {
		return base
	}
	with := base.Clone()
	with.NextProtos = alpn
	base.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.ContainsFunc(hello.SupportedProtos, func(p string) bool { return slices.Contains(alpn, p) }) {
			return with, nil
		}
		return nil, nil
	}
	return base
}

// configFor is the configuration of chains that speak HTTP, or of others.
func (s *tlsServer) configFor(http bool) *tls.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	if secrets := s.heldNow(); !slices.Equal(secrets, s.shown) {
		// A session that is resumed would show the client the certificate of before.
		s.shown = secrets
		s.configure()
	}
	if http {
		return s.http
	}
	return s.tcp
}

// heldNow are the certificates of this moment that are of Secrets.
func (s *tlsServer) heldNow() (out []*tls.Certificate) {
	for _, c := range s.certs {
		if held, ok := c.(credentials.Held); ok {
			if cert, err := held.Get(); err == nil {
				out = append(out, cert)
			}
		}
	}
	return out
}

// own is the certificate that clients are shown, the first where there are several; nil: it
// cannot be read.
func (s *tlsServer) own() *x509.Certificate {
	for _, pair := range s.certs {
		if cert, _ := pair.Get(); cert != nil {
			return cert.Leaf
		}
	}
	return nil
}

// ready fails where no certificate can be read: then there is nothing to say to a client.
func (s *tlsServer) ready() error {
	var last error
	for _, pair := range s.certs {
		cert, err := pair.Get()
		if cert != nil {
			return nil
		}
		last = err
	}
	return last
}

// certificate chooses as Envoy does: the first that is for the name that the client
// asks for and that it can use, else the first.
func (s *tlsServer) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	var first *tls.Certificate
	for _, pair := range s.certs {
		cert, err := pair.Get()
		s.tell(pair, err)
		if cert == nil {
			continue
		}
		if hello.SupportsCertificate(cert) == nil {
			return cert, nil
		}
		if first == nil {
			first = cert
		}
	}
	if first == nil {
		return nil, errors.New("no certificate can be read")
	}
	return first, nil
}

// tell logs what is wrong with a certificate's files, once per problem.
func (s *tlsServer) tell(pair certSource, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	s.mu.Lock()
	before := s.failed[pair]
	s.failed[pair] = text
	s.mu.Unlock()
	if text != "" && text != before {
		s.log.Warn("a certificate could not be read again; the last good one is served", "error", err)
	}
}

// verify judges the client's certificate, also when a session is resumed.
func (s *tlsServer) verify(cs tls.ConnectionState) error {
	v := s.spec.Verify
	if len(cs.PeerCertificates) == 0 || v == nil || v.Skip {
		return nil // where one is required crypto/tls has refused it
	}
	roots, err := s.roots()
	if err != nil {
		return fmt.Errorf("the authorities for clients: %w", err)
	}
	if err := credentials.VerifyChain(cs.PeerCertificates, roots, x509.ExtKeyUsageClientAuth); err != nil {
		return fmt.Errorf("the client's certificate: %w", err)
	}
	if len(v.SANs) == 0 {
		return nil
	}
	return credentials.MatchNames(cs.PeerCertificates[0], v.SANs)
}
