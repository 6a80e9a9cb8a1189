package resource

import (
	"net/http"
	"regexp"
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/egret-mesh/egret/internal/data/match"
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
	c.perFilter(p, m.GetTypedPerFilterConfig())
	rc := &RouteConfiguration{
		Name:                     m.GetName(),
		IgnorePortInHostMatching: m.GetIgnorePortInHostMatching(),
		RequestHeaders:           c.headerEdits(p, "request_headers", m.GetRequestHeadersToAdd(), m.GetRequestHeadersToRemove()),
		ResponseHeaders:          c.headerEdits(p, "response_headers", m.GetResponseHeadersToAdd(), m.GetResponseHeadersToRemove()),
		maxDirectBody:            c.maxDirectBody,
	}
	rc.VirtualHosts, rc.parts = hosts()
	if err := rc.Index(); err != nil {
		c.fail(p.field("virtual_hosts"), "%w", err)
	}
	return rc
}

func (c *decoding) virtualHost(p *path, m *routev3.VirtualHost) *VirtualHost {
	c.perFilter(p, m.GetTypedPerFilterConfig())
	vh := &VirtualHost{
		Name:                m.GetName(),
		Domains:             m.GetDomains(),
		IncludeAttemptCount: m.GetIncludeRequestAttemptCount(),
		RequestHeaders:      c.headerEdits(p, "request_headers", m.GetRequestHeadersToAdd(), m.GetRequestHeadersToRemove()),
		ResponseHeaders:     c.headerEdits(p, "response_headers", m.GetResponseHeadersToAdd(), m.GetResponseHeadersToRemove()),
		Objects:             objectsOf(m.GetMetadata()),
	}
	switch m.GetRequireTls() {
	case routev3.VirtualHost_NONE:
	case routev3.VirtualHost_ALL:
		vh.TLSRedirect = &Route{Name: vh.Name, Redirect: &Redirect{HTTPSRedirect: true, Status: http.StatusMovedPermanently}, Objects: vh.Objects}
	default:
		c.fail(p.field("require_tls"), "%s is not supported", m.GetRequireTls())
	}
	retry := c.retryPolicy(p.field("retry_policy"), m.GetRetryPolicy())
	for i, r := range m.GetRoutes() {
		route := c.route(p.at("routes", i), r)
		if route.Forward != nil && route.Forward.Retry == nil {
			route.Forward.Retry = retry
		}
		vh.Routes = append(vh.Routes, route)
	}
	return vh
}

