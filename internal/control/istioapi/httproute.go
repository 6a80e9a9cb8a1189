package istioapi

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/egret-mesh/egret/internal/format"
)

// httpRoute checks one rule but for the gateways of its matches.
func (c *checker) httpRoute(r *networking.HTTPRoute, at string) {
	c.refused(r.Delegate != nil, at+".delegate", "write the routes of the delegate here")
	c.httpActions(r, at)
	for i, m := range r.Match {
		c.httpMatch(m, index(at+".match", i))
	}
	c.redirect(r.Redirect, at+".redirect")
	c.directResponse(r.DirectResponse, at+".directResponse")
	c.rewrite(r.Rewrite, at+".rewrite")
	c.retries(r.Retries, at+".retries")
	c.duration(at+".timeout", r.Timeout)
	c.headers(r.Headers, at+".headers")
	c.authoritySetOnce(r, at)
	weights := make([]int32, len(r.Route))
	for i, d := range r.Route {
		routeAt := index(at+".route", i)
		c.destination(d.Destination, routeAt+".destination")
		c.headers(d.Headers, routeAt+".headers")
		weights[i] = d.Weight
	}
	c.weights(weights, at+".route")

	c.fault(r.Fault, at+".fault")
	c.mirrors(r, at)
	c.corsPolicy(r.CorsPolicy, at+".corsPolicy")
}

// httpActions wants exactly one of route, redirect and directResponse.
func (c *checker) httpActions(r *networking.HTTPRoute, at string) {
	var actions []string
	if len(r.Route) > 0 {
		actions = append(actions, "route")
	}
	if r.Redirect != nil {
		actions = append(actions, "redirect")
	}
	if r.DirectResponse != nil {
		actions = append(actions, "directResponse")
	}
	switch {
	case len(actions) == 0 && r.Delegate == nil:
		c.fail(CodeMissing, at, "has no action: one of route, redirect and directResponse is required")
	case len(actions) > 1:
		c.fail(CodeConflict, at, "has %s: only one of them is possible", strings.Join(actions, " and "))
	case len(actions) == 1 && actions[0] != "route" && r.Rewrite != nil:
		c.fail(CodeConflict, at+".rewrite", "cannot be set together with %s", actions[0])
	case len(actions) == 1 && actions[0] != "route" && r.Fault != nil:
		c.fail(CodeConflict, at+".fault", "cannot be set together with %s", actions[0])
	}
}

func (c *checker) httpMatch(m *networking.HTTPMatchRequest, at string) {
	c.stringMatch(m.Uri, at+".uri", false)
	c.stringMatch(m.Scheme, at+".scheme", false)
	c.stringMatch(m.Method, at+".method", false)
	c.stringMatch(m.Authority, at+".authority", false)
	c.headerMatches(m.Headers, at+".headers")
	c.headerMatches(m.WithoutHeaders, at+".withoutHeaders")
	for _, name := range sortedKeys(m.QueryParams) {
		c.stringMatch(m.QueryParams[name], join(at+".queryParams", name), true)
	}
	c.matchSource(at, m.Port, m.SourceLabels, m.SourceNamespace)
}

func (c *checker) headerMatches(matches map[string]*networking.StringMatch, at string) {
	for _, name := range sortedKeys(matches) {
		headerAt := join(at, name)
		switch {
		case strings.HasPrefix(name, "@request.auth."):
			c.refused(true, headerAt, "no token is checked, so there are no claims to match")
		case !isHeaderName(name):
			c.fail(CodeInvalid, headerAt, "%q is not a header name (letters, digits, \"-\" and \"_\")%s", name, pseudoHint(name))
		}
		c.stringMatch(matches[name], headerAt, true)
	}
}

func pseudoHint(name string) string {
	for _, field := range []string{"method", "authority", "scheme"} {
		if name == ":"+field {
			return "; use the match field " + strconv.Quote(field)
		}
	}
	if name == ":path" {
		return `; use the match field "uri"`
	}
	return ""
}

