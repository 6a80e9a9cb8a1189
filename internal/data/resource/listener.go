package resource

//lint:file-ignore SA1019 Deprecated fields are read because control planes still send them.

import (
	"cmp"
	"net/netip"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	httpinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	originaldstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/egret-mesh/egret/internal/data/match"
)

// defaultInspectorsTimeout is Envoy's listener_filters_timeout where none is set.
const defaultInspectorsTimeout = 15 * time.Second

// Types of listener filters.
const (
	typeOriginalDst   = "envoy.extensions.filters.listener.original_dst.v3.OriginalDst"
	typeTLSInspector  = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
	typeHTTPInspector = "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector"
	typeRawBuffer     = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"
	typeDownstreamTLS = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
)

// Listener decodes an envoy.config.listener.v3.Listener.
func (d Decoder) Listener(a *anypb.Any) (*Listener, error) { return d.NextListener(nil, a) }

// NextListener is Listener for one that takes the place of another: filter chains that
// did not change are those of before. Previous may be nil.
func (d Decoder) NextListener(previous *Listener, a *anypb.Any) (*Listener, error) {
	c := d.begin()
	var m listenerv3.Listener
	var l *Listener
	split := takeApart(a, filterChainsField)
	if c.unpack(nil, split.rest, &m) {
		l = c.listener(&m, func() ([]*FilterChain, decodedParts[*FilterChain]) {
			var known decodedParts[*FilterChain]
			if previous != nil {
				known = previous.parts
			}
			return each(c, "filter_chains", split.parts, known, func() *listenerv3.FilterChain { return &listenerv3.FilterChain{} }, c.filterChain)
		})
	}
	if err := c.end("listener", m.GetName(), c.whole(a, &m)); err != nil {
		return nil, err
	}
	return l, nil
}

// RejectedListener stands in for a listener that could not be decoded, so that
// what would have come to it is refused instead of falling to a listener that may
// allow it. It is nil where not even name and address can be read.
func RejectedListener(a *anypb.Any, why error) *Listener {
	var m listenerv3.Listener
	if typeName(a.GetTypeUrl()) != m.ProtoReflect().Descriptor().FullName() || (proto.UnmarshalOptions{RecursionLimit: maxDepth}).Unmarshal(a.GetValue(), &m) != nil {
		return nil
	}
	c := Decoder{}.begin()
	l := &Listener{Name: m.GetName(), Rejected: why.Error()}
	c.listenerAddresses(l, &m)
	if len(c.errs) > 0 || l.Name == "" {
		return nil
	}
	l.Objects = objectsOf(m.GetMetadata())
	return l
}

// listener decodes all but the filter chains, which chains gives.
func (c *decoding) listener(m *listenerv3.Listener, chains func() ([]*FilterChain, decodedParts[*FilterChain])) *Listener {
	var root *path
	l := &Listener{Name: m.GetName(), Objects: objectsOf(m.GetMetadata())}
	if l.Name == "" {
		c.fail(root.field("name"), "a listener needs a name")
	}
	c.listenerAddresses(l, m)
	if m.GetTransparent().GetValue() {
		c.fail(root.field("transparent"), "true is not supported")
	}
	switch m.GetTrafficDirection() {
	case corev3.TrafficDirection_INBOUND:
		l.Direction = DirectionInbound
	case corev3.TrafficDirection_OUTBOUND:
		l.Direction = DirectionOutbound
	}
	l.InspectorsTimeout = c.duration(root.field("listener_filters_timeout"), m.GetListenerFiltersTimeout(), defaultInspectorsTimeout)
	l.ContinueOnTimeout = m.GetContinueOnListenerFiltersTimeout()
	for i, f := range m.GetListenerFilters() {
		c.listenerFilter(root.at("listener_filters", i), l, f)
	}
	l.FilterChains, l.parts = chains()
	if fc := m.GetDefaultFilterChain(); fc != nil {
		l.DefaultFilterChain = c.filterChain(root.field("default_filter_chain"), fc)
	}
	if f := m.GetFcdsConfig(); f != nil {
		l.OnDemand = cmp.Or(f.GetName(), l.Name)
		c.fromADS(root.field("fcds_config").field("config_source"), f.GetConfigSource())
	}
	if len(l.FilterChains) == 0 && m.GetDefaultFilterChain() == nil && l.OnDemand == "" {
		c.fail(root.field("filter_chains"), "a listener needs at least one")
	}
	l.AccessLogs = c.accessLogs(root, m.GetAccessLog())
	if len(c.errs) == 0 {
		if err := l.Index(); err != nil {
			c.fail(root.field("filter_chains"), "%w", err)
		}
	}
	return l
}

func (c *decoding) listenerAddresses(l *Listener, m *listenerv3.Listener) {
	var root *path
	l.Address = c.listenAddress(root.field("address"), m.GetAddress())
	for i, more := range m.GetAdditionalAddresses() {
		l.AdditionalAddresses = append(l.AdditionalAddresses, c.listenAddress(root.at("additional_addresses", i), more.GetAddress()))
	}
	l.BindToPort = isTrue(m.GetBindToPort(), true) && isTrue(m.GetDeprecatedV1().GetBindToPort(), true)
	l.UseOriginalDst = m.GetUseOriginalDst().GetValue()
}

func (c *decoding) listenAddress(p *path, a *corev3.Address) netip.AddrPort {
	host, port := c.socketAddress(p, a)
	addr, err := netip.ParseAddr(host)
	if err != nil {
		c.fail(p, "%q is not an IP address", clip(host))
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr.Unmap(), port)
}

