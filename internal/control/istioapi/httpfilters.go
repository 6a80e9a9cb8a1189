package istioapi

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	networking "istio.io/api/networking/v1alpha3"
)

// grpcStatuses are the names of gRPC's status codes ("Status codes and their use in
// gRPC"), by number.
var grpcStatuses = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
	"UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

// GRPCStatus is the number of a gRPC status by its name ("UNAVAILABLE").
func GRPCStatus(name string) (uint32, bool) {
	i := slices.Index(grpcStatuses[:], name)
	return uint32(max(i, 0)), i >= 0
}

func (c *checker) fault(f *networking.HTTPFaultInjection, at string) {
	if f == nil {
		return
	}
	if f.Delay == nil && f.Abort == nil {
		c.fail(CodeMissing, at, "is empty: one of delay and abort is required")
	}
	if d := f.Delay; d != nil {
		delayAt := at + ".delay"
		c.refused(d.GetExponentialDelay() != nil, delayAt+".exponentialDelay", "use fixedDelay")
		switch {
		case d.GetFixedDelay() != nil:
			c.duration(delayAt+".fixedDelay", d.GetFixedDelay())
		case d.GetExponentialDelay() == nil:
			c.fail(CodeMissing, delayAt+".fixedDelay", "is required")
		}
		//lint:ignore SA1019 deprecated, still read
		c.share(d.Percentage, float64(d.Percent), delayAt, "no request is delayed")
	}
	if a := f.Abort; a != nil {
		abortAt := at + ".abort"
		c.abort(a, abortAt)
		c.share(a.Percentage, 0, abortAt, "no request is aborted")
	}
}

func (c *checker) abort(a *networking.HTTPFaultInjection_Abort, at string) {
	switch e := a.ErrorType.(type) {
	case nil:
		c.fail(CodeMissing, at, "one of httpStatus and grpcStatus is required")
	case *networking.HTTPFaultInjection_Abort_HttpStatus:
		if e.HttpStatus < 200 || e.HttpStatus > 599 {
			c.fail(CodeInvalid, at+".httpStatus", "%d is not a status from 200 to 599", e.HttpStatus)
		}
	case *networking.HTTPFaultInjection_Abort_GrpcStatus:
		if _, ok := GRPCStatus(e.GrpcStatus); !ok {
			c.fail(CodeInvalid, at+".grpcStatus", "%q is not the name of a gRPC status, as UNAVAILABLE is", e.GrpcStatus)
		}
	default:
		c.refused(true, at+".http2Error", "use httpStatus or grpcStatus")
	}
}

// share checks a percentage, or the older field of whole percents.
func (c *checker) share(p *networking.Percent, whole float64, at, none string) {
	if p == nil && whole == 0 {
		c.warn(CodeNoEffect, at+".percentage", "is not set: %s", none)
		return
	}
	if p != nil {
		whole = p.Value
	}
	if !(whole >= 0 && whole <= 100) { // NaN too
		c.fail(CodeInvalid, at+".percentage", "%v is not from 0 to 100", whole)
	}
}

func (c *checker) mirrors(r *networking.HTTPRoute, at string) {
	//lint:ignore SA1019 deprecated, still read
	percent := r.MirrorPercent
	switch {
	case r.Mirror == nil && len(r.Mirrors) == 0:
		if percent != nil || r.MirrorPercentage != nil {
			c.warn(CodeNoEffect, at+".mirrorPercentage", "does nothing without mirror")
		}
		return
	case r.Mirror != nil && len(r.Mirrors) > 0:
		c.fail(CodeConflict, at+".mirrors", "cannot be set together with mirror")
	case len(r.Route) == 0:
		c.warn(CodeNoEffect, at+".mirror", "only requests that route forwards are mirrored")
	}
	if r.Mirror != nil {
		c.destination(r.Mirror, at+".mirror")
		if percent != nil || r.MirrorPercentage != nil {
			c.share(r.MirrorPercentage, float64(percent.GetValue()), at+".mirror", "no request is mirrored")
		}
	}
	for i, m := range r.Mirrors {
		mirrorAt := index(at+".mirrors", i)
		c.destination(m.Destination, mirrorAt+".destination")
		if m.Percentage != nil {
			c.share(m.Percentage, 0, mirrorAt, "no request is mirrored")
		}
	}
}

func (c *checker) corsPolicy(p *networking.CorsPolicy, at string) {
	if p == nil {
		return
	}
	for i, o := range p.AllowOrigins {
		c.stringMatch(o, index(at+".allowOrigins", i), false)
	}
	//lint:ignore SA1019 deprecated, still read
	if len(p.AllowOrigins) == 0 && len(p.AllowOrigin) == 0 {
		c.warn(CodeNoEffect, at+".allowOrigins", "is not set: no origin is allowed")
	}
	for i, m := range p.AllowMethods {
		if m != "*" && !isHeaderName(m) {
			c.fail(CodeInvalid, index(at+".allowMethods", i), "%q is not a method", m)
		}
	}
	for _, list := range []struct {
		path  string
		names []string
	}{{at + ".allowHeaders", p.AllowHeaders}, {at + ".exposeHeaders", p.ExposeHeaders}} {
		for i, name := range list.names {
			if name != "*" && !isHeaderName(name) {
				c.fail(CodeInvalid, index(list.path, i), "%q is not a header name (letters, digits, \"-\" and \"_\")", name)
			}
		}
	}
	if p.MaxAge != nil {
		c.duration(at+".maxAge", p.MaxAge)
		if p.MaxAge.AsDuration()%time.Second != 0 {
			c.fail(CodeInvalid, at+".maxAge", "must be whole seconds")
		}
	}
}

// retryConditions are Envoy's words for x-envoy-retry-on and x-envoy-retry-grpc-on
// (router filter documentation), as Istio allows them.
var retryConditions = []string{
	"5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "retriable-4xx", "refused-stream",
	"retriable-status-codes", "retriable-headers", "envoy-ratelimited", "http3-post-connect-failure",
	"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable",
}

func (c *checker) retries(r *networking.HTTPRetry, at string) {
	if r == nil {
		return
	}
	if r.Attempts < 0 {
		c.fail(CodeInvalid, at+".attempts", "is negative")
	}
	if r.Attempts == 0 && (r.PerTryTimeout != nil || r.RetryOn != "" || r.RetryRemoteLocalities != nil) {
		c.fail(CodeConflict, at+".attempts", "is 0, which switches retries off, but other fields of retries are set")
	}
	c.duration(at+".perTryTimeout", r.PerTryTimeout)
	c.duration(at+".backoff", r.Backoff)
	if r.RetryOn == "" {
		return
	}
	for word := range strings.SplitSeq(r.RetryOn, ",") {
		status, _ := strconv.Atoi(word)
		if http.StatusText(status) == "" && !slices.Contains(retryConditions, word) {
			c.fail(CodeInvalid, at+".retryOn", "%q is neither a retry condition nor an HTTP status%s", word, Suggest(word, retryConditions))
		}
	}
}
