// Package match has the matchers that Envoy configuration is made of: strings,
// headers, query parameters, prefixes of addresses, host names with wildcards.
//
// It is pure, and must not import any other package of this module.
package match

import "regexp"

// StringKind says how a String compares.
type StringKind uint8

// String kinds.
const (
	Exact StringKind = iota
	Prefix
	Suffix
	Contains
	Regex // whole string, RE2
	Present
)

// String is envoy.type.matcher.v3.StringMatcher. Compare with its Match method.
type String struct {
	Kind       StringKind
	Value      string
	IgnoreCase bool
	Regex      *regexp.Regexp
}

// Header is envoy.config.route.v3.HeaderMatcher. A header that is there more
// than once is compared as its values joined by ",".
type Header struct {
	Name   string // lower case; pseudo headers ":method", ":authority", ":path", ":scheme"
	Value  String
	Range  *Range // range_match
	Invert bool
	// TreatMissingAsEmpty as in Envoy.
	TreatMissingAsEmpty bool
}

// Range is half open: Start <= n < End.
type Range struct{ Start, End int64 }

// Query is envoy.config.route.v3.QueryParameterMatcher.
type Query struct {
	Name  string
	Value String
}
