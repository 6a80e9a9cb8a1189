package xdsgen

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	uuidv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/request_id/uuid/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
	meshconfig "istio.io/api/mesh/v1alpha1"

	"github.com/egret-mesh/egret/internal/control/mesh"
)

func uint32Value(n uint32) *wrapperspb.UInt32Value { return wrapperspb.UInt32(n) }

// connectionManager has the settings that istiod gives to all HTTP connection managers.
func (b *builder) connectionManager(statPrefix string) *hcmv3.HttpConnectionManager {
	m := &hcmv3.HttpConnectionManager{
		StatPrefix:        statPrefix,
		HttpFilters:       b.shared.filters,
		AccessLog:         b.logs.traffic,
		StreamIdleTimeout: b.shared.zero,
		UseRemoteAddress:  b.shared.no,
		Proxy_100Continue: true,
		UpgradeConfigs:    []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}},
		RequestIdExtension: &hcmv3.RequestIDExtension{TypedConfig: b.pack(
			&uuidv3.UuidRequestIdConfig{UseRequestIdForTraceSampling: b.shared.yes})},
	}
	normalizePaths(m, b.mesh.Config().GetPathNormalization().GetNormalization(), b.shared.yes)
	b.ownHeaders(m)
	return m
}

// httpFilters is the HTTP connection manager of a listener, with the settings that
// istiod gives to sidecars (outbound) and to gateways.
func (b *builder) httpFilters(k listenerKey, route string) []*listenerv3.Filter {
	m := b.connectionManager("outbound_" + k.name() + ";")
	m.RouteSpecifier = &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{
		ConfigSource: b.shared.ads, RouteConfigName: route,
	}}
	if b.node.Type == mesh.NodeRouter {
		m.UseRemoteAddress = b.shared.yes
		m.XffNumTrustedHops = b.mesh.Config().GetDefaultConfig().GetGatewayTopology().GetNumTrustedProxies()
		m.HttpProtocolOptions = &corev3.Http1ProtocolOptions{}
		m.ForwardClientCertDetails = b.forwardClientCert()
		m.SetCurrentClientCertDetails = &hcmv3.HttpConnectionManager_SetCurrentClientCertDetails{
			Subject: b.shared.yes, Cert: true, Dns: true, Uri: true,
		}
	}
	return b.httpFilter(m)
}

func (b *builder) httpFilter(m *hcmv3.HttpConnectionManager) []*listenerv3.Filter {
	return []*listenerv3.Filter{{
		Name:       "envoy.filters.network.http_connection_manager",
		ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: b.pack(m)},
	}}
}

// forwardClientCert is MeshConfig.defaultConfig.gatewayTopology.forwardClientCertDetails:
// what gateways do with x-forwarded-client-cert.
func (b *builder) forwardClientCert() hcmv3.HttpConnectionManager_ForwardClientCertDetails {
	switch b.mesh.Config().GetDefaultConfig().GetGatewayTopology().GetForwardClientCertDetails() {
	case meshconfig.ForwardClientCertDetails_SANITIZE:
		return hcmv3.HttpConnectionManager_SANITIZE
	case meshconfig.ForwardClientCertDetails_FORWARD_ONLY:
		return hcmv3.HttpConnectionManager_FORWARD_ONLY
	case meshconfig.ForwardClientCertDetails_APPEND_FORWARD:
		return hcmv3.HttpConnectionManager_APPEND_FORWARD
	case meshconfig.ForwardClientCertDetails_ALWAYS_FORWARD_ONLY:
		return hcmv3.HttpConnectionManager_ALWAYS_FORWARD_ONLY
	}
	return hcmv3.HttpConnectionManager_SANITIZE_SET
}

// normalizePaths is MeshConfig.pathNormalization; the default is BASE.
func normalizePaths(m *hcmv3.HttpConnectionManager, how meshconfig.MeshConfig_ProxyPathNormalization_NormalizationType, yes *wrapperspb.BoolValue) {
	m.PathWithEscapedSlashesAction = hcmv3.HttpConnectionManager_KEEP_UNCHANGED
	switch how {
	case meshconfig.MeshConfig_ProxyPathNormalization_NONE:
		return
	case meshconfig.MeshConfig_ProxyPathNormalization_MERGE_SLASHES:
		m.MergeSlashes = true
	case meshconfig.MeshConfig_ProxyPathNormalization_DECODE_AND_MERGE_SLASHES:
		m.MergeSlashes = true
		m.PathWithEscapedSlashesAction = hcmv3.HttpConnectionManager_UNESCAPE_AND_FORWARD
	}
	m.NormalizePath = yes
}
