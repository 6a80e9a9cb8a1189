package http

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"net/url"
	"strings"

	"github.com/egret-mesh/egret/internal/data/credentials"
	"github.com/egret-mesh/egret/internal/data/resource"
)

const forwardedClientCert = "x-forwarded-client-cert"

// clientCert is what a connection's requests tell of its client's certificate.
type clientCert struct {
	details resource.ClientCertDetails
	text    string
}

// clientCert makes x-forwarded-client-cert, as Envoy does: what the client says of itself
// there is believed only where it has shown a certificate and the configuration asks for
// that.
func (x *exchange) clientCert() {
	f, mode := &x.req.Fields, x.hcm.ForwardClientCert
	if mode == resource.ClientCertAlwaysForward {
		return
	}
	shown := x.c.TLS != nil && len(x.c.TLS.PeerCertificates) > 0
	if !shown || mode == resource.ClientCertSanitize {
		f.Remove(forwardedClientCert)
		return
	}
	if mode == resource.ClientCertForward {
		return
	}
	own := x.c.certificate(x.hcm.ClientCertDetails)
	if have, ok := f.Get(forwardedClientCert); ok && mode == resource.ClientCertAppend {
		n := len(x.arena)
		x.arena = append(append(append(x.arena, have...), ','), own...)
		own = view(x.arena[n:])
	}
	f.Set(forwardedClientCert, own)
}

// certificate is the element about the client's certificate. It is made once for a
// connection, unless the configuration changes.
func (c *Conn) certificate(d resource.ClientCertDetails) string {
	if known := c.cert.Load(); known != nil && known.details == d {
		return known.text
	}
	made := &clientCert{d, certElement(c.TLS, d)}
	c.cert.Store(made)
	return made.text
}

// certElement is one element of x-forwarded-client-cert, in Envoy's order. By is the proxy's
// own URI, where its certificate has one. What a certificate says, other than in Envoy, cannot
// end its value: where it could, it is quoted (Envoy's documentation of
// the header asks its readers to know that), and control characters become "?".
func certElement(s *credentials.Session, d resource.ClientCertDetails) string {
	chain := s.PeerCertificates
	leaf := chain[0]
	var b []byte
	add := func(key, value string, quoted bool) {
		if len(b) > 0 {
			b = append(b, ';')
		}
		b = append(append(b, key...), '=')
		if !quoted && strings.ContainsAny(value, `,;="`) {
			quoted, value = true, strings.ReplaceAll(value, `"`, `\"`)
		}
		if quoted {
			value = `"` + value + `"`
		}
		b = append(b, value...)
	}
	if by := s.OwnPrincipal(); by != "" {
		add("By", printable(by), false)
	}
	sum := sha256.Sum256(leaf.Raw)
	add("Hash", hex.EncodeToString(sum[:]), false)
	if d.Cert {
		add("Cert", escapedPEM(chain[:1]), true)
	}
	if d.Chain {
		add("Chain", escapedPEM(chain), true)
	}
	if d.Subject {
		add("Subject", printable(leaf.Subject.String()), true) // RFC 2253: its quotes are escaped
	}
	for _, u := range leaf.URIs {
		if d.URI {
			add("URI", printable(u.String()), false)
		}
	}
	if d.URI && len(leaf.URIs) == 0 {
		add("URI", "", false)
	}
	for _, name := range leaf.DNSNames {
		if d.DNS {
			add("DNS", printable(name), false)
		}
	}
	return string(b)
}

// printable keeps a value within one line.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

// escapedPEM is certificates in PEM, percent-encoded as Envoy does.
func escapedPEM(chain []*x509.Certificate) string {
	var b []byte
	for _, c := range chain {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return strings.ReplaceAll(url.QueryEscape(string(b)), "+", "%20")
}
