package resource

import (
	"net/http"
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

const (
	// Envoy's defaults.
	defaultRouteTimeout  = 15 * time.Second
	defaultMaxDirectBody = 4096 // bytes
)

// RouteConfiguration decodes an envoy.config.route.v3.RouteConfiguration.
func (d Decoder) RouteConfiguration(a *anypb.Any) (*RouteConfiguration, error) {
	return d.NextRouteConfiguration(nil, a)
}

// NextRouteConfiguration is RouteConfiguration for one that takes the place of another:
// virtual hosts that did not change are those of before. Previous may be nil.
func (d Decoder) NextRouteConfiguration(previous *RouteConfiguration, a *anypb.Any) (*RouteConfiguration, error) {
	c := d.begin()
	var m routev3.RouteConfiguration
	var rc *RouteConfiguration
	split := takeApart(a, virtualHostsField)
	if c.unpack(nil, split.rest, &m) {
		rc = c.routeConfiguration(nil, &m, func() ([]*VirtualHost, decodedParts[*VirtualHost]) {
			var known decodedParts[*VirtualHost]
			if previous != nil && previous.maxDirectBody == c.maxDirectBody {
				known = previous.parts
			}
			return each(c, "virtual_hosts", split.parts, known, func() *routev3.VirtualHost { return &routev3.VirtualHost{} }, c.virtualHost)
		})
		if rc.Name == "" {
			c.fail(nil, "a route configuration needs a name")
		}
	}
	if err := c.end("route configuration", m.GetName(), c.whole(a, &m)); err != nil {
		return nil, err
	}
	return rc, nil
}

// routeConfiguration decodes all but the virtual hosts, which hosts gives.
func (c *decoding) routeConfiguration(p *path, m *routev3.RouteConfiguration, hosts func() ([]*VirtualHost, decodedParts[*VirtualHost])) *RouteConfiguration {
	c.maxDirectBody = defaultMaxDirectBody
	if n := m.GetMaxDirectResponseBodySizeBytes(); n != nil {
		c.maxDirectBody = n.GetValue()
	}
	c.noFilterConfig(p, m.GetTypedPerFilterConfig())
	rc := &RouteConfiguration{
		Name:                     m.GetName(),
		IgnorePortInHostMatching: m.GetIgnorePortInHostMatching(),
		RequestHeaders:           c.headerEdits(p, "request_headers", m.GetRequestHeadersToAdd(), m.GetRequestHeadersToRemove()),
		ResponseHeaders:          c.headerEdits(p, "response_headers", m.GetResponseHeadersToAdd(), m.GetResponseHeadersToRemove()),
		MostSpecificWins:         m.GetMostSpecificHeaderMutationsWins(),
		OnDemand:                 m.GetVhds() != nil,
		maxDirectBody:            c.maxDirectBody,
	}
	if rc.OnDemand {
		c.fromADS(p.field("vhds").field("config_source"), m.GetVhds().GetConfigSource())
	}
	rc.VirtualHosts, rc.parts = hosts()
	if err := rc.Index(); err != nil {
		c.fail(p.field("virtual_hosts"), "%w", err)
	}
	return rc
}

func (c *decoding) virtualHost(p *path, m *routev3.VirtualHost) *VirtualHost {
	vh := &VirtualHost{
		Name:                          m.GetName(),
		Domains:                       m.GetDomains(),
		IncludeAttemptCount:           m.GetIncludeRequestAttemptCount(),
		IncludeAttemptCountInResponse: m.GetIncludeAttemptCountInResponse(),
		RequestHeaders:                c.headerEdits(p, "request_headers", m.GetRequestHeadersToAdd(), m.GetRequestHeadersToRemove()),
		ResponseHeaders:               c.headerEdits(p, "response_headers", m.GetResponseHeadersToAdd(), m.GetResponseHeadersToRemove()),
		Objects:                       objectsOf(m.GetMetadata()),
	}
	switch m.GetRequireTls() {
	case routev3.VirtualHost_NONE:
	case routev3.VirtualHost_ALL:
		vh.TLSRedirect = &Route{Redirect: &Redirect{HTTPSRedirect: true, Status: http.StatusMovedPermanently}, Objects: vh.Objects}
	default:
		c.fail(p.field("require_tls"), "%s is not supported", m.GetRequireTls())
	}
	inherited := inheritance{
		retry:   c.retryPolicy(p.field("retry_policy"), m.GetRetryPolicy()),
		mirrors: c.mirrors(p, m.GetRequestMirrorPolicies()),
		filters: c.perFilter(p, m.GetTypedPerFilterConfig(), filterConfigs{}),
	}
	for i, r := range m.GetRoutes() {
		vh.Routes = append(vh.Routes, c.route(p.at("routes", i), r, &inherited))
	}
	return vh
}

// inheritance is what a virtual host gives to those of its routes that do not have it.
type inheritance struct {
	retry   *RetryPolicy
	mirrors []Mirror
	filters filterConfigs
}

func (i *inheritance) apply(f *Forward) {
	if f.Retry == nil {
		f.Retry = i.retry
	}
	if f.Mirrors == nil {
		f.Mirrors = i.mirrors
	}
}

func (c *decoding) route(p *path, m *routev3.Route, from *inheritance) *Route {
	filters := c.perFilter(p, m.GetTypedPerFilterConfig(), from.filters)
	r := &Route{
		Name:            m.GetName(),
		Match:           c.routeMatch(p.field("match"), m.GetMatch()),
		RequestHeaders:  c.headerEdits(p, "request_headers", m.GetRequestHeadersToAdd(), m.GetRequestHeadersToRemove()),
		ResponseHeaders: c.headerEdits(p, "response_headers", m.GetResponseHeadersToAdd(), m.GetResponseHeadersToRemove()),
		Fault:           filters.fault,
		CORS:            c.cors(p.field("typed_per_filter_config"), filters.cors),
		Objects:         objectsOf(m.GetMetadata()),
	}
	switch a := m.GetAction().(type) {
	case *routev3.Route_Route:
		r.Forward = c.forward(p.field("route"), a.Route)
		from.apply(r.Forward)
	case *routev3.Route_Redirect:
		r.Redirect = c.redirect(p.field("redirect"), a.Redirect)
	case *routev3.Route_DirectResponse:
		r.Direct = c.directResponse(p.field("direct_response"), a.DirectResponse)
	default:
		c.fail(p, "a route needs one of route, redirect and direct_response")
	}
	return r
}

func (c *decoding) routeMatch(p *path, m *routev3.RouteMatch) RouteMatch {
	out := RouteMatch{IgnoreCase: !isTrue(m.GetCaseSensitive(), true)}
	switch s := m.GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Prefix:
		out.Kind, out.Path = PathPrefix, s.Prefix
	case *routev3.RouteMatch_Path:
		out.Kind, out.Path = PathExact, s.Path
	case *routev3.RouteMatch_PathSeparatedPrefix:
		out.Kind, out.Path = PathSeparatedPrefix, s.PathSeparatedPrefix
	case *routev3.RouteMatch_SafeRegex:
		out.Kind, out.Path = PathRegex, s.SafeRegex.GetRegex()
		out.Regex = c.regex(p.field("safe_regex"), s.SafeRegex).Regex
	case *routev3.RouteMatch_ConnectMatcher_:
		out.Kind = PathConnect
	default:
		c.fail(p, "this kind of path match is not supported")
	}
	for i, h := range m.GetHeaders() {
		out.Headers = append(out.Headers, c.headerMatcher(p.at("headers", i), h))
	}
	for i, q := range m.GetQueryParameters() {
		out.Query = append(out.Query, c.queryMatcher(p.at("query_parameters", i), q))
	}
	if f := m.GetRuntimeFraction(); f != nil {
		share := c.fraction(p.field("runtime_fraction"), f.GetDefaultValue())
		out.RuntimeNumerator, out.RuntimeDenominator = share.Numerator, share.Denominator
	}
	out.GRPC = m.GetGrpc() != nil
	return out
}

