package xdsgen

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	networking "istio.io/api/networking/v1alpha3"
)

// Istio's default retries.
const (
	defaultRetryOn  = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
	defaultAttempts = 2
	hostAttempts    = 5 // host_selection_retry_max_attempts
)

// routeRetries are a route's retries, else the mesh's default. With hashed balancing
// to one destination a retry goes to the same endpoint, as in Istio.
func (b *builder) routeRetries(r *networking.HTTPRetry, hashed bool) *routev3.RetryPolicy {
	switch {
	case r != nil:
		return b.shared.retryPolicy(r, hashed)
	case hashed:
		return b.shared.hashedRetry
	}
	return b.shared.retry
}

// retryPolicy translates retries; nil means Istio's default, attempts of 0 none.
func (h *shared) retryPolicy(r *networking.HTTPRetry, hashed bool) *routev3.RetryPolicy {
	out := &routev3.RetryPolicy{
		RetryOn:                       defaultRetryOn,
		NumRetries:                    uint32Value(defaultAttempts),
		HostSelectionRetryMaxAttempts: hostAttempts,
	}
	if !hashed {
		out.RetryHostPredicate = h.previousHosts
	}
	if r == nil {
		return out
	}
	if r.GetAttempts() <= 0 {
		return nil
	}
	out.NumRetries = uint32Value(uint32(r.GetAttempts()))
	if r.GetRetryOn() != "" {
		out.RetryOn, out.RetriableStatusCodes = parseRetryOn(r.GetRetryOn())
	}
	out.PerTryTimeout = r.GetPerTryTimeout()
	if d := r.GetBackoff(); d != nil {
		out.RetryBackOff = &routev3.RetryPolicy_RetryBackOff{BaseInterval: d}
	}
	if v := r.GetRetryIgnorePreviousHosts(); v != nil {
		out.RetryHostPredicate = nil
		if v.GetValue() {
			out.RetryHostPredicate = h.previousHosts
		}
	}
	if r.GetRetryRemoteLocalities().GetValue() {
		out.RetryPriority = h.previousPriorities
	}
	return out
}

// parseRetryOn takes HTTP status codes out of a list of conditions; they need the
// condition "retriable-status-codes".
func parseRetryOn(list string) (string, []uint32) {
	const byCode = "retriable-status-codes"
	var words []string
	var codes []uint32
	for word := range strings.SplitSeq(list, ",") {
		word = strings.TrimSpace(word)
		if n, err := strconv.Atoi(word); err == nil && http.StatusText(n) != "" {
			codes = append(codes, uint32(n))
		} else if word != "" {
			words = append(words, word)
		}
	}
	if len(codes) > 0 && !slices.Contains(words, byCode) {
		words = append(words, byCode)
	}
	return strings.Join(words, ","), codes
}
