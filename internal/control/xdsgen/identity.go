package xdsgen

import (
	"cmp"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rawbufferv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// trustDomain is MeshConfig.trustDomain; Istio's default is cluster.local.
func (b *builder) trustDomain() string {
	return cmp.Or(b.mesh.Config().GetTrustDomain(), "cluster.local")
}

// trustDomains are those whose workloads are of the mesh: its own first.
func (b *builder) trustDomains() []string {
	return append([]string{b.trustDomain()}, b.mesh.Config().GetTrustDomainAliases()...)
}

// meshSecret refers to a secret of the agent's SDS, in Istio's form.
func meshSecret(name string, zero *durationpb.Duration) *tlsv3.SdsSecretConfig {
	return &tlsv3.SdsSecretConfig{Name: name, SdsConfig: &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_ApiConfigSource{ApiConfigSource: &corev3.ApiConfigSource{
			ApiType:             corev3.ApiConfigSource_GRPC,
			TransportApiVersion: corev3.ApiVersion_V3,
			GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: "sds-grpc"},
			}}},
			SetNodeOnFirstMessageOnly: true,
		}},
		InitialFetchTimeout: zero,
		ResourceApiVersion:  corev3.ApiVersion_V3,
	}}
}

// credential refers to a secret that the control plane gives by SDS over ADS, in Istio's form.
// The time that it is waited for is Envoy's default, 15 s: what it names may not exist, and
// then the listener or cluster must not wait for ever.
func (b *builder) credential(name string) *tlsv3.SdsSecretConfig {
	return &tlsv3.SdsSecretConfig{Name: name, SdsConfig: &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3,
	}}
}

// certificateOf is the certificate that a credentialName names.
func (b *builder) certificateOf(credential string) *tlsv3.SdsSecretConfig {
	if istioapi.OfMesh(credential) {
		return meshSecret("default", b.shared.zero)
	}
	return b.credential(istioapi.CertificateName(credential))
}

// authoritiesOf are the authorities that a credentialName names; v is what peers' certificates
// must have besides.
func (b *builder) authoritiesOf(credential string, v *tlsv3.CertificateValidationContext) *tlsv3.CommonTlsContext_CombinedValidationContext {
	from := meshSecret("ROOTCA", b.shared.zero)
	if !istioapi.OfMesh(credential) {
		from = b.credential(istioapi.AuthoritiesName(credential))
	}
	return &tlsv3.CommonTlsContext_CombinedValidationContext{
		CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
			DefaultValidationContext: v, ValidationContextSdsSecretConfig: from,
		},
	}
}

// useMeshIdentity shows the workload's certificate, and checks the peer's against the
// mesh's root, and what v has besides.
func (b *builder) useMeshIdentity(common *tlsv3.CommonTlsContext, v *tlsv3.CertificateValidationContext) {
	common.TlsCertificateSdsSecretConfigs = []*tlsv3.SdsSecretConfig{b.shared.workload}
	common.ValidationContextType = &tlsv3.CommonTlsContext_CombinedValidationContext{
		CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
			DefaultValidationContext:         v,
			ValidationContextSdsSecretConfig: b.shared.roots,
		},
	}
}

// The metadata of an endpoint by which a cluster chooses the transport socket, in Istio's
// words.
const (
	transportSocketMatch = "envoy.transport_socket_match"
	tlsModeKey           = "tlsMode"
	tlsModeIstio         = "istio"
)

// autoTLS is Istio's auto mTLS: where no rule says anything, endpoints whose proxy takes the
// mesh's TLS get it, and the others plain text. Where the client has chosen the address, so
// that the cluster knows no endpoint, it is for all or none.
func (b *builder) autoTLS(c *clusterv3.Cluster, t *target) {
	if !b.mesh.AutoMutualTLS() || !t.service.Internal {
		return
	}
	if c.GetType() != clusterv3.Cluster_ORIGINAL_DST {
		c.TransportSocketMatches = []*clusterv3.Cluster_TransportSocketMatch{{
			Name: "tlsMode-istio", Match: b.shared.tlsMode, TransportSocket: b.meshTLS(t),
		}, b.shared.plain}
		return
	}
	all := b.endpointsOf(t)
	if len(all) > 0 && !slices.ContainsFunc(all, func(e lbEndpoint) bool { return !e.mutual }) {
		c.TransportSocket = b.meshTLS(t)
	}
}

