package xdsgen

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/egret-mesh/egret/internal/control/istioapi"
	"github.com/egret-mesh/egret/internal/control/mesh"
	"github.com/egret-mesh/egret/internal/xds"
)

// proxyless makes the resources of a gRPC client that has no proxy (gRFC A27, as Istio's
// grpcgen): for each host and port that may be HTTP an API listener "host:port", its route
// configuration, and the clusters that gRPC can have. A host that is not registered, and a
// wildcard host, has no listener: gRPC then fails the call.
func (b *builder) proxyless() {
	ports := map[uint32]bool{}
	for _, s := range b.scope.Services {
		for _, p := range s.Ports {
			ports[p.Number] = true
		}
	}
	filters := slices.DeleteFunc(slices.Clone(b.shared.filters), func(f *hcmv3.HttpFilter) bool { return f.GetName() == corsFilter })
	for _, port := range slices.Sorted(maps.Keys(ports)) {
		for _, s := range httpServices(b.egressFor(port), port) {
			if !mesh.IsWildcard(s.Host) {
				b.apiListeners(s, port, filters)
			}
		}
	}
}

// apiListeners are those of a service's host and of its short names, with one route
// configuration for all.
func (b *builder) apiListeners(s *mesh.Service, port uint32, filters []*hcmv3.HttpFilter) {
	route := clusterName(port, "", s.Host)
	if _, taken := b.out[xds.RouteType][route]; taken {
		return // the first of a name stays
	}
	manager := b.pack(&hcmv3.HttpConnectionManager{
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{ConfigSource: b.shared.ads, RouteConfigName: route}},
		HttpFilters:    filters,
	})
	names := append([]string{s.Host}, b.shortNames(s.Host)...)
	for i, name := range names {
		names[i] = net.JoinHostPort(name, strconv.FormatUint(uint64(port), 10))
		b.emit(xds.ListenerType, names[i], &listenerv3.Listener{
			Name: names[i], Metadata: b.serviceMetadata(s), ApiListener: &listenerv3.ApiListener{ApiListener: manager},
		})
	}
	b.emit(xds.RouteType, route, &routev3.RouteConfiguration{
		Name: route, VirtualHosts: []*routev3.VirtualHost{b.proxylessHost(s, port, names)},
	})
}

// proxylessHost is a service's virtual host; gRPC looks for the whole target, with the port.
func (b *builder) proxylessHost(s *mesh.Service, port uint32, targets []string) *routev3.VirtualHost {
	host := b.serviceHost(s, port, b.hashPolicy(s, "", port))
	v, entries := b.firstRoutes(b.egressFor(port).VirtualServices.Best(s.Host), port)
	if entries != nil {
		host = b.virtualHost(s.Host, host.Domains, port, entries, refs([]istioapi.Ref{v.Ref}, s.Sources))
	}
	host.Domains = append(slices.Clip(host.Domains), targets...)
	for _, r := range host.Routes {
		delete(r.TypedPerFilterConfig, corsFilter) // gRPC refuses filters that it does not have
		if a := r.GetRoute(); a != nil {
			// The only timeout of a route that gRPC knows (gRFC A31).
			a.MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: a.GetTimeout()}
		}
	}
	return host
}

// proxylessClusters are those of all ports that may be HTTP: the plain one, and one for
// each subset.
func (b *builder) proxylessClusters() {
	for _, s := range b.scope.Services {
		if mesh.IsWildcard(s.Host) {
			continue
		}
		rule := b.scope.DestinationRule(s)
		for _, port := range s.Ports {
			if !port.Protocol.MayBeHTTP() {
				continue
			}
			p := b.clusterProvenance(s, rule)
			b.proxylessCluster(&target{service: s, port: port, policy: policyFor(rule.TrafficPolicy(), nil, port.Number)}, p)
			if rule == nil {
				continue
			}
			for _, subset := range rule.Subsets {
				p.subset = subset.GetName()
				b.proxylessCluster(&target{
					service: s, port: port, subset: subset.GetName(), labels: subset.GetLabels(),
					policy: policyFor(rule.Policy, subset.GetTrafficPolicy(), port.Number),
				}, p)
			}
		}
	}
	// Where nothing may go: no endpoint fails a call at once, no cluster would after a wait.
	b.emit(xds.ClusterType, blackHole, b.endpointsByEDS(&clusterv3.Cluster{Name: blackHole}))
	b.emit(xds.EndpointType, blackHole, &endpointv3.ClusterLoadAssignment{ClusterName: blackHole})
}