// stringMatch checks a match; empty means "is there", where that is possible.
func (c *checker) stringMatch(m *networking.StringMatch, at string, emptyAllowed bool) {
	if m == nil {
		return
	}
	switch t := m.MatchType.(type) {
	case nil:
		if !emptyAllowed {
			c.fail(CodeMissing, at, "is empty: one of exact, prefix and regex is required")
		}
	case *networking.StringMatch_Prefix:
		if t.Prefix == "" {
			c.fail(CodeInvalid, at+".prefix", "must not be empty")
		}
	case *networking.StringMatch_Regex:
		c.regex(at+".regex", t.Regex)
	}
}

func isHeaderName(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c != '-' && c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

func isAuthority(name string) bool {
	return strings.EqualFold(name, ":authority") || strings.EqualFold(name, "host")
}

func (c *checker) headers(h *networking.Headers, at string) {
	c.headerOperations(h.GetRequest(), at+".request", true)
	c.headerOperations(h.GetResponse(), at+".response", false)
}

func (c *checker) headerOperations(o *networking.Headers_HeaderOperations, at string, request bool) {
	for _, list := range []struct {
		path   string
		values map[string]string
	}{{at + ".set", o.GetSet()}, {at + ".add", o.GetAdd()}} {
		for _, name := range sortedKeys(list.values) {
			headerAt := join(list.path, name)
			c.headerName(headerAt, name, request)
			if strings.ContainsFunc(list.values[name], func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
				c.fail(CodeInvalid, headerAt, "the value has a control character")
			}
			c.headerValue(headerAt, list.values[name], request && isAuthority(name))
		}
	}
	for i, name := range o.GetRemove() {
		c.headerName(index(at+".remove", i), name, false)
	}
}

// headerValue checks Envoy's command operators in a value: with one that is none the
// proxy refuses all routes of the port.
func (c *checker) headerValue(at, value string, authority bool) {
	if authority || !strings.Contains(value, "%") {
		return
	}
	if _, err := format.Parse(value); err != nil {
		c.fail(CodeInvalid, at, "%v; a percent sign that is only one is written %%%%", err)
	}
}

func (c *checker) headerName(at, name string, authority bool) {
	switch {
	case authority && isAuthority(name):
	case isAuthority(name):
		c.fail(CodeInvalid, at, "%q cannot be changed here", name)
	case !isHeaderName(name):
		c.fail(CodeInvalid, at, "%q is not a header name (letters, digits, \"-\" and \"_\")", name)
	case slices.Contains(framingHeaders, strings.ToLower(name)):
		c.fail(CodeInvalid, at, "%q says where a message ends or what becomes of its connection: the proxy writes it itself", name)
	}
}

// framingHeaders cannot be edited: RFC 9112 section 6, RFC 9110 section 7.6.1.
var framingHeaders = []string{
	"content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "keep-alive", "proxy-connection",
}

// headText checks what becomes part of a message's head: no spaces and line breaks.
func (c *checker) headText(at, value string) {
	if strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		c.fail(CodeInvalid, at, "%q has a space or a control character; write them percent-encoded", value)
	}
}

// authoritySetOnce refuses two places that set the request's host.
func (c *checker) authoritySetOnce(r *networking.HTTPRoute, at string) {
	var places []string
	if r.Rewrite.GetAuthority() != "" {
		places = append(places, at+".rewrite.authority")
	}
	request := r.Headers.GetRequest()
	for _, name := range sortedKeys(request.GetSet()) {
		if isAuthority(name) {
			places = append(places, join(at+".headers.request.set", name))
		}
	}
	for _, name := range sortedKeys(request.GetAdd()) {
		if isAuthority(name) {
			places = append(places, join(at+".headers.request.add", name))
		}
	}
	if len(places) > 1 {
		c.fail(CodeConflict, places[1], "the request's host is already set by %s", places[0])
	}
}

