package record

import (
	"math/rand/v2"
	"slices"

	"github.com/egret-mesh/egret/internal/data/resource"
)

// maxFilterDepth bounds nesting; the decoder refuses deeper ones before.
const maxFilterDepth = 16

// passes reports whether an access log filter lets e through (envoy.config.accesslog.v3.AccessLogFilter).
func passes(f *resource.AccessLogFilter, e *Entry, depth int) bool {
	switch {
	case f == nil || depth > maxFilterDepth:
		return true
	case f.AnyFlag:
		return len(e.Flags) > 0
	case len(f.ResponseFlags) > 0:
		return slices.ContainsFunc(e.Flags, func(flag string) bool { return slices.Contains(f.ResponseFlags, flag) })
	case f.StatusOp != "":
		return compare(int64(e.Status), f.StatusOp, int64(f.StatusValue))
	case f.DurationOp != "":
		return compare(e.Duration.Milliseconds(), f.DurationOp, int64(f.DurationMS))
	case f.Header != nil:
		s, present := headerText(e, f.Header.Name)
		return f.Header.Match(s, present)
	case f.Expression != nil:
		return f.Expression.Match((*attributes)(e))
	case f.Nothing:
		return false
	case f.GRPC != nil:
		n, ok := grpcStatus(e)
		return ok && slices.Contains(f.GRPC, n) != f.GRPCExclude
	case f.LogTypes != nil:
		return slices.Contains(f.LogTypes, string(e.logType())) != f.LogTypesExclude
	case f.Sampled != nil:
		return rand.Uint32N(max(f.Sampled.Denominator, 1)) < f.Sampled.Numerator
	case len(f.And) > 0:
		return !slices.ContainsFunc(f.And, func(g *resource.AccessLogFilter) bool { return !passes(g, e, depth+1) })
	case len(f.Or) > 0:
		return slices.ContainsFunc(f.Or, func(g *resource.AccessLogFilter) bool { return passes(g, e, depth+1) })
	}
	return true // NotHealthCheck: this proxy has no health check filter that marks requests
}

func compare(have int64, op string, want int64) bool {
	switch op {
	case "GE":
		return have >= want
	case "EQ":
		return have == want
	case "LE":
		return have <= want
	case "NE":
		return have != want
	}
	return true
}

// headerText is the request header that a header filter looks at.
func headerText(e *Entry, name string) (string, bool) {
	switch name {
	case ":method":
		return e.Method, e.Method != ""
	case ":path":
		return e.Path, e.Path != ""
	case ":authority", "host":
		return e.Authority, e.Authority != ""
	}
	if e.RequestHeaders == nil {
		return "", false
	}
	return e.RequestHeaders.Get(name)
}
