package resource

//lint:file-ignore SA1019 Deprecated fields are read because control planes still send them.

import (
	"net/http"
	"regexp"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/egret-mesh/egret/internal/data/match"
)

func (c *decoding) forward(p *path, m *routev3.RouteAction) *Forward {
	f := &Forward{
		Timeout:         c.duration(p.field("timeout"), m.GetTimeout(), defaultRouteTimeout),
		IdleTimeout:     c.duration(p.field("idle_timeout"), m.GetIdleTimeout(), 0),
		Retry:           c.retryPolicy(p.field("retry_policy"), m.GetRetryPolicy()),
		PrefixRewrite:   m.GetPrefixRewrite(),
		HostRewrite:     m.GetHostRewriteLiteral(),
		AutoHostRewrite: m.GetAutoHostRewrite().GetValue(),
		RegexRewrite:    c.regexRewrite(p.field("regex_rewrite"), m.GetRegexRewrite()),
		NotFoundStatus:  c.notFoundStatus(p, m.GetClusterNotFoundResponseCode()),
		HashPolicies:    c.hashPolicies(p, m.GetHashPolicy()),
		Mirrors:         c.mirrors(p, m.GetRequestMirrorPolicies()),

		AppendForwardedHost: m.GetAppendXForwardedHost(),
	}
	c.streamTimeouts(p, f, m)
	labels := c.metadataMatch(p.field("metadata_match"), m.GetMetadataMatch())
	f.Subset = labels.Match()
	if m.GetPriority() == corev3.RoutingPriority_HIGH {
		f.Priority = PriorityHigh
	}
	c.rewrite(p, f.HostRewrite, f.PrefixRewrite)
	switch s := m.GetClusterSpecifier().(type) {
	case *routev3.RouteAction_Cluster:
		f.Clusters = []WeightedCluster{{Name: s.Cluster, Weight: 1}}
	case *routev3.RouteAction_WeightedClusters:
		f.Clusters = c.weightedClusters(p.field("weighted_clusters"), s.WeightedClusters, labels)
	}
	c.checkWeights(p, f.Clusters)
	for _, u := range m.GetUpgradeConfigs() {
		f.Upgrades = append(f.Upgrades, Upgrade{Type: match.Lower(u.GetUpgradeType()), Enabled: isTrue(u.GetEnabled(), true)})
	}
	return f
}

// streamTimeouts decodes max_grpc_timeout, which istiod 1.26 sets on every route, and
// max_stream_duration, which has taken its place in Envoy.
func (c *decoding) streamTimeouts(p *path, f *Forward, m *routev3.RouteAction) {
	f.GRPC = c.grpcTimeout(p, "max_grpc_timeout", m.GetMaxGrpcTimeout(), "grpc_timeout_offset", m.GetGrpcTimeoutOffset())
	s := m.GetMaxStreamDuration()
	if s == nil {
		return
	}
	p = p.field("max_stream_duration")
	f.Stream.Max = c.duration(p.field("max_stream_duration"), s.GetMaxStreamDuration(), 0)
	f.Stream.GRPC = c.grpcTimeout(p, "grpc_timeout_header_max", s.GetGrpcTimeoutHeaderMax(), "grpc_timeout_header_offset", s.GetGrpcTimeoutHeaderOffset())
	// With this message Envoy does not look at the older fields, so there is no default of
	// 15 s. A timeout that is written nevertheless is kept, which is stricter.
	f.GRPC, f.Timeout = nil, c.duration(p, m.GetTimeout(), 0)
}

func (c *decoding) grpcTimeout(p *path, name string, most *durationpb.Duration, offsetName string, offset *durationpb.Duration) *GRPCTimeout {
	if most == nil {
		return nil
	}
	return &GRPCTimeout{Max: c.duration(p.field(name), most, 0), Offset: c.duration(p.field(offsetName), offset, 0)}
}

func (c *decoding) notFoundStatus(p *path, code routev3.RouteAction_ClusterNotFoundResponseCode) int {
	switch code {
	case routev3.RouteAction_SERVICE_UNAVAILABLE:
		return 0
	case routev3.RouteAction_NOT_FOUND:
		return http.StatusNotFound
	case routev3.RouteAction_INTERNAL_SERVER_ERROR:
		return http.StatusInternalServerError
	}
	c.fail(p.field("cluster_not_found_response_code"), "%d is not supported", code)
	return 0
}

func (c *decoding) regexRewrite(p *path, m *matcherv3.RegexMatchAndSubstitute) *RegexRewrite {
	if m == nil {
		return nil
	}
	pattern, err := match.Compile(m.GetPattern().GetRegex())
	if err != nil {
		c.fail(p.field("pattern"), "%w", err)
	}
	return &RegexRewrite{Pattern: pattern, Substitution: c.substitution(p.field("substitution"), m.GetSubstitution(), numGroups(pattern))}
}