// fraction is m, and nothing of the requests where m is not set.
func (c *decoding) fraction(p *path, m *typev3.FractionalPercent) Fraction {
	return Fraction{m.GetNumerator(), c.denominator(p, m.GetDenominator())}
}

func (c *decoding) denominator(p *path, d typev3.FractionalPercent_DenominatorType) uint32 {
	switch d {
	case typev3.FractionalPercent_HUNDRED:
		return 100
	case typev3.FractionalPercent_TEN_THOUSAND:
		return 10_000
	case typev3.FractionalPercent_MILLION:
		return 1_000_000
	}
	c.fail(p, "denominator %d is not supported", d)
	return 1
}

func (c *decoding) redirect(p *path, m *routev3.RedirectAction) *Redirect {
	r := &Redirect{
		Scheme: m.GetSchemeRedirect(), Host: m.GetHostRedirect(), HTTPSRedirect: m.GetHttpsRedirect(), Port: m.GetPortRedirect(),
		Path: m.GetPathRedirect(), PrefixRewrite: m.GetPrefixRewrite(), StripQuery: m.GetStripQuery(),
		RegexRewrite: c.regexRewrite(p.field("regex_rewrite"), m.GetRegexRewrite()),
	}
	if r.Port > 65535 {
		c.fail(p.field("port_redirect"), "%d is not a port", r.Port)
	}
	if strings.ContainsAny(r.Scheme+r.Host+r.Path+r.PrefixRewrite, "\r\n\x00 ") {
		c.fail(p, "a redirect has a space, a line break or a zero byte")
	}
	switch m.GetResponseCode() {
	case routev3.RedirectAction_MOVED_PERMANENTLY:
		r.Status = http.StatusMovedPermanently
	case routev3.RedirectAction_FOUND:
		r.Status = http.StatusFound
	case routev3.RedirectAction_SEE_OTHER:
		r.Status = http.StatusSeeOther
	case routev3.RedirectAction_TEMPORARY_REDIRECT:
		r.Status = http.StatusTemporaryRedirect
	case routev3.RedirectAction_PERMANENT_REDIRECT:
		r.Status = http.StatusPermanentRedirect
	default:
		c.fail(p.field("response_code"), "%d is not supported", m.GetResponseCode())
	}
	return r
}

func (c *decoding) directResponse(p *path, m *routev3.DirectResponseAction) *DirectResponse {
	d := &DirectResponse{Status: int(m.GetStatus()), Body: c.inlineData(p.field("body"), m.GetBody())}
	if m.GetStatus() < 200 || m.GetStatus() > 599 {
		c.fail(p.field("status"), "%d is not supported", m.GetStatus())
	}
	if len(d.Body) > int(c.maxDirectBody) {
		c.fail(p.field("body"), "%d bytes is over the limit of %d", len(d.Body), c.maxDirectBody)
	}
	return d
}
