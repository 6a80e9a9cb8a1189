package resource

//lint:file-ignore SA1019 Deprecated fields are read because control planes still send them.

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rawbufferv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

const (
	typeUpstreamTLS = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"

	// Istio's names of secrets that its agent serves from files
	// (istio.io/istio/pkg/security): the roots of the machine, a CA file, and a
	// certificate with its key. They are read here without an agent. Others are names of
	// credentials.Secrets.
	secretSystemRoots = "file-root:system"
	secretRootFile    = "file-root:"
	secretCertFile    = "file-cert:"

	// agentCluster is the cluster by which Istio's agent serves SDS (sds-grpc in
	// istio.io/istio/pilot/pkg/security/model).
	agentCluster = "sds-grpc"
)

// upstreamSocket is nil for plain text. A TLS context that cannot be carried out
// is no error: it says so in Unsupported, and connections that need it fail. known
// is false where the type of socket is not known.
func (c *decoding) upstreamSocket(p *path, ts *corev3.TransportSocket) (out *UpstreamTLS, known bool) {
	a := ts.GetTypedConfig()
	switch name := typeName(a.GetTypeUrl()); name {
	case typeRawBuffer:
		c.unpack(p.field("typed_config"), a, &rawbufferv3.RawBuffer{})
		return nil, true
	case typeUpstreamTLS:
		sub := &decoding{skipped: c.skipped}
		var m tlsv3.UpstreamTlsContext
		out = &UpstreamTLS{}
		if sub.unpack(nil, a, &m) {
			sub.upstreamTLS(out, &m)
		}
		if len(sub.errs) > 0 {
			out.Unsupported = joined(sub.texts(nil)).Error()
		}
		return out, true
	default:
		return &UpstreamTLS{Unsupported: fmt.Sprintf("transport socket %q of type %q is not supported", clip(ts.GetName()), clip(string(name)))}, false
	}
}

func (c *decoding) upstreamTLS(out *UpstreamTLS, m *tlsv3.UpstreamTlsContext) {
	common := m.GetCommonTlsContext()
	p := (*path)(nil).field("common_tls_context")
	out.SNI = m.GetSni()
	out.AutoHostSNI = m.GetAutoHostSni()
	out.AutoSANCheck = m.GetAutoSniSanValidation()
	out.ALPN = common.GetAlpnProtocols()
	out.MinVersion = c.tlsVersion(p, common.GetTlsParams().GetTlsMinimumProtocolVersion())
	out.MaxVersion = c.tlsVersion(p, common.GetTlsParams().GetTlsMaximumProtocolVersion())
	out.CipherSuites = c.cipherSuites(p, common.GetTlsParams().GetCipherSuites())
	c.clientCertificate(p, out, common)
	v := c.verification(p, common)
	if v == nil {
		v = &Verification{Skip: true}
	}
	out.CAFile, out.SystemCA, out.InlineCA, out.CASecret = v.CAFile, v.SystemCA, v.InlineCA, v.CASecret
	out.SANs, out.SkipVerify = v.SANs, v.Skip
	out.Subscribed = c.subscribed
}

// verification is how the peer's certificate is judged; nil: the context does not say.
func (c *decoding) verification(p *path, m *tlsv3.CommonTlsContext) *Verification {
	switch s := m.GetValidationContextType().(type) {
	case nil:
		return nil
	case *tlsv3.CommonTlsContext_ValidationContext:
		return c.validation(p.field("validation_context"), s.ValidationContext, nil)
	case *tlsv3.CommonTlsContext_ValidationContextSdsSecretConfig:
		return c.validation(p.field("validation_context_sds_secret_config"), nil, s.ValidationContextSdsSecretConfig)
	case *tlsv3.CommonTlsContext_CombinedValidationContext:
		combined := s.CombinedValidationContext
		return c.validation(p.field("combined_validation_context"), combined.GetDefaultValidationContext(), combined.GetValidationContextSdsSecretConfig())
	}
	c.fail(p, "this kind of validation context is not supported")
	return nil
}

func (c *decoding) tlsVersion(p *path, v tlsv3.TlsParameters_TlsProtocol) uint16 {
	switch v {
	case tlsv3.TlsParameters_TLS_AUTO:
		return 0
	case tlsv3.TlsParameters_TLSv1_0:
		return tls.VersionTLS10
	case tlsv3.TlsParameters_TLSv1_1:
		return tls.VersionTLS11
	case tlsv3.TlsParameters_TLSv1_2:
		return tls.VersionTLS12
	case tlsv3.TlsParameters_TLSv1_3:
		return tls.VersionTLS13
	}
	c.fail(p.field("tls_params"), "version %d is not supported", v)
	return 0
}

