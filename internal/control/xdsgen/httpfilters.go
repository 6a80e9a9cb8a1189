package xdsgen

import (
	"math"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	commonfaultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/fault/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/egret-mesh/egret/internal/control/istioapi"
)

// Names of the HTTP filters whose configuration is per route.
const (
	faultFilter = "envoy.filters.http.fault"
	corsFilter  = "envoy.filters.http.cors"
)

// filterConfig is a route's typed_per_filter_config: fault and corsPolicy.
func (b *builder) filterConfig(r *networking.HTTPRoute) map[string]*anypb.Any {
	out := map[string]*anypb.Any{}
	if f := httpFault(r.GetFault()); f != nil {
		out[faultFilter] = b.pack(f)
	}
	if r.GetCorsPolicy() != nil {
		out[corsFilter] = b.pack(corsPolicy(r.GetCorsPolicy()))
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

func httpFault(in *networking.HTTPFaultInjection) *faultv3.HTTPFault {
	if in.GetDelay() == nil && in.GetAbort() == nil {
		return nil
	}
	out := &faultv3.HTTPFault{}
	if d := in.GetDelay(); d.GetFixedDelay() != nil {
		out.Delay = &commonfaultv3.FaultDelay{
			FaultDelaySecifier: &commonfaultv3.FaultDelay_FixedDelay{FixedDelay: d.GetFixedDelay()},
			//lint:ignore SA1019 deprecated, still read
			Percentage: percentOr(d.GetPercentage(), float64(d.GetPercent())),
		}
	}
	if a := in.GetAbort(); a != nil {
		out.Abort = &faultv3.FaultAbort{Percentage: percentOr(a.GetPercentage(), 0)}
		switch e := a.GetErrorType().(type) {
		case *networking.HTTPFaultInjection_Abort_HttpStatus:
			out.Abort.ErrorType = &faultv3.FaultAbort_HttpStatus{HttpStatus: uint32(max(e.HttpStatus, 0))}
		case *networking.HTTPFaultInjection_Abort_GrpcStatus:
			code, _ := istioapi.GRPCStatus(e.GrpcStatus)
			out.Abort.ErrorType = &faultv3.FaultAbort_GrpcStatus{GrpcStatus: code}
		}
	}
	return out
}

// percentOr is p, else the older field's whole percents: in millionths, as istiod sends.
func percentOr(p *networking.Percent, whole float64) *typev3.FractionalPercent {
	if p != nil {
		whole = p.GetValue()
	}
	return &typev3.FractionalPercent{
		Numerator:   uint32(math.Round(min(max(whole, 0), 100) * 10_000)),
		Denominator: typev3.FractionalPercent_MILLION,
	}
}

func corsPolicy(in *networking.CorsPolicy) *corsv3.CorsPolicy {
	out := &corsv3.CorsPolicy{
		ForwardNotMatchingPreflights: wrapperspb.Bool(in.GetUnmatchedPreflights() != networking.CorsPolicy_IGNORE),
		FilterEnabled: &corev3.RuntimeFractionalPercent{DefaultValue: &typev3.FractionalPercent{
			Numerator: 100, Denominator: typev3.FractionalPercent_HUNDRED,
		}},
		AllowCredentials: in.GetAllowCredentials(),
		AllowHeaders:     strings.Join(in.GetAllowHeaders(), ","),
		AllowMethods:     strings.Join(in.GetAllowMethods(), ","),
		ExposeHeaders:    strings.Join(in.GetExposeHeaders(), ","),
	}
	for _, s := range in.GetAllowOrigins() {
		if m := originMatch(s); m != nil {
			out.AllowOriginStringMatch = append(out.AllowOriginStringMatch, m)
		}
	}
	if len(in.GetAllowOrigins()) == 0 {
		//lint:ignore SA1019 deprecated, still read
		for _, origin := range in.GetAllowOrigin() {
			out.AllowOriginStringMatch = append(out.AllowOriginStringMatch,
				&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: origin}})
		}
	}
	if in.GetMaxAge() != nil {
		out.MaxAge = strconv.FormatInt(in.GetMaxAge().GetSeconds(), 10)
	}
	return out
}

// originMatch is stringMatch without "any value", which no origin match says.
func originMatch(s *networking.StringMatch) *matcherv3.StringMatcher {
	if m := stringMatch(s); m != nil {
		return m
	}
	if s.GetMatchType() == nil {
		return nil
	}
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: ".*"}}}
}

// mirrors are the request_mirror_policies of mirror and mirrors; of 0 percent there is none.
func (b *builder) mirrors(r *networking.HTTPRoute, host func(string) string, listenPort uint32) []*routev3.RouteAction_RequestMirrorPolicy {
	var out []*routev3.RouteAction_RequestMirrorPolicy
	add := func(d *networking.Destination, share *typev3.FractionalPercent) {
		if d == nil || share.GetNumerator() == 0 {
			return
		}
		out = append(out, &routev3.RouteAction_RequestMirrorPolicy{
			Cluster:         b.destinationCluster(host(d.GetHost()), d, listenPort),
			RuntimeFraction: &corev3.RuntimeFractionalPercent{DefaultValue: share},
			TraceSampled:    b.shared.no,
		})
	}
	whole := 100.0
	//lint:ignore SA1019 deprecated, still read
	if n := r.GetMirrorPercent(); n != nil {
		whole = float64(n.GetValue())
	}
	add(r.GetMirror(), percentOr(r.GetMirrorPercentage(), whole))
	for _, m := range r.GetMirrors() {
		add(m.GetDestination(), percentOr(m.GetPercentage(), 100))
	}
	return out
}