func (c *decoding) route(p *path, m *routev3.Route) *Route {
	c.perFilter(p, m.GetTypedPerFilterConfig())
	r := &Route{
		Name:            m.GetName(),
		Match:           c.routeMatch(p.field("match"), m.GetMatch()),
		RequestHeaders:  c.headerEdits(p, "request_headers", m.GetRequestHeadersToAdd(), m.GetRequestHeadersToRemove()),
		ResponseHeaders: c.headerEdits(p, "response_headers", m.GetResponseHeadersToAdd(), m.GetResponseHeadersToRemove()),
		Objects:         objectsOf(m.GetMetadata()),
	}
	switch a := m.GetAction().(type) {
	case *routev3.Route_Route:
		r.Forward = c.forward(p.field("route"), a.Route)
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
		out.RuntimeNumerator = f.GetDefaultValue().GetNumerator()
		out.RuntimeDenominator = c.denominator(p.field("runtime_fraction"), f.GetDefaultValue().GetDenominator())
	}
	return out
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

func (c *decoding) forward(p *path, m *routev3.RouteAction) *Forward {
	f := &Forward{
		Timeout:         c.duration(p.field("timeout"), m.GetTimeout(), defaultRouteTimeout),
		IdleTimeout:     c.duration(p.field("idle_timeout"), m.GetIdleTimeout(), 0),
		Retry:           c.retryPolicy(p.field("retry_policy"), m.GetRetryPolicy()),
		PrefixRewrite:   m.GetPrefixRewrite(),
		HostRewrite:     m.GetHostRewriteLiteral(),
		AutoHostRewrite: m.GetAutoHostRewrite().GetValue(),
	}
	c.rewrite(p, f.HostRewrite, f.PrefixRewrite)
	switch s := m.GetClusterSpecifier().(type) {
	case *routev3.RouteAction_Cluster:
		f.Clusters = []WeightedCluster{{Name: s.Cluster, Weight: 1}}
	case *routev3.RouteAction_WeightedClusters:
		f.Clusters = c.weightedClusters(p.field("weighted_clusters"), s.WeightedClusters)
	}
	c.checkWeights(p, f.Clusters)
	if rw := m.GetRegexRewrite(); rw != nil {
		at := p.field("regex_rewrite")
		pattern, err := match.Compile(rw.GetPattern().GetRegex())
		if err != nil {
			c.fail(at.field("pattern"), "%w", err)
		}
		f.RegexRewrite = &RegexRewrite{Pattern: pattern, Substitution: c.substitution(at.field("substitution"), rw.GetSubstitution(), numGroups(pattern))}
	}
	if d := c.duration(p.field("max_stream_duration"), m.GetMaxStreamDuration().GetMaxStreamDuration(), 0); d != 0 {
		c.fail(p.field("max_stream_duration"), "%v is not supported", d)
	}
	for _, u := range m.GetUpgradeConfigs() {
		f.Upgrades = append(f.Upgrades, Upgrade{Type: match.Lower(u.GetUpgradeType()), Enabled: isTrue(u.GetEnabled(), true)})
	}
	return f
}

// rewrite refuses what would break the request's head.
func (c *decoding) rewrite(p *path, values ...string) {
	for _, v := range values {
		if strings.ContainsAny(v, "\r\n\x00 ") {
			c.fail(p, "a rewrite has a space, a line break or a zero byte")
		}
	}
}

func (c *decoding) weightedClusters(p *path, m *routev3.WeightedCluster) []WeightedCluster {
	var out []WeightedCluster
	for i, w := range m.GetClusters() {
		at := p.at("clusters", i)
		c.perFilter(at, w.GetTypedPerFilterConfig())
		c.rewrite(at, w.GetHostRewriteLiteral())
		out = append(out, WeightedCluster{
			Name:            w.GetName(),
			Weight:          w.GetWeight().GetValue(),
			RequestHeaders:  c.headerEdits(at, "request_headers", w.GetRequestHeadersToAdd(), w.GetRequestHeadersToRemove()),
			ResponseHeaders: c.headerEdits(at, "response_headers", w.GetResponseHeadersToAdd(), w.GetResponseHeadersToRemove()),
			HostRewrite:     w.GetHostRewriteLiteral(),
		})
	}
	return out
}

// substitution converts RE2's rewrite syntax (\0 to \9, \\) to Go's templates.
func (c *decoding) substitution(p *path, s string, groups int) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '$':
			b.WriteString("$$")
		case s[i] != '\\':
			b.WriteByte(s[i])
		case i+1 < len(s) && s[i+1] == '\\':
			b.WriteByte('\\')
			i++
		case i+1 < len(s) && '0' <= s[i+1] && s[i+1] <= '9':
			if int(s[i+1]-'0') > groups {
				c.fail(p, "%q refers to a group that the pattern does not have", clip(s))
			}
			b.WriteString("${" + s[i+1:i+2] + "}")
			i++
		default:
			c.fail(p, "%q has a backslash that is neither \\\\ nor a group", clip(s))
		}
	}
	return b.String()
}

const typePreviousHosts = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"

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
	return r
}

func (c *decoding) redirect(p *path, m *routev3.RedirectAction) *Redirect {
	r := &Redirect{
		Scheme: m.GetSchemeRedirect(), Host: m.GetHostRedirect(), HTTPSRedirect: m.GetHttpsRedirect(), Port: m.GetPortRedirect(),
		Path: m.GetPathRedirect(), PrefixRewrite: m.GetPrefixRewrite(), StripQuery: m.GetStripQuery(),
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

func numGroups(re *regexp.Regexp) int {
	if re == nil {
		return 0
	}
	return re.NumSubexp()
}
