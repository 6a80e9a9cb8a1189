package upstream

import (
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/egret-mesh/egret/internal/data/resource"
)

// outlier is what outlier detection knows of one host.
type outlier struct {
	// How many failures came one after another.
	serverErrors, gatewayErrors, localErrors atomic.Uint32
	// What happened in the interval: from the host itself, and on this side of it.
	remote, local tally
	// until is the Manager.now when the host's ejection ends; 0: it is not ejected.
	until atomic.Int64
	// times is how often it was ejected, less one for each good interval, and endedAt
	// when the last ejection ended; the state's mu guards both.
	times   int64
	endedAt int64
}

// tally counts the outcomes in one interval.
type tally struct{ total, good atomic.Uint32 }

func (t *tally) count(good bool) {
	t.total.Add(1)
	if good {
		t.good.Add(1)
	}
}

func (h *Host) ejected() bool { return h.outlier.until.Load() != 0 }

func (h *Host) detection() *resource.OutlierDetection {
	c := h.cluster.set.Load().cluster
	if c == nil || c.Cluster == nil {
		return nil
	}
	return c.Outlier
}

// Answered reports the status of a response, for outlier detection. For gRPC it is the
// HTTP status that stands for the grpc-status.
func (h *Host) Answered(status int) {
	d := h.detection()
	if d == nil {
		return
	}
	if d.SplitLocal && h.outlier.localErrors.Load() != 0 {
		h.outlier.localErrors.Store(0)
	}
	h.status(d, status)
}

// TimedOut reports that a response did not come in time.
func (h *Host) TimedOut() { h.localFailure(504) }

// ConnectionLost reports that the connection ended before there was a response. A
// failure to connect is reported by the Manager itself.
func (h *Host) ConnectionLost() { h.localFailure(503) }

// localFailure counts a failure on this side; unless those are told apart it counts as
// the status that Envoy gives it.
func (h *Host) localFailure(status int) {
	d := h.detection()
	switch {
	case d == nil:
	case !d.SplitLocal:
		h.status(d, status)
	default:
		o := &h.outlier
		o.local.count(false)
		if over(&o.localErrors, d.ConsecutiveLocal) {
			h.cluster.eject(h, d, d.ConsecutiveLocal.Percent)
		}
		h.cluster.look(d)
	}
}

// localSuccess counts that a connection could be made; of TCP that is all there is to
// count.
func (h *Host) localSuccess(tcp bool) {
	d := h.detection()
	switch {
	case d == nil:
	case d.SplitLocal:
		h.outlier.local.count(true)
		h.outlier.localErrors.Store(0)
		h.cluster.look(d)
	case tcp:
		h.status(d, 200)
	}
}

func (h *Host) status(d *resource.OutlierDetection, status int) {
	o := &h.outlier
	o.remote.count(status < 500)
	switch {
	case status < 500:
		if o.serverErrors.Load() != 0 || o.gatewayErrors.Load() != 0 {
			o.serverErrors.Store(0)
			o.gatewayErrors.Store(0)
		}
	default:
		if status < 502 || status > 504 {
			o.gatewayErrors.Store(0)
		} else if over(&o.gatewayErrors, d.ConsecutiveGateway) {
			h.cluster.eject(h, d, d.ConsecutiveGateway.Percent)
		}
		if over(&o.serverErrors, d.Consecutive5xx) {
			h.cluster.eject(h, d, d.Consecutive5xx.Percent)
		}
	}
	h.cluster.look(d)
}

// over counts one more and reports that there are enough; then it begins anew.
func over(n *atomic.Uint32, rule resource.Enforced) bool {
	if n.Add(1) < max(rule.Threshold, 1) || rule.Threshold == 0 {
		return false
	}
	n.Store(0)
	return true
}

