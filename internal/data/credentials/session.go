package credentials

import (
	"crypto/tls"
	"crypto/x509"
)

// Session is what is known of a TLS session that the proxy is an end of. A nil *Session is
// plain text. It never changes.
type Session struct {
	tls.ConnectionState
	// Own is the certificate that the proxy had to show; nil: none.
	Own *x509.Certificate

	peer, own string
}

// NewSession is made once for a connection, after its handshake.
func NewSession(s tls.ConnectionState, own *x509.Certificate) *Session {
	out := &Session{ConnectionState: s, Own: own}
	out.peer, out.own = principal(out.Peer()), principal(own)
	return out
}

// Peer is the certificate that the other side has shown; nil: none.
func (s *Session) Peer() *x509.Certificate {
	if s == nil || len(s.PeerCertificates) == 0 {
		return nil
	}
	return s.PeerCertificates[0]
}

// PeerPrincipal is the first URI of the other side's certificate, which is a workload's SPIFFE
// ID; "": it has none.
func (s *Session) PeerPrincipal() string {
	if s == nil {
		return ""
	}
	return s.peer
}

// OwnPrincipal is that of the proxy's certificate.
func (s *Session) OwnPrincipal() string {
	if s == nil {
		return ""
	}
	return s.own
}

func principal(c *x509.Certificate) string {
	if c == nil || len(c.URIs) == 0 {
		return ""
	}
	return c.URIs[0].String()
}
