package resource

import (
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	prioritiesv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"

	"github.com/egret-mesh/egret/internal/data/match"
)

const (
	typePreviousHosts      = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
	typePreviousPriorities = "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"

	// Envoy's default of rate_limited_retry_back_off.max_interval.
	defaultRateLimitedMax = 5 * time.Minute
)

func (c *decoding) retryPolicy(p *path, m *routev3.RetryPolicy) *RetryPolicy {
	if m == nil {
		return nil
	}
	r := &RetryPolicy{
		On:            splitList(m.GetRetryOn()),
		NumRetries:    1,
		PerTryTimeout: c.duration(p.field("per_try_timeout"), m.GetPerTryTimeout(), 0),
		StatusCodes:   m.GetRetriableStatusCodes(),
		HostAttempts:  int(min(m.GetHostSelectionRetryMaxAttempts(), 1000)),
		BackOffBase:   c.duration(p.field("retry_back_off").field("base_interval"), m.GetRetryBackOff().GetBaseInterval(), 0),
		BackOffMax:    c.duration(p.field("retry_back_off").field("max_interval"), m.GetRetryBackOff().GetMaxInterval(), 0),
	}
	if n := m.GetNumRetries(); n != nil {
		r.NumRetries = n.GetValue()
	}
	if r.HostAttempts < 0 {
		c.fail(p.field("host_selection_retry_max_attempts"), "%d is negative", r.HostAttempts)
	}
	for i, h := range m.GetRetryHostPredicate() {
		if typeName(h.GetTypedConfig().GetTypeUrl()) != typePreviousHosts {
			c.fail(p.at("retry_host_predicate", i), "%q of type %q is not supported", clip(h.GetName()), clip(h.GetTypedConfig().GetTypeUrl()))
			continue
		}
		r.AvoidPrevious = true
	}
	for i, h := range m.GetRetriableHeaders() {
		r.Headers = append(r.Headers, c.headerMatcher(p.at("retriable_headers", i), h))
	}
	for i, h := range m.GetRetriableRequestHeaders() {
		r.RequestHeaders = append(r.RequestHeaders, c.headerMatcher(p.at("retriable_request_headers", i), h))
	}
	if m.GetRetryPriority() != nil {
		r.LeavePriorities = c.retryPriority(p.field("retry_priority"), m.GetRetryPriority())
	}
	r.RateLimited = c.rateLimitedBackOff(p.field("rate_limited_retry_back_off"), m.GetRateLimitedRetryBackOff())
	return r
}

func (c *decoding) retryPriority(p *path, m *routev3.RetryPolicy_RetryPriority) int {
	if typeName(m.GetTypedConfig().GetTypeUrl()) != typePreviousPriorities {
		c.fail(p, "%q of type %q is not supported", clip(m.GetName()), clip(m.GetTypedConfig().GetTypeUrl()))
		return 0
	}
	var config prioritiesv3.PreviousPrioritiesConfig
	at := p.field("typed_config")
	if c.unpack(at, m.GetTypedConfig(), &config) && (config.GetUpdateFrequency() < 1 || config.GetUpdateFrequency() > 1000) {
		c.fail(at.field("update_frequency"), "%d is not from 1 to 1000", config.GetUpdateFrequency())
	}
	return int(config.GetUpdateFrequency())
}

func (c *decoding) rateLimitedBackOff(p *path, m *routev3.RetryPolicy_RateLimitedRetryBackOff) *RateLimitedBackOff {
	if m == nil {
		return nil
	}
	out := &RateLimitedBackOff{Max: c.duration(p.field("max_interval"), m.GetMaxInterval(), defaultRateLimitedMax)}
	for i, h := range m.GetResetHeaders() {
		if h.GetName() == "" {
			c.fail(p.at("reset_headers", i), "no name")
		}
		out.Headers = append(out.Headers, ResetHeader{
			Name: match.Lower(h.GetName()), Unix: h.GetFormat() == routev3.RetryPolicy_UNIX_TIMESTAMP,
		})
	}
	return out
}
