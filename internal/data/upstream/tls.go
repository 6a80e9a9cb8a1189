package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/credentials"
	"github.com/egret-mesh/egret/internal/data/match"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/file"
)

// tlsContext originates TLS with one UpstreamTLS. Its files are read again when
// they change.
type tlsContext struct {
	spec    *resource.UpstreamTLS
	secrets *credentials.Secrets
	ca      *file.Cached[*x509.CertPool]
	cert    *file.Cached[[]byte]
	key     *file.Cached[[]byte]

	mu       sync.Mutex
	sessions tls.ClientSessionCache
	shown    *tls.Certificate  // the secret that the sessions were made with
	leaf     *x509.Certificate // of what was shown last; nil: nothing
}

// own is the certificate that servers were shown last.
func (x *tlsContext) own() *x509.Certificate {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.leaf
}

// transport chooses the transport socket of an endpoint, as Envoy does: the first of
// transport_socket_matches whose labels the endpoint has, else the cluster's own.
// The context is nil for plain text. s.mu is held.
func (s *state) transport(c *config.Cluster, labels map[string]string) (*tlsContext, resource.ProxyProtocol) {
	spec, proxy := c.TLS, c.ProxyProtocol
	for i := range c.TLSMatches {
		if hasAll(labels, c.TLSMatches[i].Labels) {
			spec, proxy = c.TLSMatches[i].TLS, c.TLSMatches[i].ProxyProtocol
			break
		}
	}
	if spec == nil {
		return nil, proxy
	}
	x := s.contexts[spec]
	if x == nil {
		x = newTLSContext(spec, s.manager.secrets)
		s.contexts[spec] = x
	}
	return x, proxy
}

func hasAll(labels, want map[string]string) bool {
	for k, v := range want {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

func newTLSContext(spec *resource.UpstreamTLS, secrets *credentials.Secrets) *tlsContext {
	return &tlsContext{
		spec: spec, secrets: secrets, sessions: tls.NewLRUClientSessionCache(maxSessions),
		ca:   file.New(spec.CAFile, credentials.ParseCA),
		cert: file.New(spec.CertFile, asIs),
		key:  file.New(spec.KeyFile, asIs),
	}
}

// peerExchange promises Istio's exchange of metadata at the beginning of a connection
// (envoy.filters.network.metadata_exchange), which is not made here.
const peerExchange = "istio-peer-exchange"

// offer is what to offer as ALPN: what the configuration has, without the versions of
// HTTP that the request cannot be spoken in; where that is nothing, those that it can
// be (Envoy's fallback).
func (x *tlsContext) offer(t *Target) []string {
	if t == nil || t.ALPN == nil {
		return slices.DeleteFunc(slices.Clone(x.spec.ALPN), func(p string) bool { return p == peerExchange })
	}
	left := slices.DeleteFunc(slices.Clone(x.spec.ALPN), func(p string) bool {
		return p == peerExchange || (p == "h2" || p == "http/1.1" || p == "http/1.0") && !slices.Contains(t.ALPN, p)
	})
	if len(left) == 0 {
		return t.ALPN
	}
	return left
}

func asIs(b []byte) ([]byte, error) { return b, nil }

// ConnKey tells connections to the same host apart: those with the same key are
// interchangeable, others differ in the name asked for or verified in TLS, or in the
// client that they tell of in the PROXY protocol. It is "" without either.
func (m *Manager) ConnKey(h *Host, t *Target) string {
	key := h.tlsKey(t)
	if h.proxy != resource.ProxyProtocolNone && t != nil {
		key += " " + t.Source.String() + " " + t.Local.String()
	}
	return key
}

func (h *Host) tlsKey(t *Target) string {
	if h.tls == nil {
		return ""
	}
	sni, want := h.tls.serverName(h, t)
	if want == "" || want == sni {
		return sni
	}
	return sni + " " + want
}

// serverName is the SNI to send (auto_sni, auto_host_sni or the one of the spec), and
// with auto_san_validation or auto_sni_san_validation the name that the certificate
// must have in place of the configured matchers.
func (x *tlsContext) serverName(h *Host, t *Target) (sni, want string) {
	sni = x.spec.SNI
	if x.spec.AutoHostSNI && h.hostname != "" {
		sni = match.Lower(h.hostname)
		want = sni
	}
	if t != nil && t.Authority != "" {
		name := match.Lower(match.Name(t.Authority))
		if x.spec.AutoSNI {
			sni = name
		}
		if want == "" || x.spec.AutoSNI {
			want = name
		}
	}
	if !x.spec.AutoSANCheck {
		want = ""
	}
	return sni, want
}

// handshake makes a TLS client connection of conn, or closes it.
func (x *tlsContext) handshake(ctx context.Context, conn net.Conn, h *Host, t *Target, roots *x509.CertPool) (net.Conn, error) {
	cfg, err := x.config(h, t, roots)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	c := tls.Client(conn, cfg)
	if err := c.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return c, nil
}

func (x *tlsContext) config(h *Host, t *Target, roots *x509.CertPool) (*tls.Config, error) {
	if x.spec.Unsupported != "" {
		return nil, errors.New(x.spec.Unsupported)
	}
	sni, want := x.serverName(h, t)
	cfg := &tls.Config{
		ServerName:   sni,
		NextProtos:   x.offer(t),
		MinVersion:   max(x.spec.MinVersion, tls.VersionTLS12),
		CipherSuites: x.spec.CipherSuites,
		MaxVersion:   x.spec.MaxVersion,
		// The certificate is judged in VerifyConnection, which runs on each
		// handshake, resumed ones included.
		InsecureSkipVerify: true,
	}
	if err := x.identify(cfg); err != nil {
		return nil, err
	}
	if x.spec.SkipVerify {
		return cfg, nil
	}
	roots, err := x.roots(roots)
	if err != nil {
		return nil, err
	}
	sans := x.spec.SANs
	if want != "" {
		sans = nil
	}
	// The authority of the mesh, which is the agent's, signs for its workloads only: without
	// matchers it may be any of them, as in Istio. Their certificates have no host's name.
	mesh := x.spec.CASecret != "" && !slices.Contains(x.spec.Subscribed, x.spec.CASecret)
	if anyOfMesh := want == "" && len(sans) == 0 && mesh; !anyOfMesh {
		want = cmp.Or(want, sni, h.hostname, h.addr.Addr().String())
	}
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		return verify(cs, roots, sans, want)
	}
	return cfg, nil
}

func (x *tlsContext) certificate() (tls.Certificate, error) {
	certPEM, err := x.cert.Get()
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("client certificate: %w", err)
	}
	keyPEM, err := x.key.Get()
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("client key: %w", err)
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("client certificate %q: %w", x.spec.CertFile, err)
	}
	return cert, nil
}

