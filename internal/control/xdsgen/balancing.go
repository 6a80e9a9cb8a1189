package xdsgen

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"
)

// leastConn is the deprecated name of LEAST_REQUEST.
const leastConn = networking.LoadBalancerSettings_SimpleLB(1)

// applyLB sets the balancing that a rule asks for. A service with resolution NONE keeps
// CLUSTER_PROVIDED whatever the rule says.
func (p *clusterPolicy) applyLB(c *clusterv3.Cluster) {
	if c.LbPolicy == clusterv3.Cluster_CLUSTER_PROVIDED {
		return
	}
	switch p.lb.GetSimple() {
	case networking.LoadBalancerSettings_ROUND_ROBIN:
		c.LbPolicy = clusterv3.Cluster_ROUND_ROBIN
	case networking.LoadBalancerSettings_RANDOM:
		c.LbPolicy = clusterv3.Cluster_RANDOM
	case networking.LoadBalancerSettings_LEAST_REQUEST, leastConn:
		c.LbPolicy = clusterv3.Cluster_LEAST_REQUEST
	}
	if warm := slowStart(p.lb); warm != nil {
		switch c.LbPolicy {
		case clusterv3.Cluster_ROUND_ROBIN:
			c.LbConfig = &clusterv3.Cluster_RoundRobinLbConfig_{RoundRobinLbConfig: &clusterv3.Cluster_RoundRobinLbConfig{SlowStartConfig: warm}}
		case clusterv3.Cluster_LEAST_REQUEST:
			c.LbConfig = &clusterv3.Cluster_LeastRequestLbConfig_{LeastRequestLbConfig: &clusterv3.Cluster_LeastRequestLbConfig{SlowStartConfig: warm}}
		}
	}
	if hash := p.lb.GetConsistentHash(); hash != nil {
		consistentHash(c, hash)
	}
}

// slowStart is the warmup of new endpoints; nil: none.
func slowStart(lb *networking.LoadBalancerSettings) *clusterv3.Cluster_SlowStartConfig {
	w := lb.GetWarmup()
	if w == nil {
		if d := lb.GetWarmupDurationSecs(); d != nil {
			return &clusterv3.Cluster_SlowStartConfig{SlowStartWindow: d}
		}
		return nil
	}
	out := &clusterv3.Cluster_SlowStartConfig{SlowStartWindow: w.GetDuration()}
	if a := w.GetAggression(); a != nil {
		out.Aggression = &corev3.RuntimeDouble{DefaultValue: a.GetValue()}
	}
	if m := w.GetMinimumPercent(); m != nil {
		out.MinWeightPercent = &typev3.Percent{Value: m.GetValue()}
	}
	return out
}

// consistentHash chooses the policy; what is hashed is said by the routes.
func consistentHash(c *clusterv3.Cluster, hash *networking.LoadBalancerSettings_ConsistentHashLB) {
	if m := hash.GetMaglev(); m != nil {
		c.LbPolicy, c.LbConfig = clusterv3.Cluster_MAGLEV, nil
		if m.GetTableSize() != 0 {
			c.LbConfig = &clusterv3.Cluster_MaglevLbConfig_{MaglevLbConfig: &clusterv3.Cluster_MaglevLbConfig{TableSize: wrapperspb.UInt64(m.GetTableSize())}}
		}
		return
	}
	c.LbPolicy, c.LbConfig = clusterv3.Cluster_RING_HASH, nil
	size := hash.GetRingHash().GetMinimumRingSize()
	if hash.GetRingHash() == nil {
		//lint:ignore SA1019 deprecated, still read
		if size = hash.GetMinimumRingSize(); size == 0 {
			size = 1024
		}
	}
	if size != 0 {
		c.LbConfig = &clusterv3.Cluster_RingHashLbConfig_{RingHashLbConfig: &clusterv3.Cluster_RingHashLbConfig{MinimumRingSize: wrapperspb.UInt64(size)}}
	}
}

// applyOutlierDetection ejects by consecutive errors only, as Istio does.
func (p *clusterPolicy) applyOutlierDetection(c *clusterv3.Cluster) {
	o := p.outlier
	if o == nil {
		return
	}
	out := &clusterv3.OutlierDetection{
		EnforcingSuccessRate: uint32Value(0),
		Interval:             o.GetInterval(),
		BaseEjectionTime:     o.GetBaseEjectionTime(),
	}
	out.Consecutive_5Xx, out.EnforcingConsecutive_5Xx = enforced(o.GetConsecutive_5XxErrors())
	out.ConsecutiveGatewayFailure, out.EnforcingConsecutiveGatewayFailure = enforced(o.GetConsecutiveGatewayErrors())
	if n := o.GetMaxEjectionPercent(); n > 0 {
		out.MaxEjectionPercent = uint32Value(uint32(n))
	}
	if o.GetSplitExternalLocalOriginErrors() {
		out.SplitExternalLocalOriginErrors = true
		out.EnforcingLocalOriginSuccessRate = uint32Value(0)
		if n := o.GetConsecutiveLocalOriginFailures(); n.GetValue() > 0 {
			out.ConsecutiveLocalOriginFailure, out.EnforcingConsecutiveLocalOriginFailure = enforced(n)
		}
	}
	c.OutlierDetection = out
	if n := o.GetMinHealthPercent(); n >= 0 {
		commonLB(c).HealthyPanicThreshold = &typev3.Percent{Value: float64(n)}
	}
}

// enforced is a threshold with whether it counts: 0 switches it off.
func enforced(n *wrapperspb.UInt32Value) (threshold, percent *wrapperspb.UInt32Value) {
	switch {
	case n == nil:
		return nil, nil
	case n.GetValue() == 0:
		return uint32Value(0), uint32Value(0)
	}
	return uint32Value(n.GetValue()), uint32Value(100)
}

func commonLB(c *clusterv3.Cluster) *clusterv3.Cluster_CommonLbConfig {
	if c.CommonLbConfig == nil {
		c.CommonLbConfig = &clusterv3.Cluster_CommonLbConfig{}
	}
	return c.CommonLbConfig
}
