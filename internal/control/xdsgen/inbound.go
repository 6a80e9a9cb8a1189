package xdsgen

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	originaldstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/xds"
)

// Inbound, as Istio's sidecar has it: one listener for all connections to the workload.
// What a Service declares has chains by the port; everything else is passed through.
// Clients may speak in the clear, or with mutual TLS of the mesh, which they say by ALPN
// (PERMISSIVE), unless a PeerAuthentication says otherwise. Connections to the workload come from an address that the host's rules
// know (127.0.0.6), so they are not captured again.

const (
	inboundPort        = mesh.InboundPort
	inboundPassthrough = "InboundPassthroughCluster"
)

// alpnHTTP is what clients of the mesh offer that know of HTTP inside, alpnTCP others.
func alpnHTTP() []string      { return []string{"istio-http/1.0", "istio-http/1.1", "istio-h2"} }
func alpnTCP() []string       { return []string{"istio-peer-exchange", "istio"} }
func alpnPlainHTTP() []string { return []string{"http/1.1", "h2c"} }
func alpnMesh() []string      { return append([]string{"istio", "istio-peer-exchange"}, alpnHTTP()...) }

// takesInbound: connections to the node's workload come through the proxy.
func (b *builder) takesInbound() bool { return b.mesh.Pods() && b.node.Type == mesh.NodeSidecar }

