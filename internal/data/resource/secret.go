package resource

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// Bounds of what a secret has, in bytes of PEM: a key is judged in time that grows faster
// than its size.
const (
	maxKeyPEM   = 16 << 10
	maxChainPEM = 512 << 10
)

// Secret is an envoy.extensions.transport_sockets.tls.v3.Secret: a certificate with its key,
// or authorities. The key belongs in memory only.
type Secret struct {
	Name        string
	Certificate *tls.Certificate // with its Leaf
	Authorities []*x509.Certificate
}

// Secret decodes a secret. The errors never have anything of the key.
func (d Decoder) Secret(a *anypb.Any) (*Secret, error) {
	c := d.begin()
	var m tlsv3.Secret
	out := &Secret{}
	if c.unpack(nil, a, &m) {
		out.Name = m.GetName()
		c.secret(out, &m)
	}
	if err := c.end("secret", m.GetName(), nil); err != nil {
		return nil, err
	}
	return out, nil
}

func (c *decoding) secret(out *Secret, m *tlsv3.Secret) {
	var root *path
	switch s := m.GetType().(type) {
	case *tlsv3.Secret_TlsCertificate:
		p := root.field("tls_certificate")
		chain := c.inlineData(p.field("certificate_chain"), s.TlsCertificate.GetCertificateChain())
		key := c.inlineData(p.field("private_key"), s.TlsCertificate.GetPrivateKey())
		if len(c.errs) == 0 {
			out.Certificate = c.pair(p, chain, key)
		}
	case *tlsv3.Secret_ValidationContext:
		p := root.field("validation_context")
		v := s.ValidationContext
		if v.GetSystemRootCerts() != nil || v.GetTrustChainVerification() != 0 || len(v.GetMatchTypedSubjectAltNames())+len(v.ProtoReflect().GetUnknown()) > 0 {
			c.fail(p, "only trusted_ca is supported in a secret")
		}
		ca := c.inlineData(p.field("trusted_ca"), v.GetTrustedCa())
		if len(c.errs) > 0 {
			return
		}
		var err error
		if out.Authorities, err = certificatesOf(ca); err != nil {
			c.fail(p.field("trusted_ca"), "%w", err)
		}
	default:
		c.fail(root, "a secret is a tls_certificate or a validation_context")
	}
}

// pair is a certificate with its key.
func (c *decoding) pair(p *path, chain, key []byte) *tls.Certificate {
	if _, err := certificatesOf(chain); err != nil {
		c.fail(p.field("certificate_chain"), "%w", err)
		return nil
	}
	if len(key) > maxKeyPEM {
		c.fail(p.field("private_key"), "it has %d bytes, at most %d are read", len(key), maxKeyPEM)
		return nil
	}
	cert, err := tls.X509KeyPair(chain, key)
	if err != nil { // the chain is good
		c.fail(p.field("private_key"), "%s", strings.TrimPrefix(err.Error(), "tls: "))
		return nil
	}
	return &cert
}

// certificatesOf reads PEM, all of whose certificates must be good; there is at least one.
func certificatesOf(text []byte) ([]*x509.Certificate, error) {
	if len(text) > maxChainPEM {
		return nil, fmt.Errorf("it has %d bytes, at most %d are read", len(text), maxChainPEM)
	}
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(out)+1, err)
		}
		out = append(out, cert)
	}
	if len(out) == 0 {
		return nil, errors.New("no certificate in it")
	}
	return out, nil
}
