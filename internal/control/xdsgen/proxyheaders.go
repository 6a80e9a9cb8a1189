package xdsgen

import (
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	meshconfig "istio.io/api/mesh/v1alpha1"

	"github.com/egret-mesh/egret/internal/control/mesh"
)

// proxyHeaders is MeshConfig.defaultConfig.proxyHeaders: which headers of their own
// proxies add.
func (b *builder) proxyHeaders() *meshconfig.ProxyConfig_ProxyHeaders {
	return b.mesh.Config().GetDefaultConfig().GetProxyHeaders()
}

// ownHeaders sets what the connection manager says of the proxy. A sidecar's server is
// Envoy's own default, "envoy", as in Istio.
func (b *builder) ownHeaders(m *hcmv3.HttpConnectionManager) {
	h := b.proxyHeaders()
	if b.node.Type == mesh.NodeRouter {
		m.ServerName = "istio-envoy"
	}
	switch {
	case h.GetServer().GetDisabled().GetValue():
		m.ServerName, m.ServerHeaderTransformation = "", hcmv3.HttpConnectionManager_PASS_THROUGH
	case h.GetServer().GetValue() != "":
		m.ServerName = h.GetServer().GetValue()
	}
	if h.GetRequestId().GetDisabled().GetValue() {
		m.GenerateRequestId = b.shared.no
	}
}

// attemptCount: the upstream is told which attempt a request is.
func (b *builder) attemptCount() bool {
	return !b.proxyHeaders().GetAttemptCount().GetDisabled().GetValue()
}