// eject takes a host out of the balancing for a while, where max_ejection_percent
// allows it. percent is how many of those over a threshold are ejected in fact.
func (s *state) eject(h *Host, d *resource.OutlierDetection, percent uint32) {
	if percent == 0 || rand.Uint32N(100) >= percent {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ejectLocked(h, d) {
		s.rebalance()
	}
}

func (s *state) ejectLocked(h *Host, d *resource.OutlierDetection) bool {
	if h.ejected() || h.Gone() {
		return false
	}
	out, all := 0, 0
	for _, each := range s.hosts {
		all++
		if each.ejected() {
			out++
		}
	}
	if 100*(out+1) > int(d.MaxPercent)*all && !(d.AlwaysEjectOne && out == 0) {
		return false
	}
	now := s.manager.now()
	o := &h.outlier
	o.times = max(0, o.times-(now-o.endedAt)/max(int64(d.Interval), 1))
	if time.Duration(o.times)*d.BaseEjection < d.MaxEjection {
		o.times++
	}
	length := min(d.BaseEjection*time.Duration(o.times), d.MaxEjection)
	if d.MaxJitter > 0 {
		length += rand.N(d.MaxJitter + 1)
	}
	o.until.Store(now + int64(length))
	s.manager.log.Info("endpoint ejected by outlier detection", "cluster", s.name, "host", h.text, "for", length)
	return true
}

// readmit ends the ejections that are over; s.mu is held.
func (s *state) readmit(now int64) {
	for _, h := range s.hosts {
		o := &h.outlier
		if until := o.until.Load(); until != 0 && now >= until {
			o.serverErrors.Store(0)
			o.gatewayErrors.Store(0)
			o.localErrors.Store(0)
			o.endedAt = now
			o.until.Store(0)
		}
	}
}

// look judges the rates of the interval that has passed, if one has.
func (s *state) look(d *resource.OutlierDetection) {
	if d.SuccessRate.Percent == 0 && d.FailurePercent.Percent == 0 &&
		(!d.SplitLocal || d.LocalSuccess.Percent == 0 && d.LocalFailurePct.Percent == 0) {
		return
	}
	now, next := s.manager.now(), s.nextLook.Load()
	if now < next || !s.nextLook.CompareAndSwap(next, now+int64(d.Interval)) || next == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ejected := s.judge(d, d.SuccessRate, d.FailurePercent, func(h *Host) *tally { return &h.outlier.remote })
	if d.SplitLocal {
		ejected = s.judge(d, d.LocalSuccess, d.LocalFailurePct, func(h *Host) *tally { return &h.outlier.local }) || ejected
	}
	if ejected {
		s.rebalance()
	}
}

// sample is the success rate of a host in one interval, in percent.
type sample struct {
	host  *Host
	total uint32
	rate  float64
}

// judge ejects the hosts whose success rate is far below the mean, and those with too
// many failures. s.mu is held.
func (s *state) judge(d *resource.OutlierDetection, success, failure resource.RateRule, of func(*Host) *tally) (ejected bool) {
	samples := make([]sample, 0, len(s.hosts))
	for _, h := range s.hosts {
		t := of(h)
		total, good := t.total.Swap(0), t.good.Swap(0)
		if total > 0 && !h.ejected() {
			samples = append(samples, sample{h, total, 100 * float64(min(good, total)) / float64(total)})
		}
	}
	least := successLimit(success, samples)
	for _, x := range samples {
		bad := x.total >= success.Volume && x.rate < least && rand.Uint32N(100) < success.Percent
		if x.total >= failure.Volume && enough(failure, samples) && 100-x.rate >= float64(failure.Threshold) {
			bad = bad || rand.Uint32N(100) < failure.Percent
		}
		if bad && s.ejectLocked(x.host, d) {
			ejected = true
		}
	}
	return ejected
}

// enough hosts have enough requests for the rule.
func enough(r resource.RateRule, samples []sample) bool {
	n := uint32(0)
	for _, x := range samples {
		if x.total >= r.Volume {
			n++
		}
	}
	return n > 0 && n >= r.Hosts
}

// successLimit is the rate below which a host is an outlier: the mean less a multiple
// of the standard deviation. It is 0 where there is too little to go by.
func successLimit(r resource.RateRule, samples []sample) float64 {
	if r.Percent == 0 || !enough(r, samples) {
		return 0
	}
	var n, sum, squares float64
	for _, x := range samples {
		if x.total >= r.Volume {
			n, sum, squares = n+1, sum+x.rate, squares+x.rate*x.rate
		}
	}
	mean := sum / n
	variance := max(squares/n-mean*mean, 0)
	return mean - math.Sqrt(variance)*float64(r.Threshold)/1000
}