// meshTLS is the mesh's TLS towards the service.
func (b *builder) meshTLS(t *target) *corev3.TransportSocket {
	ctx := upstreamTLS(t.policy.tls)
	b.meshIdentity(ctx, t)
	return b.tlsSocket(ctx)
}

// upstreamTLS is a context with Istio's versions, and the SNI that a rule sets.
func upstreamTLS(s *networking.ClientTLSSettings) *tlsv3.UpstreamTlsContext {
	return &tlsv3.UpstreamTlsContext{Sni: s.GetSni(), CommonTlsContext: &tlsv3.CommonTlsContext{
		TlsParams: &tlsv3.TlsParameters{
			TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_2,
			TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
		},
	}}
}

// meshIdentity is ISTIO_MUTUAL towards a server, in Istio's form: the names that its
// certificate may have are those of the rule, else those of the accounts that the
// service's workloads run as. A proxy without an agent refuses it, and says so.
func (b *builder) meshIdentity(ctx *tlsv3.UpstreamTlsContext, t *target) {
	names := t.policy.tls.GetSubjectAltNames()
	if len(names) == 0 {
		names = t.accounts(b.trustDomains())
	}
	v := &tlsv3.CertificateValidationContext{}
	for _, n := range names {
		v.MatchTypedSubjectAltNames = append(v.MatchTypedSubjectAltNames, sanMatcher(n))
	}
	b.useMeshIdentity(ctx.CommonTlsContext, v)
	ctx.CommonTlsContext.AlpnProtocols = t.meshALPN()
	if ctx.Sni == "" { // Istio's "outbound_.port_.subset_.host"
		ctx.Sni = "outbound_." + strings.Join(splitCluster(t.name())[1:], "_.")
	}
}

// meshALPN says to the server's proxy that this is the mesh's own TLS, and what is inside.
// A version of HTTP is only offered where no other is spoken: the server goes by it.
func (t *target) meshALPN() []string {
	switch {
	case !t.port.Protocol.MayBeHTTP() || t.version() == clientsOwn:
		return []string{"istio"}
	case t.version() == http2:
		return []string{"istio-h2", "istio", "h2"}
	}
	return []string{"istio-http/1.1", "istio"}
}

// accounts are the identities of the service: those that its ServiceEntry names, and those of
// its endpoints. Of an endpoint whose account is not known there is none.
func (t *target) accounts(trustDomains []string) []string {
	out := slices.Clone(t.service.SubjectAltNames)
	for i := range t.service.Endpoints {
		e := &t.service.Endpoints[i]
		if e.ServiceAccount == "" {
			continue
		}
		for _, domain := range trustDomains {
			name := "spiffe://" + domain + "/ns/" + cmp.Or(e.Namespace, t.service.Namespace) + "/sa/" + e.ServiceAccount
			if !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return out
}

// tlsSocket is a TLS context as a transport socket.
func (b *builder) tlsSocket(ctx proto.Message) *corev3.TransportSocket {
	return &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: b.pack(ctx)},
	}
}

// rawBuffer is plain text as a transport socket.
func (b *builder) rawBuffer() *corev3.TransportSocket {
	return &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.raw_buffer",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: b.pack(&rawbufferv3.RawBuffer{})},
	}
}

// identities are what all that needs the mesh's TLS refers to.
func (h *shared) identities(b *builder) {
	h.workload, h.roots = frozen(meshSecret("default", h.zero)), frozen(meshSecret("ROOTCA", h.zero))
	h.tlsMode = frozen(&structpb.Struct{Fields: map[string]*structpb.Value{tlsModeKey: structpb.NewStringValue(tlsModeIstio)}})
	h.plain = &clusterv3.Cluster_TransportSocketMatch{
		Name: "tlsMode-disabled", Match: &structpb.Struct{}, TransportSocket: b.rawBuffer(),
	}
}
