package resource

//lint:file-ignore SA1019 Deprecated fields are read because control planes still send them.

import (
	"net/netip"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	typeCares           = "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"
	typeGetAddrInfo     = "envoy.extensions.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig"
	typeUpstreamCodec   = "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec"
	keyHTTPProtocolOpts = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

	// Envoy's defaults.
	defaultConnectTimeout = 5 * time.Second
	defaultDNSRefresh     = 5 * time.Second
)

// Cluster decodes an envoy.config.cluster.v3.Cluster.
func (d Decoder) Cluster(a *anypb.Any) (*Cluster, error) {
	c := d.begin()
	var m clusterv3.Cluster
	var out *Cluster
	if c.unpack(nil, a, &m) {
		out = c.cluster(&m)
	}
	if err := c.end("cluster", m.GetName(), &m); err != nil {
		return nil, err
	}
	return out, nil
}

func (c *decoding) cluster(m *clusterv3.Cluster) *Cluster {
	var root *path
	cl := &Cluster{
		Name:           m.GetName(),
		ConnectTimeout: c.duration(root.field("connect_timeout"), m.GetConnectTimeout(), defaultConnectTimeout),
		DNSRefresh:     c.duration(root.field("dns_refresh_rate"), m.GetDnsRefreshRate(), defaultDNSRefresh),
		DNSRetry:       c.duration(root.field("dns_failure_refresh_rate").field("base_interval"), m.GetDnsFailureRefreshRate().GetBaseInterval(), 0),
		RespectDNSTTL:  m.GetRespectDnsTtl(),
		Objects:        objectsOf(m.GetMetadata()),
	}
	if cl.Name == "" {
		c.fail(root.field("name"), "a cluster needs a name")
	}
	c.discovery(root, cl, m)
	c.balancing(root, cl, m)
	c.dns(root, cl, m)
	cl.Breakers = c.circuitBreakers(root.field("circuit_breakers"), m.GetCircuitBreakers())
	if t := m.GetClusterType(); t != nil {
		c.dynamicForward(root, cl, t)
	}
	cl.Outlier = c.outlierDetection(root.field("outlier_detection"), m.GetOutlierDetection())
	c.protocols(root, cl, m)
	c.sockets(root, cl, m)
	if k := m.GetUpstreamConnectionOptions().GetTcpKeepalive(); k != nil {
		cl.TCPKeepalive = &TCPKeepalive{
			Probes:   k.GetKeepaliveProbes().GetValue(),
			Time:     seconds(k.GetKeepaliveTime()),
			Interval: seconds(k.GetKeepaliveInterval()),
		}
	}
	for i, f := range m.GetFilters() {
		if !c.cosmeticFilter(f.GetTypedConfig()) {
			c.fail(root.at("filters", i), "network filter %q of type %q is not supported", clip(f.GetName()), clip(filterType(f.GetTypedConfig())))
		}
	}
	return cl
}

func seconds(v *wrapperspb.UInt32Value) time.Duration {
	return time.Duration(v.GetValue()) * time.Second
}

func (c *decoding) discovery(p *path, cl *Cluster, m *clusterv3.Cluster) {
	switch m.GetType() {
	case clusterv3.Cluster_STATIC:
		cl.Discovery = DiscoveryStatic
	case clusterv3.Cluster_STRICT_DNS:
		cl.Discovery = DiscoveryStrictDNS
	case clusterv3.Cluster_LOGICAL_DNS:
		cl.Discovery = DiscoveryLogicalDNS
	case clusterv3.Cluster_EDS:
		cl.Discovery = DiscoveryEDS
		cl.EDSServiceName = m.GetEdsClusterConfig().GetServiceName()
		if cl.EDSServiceName == "" {
			cl.EDSServiceName = cl.Name
		}
		c.fromADS(p.field("eds_cluster_config").field("eds_config"), m.GetEdsClusterConfig().GetEdsConfig())
	case clusterv3.Cluster_ORIGINAL_DST:
		cl.Discovery = DiscoveryOriginalDst
	default:
		c.fail(p.field("type"), "%d is not supported", m.GetType())
	}
	if la := m.GetLoadAssignment(); la != nil {
		named := cl.Discovery == DiscoveryStrictDNS || cl.Discovery == DiscoveryLogicalDNS
		cl.Endpoints = c.endpoints(p.field("load_assignment"), la, named)
	}
}

func (c *decoding) dns(p *path, cl *Cluster, m *clusterv3.Cluster) {
	cl.DNSFamily = c.dnsFamily(p.field("dns_lookup_family"), m.GetDnsLookupFamily())
	c.dnsResolver(p.field("typed_dns_resolver_config"), m.GetTypedDnsResolverConfig())
}

// sockets decodes the transport sockets and the source address.
func (c *decoding) sockets(p *path, cl *Cluster, m *clusterv3.Cluster) {
	if ts := m.GetTransportSocket(); ts != nil {
		at := p.field("transport_socket")
		version, tls, known := c.upstreamTransport(at, ts)
		if !known {
			c.fail(at, "%s", tls.Unsupported)
		}
		cl.ProxyProtocol, cl.TLS = version, tls
	}
	for i, tm := range m.GetTransportSocketMatches() {
		at := p.at("transport_socket_matches", i)
		out := TLSMatch{Name: tm.GetName(), Labels: c.labels(at.field("match"), tm.GetMatch())}
		out.ProxyProtocol, out.TLS, _ = c.upstreamTransport(at.field("transport_socket"), tm.GetTransportSocket())
		cl.TLSMatches = append(cl.TLSMatches, out)
	}
	for _, t := range append([]TLSMatch{{TLS: cl.TLS}}, cl.TLSMatches...) {
		if t.TLS != nil {
			t.TLS.AutoSNI = cl.autoSNI
			t.TLS.AutoSANCheck = t.TLS.AutoSANCheck || cl.autoSAN
		}
	}
	if b := m.GetUpstreamBindConfig(); b != nil {
		at := p.field("upstream_bind_config")
		cl.SourceAddresses = append(cl.SourceAddresses, c.sourceAddress(at.field("source_address"), b.GetSourceAddress()))
		for i, more := range b.GetExtraSourceAddresses() {
			cl.SourceAddresses = append(cl.SourceAddresses, c.sourceAddress(at.at("extra_source_addresses", i).field("address"), more.GetAddress()))
		}
	}
}

func (c *decoding) sourceAddress(p *path, a *corev3.SocketAddress) netip.Addr {
	addr, err := netip.ParseAddr(a.GetAddress())
	if err != nil || a.GetPortValue() != 0 {
		c.fail(p, "not an address without a port")
	}
	return addr.Unmap()
}

// SourceFor is the address to dial a host from; not valid: any.
func (cl *Cluster) SourceFor(host netip.Addr) netip.Addr {
	for _, a := range cl.SourceAddresses {
		if a.Is4() == host.Unmap().Is4() {
			return a
		}
	}
	if len(cl.SourceAddresses) > 0 {
		return cl.SourceAddresses[0]
	}
	return netip.Addr{}
}
