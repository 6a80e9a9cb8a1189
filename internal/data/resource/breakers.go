package resource

import (
	"math"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Envoy's thresholds where a cluster gives none.
const (
	defaultThreshold           = 1024
	defaultMaxRetries          = 3
	defaultBudgetPercent       = 20
	defaultMinRetryConcurrency = 3
)

// RoutingPriority is envoy.config.core.v3.RoutingPriority: which of a cluster's circuit
// breakers a request counts for.
type RoutingPriority uint8

// Routing priorities.
const (
	PriorityDefault RoutingPriority = iota
	PriorityHigh
)

// NoLimit is a threshold that is never reached: what istiod sends for "unlimited".
const NoLimit uint32 = math.MaxUint32

// Thresholds is envoy.config.cluster.v3.CircuitBreakers.Thresholds: how many at once.
type Thresholds struct {
	MaxConnections, MaxPendingRequests, MaxRequests uint32
	// MaxRetries counts where RetryBudget is nil.
	MaxRetries  uint32
	RetryBudget *RetryBudget
}

// RetryBudget allows retries as a share of the requests that are active or pending.
type RetryBudget struct {
	Percent        float64 // 0 to 100
	MinConcurrency uint32  // always allowed
}

// circuitBreakers decodes the thresholds of both priorities. Of several for one
// priority the first counts, as in Envoy.
func (c *decoding) circuitBreakers(p *path, m *clusterv3.CircuitBreakers) *[2]Thresholds {
	var out [2]Thresholds
	for priority := range out {
		var found *clusterv3.CircuitBreakers_Thresholds
		for i, t := range m.GetThresholds() {
			if _, known := corev3.RoutingPriority_name[int32(t.GetPriority())]; !known {
				c.fail(p.at("thresholds", i).field("priority"), "%d is not supported", t.GetPriority())
			}
			if found == nil && int(t.GetPriority()) == priority {
				found = t
			}
		}
		out[priority] = c.thresholds(p.field("thresholds"), found)
	}
	return &out
}

func (c *decoding) thresholds(p *path, m *clusterv3.CircuitBreakers_Thresholds) Thresholds {
	t := Thresholds{
		MaxConnections:     valueOr(m.GetMaxConnections(), defaultThreshold),
		MaxPendingRequests: valueOr(m.GetMaxPendingRequests(), defaultThreshold),
		MaxRequests:        valueOr(m.GetMaxRequests(), defaultThreshold),
		MaxRetries:         valueOr(m.GetMaxRetries(), defaultMaxRetries),
	}
	if b := m.GetRetryBudget(); b != nil {
		t.RetryBudget = &RetryBudget{
			Percent:        c.percent(p.field("retry_budget").field("budget_percent"), b.GetBudgetPercent(), defaultBudgetPercent),
			MinConcurrency: valueOr(b.GetMinRetryConcurrency(), defaultMinRetryConcurrency),
		}
	}
	return t
}

func valueOr(v *wrapperspb.UInt32Value, def uint32) uint32 {
	if v == nil {
		return def
	}
	return v.GetValue()
}
