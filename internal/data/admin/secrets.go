package admin

import (
	"crypto/x509"
	"encoding/pem"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	held "github.com/egret-mesh/egret/internal/data/credentials"
)

// The secrets that TLS contexts refer to by name: the agent's, and those of SDS over ADS.

// namedSecrets tells them as Envoy tells its own. The key is never in it.
func (a *Admin) namedSecrets() (active, warming []element) {
	for _, s := range a.options.Proxy.Secrets().All() {
		out := &adminv3.SecretsConfigDump_DynamicSecret{Name: s.Name, VersionInfo: s.Version}
		if s.Problem != "" {
			out.ErrorState = &adminv3.UpdateFailureState{Details: s.Problem}
		}
		e := element{s.Name, func() (proto.Message, error) { return out, nil }}
		if s.Certificate == nil && s.Roots == nil {
			warming = append(warming, e)
			continue
		}
		out.LastUpdated = timestamp(s.Updated)
		e.make = func() (proto.Message, error) {
			var err error
			out.Secret, err = anypb.New(secretMessage(s.Secret))
			return out, err
		}
		active = append(active, e)
	}
	return active, warming
}

func secretMessage(s held.Secret) *tlsv3.Secret {
	out := &tlsv3.Secret{Name: s.Name}
	source := &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: pemOf(chainOf(s))}}
	if s.Certificate != nil {
		out.Type = &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: source,
			PrivateKey:       &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: []byte(redacted)}},
		}}
	} else {
		out.Type = &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: source}}
	}
	return out
}

// chainOf has the certificates of a secret in DER.
func chainOf(s held.Secret) [][]byte {
	if s.Certificate != nil {
		return s.Certificate.Certificate
	}
	out := make([][]byte, len(s.Authorities))
	for i, c := range s.Authorities {
		out[i] = c.Raw
	}
	return out
}

func pemOf(chain [][]byte) (out []byte) {
	for _, der := range chain {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return out
}

// namedCertificates tells what /certs has of them.
func (a *Admin) namedCertificates() (out []*adminv3.Certificate) {
	for _, s := range a.options.Proxy.Secrets().All() {
		one := &adminv3.Certificate{}
		for _, der := range chainOf(s.Secret) {
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				continue
			}
			if d := details(credential{}, cert); s.Certificate != nil {
				one.CertChain = append(one.CertChain, d)
			} else {
				one.CaCert = append(one.CaCert, d)
			}
		}
		if len(one.CertChain)+len(one.CaCert) > 0 {
			out = append(out, one)
		}
	}
	return out
}
