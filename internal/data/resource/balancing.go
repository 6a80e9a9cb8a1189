package resource

import (
	"math"
	"math/big"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// LBPolicy is the load balancing policy.
type LBPolicy uint8

// Load balancing policies.
const (
	LBRoundRobin LBPolicy = iota
	LBLeastRequest
	LBRandom
	LBRingHash
	LBMaglev
	LBClusterProvided
)

// Envoy's defaults and bounds of the hash policies.
const (
	DefaultRingSize   = 1024
	DefaultMaxRing    = 8 << 20 // also the largest that may be asked for
	DefaultMaglevSize = 65537
	maxMaglevSize     = 5000011

	defaultPanicThreshold = 50 // percent
	defaultMinWeight      = 10 // percent, of slow start
)

// Balancing are the settings of a cluster's load balancing policy. The zero value has
// Envoy's defaults, except that no threshold makes it panic.
type Balancing struct {
	// LocalityWeighted: a locality's weight is split over its endpoints.
	LocalityWeighted bool
	// PanicThreshold, in percent: with fewer healthy endpoints in a priority than
	// that, all of them are used.
	PanicThreshold float64
	// ChoiceCount of least request; 0 means 2.
	ChoiceCount uint32
	// IgnoreActive: least request goes by weights only (active_request_bias of 0).
	IgnoreActive bool
	// SlowStart is how long a new endpoint takes to get its full share; 0: none.
	SlowStart SlowStart
	// MinRing and MaxRing bound the size of ring hash's ring; 0 means the defaults.
	MinRing, MaxRing uint64
	Murmur           bool // MURMUR_HASH_2 instead of XX_HASH for the ring
	// MaglevSize is the size of Maglev's table, a prime number; 0 means the default.
	MaglevSize uint64
	// HashHostname: an endpoint's place comes from its host name, not its address.
	HashHostname bool
	// PortOverride replaces the port of an ORIGINAL_DST cluster's destinations.
	PortOverride uint16
}

// SlowStart is SlowStartConfig.
type SlowStart struct {
	Window     time.Duration
	Aggression float64 // more than 0; 1 is linear
	MinWeight  float64 // percent
}

// balancing decodes the load balancing policy. As in Envoy load_balancing_policy
// replaces everything else but the panic threshold.
func (c *decoding) balancing(p *path, cl *Cluster, m *clusterv3.Cluster) {
	common := m.GetCommonLbConfig()
	b := &cl.Balancing
	b.PanicThreshold = c.percent(p.field("common_lb_config").field("healthy_panic_threshold"), common.GetHealthyPanicThreshold(), defaultPanicThreshold)
	if lb := m.GetLoadBalancingPolicy(); lb != nil {
		c.balancingPolicy(p.field("load_balancing_policy"), cl, lb)
		return
	}
	b.LocalityWeighted = common.GetLocalityWeightedLbConfig() != nil
	b.HashHostname = common.GetConsistentHashingLbConfig().GetUseHostnameForHashing()
	switch m.GetLbPolicy() {
	case clusterv3.Cluster_ROUND_ROBIN:
		cl.LB = LBRoundRobin
		at := p.field("round_robin_lb_config").field("slow_start_config")
		b.SlowStart = c.slowStart(at, m.GetRoundRobinLbConfig().GetSlowStartConfig())
	case clusterv3.Cluster_LEAST_REQUEST:
		cl.LB = LBLeastRequest
		c.leastRequest(p.field("least_request_lb_config"), b, m.GetLeastRequestLbConfig())
		at := p.field("least_request_lb_config").field("slow_start_config")
		b.SlowStart = c.slowStart(at, m.GetLeastRequestLbConfig().GetSlowStartConfig())
	case clusterv3.Cluster_RANDOM:
		cl.LB = LBRandom
	case clusterv3.Cluster_RING_HASH:
		cl.LB = LBRingHash
		c.ring(p.field("ring_hash_lb_config"), b, m.GetRingHashLbConfig())
		b.Murmur = m.GetRingHashLbConfig().GetHashFunction() == clusterv3.Cluster_RingHashLbConfig_MURMUR_HASH_2
	case clusterv3.Cluster_MAGLEV:
		cl.LB = LBMaglev
		b.MaglevSize = c.maglevSize(p.field("maglev_lb_config"), m.GetMaglevLbConfig().GetTableSize())
	case clusterv3.Cluster_CLUSTER_PROVIDED:
		cl.LB = LBClusterProvided
	default:
		c.fail(p.field("lb_policy"), "%s is not supported", m.GetLbPolicy())
	}
	if port := m.GetOriginalDstLbConfig().GetUpstreamPortOverride(); port != nil {
		b.PortOverride = c.port16(p.field("original_dst_lb_config").field("upstream_port_override"), port.GetValue())
	}
	cl.Subsets = c.subsets(p.field("lb_subset_config"), m.GetLbSubsetConfig())
}

// slowStartConfig is what Envoy's two messages of this name have in common.
type slowStartConfig interface {
	GetSlowStartWindow() *durationpb.Duration
	GetAggression() *corev3.RuntimeDouble
	GetMinWeightPercent() *typev3.Percent
}

func (c *decoding) slowStart(p *path, m slowStartConfig) SlowStart {
	s := SlowStart{
		Window:     c.duration(p.field("slow_start_window"), m.GetSlowStartWindow(), 0),
		Aggression: 1,
		MinWeight:  c.percent(p.field("min_weight_percent"), m.GetMinWeightPercent(), defaultMinWeight),
	}
	if a := m.GetAggression(); a != nil {
		s.Aggression = a.GetDefaultValue()
		if !(s.Aggression > 0) || math.IsInf(s.Aggression, 0) {
			c.fail(p.field("aggression"), "%v is not a number above 0", s.Aggression)
		}
	}
	if s.Window == 0 {
		return SlowStart{}
	}
	return s
}

type leastRequestConfig interface {
	GetChoiceCount() *wrapperspb.UInt32Value
	GetActiveRequestBias() *corev3.RuntimeDouble
}

func (c *decoding) leastRequest(p *path, b *Balancing, m leastRequestConfig) {
	if n := m.GetChoiceCount(); n != nil {
		if n.GetValue() < 2 {
			c.fail(p.field("choice_count"), "%d is less than 2", n.GetValue())
		}
		b.ChoiceCount = n.GetValue()
	}
	if bias := m.GetActiveRequestBias(); bias != nil {
		if v := bias.GetDefaultValue(); !(v >= 0) {
			c.fail(p.field("active_request_bias"), "%v is not a number of 0 or more", v)
		}
		b.IgnoreActive = bias.GetDefaultValue() == 0
	}
}

type ringConfig interface {
	GetMinimumRingSize() *wrapperspb.UInt64Value
	GetMaximumRingSize() *wrapperspb.UInt64Value
}

func (c *decoding) ring(p *path, b *Balancing, m ringConfig) {
	least, most := uint64(DefaultRingSize), uint64(DefaultMaxRing)
	if v := m.GetMinimumRingSize(); v != nil {
		least = v.GetValue()
	}
	if v := m.GetMaximumRingSize(); v != nil {
		most = v.GetValue()
	}
	if most < 1 || most > DefaultMaxRing {
		c.fail(p.field("maximum_ring_size"), "%d is not a number from 1 to %d", most, DefaultMaxRing)
	}
	if least > most {
		c.fail(p.field("minimum_ring_size"), "%d is more than the maximum of %d", least, most)
	}
	b.MinRing, b.MaxRing = max(least, 1), most
}

func (c *decoding) maglevSize(p *path, v *wrapperspb.UInt64Value) uint64 {
	if v == nil {
		return DefaultMaglevSize
	}
	n := v.GetValue()
	if n > maxMaglevSize || !new(big.Int).SetUint64(n).ProbablyPrime(0) { // exact below 2^64
		c.fail(p.field("table_size"), "%d is not a prime number of at most %d", n, maxMaglevSize)
		return DefaultMaglevSize
	}
	return n
}
