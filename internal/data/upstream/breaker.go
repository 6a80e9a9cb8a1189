package upstream

import (
	"sync/atomic"

	"github.com/egret-mesh/egret/internal/data/config"
	"github.com/egret-mesh/egret/internal/data/reason"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// breaker counts what one routing priority of a cluster uses. The limits are the
// configuration's: see resource.Thresholds.
type breaker struct {
	requests, pending, connections, retries atomic.Int64
}

// take counts one more where the limit allows it.
func take(n *atomic.Int64, limit uint32) bool {
	if got := n.Add(1); limit != resource.NoLimit && got > int64(limit) {
		n.Add(-1)
		return false
	}
	return true
}

// full reports that the limit is reached.
func full(n *atomic.Int64, limit uint32) bool {
	return limit != resource.NoLimit && n.Load() >= int64(limit)
}

// thresholds are the limits of a priority; nil: there are none.
func thresholds(c *config.Cluster, p resource.RoutingPriority) *resource.Thresholds {
	if c.Breakers == nil {
		return nil
	}
	return &c.Breakers[p]
}

func (s *state) overflow(what string) *Error {
	return &Error{Reason: reason.UpstreamOverflow, Flag: "UO",
		Detail: "the circuit breaker of cluster " + s.name + " is open: too many " + what + " at once"}
}

// admitRequest refuses where max_requests is reached. Those who ask at the same
// moment may go over it, as many as there are of them.
func (s *state) admitRequest(c *config.Cluster, p resource.RoutingPriority) *Error {
	if t := thresholds(c, p); t != nil && full(&s.breakers[p].requests, t.MaxRequests) {
		return s.overflow("requests")
	}
	return nil
}

// reserve counts one more connection to the host where max_connections allows it, or
// where it is to be made in any case.
func (h *Host) reserve(c *config.Cluster, p resource.RoutingPriority, always bool) bool {
	limit := resource.NoLimit
	if t := thresholds(c, p); t != nil && !always {
		limit = t.MaxConnections
	}
	if !take(&h.cluster.breakers[p].connections, limit) {
		return false
	}
	h.connections.Add(1)
	return true
}

// RetrySlot is the place of one retry under the cluster's circuit breaker. The zero
// value is none.
type RetrySlot struct{ retries *atomic.Int64 }

// Release gives the place back, once; it is safe on the zero value.
func (r *RetrySlot) Release() {
	if r.retries != nil {
		r.retries.Add(-1)
		r.retries = nil
	}
}

// AdmitRetry asks the circuit breaker for one more retry at the same time: max_retries,
// or the retry budget, which is a share of the requests that are active or wait for a
// connection. A refusal is an overflow (flag UO, reason upstream_overflow). The slot is
// to be released when the retry has ended.
func (m *Manager) AdmitRetry(c *config.Cluster, p resource.RoutingPriority) (RetrySlot, bool) {
	b := &m.state(c).breakers[p]
	limit := resource.NoLimit
	if t := thresholds(c, p); t != nil {
		limit = t.MaxRetries
		if t.RetryBudget != nil {
			limit = budget(t.RetryBudget, b.requests.Load()+b.pending.Load())
		}
	}
	if !take(&b.retries, limit) {
		return RetrySlot{}, false
	}
	return RetrySlot{&b.retries}, true
}

// budget is how many retries a retry budget allows while so many requests are active.
func budget(b *resource.RetryBudget, active int64) uint32 {
	return max(uint32(min(float64(active)*b.Percent/100, float64(resource.NoLimit-1))), b.MinConcurrency)
}
