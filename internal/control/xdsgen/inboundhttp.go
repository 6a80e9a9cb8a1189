package xdsgen

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"fmt"
)

// inboundHTTP is the HTTP connection manager for the workload's requests: all of them go
// to it. Who the client is, where it showed a certificate, is added to
// x-forwarded-client-cert.
func (b *builder) inboundHTTP(t *inboundTarget) []*listenerv3.Filter {
	m := b.connectionManager("inbound_" + listenerKey{wildcardBind, t.port}.name() + ";")
	if t.passthrough {
		m.StatPrefix = t.cluster + ";"
	}
	m.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: b.inboundRoutes(t)}
	m.HttpFilters = m.GetHttpFilters()[len(m.GetHttpFilters())-1:] // the router: there is nothing to ask for, and no policy
	m.ForwardClientCertDetails = hcmv3.HttpConnectionManager_APPEND_FORWARD
	m.SetCurrentClientCertDetails = &hcmv3.HttpConnectionManager_SetCurrentClientCertDetails{
		Subject: b.shared.yes, Dns: true, Uri: true,
	}
	if m.GetServerHeaderTransformation() == hcmv3.HttpConnectionManager_OVERWRITE && m.GetServerName() == "" {
		m.ServerName = "istio-envoy"
	}
	return b.httpFilter(m)
}

func (b *builder) inboundRoutes(t *inboundTarget) *routev3.RouteConfiguration {
	return &routev3.RouteConfiguration{
		Name:             t.cluster,
		ValidateClusters: b.shared.no,
		VirtualHosts: []*routev3.VirtualHost{{
			Name:     fmt.Sprintf("inbound|http|%d", t.number),
			Domains:  []string{"*"},
			Metadata: t.metadata,
			Routes: []*routev3.Route{{
				Name:      "default",
				Match:     b.shared.prefixMatch,
				Metadata:  t.metadata,
				Decorator: &routev3.Decorator{Operation: fmt.Sprintf("%s:%d/*", t.host, t.number)},
				Action: &routev3.Route_Route{Route: &routev3.RouteAction{
					ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: t.cluster},
					Timeout:          b.shared.zero,
					MaxStreamDuration: &routev3.RouteAction_MaxStreamDuration{
						MaxStreamDuration: b.shared.zero, GrpcTimeoutHeaderMax: b.shared.zero,
					},
				}},
			}},
		}},
	}
}

// inboundTLS ends the mesh's TLS with the workload's certificate, for clients that show
// one of the mesh's. ALPN has no "istio-peer-exchange": nothing is exchanged about peers.
func (b *builder) inboundTLS(http bool) *corev3.TransportSocket {
	alpn := []string{"h2", "http/1.1"}
	if !http {
		alpn = []string{"istio", "h2", "http/1.1"}
	}
	common := &tlsv3.CommonTlsContext{
		AlpnProtocols: alpn,
		TlsParams: &tlsv3.TlsParameters{
			TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2,
			TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
			CipherSuites:              meshCipherSuites(),
		},
	}
	v := &tlsv3.CertificateValidationContext{}
	for _, domain := range b.trustDomains() {
		//lint:ignore SA1019 as istiod 1.26
		v.MatchSubjectAltNames = append(v.MatchSubjectAltNames, &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: "spiffe://" + domain + "/"},
		})
	}
	b.useMeshIdentity(common, v)
	return b.tlsSocket(&tlsv3.DownstreamTlsContext{CommonTlsContext: common, RequireClientCertificate: b.shared.yes})
}

// meshCipherSuites are Istio's for TLS 1.2 between proxies of the mesh.
func meshCipherSuites() []string {
	return []string{
		"ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
		"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256",
		"AES256-GCM-SHA384", "AES128-GCM-SHA256",
	}
}
