package decide

import (
	"slices"
	"strconv"
	"time"

	"github.com/egret-mesh/egret/internal/data/match"
	"github.com/egret-mesh/egret/internal/data/resource"
)

// Failed says how an attempt ended without a response, for the retry policy.
type Failed uint8

// Kinds of failed attempts.
const (
	// ConnectFailed: no connection was made, nothing was sent.
	ConnectFailed Failed = iota
	// ResetFailed: the connection ended before a response.
	ResetFailed
	// RefusedFailed: the upstream says that it did not process the request (HTTP/2
	// REFUSED_STREAM, or a GOAWAY that leaves the stream out).
	RefusedFailed
	// TimeoutFailed: no response within the timeout of one attempt.
	TimeoutFailed
)

// MayRetry reports whether a request may be sent again at all: retriable_request_headers.
func MayRetry(p *resource.RetryPolicy, r *Request) bool {
	if len(p.RequestHeaders) == 0 {
		return true
	}
	return slices.ContainsFunc(p.RequestHeaders, func(h match.Header) bool {
		value, present := header(r, h.Name)
		return h.Match(value, present)
	})
}

// RetryFailure applies the predicates of retry_on that look at attempts without
// response (Envoy's RetryStateImpl::wouldRetryFromReset).
func RetryFailure(p *resource.RetryPolicy, f Failed) bool {
	for _, on := range p.On {
		switch on {
		case "5xx", "gateway-error", "reset":
			return true
		case "connect-failure", "reset-before-request":
			if f == ConnectFailed {
				return true
			}
		case "refused-stream":
			if f == RefusedFailed {
				return true
			}
		}
	}
	return false
}

// RetryResponse applies the predicates of retry_on that look at a response
// (RetryStateImpl::wouldRetryFromHeaders). A response that says that the request was
// rate limited is retried by envoy-ratelimited only, one of an overloaded proxy never.
func RetryResponse(p *resource.RetryPolicy, status int, fields Headers) bool {
	grpc, _ := fields.Get("grpc-status")
	for _, on := range p.On {
		if !retryOn(p, on, status, grpc, fields) {
			continue
		}
		if has(fields, "x-envoy-overloaded") {
			return false
		}
		return on == "envoy-ratelimited" || !has(fields, "x-envoy-ratelimited") || slices.Contains(p.On, "envoy-ratelimited")
	}
	return false
}

func retryOn(p *resource.RetryPolicy, on string, status int, grpc string, fields Headers) bool {
	switch on {
	case "5xx":
		return status >= 500 && status <= 599
	case "gateway-error":
		return status >= 502 && status <= 504
	case "retriable-4xx":
		return status == 409
	case "retriable-status-codes":
		return slices.Contains(p.StatusCodes, uint32(status))
	case "retriable-headers":
		return slices.ContainsFunc(p.Headers, func(h match.Header) bool {
			value, present := fields.Get(h.Name)
			return h.Match(value, present)
		})
	case "envoy-ratelimited":
		return has(fields, "x-envoy-ratelimited")
	}
	if grpc != "" && grpcStatuses[on] == grpc {
		return true
	}
	// Some control planes leave bare status codes in the list ("503").
	if len(on) != 3 || on[0] < '1' || on[0] > '9' {
		return false
	}
	n, err := strconv.Atoi(on)
	return err == nil && n == status
}

// LeaveAfter is how many of the attempts so far have priorities that this attempt (from
// 1) leaves: those up to the last update (previous_priorities).
func LeaveAfter(p *resource.RetryPolicy, attempt int) int {
	if p.LeavePriorities <= 0 {
		return 0
	}
	return (attempt - 1) / p.LeavePriorities * p.LeavePriorities
}

// grpcStatuses are the predicates of x-envoy-retry-grpc-on.
var grpcStatuses = map[string]string{
	"cancelled": "1", "deadline-exceeded": "4", "internal": "13", "resource-exhausted": "8", "unavailable": "14",
}

func has(fields Headers, name string) bool {
	_, ok := fields.Get(name)
	return ok
}

// RateLimitedPause is how long a response asks to wait before the next attempt; false
// where it does not say, or says more than the policy follows.
func RateLimitedPause(p *resource.RateLimitedBackOff, fields Headers, now time.Time) (time.Duration, bool) {
	if p == nil {
		return 0, false
	}
	for _, h := range p.Headers {
		value, ok := fields.Get(h.Name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(value, 10, 32)
		if h.Unix {
			n, err = strconv.ParseInt(value, 10, 64)
			n -= now.Unix()
		}
		if err != nil || n <= 0 {
			continue
		}
		if limit := int64(p.Max / time.Second); n <= limit {
			return time.Duration(n) * time.Second, true
		}
	}
	return 0, false
}
