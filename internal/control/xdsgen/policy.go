package xdsgen

import (
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	networking "istio.io/api/networking/v1alpha3"
)

// passthroughIdle is how long PassthroughCluster keeps unused connections (Istio's 5 min).
const passthroughIdle = 5 * time.Minute

// clusterPolicy is the traffic policy of one cluster, merged.
type clusterPolicy struct {
	pool          *networking.ConnectionPoolSettings
	lb            *networking.LoadBalancerSettings
	tls           *networking.ClientTLSSettings
	outlier       *networking.OutlierDetection
	proxyProtocol *networking.TrafficPolicy_ProxyProtocol
	budget        *networking.TrafficPolicy_RetryBudget
}

// policyFor merges as Istio does: a field of the subset's policy replaces the rule's;
// settings for the port replace all fields that a port may have together, those it
// leaves out as well.
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
		if t.GetOutlierDetection() != nil {
			p.outlier = t.GetOutlierDetection()
		}
		if t.GetProxyProtocol() != nil {
			p.proxyProtocol = t.GetProxyProtocol()
		}
		if t.GetRetryBudget() != nil {
			p.budget = t.GetRetryBudget()
		}
		for _, l := range t.GetPortLevelSettings() {
			if l.GetPort().GetNumber() == port {
				p.pool, p.lb, p.tls, p.outlier = l.GetConnectionPool(), l.GetLoadBalancer(), l.GetTls(), l.GetOutlierDetection()
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

// apply sets balancing, limits and timeouts.
func (p *clusterPolicy) apply(c *clusterv3.Cluster, o *httpv3.HttpProtocolOptions) {
	p.applyLB(c)
	p.applyOutlierDetection(c)
	p.applyTCP(c)
	p.applyHTTP(c, o)
}

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
	if b := p.budget; b != nil {
		limited = true
		t.RetryBudget = &clusterv3.CircuitBreakers_Thresholds_RetryBudget{}
		if b.GetPercent() != nil {
			t.RetryBudget.BudgetPercent = &typev3.Percent{Value: b.GetPercent().GetValue()}
		}
		if n := b.GetMinRetryConcurrency(); n > 0 {
			t.RetryBudget.MinRetryConcurrency = uint32Value(n)
		}
	}
	if limited {
		c.CircuitBreakers = breakers(t)
	}
	idle, longest := http.GetIdleTimeout(), tcp.GetMaxConnectionDuration()
	if idle == nil {
		idle = tcp.GetIdleTimeout()
	}
	if n := http.GetMaxRequestsPerConnection(); idle != nil || longest != nil || n > 0 {
		o.CommonHttpProtocolOptions = &corev3.HttpProtocolOptions{IdleTimeout: idle, MaxConnectionDuration: longest}
		if n > 0 {
			o.CommonHttpProtocolOptions.MaxRequestsPerConnection = uint32Value(uint32(n))
		}
	}
}
