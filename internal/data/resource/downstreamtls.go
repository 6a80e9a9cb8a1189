package resource

import (
	"crypto/tls"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rawbufferv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

// downstreamSocket is nil for plain text. A TLS context that cannot be carried out
// (unsupported says why) is no error: the chain stays, so that it is chosen where
// Envoy would choose it, and refuses.
func (c *decoding) downstreamSocket(p *path, ts *corev3.TransportSocket) (out *DownstreamTLS, unsupported string) {
	a := ts.GetTypedConfig()
	switch typeName(a.GetTypeUrl()) {
	case typeRawBuffer:
		c.unpack(p.field("typed_config"), a, &rawbufferv3.RawBuffer{})
	case typeDownstreamTLS:
		sub := &decoding{skipped: c.skipped}
		var m tlsv3.DownstreamTlsContext
		if sub.unpack(nil, a, &m) {
			out = sub.downstreamTLS(&m)
		}
		if len(sub.errs) > 0 {
			return nil, joined(sub.texts(nil)).Error()
		}
	default:
		c.fail(p, "transport socket %q of type %q is not supported", clip(ts.GetName()), clip(a.GetTypeUrl()))
	}
	return out, ""
}

func (c *decoding) downstreamTLS(m *tlsv3.DownstreamTlsContext) *DownstreamTLS {
	common := m.GetCommonTlsContext()
	p := (*path)(nil).field("common_tls_context")
	params := common.GetTlsParams()
	out := &DownstreamTLS{
		ALPN:                     common.GetAlpnProtocols(),
		Verify:                   c.verification(p, common),
		RequireClientCertificate: m.GetRequireClientCertificate().GetValue(),
		NoSessionTickets:         m.GetDisableStatelessSessionResumption(),
		MinVersion:               c.tlsVersion(p, params.GetTlsMinimumProtocolVersion()),
		MaxVersion:               c.tlsVersion(p, params.GetTlsMaximumProtocolVersion()),
		CipherSuites:             c.cipherSuites(p, params.GetCipherSuites()),
	}
	for i, cert := range common.GetTlsCertificates() {
		out.Certificates = append(out.Certificates, c.serverCertificate(p.at("tls_certificates", i), cert))
	}
	for i, secret := range common.GetTlsCertificateSdsSecretConfigs() {
		out.Certificates = append(out.Certificates, c.certificateSecret(p.at("tls_certificate_sds_secret_configs", i), secret))
	}
	out.Subscribed = c.subscribed
	if len(out.Certificates) == 0 {
		c.fail(p.field("tls_certificates"), "there is no certificate")
	}
	if m.GetOcspStaplePolicy() != tlsv3.DownstreamTlsContext_LENIENT_STAPLING {
		c.fail((*path)(nil).field("ocsp_staple_policy"), "%s is not supported", m.GetOcspStaplePolicy())
	}
	return out
}

func (c *decoding) serverCertificate(p *path, m *tlsv3.TlsCertificate) Certificate {
	chain, key := m.GetCertificateChain(), m.GetPrivateKey()
	if chain.GetFilename() != "" || key.GetFilename() != "" {
		if chain.GetFilename() == "" || key.GetFilename() == "" {
			c.fail(p, "certificate and key must both be files, or both be inline")
		}
		return Certificate{CertFile: chain.GetFilename(), KeyFile: key.GetFilename()}
	}
	out := Certificate{InlineCert: c.inlineData(p.field("certificate_chain"), chain), InlineKey: c.inlineData(p.field("private_key"), key)}
	if len(out.InlineCert) > 0 && len(out.InlineKey) > 0 {
		if _, err := tls.X509KeyPair(out.InlineCert, out.InlineKey); err != nil {
			c.fail(p, "certificate and key: %w", err)
		}
		return out
	}
	c.fail(p, "certificate or key is missing")
	return out
}

// cipherSuites are the suites of TLS 1.2 and before by their names in OpenSSL, which
// Envoy uses; those of TLS 1.3 cannot be chosen, there as here. Groups of equal
// preference are "[A|B]". Names that Go does not have, or counts as insecure, are left
// out; with none left the connection could not be made.
func (c *decoding) cipherSuites(p *path, list []string) []uint16 {
	var out []uint16
	for _, group := range list {
		for _, name := range strings.Split(strings.Trim(group, "[]"), "|") {
			if id := cipherSuite(name); id != 0 {
				out = append(out, id)
			}
		}
	}
	if len(out) == 0 && len(list) > 0 {
		c.fail(p.field("tls_params").field("cipher_suites"), "none of %q is supported", clip(strings.Join(list, ",")))
	}
	return out
}

// cipherSuite is the number of a suite of TLS 1.2 and before; 0 where Go does not have
// it or counts it as insecure.
func cipherSuite(openssl string) uint16 {
	switch openssl {
	case "ECDHE-ECDSA-AES128-GCM-SHA256":
		return tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
	case "ECDHE-RSA-AES128-GCM-SHA256":
		return tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
	case "ECDHE-ECDSA-AES256-GCM-SHA384":
		return tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
	case "ECDHE-RSA-AES256-GCM-SHA384":
		return tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
	case "ECDHE-ECDSA-CHACHA20-POLY1305":
		return tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
	case "ECDHE-RSA-CHACHA20-POLY1305":
		return tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
	case "ECDHE-ECDSA-AES128-SHA":
		return tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA
	case "ECDHE-RSA-AES128-SHA":
		return tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA
	case "ECDHE-ECDSA-AES256-SHA":
		return tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA
	case "ECDHE-RSA-AES256-SHA":
		return tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA
	}
	return 0
}
