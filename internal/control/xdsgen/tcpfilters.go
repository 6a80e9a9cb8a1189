package xdsgen

import (
	"net"
	"strconv"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/egret-mesh/egret/internal/control/mesh"
)

// Names of the clusters that refuse and that let through, as Istio has them.
const (
	blackHole   = "BlackHoleCluster"
	passthrough = "PassthroughCluster"
)

// clusterName is Istio's "outbound|port|subset|host".
func clusterName(port uint32, subset, host string) string {
	return "outbound|" + strconv.FormatUint(uint64(port), 10) + "|" + subset + "|" + host
}

// destinationCluster is the cluster that a destination means: its own port, else the
// only port of the service, else the port of the listener.
func (b *builder) destinationCluster(host string, d *networking.Destination, listenPort uint32) string {
	if host == "" {
		return blackHole
	}
	name := clusterName(b.destinationPort(host, d, listenPort), d.GetSubset(), host)
	if b.used != nil {
		b.used[name] = true
	}
	return name
}

// destinationPort is the port of a destination: the one it names, the service's only
// one, or the one that was called.
func (b *builder) destinationPort(host string, d *networking.Destination, listenPort uint32) uint32 {
	if n := d.GetPort().GetNumber(); n != 0 {
		return n
	}
	if s := b.scope.Service(host); s != nil && len(s.Ports) == 1 {
		return s.Ports[0].Number
	}
	return listenPort
}

// tcpTarget is where a TCP chain leads.
type tcpTarget struct {
	statPrefix string
	clusters   []weightedCluster // one or more
	service    *mesh.Service     // of the first one, when known: for its idle timeout
}

type weightedCluster struct {
	name   string
	weight uint32
}

// l4Target is the target of a VirtualService's tls or tcp route. Destinations of
// weight 0 are left out unless they are alone.
func (b *builder) l4Target(v *mesh.VirtualService, routes []*networking.RouteDestination, listenPort uint32) tcpTarget {
	t := tcpTarget{statPrefix: v.Name + "." + v.Namespace}
	for _, r := range routes {
		weight := uint32(max(r.GetWeight(), 0))
		if weight == 0 && len(routes) > 1 {
			continue
		}
		host := v.Host(r.GetDestination().GetHost(), b.mesh.Domain())
		if len(t.clusters) == 0 {
			t.service = b.scope.Service(host)
		}
		t.clusters = append(t.clusters, weightedCluster{b.destinationCluster(host, r.GetDestination(), listenPort), weight})
	}
	switch len(t.clusters) {
	case 0:
		t.clusters = []weightedCluster{{blackHole, 1}}
		t.statPrefix = blackHole
	case 1:
		t.statPrefix = t.clusters[0].name
	}
	return t
}

func singleTarget(cluster string, s *mesh.Service) tcpTarget {
	return tcpTarget{statPrefix: cluster, clusters: []weightedCluster{{cluster, 1}}, service: s}
}

// tcpFilters is the tcp_proxy filter for a target.
func (b *builder) tcpFilters(t tcpTarget, logged bool) []*listenerv3.Filter {
	p := b.scratchTCP
	proto.Reset(p)
	p.StatPrefix = t.statPrefix
	if logged {
		p.AccessLog = b.logs.traffic
	}
	if len(t.clusters) == 1 {
		p.ClusterSpecifier = &tcpproxyv3.TcpProxy_Cluster{Cluster: t.clusters[0].name}
	} else {
		w := &tcpproxyv3.TcpProxy_WeightedCluster{}
		for _, c := range t.clusters {
			w.Clusters = append(w.Clusters, &tcpproxyv3.TcpProxy_WeightedCluster_ClusterWeight{Name: c.name, Weight: c.weight})
		}
		p.ClusterSpecifier = &tcpproxyv3.TcpProxy_WeightedClusters{WeightedClusters: w}
	}
	b.tcpPolicy(p, t)
	return []*listenerv3.Filter{{
		Name:       "envoy.filters.network.tcp_proxy",
		ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: b.pack(p)},
	}}
}

// tcpPolicy is what the rule for the target's service says of its connections.
func (b *builder) tcpPolicy(p *tcpproxyv3.TcpProxy, t tcpTarget) {
	if t.service == nil {
		return
	}
	rule := b.scope.DestinationRule(t.service)
	if rule == nil {
		return
	}
	tcp := rule.TrafficPolicy().GetConnectionPool().GetTcp()
	p.IdleTimeout = tcp.GetIdleTimeout()
	p.MaxDownstreamConnectionDuration = tcp.GetMaxConnectionDuration()
	if parts := splitCluster(t.clusters[0].name); parts != nil && hashesSource(rule, parts[2]) {
		p.HashPolicy = []*typev3.HashPolicy{{PolicySpecifier: &typev3.HashPolicy_SourceIp_{SourceIp: &typev3.HashPolicy_SourceIp{}}}}
	}
	p.TunnelingConfig = t.tunnel(rule)
}

// tunnel is what the upstream, a proxy, is asked for. As in Istio a subset has no tunnel
// but its own, and of several destinations the first one's rule counts, without subsets.
func (t *tcpTarget) tunnel(rule *mesh.DestinationRule) *tcpproxyv3.TcpProxy_TunnelingConfig {
	s := rule.TrafficPolicy().GetTunnel()
	if parts := splitCluster(t.clusters[0].name); len(t.clusters) == 1 && parts != nil && parts[2] != "" {
		s = rule.Subset(parts[2]).GetTrafficPolicy().GetTunnel()
	}
	if s == nil {
		return nil
	}
	return &tcpproxyv3.TcpProxy_TunnelingConfig{
		Hostname: net.JoinHostPort(s.GetTargetHost(), strconv.FormatUint(uint64(s.GetTargetPort()), 10)),
		UsePost:  s.GetProtocol() == "POST",
	}
}

// hashesSource: connections are balanced by the client's address. The balancing of a
// subset replaces the rule's.
func hashesSource(rule *mesh.DestinationRule, subset string) bool {
	if lb := rule.Subset(subset).GetTrafficPolicy().GetLoadBalancer(); lb != nil {
		return lb.GetConsistentHash().GetUseSourceIp()
	}
	return rule.TrafficPolicy().GetLoadBalancer().GetConsistentHash().GetUseSourceIp()
}