const maxSessions = 32 // that are kept for resumption, of one context

// identify sets the certificate of this moment. A session shows the certificate that it
// was begun with, so those of another secret are not resumed.
func (x *tlsContext) identify(cfg *tls.Config) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.spec.CertSecret != "":
		cert, err := x.secrets.Certificate(x.spec.CertSecret)
		if err != nil {
			return err
		}
		if x.shown != cert {
			x.shown, x.sessions = cert, tls.NewLRUClientSessionCache(maxSessions)
		}
		cfg.Certificates, x.leaf = []tls.Certificate{*cert}, cert.Leaf
	case x.spec.CertFile != "":
		cert, err := x.certificate()
		if err != nil {
			return err
		}
		cfg.Certificates, x.leaf = []tls.Certificate{cert}, cert.Leaf
	}
	cfg.ClientSessionCache = x.sessions
	return nil
}

// roots are the authorities to trust; nil means the system's.
func (x *tlsContext) roots(system *x509.CertPool) (*x509.CertPool, error) {
	switch {
	case x.spec.CASecret != "":
		return x.secrets.Roots(x.spec.CASecret)
	case len(x.spec.InlineCA) > 0:
		return credentials.ParseCA(x.spec.InlineCA)
	case x.spec.CAFile != "":
		pool, err := x.ca.Get()
		if err != nil {
			return nil, fmt.Errorf("CA certificates: %w", err)
		}
		return pool, nil
	}
	return system, nil
}

// verify judges the server's certificate: its chain, and that one of the matchers
// matches one of its names. Without matchers it must be for the name wanted, if any, which
// is stricter than Envoy (that would take any certificate of the authority).
func verify(cs tls.ConnectionState, roots *x509.CertPool, sans []match.String, want string) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("the server has no certificate")
	}
	if err := credentials.VerifyChain(cs.PeerCertificates, roots, x509.ExtKeyUsageServerAuth); err != nil {
		return err
	}
	switch {
	case len(sans) > 0:
	case want == "":
		return nil
	default:
		return cs.PeerCertificates[0].VerifyHostname(want)
	}
	return credentials.MatchNames(cs.PeerCertificates[0], sans)
}
