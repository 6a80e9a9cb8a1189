package match

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
)

// Bounds on regular expressions that come from configuration. Matching is linear
// in the input (RE2), so these bound the factor.
const (
	maxPattern      = 4096  // bytes
	maxInstructions = 20000 // of the compiled program
)

// CompileWhole compiles an RE2 pattern that has to match the whole input, as
// envoy.type.matcher.v3.RegexMatcher does.
func CompileWhole(pattern string) (*regexp.Regexp, error) {
	if _, err := Compile(pattern); err != nil {
		return nil, err
	}
	return regexp.Compile(`\A(?:` + pattern + `)\z`)
}

// Compile compiles an RE2 pattern that may match anywhere. A pattern that is too
// long or too large when compiled is an error.
func Compile(pattern string) (*regexp.Regexp, error) {
	if len(pattern) > maxPattern {
		return nil, fmt.Errorf("regular expression of %d bytes is over the limit of %d", len(pattern), maxPattern)
	}
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, err
	}
	prog, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, err
	}
	if len(prog.Inst) > maxInstructions {
		return nil, fmt.Errorf("regular expression %q compiles to %d instructions, over the limit of %d", pattern, len(prog.Inst), maxInstructions)
	}
	return regexp.Compile(pattern)
}

// Match reports whether v matches. It does not allocate.
func (s *String) Match(v string) bool {
	switch s.Kind {
	case Exact:
		if s.IgnoreCase {
			return EqualFold(v, s.Value)
		}
		return v == s.Value
	case Prefix:
		return len(v) >= len(s.Value) && s.equal(v[:len(s.Value)])
	case Suffix:
		return len(v) >= len(s.Value) && s.equal(v[len(v)-len(s.Value):])
	case Contains:
		return s.contains(v)
	case Regex:
		return s.Regex != nil && s.Regex.MatchString(v)
	case Present:
		return true
	}
	return false
}

func (s *String) equal(v string) bool {
	if s.IgnoreCase {
		return EqualFold(v, s.Value)
	}
	return v == s.Value
}

func (s *String) contains(v string) bool {
	if !s.IgnoreCase {
		return strings.Contains(v, s.Value)
	}
	for i := 0; i+len(s.Value) <= len(v); i++ {
		if EqualFold(v[i:i+len(s.Value)], s.Value) {
			return true
		}
	}
	return false
}

// Match reports whether a header with this value matches; present is whether the
// request has the header at all. As in Envoy a header that is missing matches only
// "present" matchers (and those inverted), unless TreatMissingAsEmpty; Invert does
// not turn a missing header into a match.
func (h *Header) Match(value string, present bool) bool {
	if !present && !h.TreatMissingAsEmpty {
		return h.Range == nil && h.Value.Kind == Present && h.Invert
	}
	if !present {
		value = ""
	}
	var m bool
	if h.Range != nil {
		n, ok := parseInt(value)
		m = ok && n >= h.Range.Start && n < h.Range.End
	} else {
		m = h.Value.Match(value)
	}
	return m != h.Invert
}

// parseInt is a decimal int64 without allocating an error on the way.
func parseInt(v string) (int64, bool) {
	digits := strings.TrimPrefix(v, "-")
	if digits == "" || len(digits) > 19 {
		return 0, false
	}
	for i := 0; i < len(digits); i++ {
		if digits[i] < '0' || digits[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(v, 10, 64)
	return n, err == nil
}

// Match looks into the query of a request target ("/path?a=b&c"). As in Envoy the
// first parameter of the name counts, values are compared as they are written
// (percent escapes stay), and a parameter without "=" has the empty value.
func (q *Query) Match(target string) bool {
	_, query, ok := strings.Cut(target, "?")
	for ok {
		var pair string
		pair, query, ok = strings.Cut(query, "&")
		name, value, _ := strings.Cut(pair, "=")
		if name == q.Name {
			return q.Value.Match(value)
		}
	}
	return false
}

// EqualFold compares ASCII letters without case, all other bytes as they are:
// header values, host names.
func EqualFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := 0; i < len(a); i++ {
		if a[i] != b[i] && lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// Lower returns s with ASCII letters in lower case; s itself when there is nothing
// to change (then without allocation).
func Lower(s string) string {
	for i := 0; i < len(s); i++ {
		if 'A' <= s[i] && s[i] <= 'Z' {
			return lowered(s)
		}
	}
	return s
}

func lowered(s string) string {
	b := []byte(s)
	for i := range b {
		b[i] = lower(b[i])
	}
	return string(b)
}

// IsGRPC reports whether a content type is gRPC's: "application/grpc", alone or followed
// by "+" (Envoy's Grpc::Common::hasGrpcContentType). gRPC-Web is not.
func IsGRPC(contentType string) bool {
	rest, ok := strings.CutPrefix(contentType, "application/grpc")
	return ok && (rest == "" || rest[0] == '+')
}
