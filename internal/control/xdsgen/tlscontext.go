package xdsgen

import (
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/egret-mesh/egret/internal/control/mesh"
)

// originateTLS sets the transport socket that a DestinationRule asks for; without one it is
// the mesh's where the other side takes that. The server
// is verified unless insecureSkipVerify says otherwise: against caCertificates, or the
// system's authorities, and by name: subjectAltNames (of the rule, else of the
// ServiceEntry), else the SNI. Without an SNI HTTP takes both from the request's
// Host (auto_sni, auto_san_validation) as Istio does, and TCP from the service's host.
func (b *builder) originateTLS(c *clusterv3.Cluster, t *target, o *httpv3.HttpProtocolOptions) {
	s := t.policy.tls
	switch {
	case s == nil:
		b.autoTLS(c, t)
		return
	case s.GetMode() == networking.ClientTLSSettings_DISABLE:
		return
	case s.GetMode() == networking.ClientTLSSettings_ISTIO_MUTUAL:
		c.TransportSocket = b.meshTLS(t)
		return
	}
	// As in Istio: a Secret is of the proxy's namespace, so a rule for many workloads can mean
	// gateways only.
	if s.GetCredentialName() != "" && b.node.Type != mesh.NodeRouter && !t.selected {
		return
	}
	ctx := upstreamTLS(s)
	switch {
	case t.port.Protocol != mesh.ProtocolHTTP:
	case t.version() == http2:
		ctx.CommonTlsContext.AlpnProtocols = []string{"h2"}
	case t.version() == clientsOwn:
		ctx.CommonTlsContext.AlpnProtocols = []string{"h2", "http/1.1"}
	default:
		ctx.CommonTlsContext.AlpnProtocols = []string{"http/1.1"}
	}
	b.verifyServer(ctx, t, o)
	switch {
	case s.GetMode() != networking.ClientTLSSettings_MUTUAL:
	case s.GetCredentialName() != "":
		ctx.CommonTlsContext.TlsCertificateSdsSecretConfigs = []*tlsv3.SdsSecretConfig{b.certificateOf(s.GetCredentialName())}
	default:
		ctx.CommonTlsContext.TlsCertificates = []*tlsv3.TlsCertificate{{
			CertificateChain: file(s.GetClientCertificate()), PrivateKey: file(s.GetPrivateKey()),
		}}
	}
	c.TransportSocket = b.tlsSocket(ctx)
}

// verifyServer sets how the server's certificate is checked.
func (b *builder) verifyServer(ctx *tlsv3.UpstreamTlsContext, t *target, o *httpv3.HttpProtocolOptions) {
	s := t.policy.tls
	names := s.GetSubjectAltNames()
	if len(names) == 0 {
		names = t.service.SubjectAltNames
	}
	skip := s.GetInsecureSkipVerify().GetValue()
	if ctx.Sni == "" {
		if t.port.Protocol == mesh.ProtocolHTTP {
			o.UpstreamHttpProtocolOptions = &corev3.UpstreamHttpProtocolOptions{
				AutoSni: true, AutoSanValidation: !skip && len(names) == 0,
			}
		} else if !mesh.IsWildcard(t.service.Host) {
			ctx.Sni = t.service.Host
		}
	}
	if skip {
		return
	}
	if len(names) == 0 && ctx.Sni != "" {
		names = []string{ctx.Sni}
	}
	v := &tlsv3.CertificateValidationContext{}
	for _, n := range names {
		v.MatchTypedSubjectAltNames = append(v.MatchTypedSubjectAltNames, sanMatcher(n))
	}
	if s.GetCredentialName() != "" {
		ctx.CommonTlsContext.ValidationContextType = b.authoritiesOf(s.GetCredentialName(), v)
		return
	}
	ca := s.GetCaCertificates()
	if ca == "" || ca == "system" {
		ca = b.node.SystemCA
	}
	if ca != "" {
		v.TrustedCa = file(ca)
	} else {
		v.SystemRootCerts = &tlsv3.CertificateValidationContext_SystemRootCerts{}
	}
	ctx.CommonTlsContext.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: v}
}

// sanMatcher matches a DNS name, or a URI where there is a scheme.
func sanMatcher(name string) *tlsv3.SubjectAltNameMatcher {
	kind := tlsv3.SubjectAltNameMatcher_DNS
	if strings.Contains(name, "://") {
		kind = tlsv3.SubjectAltNameMatcher_URI
	}
	return &tlsv3.SubjectAltNameMatcher{
		SanType: kind,
		Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: name}},
	}
}

func file(path string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: path}}
}
