package xdsgen

import (
	"net/netip"
	"slices"
	"strconv"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	originaldstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/xds"
)

// Inbound, as Istio's sidecar has it: one listener for all connections to the workload.
// What a Service declares has chains by the port; everything else is passed through.
// Clients may speak in the clear, or with mutual TLS of the mesh, which they say by ALPN
// (PERMISSIVE). Connections to the workload come from an address that the host's rules
// know (127.0.0.6), so they are not captured again.

const (
	inboundPort        = 15006
	inboundPassthrough = "InboundPassthroughCluster"
)

// alpnHTTP is what clients of the mesh offer that know of HTTP inside, alpnTCP others.
func alpnHTTP() []string { return []string{"istio-http/1.0", "istio-http/1.1", "istio-h2"} }
func alpnTCP() []string  { return []string{"istio-peer-exchange", "istio"} }
func alpnMesh() []string { return append([]string{"istio", "istio-peer-exchange"}, alpnHTTP()...) }

// takesInbound: connections to the node's workload come through the proxy.
func (b *builder) takesInbound() bool { return b.mesh.Pods() && b.node.Type == mesh.NodeSidecar }

// inboundListener emits virtualInbound.
func (b *builder) inboundListener() {
	if !b.takesInbound() {
		return
	}
	key := listenerKey{wildcardBind, inboundPort}
	l := &listenerv3.Listener{
		Name:                                 "virtualInbound",
		Address:                              socketAddress(key.bind, key.port),
		AdditionalAddresses:                  b.additionalAddresses(key),
		TrafficDirection:                     corev3.TrafficDirection_INBOUND,
		AccessLog:                            b.logs.listener,
		ListenerFiltersTimeout:               b.shared.sniffTimeout,
		ContinueOnListenerFiltersTimeout:     true,
		MaxConnectionsToAcceptPerSocketEvent: b.shared.one,
		FilterChains: []*listenerv3.FilterChain{{
			Name:             "virtualInbound-blackhole",
			FilterChainMatch: &listenerv3.FilterChainMatch{DestinationPort: uint32Value(inboundPort)},
			Filters:          b.tcpFilters(singleTarget(blackHole, nil), false),
		}},
	}
	inbound := b.mesh.Inbound(b.node)
	quiet := []uint32{inboundPort} // ports whose bytes nobody has to look at for HTTP
	l.FilterChains = append(l.FilterChains, b.inboundChains(&inboundTarget{cluster: inboundPassthrough, protocol: mesh.ProtocolAuto})...)
	for i := range inbound {
		t := b.inboundTarget(&inbound[i])
		l.FilterChains = append(l.FilterChains, b.inboundChains(t)...)
		if t.protocol == mesh.ProtocolTCP {
			quiet = append(quiet, t.port)
		}
	}
	l.ListenerFilters = []*listenerv3.ListenerFilter{
		{
			Name: "envoy.filters.listener.original_dst",
			ConfigType: &listenerv3.ListenerFilter_TypedConfig{
				TypedConfig: b.pack(&originaldstv3.OriginalDst{}),
			},
		},
		notOnPorts(b.shared.tlsInspector, inboundPort),
		notOnPorts(b.shared.httpInspector, quiet...),
	}
	b.emit(xds.ListenerType, l.Name, l)
}

// inboundTarget is what chains of virtualInbound lead to.
type inboundTarget struct {
	port     uint32 // of the workload; 0: whatever no service declares
	protocol mesh.Protocol
	cluster  string
	// host and number are the service's, for the trace operation; with passthrough "" and 0.
	host     string
	number   uint32
	metadata *corev3.Metadata
}

func (b *builder) inboundTarget(in *mesh.Inbound) *inboundTarget {
	t := &inboundTarget{
		port: in.Target, protocol: in.Port.Protocol, cluster: inboundCluster(in.Target),
		host: in.Service.Host, number: in.Port.Number, metadata: b.serviceMetadata(in.Service),
	}
	if t.protocol.IsTLS() { // not decrypted here, so it is like any bytes
		t.protocol = mesh.ProtocolTCP
	}
	return t
}

// inboundCluster is Istio's "inbound|port||".
func inboundCluster(port uint32) string {
	return "inbound|" + strconv.FormatUint(uint64(port), 10) + "||"
}

// inboundChains are those of one port: for clients of the mesh, and in the clear.
func (b *builder) inboundChains(t *inboundTarget) []*listenerv3.FilterChain {
	switch t.protocol {
	case mesh.ProtocolHTTP:
		return []*listenerv3.FilterChain{
			b.inboundChain(t, "tls", alpnMesh(), true),
			b.inboundChain(t, "raw_buffer", nil, true),
		}
	case mesh.ProtocolAuto:
		return []*listenerv3.FilterChain{
			b.inboundChain(t, "tls", alpnHTTP(), true),
			b.inboundChain(t, "raw_buffer", []string{"http/1.1", "h2c"}, true),
			b.inboundChain(t, "tls", alpnTCP(), false),
			b.inboundChain(t, "raw_buffer", nil, false),
			b.inboundChain(t, "tls", nil, false),
		}
	}
	return []*listenerv3.FilterChain{
		b.inboundChain(t, "tls", alpnMesh(), false),
		b.inboundChain(t, "tls", nil, false),
		b.inboundChain(t, "raw_buffer", nil, false),
	}
}

