package record

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"net/url"
	"strings"

	"github.com/egret-mesh/egret/internal/data/credentials"
)

// tlsOperators print what is known of a TLS session; "-" where there is none.
var tlsOperators = map[string]operator{
	"DOWNSTREAM_TLS_VERSION":       version(downstream),
	"DOWNSTREAM_TLS_CIPHER":        cipher(downstream),
	"DOWNSTREAM_PEER_SUBJECT":      peer(downstream, subject),
	"DOWNSTREAM_PEER_ISSUER":       peer(downstream, func(c *x509.Certificate) string { return c.Issuer.String() }),
	"DOWNSTREAM_PEER_CERT":         peer(downstream, urlPEM),
	"DOWNSTREAM_PEER_CERT_V_START": validFrom(downstream),
	"DOWNSTREAM_PEER_CERT_V_END":   validTo(downstream),
	"DOWNSTREAM_PEER_URI_SAN":      peer(downstream, uris),
	"DOWNSTREAM_PEER_DNS_SAN":      peer(downstream, names),
	"DOWNSTREAM_PEER_IP_SAN":       peer(downstream, addresses),
	"DOWNSTREAM_PEER_EMAIL_SAN":    peer(downstream, emails),

	"DOWNSTREAM_PEER_FINGERPRINT_256":        peer(downstream, sha256Print),
	"DOWNSTREAM_PEER_FINGERPRINT_1":          peer(downstream, sha1Print),
	"DOWNSTREAM_PEER_SERIAL":                 peer(downstream, serial),
	"DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256": chain(downstream, sha256Print),
	"DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1":   chain(downstream, sha1Print),
	"DOWNSTREAM_PEER_CHAIN_SERIALS":          chain(downstream, serial),

	"DOWNSTREAM_LOCAL_SUBJECT":   own(downstream, subject),
	"DOWNSTREAM_LOCAL_URI_SAN":   own(downstream, uris),
	"DOWNSTREAM_LOCAL_DNS_SAN":   own(downstream, names),
	"DOWNSTREAM_LOCAL_IP_SAN":    own(downstream, addresses),
	"DOWNSTREAM_LOCAL_EMAIL_SAN": own(downstream, emails),

	"UPSTREAM_LOCAL_URI_SAN": own(upstream, uris),
	"UPSTREAM_LOCAL_DNS_SAN": own(upstream, names),
	"UPSTREAM_LOCAL_IP_SAN":  own(upstream, addresses),

	"UPSTREAM_TLS_VERSION":       version(upstream),
	"UPSTREAM_TLS_CIPHER":        cipher(upstream),
	"UPSTREAM_PEER_SUBJECT":      peer(upstream, subject),
	"UPSTREAM_PEER_ISSUER":       peer(upstream, func(c *x509.Certificate) string { return c.Issuer.String() }),
	"UPSTREAM_PEER_CERT":         peer(upstream, urlPEM),
	"UPSTREAM_PEER_CERT_V_START": validFrom(upstream),
	"UPSTREAM_PEER_CERT_V_END":   validTo(upstream),
	"UPSTREAM_PEER_URI_SAN":      peer(upstream, uris),
	"UPSTREAM_PEER_DNS_SAN":      peer(upstream, names),
	"UPSTREAM_PEER_IP_SAN":       peer(upstream, addresses),
}

// side says whose TLS session is meant; nil: plain text.
type side func(*Entry) *credentials.Session

func downstream(e *Entry) *credentials.Session { return e.DownstreamTLS }
func upstream(e *Entry) *credentials.Session   { return e.UpstreamTLS }

// versions are Envoy's names.
var versions = map[uint16]string{
	tls.VersionTLS10: "TLSv1", tls.VersionTLS11: "TLSv1.1", tls.VersionTLS12: "TLSv1.2", tls.VersionTLS13: "TLSv1.3",
}

func version(of side) operator {
	return func(_ *Recorder, e *Entry) value {
		if s := of(e); s != nil {
			return word(versions[s.Version])
		}
		return value{}
	}
}

// openSSLNames are the names that Envoy prints, for the suites that crypto/tls knows.
// Those of TLS 1.3 are the same in both.
var openSSLNames = map[uint16]string{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256:       "ECDHE-ECDSA-AES128-GCM-SHA256",
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384:       "ECDHE-ECDSA-AES256-GCM-SHA384",
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:         "ECDHE-RSA-AES128-GCM-SHA256",
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:         "ECDHE-RSA-AES256-GCM-SHA384",
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256: "ECDHE-ECDSA-CHACHA20-POLY1305",
	tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256:   "ECDHE-RSA-CHACHA20-POLY1305",
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA:          "ECDHE-ECDSA-AES128-SHA",
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA:          "ECDHE-ECDSA-AES256-SHA",
	tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA:            "ECDHE-RSA-AES128-SHA",
	tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA:            "ECDHE-RSA-AES256-SHA",
}

func cipher(of side) operator {
	return func(_ *Recorder, e *Entry) value {
		s := of(e)
		if s == nil {
			return value{}
		}
		if name := openSSLNames[s.CipherSuite]; name != "" {
			return word(name)
		}
		return word(tls.CipherSuiteName(s.CipherSuite))
	}
}

// peer prints something of the other side's certificate.
func peer(of side, print func(*x509.Certificate) string) operator {
	return func(_ *Recorder, e *Entry) value {
		if c := of(e).Peer(); c != nil {
			return foreign(print(c))
		}
		return value{}
	}
}

// own prints something of the certificate that the proxy had to show.
func own(of side, print func(*x509.Certificate) string) operator {
	return func(_ *Recorder, e *Entry) value {
		if s := of(e); s != nil && s.Own != nil {
			return word(print(s.Own))
		}
		return value{}
	}
}

// chain prints something of all certificates that the other side sent.
func chain(of side, print func(*x509.Certificate) string) operator {
	return func(_ *Recorder, e *Entry) value {
		s := of(e)
		if s == nil {
			return value{}
		}
		var all []string
		for _, c := range s.PeerCertificates {
			all = append(all, print(c))
		}
		return foreign(strings.Join(all, ","))
	}
}

func validFrom(of side) operator {
	return func(_ *Recorder, e *Entry) value {
		if c := of(e).Peer(); c != nil {
			return seconds(c.NotBefore)
		}
		return value{}
	}
}

func validTo(of side) operator {
	return func(_ *Recorder, e *Entry) value {
		if c := of(e).Peer(); c != nil {
			return seconds(c.NotAfter)
		}
		return value{}
	}
}

func subject(c *x509.Certificate) string { return c.Subject.String() }
func names(c *x509.Certificate) string   { return strings.Join(c.DNSNames, ",") }
func emails(c *x509.Certificate) string  { return strings.Join(c.EmailAddresses, ",") }

func uris(c *x509.Certificate) string {
	var all []string
	for _, u := range c.URIs {
		all = append(all, u.String())
	}
	return strings.Join(all, ",")
}

func addresses(c *x509.Certificate) string {
	var all []string
	for _, a := range c.IPAddresses {
		all = append(all, a.String())
	}
	return strings.Join(all, ",")
}

func sha256Print(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

func sha1Print(c *x509.Certificate) string {
	sum := sha1.Sum(c.Raw)
	return hex.EncodeToString(sum[:])
}

func serial(c *x509.Certificate) string { return c.SerialNumber.Text(16) }

func urlPEM(c *x509.Certificate) string {
	return url.PathEscape(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})))
}
