package xdsgen

import (
	"net/netip"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/xds"
)

const httpOptionsKey = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

// clusters makes the clusters of all services that the node sees, one per port and
// subset, their endpoints, and BlackHoleCluster and PassthroughCluster.
func (b *builder) clusters() {
	for _, s := range b.scope.Services {
		b.serviceClusters(s)
	}
	b.fixedClusters()
}

// fixedClusters are those that no service has.
func (b *builder) fixedClusters() {
	b.emit(xds.ClusterType, blackHole, &clusterv3.Cluster{
		Name:                 blackHole,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		ConnectTimeout:       b.shared.connectTimeout,
	})
	if b.node.Type == mesh.NodeSidecar {
		b.emit(xds.ClusterType, passthrough, b.passthroughCluster())
		b.inboundClusters()
	}
}

// serviceClusters makes the clusters of one service.
func (b *builder) serviceClusters(s *mesh.Service) {
	rule := b.scope.DestinationRule(s)
	p := b.clusterProvenance(s, rule)
	var plain *corev3.Metadata
	for i, port := range s.Ports {
		if slices.ContainsFunc(s.Ports[:i], func(q mesh.Port) bool { return q.Number == port.Number }) {
			continue
		}
		if rule == nil && b.memo != nil {
			b.keptCluster(s, port, p)
			continue
		}
		if b.wanted(s, port, "") {
			if plain == nil {
				plain = p.metadata()
			}
			b.cluster(&target{service: s, port: port, selected: rule.Selects(), policy: policyFor(rule.TrafficPolicy(), nil, port.Number)}, plain)
		}
		if rule == nil {
			continue
		}
		for _, subset := range rule.Subsets {
			if !b.wanted(s, port, subset.GetName()) {
				continue
			}
			p.subset = subset.GetName()
			b.cluster(&target{
				service: s, port: port, subset: subset.GetName(), labels: subset.GetLabels(), selected: rule.Selects(),
				policy: policyFor(rule.Policy, subset.GetTrafficPolicy(), port.Number),
			}, p.metadata())
			p.subset = ""
		}
	}
}

// keptCluster emits the cluster of a service that has no rule, from the memo.
func (b *builder) keptCluster(s *mesh.Service, port mesh.Port, p *provenance) {
	name := clusterName(port.Number, "", s.Host)
	if _, taken := b.out[xds.ClusterType][name]; taken || !b.wanted(s, port, "") {
		return // the first of a name stays
	}
	k := b.key("cluster")
	k.service(s)
	k.number(uint64(port.Number))
	made := b.memo.clusters.made(k.sum(), func() (madeCluster, bool) {
		b.cluster(&target{service: s, port: port}, p.metadata())
		return madeCluster{b.out[xds.ClusterType][name], b.out[xds.EndpointType][name]}, b.err == nil
	})
	b.emitKept(xds.ClusterType, made.cluster)
	b.emitKept(xds.EndpointType, made.endpoints)
}

// wanted says whether the node gets a cluster.
func (b *builder) wanted(s *mesh.Service, port mesh.Port, subset string) bool {
	return b.used == nil || b.used[clusterName(port.Number, subset, s.Host)]
}

func (b *builder) clusterProvenance(s *mesh.Service, rule *mesh.DestinationRule) *provenance {
	p := &provenance{services: []*mesh.Service{s}, external: !s.Internal, objects: s.Sources}
	if rule != nil {
		p.config = rule.Ref
		p.objects = refs(s.Sources, rule.Sources)
	}
	return p
}

// target is what one cluster is for.
type target struct {
	service *mesh.Service
	port    mesh.Port
	subset  string
	labels  map[string]string // of the subset
	policy  clusterPolicy
	// selected: the rule has a workloadSelector.
	selected bool
}

func (t *target) name() string { return clusterName(t.port.Number, t.subset, t.service.Host) }

func (b *builder) cluster(t *target, metadata *corev3.Metadata) {
	c, options := b.scratchCluster, b.scratchOptions
	proto.Reset(c)
	proto.Reset(options)
	c.Name = t.name()
	c.ConnectTimeout = b.shared.connectTimeout
	c.LbPolicy = clusterv3.Cluster_LEAST_REQUEST
	c.CircuitBreakers = b.shared.breakers
	c.Metadata = metadata
	if !b.discovery(c, t) {
		return
	}
	t.policy.apply(c, options)
	setProtocol(options, t)
	b.originateTLS(c, t, options)
	b.proxyProtocol(c, t.policy.proxyProtocol)
	b.setHTTPOptions(c, options)
	b.emit(xds.ClusterType, c.Name, c)
}

// version is the HTTP that is spoken with a cluster's hosts.
type version uint8

const (
	http1 version = iota
	http2
	clientsOwn // that of the client's request
)

// version follows the port's protocol and the rule's connection pool, as Istio does.
func (t *target) version() version {
	h := t.policy.pool.GetHttp()
	switch {
	case t.port.Protocol == mesh.ProtocolAuto:
		return clientsOwn
	case t.port.Protocol != mesh.ProtocolHTTP:
	case h.GetUseClientProtocol() || t.service.ClientProtocol && !t.port.HTTP2():
		return clientsOwn
	case t.port.HTTP2() || h.GetH2UpgradePolicy() == networking.ConnectionPoolSettings_HTTPSettings_UPGRADE:
		return http2
	}
	return http1
}

