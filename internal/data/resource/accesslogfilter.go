package resource

import (
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	celfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"

	"github.com/egret-mesh/egret/internal/expression"
)

const typeCELFilter = "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter"

func (c *decoding) logFilter(p *path, m *accesslogv3.AccessLogFilter) *AccessLogFilter {
	f := &AccessLogFilter{}
	switch s := m.GetFilterSpecifier().(type) {
	case *accesslogv3.AccessLogFilter_StatusCodeFilter:
		f.StatusOp, f.StatusValue = c.comparison(p.field("status_code_filter"), s.StatusCodeFilter.GetComparison())
	case *accesslogv3.AccessLogFilter_DurationFilter:
		f.DurationOp, f.DurationMS = c.comparison(p.field("duration_filter"), s.DurationFilter.GetComparison())
	case *accesslogv3.AccessLogFilter_NotHealthCheckFilter:
		f.NotHealthCheck = true
	case *accesslogv3.AccessLogFilter_ResponseFlagFilter:
		f.ResponseFlags = s.ResponseFlagFilter.GetFlags()
		f.AnyFlag = len(f.ResponseFlags) == 0
	case *accesslogv3.AccessLogFilter_HeaderFilter:
		h := c.headerMatcher(p.field("header_filter"), s.HeaderFilter.GetHeader())
		f.Header = &h
	case *accesslogv3.AccessLogFilter_AndFilter:
		for i, sub := range s.AndFilter.GetFilters() {
			f.And = append(f.And, c.logFilter(p.at("and_filter", i), sub))
		}
	case *accesslogv3.AccessLogFilter_OrFilter:
		for i, sub := range s.OrFilter.GetFilters() {
			f.Or = append(f.Or, c.logFilter(p.at("or_filter", i), sub))
		}
	case *accesslogv3.AccessLogFilter_ExtensionFilter:
		c.extensionFilter(p.field("extension_filter"), f, s.ExtensionFilter)
	default:
		c.rareLogFilter(p, f, m)
	}
	return f
}

// rareLogFilter are the filters that Istio does not generate. No request has a trace or
// dynamic metadata here, so those on them let nothing through, or everything.
func (c *decoding) rareLogFilter(p *path, f *AccessLogFilter, m *accesslogv3.AccessLogFilter) {
	switch s := m.GetFilterSpecifier().(type) {
	case *accesslogv3.AccessLogFilter_GrpcStatusFilter:
		f.GRPC, f.GRPCExclude = []int{}, s.GrpcStatusFilter.GetExclude()
		for _, code := range s.GrpcStatusFilter.GetStatuses() {
			f.GRPC = append(f.GRPC, int(code))
		}
	case *accesslogv3.AccessLogFilter_LogTypeFilter:
		f.LogTypes, f.LogTypesExclude = []string{}, s.LogTypeFilter.GetExclude()
		for _, t := range s.LogTypeFilter.GetTypes() {
			f.LogTypes = append(f.LogTypes, t.String())
		}
	case *accesslogv3.AccessLogFilter_RuntimeFilter:
		share := s.RuntimeFilter.GetPercentSampled() // the runtime key has no other value here
		f.Sampled = &Fraction{share.GetNumerator(), c.denominator(p.field("runtime_filter").field("percent_sampled"), share.GetDenominator())}
	case *accesslogv3.AccessLogFilter_MetadataFilter:
		f.Nothing = !isTrue(s.MetadataFilter.GetMatchIfKeyNotFound(), true)
	case *accesslogv3.AccessLogFilter_TraceableFilter:
		f.Nothing = true
	default:
		c.fail(p, "this access log filter is not supported")
	}
}

func (c *decoding) extensionFilter(p *path, f *AccessLogFilter, m *accesslogv3.ExtensionFilter) {
	if name := typeName(m.GetTypedConfig().GetTypeUrl()); name != typeCELFilter {
		c.fail(p, "access log filter %q of type %q is not supported", clip(m.GetName()), clip(string(name)))
		return
	}
	var cel celfilterv3.ExpressionFilter
	at := p.field("typed_config")
	if !c.unpack(at, m.GetTypedConfig(), &cel) {
		return
	}
	var err error
	if f.Expression, err = expression.Compile(cel.GetExpression()); err != nil {
		c.fail(at.field("expression"), "%w", err)
	}
}

func (c *decoding) comparison(p *path, m *accesslogv3.ComparisonFilter) (string, uint32) {
	switch m.GetOp() {
	case accesslogv3.ComparisonFilter_EQ, accesslogv3.ComparisonFilter_GE, accesslogv3.ComparisonFilter_LE, accesslogv3.ComparisonFilter_NE:
		return m.GetOp().String(), m.GetValue().GetDefaultValue()
	}
	c.fail(p, "comparison %d is not supported", m.GetOp())
	return "", 0
}
