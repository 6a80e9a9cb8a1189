package xdsgen

import (
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	networking "istio.io/api/networking/v1alpha3"
)

// passthroughIdle is how long PassthroughCluster keeps unused connections (Istio's 5 min).
const passthroughIdle = 5 * time.Minute

// clusterPolicy is the traffic policy of one cluster, merged.
type clusterPolicy struct {
	pool *networking.ConnectionPoolSettings
	lb   *networking.LoadBalancerSettings
	tls  *networking.ClientTLSSettings
}

// policyFor merges as Istio does: a field of the subset's policy replaces the rule's;
// settings for the port replace all fields together, those it leaves out as well.
func policyFor(rule, subset *networking.TrafficPolicy, port uint32) clusterPolicy {
	p := clusterPolicy{}
	for _, t := range []*networking.TrafficPolicy{rule, subset} {
		if t == nil {
			continue
		}
		if t.GetConnectionPool() != nil {
			p.pool = t.GetConnectionPool()
		}
		if t.GetLoadBalancer() != nil {
			p.lb = t.GetLoadBalancer()
		}
		if t.GetTls() != nil {
			p.tls = t.GetTls()
		}
		for _, l := range t.GetPortLevelSettings() {
			if l.GetPort().GetNumber() == port {
				p = clusterPolicy{l.GetConnectionPool(), l.GetLoadBalancer(), l.GetTls()}
				break
			}
		}
	}
	return p
}

// passthrough: to the address that the client wanted.
func (p *clusterPolicy) passthrough() bool {
	return p.lb.GetSimple() == networking.LoadBalancerSettings_PASSTHROUGH
}

// apply sets balancing, limits and timeouts. A service with resolution NONE keeps
// CLUSTER_PROVIDED whatever the rule says.
func (p *clusterPolicy) apply(c *clusterv3.Cluster, o *httpv3.HttpProtocolOptions) {
	if c.LbPolicy != clusterv3.Cluster_CLUSTER_PROVIDED {
		switch p.lb.GetSimple() {
		case networking.LoadBalancerSettings_ROUND_ROBIN:
			c.LbPolicy = clusterv3.Cluster_ROUND_ROBIN
		case networking.LoadBalancerSettings_RANDOM:
			c.LbPolicy = clusterv3.Cluster_RANDOM
		case networking.LoadBalancerSettings_LEAST_REQUEST, leastConn:
			c.LbPolicy = clusterv3.Cluster_LEAST_REQUEST
		}
	}
	p.applyTCP(c)
	p.applyHTTP(c, o)
}

// leastConn is the deprecated name of LEAST_REQUEST.
const leastConn = networking.LoadBalancerSettings_SimpleLB(1)

func (p *clusterPolicy) applyTCP(c *clusterv3.Cluster) {
	tcp := p.pool.GetTcp()
	if d := tcp.GetConnectTimeout(); d != nil {
		c.ConnectTimeout = d
	}
	if k := tcp.GetTcpKeepalive(); k != nil {
		alive := &corev3.TcpKeepalive{}
		if k.GetProbes() > 0 {
			alive.KeepaliveProbes = uint32Value(k.GetProbes())
		}
		if d := k.GetTime(); d != nil {
			alive.KeepaliveTime = uint32Value(uint32(d.GetSeconds()))
		}
		if d := k.GetInterval(); d != nil {
			alive.KeepaliveInterval = uint32Value(uint32(d.GetSeconds()))
		}
		c.UpstreamConnectionOptions = &clusterv3.UpstreamConnectionOptions{TcpKeepalive: alive}
	}
}

func (p *clusterPolicy) applyHTTP(c *clusterv3.Cluster, o *httpv3.HttpProtocolOptions) {
	tcp, http := p.pool.GetTcp(), p.pool.GetHttp()
	t, limited := &clusterv3.CircuitBreakers_Thresholds{}, false
	limit := func(n int32) (v uint32) {
		limited = true
		return uint32(n)
	}
	if n := tcp.GetMaxConnections(); n > 0 {
		t.MaxConnections = uint32Value(limit(n))
	}
	if n := http.GetHttp1MaxPendingRequests(); n > 0 {
		t.MaxPendingRequests = uint32Value(limit(n))
	}
	if n := http.GetHttp2MaxRequests(); n > 0 {
		t.MaxRequests = uint32Value(limit(n))
	}
	if n := http.GetMaxRetries(); n > 0 {
		t.MaxRetries = uint32Value(limit(n))
	}
	if limited {
		c.CircuitBreakers = breakers(t)
	}
	if d, n := http.GetIdleTimeout(), http.GetMaxRequestsPerConnection(); d != nil || n > 0 {
		o.CommonHttpProtocolOptions = &corev3.HttpProtocolOptions{IdleTimeout: d}
		if n > 0 {
			o.CommonHttpProtocolOptions.MaxRequestsPerConnection = uint32Value(uint32(n))
		}
	}
}
