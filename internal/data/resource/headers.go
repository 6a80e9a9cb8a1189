package resource

//lint:file-ignore SA1019 Deprecated fields are read because control planes still send them.

import (
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/egret-mesh/egret/internal/data/match"
	"github.com/egret-mesh/egret/internal/format"
)

// headerEdits decodes a pair of add and remove lists. Pseudo headers, host and the
// headers that frame a message cannot be edited: that would change where the
// request goes, or what the next hop takes for its end.
func (c *decoding) headerEdits(p *path, field string, add []*corev3.HeaderValueOption, remove []string) HeaderEdits {
	var out HeaderEdits
	for i, o := range add {
		at := p.at(field+"_to_add", i)
		name := match.Lower(o.GetHeader().GetKey())
		value := o.GetHeader().GetValue()
		if raw := o.GetHeader().GetRawValue(); len(raw) > 0 {
			value = string(raw)
		}
		c.editable(at, name)
		if strings.ContainsAny(value, "\r\n\x00") {
			c.fail(at, "the value of %q has a line break or a zero byte", clip(name))
		}
		if _, err := format.Parse(value); err != nil && strings.Contains(value, "%") {
			c.fail(at, "the value of %q: %w", clip(name), err)
		}
		out.Add = append(out.Add, HeaderAdd{Name: name, Value: value, Action: c.headerAction(at, o), Dynamic: strings.Contains(value, "%"), KeepEmpty: o.GetKeepEmptyValue()})
	}
	for i, name := range remove {
		name = match.Lower(name)
		c.editable(p.at(field+"_to_remove", i), name)
		out.Remove = append(out.Remove, name)
	}
	return out
}

func (c *decoding) headerAction(p *path, o *corev3.HeaderValueOption) HeaderAction {
	if appendTo := o.GetAppend(); appendTo != nil {
		if appendTo.GetValue() {
			return AppendIfExistsOrAdd
		}
		return OverwriteIfExistsOrAdd
	}
	switch o.GetAppendAction() {
	case corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD:
		return AppendIfExistsOrAdd
	case corev3.HeaderValueOption_ADD_IF_ABSENT:
		return AddIfAbsent
	case corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD:
		return OverwriteIfExistsOrAdd
	case corev3.HeaderValueOption_OVERWRITE_IF_EXISTS:
		return OverwriteIfExists
	}
	c.fail(p.field("append_action"), "%d is not supported", o.GetAppendAction())
	return 0
}

// editable: RFC 9110 5.1 token, and not one that routing or framing depends on.
func (c *decoding) editable(p *path, name string) {
	switch name {
	case "host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "keep-alive", "proxy-connection":
		c.fail(p, "header %q may not be edited", name)
		return
	}
	if !isToken(name) {
		c.fail(p, "%q is not a header name that may be edited", clip(name))
	}
}

func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		ch := s[i]
		switch {
		case 'a' <= ch && ch <= 'z', '0' <= ch && ch <= '9', strings.IndexByte("!#$%&'*+-.^_`|~", ch) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// headerMatcher decodes a HeaderMatcher; with no specifier it matches presence.
func (c *decoding) headerMatcher(p *path, m *routev3.HeaderMatcher) match.Header {
	h := match.Header{Name: match.Lower(m.GetName()), Invert: m.GetInvertMatch(), TreatMissingAsEmpty: m.GetTreatMissingHeaderAsEmpty()}
	if h.Name == "" {
		c.fail(p.field("name"), "no name")
	}
	switch s := m.GetHeaderMatchSpecifier().(type) {
	case nil:
		h.Value = match.String{Kind: match.Present}
	case *routev3.HeaderMatcher_ExactMatch:
		h.Value = match.String{Value: s.ExactMatch}
	case *routev3.HeaderMatcher_SafeRegexMatch:
		h.Value = c.regex(p.field("safe_regex_match"), s.SafeRegexMatch)
	case *routev3.HeaderMatcher_RangeMatch:
		h.Range = &match.Range{Start: s.RangeMatch.GetStart(), End: s.RangeMatch.GetEnd()}
	case *routev3.HeaderMatcher_PresentMatch:
		// "Not present" is the inverse of present, for missing headers too.
		h.Value = match.String{Kind: match.Present}
		h.Invert = h.Invert == s.PresentMatch
	case *routev3.HeaderMatcher_PrefixMatch:
		h.Value = match.String{Kind: match.Prefix, Value: s.PrefixMatch}
	case *routev3.HeaderMatcher_SuffixMatch:
		h.Value = match.String{Kind: match.Suffix, Value: s.SuffixMatch}
	case *routev3.HeaderMatcher_ContainsMatch:
		h.Value = match.String{Kind: match.Contains, Value: s.ContainsMatch}
	case *routev3.HeaderMatcher_StringMatch:
		h.Value = c.stringMatcher(p.field("string_match"), s.StringMatch)
	default:
		c.fail(p, "this kind of header match is not supported")
	}
	return h
}

func (c *decoding) queryMatcher(p *path, m *routev3.QueryParameterMatcher) match.Query {
	q := match.Query{Name: m.GetName(), Value: match.String{Kind: match.Present}}
	if q.Name == "" {
		c.fail(p.field("name"), "no name")
	}
	switch s := m.GetQueryParameterMatchSpecifier().(type) {
	case nil:
	case *routev3.QueryParameterMatcher_StringMatch:
		q.Value = c.stringMatcher(p.field("string_match"), s.StringMatch)
	case *routev3.QueryParameterMatcher_PresentMatch:
		if !s.PresentMatch {
			c.fail(p.field("present_match"), "false is not supported")
		}
	default:
		c.fail(p, "this kind of query parameter match is not supported")
	}
	return q
}

func (c *decoding) stringMatcher(p *path, m *matcherv3.StringMatcher) match.String {
	out := match.String{IgnoreCase: m.GetIgnoreCase()}
	switch s := m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		out.Kind, out.Value = match.Exact, s.Exact
	case *matcherv3.StringMatcher_Prefix:
		out.Kind, out.Value = match.Prefix, s.Prefix
	case *matcherv3.StringMatcher_Suffix:
		out.Kind, out.Value = match.Suffix, s.Suffix
	case *matcherv3.StringMatcher_Contains:
		out.Kind, out.Value = match.Contains, s.Contains
	case *matcherv3.StringMatcher_SafeRegex:
		return c.regex(p.field("safe_regex"), s.SafeRegex)
	default:
		c.fail(p, "this kind of string match is not supported")
	}
	return out
}

func (c *decoding) regex(p *path, m *matcherv3.RegexMatcher) match.String {
	re, err := match.CompileWhole(m.GetRegex())
	if err != nil {
		c.fail(p, "%w", err)
	}
	return match.String{Kind: match.Regex, Value: m.GetRegex(), Regex: re}
}
