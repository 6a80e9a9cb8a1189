package xdsgen

import (
	"cmp"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
)

// trustDomain is MeshConfig.trustDomain; Istio's default is cluster.local.
func (b *builder) trustDomain() string {
	return cmp.Or(b.mesh.Config().GetTrustDomain(), "cluster.local")
}

// meshSecret refers to a secret of the agent's SDS, in Istio's form.
func (b *builder) meshSecret(name string) *tlsv3.SdsSecretConfig {
	return &tlsv3.SdsSecretConfig{Name: name, SdsConfig: &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_ApiConfigSource{ApiConfigSource: &corev3.ApiConfigSource{
			ApiType:             corev3.ApiConfigSource_GRPC,
			TransportApiVersion: corev3.ApiVersion_V3,
			GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: "sds-grpc"},
			}}},
			SetNodeOnFirstMessageOnly: true,
		}},
		InitialFetchTimeout: b.shared.zero,
		ResourceApiVersion:  corev3.ApiVersion_V3,
	}}
}

// useMeshIdentity shows the workload's certificate, and checks the peer's against the
// mesh's root, and what v has besides.
func (b *builder) useMeshIdentity(common *tlsv3.CommonTlsContext, v *tlsv3.CertificateValidationContext) {
	common.TlsCertificateSdsSecretConfigs = []*tlsv3.SdsSecretConfig{b.meshSecret("default")}
	common.ValidationContextType = &tlsv3.CommonTlsContext_CombinedValidationContext{
		CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
			DefaultValidationContext:         v,
			ValidationContextSdsSecretConfig: b.meshSecret("ROOTCA"),
		},
	}
}

// meshIdentity is ISTIO_MUTUAL towards a server, in Istio's form: the names that its
// certificate may have are those of the rule, else those of the accounts that the
// service's workloads run as. A proxy without an agent refuses it, and says so.
func (b *builder) meshIdentity(ctx *tlsv3.UpstreamTlsContext, t *target) {
	names := t.policy.tls.GetSubjectAltNames()
	if len(names) == 0 {
		names = t.accounts(b.trustDomain())
	}
	v := &tlsv3.CertificateValidationContext{}
	for _, n := range names {
		v.MatchTypedSubjectAltNames = append(v.MatchTypedSubjectAltNames, sanMatcher(n))
	}
	b.useMeshIdentity(ctx.CommonTlsContext, v)
	if b.mesh.Pods() {
		ctx.CommonTlsContext.AlpnProtocols = t.meshALPN()
	}
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

// accounts are the identities of the service's endpoints, sorted; of one whose account is
// not known there is none.
func (t *target) accounts(trustDomain string) []string {
	var out []string
	for i := range t.service.Endpoints {
		e := &t.service.Endpoints[i]
		if e.ServiceAccount == "" {
			continue
		}
		name := "spiffe://" + trustDomain + "/ns/" + cmp.Or(e.Namespace, t.service.Namespace) + "/sa/" + e.ServiceAccount
		if !slices.Contains(out, name) {
			out = append(out, name)
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