func (c *decoding) mirrors(p *path, list []*routev3.RouteAction_RequestMirrorPolicy) []Mirror {
	var out []Mirror
	for i, m := range list {
		at := p.at("request_mirror_policies", i)
		if m.GetCluster() == "" {
			c.fail(at.field("cluster"), "no name")
		}
		mirror := Mirror{Cluster: m.GetCluster(), KeepHost: m.GetDisableShadowHostSuffixAppend()}
		if f := m.GetRuntimeFraction(); f != nil {
			mirror.Share = c.fraction(at.field("runtime_fraction"), f.GetDefaultValue())
		}
		out = append(out, mirror)
	}
	return out
}

func (c *decoding) hashPolicies(p *path, list []*routev3.RouteAction_HashPolicy) []HashPolicy {
	var out []HashPolicy
	for i, m := range list {
		at := p.at("hash_policy", i)
		h := HashPolicy{Terminal: m.GetTerminal()}
		switch s := m.GetPolicySpecifier().(type) {
		case *routev3.RouteAction_HashPolicy_Header_:
			h.Kind, h.Name = HashHeader, match.Lower(s.Header.GetHeaderName())
			h.Rewrite = c.regexRewrite(at.field("header").field("regex_rewrite"), s.Header.GetRegexRewrite())
		case *routev3.RouteAction_HashPolicy_Cookie_:
			h.Kind, h.Name = HashCookie, s.Cookie.GetName()
			h.Cookie = c.newCookie(at.field("cookie"), s.Cookie)
		case *routev3.RouteAction_HashPolicy_QueryParameter_:
			h.Kind, h.Name = HashQuery, s.QueryParameter.GetName()
		case *routev3.RouteAction_HashPolicy_ConnectionProperties_:
			if !s.ConnectionProperties.GetSourceIp() {
				continue // hashes nothing
			}
			h.Kind, h.Name = HashSourceIP, "source_ip"
		default:
			c.fail(at, "this kind of hash policy is not supported")
		}
		if h.Name == "" {
			c.fail(at, "no name")
		}
		out = append(out, h)
	}
	return out
}

// newCookie is nil where the cookie is not to be made. Its parts must not break out of
// set-cookie (RFC 6265 section 4.1.1).
func (c *decoding) newCookie(p *path, m *routev3.RouteAction_HashPolicy_Cookie) *NewCookie {
	unsafe := func(s string) bool {
		return strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == ';' || r == ',' || r >= 0x7f })
	}
	if !isToken(match.Lower(m.GetName())) || unsafe(m.GetPath()) {
		c.fail(p, "%q with path %q is not a cookie", clip(m.GetName()), clip(m.GetPath()))
	}
	if m.GetTtl() == nil {
		return nil
	}
	cookie := &NewCookie{TTL: c.duration(p.field("ttl"), m.GetTtl(), 0), Path: m.GetPath()}
	var b strings.Builder
	for i, a := range m.GetAttributes() {
		if !isToken(match.Lower(a.GetName())) || unsafe(a.GetValue()) {
			c.fail(p.at("attributes", i), "%q is not an attribute of a cookie", clip(a.GetName()))
		}
		b.WriteString("; " + a.GetName())
		if a.GetValue() != "" {
			b.WriteString("=" + a.GetValue())
		}
	}
	cookie.Attributes = b.String()
	return cookie
}

// rewrite refuses what would break the request's head.
func (c *decoding) rewrite(p *path, values ...string) {
	for _, v := range values {
		if strings.ContainsAny(v, "\r\n\x00 ") {
			c.fail(p, "a rewrite has a space, a line break or a zero byte")
		}
	}
}

func (c *decoding) weightedClusters(p *path, m *routev3.WeightedCluster, labels Labels) []WeightedCluster {
	var out []WeightedCluster
	for i, w := range m.GetClusters() {
		at := p.at("clusters", i)
		c.noFilterConfig(at, w.GetTypedPerFilterConfig())
		c.rewrite(at, w.GetHostRewriteLiteral())
		out = append(out, WeightedCluster{
			Name:            w.GetName(),
			Weight:          w.GetWeight().GetValue(),
			RequestHeaders:  c.headerEdits(at, "request_headers", w.GetRequestHeadersToAdd(), w.GetRequestHeadersToRemove()),
			ResponseHeaders: c.headerEdits(at, "response_headers", w.GetResponseHeadersToAdd(), w.GetResponseHeadersToRemove()),
			HostRewrite:     w.GetHostRewriteLiteral(),
			Subset:          labels.Merge(c.metadataMatch(at.field("metadata_match"), w.GetMetadataMatch())).Match(),
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

func numGroups(re *regexp.Regexp) int {
	if re == nil {
		return 0
	}
	return re.NumSubexp()
}