// proxylessCluster has what gRPC honours: endpoints by EDS, or one DNS name (gRFC A37);
// round robin or ring hash, which every gRPC has; the limit of requests (gRFC A32). TLS
// is the application's, but for the mesh's own, as in Istio.
func (b *builder) proxylessCluster(t *target, p *provenance) {
	if _, taken := b.out[xds.ClusterType][t.name()]; taken {
		return
	}
	c := &clusterv3.Cluster{Name: t.name(), CircuitBreakers: b.shared.breakers, Metadata: p.metadata()}
	t.policy.applyHTTP(c, &httpv3.HttpProtocolOptions{})
	t.policy.applyLB(c)
	if c.LbPolicy != clusterv3.Cluster_RING_HASH {
		c.LbPolicy, c.LbConfig = clusterv3.Cluster_ROUND_ROBIN, nil
	}
	b.certificateProviders(c, t)
	where := b.localities(&t.policy)
	endpoints := once(b.endpointsOf(t))
	if t.service.Resolution != mesh.ResolutionStatic {
		endpoints = once(b.dnsEndpointsOf(t))
	}
	if len(endpoints) == 1 && isName(endpoints[0].host) {
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_LOGICAL_DNS}
		c.LoadAssignment = b.assignment(c.Name, endpoints, localities{})
		b.emit(xds.ClusterType, c.Name, c)
		return
	}
	b.emit(xds.ClusterType, c.Name, b.endpointsByEDS(c))
	b.emit(xds.EndpointType, c.Name, b.assignment(c.Name, endpoints, where))
}

func (b *builder) endpointsByEDS(c *clusterv3.Cluster) *clusterv3.Cluster {
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}
	c.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{EdsConfig: b.shared.ads, ServiceName: c.Name}
	return c
}

func isName(host string) bool {
	_, err := netip.ParseAddr(host)
	return err != nil
}

// once joins endpoints with the same address, which gRPC refuses to have twice.
func once(list []lbEndpoint) []lbEndpoint {
	type address struct {
		host string
		port uint32
	}
	seen := map[address]int{}
	var out []lbEndpoint
	for _, e := range list {
		e.weight = max(e.weight, 1)
		if i, ok := seen[address{e.host, e.port}]; ok {
			out[i].weight += e.weight
			continue
		}
		seen[address{e.host, e.port}] = len(out)
		out = append(out, e)
	}
	return out
}

// certificateProvider is the name under which gRPC's bootstrap has the mesh's certificates,
// as Istio's agent writes it (gRFC A29).
const certificateProvider = "default"

// certificateProviders is ISTIO_MUTUAL for gRPC. A client without that provider in its
// bootstrap refuses the cluster; one without xDS credentials does not look at it.
func (b *builder) certificateProviders(c *clusterv3.Cluster, t *target) {
	if t.policy.tls.GetMode() != networking.ClientTLSSettings_ISTIO_MUTUAL {
		return
	}
	v := &tlsv3.CertificateValidationContext{
		CaCertificateProviderInstance: &tlsv3.CertificateProviderPluginInstance{InstanceName: certificateProvider, CertificateName: "ROOTCA"},
	}
	for _, n := range t.policy.tls.GetSubjectAltNames() {
		//lint:ignore SA1019 gRPC reads this field (gRFC A29)
		v.MatchSubjectAltNames = append(v.MatchSubjectAltNames, sanMatcher(n).GetMatcher())
	}
	c.TransportSocket = &corev3.TransportSocket{
		Name: "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: b.pack(&tlsv3.UpstreamTlsContext{CommonTlsContext: &tlsv3.CommonTlsContext{
			TlsCertificateProviderInstance: &tlsv3.CertificateProviderPluginInstance{InstanceName: certificateProvider, CertificateName: "default"},
			ValidationContextType:          &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: v},
		}})},
	}
}