// inboundListener emits virtualInbound.
func (b *builder) inboundListener() {
	if !b.takesInbound() {
		return
	}
	key := listenerKey{wildcardBind, inboundPort}
	policy := b.mesh.PeerPolicy(b.node.Namespace, b.node.Labels)
	l := &listenerv3.Listener{
		Name:                                 "virtualInbound",
		Address:                              socketAddress(key.bind, key.port),
		AdditionalAddresses:                  b.additionalAddresses(key),
		TrafficDirection:                     corev3.TrafficDirection_INBOUND,
		Metadata:                             (&provenance{objects: policy.Objects}).metadata(),
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
	ports := newInspected()
	for _, t := range b.inboundTargets(&policy) {
		matches := inboundMatches(t.protocol, policy.Port(t.port))
		ports.add(t.port, matches)
		for i := range matches {
			l.FilterChains = append(l.FilterChains, b.inboundChain(t, &matches[i]))
		}
	}
	l.ListenerFilters = append(l.ListenerFilters, &listenerv3.ListenerFilter{
		Name: "envoy.filters.listener.original_dst",
		ConfigType: &listenerv3.ListenerFilter_TypedConfig{
			TypedConfig: b.pack(&originaldstv3.OriginalDst{}),
		},
	})
	l.ListenerFilters = appendFilter(l.ListenerFilters, b.shared.tlsInspector, ports.tls)
	l.ListenerFilters = appendFilter(l.ListenerFilters, b.shared.httpInspector, ports.http)
	b.emit(xds.ListenerType, l.Name, l)
}

// inboundTargets are what connections may be for: first whatever no service declares, then the
// ports that have a mode of their own of that, then the services' ports.
func (b *builder) inboundTargets(policy *mesh.PeerPolicy) []*inboundTarget {
	passthrough := func(port uint32) *inboundTarget {
		return &inboundTarget{port: port, protocol: mesh.ProtocolAuto, cluster: inboundPassthrough, passthrough: true}
	}
	out := []*inboundTarget{passthrough(0)}
	var declared []*inboundTarget
	inbound := b.mesh.Inbound(b.node)
	for i := range inbound {
		declared = append(declared, b.inboundTarget(&inbound[i]))
	}
	for _, port := range slices.Sorted(maps.Keys(policy.Ports)) {
		if !slices.ContainsFunc(declared, func(t *inboundTarget) bool { return t.port == port }) {
			out = append(out, passthrough(port))
		}
	}
	return append(out, declared...)
}

// inboundTarget is what chains of virtualInbound lead to.
type inboundTarget struct {
	port     uint32 // of the workload; 0: any other
	protocol mesh.Protocol
	cluster  string
	// passthrough: no service declares the port.
	passthrough bool
	// host and number are the service's, for the trace operation; with passthrough "" and 0.
	host     string
	number   uint32
	metadata *corev3.Metadata
}

func (b *builder) inboundTarget(in *mesh.Inbound) *inboundTarget {
	t := &inboundTarget{port: in.Target, protocol: in.Port.Protocol, cluster: inboundCluster(in.Target), number: in.Port.Number}
	if in.Sidecar != nil { // it has no host name: Istio makes one up
		p := provenance{config: in.Sidecar.Ref, objects: []istioapi.Ref{in.Sidecar.Ref}}
		t.host, t.metadata = in.Sidecar.Name+"."+in.Sidecar.Namespace, p.metadata()
	} else {
		t.host, t.metadata = in.Service.Host, b.serviceMetadata(in.Service)
	}
	if t.protocol.IsTLS() { // not decrypted here, so it is like any bytes
		t.protocol = mesh.ProtocolTCP
	}
	return t
}

// inboundProvenance says what an inbound port was made from.
func inboundProvenance(in *mesh.Inbound) *provenance {
	p := &provenance{}
	if in.Sidecar != nil {
		p.config, p.objects = in.Sidecar.Ref, []istioapi.Ref{in.Sidecar.Ref}
	}
	if in.Service != nil {
		p.services, p.objects = []*mesh.Service{in.Service}, append(p.objects, in.Service.Sources...)
	}
	return p
}

// inboundCluster is Istio's "inbound|port||".
func inboundCluster(port uint32) string {
	return "inbound|" + strconv.FormatUint(uint64(port), 10) + "||"
}

// inboundMatch is what one chain of a port takes.
type inboundMatch struct {
	transport string
	alpn      []string // nil: any
	http      bool
	ends      bool // the mesh's TLS ends here; other TLS is the workload's own
}

// inboundMatches are those of one port, in Istio's order (istio/istio
// pilot/pkg/networking/core/filterchain_options.go).
func inboundMatches(p mesh.Protocol, mode mesh.MutualTLS) []inboundMatch {
	const tls, raw = "tls", rawBufferTransport
	http, auto := p == mesh.ProtocolHTTP, p == mesh.ProtocolAuto
	switch {
	case mode == mesh.MutualTLSStrict && auto:
		return []inboundMatch{{tls, alpnHTTP(), true, true}, {tls, nil, false, true}}
	case mode == mesh.MutualTLSStrict:
		return []inboundMatch{{tls, nil, http, true}}
	case mode == mesh.MutualTLSDisable && auto:
		return []inboundMatch{{raw, alpnPlainHTTP(), true, false}, {raw, nil, false, false}}
	case mode == mesh.MutualTLSDisable:
		return []inboundMatch{{raw, nil, http, false}}
	case auto:
		return []inboundMatch{
			{tls, alpnHTTP(), true, true}, {raw, alpnPlainHTTP(), true, false},
			{tls, alpnTCP(), false, true}, {raw, nil, false, false}, {tls, nil, false, false},
		}
	case http:
		return []inboundMatch{{tls, alpnMesh(), true, true}, {raw, nil, true, false}}
	}
	return []inboundMatch{{tls, alpnMesh(), false, true}, {tls, nil, false, false}, {raw, nil, false, false}}
}

// inboundChain is one chain.
func (b *builder) inboundChain(t *inboundTarget, m *inboundMatch) *listenerv3.FilterChain {
	c := &listenerv3.FilterChain{
		Name: listenerKey{wildcardBind, t.port}.name(), Metadata: t.metadata,
		FilterChainMatch: &listenerv3.FilterChainMatch{TransportProtocol: m.transport, ApplicationProtocols: m.alpn},
	}
	switch {
	case t.passthrough && m.http:
		c.Name = "virtualInbound-catchall-http"
	case t.passthrough:
		c.Name = "virtualInbound"
	}
	if t.port != 0 {
		c.FilterChainMatch.DestinationPort = uint32Value(t.port)
	}
	if m.ends {
		c.TransportSocket = b.inboundTLS(m.http)
	}
	if m.http {
		c.Filters = b.inboundHTTP(t)
	} else {
		c.Filters = b.tcpFilters(singleTarget(t.cluster, nil), true)
	}
	return c
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
			setProtocol(options, &target{service: &mesh.Service{}, port: in.Port})
		case in.Port.Protocol.MayBeHTTP():
			options.UpstreamProtocolOptions = downstreamProtocol()
		}
		c := b.toWorkload(inboundCluster(in.Target))
		c.Metadata = inboundProvenance(in).metadata()
		b.toEndpoint(c, in.Endpoint)
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

// toEndpoint leads a cluster to where a Sidecar's ingress says: to another port of the address
// that was called, which is one of the pod's own (0.0.0.0), or to the loopback address, which
// is not captured.
func (b *builder) toEndpoint(c *clusterv3.Cluster, to netip.AddrPort) {
	switch {
	case !to.IsValid():
	case to.Addr().IsUnspecified():
		c.LbConfig = &clusterv3.Cluster_OriginalDstLbConfig_{OriginalDstLbConfig: &clusterv3.Cluster_OriginalDstLbConfig{
			UpstreamPortOverride: uint32Value(uint32(to.Port())),
		}}
	default:
		host := to.Addr().String()
		if to.Addr().Is4() && b.onlyIPv6() {
			host = netip.IPv6Loopback().String()
		}
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
		c.LbPolicy, c.UpstreamBindConfig = clusterv3.Cluster_ROUND_ROBIN, nil
		c.LoadAssignment = b.assignment(c.Name, []lbEndpoint{{host: host, port: uint32(to.Port())}}, localities{})
	}
}

// onlyIPv6: the node is known to have no address of IPv4.
func (b *builder) onlyIPv6() bool {
	return len(b.node.Addresses) > 0 && !slices.ContainsFunc(b.node.Addresses, netip.Addr.Is4)
}

// inboundSource is the address that connections to the workload come from: 127.0.0.6, and
// for nodes that have IPv6 ::6, which the host's rules do not capture.
func (b *builder) inboundSource() *corev3.BindConfig {
	four, six := &corev3.SocketAddress{Address: "127.0.0.6"}, &corev3.SocketAddress{Address: "::6"}
	for _, a := range []*corev3.SocketAddress{four, six} {
		a.PortSpecifier = &corev3.SocketAddress_PortValue{}
	}
	has4 := !b.onlyIPv6()
	has6 := slices.ContainsFunc(b.node.Addresses, netip.Addr.Is6)
	switch {
	case has4 && has6:
		return &corev3.BindConfig{SourceAddress: four, ExtraSourceAddresses: []*corev3.ExtraSourceAddress{{Address: six}}}
	case has6:
		return &corev3.BindConfig{SourceAddress: six}
	}
	return &corev3.BindConfig{SourceAddress: four}
}
