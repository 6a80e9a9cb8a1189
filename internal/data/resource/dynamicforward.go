package resource

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	dfpclusterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dynamic_forward_proxy/v3"
	dnscachev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/dynamic_forward_proxy/v3"
	dfphttpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/dynamic_forward_proxy/v3"
	dfpsniv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/sni_dynamic_forward_proxy/v3"
	caresv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/cares/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

const (
	typeDFPCluster = "envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig"
	typeDFPHTTP    = "envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig"
	typeDFPSNI     = "envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig"

	defaultForwardPort = 443 // of connections that are known by their TLS server name
)

// dynamicForward decodes a cluster that goes where the request's host, or the TLS
// server name, says. Its DNS cache is the proxy's one, with its bounds: of the
// configuration the address family counts.
func (c *decoding) dynamicForward(p *path, cl *Cluster, m *clusterv3.Cluster_CustomClusterType) {
	at := p.field("cluster_type").field("typed_config")
	if name := typeName(m.GetTypedConfig().GetTypeUrl()); name != typeDFPCluster {
		c.fail(at, "type %q is not supported", clip(string(name)))
		return
	}
	var conf dfpclusterv3.ClusterConfig
	if !c.unpack(at, m.GetTypedConfig(), &conf) {
		return
	}
	cl.Discovery = DiscoveryDynamicForward
	cl.DNSFamily = c.dnsCache(at.field("dns_cache_config"), conf.GetDnsCacheConfig())
	if cl.LB != LBClusterProvided {
		c.fail(p.field("lb_policy"), "a dynamic forward proxy needs CLUSTER_PROVIDED")
	}
}

func (c *decoding) dnsCache(p *path, m *dnscachev3.DnsCacheConfig) DNSFamily {
	if m == nil {
		c.fail(p, "is missing")
	}
	c.dnsResolver(p.field("typed_dns_resolver_config"), m.GetTypedDnsResolverConfig())
	return c.dnsFamily(p.field("dns_lookup_family"), m.GetDnsLookupFamily())
}

func (c *decoding) dnsFamily(p *path, f clusterv3.Cluster_DnsLookupFamily) DNSFamily {
	switch f {
	case clusterv3.Cluster_AUTO:
		return DNSAuto
	case clusterv3.Cluster_V4_ONLY:
		return DNSV4Only
	case clusterv3.Cluster_V6_ONLY:
		return DNSV6Only
	case clusterv3.Cluster_V4_PREFERRED:
		return DNSV4Preferred
	case clusterv3.Cluster_ALL:
		return DNSAll
	}
	c.fail(p, "%d is not supported", f)
	return DNSAuto
}

// dnsResolver accepts what the machine's own resolver stands for; resolvers that are
// named are refused by the field table.
func (c *decoding) dnsResolver(p *path, m *corev3.TypedExtensionConfig) {
	at := p.field("typed_config")
	switch typeName(m.GetTypedConfig().GetTypeUrl()) {
	case "", typeGetAddrInfo:
	case typeCares:
		c.unpack(at, m.GetTypedConfig(), &caresv3.CaresDnsResolverConfig{})
	default:
		c.fail(at, "type %q is not supported", clip(m.GetTypedConfig().GetTypeUrl()))
	}
}

// forwardHTTP accepts the HTTP filter: in Envoy it looks the name up before the
// router asks the cluster; here the cluster does it itself.
func (c *decoding) forwardHTTP(p *path, a *anypb.Any) {
	var m dfphttpv3.FilterConfig
	if c.unpack(p, a, &m) {
		c.dnsCache(p.field("dns_cache_config"), m.GetDnsCacheConfig())
	}
}

// forwardSNI is the port that the SNI filter says.
func (c *decoding) forwardSNI(p *path, a *anypb.Any) uint16 {
	var m dfpsniv3.FilterConfig
	if !c.unpack(p, a, &m) {
		return 0
	}
	c.dnsCache(p.field("dns_cache_config"), m.GetDnsCacheConfig())
	if m.GetPortValue() == 0 {
		return defaultForwardPort
	}
	return c.port16(p.field("port_value"), m.GetPortValue())
}
