package xdsgen

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	networking "istio.io/api/networking/v1alpha3"
)

// routeMatch translates what a match says about the request; nil matches everything.
func (b *builder) routeMatch(m *networking.HTTPMatchRequest) *routev3.RouteMatch {
	if m == nil {
		return b.shared.prefixMatch
	}
	out := &routev3.RouteMatch{
		PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"},
		CaseSensitive: b.shared.yes,
	}
	if m.GetIgnoreUriCase() {
		out.CaseSensitive = b.shared.no
	}
	switch u := m.GetUri().GetMatchType().(type) {
	case *networking.StringMatch_Exact:
		out.PathSpecifier = &routev3.RouteMatch_Path{Path: u.Exact}
	case *networking.StringMatch_Prefix:
		out.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: u.Prefix}
	case *networking.StringMatch_Regex:
		out.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: u.Regex}}
	}
	out.Headers = headerMatches(m)
	for _, name := range slices.Sorted(maps.Keys(m.GetQueryParams())) {
		out.QueryParameters = append(out.QueryParameters, queryMatch(name, m.GetQueryParams()[name]))
	}
	return out
}

// headerMatches are those for headers and withoutHeaders, sorted by name, then for
// method, authority and scheme.
func headerMatches(m *networking.HTTPMatchRequest) []*routev3.HeaderMatcher {
	var out []*routev3.HeaderMatcher
	for _, name := range slices.Sorted(maps.Keys(m.GetHeaders())) {
		out = append(out, headerMatch(name, m.GetHeaders()[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(m.GetWithoutHeaders())) {
		h := headerMatch(name, m.GetWithoutHeaders()[name])
		h.InvertMatch = true
		// A header that is not there is not the value: the route matches.
		h.TreatMissingHeaderAsEmpty = h.GetStringMatch() != nil
		out = append(out, h)
	}
	slices.SortStableFunc(out, func(a, b *routev3.HeaderMatcher) int { return cmp.Compare(a.Name, b.Name) })
	for _, pseudo := range []struct {
		name  string
		value *networking.StringMatch
	}{{":method", m.GetMethod()}, {":authority", m.GetAuthority()}, {":scheme", m.GetScheme()}} {
		if pseudo.value != nil {
			out = append(out, headerMatch(pseudo.name, pseudo.value))
		}
	}
	return out
}

func headerMatch(name string, s *networking.StringMatch) *routev3.HeaderMatcher {
	out := &routev3.HeaderMatcher{Name: strings.ToLower(name)}
	if v := stringMatch(s); v != nil {
		out.HeaderMatchSpecifier = &routev3.HeaderMatcher_StringMatch{StringMatch: v}
	} else {
		out.HeaderMatchSpecifier = &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}
	}
	return out
}

func queryMatch(name string, s *networking.StringMatch) *routev3.QueryParameterMatcher {
	out := &routev3.QueryParameterMatcher{Name: name}
	if v := stringMatch(s); v != nil {
		out.QueryParameterMatchSpecifier = &routev3.QueryParameterMatcher_StringMatch{StringMatch: v}
	} else {
		out.QueryParameterMatchSpecifier = &routev3.QueryParameterMatcher_PresentMatch{PresentMatch: true}
	}
	return out
}

// stringMatch is nil where any value will do: nothing given, an empty prefix, or the
// regular expression "*" that Istio understands so.
func stringMatch(s *networking.StringMatch) *matcherv3.StringMatcher {
	switch m := s.GetMatchType().(type) {
	case *networking.StringMatch_Exact:
		return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: m.Exact}}
	case *networking.StringMatch_Prefix:
		if m.Prefix != "" {
			return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: m.Prefix}}
		}
	case *networking.StringMatch_Regex:
		if m.Regex != "*" {
			return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
				SafeRegex: &matcherv3.RegexMatcher{Regex: m.Regex},
			}}
		}
	}
	return nil
}