// inboundChain is one of them. TLS with an ALPN of the mesh ends here, other TLS is the
// workload's own.
func (b *builder) inboundChain(t *inboundTarget, transport string, alpn []string, http bool) *listenerv3.FilterChain {
	c := &listenerv3.FilterChain{
		Name: "virtualInbound", Metadata: t.metadata,
		FilterChainMatch: &listenerv3.FilterChainMatch{TransportProtocol: transport, ApplicationProtocols: alpn},
	}
	switch {
	case t.port != 0:
		c.Name = listenerKey{wildcardBind, t.port}.name()
		c.FilterChainMatch.DestinationPort = uint32Value(t.port)
	case http:
		c.Name = "virtualInbound-catchall-http"
	}
	if transport == "tls" && len(alpn) > 0 {
		c.TransportSocket = b.inboundTLS(http)
	}
	if http {
		c.Filters = b.inboundHTTP(t)
	} else {
		c.Filters = b.tcpFilters(singleTarget(t.cluster, nil), true)
	}
	return c
}

// notOnPorts is a listener filter that leaves connections to some ports alone.
func notOnPorts(f *listenerv3.ListenerFilter, ports ...uint32) *listenerv3.ListenerFilter {
	var rules []*listenerv3.ListenerFilterChainMatchPredicate
	for _, p := range ports {
		rules = append(rules, &listenerv3.ListenerFilterChainMatchPredicate{
			Rule: &listenerv3.ListenerFilterChainMatchPredicate_DestinationPortRange{
				DestinationPortRange: &typev3.Int32Range{Start: int32(p), End: int32(p) + 1},
			},
		})
	}
	out := &listenerv3.ListenerFilter{Name: f.GetName(), ConfigType: f.GetConfigType(), FilterDisabled: rules[0]}
	if len(rules) > 1 {
		out.FilterDisabled = &listenerv3.ListenerFilterChainMatchPredicate{
			Rule: &listenerv3.ListenerFilterChainMatchPredicate_OrMatch{
				OrMatch: &listenerv3.ListenerFilterChainMatchPredicate_MatchSet{Rules: rules},
			},
		}
	}
	return out
}

// inboundClusters emits the clusters that lead to the workload.
func (b *builder) inboundClusters() {
	if !b.takesInbound() {
		return
	}
	inbound := b.mesh.Inbound(b.node)
	for i := range inbound {
		in := &inbound[i]
		options := &httpv3.HttpProtocolOptions{}
		switch {
		case in.Port.HTTP2():
			setProtocol(options, &target{service: in.Service, port: in.Port})
		case in.Port.Protocol.MayBeHTTP():
			options.UpstreamProtocolOptions = downstreamProtocol()
		}
		c := b.toWorkload(inboundCluster(in.Target))
		c.Metadata = (&provenance{services: []*mesh.Service{in.Service}, objects: in.Service.Sources}).metadata()
		b.setHTTPOptions(c, options)
		b.emit(xds.ClusterType, c.Name, c)
	}
	c := b.toWorkload(inboundPassthrough)
	b.setHTTPOptions(c, &httpv3.HttpProtocolOptions{
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{IdleTimeout: durationpb.New(passthroughIdle)},
		UpstreamProtocolOptions:   downstreamProtocol(),
	})
	b.emit(xds.ClusterType, c.Name, c)
}

// toWorkload is a cluster that leads to the address and port that were called.
func (b *builder) toWorkload(name string) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST},
		ConnectTimeout:       b.shared.connectTimeout,
		LbPolicy:             clusterv3.Cluster_CLUSTER_PROVIDED,
		CircuitBreakers:      b.shared.breakers,
		UpstreamBindConfig:   b.inboundSource(),
	}
}

// inboundSource is the address that connections to the workload come from: 127.0.0.6, and
// for nodes that have IPv6 ::6, which the host's rules do not capture.
func (b *builder) inboundSource() *corev3.BindConfig {
	four, six := &corev3.SocketAddress{Address: "127.0.0.6"}, &corev3.SocketAddress{Address: "::6"}
	for _, a := range []*corev3.SocketAddress{four, six} {
		a.PortSpecifier = &corev3.SocketAddress_PortValue{}
	}
	has4 := len(b.node.Addresses) == 0 || slices.ContainsFunc(b.node.Addresses, netip.Addr.Is4)
	has6 := slices.ContainsFunc(b.node.Addresses, netip.Addr.Is6)
	switch {
	case has4 && has6:
		return &corev3.BindConfig{SourceAddress: four, ExtraSourceAddresses: []*corev3.ExtraSourceAddress{{Address: six}}}
	case has6:
		return &corev3.BindConfig{SourceAddress: six}
	}
	return &corev3.BindConfig{SourceAddress: four}
}