// setProtocol sets the version; HTTP/1.1 is what is spoken where nothing is set.
func setProtocol(o *httpv3.HttpProtocolOptions, t *target) {
	switch t.version() {
	case http2:
		h2 := &corev3.Http2ProtocolOptions{}
		if n := t.policy.pool.GetHttp().GetMaxConcurrentStreams(); n > 0 {
			h2.MaxConcurrentStreams = uint32Value(uint32(n))
		}
		o.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: h2},
			},
		}
	case clientsOwn:
		o.UpstreamProtocolOptions = downstreamProtocol()
	}
}

// setHTTPOptions packs options when something is set; Envoy then wants an explicit
// protocol, which is HTTP/1.1 when nothing else was chosen.
func (b *builder) setHTTPOptions(c *clusterv3.Cluster, o *httpv3.HttpProtocolOptions) {
	if o.UpstreamProtocolOptions == nil {
		if o.CommonHttpProtocolOptions == nil && o.UpstreamHttpProtocolOptions == nil {
			return
		}
		o.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{
					HttpProtocolOptions: &corev3.Http1ProtocolOptions{},
				},
			},
		}
	}
	c.TypedExtensionProtocolOptions = map[string]*anypb.Any{httpOptionsKey: b.pack(o)}
}

// discovery sets how the cluster finds its endpoints, by the service's resolution. It
// is false when there is nothing to find: Istio then makes no cluster.
func (b *builder) discovery(c *clusterv3.Cluster, t *target) bool {
	kind := clusterv3.Cluster_EDS
	switch {
	case t.service.Headless && b.node.Type == mesh.NodeRouter: // nobody has called an address
	case t.service.Headless || t.service.Resolution == mesh.ResolutionNone || t.policy.passthrough():
		kind = clusterv3.Cluster_ORIGINAL_DST
		c.LbPolicy = clusterv3.Cluster_CLUSTER_PROVIDED
	case t.service.Resolution == mesh.ResolutionDNS:
		kind = clusterv3.Cluster_STRICT_DNS
	case t.service.Resolution == mesh.ResolutionDNSRoundRobin:
		kind = clusterv3.Cluster_LOGICAL_DNS
		c.LbPolicy = clusterv3.Cluster_ROUND_ROBIN
	}
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: kind}
	where := b.localities(&t.policy)
	where.apply(c)
	switch kind {
	case clusterv3.Cluster_EDS:
		c.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{EdsConfig: b.shared.ads, ServiceName: c.Name}
		b.emit(xds.EndpointType, c.Name, b.assignment(c.Name, b.endpointsOf(t), where))
	case clusterv3.Cluster_STRICT_DNS, clusterv3.Cluster_LOGICAL_DNS:
		endpoints := b.dnsEndpointsOf(t)
		if len(endpoints) == 0 {
			return false
		}
		if kind == clusterv3.Cluster_LOGICAL_DNS { // Envoy takes exactly one
			endpoints = endpoints[:1]
		}
		c.LoadAssignment = b.assignment(c.Name, endpoints, where)
		b.dnsTiming(c)
		c.DnsLookupFamily = b.dnsFamily()
	}
	return true
}

// dnsTiming sets how often names are resolved, in the fields that istiod sends.
func (b *builder) dnsTiming(c *clusterv3.Cluster) {
	//lint:ignore SA1019 as istiod 1.26
	c.DnsRefreshRate = b.shared.dnsRefresh
	//lint:ignore SA1019 as istiod 1.26
	c.DnsJitter = b.shared.dnsJitter
	//lint:ignore SA1019 as istiod 1.26
	c.RespectDnsTtl = true
}

// dnsFamily asks for the families that the node has, as Istio does.
func (b *builder) dnsFamily() clusterv3.Cluster_DnsLookupFamily {
	six := slices.ContainsFunc(b.node.Addresses, netip.Addr.Is6)
	four := slices.ContainsFunc(b.node.Addresses, netip.Addr.Is4)
	switch {
	case six && four:
		return clusterv3.Cluster_ALL
	case six:
		return clusterv3.Cluster_V6_ONLY
	default:
		return clusterv3.Cluster_V4_ONLY
	}
}

// passthroughCluster connects to the original destination.
func (b *builder) passthroughCluster() *clusterv3.Cluster {
	c := &clusterv3.Cluster{
		Name:                 passthrough,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST},
		ConnectTimeout:       b.shared.connectTimeout,
		LbPolicy:             clusterv3.Cluster_CLUSTER_PROVIDED,
		CircuitBreakers:      b.shared.breakers,
		Metadata:             b.policyMetadata(),
	}
	b.setHTTPOptions(c, &httpv3.HttpProtocolOptions{
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{IdleTimeout: durationpb.New(passthroughIdle)},
		UpstreamProtocolOptions:   downstreamProtocol(),
	})
	return c
}

// downstreamProtocol has the upstream spoken to as the client speaks.
func downstreamProtocol() *httpv3.HttpProtocolOptions_UseDownstreamProtocolConfig {
	return &httpv3.HttpProtocolOptions_UseDownstreamProtocolConfig{
		UseDownstreamProtocolConfig: &httpv3.HttpProtocolOptions_UseDownstreamHttpConfig{
			HttpProtocolOptions:  &corev3.Http1ProtocolOptions{},
			Http2ProtocolOptions: &corev3.Http2ProtocolOptions{},
		},
	}
}

// splitCluster is the four parts of "direction|port|subset|host"; nil for other names.
func splitCluster(name string) []string {
	parts := strings.SplitN(name, "|", 4)
	if len(parts) != 4 {
		return nil
	}
	return parts
}
