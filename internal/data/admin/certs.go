package admin

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/resource"
	"github.com/egret-mesh/egret/internal/file"
)

// credential is certificates that the configuration uses, from a file or inline. The key
// is never read.
type credential struct {
	authority bool   // those that peers' certificates must come from
	path, key string // files
	inline    string // PEM
}

// name is that of the secret as which Istio's agent would serve the files.
func (c credential) name() string {
	switch {
	case c.path == "":
		return "<inline>"
	case c.authority:
		return "file-root:" + c.path
	}
	return "file-cert:" + c.path + "~" + c.key
}

func (c credential) pem() ([]byte, error) {
	if c.path == "" {
		return []byte(c.inline), nil
	}
	return file.Read(c.path)
}

// certificates of the PEM; an error where there is none.
func (c credential) certificates() ([]*x509.Certificate, error) {
	rest, err := c.pem()
	if err != nil {
		return nil, err
	}
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, cert)
	}
	if len(out) == 0 {
		return nil, errors.New("no certificate in it")
	}
	return out, nil
}

// credentials are all that a configuration uses, each once, by name.
func credentials(c *config.Config) []credential {
	if c == nil {
		return nil
	}
	all := map[credential]bool{}
	add := func(one credential) {
		if one.path+one.inline != "" {
			all[one] = true
		}
	}
	upstream := func(t *resource.UpstreamTLS) {
		if t != nil {
			add(credential{authority: true, path: t.CAFile, inline: string(t.InlineCA)})
			add(credential{path: t.CertFile, key: t.KeyFile})
		}
	}
	for cluster := range c.AllClusters() {
		upstream(cluster.TLS)
		for i := range cluster.TLSMatches {
			upstream(cluster.TLSMatches[i].TLS)
		}
	}
	for chain := range c.AllFilterChains() {
		if chain.TLS == nil {
			continue
		}
		for _, cert := range chain.TLS.Certificates {
			add(credential{path: cert.CertFile, key: cert.KeyFile, inline: string(cert.InlineCert)})
		}
		if v := chain.TLS.Verify; v != nil {
			add(credential{authority: true, path: v.CAFile, inline: string(v.InlineCA)})
		}
	}
	return slices.SortedFunc(maps.Keys(all), func(a, b credential) int {
		return cmp.Or(cmp.Compare(a.name(), b.name()), cmp.Compare(a.inline, b.inline))
	})
}

func (a *Admin) certs(w http.ResponseWriter, r *http.Request) error {
	done, err := a.begin(r)
	if err != nil {
		return err
	}
	defer done()
	out := &adminv3.Certificates{}
	for _, c := range credentials(a.options.Proxy.Store().Current()) {
		certs, err := c.certificates()
		if err != nil {
			continue // the secrets of /config_dump say why
		}
		one := &adminv3.Certificate{}
		for _, cert := range certs {
			if d := details(c, cert); c.authority {
				one.CaCert = append(one.CaCert, d)
			} else {
				one.CertChain = append(one.CertChain, d)
			}
		}
		out.Certificates = append(out.Certificates, one)
	}
	out.Certificates = append(out.Certificates, a.namedCertificates()...)
	return writeJSON(w, out)
}

func details(c credential, cert *x509.Certificate) *adminv3.CertificateDetails {
	d := &adminv3.CertificateDetails{
		Path: cmp.Or(c.path, "<inline>"), SerialNumber: fmt.Sprintf("%x", cert.SerialNumber),
		DaysUntilExpiration: uint64(max(time.Until(cert.NotAfter), 0) / (24 * time.Hour)),
		ValidFrom:           timestamp(cert.NotBefore), ExpirationTime: timestamp(cert.NotAfter),
	}
	for _, name := range cert.DNSNames {
		d.SubjectAltNames = append(d.SubjectAltNames, &adminv3.SubjectAlternateName{Name: &adminv3.SubjectAlternateName_Dns{Dns: name}})
	}
	for _, uri := range cert.URIs {
		d.SubjectAltNames = append(d.SubjectAltNames, &adminv3.SubjectAlternateName{Name: &adminv3.SubjectAlternateName_Uri{Uri: uri.String()}})
	}
	for _, ip := range cert.IPAddresses {
		d.SubjectAltNames = append(d.SubjectAltNames, &adminv3.SubjectAlternateName{Name: &adminv3.SubjectAlternateName_IpAddress{IpAddress: ip.String()}})
	}
	return d
}

// secretSection tells the secrets that have a name, and the files of certificates as the
// secrets that Istio's agent serves.
func (a *Admin) secretSection() section {
	active, warming := a.namedSecrets()
	for _, c := range credentials(a.options.Proxy.Store().Current()) {
		if c.path == "" {
			continue // it is in the listener or cluster itself
		}
		s, err := c.secret()
		e := element{c.name(), func() (proto.Message, error) { return s, nil }}
		if err != nil {
			s.ErrorState = &adminv3.UpdateFailureState{Details: err.Error()}
			warming = append(warming, e)
		} else {
			active = append(active, e)
		}
	}
	return section{&adminv3.SecretsConfigDump{}, []list{{"dynamic_active_secrets", active}, {"dynamic_warming_secrets", warming}}}
}

// secret has the certificates as they are in the file now.
func (c credential) secret() (*adminv3.SecretsConfigDump_DynamicSecret, error) {
	out := &adminv3.SecretsConfigDump_DynamicSecret{Name: c.name()}
	certs, err := c.certificates()
	if err != nil {
		return out, err
	}
	var text []byte
	for _, cert := range certs {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	hash := sha256.Sum256(text)
	out.VersionInfo = hex.EncodeToString(hash[:8])
	if info, err := os.Stat(c.path); err == nil {
		out.LastUpdated = timestamp(info.ModTime())
	}
	source := &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: text}}
	secret := &tlsv3.Secret{Name: c.name()}
	if c.authority {
		secret.Type = &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: source}}
	} else {
		secret.Type = &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: source,
			PrivateKey:       &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: []byte(redacted)}},
		}}
	}
	out.Secret, err = anypb.New(secret)
	return out, err
}