func (c *decoding) clientCertificate(p *path, out *UpstreamTLS, m *tlsv3.CommonTlsContext) {
	files, secrets := m.GetTlsCertificates(), m.GetTlsCertificateSdsSecretConfigs()
	switch {
	case len(files)+len(secrets) > 1:
		c.fail(p, "more than one client certificate is not supported")
	case len(files) == 1:
		out.CertFile = files[0].GetCertificateChain().GetFilename()
		out.KeyFile = files[0].GetPrivateKey().GetFilename()
		if out.CertFile == "" || out.KeyFile == "" {
			c.fail(p.at("tls_certificates", 0), "only certificate and key from files are supported")
		}
	case len(secrets) == 1:
		cert := c.certificateSecret(p.at("tls_certificate_sds_secret_configs", 0), secrets[0])
		out.CertFile, out.KeyFile, out.CertSecret = cert.CertFile, cert.KeyFile, cert.Secret
	}
}

// certificateSecret is a certificate by its name: the files that Istio's agent would
// serve it from, or a secret of the agent or the control plane.
func (c *decoding) certificateSecret(p *path, m *tlsv3.SdsSecretConfig) Certificate {
	rest, isFile := strings.CutPrefix(m.GetName(), secretCertFile)
	if !isFile {
		return Certificate{Secret: c.secretName(p, m)}
	}
	cert, key, both := strings.Cut(rest, "~")
	if !both || cert == "" || key == "" {
		c.fail(p, "the secret %q does not name two files", clip(m.GetName()))
	}
	return Certificate{CertFile: cert, KeyFile: key}
}

// secretName is the name of a secret that the agent has, or that comes by ADS. There is no
// other SDS server.
func (c *decoding) secretName(p *path, m *tlsv3.SdsSecretConfig) string {
	if m.GetSdsConfig().GetAds() != nil && m.GetName() != "" {
		c.subscribed = append(c.subscribed, m.GetName())
		return m.GetName()
	}
	services := m.GetSdsConfig().GetApiConfigSource().GetGrpcServices()
	if len(services) != 1 || services[0].GetEnvoyGrpc().GetClusterName() != agentCluster || m.GetName() == "" {
		c.fail(p, "the secret %q: only those of an agent (SDS by the cluster %s) and of ADS are supported", clip(m.GetName()), agentCluster)
	}
	return m.GetName()
}

// validation merges a validation context with the secret that gives its roots.
// With no roots at all Envoy does not verify.
func (c *decoding) validation(p *path, m *tlsv3.CertificateValidationContext, sds *tlsv3.SdsSecretConfig) *Verification {
	out := &Verification{}
	ca := m.GetTrustedCa()
	switch {
	case ca.GetFilename() != "":
		out.CAFile = ca.GetFilename()
	case ca != nil:
		out.InlineCA = c.inlineData(p.field("trusted_ca"), ca)
	case m.GetSystemRootCerts() != nil:
		out.SystemCA = true
	}
	if file, ok := strings.CutPrefix(sds.GetName(), secretRootFile); sds.GetName() == secretSystemRoots {
		out.SystemCA = true
	} else if ok && file != "" {
		out.CAFile = file
	} else if sds != nil {
		out.CASecret = c.secretName(p, sds)
	}
	out.Skip = out.CAFile == "" && len(out.InlineCA) == 0 && !out.SystemCA && out.CASecret == "" ||
		m.GetTrustChainVerification() == tlsv3.CertificateValidationContext_ACCEPT_UNTRUSTED
	for i, san := range m.GetMatchSubjectAltNames() {
		out.SANs = append(out.SANs, c.stringMatcher(p.at("match_subject_alt_names", i), san))
	}
	for i, san := range m.GetMatchTypedSubjectAltNames() {
		at := p.at("match_typed_subject_alt_names", i)
		switch san.GetSanType() {
		case tlsv3.SubjectAltNameMatcher_DNS, tlsv3.SubjectAltNameMatcher_URI, tlsv3.SubjectAltNameMatcher_IP_ADDRESS:
			out.SANs = append(out.SANs, c.stringMatcher(at.field("matcher"), san.GetMatcher()))
		default:
			c.fail(at, "type %s is not supported", san.GetSanType())
		}
	}
	if out.Skip && len(out.SANs) > 0 {
		c.fail(p, "subject alternative names without a CA to check the certificate against")
	}
	return out
}

// labels is a metadata match as strings.
func (c *decoding) labels(p *path, s *structpb.Struct) map[string]string {
	if len(s.GetFields()) == 0 {
		return nil
	}
	out := make(map[string]string, len(s.GetFields()))
	for k, v := range s.GetFields() {
		text, ok := v.GetKind().(*structpb.Value_StringValue)
		if !ok {
			c.fail(p, "the value of %q is not a string", clip(k))
			continue
		}
		out[k] = text.StringValue
	}
	return out
}

// Secrets are the names of credentials.Secrets that the context needs; nil: none.
func (t *UpstreamTLS) Secrets() []string {
	if t == nil {
		return nil
	}
	return named(t.CertSecret, t.CASecret)
}

// Secrets are the names of credentials.Secrets that the context needs; nil: none.
func (t *DownstreamTLS) Secrets() []string {
	if t == nil {
		return nil
	}
	var out []string
	for _, c := range t.Certificates {
		out = append(out, named(c.Secret)...)
	}
	if t.Verify != nil {
		out = append(out, named(t.Verify.CASecret)...)
	}
	return out
}

func named(list ...string) []string {
	return slices.DeleteFunc(list, func(s string) bool { return s == "" })
}