func (c *checker) redirect(r *networking.HTTPRedirect, at string) {
	if r == nil {
		return
	}
	if r.Uri == "" && r.PrefixRewrite == "" && r.Authority == "" && r.RedirectPort == nil && r.Scheme == "" {
		c.fail(CodeMissing, at, "is empty: one of uri, prefixRewrite, authority, scheme, port and derivePort is required")
	}
	if r.Uri != "" && r.PrefixRewrite != "" {
		c.fail(CodeConflict, at+".prefixRewrite", "cannot be set together with uri")
	}
	if code := r.RedirectCode; code != 0 && !slices.Contains([]uint32{301, 302, 303, 307, 308}, code) {
		c.fail(CodeInvalid, at+".redirectCode", "%d is not one of 301, 302, 303, 307, 308", code)
	}
	if r.Scheme != "" && r.Scheme != "http" && r.Scheme != "https" {
		c.fail(CodeInvalid, at+".scheme", `%q is not "http" or "https"`, r.Scheme)
	}
	c.headText(at+".uri", r.Uri)
	c.headText(at+".prefixRewrite", r.PrefixRewrite)
	c.headText(at+".authority", r.Authority)
	if p, ok := r.RedirectPort.(*networking.HTTPRedirect_Port); ok {
		c.port(at+".port", p.Port)
	}
}

// maxDirectBody is Istio's limit, in bytes.
const maxDirectBody = 1 << 20

func (c *checker) directResponse(r *networking.HTTPDirectResponse, at string) {
	if r == nil {
		return
	}
	if r.Status < 200 || r.Status > 599 {
		c.fail(CodeInvalid, at+".status", "%d is not a status from 200 to 599", r.Status)
	}
	if n := len(r.Body.GetString_()) + len(r.Body.GetBytes()); n > maxDirectBody {
		c.fail(CodeTooLarge, at+".body", "has %d bytes; at most %d are possible", n, maxDirectBody)
	}
}

func (c *checker) rewrite(r *networking.HTTPRewrite, at string) {
	if r == nil {
		return
	}
	if r.Uri == "" && r.UriRegexRewrite == nil && r.Authority == "" {
		c.fail(CodeMissing, at, "is empty: one of uri, uriRegexRewrite and authority is required")
	}
	c.headText(at+".uri", r.Uri)
	c.headText(at+".authority", r.Authority)
	if x := r.UriRegexRewrite; x != nil {
		if r.Uri != "" {
			c.fail(CodeConflict, at+".uriRegexRewrite", "cannot be set together with uri")
		}
		c.regex(at+".uriRegexRewrite.match", x.Match)
		if x.Rewrite == "" {
			c.fail(CodeMissing, at+".uriRegexRewrite.rewrite", "is required")
		}
		c.headText(at+".uriRegexRewrite.rewrite", x.Rewrite)
		c.substitution(at+".uriRegexRewrite.rewrite", x)
	}
}

// substitution checks RE2's rewrite syntax: \0 to \9 for the groups, \\ for a backslash.
func (c *checker) substitution(at string, x *networking.RegexRewrite) {
	re, err := regexp.Compile(x.Match)
	if err != nil {
		return // told already
	}
	for rest := x.Rewrite; ; {
		_, after, found := strings.Cut(rest, `\`)
		switch {
		case !found:
			return
		case after == "" || after[0] != '\\' && (after[0] < '0' || after[0] > '9'):
			c.fail(CodeInvalid, at, `%q has a backslash that is neither \\ nor followed by the number of a group`, x.Rewrite)
			return
		case after[0] != '\\' && int(after[0]-'0') > re.NumSubexp():
			c.fail(CodeInvalid, at, `\%c refers to a group that %q does not have (it has %d)`, after[0], x.Match, re.NumSubexp())
			return
		}
		rest = after[1:]
	}
}
