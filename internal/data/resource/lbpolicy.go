package resource

//lint:file-ignore SA1019 Deprecated fields are read because control planes still send them.

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	clusterprovidedv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/cluster_provided/v3"
	commonlbv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/common/v3"
	leastrequestv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/least_request/v3"
	maglevv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/maglev/v3"
	randomv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/random/v3"
	ringhashv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/ring_hash/v3"
	roundrobinv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/round_robin/v3"
	wrrlocalityv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/wrr_locality/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// Load balancing policies of load_balancing_policy by the type of their message.
const (
	typeLBRoundRobin      = "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin"
	typeLBLeastRequest    = "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest"
	typeLBRandom          = "envoy.extensions.load_balancing_policies.random.v3.Random"
	typeLBRingHash        = "envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash"
	typeLBMaglev          = "envoy.extensions.load_balancing_policies.maglev.v3.Maglev"
	typeLBClusterProvided = "envoy.extensions.load_balancing_policies.cluster_provided.v3.ClusterProvided"
	typeLBWrrLocality     = "envoy.extensions.load_balancing_policies.wrr_locality.v3.WrrLocality"
)

// balancingPolicy takes the first policy of the list that is known, as Envoy does.
func (c *decoding) balancingPolicy(p *path, cl *Cluster, m *clusterv3.LoadBalancingPolicy) {
	if len(m.GetPolicies()) == 0 {
		c.fail(p, "no policy")
		return
	}
	for i, policy := range m.GetPolicies() {
		a := policy.GetTypedExtensionConfig().GetTypedConfig()
		at := p.at("policies", i).field("typed_extension_config").field("typed_config")
		if c.policyExtension(at, cl, a) {
			return
		}
	}
	c.fail(p, "type %q is not supported", clip(m.GetPolicies()[0].GetTypedExtensionConfig().GetTypedConfig().GetTypeUrl()))
}

// policyExtension is false where the type is not known.
func (c *decoding) policyExtension(p *path, cl *Cluster, a *anypb.Any) bool {
	b := &cl.Balancing
	switch typeName(a.GetTypeUrl()) {
	case typeLBRoundRobin:
		var m roundrobinv3.RoundRobin
		c.unpack(p, a, &m)
		cl.LB = LBRoundRobin
		b.SlowStart = c.slowStart(p.field("slow_start_config"), m.GetSlowStartConfig())
		b.LocalityWeighted = b.LocalityWeighted || localityWeighted(m.GetLocalityLbConfig())
	case typeLBLeastRequest:
		var m leastrequestv3.LeastRequest
		c.unpack(p, a, &m)
		cl.LB = LBLeastRequest
		c.leastRequest(p, b, &m)
		b.SlowStart = c.slowStart(p.field("slow_start_config"), m.GetSlowStartConfig())
		b.LocalityWeighted = b.LocalityWeighted || localityWeighted(m.GetLocalityLbConfig())
	case typeLBRandom:
		var m randomv3.Random
		c.unpack(p, a, &m)
		cl.LB = LBRandom
		b.LocalityWeighted = b.LocalityWeighted || localityWeighted(m.GetLocalityLbConfig())
	case typeLBRingHash:
		var m ringhashv3.RingHash
		c.unpack(p, a, &m)
		cl.LB = LBRingHash
		c.ring(p, b, &m)
		b.Murmur = m.GetHashFunction() == ringhashv3.RingHash_MURMUR_HASH_2
		b.HashHostname = m.GetUseHostnameForHashing() || m.GetConsistentHashingLbConfig().GetUseHostnameForHashing()
		b.LocalityWeighted = b.LocalityWeighted || m.GetLocalityWeightedLbConfig() != nil
	case typeLBMaglev:
		var m maglevv3.Maglev
		c.unpack(p, a, &m)
		cl.LB = LBMaglev
		b.MaglevSize = c.maglevSize(p, m.GetTableSize())
		b.HashHostname = m.GetConsistentHashingLbConfig().GetUseHostnameForHashing()
		b.LocalityWeighted = b.LocalityWeighted || m.GetLocalityWeightedLbConfig() != nil
	case typeLBClusterProvided:
		c.unpack(p, a, &clusterprovidedv3.ClusterProvided{})
		cl.LB = LBClusterProvided
	case typeLBWrrLocality:
		c.wrrLocality(p, cl, a)
	default:
		return false
	}
	return true
}

// wrrLocality chooses the locality by weight, and the endpoint by a policy of its own.
// Nesting is bounded: a second wrr_locality within is refused.
func (c *decoding) wrrLocality(p *path, cl *Cluster, a *anypb.Any) {
	var m wrrlocalityv3.WrrLocality
	if !c.unpack(p, a, &m) {
		return
	}
	if cl.Balancing.LocalityWeighted {
		c.fail(p, "wrr_locality within wrr_locality")
		return
	}
	cl.Balancing.LocalityWeighted = true
	c.balancingPolicy(p.field("endpoint_picking_policy"), cl, m.GetEndpointPickingPolicy())
}

func localityWeighted(m *commonlbv3.LocalityLbConfig) bool {
	return m.GetLocalityWeightedLbConfig() != nil
}
