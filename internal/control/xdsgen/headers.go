package xdsgen

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	networking "istio.io/api/networking/v1alpha3"
)

// headerEdits are Istio's header operations. A Host (or :authority) that is set or
// added for the request is a rewrite of the authority.
type headerEdits struct {
	requestAdd, responseAdd       []*corev3.HeaderValueOption
	requestRemove, responseRemove []string
	authority                     string
}

func editsOf(h *networking.Headers) headerEdits {
	var e headerEdits
	if h == nil {
		return e
	}
	setOptions, setAuthority := headerOptions(h.GetRequest().GetSet(), corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD, true)
	addOptions, addAuthority := headerOptions(h.GetRequest().GetAdd(), corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD, true)
	e.requestAdd = append(setOptions, addOptions...)
	if e.authority = setAuthority; e.authority == "" {
		e.authority = addAuthority
	}
	setOptions, _ = headerOptions(h.GetResponse().GetSet(), corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD, false)
	addOptions, _ = headerOptions(h.GetResponse().GetAdd(), corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD, false)
	e.responseAdd = append(setOptions, addOptions...)
	e.requestRemove = slices.DeleteFunc(slices.Clone(h.GetRequest().GetRemove()), isAuthority)
	e.responseRemove = slices.Clone(h.GetResponse().GetRemove())
	return e
}

func isAuthority(name string) bool {
	return strings.EqualFold(name, "host") || strings.EqualFold(name, ":authority")
}

// headerOptions translates a map, sorted by name.
func headerOptions(values map[string]string, action corev3.HeaderValueOption_HeaderAppendAction, request bool) (out []*corev3.HeaderValueOption, authority string) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if request && isAuthority(name) {
			authority = values[name]
			continue
		}
		out = append(out, &corev3.HeaderValueOption{
			Header:       &corev3.HeaderValue{Key: name, Value: values[name]},
			AppendAction: action,
		})
	}
	return out, authority
}

// apply adds the edits to a route.
func (e *headerEdits) apply(r *routev3.Route) {
	r.RequestHeadersToAdd = append(r.RequestHeadersToAdd, e.requestAdd...)
	r.RequestHeadersToRemove = append(r.RequestHeadersToRemove, e.requestRemove...)
	r.ResponseHeadersToAdd = append(r.ResponseHeadersToAdd, e.responseAdd...)
	r.ResponseHeadersToRemove = append(r.ResponseHeadersToRemove, e.responseRemove...)
}

// Istio's default retries.
const (
	defaultRetryOn  = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
	defaultAttempts = 2
	hostAttempts    = 5 // host_selection_retry_max_attempts
)

// retryPolicy translates retries; nil means Istio's default, attempts of 0 none.
func retryPolicy(r *networking.HTTPRetry, previousHosts []*routev3.RetryPolicy_RetryHostPredicate) *routev3.RetryPolicy {
	out := &routev3.RetryPolicy{
		RetryOn:                       defaultRetryOn,
		NumRetries:                    uint32Value(defaultAttempts),
		RetryHostPredicate:            previousHosts,
		HostSelectionRetryMaxAttempts: hostAttempts,
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
	if v := r.GetRetryIgnorePreviousHosts(); v != nil && !v.GetValue() {
		out.RetryHostPredicate, out.HostSelectionRetryMaxAttempts = nil, 0
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