// socketAddress is host and port of a TCP address. Port 0 is an error: nothing
// here can use an address without one.
func (c *decoding) socketAddress(p *path, a *corev3.Address) (string, uint16) {
	s := a.GetSocketAddress()
	if s == nil {
		c.fail(p, "not a socket address")
		return "", 0
	}
	if s.GetProtocol() != corev3.SocketAddress_TCP {
		c.fail(p, "protocol %s is not supported", s.GetProtocol())
	}
	return s.GetAddress(), c.port16(p.field("socket_address").field("port_value"), s.GetPortValue())
}

func (c *decoding) listenerFilter(p *path, l *Listener, f *listenerv3.ListenerFilter) {
	off := c.disabledPorts(p.field("filter_disabled"), f.GetFilterDisabled())
	at := p.field("typed_config")
	switch typeName(f.GetTypedConfig().GetTypeUrl()) {
	case typeOriginalDst:
		c.unpack(at, f.GetTypedConfig(), &originaldstv3.OriginalDst{})
		l.OriginalDst = true
	case typeTLSInspector:
		c.unpack(at, f.GetTypedConfig(), &tlsinspectorv3.TlsInspector{})
		l.InspectTLS, l.inspectTLSOff = true, off
	case typeHTTPInspector:
		c.unpack(at, f.GetTypedConfig(), &httpinspectorv3.HttpInspector{})
		l.InspectHTTP, l.inspectHTTPOff = true, off
	default:
		c.fail(p, "listener filter %q of type %q is not supported", clip(f.GetName()), clip(f.GetTypedConfig().GetTypeUrl()))
	}
}

// Inspectors reports which inspectors look at a connection to this port.
func (l *Listener) Inspectors(port uint16) (tls, http bool) {
	return l.InspectTLS && !l.inspectTLSOff.has(port), l.InspectHTTP && !l.inspectHTTPOff.has(port)
}

func (c *decoding) filterChain(p *path, m *listenerv3.FilterChain) *FilterChain {
	chain := &FilterChain{Name: m.GetName(), Objects: objectsOf(m.GetMetadata())}
	chain.Match = c.filterChainMatch(p.field("filter_chain_match"), m.GetFilterChainMatch())
	if m.GetUseProxyProto().GetValue() {
		c.fail(p.field("use_proxy_proto"), "true is not supported")
	}
	if ts := m.GetTransportSocket(); ts != nil {
		chain.TLS, chain.Unsupported = c.downstreamSocket(p.field("transport_socket"), ts)
		if chain.TLS != nil {
			chain.TLS.HandshakeTimeout = c.duration(p.field("transport_socket_connect_timeout"), m.GetTransportSocketConnectTimeout(), 0)
		}
	}
	filters := m.GetFilters()
	for i, f := range filters {
		c.networkFilter(p.at("filters", i), chain, f, i == len(filters)-1)
	}
	if chain.HTTP == nil && chain.TCP == nil {
		c.fail(p.field("filters"), "no terminal filter (http_connection_manager or tcp_proxy)")
		return nil
	}
	return chain
}

func (c *decoding) networkFilter(p *path, chain *FilterChain, f *listenerv3.Filter, last bool) {
	at := p.field("typed_config")
	terminal := true
	switch typeName(f.GetTypedConfig().GetTypeUrl()) {
	case typeHCM:
		chain.HTTP = c.connectionManager(at, f.GetTypedConfig())
	case typeTCPProxy:
		chain.TCP = c.tcpProxy(at, f.GetTypedConfig())
	case typeDFPSNI:
		terminal = false
		chain.ForwardPort = c.forwardSNI(at, f.GetTypedConfig())
	default:
		terminal = false
		if !c.cosmeticFilter(f.GetTypedConfig()) {
			c.fail(p, "network filter %q of type %q is not supported", clip(f.GetName()), clip(filterType(f.GetTypedConfig())))
		}
	}
	if terminal && !last {
		c.fail(p, "terminal filter %q is not the last one", clip(f.GetName()))
	}
}

func (c *decoding) filterChainMatch(p *path, m *listenerv3.FilterChainMatch) FilterChainMatch {
	fm := FilterChainMatch{
		TransportProtocol:    m.GetTransportProtocol(),
		ApplicationProtocols: m.GetApplicationProtocols(),
	}
	if m.GetDestinationPort() != nil {
		fm.DestinationPort = c.port16(p.field("destination_port"), m.GetDestinationPort().GetValue())
	}
	fm.PrefixRanges = c.prefixes(p, "prefix_ranges", m.GetPrefixRanges())
	fm.SourcePrefixRanges = c.prefixes(p, "source_prefix_ranges", m.GetSourcePrefixRanges())
	for i, n := range m.GetSourcePorts() {
		fm.SourcePorts = append(fm.SourcePorts, c.port16(p.at("source_ports", i), n))
	}
	for i, name := range m.GetServerNames() {
		if strings.Contains(strings.TrimPrefix(name, "*."), "*") || name == "" {
			c.fail(p.at("server_names", i), "%q is neither a name nor \"*.suffix\"", clip(name))
		}
		fm.ServerNames = append(fm.ServerNames, match.Lower(name))
	}
	return fm
}

func (c *decoding) prefixes(p *path, field string, ranges []*corev3.CidrRange) []netip.Prefix {
	var out []netip.Prefix
	for i, r := range ranges {
		prefix, err := match.ParsePrefix(r.GetAddressPrefix(), r.GetPrefixLen().GetValue())
		if err != nil {
			c.fail(p.at(field, i), "%q/%d is not an address range", clip(r.GetAddressPrefix()), r.GetPrefixLen().GetValue())
			continue
		}
		out = append(out, prefix)
	}
	return out
}

func isTrue(b *wrapperspb.BoolValue, def bool) bool {
	if b == nil {
		return def
	}
	return b.GetValue()
}
