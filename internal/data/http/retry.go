package http

import (
	"math/rand/v2"
	"time"

	"github.com/egret-mesh/egret/internal/data/decide"
	"github.com/egret-mesh/egret/internal/data/resource"
)

const defaultBackOff = 25 * time.Millisecond // Envoy's retry_back_off base_interval

// retryResponse reports whether the response in x.resp is to be thrown away and the
// request sent again.
func (x *exchange) retryResponse() bool {
	r := x.plan.Route.Forward.Retry
	if r == nil || x.tunnel && x.resp.Status < 300 || !decide.RetryResponse(r, x.resp.Status, &x.resp.Fields) || !x.canReplay() {
		return false
	}
	if !x.mayTryAgain(r) {
		return false
	}
	x.retryAfter, _ = decide.RateLimitedPause(r.RateLimited, &x.resp.Fields, x.start)
	x.tried = append(x.tried, x.host)
	x.dropUpstream()
	x.rewind()
	return true
}

// retryFailure reports whether the request is to be sent again after an attempt
// without response. A request whose body is under way is not; one that was never
// sent is.
func (x *exchange) retryFailure(f *failure) bool {
	r := x.plan.Route.Forward.Retry
	failed, ok := f.kind.failed()
	if r == nil || !ok || !decide.RetryFailure(r, failed) {
		return false
	}
	if (f.kind != connectKind || x.upload.active.Load()) && !x.canReplay() {
		return false
	}
	if !x.mayTryAgain(r) {
		return false
	}
	if f.kind != connectKind {
		x.tried = append(x.tried, x.host)
	}
	if x.upload.active.Load() {
		x.rewind()
	}
	return true
}

// mayTryAgain checks the number of attempts and the cluster's circuit breaker; when
// there were enough it says so. It takes the retry's slot.
func (x *exchange) mayTryAgain(r *resource.RetryPolicy) bool {
	if !decide.MayRetry(r, &x.dreq) {
		return false
	}
	if x.attempt > r.NumRetries {
		if r.NumRetries > 0 {
			x.flag("URX")
		}
		return false
	}
	slot, ok := x.h.upstreams.AdmitRetry(x.cluster, x.target.Priority)
	if !ok {
		x.flag("UO")
		return false
	}
	x.slot = slot
	return true
}

// pauseBeforeRetry waits as long as Envoy does: between nothing and an interval that
// doubles with each attempt. It returns false when the exchange is interrupted.
func (x *exchange) pauseBeforeRetry() bool {
	r := x.plan.Route.Forward.Retry
	base := r.BackOffBase
	if base <= 0 {
		base = defaultBackOff
	}
	limit := r.BackOffMax
	if limit <= 0 {
		limit = 10 * base
	}
	interval := min(base<<min(x.attempt, 16)-base, limit)
	x.tryLimit.Store(0)
	pause := rand.N(max(interval, 1))
	if x.retryAfter > 0 {
		pause, x.retryAfter = x.retryAfter, 0
	}
	return x.pause(pause)
}

// pause waits. It returns false when the exchange is interrupted meanwhile.
func (x *exchange) pause(d time.Duration) bool {
	p := new(patience)
	if !x.startWatching() || !x.watch.attach(p) {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.Done():
		return false
	}
}
