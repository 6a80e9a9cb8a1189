package xdsgen

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	proxyprotocolv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/proxy_protocol/v3"
	networking "istio.io/api/networking/v1alpha3"
)

// proxyProtocol puts the PROXY protocol before what the transport socket writes.
func (b *builder) proxyProtocol(c *clusterv3.Cluster, p *networking.TrafficPolicy_ProxyProtocol) {
	if p == nil {
		return
	}
	for i, m := range c.TransportSocketMatches {
		c.TransportSocketMatches[i] = &clusterv3.Cluster_TransportSocketMatch{
			Name: m.GetName(), Match: m.GetMatch(), TransportSocket: b.behindProxyProtocol(m.GetTransportSocket(), p),
		}
	}
	if len(c.TransportSocketMatches) > 0 {
		return
	}
	inner := c.TransportSocket
	if inner == nil {
		inner = b.rawBuffer()
	}
	c.TransportSocket = b.behindProxyProtocol(inner, p)
}

func (b *builder) behindProxyProtocol(inner *corev3.TransportSocket, p *networking.TrafficPolicy_ProxyProtocol) *corev3.TransportSocket {
	return &corev3.TransportSocket{
		Name: "envoy.transport_sockets.upstream_proxy_protocol",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: b.pack(&proxyprotocolv3.ProxyProtocolUpstreamTransport{
			Config:          &corev3.ProxyProtocolConfig{Version: corev3.ProxyProtocolConfig_Version(p.GetVersion())}, // the numbers are the same
			TransportSocket: inner,
		})},
	}
}
