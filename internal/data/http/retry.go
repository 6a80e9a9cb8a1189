package http

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/egret-mesh/egret/internal/data/resource"
)

const defaultBackOff = 25 * time.Millisecond // Envoy's retry_back_off base_interval

// retryResponse reports whether the response in x.resp is to be thrown away and the
// request sent again.
func (x *exchange) retryResponse() bool {
	r := x.plan.Route.Forward.Retry
	if r == nil || !x.replayable || x.tunnel && x.resp.Status < 300 || !retriesStatus(r, x.resp.Status, x.grpcStatus()) {
		return false
	}
	if !x.mayTryAgain(r) {
		return false
	}
	x.tried = append(x.tried, x.host)
	x.dropUpstream()
	return true
}

func (x *exchange) grpcStatus() string {
	v, _ := x.resp.Fields.Get("grpc-status")
	return v
}

// retryFailure reports whether the request is to be sent again after an attempt
// without response. A request whose body is under way is not; one that was never
// sent is.
func (x *exchange) retryFailure(f *failure) bool {
	r := x.plan.Route.Forward.Retry
	if r == nil || !retriesFailure(r, f.kind) || x.upload.active.Load() {
		return false
	}
	if f.kind != connectKind && !x.replayable {
		return false
	}
	if !x.mayTryAgain(r) {
		return false
	}
	if f.kind != connectKind {
		x.tried = append(x.tried, x.host)
	}
	return true
}

// mayTryAgain checks the number of attempts and the cluster's circuit breaker; when
// there were enough it says so. It takes the retry's slot.
func (x *exchange) mayTryAgain(r *resource.RetryPolicy) bool {
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

// retriesStatus applies the predicates of retry_on that look at a response.
func retriesStatus(r *resource.RetryPolicy, status int, grpc string) bool {
	for _, on := range r.On {
		switch on {
		case "5xx":
			if status >= 500 && status <= 599 {
				return true
			}
		case "gateway-error":
			if status >= 502 && status <= 504 {
				return true
			}
		case "retriable-4xx":
			if status == 409 {
				return true
			}
		case "retriable-status-codes":
			if slices.Contains(r.StatusCodes, uint32(status)) {
				return true
			}
		default:
			if grpc != "" && grpcStatuses[on] == grpc {
				return true
			}
		}
	}
	// Istio writes bare status codes into retryOn ("503").
	return slices.ContainsFunc(r.On, func(on string) bool { return len(on) == 3 && on == statusWord(status) })
}

func statusWord(status int) string { return string(appendInt(nil, int64(status))) }

// grpcStatuses are the predicates of retry_grpc_on.
var grpcStatuses = map[string]string{
	"cancelled": "1", "deadline-exceeded": "4", "internal": "13", "resource-exhausted": "8", "unavailable": "14",
}

// retriesFailure applies the predicates that look at attempts without response.
func retriesFailure(r *resource.RetryPolicy, k kind) bool {
	if k == finalKind {
		return false
	}
	for _, on := range r.On {
		switch on {
		case "5xx", "gateway-error", "reset":
			return true
		case "connect-failure", "reset-before-request":
			if k == connectKind {
				return true
			}
		case "refused-stream": // HTTP/2 only; over HTTP/1 nothing says "not processed"
		}
	}
	return false
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
	p := new(patience)
	if !x.startWatching() || !x.watch.attach(p) {
		return false
	}
	t := time.NewTimer(rand.N(max(interval, 1)))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.Done():
		return false
	}
}
