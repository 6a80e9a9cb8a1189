package resource

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	proxyprotocolv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/proxy_protocol/v3"
)

const typeUpstreamProxyProtocol = "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport"

// ProxyProtocol is the version of the PROXY protocol that a connection begins with.
type ProxyProtocol uint8

// Versions of the PROXY protocol.
const (
	ProxyProtocolNone ProxyProtocol = iota
	ProxyProtocolV1
	ProxyProtocolV2
)

// upstreamTransport is a transport socket of a cluster: TLS or plain text (nil), with
// or without the PROXY protocol before it.
func (c *decoding) upstreamTransport(p *path, ts *corev3.TransportSocket) (version ProxyProtocol, tls *UpstreamTLS, known bool) {
	if typeName(ts.GetTypedConfig().GetTypeUrl()) != typeUpstreamProxyProtocol {
		tls, known = c.upstreamSocket(p, ts)
		return ProxyProtocolNone, tls, known
	}
	var m proxyprotocolv3.ProxyProtocolUpstreamTransport
	at := p.field("typed_config")
	if !c.unpack(at, ts.GetTypedConfig(), &m) {
		return ProxyProtocolNone, nil, true
	}
	switch m.GetConfig().GetVersion() {
	case corev3.ProxyProtocolConfig_V1:
		version = ProxyProtocolV1
	case corev3.ProxyProtocolConfig_V2:
		version = ProxyProtocolV2
	default:
		c.fail(at.field("config").field("version"), "%d is not supported", m.GetConfig().GetVersion())
	}
	tls, known = c.upstreamSocket(at.field("transport_socket"), m.GetTransportSocket())
	return version, tls, known
}
