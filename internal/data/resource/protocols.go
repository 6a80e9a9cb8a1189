package resource

//lint:file-ignore SA1019 Deprecated fields are read because control planes still send them.

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	upstreamcodecv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/upstream_codec/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	upstreamhttpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// Codec is the connection manager's codec_type.
type Codec uint8

// Codecs. CodecAuto takes HTTP/2 where ALPN says so or the client begins with its
// preface, else HTTP/1.
const (
	CodecAuto Codec = iota
	CodecHTTP1
	CodecHTTP2
)

// UpstreamProtocol is the version of HTTP that a cluster's hosts speak.
type UpstreamProtocol uint8

// Upstream protocols. UpstreamDownstream is that of the client's request
// (use_downstream_protocol_config); UpstreamAuto is what ALPN says (auto_config).
const (
	UpstreamHTTP1 UpstreamProtocol = iota
	UpstreamHTTP2
	UpstreamDownstream
	UpstreamAuto
)

// HTTP2Options is envoy.config.core.v3.Http2ProtocolOptions; 0 is the codec's default.
type HTTP2Options struct {
	MaxConcurrentStreams uint32
	// StreamWindow and ConnWindow are the initial flow-control windows in bytes.
	StreamWindow, ConnWindow uint32
	// AllowConnect: extended CONNECT (RFC 8441), for instance for WebSocket.
	AllowConnect bool
}

func (c *decoding) codec(p *path, t hcmv3.HttpConnectionManager_CodecType) Codec {
	switch t {
	case hcmv3.HttpConnectionManager_AUTO:
	case hcmv3.HttpConnectionManager_HTTP1:
		return CodecHTTP1
	case hcmv3.HttpConnectionManager_HTTP2:
		return CodecHTTP2
	default:
		c.fail(p.field("codec_type"), "%s is not supported", t)
	}
	return CodecAuto
}

func (c *decoding) http2(p *path, m *corev3.Http2ProtocolOptions) HTTP2Options {
	if m.GetAllowMetadata() {
		c.fail(p.field("allow_metadata"), "METADATA frames are not supported")
	}
	window := func(field string, n uint32) uint32 {
		if n != 0 && (n < 65535 || n > 1<<31-1) {
			c.fail(p.field(field), "%d is not between 65535 and 2147483647", n)
		}
		return n
	}
	return HTTP2Options{
		MaxConcurrentStreams: m.GetMaxConcurrentStreams().GetValue(),
		StreamWindow:         window("initial_stream_window_size", m.GetInitialStreamWindowSize().GetValue()),
		ConnWindow:           window("initial_connection_window_size", m.GetInitialConnectionWindowSize().GetValue()),
		AllowConnect:         m.GetAllowConnect(),
	}
}

// protocols decodes what a cluster's hosts speak: the fields of the cluster itself,
// which are deprecated, and HttpProtocolOptions.
func (c *decoding) protocols(p *path, cl *Cluster, m *clusterv3.Cluster) {
	cl.MaxRequestsPerConn = m.GetMaxRequestsPerConnection().GetValue()
	if o := m.GetHttp2ProtocolOptions(); o != nil {
		cl.Protocol, cl.HTTP2 = UpstreamHTTP2, c.http2(p.field("http2_protocol_options"), o)
	}
	if m.GetProtocolSelection() == clusterv3.Cluster_USE_DOWNSTREAM_PROTOCOL {
		cl.Protocol = UpstreamDownstream
	}
	c.commonProtocol(p, cl, m.GetCommonHttpProtocolOptions())
	c.autoSNI(cl, m.GetUpstreamHttpProtocolOptions())
	for key, a := range m.GetTypedExtensionProtocolOptions() {
		at := p.field("typed_extension_protocol_options")
		if key != keyHTTPProtocolOpts {
			c.fail(at, "%q is not supported", clip(key))
			continue
		}
		c.httpProtocol(at, cl, a)
	}
}

func (c *decoding) httpProtocol(p *path, cl *Cluster, a *anypb.Any) {
	var m upstreamhttpv3.HttpProtocolOptions
	if !c.unpack(p, a, &m) {
		return
	}
	c.commonProtocol(p, cl, m.GetCommonHttpProtocolOptions())
	c.autoSNI(cl, m.GetUpstreamHttpProtocolOptions())
	switch s := m.GetUpstreamProtocolOptions().(type) {
	case *upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_:
		cl.Protocol = UpstreamHTTP1
		if o := s.ExplicitHttpConfig.GetHttp2ProtocolOptions(); o != nil {
			cl.Protocol, cl.HTTP2 = UpstreamHTTP2, c.http2(p.field("explicit_http_config").field("http2_protocol_options"), o)
		}
	case *upstreamhttpv3.HttpProtocolOptions_UseDownstreamProtocolConfig:
		cl.Protocol = UpstreamHTTP1 // also of an HTTP/2 client, where there are no options for it
		if o := s.UseDownstreamProtocolConfig.GetHttp2ProtocolOptions(); o != nil {
			cl.Protocol, cl.HTTP2 = UpstreamDownstream, c.http2(p.field("use_downstream_protocol_config").field("http2_protocol_options"), o)
		}
	case *upstreamhttpv3.HttpProtocolOptions_AutoConfig:
		cl.Protocol = UpstreamAuto
		cl.HTTP2 = c.http2(p.field("auto_config").field("http2_protocol_options"), s.AutoConfig.GetHttp2ProtocolOptions())
	default:
		c.fail(p, "no upstream protocol")
	}
	for i, f := range m.GetHttpFilters() {
		at := p.at("http_filters", i)
		switch {
		case filterType(f.GetTypedConfig()) == typeUpstreamCodec:
			c.unpack(at.field("typed_config"), f.GetTypedConfig(), &upstreamcodecv3.UpstreamCodec{})
		case !c.cosmeticFilter(f.GetTypedConfig()):
			c.fail(at, "HTTP filter %q of type %q is not supported", clip(f.GetName()), clip(filterType(f.GetTypedConfig())))
		}
	}
}

func (c *decoding) commonProtocol(p *path, cl *Cluster, m *corev3.HttpProtocolOptions) {
	if m == nil {
		return
	}
	at := p.field("common_http_protocol_options")
	cl.UpstreamIdleTimeout = c.duration(at.field("idle_timeout"), m.GetIdleTimeout(), cl.UpstreamIdleTimeout)
	cl.MaxConnectionAge = c.duration(at.field("max_connection_duration"), m.GetMaxConnectionDuration(), cl.MaxConnectionAge)
	if n := m.GetMaxRequestsPerConnection(); n != nil {
		cl.MaxRequestsPerConn = n.GetValue()
	}
}

func (c *decoding) autoSNI(cl *Cluster, m *corev3.UpstreamHttpProtocolOptions) {
	cl.autoSNI = cl.autoSNI || m.GetAutoSni()
	cl.autoSAN = cl.autoSAN || m.GetAutoSanValidation()
}
