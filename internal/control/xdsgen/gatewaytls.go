package xdsgen

import (
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/xds"
)

// names are the server's hosts as SNI.
func (s *gatewayServer) names() []string {
	out := make([]string, 0, len(s.hosts))
	for _, h := range s.hosts {
		out = append(out, h.Host)
	}
	return out
}

// gatewayHTTPS adds the chain of a server that ends TLS and routes the HTTP inside. As
// in Istio it has a route configuration of its own, so that a host of another server on
// the same port is not served under this server's certificate.
func (b *builder) gatewayHTTPS(d *draft, p *gatewayPort, s *gatewayServer) {
	route := fmt.Sprintf("https.%d.%s.%s.%s", s.port(), s.server.GetPort().GetName(), s.gateway.Name, s.gateway.Namespace)
	metadata := (&provenance{config: s.gateway.Ref, objects: []istioapi.Ref{s.gateway.Ref}}).metadata()
	if !d.add(chain{sni: s.names(), server: s, route: route, metadata: metadata}) {
		return
	}
	own := &gatewayPort{listenerKey: p.listenerKey, kind: s.kind, servers: []gatewayServer{*s}}
	b.emit(xds.RouteType, route, b.gatewayRoutes(own, route))
}

// terminatingChain is the resource of a chain that ends TLS.
func (b *builder) terminatingChain(p *gatewayPort, c *chain) *listenerv3.FilterChain {
	out := &listenerv3.FilterChain{
		FilterChainMatch:              c.match(),
		TransportSocket:               b.serverTLS(c.server),
		TransportSocketConnectTimeout: b.shared.socketTimeout,
		Metadata:                      c.metadata,
	}
	if c.route != "" {
		out.Filters = b.httpFilters(p.listenerKey, c.route)
	} else {
		out.Filters = b.tcpFilters(c.target, true)
	}
	return out
}

// serverTLS is the TLS context of a server. The defaults are Istio's: TLS 1.2 at least.
func (b *builder) serverTLS(server *gatewayServer) *corev3.TransportSocket {
	s := server.server.GetTls()
	common := &tlsv3.CommonTlsContext{TlsParams: &tlsv3.TlsParameters{
		TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2,
		TlsMaximumProtocolVersion: tlsProtocol(s.GetMaxProtocolVersion()),
		CipherSuites:              s.GetCipherSuites(),
	}}
	if least := tlsProtocol(s.GetMinProtocolVersion()); least != tlsv3.TlsParameters_TLS_AUTO {
		common.TlsParams.TlsMinimumProtocolVersion = least
	}
	if server.kind == mesh.ServerHTTPS {
		common.AlpnProtocols = []string{"h2", "http/1.1"}
	}
	b.serverCertificates(common, s)
	ctx := &tlsv3.DownstreamTlsContext{CommonTlsContext: common, RequireClientCertificate: wrapperspb.Bool(s.GetMode() == networking.ServerTLSSettings_MUTUAL)}
	v := &tlsv3.CertificateValidationContext{}
	for _, n := range s.GetSubjectAltNames() {
		v.MatchTypedSubjectAltNames = append(v.MatchTypedSubjectAltNames, sanMatcher(n))
	}
	switch s.GetMode() {
	case networking.ServerTLSSettings_SIMPLE:
	case networking.ServerTLSSettings_ISTIO_MUTUAL:
		b.useMeshIdentity(common, v)
		ctx.RequireClientCertificate = b.shared.yes
	default:
		if from := istioapi.AuthoritiesCredential(s); from != "" {
			common.ValidationContextType = b.authoritiesOf(from, v)
			break
		}
		v.TrustedCa = file(s.GetCaCertificates())
		common.ValidationContextType = &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: v}
	}
	return b.tlsSocket(ctx)
}

// serverCertificates sets what a server shows: what Secrets have, else files.
func (b *builder) serverCertificates(common *tlsv3.CommonTlsContext, s *networking.ServerTLSSettings) {
	if names := istioapi.Credentials(s); len(names) > 0 {
		for _, n := range names {
			common.TlsCertificateSdsSecretConfigs = append(common.TlsCertificateSdsSecretConfigs, b.certificateOf(n))
		}
		return
	}
	pair := func(cert, key string) {
		common.TlsCertificates = append(common.TlsCertificates, &tlsv3.TlsCertificate{CertificateChain: file(cert), PrivateKey: file(key)})
	}
	if s.GetServerCertificate() != "" {
		pair(s.GetServerCertificate(), s.GetPrivateKey())
	}
	for _, c := range s.GetTlsCertificates() {
		pair(c.GetServerCertificate(), c.GetPrivateKey())
	}
}

func tlsProtocol(v networking.ServerTLSSettings_TLSProtocol) tlsv3.TlsParameters_TlsProtocol {
	switch v {
	case networking.ServerTLSSettings_TLSV1_0:
		return tlsv3.TlsParameters_TLSv1_0
	case networking.ServerTLSSettings_TLSV1_1:
		return tlsv3.TlsParameters_TLSv1_1
	case networking.ServerTLSSettings_TLSV1_2:
		return tlsv3.TlsParameters_TLSv1_2
	case networking.ServerTLSSettings_TLSV1_3:
		return tlsv3.TlsParameters_TLSv1_3
	}
	return tlsv3.TlsParameters_TLS_AUTO
}
