package resource

import (
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Enforced is a rule of outlier detection: a threshold, and the share of the endpoints
// over it that are ejected in fact, in percent. 0: the rule is off.
type Enforced struct {
	Threshold uint32
	Percent   uint32
}

// OutlierDetection is envoy.config.cluster.v3.OutlierDetection.
type OutlierDetection struct {
	Consecutive5xx     Enforced // responses with a status of 500 and more
	ConsecutiveGateway Enforced // 502, 503 and 504
	ConsecutiveLocal   Enforced // failures to connect and the like, with SplitLocal
	// SplitLocal counts failures on this side by themselves; else they count as 5xx.
	SplitLocal bool

	Interval        time.Duration // between looks at the rates
	BaseEjection    time.Duration // times the number of ejections so far
	MaxEjection     time.Duration
	MaxJitter       time.Duration // added to each ejection, by chance
	MaxPercent      uint32        // of the endpoints may be ejected at once
	AlwaysEjectOne  bool          // whatever MaxPercent says
	SuccessRate     RateRule      // factor of the standard deviation, times 1000
	FailurePercent  RateRule      // percentage of failures
	LocalSuccess    RateRule
	LocalFailurePct RateRule
}

// RateRule ejects by what happened in an interval. It looks at endpoints with at least
// Volume requests, where at least Hosts endpoints have as many.
type RateRule struct {
	Enforced
	Hosts, Volume uint32
}

// outlierDetection decodes with Envoy's defaults; nil stays nil.
func (c *decoding) outlierDetection(p *path, m *clusterv3.OutlierDetection) *OutlierDetection {
	if m == nil {
		return nil
	}
	percent := func(field string, v *wrapperspb.UInt32Value, def uint32) uint32 {
		n := valueOr(v, def)
		if n > 100 {
			c.fail(p.field(field), "%d is not a percentage from 0 to 100", n)
		}
		return n
	}
	rate := func(threshold, enforced, hosts, volume uint32) RateRule {
		return RateRule{Enforced{threshold, enforced}, hosts, volume}
	}
	out := &OutlierDetection{
		Consecutive5xx:     Enforced{valueOr(m.GetConsecutive_5Xx(), 5), percent("enforcing_consecutive_5xx", m.GetEnforcingConsecutive_5Xx(), 100)},
		ConsecutiveGateway: Enforced{valueOr(m.GetConsecutiveGatewayFailure(), 5), percent("enforcing_consecutive_gateway_failure", m.GetEnforcingConsecutiveGatewayFailure(), 0)},
		ConsecutiveLocal:   Enforced{valueOr(m.GetConsecutiveLocalOriginFailure(), 5), percent("enforcing_consecutive_local_origin_failure", m.GetEnforcingConsecutiveLocalOriginFailure(), 100)},
		SplitLocal:         m.GetSplitExternalLocalOriginErrors(),
		Interval:           c.duration(p.field("interval"), m.GetInterval(), 10*time.Second),
		BaseEjection:       c.duration(p.field("base_ejection_time"), m.GetBaseEjectionTime(), 30*time.Second),
		MaxJitter:          c.duration(p.field("max_ejection_time_jitter"), m.GetMaxEjectionTimeJitter(), 0),
		MaxPercent:         percent("max_ejection_percent", m.GetMaxEjectionPercent(), 10),
		AlwaysEjectOne:     m.GetAlwaysEjectOneHost().GetValue(),
	}
	// Without a maximum of its own the base counts, where that is longer than 300 s.
	out.MaxEjection = max(c.duration(p.field("max_ejection_time"), m.GetMaxEjectionTime(), 300*time.Second), out.BaseEjection)
	if out.Interval == 0 {
		c.fail(p.field("interval"), "0 is not supported")
	}
	hosts, volume := valueOr(m.GetSuccessRateMinimumHosts(), 5), valueOr(m.GetSuccessRateRequestVolume(), 100)
	factor := valueOr(m.GetSuccessRateStdevFactor(), 1900)
	out.SuccessRate = rate(factor, percent("enforcing_success_rate", m.GetEnforcingSuccessRate(), 100), hosts, volume)
	out.LocalSuccess = rate(factor, percent("enforcing_local_origin_success_rate", m.GetEnforcingLocalOriginSuccessRate(), 100), hosts, volume)
	hosts, volume = valueOr(m.GetFailurePercentageMinimumHosts(), 5), valueOr(m.GetFailurePercentageRequestVolume(), 50)
	limit := percent("failure_percentage_threshold", m.GetFailurePercentageThreshold(), 85)
	out.FailurePercent = rate(limit, percent("enforcing_failure_percentage", m.GetEnforcingFailurePercentage(), 0), hosts, volume)
	out.LocalFailurePct = rate(limit, percent("enforcing_failure_percentage_local_origin", m.GetEnforcingFailurePercentageLocalOrigin(), 0), hosts, volume)
	return out
}
